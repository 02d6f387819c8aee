//! The sending of a request that was granted: one address after the other until somebody is there, then the request, then
//! the head of its answer.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use http::StatusCode;
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use portcullis_audit::Destination;
use portcullis_policy::Reason;
use tokio::time::{Instant, sleep_until, timeout_at};
use wasmtime_wasi_http::WasiBody;

use super::body::{BODY_BYTES, Flow, RequestBody, ResponseBody};
use super::dial::{Dial, Unconnected};
use super::exchange::{About, Exchange};
use super::failure::{Code, Failure};
use super::headers;
use super::place::{Found, Try};
use super::pool::Idle;
use super::sender::{Job, Times, Unsent, Way, restricts};
use crate::evidence::{Intent, next_connection};
use crate::quota::{Slot, Turn};

type Answer = http::Response<WasiBody>;

/// Why there is no answer.
enum Stop {
    /// Nobody was at the address, and nothing of the request has left.
    Nobody(Failure, Box<Unsent>),
    For(Failure),
}

/// What came of a request on a connection.
enum Sent {
    Answered(Answer),
    Failed(Failure),
    /// The connection was closed while it waited in the pool, and nothing has left.
    Back(Box<(Exchange, http::Request<RequestBody>)>),
}

impl Job {
    /// Sends the request and waits for the head of its answer.
    ///
    /// # Errors
    /// Why there is none. It is recorded.
    pub(crate) async fn run(self) -> Result<Answer, Failure> {
        let Self { mut way, mut request } = self;
        way.gate.room().await;
        let mut dials = way.dials().await?;
        let mut nobody = Failure::of(Reason::NetFailed);
        let Some(first) = dials.first() else { return Err(nobody) };
        let until = way.times.ends.min(Instant::now() + way.times.connect);
        let turn = Arc::new(way.turn(first, until).await?);
        let found =
            dials.iter().enumerate().find_map(|(at, dial)| Some((at, way.http.pool.take(way.home, &dial.key)?)));
        let (at, mut waiting) = found.map_or((0, None), |(at, idle)| (at, Some(idle)));
        // The address of a connection that is there already comes first, the others stay in their order.
        if let Some(first) = dials.get_mut(..=at) {
            first.rotate_right(1);
        }
        for (tried, dial) in dials.iter().enumerate() {
            if tried > 0 {
                // A dial of its own, with an intent and a result of its own.
                way.call.id = next_connection();
                way.gate.room().await;
            }
            let addresses = u32::try_from(dials.len().saturating_sub(tried)).unwrap_or(1);
            let try_it = Try { turn: Arc::clone(&turn), until, addresses };
            match way.send(dial, waiting.take(), request, &try_it).await {
                Ok(answer) => return Ok(answer),
                Err(Stop::For(failure)) => return Err(failure),
                Err(Stop::Nobody(failure, unsent)) => (nobody, request) = (failure, *unsent),
            }
            if Instant::now() >= until {
                break;
            }
        }
        Err(nobody)
    }
}

impl Way {
    /// Sends the request to one address, over the connection that waits for it or a fresh one.
    async fn send(&self, dial: &Dial, waiting: Option<Idle>, unsent: Unsent, try_it: &Try) -> Result<Answer, Stop> {
        let found = match waiting {
            Some(connection) => Ok(Found::Idle(connection)),
            None => self.reserve(dial, true, try_it.until).await,
        };
        let found = found.map_err(|denied| Stop::For(self.refused(&denied)))?;
        let (exchange, intent) = self.begin(dial, &try_it.turn);
        let confirmed = match &intent {
            Some(intent) => timeout_at(self.times.ends, intent.confirmed()).await.is_ok_and(|stored| stored.is_ok()),
            None => false,
        };
        if !confirmed {
            return Err(Stop::For(exchange.fail(Failure::new(Reason::NetFailed, Code::Internal))));
        }
        let (mut exchange, mut unsent, mut found) = (exchange, unsent, found);
        loop {
            let connection = match found {
                Found::Place(slot) => return self.send_fresh(dial, slot, exchange, unsent, try_it).await,
                Found::Idle(connection) => connection,
            };
            let request = self.outgoing(unsent, dial, exchange.flow());
            let request = match self.talk(exchange, connection, false, request).await {
                Sent::Answered(answer) => return Ok(answer),
                Sent::Failed(failure) => return Err(Stop::For(failure)),
                Sent::Back(back) => {
                    let request;
                    (exchange, request) = *back;
                    request
                }
            };
            exchange.give_up();
            unsent = self.bare(request, dial);
            // A fresh one, so that the second round is the last.
            found = match self.reserve(dial, false, try_it.until).await {
                Ok(found) => found,
                Err(denied) => return Err(Stop::For(exchange.fail(Failure::of(denied.reason)))),
            };
        }
    }

    async fn send_fresh(
        &self,
        dial: &Dial,
        slot: Slot,
        exchange: Exchange,
        unsent: Unsent,
        try_it: &Try,
    ) -> Result<Answer, Stop> {
        let connection = match self.connect(slot, dial, try_it).await {
            Ok(connection) => connection,
            Err(Unconnected::Dial(failure)) => return Err(Stop::Nobody(exchange.fail(failure), Box::new(unsent))),
            Err(Unconnected::Tls(failure)) => return Err(Stop::For(exchange.fail(failure))),
        };
        let request = self.outgoing(unsent, dial, exchange.flow());
        match self.talk(exchange, connection, true, request).await {
            Sent::Answered(answer) => Ok(answer),
            Sent::Failed(failure) => Err(Stop::For(failure)),
            // A fresh connection that gives a request back has failed.
            Sent::Back(back) => Err(Stop::For(back.0.fail(Failure::of(Reason::NetFailed)))),
        }
    }

