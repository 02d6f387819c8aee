//! The bridge as its users run it: a process with arguments, an environment, output and an exit code.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::broker::signal;
use super::root;
use super::wait::{wait_for, wait_until};

/// A process whose output goes to files, so that no full pipe can stop it. Dropping the value kills it.
pub(crate) struct Process {
    name: String,
    child: Child,
    output: TempDir,
}

/// What a process left behind.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The bridge, ready to be given arguments. It runs in `folder`, and compiled components are cached for all tests together.
pub(crate) fn portcullis(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.current_dir(folder).env("XDG_CACHE_HOME", cache());
    command
}

/// Runs the bridge to its end.
pub(crate) fn run<A: AsRef<OsStr>>(folder: &Path, arguments: &[A], limit: Duration) -> Finished {
    Process::start(portcullis(folder).args(arguments)).finish(limit)
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        let output = TempDir::new().unwrap();
        let name = command.get_program().to_string_lossy().into_owned();
        let stdout = File::create(output.path().join("stdout")).unwrap();
        let stderr = File::create(output.path().join("stderr")).unwrap();
        let child = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn();
        Self { child: child.unwrap_or_else(|error| panic!("{name}: {error}")), name, output }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to the standard output so far.
    pub(crate) fn stdout(&self) -> String {
        self.read("stdout")
    }

    /// What it has written to the standard error stream so far.
    pub(crate) fn stderr(&self) -> String {
        self.read("stderr")
    }

    /// Waits for the first line, of either stream, that holds `text`.
    pub(crate) fn wait_for_line(&mut self, text: &str, limit: Duration) -> String {
        let find = |output: String| output.lines().find(|line| line.contains(text)).map(str::to_owned);
        let found = wait_for(limit, || {
            let ended = self.status().is_some();
            // Read after the look at the status: what was written before the end is not missed.
            match find(self.stdout()).or_else(|| find(self.stderr())) {
                Some(line) => Some(Ok(line)),
                None => ended.then_some(Err("it ended without it")),
            }
        });
        let found = found.unwrap_or(Err("the time is up"));
        found.unwrap_or_else(|why| panic!("no line with `{text}`: {why}\n{}", self.report()))
    }

    /// Waits for a condition outside the process, and fails at once when the process ends before.
    pub(crate) fn wait_until(&mut self, what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
        let mut ended = None;
        let held = wait_until(limit, || {
            ended = self.status();
            condition() || ended.is_some()
        });
        let holds = held && (ended.is_none() || condition());
        assert!(holds, "not so: {what} (within {} s)\n{}", limit.as_secs(), self.report());
    }

    /// `TERM`, `INT`, `STOP`, `CONT`, ...
    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name).unwrap();
    }

    /// Ends it as a crash would.
    pub(crate) fn kill9(&mut self) {
        self.signal("KILL");
        self.child.wait().unwrap();
    }

    /// `None` while it runs.
    pub(crate) fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self, limit: Duration) -> Finished {
        let status = wait_for(limit, || self.status())
            .unwrap_or_else(|| panic!("still running after {} s\n{}", limit.as_secs(), self.report()));
        Finished { status, stdout: self.stdout(), stderr: self.stderr() }
    }

    fn read(&self, stream: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.output.path().join(stream)).unwrap()).into_owned()
    }

    fn report(&self) -> String {
        format!("{} wrote to stdout:\n{}\nand to stderr:\n{}", self.name, self.stdout(), self.stderr())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already ended is fine; there is nothing to report otherwise.
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!("{}", self.report());
        }
    }
}

impl Finished {
    /// The exit code; a process that a signal ended has none.
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("ended by a signal: {self:?}"))
    }

    /// The last line of the standard output as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        let line = self.stdout.lines().last().unwrap_or_else(|| panic!("no output: {self:?}"));
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in `{line}`\n{}", self.stderr))
    }
}

/// Only for this user, as the cache demands of its folder.
fn cache() -> std::path::PathBuf {
    let folder = root().join("target/test-cache");
    DirBuilder::new().recursive(true).mode(0o700).create(&folder).unwrap();
    folder
}
