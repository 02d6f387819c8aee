//! A nats-server of a test's own, and async-nats beside it as anybody would use it: what a stream has is never asked of the
//! bridge.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use async_nats::jetstream;
use futures_util::{FutureExt, StreamExt};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::broker::signal;
use super::root;
use super::wait::wait_until;

const LIFELINE: &str = include_str!("lifeline.sh");
const LIMIT: Duration = Duration::from_secs(60);
/// For one message that the stream is known to have.
const ANSWER: Duration = Duration::from_secs(10);

/// A server with JetStream on a free port. It ends with this value, and also when this process ends by any cause.
pub(crate) struct Nats {
    port: u16,
    more: Vec<String>,
    process: Process,
    folder: TempDir,
    runtime: Runtime,
    client: async_nats::Client,
    streams: jetstream::Context,
}

struct Process {
    /// Ends the server when its standard input ends.
    watchdog: Child,
    lifeline: Option<ChildStdin>,
    /// Of the server.
    pid: u32,
}

/// What `cargo xtask test` names, else what it has built, else what is on the path.
fn program() -> PathBuf {
    let named = std::env::var_os("BRIDGE_TEST_NATS_SERVER").map(PathBuf::from);
    let built = root().join("target/nats/nats-server");
    named.or_else(|| built.is_file().then_some(built)).unwrap_or_else(|| "nats-server".into())
}

impl Nats {
    pub(crate) fn start() -> Self {
        Self::start_with(Vec::new(), async_nats::ConnectOptions::new())
    }

    /// One that has read a configuration file; its address, its monitor's port and its folder are not the file's.
    pub(crate) fn start_configured(file: &Path, monitor: u16) -> Self {
        let more = ["--config", file.to_str().unwrap(), "--http_port", &monitor.to_string()];
        Self::start_with(more.map(str::to_owned).to_vec(), async_nats::ConnectOptions::new())
    }

    /// One that only the user `bridge` with the password `hunter2` may use.
    pub(crate) fn start_guarded() -> Self {
        let options = async_nats::ConnectOptions::with_user_and_password("bridge".into(), "hunter2".into());
        Self::start_with(["--user", "bridge", "--pass", "hunter2"].map(str::to_owned).to_vec(), options)
    }

    fn start_with(more: Vec<String>, options: async_nats::ConnectOptions) -> Self {
        let folder = TempDir::new().unwrap();
        let port = free_port();
        let process = run(port, &more, folder.path());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let client = runtime.block_on(options.connect(format!("nats://127.0.0.1:{port}"))).unwrap();
        let inside = runtime.enter();
        let streams = jetstream::new(client.clone());
        drop(inside);
        Self { port, more, process, folder, runtime, client, streams }
    }

    /// Ends the server as a crash would.
    pub(crate) fn kill9(&mut self) {
        self.signal("KILL");
        self.process.watchdog.wait().unwrap();
    }

    /// Starts a killed server again, with the same address and streams, and waits until it answers.
    pub(crate) fn restart(&mut self) {
        self.process = run(self.port, &self.more, self.folder.path());
    }

    /// `STOP`, `CONT`, ...
    pub(crate) fn signal(&self, name: &str) {
        signal(self.process.pid, name).unwrap();
    }

    /// As `servers` takes it.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// What it says of itself to whoever connects.
    pub(crate) fn info(&self) -> async_nats::ServerInfo {
        self.client.server_info()
    }

    /// A stream of the subject that does what a message tells it: replaces all others by it, or forgets it after a time.
    pub(crate) fn create_stream(&self, name: &str, subject: &str) {
        let config = jetstream::stream::Config {
            name: name.to_owned(),
            subjects: vec![subject.to_owned()],
            allow_rollup: true,
            allow_message_ttl: true,
            ..jetstream::stream::Config::default()
        };
        self.runtime.block_on(self.streams.create_stream(config)).unwrap();
    }

