//! A plugin that asks an HTTP server which answers after 20 ms, for every message: how near the bridge comes to
//! `concurrency / latency`, and whether the order is kept; then one at a time with an answer at once, for what a granted call
//! costs beside a plain one. The server's own clock is the truth; a plain client with as many
//! connections asks the same server in turns.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use clap::Parser;
use portcullis_bench::table::{self, median};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[derive(Parser)]
struct Arguments {
    /// Messages a round.
    #[arg(long, default_value_t = 2000)]
    count: usize,
    /// Instances that wait at once.
    #[arg(long, default_value_t = 8)]
    concurrency: usize,
    /// What the server takes for an answer, in milliseconds.
    #[arg(long, default_value_t = 20)]
    latency_ms: u64,
    /// Rounds; each contestant runs once a round.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The bridge's binary.
    #[arg(long, default_value = "target/release/portcullis")]
    portcullis: PathBuf,
    /// Where the guests are.
    #[arg(long, default_value = "target/guests")]
    guests: PathBuf,
    /// Where the JSON result goes.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// When the requests of a round came.
#[derive(Default)]
struct Arrivals {
    requests: AtomicU64,
    /// Nanoseconds since the server's start, of the first request and of the last answer; zero for none yet.
    first_ns: AtomicU64,
    last_ns: AtomicU64,
}

struct Server {
    port: u16,
    arrivals: Arc<Arrivals>,
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    fn start(latency: Duration) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let port = listener.local_addr()?.port();
        let arrivals = Arc::new(Arrivals::default());
        let begun = Instant::now();
        let answer = move |State(arrivals): State<Arc<Arrivals>>| async move {
            let now = || u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
            if arrivals.requests.fetch_add(1, Ordering::SeqCst) == 0 {
                arrivals.first_ns.store(now(), Ordering::SeqCst);
            }
            // The timer's shortest sleep is a millisecond.
            if !latency.is_zero() {
                tokio::time::sleep(latency).await;
            }
            arrivals.last_ns.fetch_max(now(), Ordering::SeqCst);
            "ok"
        };
        let router = Router::new().route("/", get(answer)).with_state(arrivals.clone());
        runtime.spawn(async move { axum::serve(listener, router).await });
        Ok(Self { port, arrivals, _runtime: runtime })
    }

    /// Requests a second since the last look, and begins anew.
    fn rate(&self, expected: usize) -> Result<f64> {
        let requests = self.arrivals.requests.swap(0, Ordering::SeqCst);
        let first = self.arrivals.first_ns.swap(0, Ordering::SeqCst);
        let last = self.arrivals.last_ns.swap(0, Ordering::SeqCst);
        ensure!(requests == expected as u64, "{requests} requests came, {expected} were expected");
        Ok(requests as f64 / Duration::from_nanos(last - first).as_secs_f64())
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let latency = Duration::from_millis(arguments.latency_ms);
    let ideal = arguments.concurrency as f64 / latency.as_secs_f64();
    let many = alternate(&arguments, latency, arguments.concurrency)?;
    let (client, bridge) = (each(&many.client, |rate| rate / ideal), each(&many.bridge, |rate| rate / ideal));
    println!(
        "| contestant | of concurrency / latency ({} / {} ms) |\n|---|---|",
        arguments.concurrency, arguments.latency_ms
    );
    println!(
        "| plain client | {:.2} |\n| bridge with a plugin that asks | {:.2} |\n",
        median(&client),
        median(&bridge)
    );
    let one = alternate(&arguments, Duration::ZERO, 1)?;
    let (client_us, bridge_us) = (each(&one.client, |rate| 1e6 / rate), each(&one.bridge, |rate| 1e6 / rate));
    println!("| contestant | us from request to request, one at a time, an answer at once |\n|---|---|");
    println!(
        "| plain client | {:.0} |\n| bridge with a plugin that asks | {:.0} |",
        median(&client_us),
        median(&bridge_us)
    );
    let result = json!({
        "bench": "net", "messages": arguments.count, "concurrency": arguments.concurrency,
        "latency_ms": arguments.latency_ms, "client": client, "bridge": bridge,
        "client_alone_us": client_us, "bridge_alone_us": bridge_us,
    });
    table::write_json(arguments.json.as_deref(), &result)
}

/// Requests a second of each round.
#[derive(Default)]
struct Rates {
    client: Vec<f64>,
    bridge: Vec<f64>,
}

/// Both in turns against a server that takes `latency` for an answer, with so many requests at once.
fn alternate(arguments: &Arguments, latency: Duration, concurrency: usize) -> Result<Rates> {
    let server = Server::start(latency)?;
    let mut rates = Rates::default();
    for round in 0..arguments.rounds {
        run_client(arguments.count, concurrency, server.port)?;
        rates.client.push(server.rate(arguments.count)?);
        run_bridge(arguments, concurrency, server.port)?;
        rates.bridge.push(server.rate(arguments.count)?);
        let of = |rates: &[f64]| rates.last().copied().unwrap_or(f64::NAN);
        eprintln!(
            "round {round}, {concurrency} at once: {:.0} requests a second of the client, {:.0} of the bridge",
            of(&rates.client),
            of(&rates.bridge)
        );
    }
    Ok(rates)
}

fn each(rates: &[f64], change: impl Fn(f64) -> f64) -> Vec<f64> {
    rates.iter().copied().map(change).collect()
}

/// As many connections as the plugin has instances, each with one request after the other.
fn run_client(count: usize, concurrency: usize, port: u16) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let left = Arc::new(AtomicU64::new(count as u64));
        let mut tasks = Vec::new();
        for _ in 0..concurrency {
            let left = left.clone();
            tasks.push(tokio::spawn(async move {
                let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
                let mut buffer = vec![0; 4096];
                while left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
                    stream.write_all(b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").await?;
                    let mut answer = Vec::new();
                    while !answer.ends_with(b"\r\n\r\nok") {
                        let read = stream.read(&mut buffer).await?;
                        ensure!(read > 0, "the server has closed");
                        answer.extend_from_slice(buffer.get(..read).unwrap_or_default());
                    }
                }
                anyhow::Ok(())
            }));
        }
        for task in tasks {
            task.await??;
        }
        Ok(())
    })
}

