//! The admin endpoint: `/metrics`, `/live`, `/ready`, which show counts and states and never content, and `/tap`, which shows
//! what the node's file consents to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use axum::routing::get;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::names;
use super::readiness::Readiness;
use super::tap::{self, Caller, TapDesk};

/// How often the exporter folds what was recorded since into its totals.
const UPKEEP: Duration = Duration::from_secs(5);

struct Shared {
    metrics: PrometheusHandle,
    readiness: Readiness,
    desk: Arc<TapDesk>,
}

/// The running endpoint; stops when dropped.
pub struct Admin {
    /// Where it listens; the port is real also where 0 was asked for.
    pub address: SocketAddr,
    stop: Arc<Notify>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// Installs the metrics recorder of the process and serves it on a thread of its own, so that a busy pipeline cannot
/// starve the answer.
///
/// # Errors
/// When the address cannot be bound or a recorder is installed already.
pub fn serve(listen: SocketAddr, readiness: Readiness, desk: Arc<TapDesk>) -> anyhow::Result<Admin> {
    let mut builder = PrometheusBuilder::new();
    for (name, bounds) in names::histograms() {
        builder = builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), bounds)?;
    }
    let metrics = builder.install_recorder().context("cannot install the metrics recorder")?;
    names::describe();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = runtime
        .block_on(TcpListener::bind(listen))
        .with_context(|| format!("cannot listen on {listen} (admin.listen)"))?;
    let address = listener.local_addr()?;
    let stop = Arc::new(Notify::new());
    let stopped = stop.clone();
    let shared = Arc::new(Shared { metrics: metrics.clone(), readiness, desk });
    let router = Router::new()
        .route("/metrics", get(scrape))
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready))
        .route("/tap", get(tap))
        .with_state(shared)
        .into_make_service_with_connect_info::<Caller>();
    let thread = std::thread::Builder::new().name("admin".into()).spawn(move || {
        runtime.block_on(async move {
            let upkeep = async {
                loop {
                    tokio::time::sleep(UPKEEP).await;
                    metrics.run_upkeep();
                }
            };
            tokio::select! {
                result = axum::serve(listener, router) => {
                    if let Err(error) = result { tracing::error!(%error, "the admin endpoint has ended"); }
                }
                () = upkeep => {}
                () = stopped.notified() => {}
            }
        });
    })?;
    Ok(Admin { address, stop, thread: Some(thread) })
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the admin thread has panicked");
        }
    }
}

async fn scrape(State(shared): State<Arc<Shared>>) -> String {
    shared.metrics.render()
}

async fn ready(State(shared): State<Arc<Shared>>) -> (StatusCode, String) {
    let (not_ready, degraded) = (shared.readiness.not_ready(), shared.readiness.all_degraded());
    let line = |state: &str, (part, reason): &(String, String)| format!("{state}: {part}: {reason}\n");
    let degraded: String = degraded.iter().map(|degraded| line("degraded", degraded)).collect();
    if not_ready.is_empty() {
        return (StatusCode::OK, format!("ready\n{degraded}"));
    }
    let lines: String = not_ready.iter().map(|not_ready| line("not ready", not_ready)).collect();
    (StatusCode::SERVICE_UNAVAILABLE, lines + &degraded)
}

async fn tap(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    tap::open(&shared.desk, caller, &headers, uri.query().unwrap_or_default())
}
