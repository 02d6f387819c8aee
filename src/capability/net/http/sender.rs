//! The way of one request: what the plugin asked for is checked and decided at once, the rest happens in a task of its own,
//! which ends with the guest's interest in it.

use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Poll, ready};
use std::time::Duration;

use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1::Builder;
use portcullis_audit::{Attempt, Destination, Event, HttpCall, HttpResult, Traffic, Uuid};
use portcullis_policy::{Denied, Effect, Granted, Host, HttpTarget, Reason, Request, Target};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_rustls::TlsConnector;
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::{RequestOptions, WasiBody};

use super::body::{BODY_BYTES, Flow, RequestBody, ResponseBody};
use super::exchange::{About, Exchange};
use super::failure::{Code, Failure};
use super::link::{Driver, Link, Wire};
use super::pool::{Idle, Key, Task};
use super::{BETWEEN_BYTES_TIME, CONNECT_TIME, FIRST_BYTE_TIME, HttpEgress, HttpGuest, Profile, TOTAL_TIME, headers};
use crate::dialer::dial;
use crate::egress::Egress;
use crate::evidence::{Intent, about, next_connection};
use crate::gate::Gate;
use crate::lookup::Origin;
use crate::quota::Slot;
use crate::tls;

/// What hyper may hold of an answer that the guest does not read.
const READ_BUFFER: usize = 128 << 10;

/// What the guest wants sent. Nothing in it has been checked.
pub(crate) struct Outgoing {
    pub(crate) method: String,
    pub(crate) scheme: String,
    pub(crate) authority: String,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<WasiBody>,
}

/// How long each part may take: the guest's wish, where that is less.
#[derive(Clone, Copy, Debug)]
struct Times {
    connect: Duration,
    first_byte: Duration,
    between: Duration,
    ends: Instant,
}

impl Times {
    fn new(options: RequestOptions, call_ends: Option<std::time::Instant>) -> Self {
        let least = |asked: Option<Duration>, most: Duration| asked.map_or(most, |asked| asked.min(most));
        let latest = Instant::now() + TOTAL_TIME;
        Self {
            connect: least(options.connect_timeout, CONNECT_TIME),
            first_byte: least(options.first_byte_timeout, FIRST_BYTE_TIME),
            between: least(options.between_bytes_timeout, BETWEEN_BYTES_TIME),
            ends: call_ends.map_or(latest, |ends| latest.min(Instant::from_std(ends))),
        }
    }
}

/// A request that was granted.
pub(crate) struct Job {
    way: Way,
    /// As it goes on the wire, but for what is secret.
    request: http::Request<Option<WasiBody>>,
}

/// Where a request goes and how.
struct Way {
    gate: Gate,
    egress: Arc<Egress>,
    http: Arc<HttpEgress>,
    home: usize,
    by_guest: Arc<AtomicBool>,
    source: Option<Arc<str>>,
    granted: Granted,
    target: HttpTarget,
    call: HttpCall,
    times: Times,
}

impl HttpGuest {
    /// Checks and decides a request.
    ///
    /// # Errors
    /// The refusal, which is recorded.
    pub(crate) fn ask(&self, gate: &Gate, outgoing: Outgoing, options: RequestOptions) -> Result<Job, Failure> {
        let Outgoing { method, scheme, authority, path, headers, body } = outgoing;
        let asked = Request::Http { method: &method, scheme: &scheme, authority: &authority, path: &path };
        let without_query = path.split(['?', '#']).next().unwrap_or_default();
        let mut call = HttpCall {
            id: next_connection(),
            method: method.clone(),
            scheme: scheme.clone(),
            path: if without_query.is_empty() { "/".to_owned() } else { without_query.to_owned() },
        };
        let code = |reason| Failure::of(reason).code.as_str();
        let granted = match gate.ask(&asked, Attempt::Http(call.clone()), code) {
            Ok(granted) => granted,
            Err(denied) => return Err(Failure::of(denied.reason)),
        };
        let (Some(egress), Effect::Http(target)) = (gate.egress(), granted.effect()) else {
            return Err(Failure::of(Reason::CapabilityAbsent));
        };
        let (egress, target) = (Arc::clone(egress), target.clone());
        call.method.clone_from(&target.method);
        call.path.clone_from(&target.path);
        let http = Arc::clone(&egress.http);
        let checked = headers::check(&headers, &http.filter, body.is_some());
        let request = checked.and_then(|()| request(&target, &path, headers, body));
        let request = request.map_err(|reason| {
            let denied = refusal(reason, &granted, &target);
            gate.refused(Attempt::Http(call.clone()), &denied, Some(code(reason)));
            Failure::of(reason)
        })?;
        let times = Times::new(options, self.call_ends);
        let (gate, source, by_guest) = (gate.clone(), gate.source(), Arc::clone(&self.by_guest));
        let way = Way { gate, egress, http, home: self.home, by_guest, source, granted, target, call, times };
        Ok(Job { way, request })
    }
}

