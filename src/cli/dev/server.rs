//! A small HTTP server for plugins that ask one: `<pipeline>.server.json` beside the pipeline says what it answers and which
//! variable of the pipeline file gets its address. It stands in for somebody's API while developing, and only then.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context, bail};
use axum::Router;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::IntoResponse;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::Notify;

/// The largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// What the server is told.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    /// The variable that becomes `http://HOST:PORT`.
    variable: String,
    /// By `METHOD /path`; everything else is answered with 404.
    responses: BTreeMap<String, Response>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Response {
    #[serde(default = "ok")]
    status: u16,
    json: serde_json::Value,
}

fn ok() -> u16 {
    200
}

/// The running server; ends when dropped.
pub(super) struct Server {
    /// Where it listens.
    pub(super) address: SocketAddr,
    /// The variable of the pipeline file that gets [`origin`](Self::origin).
    pub(super) variable: String,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts it where the file is there.
    pub(super) fn beside(pipeline: &Path) -> anyhow::Result<Option<Self>> {
        let path = pipeline.with_extension("server.json");
        if !path.is_file() {
            return Ok(None);
        }
        let context = || format!("{}", path.display());
        let bytes = portcullis_config::read_file(&path, MAX_FILE_BYTES).with_context(context)?;
        let script: Script = serde_json::from_slice(&bytes)
            .with_context(|| format!("{}: not the description of a server", path.display()))?;
        for (request, response) in &script.responses {
            let is_request =
                request.split_once(' ').is_some_and(|(method, path)| !method.is_empty() && path.starts_with('/'));
            if !is_request || StatusCode::from_u16(response.status).is_err() {
                bail!(
                    "{}: `{request}` is no response: allowed is \"METHOD /path\" with a status of 100-999",
                    path.display()
                );
            }
        }
        Self::start(script).map(Some)
    }

    fn start(script: Script) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let stop = Arc::new(Notify::new());
        let stopped = stop.clone();
        let router = Router::new().fallback(answer).with_state(Arc::new(script.responses));
        let thread = std::thread::Builder::new().name("dev-server".into()).spawn(move || {
            runtime.block_on(async move {
                tokio::select! {
                    result = axum::serve(listener, router) => {
                        if let Err(error) = result { tracing::error!(%error, "the development server has ended"); }
                    }
                    () = stopped.notified() => {}
                }
            });
        })?;
        Ok(Self { address, variable: script.variable, stop, thread: Some(thread) })
    }

    /// `http://HOST:PORT`.
    pub(super) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the development server has panicked");
        }
    }
}

async fn answer(
    State(responses): State<Arc<BTreeMap<String, Response>>>,
    method: Method,
    uri: Uri,
) -> impl IntoResponse {
    let json = [(header::CONTENT_TYPE, "application/json")];
    match responses.get(&format!("{method} {}", uri.path())) {
        Some(response) => {
            let status = StatusCode::from_u16(response.status).unwrap_or(StatusCode::OK);
            (status, json, response.json.to_string())
        }
        None => (StatusCode::NOT_FOUND, json, r#"{"error":"not found"}"#.to_owned()),
    }
}