    async fn talk(
        &self,
        mut exchange: Exchange,
        connection: Idle,
        fresh: bool,
        request: http::Request<RequestBody>,
    ) -> Sent {
        let connection = exchange.over(connection, fresh);
        match timeout_at(self.times.ends, connection.sender.ready()).await {
            Ok(Ok(())) => {}
            // Closed in the pool: sending tells so again and gives the request back.
            Ok(Err(_)) if !fresh => {}
            Ok(Err(error)) => return Sent::Failed(exchange.fail(Failure::of_hyper(&error, false))),
            Err(_) => return Sent::Failed(exchange.fail(Failure::of(Reason::TimeTotal))),
        }
        let sent = connection.sender.try_send_request(request);
        match head(sent, exchange.flow(), &self.times).await {
            Ok(Ok(head)) => match answer(head, exchange, self.times.between).await {
                Ok(answer) => Sent::Answered(answer),
                Err(failure) => Sent::Failed(failure),
            },
            Ok(Err(mut error)) => match error.take_message() {
                Some(unsent) if !fresh => Sent::Back(Box::new((exchange, unsent))),
                _ => Sent::Failed(exchange.fail(Failure::of_hyper(error.error(), false))),
            },
            Err(late) => Sent::Failed(exchange.fail(Failure::of(late))),
        }
    }

    fn begin(&self, dial: &Dial, turn: &Arc<Turn>) -> (Exchange, Option<Intent>) {
        let to = Destination { hostname: self.hostname(), ip: Some(dial.address), port: Some(self.target.port) };
        let mut decided = self.egress.evidence().decided(&dial.granted, to);
        decided.pin = dial.lookup.or(decided.pin);
        Exchange::begin(About {
            gate: self.gate.clone(),
            http: Arc::clone(&self.http),
            home: self.home,
            by_guest: Arc::clone(&self.by_guest),
            source: self.source.clone(),
            call: self.call.clone(),
            decided,
            ends: self.times.ends,
            turn: Arc::clone(turn),
        })
    }

    /// The request with its secrets, which nobody looks at from here on.
    fn outgoing(&self, mut request: Unsent, dial: &Dial, flow: &Arc<Flow>) -> http::Request<RequestBody> {
        let rule = dial.granted.rule();
        for secret in self.egress.settings().secrets.iter().filter(|secret| secret.is_for(rule)) {
            request.headers_mut().insert(secret.name(), secret.value().clone());
        }
        let restricted = restricts(&self.egress, &dial.granted);
        request.map(|body| RequestBody::new(body, Arc::clone(flow), restricted))
    }

    /// The request without its secrets again: another address may be another rule's, with other secrets or none.
    fn bare(&self, request: http::Request<RequestBody>, dial: &Dial) -> Unsent {
        let mut request = request.map(RequestBody::into_inner);
        let rule = dial.granted.rule();
        for secret in self.egress.settings().secrets.iter().filter(|secret| secret.is_for(rule)) {
            request.headers_mut().remove(secret.name());
        }
        request
    }
}

/// Waits for the head of an answer.
///
/// # Errors
/// Who was late.
async fn head<R>(answer: impl Future<Output = R>, flow: &Flow, times: &Times) -> Result<R, Reason> {
    let mut answer = pin!(answer);
    let first_byte = |now: Instant| times.ends.min(now + times.first_byte);
    // The time for the first byte begins with the end of the request. When that was is not known exactly where the guest
    // ends it later than now: the wait is then up to twice as long, and never longer than the whole.
    let mut was_sent = flow.is_sent();
    let mut timer = pin!(sleep_until(first_byte(Instant::now())));
    poll_fn(|cx| {
        if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
            return Poll::Ready(Ok(answer));
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            let (now, sent) = (Instant::now(), flow.is_sent());
            if now >= times.ends {
                return Poll::Ready(Err(if sent { Reason::TimeTotal } else { Reason::TimeRequestBody }));
            }
            if sent && was_sent {
                return Poll::Ready(Err(Reason::TimeFirstByte));
            }
            was_sent = sent;
            timer.as_mut().reset(first_byte(now));
        }
    })
    .await
}

/// What the guest gets.
async fn answer(
    head: http::Response<Incoming>,
    mut exchange: Exchange,
    between: Duration,
) -> Result<http::Response<WasiBody>, Failure> {
    let status = head.status();
    exchange.answered(status.as_u16());
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(exchange.fail(Failure::new(Reason::HttpFraming, Code::Upgrade)));
    }
    if head.body().size_hint().lower() > BODY_BYTES {
        return Err(exchange.fail(Failure::of(Reason::QuotaBytesIn)));
    }
    let (mut head, body) = head.into_parts();
    head.headers = headers::owned(&head.headers);
    let body = ResponseBody::begin(body, between, exchange).await;
    Ok(http::Response::from_parts(head, body.boxed_unsync()))
}
