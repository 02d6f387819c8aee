//! The parent's side of a compilation: one loop over the three pipes of the child and one deadline over everything, so that
//! no thread is left behind and nothing that the child keeps open or keeps quiet holds the parent.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::{CompileBounds, SUBCOMMAND};

/// The largest machine code that is taken from the child.
const MAX_CODE_BYTES: usize = 512 << 20;
/// More complaints than that are none of the compiler's.
const MAX_COMPLAINT_BYTES: usize = 64 << 10;
/// What a pipe holds by default, so that one read empties it.
const READ_BYTES: usize = 64 << 10;
/// How often it is looked whether a child has ended whose pipes are closed. It takes the kernel less than one of these.
const LOOK: Duration = Duration::from_millis(2);
/// A process that was killed is gone at once, but for one that the kernel holds in a device.
const REAP_WITHIN: Duration = Duration::from_secs(5);

/// The child. However this ends, all of its process group are killed and the child is taken from the table of processes. A
/// process that has left the group is not found: only a component that has taken the compiler over makes one, and the child's
/// limits hold for each such process.
pub(super) struct Compiler {
    /// None when it was reaped.
    child: Option<Child>,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
}

/// What the child said until it closed both its streams.
#[derive(Default)]
pub(super) struct Answer {
    pub(super) code: Vec<u8>,
    pub(super) complaint: Vec<u8>,
}

/// Why the child was not listened to any longer.
#[derive(Debug)]
pub(super) enum Stopped {
    Deadline,
    TooMuch { what: &'static str, limit_bytes: usize },
    System(io::Error),
}

impl From<Errno> for Stopped {
    fn from(error: Errno) -> Self {
        Self::System(error.into())
    }
}

impl Compiler {
    pub(super) fn start(program: &Path, bounds: &CompileBounds) -> io::Result<Self> {
        let mut child = Command::new(program)
            .arg(SUBCOMMAND)
            .arg(bounds.address_space_bytes.to_string())
            .arg(bounds.cpu_seconds.to_string())
            .env_clear()
            .current_dir("/")
            // A group of its own, so that what it starts and leaves in it ends with it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let compiler = Self { child: Some(child), stdin, stdout, stderr };
        for pipe in compiler.pipes() {
            fcntl_setfl(pipe, fcntl_getfl(pipe)? | OFlags::NONBLOCK)?;
        }
        Ok(compiler)
    }

    fn pipes(&self) -> impl Iterator<Item = rustix::fd::BorrowedFd<'_>> {
        let stdin = self.stdin.as_ref().map(AsFd::as_fd);
        let stdout = self.stdout.as_ref().map(AsFd::as_fd);
        let stderr = self.stderr.as_ref().map(AsFd::as_fd);
        [stdin, stdout, stderr].into_iter().flatten()
    }

    /// Feeds and reads the child at the same time, so that neither waits for a full pipe, until it has closed both streams.
    pub(super) fn converse(&mut self, component: &[u8], ends: Instant) -> Result<Answer, Stopped> {
        let mut rest = component;
        let mut answer = Answer::default();
        let mut buffer = vec![0; READ_BYTES];
        loop {
            feed(&mut self.stdin, &mut rest)?;
            drain(&mut self.stdout, &mut answer.code, &mut buffer, "machine code", MAX_CODE_BYTES)?;
            drain(&mut self.stderr, &mut answer.complaint, &mut buffer, "complaints", MAX_COMPLAINT_BYTES)?;
            if self.stdout.is_none() && self.stderr.is_none() {
                return Ok(answer);
            }
            self.ready(ends)?;
        }
    }

    /// Waits until a pipe has something to read or room to write, at most until the deadline.
    fn ready(&self, ends: Instant) -> Result<(), Stopped> {
        let left = ends.checked_duration_since(Instant::now()).filter(|left| !left.is_zero());
        let left = left.ok_or(Stopped::Deadline)?;
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        let stdin = self.stdin.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::OUT));
        let stdout = self.stdout.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN));
        let stderr = self.stderr.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN));
        let mut pipes: Vec<PollFd<'_>> = [stdin, stdout, stderr].into_iter().flatten().collect();
        match poll(&mut pipes, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until the child has ended by itself, and reaps it.
    pub(super) fn wait(&mut self, ends: Instant) -> Result<ExitStatus, Stopped> {
        loop {
            let Some(child) = &mut self.child else {
                return Err(Stopped::System(io::Error::other("the process was reaped before")));
            };
            if has_ended(child)? {
                // What it has started and left behind is still in its group. Before it is reaped: from then on its number may
                // be that of a stranger's group.
                kill_group(child);
                let status = child.wait().map_err(Stopped::System)?;
                self.child = None;
                return Ok(status);
            }
            if Instant::now() >= ends {
                return Err(Stopped::Deadline);
            }
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for Compiler {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        kill_group(&child);
        // It may have ended by itself: then there is nothing to kill.
        drop(child.kill());
        let ends = Instant::now() + REAP_WITHIN;
        while matches!(child.try_wait(), Ok(None)) {
            if Instant::now() >= ends {
                tracing::error!(pid = child.id(), "a compiler's process was killed and does not end");
                return;
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// Whether it has ended. It stays in the table of processes.
fn has_ended(child: &Child) -> Result<bool, Stopped> {
    let Some(pid) = pid_of(child) else { return Ok(true) };
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match waitid(WaitId::Pid(pid), look) {
        Ok(ended) => Ok(ended.is_some()),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn pid_of(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

fn kill_group(child: &Child) {
    if let Some(group) = pid_of(child) {
        // An empty group is what is wanted.
        kill_process_group(group, Signal::KILL).ok();
    }
}

/// Writes as much as the pipe takes, and closes it behind the last byte. A child that has ended does not read on; what it
/// said tells why.
fn feed(pipe: &mut Option<ChildStdin>, rest: &mut &[u8]) -> Result<(), Stopped> {
    while let Some(stdin) = pipe {
        if rest.is_empty() {
            *pipe = None;
            return Ok(());
        }
        match stdin.write(rest) {
            Ok(written) => *rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => *pipe = None,
            Err(error) => return Err(Stopped::System(error)),
        }
    }
    Ok(())
}

/// Reads once: the deadline is looked at between two reads, however fast the child writes.
fn drain<R: Read>(
    pipe: &mut Option<R>,
    text: &mut Vec<u8>,
    buffer: &mut [u8],
    what: &'static str,
    limit_bytes: usize,
) -> Result<(), Stopped> {
    let Some(stream) = pipe else { return Ok(()) };
    match stream.read(buffer) {
        Ok(0) => *pipe = None,
        Ok(read) => {
            text.extend_from_slice(buffer.get(..read).unwrap_or_default());
            if text.len() > limit_bytes {
                return Err(Stopped::TooMuch { what, limit_bytes });
            }
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
        Err(error) => return Err(Stopped::System(error)),
    }
    Ok(())
}
