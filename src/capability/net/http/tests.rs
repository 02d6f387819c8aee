//! Against servers on loopback that say exactly what a test wants.

mod bounds;
mod dials;
mod ends;
mod held;
mod refused;
mod reuse;
mod secure;
mod server;
mod speed;
mod waits;
mod wasi;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use portcullis_audit::Scope;
use portcullis_policy::RuleText;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use self::server::{Server, until};
use super::HttpGuest;
use super::failure::Failure;
use super::sender::Outgoing;
use crate::egress::{Egress, NetLimits, Settings};
use crate::gate::Gate;
use crate::quota::{Budget, BudgetLimits};
use crate::support::{Bench, limits};

/// Where nobody listens: names are asked for nowhere.
const NO_SERVER: &str = "127.0.0.1:9";

/// One instance of a plugin.
struct Client {
    guest: HttpGuest,
    gate: Gate,
    /// Above the plugin: counts its connections and limits nothing.
    node: Arc<Budget>,
}

type Answer = Result<http::Response<WasiBody>, Failure>;

impl Client {
    fn of(egress: &Arc<Egress>) -> Self {
        let node = Arc::clone(egress.settings().parents.first().unwrap());
        Self { guest: HttpGuest::new(Some(&egress.http)), gate: Gate::new(Some(Arc::clone(egress))), node }
    }

    fn rules(rules: &[RuleText<'_>]) -> (Self, Bench) {
        Self::asking(rules, NO_SERVER.parse().unwrap(), limits())
    }

    fn asking(rules: &[RuleText<'_>], names: SocketAddr, limits: NetLimits) -> (Self, Bench) {
        let node = Budget::new(Scope::Node, BudgetLimits::default());
        let bench = Bench::new(rules, names, limits, vec![node]);
        (Self::of(&bench.egress), bench)
    }

    /// With one rule for all of a server.
    fn to(server: &Server) -> (Self, Bench) {
        let allow = format!("http://{}", server.address);
        Self::rules(&[crate::support::rule(&allow)])
    }

    async fn send(&self, outgoing: Outgoing) -> Answer {
        self.send_with(outgoing, RequestOptions::default()).await
    }

    async fn send_with(&self, outgoing: Outgoing, options: RequestOptions) -> Answer {
        self.guest.ask(&self.gate, outgoing, options)?.run().await
    }

    async fn no_connection_is_left(&self) {
        until("every slot is given back", || self.node.open() == 0).await;
    }

    /// The guest's code.
    async fn code(&self, outgoing: Outgoing) -> &'static str {
        self.send(outgoing).await.unwrap_err().code.as_str()
    }
}

fn get(address: SocketAddr, path: &str) -> Outgoing {
    Outgoing {
        method: "GET".to_owned(),
        scheme: "http".to_owned(),
        authority: address.to_string(),
        path: path.to_owned(),
        headers: HeaderMap::new(),
        body: None,
    }
}

fn post(address: SocketAddr, body: WasiBody) -> Outgoing {
    Outgoing { method: "POST".to_owned(), body: Some(body), ..get(address, "/v1/in") }
}

fn full(bytes: &[u8]) -> WasiBody {
    Full::new(Bytes::copy_from_slice(bytes)).map_err(|never| match never {}).boxed_unsync()
}

/// A body that the guest never ends.
struct Never;

impl http_body::Body for Never {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Poll::Pending
    }
}

fn header(mut outgoing: Outgoing, name: &'static str, value: &str) -> Outgoing {
    outgoing.headers.append(name, value.parse().unwrap());
    outgoing
}

/// The body, or the code of the error that it ended with.
async fn body(answer: http::Response<WasiBody>) -> Result<String, Error> {
    Ok(String::from_utf8(answer.into_body().collect().await?.to_bytes().to_vec()).unwrap())
}

fn options(millis: u64) -> RequestOptions {
    let time = Some(Duration::from_millis(millis));
    RequestOptions { connect_timeout: time, first_byte_timeout: time, between_bytes_timeout: time }
}

/// Another plugin with these settings: an egress is one plugin's. All that it records goes to the same store.
fn with(bench: &Bench, change: impl FnOnce(&mut Settings)) -> Arc<Egress> {
    let of = bench.egress.settings();
    let mut settings = Settings {
        policy: Arc::clone(&of.policy),
        rule_tls: Vec::new(),
        secrets: Vec::new(),
        roots: Arc::clone(&of.roots),
        limits: of.limits,
        parents: of.parents.clone(),
        actor: of.actor.clone(),
        recorder: of.recorder.clone(),
        mode: of.mode,
        resolver: Arc::clone(&of.resolver),
        tenant: Arc::clone(&of.tenant),
    };
    change(&mut settings);
    Egress::new(settings, crate::Effects::Real)
}
