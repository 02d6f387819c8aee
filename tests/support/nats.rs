//! A nats-server of a test's own, and async-nats beside it as anybody would use it: what a stream has is never asked of the
//! bridge.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use async_nats::jetstream;
use futures_util::{FutureExt, StreamExt};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::root;
use super::wait::wait_until;

const LIFELINE: &str = include_str!("lifeline.sh");
const LIMIT: Duration = Duration::from_secs(60);
/// For one message that the stream is known to have.
const ANSWER: Duration = Duration::from_secs(10);

/// A server with JetStream on a free port. It ends with this value, and also when this process ends by any cause.
pub(crate) struct Nats {
    port: u16,
    watchdog: Child,
    folder: TempDir,
    runtime: Runtime,
    client: async_nats::Client,
    streams: jetstream::Context,
}

/// What `cargo xtask test` names, else what it has built, else what is on the path.
fn program() -> PathBuf {
    let named = std::env::var_os("BRIDGE_TEST_NATS_SERVER").map(PathBuf::from);
    let built = root().join("target/nats/nats-server");
    named.or_else(|| built.is_file().then_some(built)).unwrap_or_else(|| "nats-server".into())
}

impl Nats {
    pub(crate) fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let mut watchdog = Command::new("sh")
            .args(["-c", LIFELINE, "lifeline"])
            .arg(program())
            .args(["--jetstream", "--addr", "127.0.0.1", "--port", &port.to_string()])
            .arg("--store_dir")
            .arg(folder.path().join("store"))
            .env("LIFELINE_LOG", folder.path().join("log"))
            .env("LIFELINE_FOLDER", folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let log = || std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
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
            log()
        );
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let client = runtime.block_on(async_nats::connect(format!("nats://127.0.0.1:{port}"))).unwrap();
        let inside = runtime.enter();
        let streams = jetstream::new(client.clone());
        drop(inside);
        Self { port, watchdog, folder, runtime, client, streams }
    }

    /// As `servers` takes it.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
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

    pub(crate) fn publish(&self, subject: &str, value: &str) {
        self.runtime.block_on(async {
            self.client.publish(subject.to_owned(), value.to_owned().into()).await.unwrap();
            self.client.flush().await.unwrap();
        });
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
        // The watchdog kills the server when its standard input ends.
        drop(self.watchdog.stdin.take());
        drop(self.watchdog.wait());
    }
}
