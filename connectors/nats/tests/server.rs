//! A nats-server of a test's own: on a free port of this machine, in a temporary folder, ended with the test.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use portcullis_connector_nats::Connection;
use tempfile::TempDir;

use crate::support::eventually;

pub(crate) struct Server {
    process: Option<Child>,
    pub(crate) port: u16,
    folder: TempDir,
    settings: String,
}

/// The program: `BRIDGE_TEST_NATS_SERVER`, else what is on the path.
fn program() -> String {
    std::env::var("BRIDGE_TEST_NATS_SERVER").unwrap_or_else(|_| "nats-server".to_owned())
}

impl Server {
    /// With JetStream.
    pub(crate) fn start() -> Self {
        Self::with("jetstream { store_dir: \"FOLDER/store\" }")
    }

    /// With these lines in its settings; `FOLDER` is the folder of this server.
    pub(crate) fn with(settings: &str) -> Self {
        Self::within(tempfile::tempdir().unwrap(), settings)
    }

    /// In a folder with files that its settings name.
    pub(crate) fn within(folder: TempDir, settings: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings = settings.replace("FOLDER", folder.path().to_str().unwrap());
        let mut server = Self { process: None, port, folder, settings };
        server.run();
        server
    }

    /// Other lines for the next start.
    pub(crate) fn set(&mut self, settings: &str) {
        self.settings = settings.replace("FOLDER", self.folder.path().to_str().unwrap());
    }

    /// Starts the process and waits until it answers.
    pub(crate) fn run(&mut self) {
        let file = self.folder.path().join("server.conf");
        let text = format!("listen: \"127.0.0.1:{}\"\n{}\n", self.port, self.settings);
        std::fs::write(&file, text).unwrap();
        let log = std::fs::File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let started = Command::new(program()).arg("-c").arg(&file).stdout(Stdio::null()).stderr(log).spawn();
        self.process = Some(started.expect("needs nats-server on the path, or its path in BRIDGE_TEST_NATS_SERVER"));
        eventually("the server answers", || self.answers());
    }

    fn answers(&self) -> bool {
        let Ok(stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).is_ok_and(|_| line.starts_with("INFO"))
    }

    /// As at a power cut.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    fn id(&self) -> String {
        self.process.as_ref().unwrap().id().to_string()
    }

    /// Sends a signal such as `STOP`.
    pub(crate) fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([&format!("-{signal}"), &self.id()]).status().unwrap().success());
    }

    /// Asks it to shut down after it has told its clients.
    pub(crate) fn lame_duck(&self) {
        let status = Command::new(program()).arg("--signal").arg(format!("ldm={}", self.id())).status();
        assert!(status.unwrap().success());
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Sends these bytes behind a handshake, as a client that checks nothing.
    pub(crate) fn publish_raw(&self, line: &[u8]) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.write_all(b"CONNECT {\"verbose\":false,\"headers\":true}\r\n").unwrap();
        stream.write_all(line).unwrap();
        stream.write_all(b"PING\r\n").unwrap();
        let answered = BufReader::new(stream).lines().any(|line| line.unwrap() == "PONG");
        assert!(answered, "the server took it");
    }

    /// Where JetStream keeps its files.
    pub(crate) fn store(&self) -> std::path::PathBuf {
        self.folder.path().join("store")
    }

    pub(crate) fn connection(&self) -> Connection {
        let mut connection = Connection::plain([self.url()]);
        connection.timeout = Duration::from_secs(2);
        connection
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            drop(process.kill());
            drop(process.wait());
        }
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            eprintln!("the server's log:\n{log}");
        }
    }
}