    /// How many messages a stream holds; 0 while there is none.
    pub(crate) fn count(&self, stream: &str) -> u64 {
        let info = self.runtime.block_on(async {
            self.streams.get_stream(stream).await?.get_info().await.map_err(|error| std::io::Error::other(error).into())
        });
        let info: Result<_, Box<dyn std::error::Error>> = info;
        info.map_or(0, |info| info.state.messages)
    }

    /// The message at a place of a stream, from 1.
    pub(crate) fn message(&self, stream: &str, sequence: u64) -> jetstream::message::StreamMessage {
        let asked = async { self.streams.get_stream(stream).await.unwrap().get_raw_message(sequence).await.unwrap() };
        self.runtime.block_on(async { tokio::time::timeout(ANSWER, asked).await.unwrap() })
    }

    /// What the server knows of a consumer.
    pub(crate) fn consumer(&self, stream: &str, name: &str) -> jetstream::consumer::Info {
        self.runtime
            .block_on(async { self.streams.get_stream(stream).await.unwrap().consumer_info(name).await.unwrap() })
    }

    /// How many consumers a stream has; none where there is no stream.
    pub(crate) fn consumers(&self, stream: &str) -> Option<usize> {
        self.runtime.block_on(async {
            let info = self.streams.get_stream(stream).await.ok()?.get_info().await.ok()?;
            Some(info.state.consumer_count)
        })
    }

    pub(crate) fn publish(&self, subject: &str, value: &str) {
        self.runtime.block_on(async {
            self.client.publish(subject.to_owned(), value.to_owned().into()).await.unwrap();
            self.client.flush().await.unwrap();
        });
    }

    /// Publishes, and says whether a stream has taken it: not where no stream has the subject yet.
    pub(crate) fn store(&self, subject: &str, headers: &[(&str, &str)], value: &[u8]) -> bool {
        let mut map = async_nats::HeaderMap::new();
        headers.iter().for_each(|(name, value)| map.append(*name, *value));
        let (subject, value) = (subject.to_owned(), value.to_vec().into());
        self.runtime.block_on(async {
            let sent = self.streams.publish_with_headers(subject, map, value).await.unwrap();
            sent.await.is_ok()
        })
    }

    pub(crate) fn subscribe(&self, subject: &str) -> async_nats::Subscriber {
        self.runtime.block_on(async {
            let subscriber = self.client.subscribe(subject.to_owned()).await.unwrap();
            self.client.flush().await.unwrap();
            subscriber
        })
    }

    /// A message that has come already.
    pub(crate) fn come(&self, subscriber: &mut async_nats::Subscriber) -> Option<async_nats::Message> {
        let _inside = self.runtime.enter();
        subscriber.next().now_or_never().flatten()
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            eprintln!("the server's log:\n{log}");
        }
        drop(self.process.lifeline.take());
        drop(self.process.watchdog.wait());
    }
}

/// A port of 127.0.0.1 that nobody has at this moment, for programs that take no port 0.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// A server that answers.
fn run(port: u16, more: &[String], folder: &Path) -> Process {
    let mut watchdog = Command::new("sh")
        .args(["-c", LIFELINE, "lifeline"])
        .arg(program())
        .args(["--jetstream", "--addr", "127.0.0.1", "--port", &port.to_string()])
        .args(more)
        .arg("--store_dir")
        .arg(folder.join("store"))
        .env("LIFELINE_LOG", folder.join("log"))
        .env("LIFELINE_FOLDER", folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    let (lifeline, stdout) = (watchdog.stdin.take(), watchdog.stdout.take().unwrap());
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    let pid = line.trim().parse().unwrap();
    let answers = || {
        let Ok(stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return false };
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).is_ok_and(|_| line.starts_with("INFO"))
    };
    let mut ended = None;
    let started = wait_until(LIMIT, || {
        ended = watchdog.try_wait().unwrap();
        ended.is_some() || answers()
    });
    assert!(
        started && ended.is_none(),
        "{} does not answer; type: cargo xtask test brokers\n{}",
        program().display(),
        std::fs::read_to_string(folder.join("log")).unwrap_or_default()
    );
    Process { watchdog, lifeline, pid }
}
