//! `wasi:http`, outgoing: a request is decided, its name looked up, each address decided, and then it goes to the first
//! address that was allowed and answers, over TLS with the canonical host as its name, as HTTP/1.1. No redirect is followed,
//! no proxy asked, no variable of the environment read.

mod body;
mod dial;
mod exchange;
mod failure;
mod handler;
mod headers;
mod held;
mod link;
mod ongoing;
mod place;
mod pool;
mod secrets;
mod send;
mod sender;
mod types;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use wasmtime::component::Linker;
use wasmtime_wasi_http::p2::bindings::{LinkOptions, http as bindings};
use wasmtime_wasi_http::{ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpHooks};

pub use self::secrets::{Secret, SecretError, SecretHeader};

pub(crate) use self::failure::Failure;
use self::held::Held;
use self::pool::{Kin, Pool};
use crate::egress::{Egress, Settings};
use crate::guest::NetGuest;
use crate::tls;
use crate::view::{HasNet, HasView, View};

/// How long a connection waits for its next request.
const IDLE_TIME: Duration = Duration::from_secs(30);
/// The longest for TCP and TLS.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// The longest from the end of the request to the head of the answer.
const FIRST_BYTE_TIME: Duration = Duration::from_secs(10);
/// The longest silence within the answer.
const BETWEEN_BYTES_TIME: Duration = Duration::from_secs(10);
/// The longest for everything.
const TOTAL_TIME: Duration = Duration::from_secs(30);

/// Links `wasi:http/types` and `wasi:http/outgoing-handler`. `wasi:io` is linked by who owns the store.
///
/// # Errors
/// When one of them is linked already.
pub fn link<T: HasNet>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    bindings::types::add_to_linker::<T, HasView<T>>(linker, &LinkOptions::default().into(), View::of)?;
    bindings::outgoing_handler::add_to_linker::<T, HasView<T>>(linker, View::of)
}

/// What all instances of a plugin share.
pub(crate) struct HttpEgress {
    pool: Pool,
    /// The TLS of rules that name none; none when the provider and the versions do not fit each other.
    tls: Option<Arc<ClientConfig>>,
    filter: ForbiddenHeaderFilter,
    /// HTTP resources that an instance may have.
    most_held: usize,
    kin: Kin,
}

/// A TLS profile and its number in the plugin, which is in the pool's key.
type Profile = (u32, Arc<ClientConfig>);

impl HttpEgress {
    pub(crate) fn new(settings: &Settings) -> Arc<Self> {
        let tls = tls::profile(Arc::clone(&settings.roots)).ok();
        let filter = headers::filter(&settings.secrets);
        let most_held = Held::most(settings.limits.handles);
        let kin = Kin { tenant: Arc::clone(&settings.tenant), budgets: settings.parents.clone() };
        let http = Arc::new(Self { pool: Pool::new(), tls, filter, most_held, kin });
        pool::enrol(&http);
        http
    }

    fn profile(&self, egress: &Egress, rule: Option<usize>) -> Option<Profile> {
        let rules = egress.settings().rule_tls.iter().zip(1_u32..);
        let own = rule.and_then(|rule| rules.clone().find(|(own, _)| own.is_for(rule)));
        match own {
            Some((own, number)) => Some((number, Arc::clone(own.config()))),
            None => self.tls.as_ref().map(|config| (0, Arc::clone(config))),
        }
    }
}

/// What one instance has.
pub(crate) struct HttpGuest {
    pub(super) ctx: WasiHttpCtx,
    pub(super) hooks: Hooks,
    /// Bodies of requests that the guest has not ended yet, by the number of their resource.
    pub(super) bodies: Vec<(u32, Arc<AtomicBool>)>,
    /// Its resources in the table, but for streams, which their bodies count for.
    pub(super) held: Held,
    /// True while the guest itself lets something go.
    pub(super) by_guest: Arc<AtomicBool>,
    /// Where this instance begins to look for a connection.
    home: usize,
    /// When the call that runs must have ended.
    call_ends: Option<Instant>,
    /// By how much later, in nanoseconds: the time in which the call was held up.
    held_up_ns: Arc<AtomicU64>,
}

impl HttpGuest {
    pub(crate) fn new(http: Option<&Arc<HttpEgress>>) -> Self {
        let mut ctx = WasiHttpCtx::new();
        ctx.set_field_size_limit(headers::SECTION_COST);
        Self {
            ctx,
            hooks: Hooks(http.map_or_else(|| headers::filter(&[]), |http| Arc::clone(&http.filter))),
            bodies: Vec::new(),
            held: Held::new(http.map_or_else(|| Held::most(0), |http| http.most_held)),
            by_guest: Arc::default(),
            home: http.map_or(0, |http| http.pool.home()),
            call_ends: None,
            held_up_ns: Arc::default(),
        }
    }

    /// When a request that begins now ends at the latest.
    fn request_ends(&self) -> Option<Instant> {
        self.call_ends?.checked_add(Duration::from_nanos(self.held_up_ns.load(Ordering::Relaxed)))
    }

    /// Takes the mark of a body that is over for the guest.
    pub(super) fn forget(&mut self, body: u32) -> Option<Arc<AtomicBool>> {
        let at = self.bodies.iter().position(|(number, _)| *number == body)?;
        Some(self.bodies.swap_remove(at).1)
    }
}

impl NetGuest {
    /// When the call that begins must have ended: an HTTP request of it ends then at the latest. None: after 30 seconds. What is
    /// in `held_up_ns` when a request begins comes on top: time that the call could not use.
    pub fn call_ends(&mut self, at: Option<Instant>, held_up_ns: &Arc<AtomicU64>) {
        self.http.call_ends = at;
        self.http.held_up_ns = Arc::clone(held_up_ns);
    }
}

/// What wasmtime's implementation of the types asks. It never sends: `handle` is our own.
pub(super) struct Hooks(ForbiddenHeaderFilter);

type Io = Box<dyn Future<Output = Result<(), wasmtime_wasi_http::Error>> + Send>;
type Sent = Result<(http::Response<WasiBody>, Io), wasmtime_wasi_http::Error>;

impl WasiHttpHooks for Hooks {
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::clone(&self.0)
    }

    fn p2_outgoing_body_buffer_chunks(&mut self) -> usize {
        1
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        held::CHUNK_BYTES
    }

    fn send_request(
        &mut self,
        _request: http::Request<WasiBody>,
        _options: Option<RequestOptions>,
        _io: Io,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        Box::new(std::future::ready(Err(wasmtime_wasi_http::Error::HttpRequestDenied)))
    }
}