fn run_bridge(arguments: &Arguments, concurrency: usize, port: u16) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let message = |number: usize| {
        let value = json!({ "ops": [{
            "op": "http", "method": "GET", "scheme": "http", "authority": format!("127.0.0.1:{port}"), "path": "/"
        }] });
        json!({ "key": format!("k{}", number % 97), "value": value.to_string(), "headers": [["number", number.to_string()]] })
    };
    let lines: Vec<String> = (0..arguments.count).map(|number| message(number).to_string()).collect();
    std::fs::write(folder.path().join("in.jsonl"), lines.join("\n") + "\n")?;
    let guests = arguments.guests.canonicalize().context("the guests are missing: cargo xtask guests")?;
    let pipeline = format!(
        r#"
pipeline: bench
order: partition
lanes: 1
source: {{ file: {{ path: in.jsonl }} }}
plugins:
  - name: asks
    component: {}
    grants: {{ egress: ["http://127.0.0.1:{port}"], clock: precise, random: true }}
    limits: {{ concurrency: {concurrency}, connections: {concurrency}, connects: 1000/s }}
sink: {{ file: {{ path: out.jsonl }} }}
"#,
        guests.join("probe.wasm").display(),
    );
    std::fs::write(folder.path().join("pipeline.yaml"), pipeline)?;
    let node = format!(
        "audit: {{ file: audit.jsonl }}\nadmin: {{ listen: \"127.0.0.1:0\" }}\negress: {{ consent: [\"127.0.0.0/8\"] }}\npipelines_may_name: {{ files: [\"{}/**\"] }}\n",
        guests.display()
    );
    std::fs::write(folder.path().join("portcullis.yaml"), node)?;
    let program = arguments.portcullis.canonicalize().context("the bridge is missing: cargo build --release")?;
    let log = std::fs::File::create(folder.path().join("log"))?;
    let status = Command::new(program)
        .args(["run", "pipeline.yaml"])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .status()?;
    if !status.success() {
        bail!("the bridge ended with {status}:\n{}", std::fs::read_to_string(folder.path().join("log"))?);
    }
    in_order(folder.path(), arguments.count)
}

/// Every message is in the sink, in the order of the source, with a successful answer.
fn in_order(folder: &Path, count: usize) -> Result<()> {
    let text = std::fs::read_to_string(folder.join("out.jsonl"))?;
    let mut expected = 0;
    for line in text.lines() {
        let message: Value = serde_json::from_str(line)?;
        let number = message.pointer("/headers/0/1").and_then(Value::as_str).unwrap_or_default();
        ensure!(number == expected.to_string(), "message {number} came where {expected} was expected");
        let value: Value = serde_json::from_str(message.get("value").and_then(Value::as_str).unwrap_or_default())?;
        let ok = value.pointer("/results/0/ok").and_then(Value::as_bool);
        ensure!(ok == Some(true), "message {number} was not answered: {value}");
        expected += 1;
    }
    ensure!(expected == count, "{expected} messages of {count} are in the sink");
    Ok(())
}