fn refusal(reason: Reason, granted: &Granted, to: &HttpTarget) -> Denied {
    let (name, address) = match &to.host {
        Host::Name(name) => (Some(name.to_string()), None),
        Host::Address(address) => (None, Some(*address)),
    };
    Denied { reason, nearest: granted.rule(), target: Target { name, address, port: Some(to.port) }, step: 1 }
}

/// The request as it goes on the wire, but for what is secret.
fn request(
    target: &HttpTarget,
    asked_path: &str,
    headers: HeaderMap,
    body: Option<WasiBody>,
) -> Result<http::Request<Option<WasiBody>>, Reason> {
    let query = asked_path.find('?').and_then(|at| asked_path.get(at..)).unwrap_or_default();
    let path = PathAndQuery::try_from(format!("{}{query}", target.path)).map_err(|_| Reason::HttpPathNoncanonical)?;
    let mut request = http::Request::new(body);
    *request.method_mut() = Method::from_bytes(target.method.as_bytes()).map_err(|_| Reason::HttpMethod)?;
    *request.uri_mut() = Uri::from(path);
    *request.headers_mut() = headers;
    let usual = if target.tls { 443 } else { 80 };
    let host = match &target.host {
        Host::Name(name) => name.to_string(),
        Host::Address(IpAddr::V4(address)) => address.to_string(),
        Host::Address(IpAddr::V6(address)) => format!("[{address}]"),
    };
    let host = if target.port == usual { host } else { format!("{host}:{}", target.port) };
    let host = HeaderValue::try_from(host).map_err(|_| Reason::NameInvalid)?;
    request.headers_mut().insert(HOST, host);
    Ok(request)
}

