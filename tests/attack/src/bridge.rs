//! The bridge as a process: started in a folder of its own, waited for with a deadline, ended by its id.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

/// What a process left behind.
#[derive(Debug)]
pub(crate) struct Ended {
    /// `None`: the time was up, or a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

/// The child that runs now, for the thread that has to end everything at once. Held while it is reaped, so that the id is
/// never that of another process.
static RUNNING: Mutex<Option<Pid>> = Mutex::new(None);

/// Ends the child that runs, if any.
pub(crate) fn kill_running() {
    let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(pid) = *running {
        // It may have ended by itself a moment ago.
        kill_process(pid, Signal::KILL).unwrap_or_default();
    }
}

/// Runs the bridge to its end, or to the end of its time.
///
/// # Errors
/// When it cannot be started.
pub(crate) fn run<A: AsRef<OsStr>>(
    binary: &Path,
    folder: &Path,
    cache: &Path,
    arguments: &[A],
    limit: Duration,
) -> anyhow::Result<Ended> {
    let (stdout, stderr) = (folder.join("stdout"), folder.join("stderr"));
    let begun = Instant::now();
    let mut child = Command::new(binary)
        .args(arguments)
        .current_dir(folder)
        .env("XDG_CACHE_HOME", cache)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(File::create(&stdout)?)
        .stderr(File::create(&stderr)?)
        .spawn()
        .with_context(|| format!("cannot start {}", binary.display()))?;
    *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) = pid_of(&child);
    let ended = ends_within(&child, limit);
    if !matches!(ended, Ok(true)) {
        kill_running();
        ends_within(&child, Duration::from_secs(10))?;
    }
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    let status = child.wait()?;
    *running = None;
    drop(running);
    let text = |file: &Path| fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok(Ended {
        code: if ended? { status.code() } else { None },
        stdout: text(&stdout)?,
        stderr: text(&stderr)?,
        took: begun.elapsed(),
    })
}

fn pid_of(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

/// Whether the child, which is not reaped yet, ends within this time.
///
/// # Errors
/// When the kernel has no process descriptors (before 5.3).
pub(crate) fn ends_within(child: &Child, limit: Duration) -> anyhow::Result<bool> {
    let pid = pid_of(child).context("a child without an id")?;
    let descriptor = pidfd_open(pid, PidfdFlags::empty()).context("pidfd_open")?;
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).context("a time limit past all bounds")?;
        match poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(&left)) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("poll"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ended_when_its_time_is_up() {
        let folder = tempfile::tempdir().unwrap();
        let run = |script: &str, limit| {
            run(Path::new("/bin/sh"), folder.path(), folder.path(), &["-c", script], limit).unwrap()
        };
        let ended = run("echo out; echo err >&2; exit 3", Duration::from_secs(60));
        assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (Some(3), "out\n", "err\n"));
        let ended = run("exec sleep 60", Duration::from_millis(50));
        assert_eq!(ended.code, None);
        assert!(ended.took < Duration::from_secs(30), "{:?}", ended.took);
    }
}
