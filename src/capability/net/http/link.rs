//! One connection below HTTP: its bytes are counted and held to their rates, and it ends at its deadline whoever still
//! waits for it. The exchange on it ends then too.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::client::conn::http1::Connection;
use portcullis_policy::Reason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::io::TokioIo;

use super::body::RequestBody;
use super::ongoing::Ongoing;
use crate::gate::Gate;
use crate::quota::{Budgets, Exhausted, Slot, Throttle};

/// What the connection's own task and those who use it both look at.
pub(crate) struct Link {
    /// Tells it from every other connection of the process.
    pub(crate) id: u64,
    origin: Instant,
    /// Nanoseconds after `origin` at which the connection ends, in use or idle.
    ends_ns: AtomicU64,
    /// Whether the deadline has come. Written under the lock of `user`.
    expired: AtomicBool,
    bytes_out: AtomicU64,
    bytes_in: AtomicU64,
    user: Mutex<User>,
}

/// For whom a connection works.
#[derive(Default)]
struct User {
    /// The instance; none while it waits for its next request, which may be another's.
    gate: Option<Gate>,
    /// What must end with the connection, once its answer has begun.
    exchange: Weak<Ongoing>,
    /// The socket is closed.
    closed: bool,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("id", &self.id).field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

impl Link {
    pub(crate) fn new(ends: Instant) -> Arc<Self> {
        let link = Self {
            id: crate::evidence::next_connection(),
            origin: Instant::now(),
            ends_ns: AtomicU64::new(0),
            expired: AtomicBool::new(false),
            bytes_out: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            user: Mutex::default(),
        };
        link.end_at(ends);
        Arc::new(link)
    }

    /// The connection ends then. An earlier moment than before holds from the next time that its task runs, so set it before
    /// the task is given work.
    pub(crate) fn end_at(&self, ends: Instant) {
        let after = ends.saturating_duration_since(self.origin).as_nanos();
        self.ends_ns.store(u64::try_from(after).unwrap_or(u64::MAX), Ordering::Release);
    }

    fn ends(&self) -> Instant {
        self.origin + Duration::from_nanos(self.ends_ns.load(Ordering::Acquire))
    }

    pub(crate) fn has_expired(&self) -> bool {
        self.expired.load(Ordering::Acquire)
    }

    /// For whom it works from here on.
    pub(crate) fn serve(&self, user: Option<Gate>) {
        let mut now = self.user();
        (now.gate, now.exchange) = (user, Weak::new());
    }

    /// Ends the exchange with the connection, which may be over already.
    pub(crate) fn attach(&self, exchange: &Arc<Ongoing>) {
        let mut user = self.user();
        user.exchange = Arc::downgrade(exchange);
        let (closed, expired) = (user.closed, self.has_expired());
        drop(user);
        if expired {
            exchange.expire();
        } else if closed {
            exchange.closed();
        }
    }

    /// The socket is closed. Whether somebody has still to be told when the deadline comes.
    fn close(&self) -> bool {
        let mut user = self.user();
        user.closed = true;
        let (exchange, in_use) = (user.exchange.upgrade(), user.gate.is_some());
        drop(user);
        if let Some(exchange) = exchange {
            exchange.closed();
        }
        in_use
    }

    /// The deadline has come.
    fn expire(&self) {
        let user = self.user();
        self.expired.store(true, Ordering::Release);
        let exchange = user.exchange.upgrade();
        drop(user);
        if let Some(exchange) = exchange {
            exchange.expire();
        }
    }

    fn user(&self) -> MutexGuard<'_, User> {
        self.user.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A rate holds its bytes back.
    fn held_back(&self, reason: Reason, met: Exhausted) {
        let gate = self.user().gate.clone();
        if let Some(gate) = gate {
            gate.exceeded(reason, met);
        }
    }

    /// Bytes out and in since the connection was made.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.bytes_out.load(Ordering::Relaxed), self.bytes_in.load(Ordering::Relaxed))
    }
}

