//! Bodies on their way through: counted, bounded, and at the end of the answer the connection goes back to its pool.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use portcullis_policy::Reason;
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::{Error, WasiBody};

use super::exchange::Exchange;
use super::failure::{Code, Failure};
use super::headers;
use super::ongoing::Ongoing;

/// Bytes of a request's body, and of an answer's.
pub(crate) const BODY_BYTES: u64 = 8 << 20;

/// What the two bodies and the exchange tell each other.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    /// Whether the guest ended the request's body as it should.
    sent: AtomicBool,
    /// The first thing that went wrong on our side; hyper's own error is then only its echo.
    failed: OnceLock<Failure>,
}

impl Flow {
    pub(crate) fn is_sent(&self) -> bool {
        self.sent.load(Ordering::Acquire)
    }

    pub(crate) fn fail(&self, failure: Failure) {
        self.failed.get_or_init(|| failure);
    }

    pub(crate) fn failed(&self) -> Option<Failure> {
        self.failed.get().copied()
    }
}

/// What the guest sends.
pub(crate) struct RequestBody {
    inner: Option<WasiBody>,
    left: u64,
    flow: Arc<Flow>,
    /// Whether the rule restricts methods or paths: what a header must not say then, a trailer must not either.
    restricted: bool,
}

impl RequestBody {
    pub(crate) fn new(inner: Option<WasiBody>, flow: Arc<Flow>, restricted: bool) -> Self {
        if inner.is_none() {
            flow.sent.store(true, Ordering::Release);
        }
        Self { inner, left: BODY_BYTES, flow, restricted }
    }

    /// What the guest gave, of a body that nothing was taken from.
    pub(crate) fn into_inner(self) -> Option<WasiBody> {
        self.inner
    }

    fn failed(&self, failure: Failure) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.flow.fail(failure);
        Poll::Ready(Some(Err(failure.code.error())))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(None);
        };
        match ready!(Pin::new(inner).poll_frame(cx)) {
            None => {
                self.inner = None;
                self.flow.sent.store(true, Ordering::Release);
                Poll::Ready(None)
            }
            Some(Ok(frame)) => {
                if self.restricted && frame.trailers_ref().is_some_and(headers::overrides) {
                    return self.failed(Failure::of(Reason::HttpForbiddenHeader));
                }
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                match self.left.checked_sub(u64::try_from(bytes).unwrap_or(u64::MAX)) {
                    Some(left) => {
                        self.left = left;
                        Poll::Ready(Some(Ok(frame)))
                    }
                    None => self.failed(Failure::of(Reason::QuotaBytesOut)),
                }
            }
            // The guest broke it off, or gave another length than it had said.
            Some(Err(_)) => self.failed(Failure::new(Reason::HttpFraming, Code::Protocol)),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// What the server sends.
pub(crate) struct ResponseBody {
    inner: Incoming,
    left: u64,
    between: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// Whether the timer runs for the frame that is waited for now.
    waiting: bool,
    /// None when it is over.
    exchange: Option<Arc<Ongoing>>,
    failed: bool,
    /// What came before the guest asked.
    first: Option<Result<Frame<Bytes>, Error>>,
}

impl ResponseBody {
    /// Takes what is there already. A small answer is then complete, and its connection free for the next request, without
    /// another turn between the guest's thread and this one.
    pub(crate) async fn begin(inner: Incoming, between: Duration, exchange: Exchange) -> Self {
        let exchange = Some(Ongoing::new(exchange));
        let (timer, waiting, failed, first) = (None, false, false, None);
        let mut body = Self { inner, left: BODY_BYTES, between, timer, waiting, exchange, failed, first };
        if body.inner.is_end_stream() {
            body.end();
            return body;
        }
        let mut frame = body.now().await;
        if frame.is_none() {
            // The connection's task hands out a frame only when one is asked for: it has its turn here.
            tokio::task::yield_now().await;
            frame = body.now().await;
        }
        if let Some(frame) = frame {
            body.first = body.took(frame);
        }
        body
    }

    /// The frame that is there; none where it would have to be waited for.
    async fn now(&mut self) -> Option<Option<Result<Frame<Bytes>, hyper::Error>>> {
        poll_fn(|cx| match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(Some(frame)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    /// Counts a frame and sees the end.
    fn took(&mut self, frame: Option<Result<Frame<Bytes>, hyper::Error>>) -> Option<Result<Frame<Bytes>, Error>> {
        match frame {
            None => {
                self.end();
                None
            }
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                let Some(left) = self.left.checked_sub(u64::try_from(bytes).unwrap_or(u64::MAX)) else {
                    return Some(Err(self.fail(Failure::of(Reason::QuotaBytesIn))));
                };
                self.left = left;
                if self.inner.is_end_stream() {
                    self.end();
                }
                // In memory of its own: the frame is a slice of the connection's buffer, and a guest that keeps a byte of it
                // unread would keep all of that.
                Some(Ok(frame.map_data(|data| Bytes::copy_from_slice(&data))))
            }
            Some(Err(error)) => Some(Err(self.fail(Failure::of_hyper(&error, true)))),
        }
    }

    fn end(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            exchange.complete();
        }
    }

    fn fail(&mut self, failure: Failure) -> Error {
        (self.failed, self.first) = (true, None);
        let failure = match self.exchange.take() {
            Some(exchange) => exchange.fail(failure),
            None => failure,
        };
        failure.code.error()
    }

    /// Whether the server has been silent for too long.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        let until = Instant::now() + self.between;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if !self.waiting {
            self.waiting = true;
            timer.as_mut().reset(until);
        }
        timer.as_mut().poll(cx).is_ready()
    }
}

impl Drop for ResponseBody {
    /// Here and not with the last handle: whether it is the guest that lets go is known on its own thread alone.
    fn drop(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            exchange.leave();
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        // Before what came already: an answer that was recorded as a failure is not given as if it were whole.
        if let Some(failure) = this.exchange.as_ref().and_then(|exchange| exchange.failure()) {
            return Poll::Ready(Some(Err(this.fail(failure))));
        }
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(first));
        }
        if this.failed {
            return Poll::Ready(None);
        }
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(frame) => {
                this.waiting = false;
                Poll::Ready(this.took(frame))
            }
            Poll::Pending if this.exchange.is_some() && this.is_late(cx) => {
                Poll::Ready(Some(Err(this.fail(Failure::of(Reason::TimeBetweenBytes)))))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && (self.failed || self.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        // What came already is not in hyper's number any more.
        if self.first.is_some() { SizeHint::default() } else { self.inner.size_hint() }
    }
}
