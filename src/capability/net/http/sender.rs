//! What a plugin asks to have sent: checked and decided at once. What was granted is sent by a task of its own, which ends
//! with the guest's interest in it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Uri};
use portcullis_audit::{Attempt, HttpCall, Source};
use portcullis_policy::{Denied, Effect, Granted, Host, HttpTarget, Reason, Request};
use tokio::time::Instant;
use wasmtime_wasi_http::{RequestOptions, WasiBody};

use super::failure::Failure;
use super::{BETWEEN_BYTES_TIME, CONNECT_TIME, FIRST_BYTE_TIME, HttpEgress, HttpGuest, TOTAL_TIME, headers, held};
use crate::egress::Egress;
use crate::evidence::next_connection;
use crate::gate::Gate;

/// What is kept of a path for the audit, which shows half of it.
const TOLD_PATH_BYTES: usize = 1 << 10;

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
pub(super) struct Times {
    pub(super) connect: Duration,
    pub(super) first_byte: Duration,
    pub(super) between: Duration,
    pub(super) ends: Instant,
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

/// A request as it goes on the wire, but for what is secret.
pub(super) type Unsent = http::Request<Option<WasiBody>>;

/// A request that was granted.
pub(crate) struct Job {
    pub(super) way: Way,
    pub(super) request: Unsent,
}

/// Where a request goes and how.
pub(super) struct Way {
    pub(super) gate: Gate,
    pub(super) egress: Arc<Egress>,
    pub(super) http: Arc<HttpEgress>,
    pub(super) home: usize,
    pub(super) by_guest: Arc<AtomicBool>,
    pub(super) source: Option<Source>,
    pub(super) granted: Granted,
    pub(super) target: HttpTarget,
    /// Whether its headers ask for another method or path.
    pub(super) overrides: bool,
    pub(super) call: HttpCall,
    pub(super) times: Times,
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
        let told = |method: &str, path: &str| HttpCall {
            id: next_connection(),
            method: begin_of(method, held::METHOD_BYTES),
            scheme: begin_of(&scheme, held::METHOD_BYTES),
            path: begin_of(path, TOLD_PATH_BYTES),
        };
        let code = |reason| Failure::of(reason).code.as_str();
        let granted = gate.decide(&asked).map_err(|denied| {
            let path = if without_query.is_empty() { "/" } else { without_query };
            gate.refused(Attempt::Http(told(&method, path)), &denied, Some(code(denied.reason)));
            Failure::of(denied.reason)
        })?;
        let (Some(egress), Effect::Http(target)) = (gate.egress(), granted.effect()) else {
            return Err(Failure::of(Reason::CapabilityAbsent));
        };
        let (egress, target) = (Arc::clone(egress), target.clone());
        let call = told(&target.method, &target.path);
        let http = Arc::clone(&egress.http);
        let overrides = headers::overrides(&headers);
        let checked = match overrides && restricts(&egress, &granted) {
            true => Err(Reason::HttpForbiddenHeader),
            false => headers::check(&headers, &http.filter, body.is_some()),
        };
        let request = checked.and_then(|()| request(&target, &path, headers, body));
        let request = request.map_err(|reason| {
            let denied = Denied::of_form(reason, &granted);
            gate.refused(Attempt::Http(call.clone()), &denied, Some(code(reason)));
            Failure::of(reason)
        })?;
        let times = Times::new(options, self.request_ends());
        let (gate, source, by_guest) = (gate.clone(), gate.source(), Arc::clone(&self.by_guest));
        let home = self.home;
        let way = Way { gate, egress, http, home, by_guest, source, granted, target, overrides, call, times };
        Ok(Job { way, request })
    }
}

/// Whether the rule allows only some methods or paths. In observe mode there is no rule that could.
pub(super) fn restricts(egress: &Egress, granted: &Granted) -> bool {
    egress.rule(granted).is_some_and(|rule| !rule.methods().is_empty() || !rule.paths().is_empty())
}

/// What is told of a text that a guest chose the length of.
fn begin_of(text: &str, bytes: usize) -> String {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or_default().to_owned()
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
