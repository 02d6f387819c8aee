//! A nats-server of the bench's own, and what its streams hold.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, Context};
use portcullis_connector_api::Bytes;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// Ends the server whichever way this process ends.
const LIFELINE: &str = include_str!("../../support/lifeline.sh");
const START: Duration = Duration::from_secs(30);
/// Messages of a fill that the server has not confirmed.
const UNCONFIRMED: usize = 1024;
/// Subjects of a filled stream: they are the keys, as many as a stream is made for.
const SUBJECTS: u64 = 1000;

/// A server with JetStream on a free port.
#[derive(Debug)]
pub struct Nats {
    url: String,
    runtime: Runtime,
    streams: Context,
    watchdog: Child,
    _folder: TempDir,
}

impl Nats {
    /// Starts `program` and waits until it answers.
    ///
    /// # Errors
    /// When it does not.
    pub fn start(program: &Path) -> Result<Self> {
        let folder = TempDir::new()?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let watchdog = Command::new("sh")
            .args(["-c", LIFELINE, "lifeline"])
            .arg(program)
            .args(["--jetstream", "--addr", "127.0.0.1", "--port", &port.to_string()])
            .arg("--store_dir")
            .arg(folder.path().join("store"))
            .env("LIFELINE_LOG", folder.path().join("log"))
            .env("LIFELINE_FOLDER", folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let deadline = Instant::now() + START;
        while !answers(port) {
            if Instant::now() > deadline {
                bail!("{} does not answer within {} s", program.display(), START.as_secs());
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        let url = format!("nats://127.0.0.1:{port}");
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let connected = runtime.block_on(async { anyhow::Ok(jetstream::new(async_nats::connect(&url).await?)) });
        Ok(Self { streams: connected?, url, runtime, watchdog, _folder: folder })
    }

    /// As `servers` takes it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Makes a stream on disk that takes `NAME.>` and `NAME`.
    ///
    /// # Errors
    /// When the server refuses it.
    pub fn create(&self, name: &str) -> Result<()> {
        let subjects = vec![name.to_owned(), format!("{name}.>")];
        let config = jetstream::stream::Config { name: name.to_owned(), subjects, ..Default::default() };
        self.runtime.block_on(self.streams.create_stream(config))?;
        Ok(())
    }

    /// Deletes a stream.
    ///
    /// # Errors
    /// When the server refuses it.
    pub fn delete(&self, name: &str) -> Result<()> {
        self.runtime.block_on(self.streams.delete_stream(name))?;
        Ok(())
    }

    /// How many messages a stream holds.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn count(&self, name: &str) -> Result<u64> {
        let asked = async {
            let stream = self.streams.get_stream(name).await?;
            anyhow::Ok(stream.cached_info().state.messages)
        };
        self.runtime.block_on(asked)
    }

    /// Publishes `count` messages of `value_bytes` and waits until the stream has them.
    ///
    /// # Errors
    /// When one is not taken.
    pub fn fill(&self, name: &str, count: u64, value_bytes: usize) -> Result<()> {
        let value = Bytes::from(vec![b'x'; value_bytes]);
        let subject = |number: u64| format!("{name}.key-{:08}", number % SUBJECTS);
        self.runtime.block_on(async {
            let mut unconfirmed = Vec::with_capacity(UNCONFIRMED);
            for number in 0..count {
                let message = PublishMessage::build().payload(value.clone());
                unconfirmed.push(self.streams.send_publish(subject(number), message).await?);
                if unconfirmed.len() == UNCONFIRMED || number + 1 == count {
                    for confirmation in unconfirmed.drain(..) {
                        confirmation.await?;
                    }
                }
            }
            anyhow::Ok(())
        })?;
        let there = self.count(name)?;
        if there != count {
            bail!("the stream {name} holds {there} messages, {count} were published");
        }
        Ok(())
    }

    /// Forgets a consumer, so that the server keeps no state of rounds that are over.
    ///
    /// # Errors
    /// When the server refuses it.
    pub fn delete_consumer(&self, stream: &str, name: &str) -> Result<()> {
        let asked = async {
            let stream = self.streams.get_stream_no_info(stream).await?;
            anyhow::Ok(stream.delete_consumer(name).await?)
        };
        self.runtime.block_on(asked).context("the consumer of the round")?;
        Ok(())
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        // The watchdog kills the server when its standard input ends.
        drop(self.watchdog.stdin.take());
        drop(self.watchdog.wait());
    }
}

fn answers(port: u16) -> bool {
    let Ok(stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return false };
    let mut line = String::new();
    stream.set_read_timeout(Some(Duration::from_secs(1))).is_ok()
        && BufReader::new(stream).read_line(&mut line).is_ok_and(|_| line.starts_with("INFO"))
}
