//! One Apache Kafka node, run with plain `java` from its Maven artifacts on free loopback ports.
//!
//! Only the standard library is used, because xtask includes this file too: the broker that `cargo xtask kafka` starts
//! by hand is the one that the tests start.

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::wait::{wait_for, wait_until};

const POM: &str = include_str!("../brokers/kafka/pom.xml");
const PROPERTIES: &str = include_str!("../brokers/kafka/server.properties");
const LIFELINE: &str = include_str!("lifeline.sh");

/// Any 16 bytes in base64 do; a fixed one saves a second of `random-uuid` for each start.
const CLUSTER_ID: &str = "cG9ydGN1bGxpcy10ZXN0cw";
/// Written by the broker as its last step: every listener answers and the node is not fenced any more.
const STARTED: &str = "Kafka Server started";
/// A start takes 3 s on an idle machine; a loaded one with two cores is given forty times that.
const START_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// Another program can take a port between our look and the broker's bind.
const START_ATTEMPTS: u32 = 3;
/// Below the range of outgoing connections: a client that reconnects to a stopped broker could be given the broker's own
/// port as its local one, connect to itself, and keep the broker from coming back.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// The version of Kafka that the pom names.
pub(crate) fn kafka_version() -> io::Result<&'static str> {
    POM.split_once("<kafka.version>")
        .and_then(|(_, rest)| rest.split_once("</kafka.version>"))
        .map(|(version, _)| version)
        .ok_or_else(|| io::Error::other("tests/brokers/kafka/pom.xml has no kafka.version"))
}

/// A Kafka node with a folder of its own. It ends with this value, and also when this process ends by any cause.
#[derive(Debug)]
pub(crate) struct Broker {
    libs: PathBuf,
    folder: PathBuf,
    port: u16,
    sasl_port: u16,
    /// Properties behind the usual ones.
    more: String,
    process: Option<Process>,
}

#[derive(Debug)]
struct Process {
    watchdog: Child,
    pid: u32,
    /// Held, never written: see `lifeline.sh`.
    _lifeline: ChildStdin,
}

impl Broker {
    /// Starts a node and waits until it answers. `libs` holds the jars; `port` fixes the clients' port, else a free one is taken.
    pub(crate) fn start(libs: &Path, port: Option<u16>) -> io::Result<Self> {
        Self::start_with(libs, port, "")
    }