/// The socket.
pub(crate) struct Wire {
    stream: TcpStream,
    link: Arc<Link>,
    out: Paced,
    into: Paced,
    /// Given back when the socket closes, not before.
    _slot: Slot,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream, link: Arc<Link>, budgets: &Budgets, slot: Slot) -> Self {
        let out = Paced::new(budgets.bytes_out(), Reason::QuotaBytesOut);
        let into = Paced::new(budgets.bytes_in(), Reason::QuotaBytesIn);
        Self { stream, link, out, into, _slot: slot }
    }
}

/// One direction and its rate.
struct Paced {
    throttle: Throttle,
    reason: Reason,
    wait: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Paced {
    fn new(throttle: Throttle, reason: Reason) -> Self {
        Self { throttle, reason, wait: None }
    }

    /// How many bytes may go now; at least one. A wait is told once, where it begins.
    fn poll_room(&mut self, cx: &mut Context<'_>, link: &Link) -> Poll<usize> {
        loop {
            if let Some(wait) = &mut self.wait {
                ready!(wait.as_mut().poll(cx));
                self.wait = None;
            }
            match self.throttle.room() {
                Err(met) => {
                    link.held_back(self.reason, met);
                    let throttle = self.throttle.clone();
                    self.wait = Some(Box::pin(async move { throttle.ready().await }));
                }
                Ok(room) => return Poll::Ready(room),
            }
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let room = ready!(this.into.poll_room(cx, &this.link));
        let before = buf.filled().len();
        if room >= buf.remaining() {
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        } else {
            let mut part = ReadBuf::new(buf.initialize_unfilled_to(room));
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut part))?;
            let read = part.filled().len();
            buf.advance(read);
        }
        let read = buf.filled().len().saturating_sub(before);
        this.into.throttle.take(read);
        count(&this.link.bytes_in, read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let room = ready!(this.out.poll_room(cx, &this.link));
        let part = buf.get(..room).unwrap_or(buf);
        let written = ready!(Pin::new(&mut this.stream).poll_write(cx, part))?;
        this.out.throttle.take(written);
        count(&this.link.bytes_out, written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let room = ready!(this.out.poll_room(cx, &this.link));
        let total: usize = bufs.iter().map(|buf| buf.len()).sum();
        if total > room {
            let first = bufs.iter().find(|buf| !buf.is_empty());
            return self.poll_write(cx, first.map_or(&[], |buf| &**buf));
        }
        let written = ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, bufs))?;
        this.out.throttle.take(written);
        count(&this.link.bytes_out, written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

fn count(bytes: &AtomicU64, more: usize) {
    // One task alone writes it; the others read.
    bytes.fetch_add(u64::try_from(more).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// The task of a connection: HTTP until it ends or its deadline comes. Both ways the socket is closed. Where an answer may
/// still be read then, the task stays for its deadline.
pub(crate) struct Driver<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> {
    /// None when it is closed.
    connection: Option<Connection<TokioIo<T>, RequestBody>>,
    link: Arc<Link>,
    /// Never later than the deadline: a deadline that moves away is looked at again when this is over.
    timer: Pin<Box<Sleep>>,
}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Driver<T> {
    pub(crate) fn new(connection: Connection<TokioIo<T>, RequestBody>, link: Arc<Link>) -> Self {
        let timer = Box::pin(tokio::time::sleep_until(link.ends()));
        Self { connection: Some(connection), link, timer }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Future for Driver<T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        // What went wrong is told to whoever waits for the answer.
        if let Some(connection) = &mut this.connection
            && Pin::new(connection).poll(cx).is_ready()
        {
            this.connection = None;
            if !this.link.close() {
                return Poll::Ready(());
            }
        }
        loop {
            let ends = this.link.ends();
            if ends < this.timer.deadline() {
                this.timer.as_mut().reset(ends);
            }
            ready!(this.timer.as_mut().poll(cx));
            let ends = this.link.ends();
            if Instant::now() >= ends {
                this.link.expire();
                this.connection = None;
                return Poll::Ready(());
            }
            this.timer.as_mut().reset(ends);
        }
    }
}