impl Job {
    /// Sends the request and waits for the head of its answer.
    ///
    /// # Errors
    /// Why there is none. It is recorded.
    pub(crate) async fn run(self) -> Result<http::Response<WasiBody>, Failure> {
        let Self { way, request } = self;
        let (address, granted, lookup) = way.address().await?;
        let profile = way.profile(&granted)?;
        let key = Key {
            address: SocketAddr::new(address, way.target.port),
            rule: granted.rule(),
            profile: profile.as_ref().map(|(number, _)| *number),
            host: way.target.host.clone(),
        };
        let mut waiting = way.http.pool.take(way.home, &key);
        let mut place = match &waiting {
            Some(_) => None,
            None => Some(way.reserve(address).await.map_err(|denied| way.refused(&denied))?),
        };
        let (mut exchange, intent) = way.begin(&granted, address, lookup);
        let confirmed = match &intent {
            Some(intent) => intent.confirmed().await.is_ok(),
            None => false,
        };
        if !confirmed {
            return Err(exchange.fail(Failure::new(Reason::NetFailed, Code::Internal)));
        }
        let mut request = way.outgoing(request, &granted, exchange.flow());
        loop {
            let (connection, fresh) = match (waiting.take(), place.take()) {
                (Some(connection), _) => (Ok(connection), false),
                (None, Some(place)) => (way.connect(place, &key, profile.as_ref()).await, true),
                (None, None) => (Err(Failure::of(Reason::QuotaSockets)), true),
            };
            let connection = match connection {
                Ok(connection) => exchange.over(connection, fresh),
                Err(failure) => return Err(exchange.fail(failure)),
            };
            match timeout_at(way.times.ends, connection.sender.ready()).await {
                Ok(Ok(())) => {}
                // Closed in the pool: sending tells so again and gives the request back.
                Ok(Err(_)) if !fresh => {}
                Ok(Err(error)) => return Err(exchange.fail(Failure::of_hyper(&error, false))),
                Err(_) => return Err(exchange.fail(Failure::of(Reason::TimeTotal))),
            }
            let sent = connection.sender.try_send_request(request);
            let head = match head(sent, exchange.flow(), &way.times).await {
                Ok(head) => head,
                Err(late) => return Err(exchange.fail(Failure::of(late))),
            };
            match head {
                Ok(head) => return answer(head, exchange, way.times.between).await,
                Err(mut error) => match error.take_message() {
                    // It was closed while it waited in the pool, and nothing of the request has left.
                    Some(unsent) if !fresh => {
                        request = unsent;
                        exchange.give_up();
                        match way.reserve(address).await {
                            Ok(reserved) => place = Some(reserved),
                            Err(denied) => return Err(exchange.fail(Failure::of(denied.reason))),
                        }
                    }
                    _ => return Err(exchange.fail(Failure::of_hyper(error.error(), false))),
                },
            }
        }
    }
}

impl Way {
    /// The first address that may be dialled, with the decision and the lookup that gave it.
    async fn address(&self) -> Result<(IpAddr, Granted, Option<Uuid>), Failure> {
        let (addresses, lookup) = match &self.target.host {
            Host::Address(address) => (vec![*address], None),
            Host::Name(_) => {
                let lookup = self.gate.resolve(&self.granted, Origin::Http);
                match timeout_at(self.times.ends, lookup).await {
                    Ok(Ok(answer)) => (answer.addresses.clone(), Some(answer.lookup)),
                    Ok(Err(unresolved)) => return Err(self.unresolved(unresolved.reason)),
                    Err(_) => return Err(self.unresolved(Reason::DnsTimeout)),
                }
            }
        };
        let mut refused = None;
        for address in addresses {
            match self.gate.decide(&Request::HttpDial { http: &self.granted, address }) {
                Ok(granted) => return Ok((address, granted, lookup)),
                Err(denied) => refused = refused.or(Some(denied)),
            }
        }
        Err(match refused {
            Some(denied) => self.refused(&denied),
            None => self.unresolved(Reason::DnsFailed),
        })
    }

    /// A name that gave no address: refused by us, or not known to the DNS.
    fn unresolved(&self, reason: Reason) -> Failure {
        let word = reason.as_str();
        let is_refusal = ["addr.", "quota.", "rule."].iter().any(|group| word.starts_with(group));
        if is_refusal || reason == Reason::DnsRebind {
            return self.refused(&refusal(reason, &self.granted, &self.target));
        }
        let host = Destination { hostname: self.hostname(), ip: None, port: Some(self.target.port) };
        let decided = self.egress.evidence().decided(&self.granted, host);
        let result = HttpResult {
            call: self.call.clone(),
            decided,
            connection: None,
            status: None,
            traffic: Traffic::default(),
            failure: Some(word),
            tls_version: None,
        };
        let event = Event::http_request(self.egress.evidence().actor().clone(), result);
        self.gate.record(about(event, self.source.as_ref()));
        Failure::of(reason)
    }

    fn refused(&self, denied: &Denied) -> Failure {
        let failure = Failure::of(denied.reason);
        self.gate.refused(Attempt::Http(self.call.clone()), denied, Some(failure.code.as_str()));
        failure
    }

    fn hostname(&self) -> Option<String> {
        match &self.target.host {
            Host::Name(name) => Some(name.to_string()),
            Host::Address(_) => None,
        }
    }