    /// The same with more properties; `{{port}}` and `{{sasl_port}}` are filled in.
    pub(crate) fn start_with(libs: &Path, port: Option<u16>, more: &str) -> io::Result<Self> {
        let mut attempt = 1;
        loop {
            let free = match port {
                Some(port) => port,
                None => free_port()?,
            };
            // From here on a failure drops the value, which ends the process and removes the folder.
            let mut broker = Self {
                libs: libs.to_owned(),
                folder: new_folder()?,
                port: free,
                sasl_port: free_port()?,
                more: more.to_owned(),
                process: None,
            };
            match broker.format_and_run() {
                Ok(()) => return Ok(broker),
                Err(error) if error.kind() == ErrorKind::AddrInUse && port.is_none() && attempt < START_ATTEMPTS => {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// `host:port` for clients.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `host:port` of the listener that takes user `bridge` with password `right` and nobody else (SASL PLAIN).
    pub(crate) fn sasl_address(&self) -> String {
        format!("127.0.0.1:{}", self.sasl_port)
    }

    /// The process id of the Java process, while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(|process| process.pid)
    }

    /// Ends the node as a power cut would.
    pub(crate) fn kill9(&mut self) -> io::Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        signal(process.pid, "KILL")?;
        process.watchdog.wait().map(drop)
    }

    /// Ends the node in order (SIGTERM); with SIGKILL when that takes longer than 30 s, which is an error.
    pub(crate) fn stop(&mut self) -> io::Result<()> {
        let Some(process) = self.process.as_mut() else { return Ok(()) };
        signal(process.pid, "TERM")?;
        let ended = wait_until(STOP_LIMIT, || !matches!(process.watchdog.try_wait(), Ok(None)));
        if ended {
            self.process = None;
            return Ok(());
        }
        self.kill9()?;
        Err(io::Error::new(ErrorKind::TimedOut, format!("the broker did not stop within {} s", STOP_LIMIT.as_secs())))
    }

    /// Starts a node that was stopped or killed, with the same address and the same data.
    pub(crate) fn restart(&mut self) -> io::Result<()> {
        self.stop()?;
        self.run()
    }

    /// Waits until the node ends by itself.
    pub(crate) fn wait(&mut self) -> io::Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        process.watchdog.wait().map(drop)
    }

    /// The end of the node's log, for the message of a failed test.
    pub(crate) fn log_tail(&self) -> String {
        const LINES: usize = 30;
        let text = self.log();
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default().join("\n")
    }

    fn format_and_run(&mut self) -> io::Result<()> {
        let properties = format!("{PROPERTIES}\n{}\n", self.more)
            .replace("{{port}}", &self.port.to_string())
            .replace("{{sasl_port}}", &self.sasl_port.to_string())
            .replace("{{controller_port}}", &free_port()?.to_string())
            .replace("{{data}}", &self.folder.join("data").to_string_lossy());
        fs::write(self.properties(), properties)?;
        let format = self
            .java()
            .args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"])
            .arg(self.properties())
            .stdin(Stdio::null())
            .output()
            .map_err(|error| io::Error::new(error.kind(), format!("java (17 or newer): {error}")))?;
        if !format.status.success() {
            let text = String::from_utf8_lossy(&format.stderr);
            return Err(io::Error::other(format!("kafka.tools.StorageTool format: {}\n{text}", format.status)));
        }
        self.run()
    }

    fn run(&mut self) -> io::Result<()> {
        // A fresh log, so that the line of an earlier start is not taken for this one's.
        File::create(self.log_file())?;
        let mut java = self.java();
        java.arg("kafka.Kafka").arg(self.properties());
        self.process = Some(self.spawn(&java)?);
        let outcome = wait_for(START_LIMIT, || {
            if self.log().contains(STARTED) && TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok() {
                return Some(Ok(()));
            }
            self.has_ended().then(|| Err(self.start_error("the broker ended while it started")))
        });
        outcome.unwrap_or_else(|| Err(self.start_error("the broker does not answer after 120 s")))
    }

    /// A process group of its own keeps a Ctrl-C from the watchdog, which has to outlive us for a moment.
    fn spawn(&self, java: &Command) -> io::Result<Process> {
        let mut watchdog = Command::new("sh")
            .args(["-c", LIFELINE, "lifeline"])
            .arg(java.get_program())
            .args(java.get_args())
            .env("LIFELINE_LOG", self.log_file())
            .env("LIFELINE_FOLDER", &self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // The shell would report a killed node here; its own log says more.
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let (Some(lifeline), Some(stdout)) = (watchdog.stdin.take(), watchdog.stdout.take()) else {
            return Err(io::Error::other("the watchdog has no pipes"));
        };
        let mut line = String::new();
        BufReader::new(stdout.take(64)).read_line(&mut line)?;
        let pid =
            line.trim().parse().map_err(|_| io::Error::other(format!("the watchdog said `{line}`, not a pid")))?;
        Ok(Process { watchdog, pid, _lifeline: lifeline })
    }

    fn has_ended(&mut self) -> bool {
        self.process.as_mut().is_none_or(|process| !matches!(process.watchdog.try_wait(), Ok(None)))
    }

    fn start_error(&self, what: &str) -> io::Error {
        let in_use = self.log().contains("Address already in use");
        let kind = if in_use { ErrorKind::AddrInUse } else { ErrorKind::Other };
        io::Error::new(kind, format!("{what} (port {})\n{}", self.port, self.log_tail()))
    }

    /// The heap is fixed: by default Java takes a quarter of the machine, and tests start several nodes.
    fn java(&self) -> Command {
        let mut java = Command::new("java");
        java.args(["-Xms384m", "-Xmx768m", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError", "-cp"]);
        java.arg(self.libs.join("*"));
        java
    }

    fn properties(&self) -> PathBuf {
        self.folder.join("server.properties")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join("broker.log")
    }

    fn log(&self) -> String {
        fs::read(self.log_file()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Nobody is left to report to; the watchdog ends what is still there.
        drop(self.kill9());
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// Sends a signal (`TERM`, `KILL`, `STOP`, ...) to one process. The shell's own `kill`, since small images have no other.
pub(crate) fn signal(pid: u32, name: &str) -> io::Result<()> {
    let status = Command::new("sh").args(["-c", "kill -s \"$1\" \"$2\"", "sh", name, &pid.to_string()]).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("kill -s {name} {pid}: {status}"))) }
}

/// Starts looking at a place that differs between processes, so that two test runs seldom try the same port.
fn free_port() -> io::Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let width = u32::from(PORTS.end - PORTS.start);
    let origin = std::process::id().wrapping_mul(7919);
    for _ in 0..width {
        let place = origin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % width;
        let port = PORTS.start + u16::try_from(place).unwrap_or_default();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(io::Error::new(ErrorKind::AddrInUse, format!("no free port in {PORTS:?}")))
}

/// A new folder that only this user can enter.
fn new_folder() -> io::Result<PathBuf> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("portcullis-kafka-{}-{number}-{nanos}", std::process::id()));
    DirBuilder::new().mode(0o700).create(&folder)?;
    Ok(folder)
}