    fn profile(&self, granted: &Granted) -> Result<Option<Profile>, Failure> {
        if !self.target.tls {
            return Ok(None);
        }
        let profile = self.http.profile(&self.egress, granted.rule());
        profile.map(Some).ok_or(Failure::new(Reason::TlsVersion, Code::TlsProtocol))
    }

    /// A place for a new connection; one that waits for another destination makes room for it.
    async fn reserve(&self, address: IpAddr) -> Result<(Granted, Slot), Denied> {
        if self.egress.budgets().slot().is_err()
            && let Some(oldest) = self.http.pool.evict(self.home)
        {
            oldest.task.end().await;
        }
        self.gate.decide_connect(&Request::HttpDial { http: &self.granted, address })
    }

    fn begin(&self, granted: &Granted, address: IpAddr, lookup: Option<Uuid>) -> (Exchange, Option<Intent>) {
        let to = Destination { hostname: self.hostname(), ip: Some(address), port: Some(self.target.port) };
        let mut decided = self.egress.evidence().decided(granted, to);
        decided.pin = lookup.or(decided.pin);
        Exchange::begin(About {
            gate: self.gate.clone(),
            http: Arc::clone(&self.http),
            home: self.home,
            by_guest: Arc::clone(&self.by_guest),
            source: self.source.clone(),
            call: self.call.clone(),
            decided,
            ends: self.times.ends,
        })
    }

    /// The request with its secrets, which nobody looks at from here on.
    fn outgoing(
        &self,
        mut request: http::Request<Option<WasiBody>>,
        granted: &Granted,
        flow: &Arc<Flow>,
    ) -> http::Request<RequestBody> {
        for secret in self.egress.settings().secrets.iter().filter(|secret| secret.is_for(granted.rule())) {
            request.headers_mut().insert(secret.name(), secret.value().clone());
        }
        request.map(|body| RequestBody::new(body, Arc::clone(flow)))
    }

    /// Dials the address of the token, and nothing else.
    async fn connect(&self, place: (Granted, Slot), key: &Key, tls: Option<&Profile>) -> Result<Idle, Failure> {
        let (granted, slot) = place;
        let until = self.times.ends.min(Instant::now() + self.times.connect);
        let stream = dial(&granted, until.saturating_duration_since(Instant::now())).await;
        let stream = stream.map_err(|error| Failure::of_connect(&error))?;
        let link = Link::new(self.times.ends);
        let wire = Wire::new(stream, Arc::clone(&link), self.egress.budgets(), slot);
        let Some((_, config)) = tls else {
            return open(wire, link, key, None).await;
        };
        let name = tls::server_name(&self.target.host).ok_or(Failure::of(Reason::NameInvalid))?;
        let handshake = timeout_at(until, TlsConnector::from(Arc::clone(config)).connect(name, wire)).await;
        let late = |_| Failure::of(Reason::TimeConnect);
        let stream = handshake.map_err(late)?.map_err(|error| Failure::of_handshake(&error))?;
        let version = tls::version(stream.get_ref().1);
        open(stream, link, key, version).await
    }
}

/// HTTP/1.1 on a connection, driven by a task of its own.
async fn open<S>(stream: S, link: Arc<Link>, key: &Key, tls_version: Option<&'static str>) -> Result<Idle, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new();
    builder.max_headers(headers::FIELDS).max_header_size(headers::SECTION_BYTES).max_buf_size(READ_BUFFER);
    let opened = builder.handshake(TokioIo::new(stream)).await;
    let (sender, connection) = opened.map_err(|error| Failure::of_hyper(&error, false))?;
    let task = Task(tokio::spawn(Driver::new(connection, Arc::clone(&link))));
    Ok(Idle { key: key.clone(), sender, link, tls_version, task })
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
    let (head, body) = head.into_parts();
    let body = ResponseBody::begin(body, between, exchange).await;
    Ok(http::Response::from_parts(head, body.boxed_unsync()))
}
