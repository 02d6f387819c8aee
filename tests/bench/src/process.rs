//! CPU time and memory of another process, from the kernel's own books.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Child;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// CPU time that this thread has used, in nanoseconds.
///
/// # Errors
/// When the kernel does not tell.
pub fn thread_cpu_ns() -> Result<u64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").context("the kernel keeps no scheduler statistics")?;
    let first = text.split_whitespace().next().context("an empty schedstat")?;
    Ok(first.parse()?)
}

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system time, all threads, in seconds. The kernel counts in hundredths.
    pub cpu_s: f64,
    /// The resident set now, in KiB.
    pub resident_kib: u64,
    /// The largest resident set so far, in KiB.
    pub peak_kib: u64,
}

/// User and system time in seconds that a line of `/proc/.../stat` tells.
fn cpu_s(stat: &str) -> f64 {
    const TICKS_PER_SECOND: f64 = 100.0;
    // The command's name, in parentheses, may itself hold spaces: fields count from behind it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
    (ticks(11) + ticks(12)) / TICKS_PER_SECOND
}

/// CPU-seconds of a process's threads whose names begin so. What a thread used that has ended since is not in it.
///
/// # Errors
/// When the process is gone.
pub fn threads_cpu_s(pid: u32, begin: &str) -> Result<f64> {
    let mut sum = 0.0;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).context("the contestant is gone")? {
        // It may have ended between the two looks.
        let Ok(stat) = fs::read_to_string(thread?.path().join("stat")) else { continue };
        if stat.split_once('(').is_some_and(|(_, name)| name.starts_with(begin)) {
            sum += cpu_s(&stat);
        }
    }
    Ok(sum)
}

/// Reads `/proc`. Linux only, as the benches are.
///
/// # Errors
/// When the process is gone.
pub fn usage(pid: u32) -> Result<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the contestant is gone")?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = |name: &str| {
        let rest = status.lines().find_map(|line| line.strip_prefix(name));
        rest.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
    };
    Ok(Usage { cpu_s: cpu_s(&stat), resident_kib: kib("VmRSS:"), peak_kib: kib("VmHWM:") })
}

/// The resident set in KiB, with each page that several mappings share counted once.
///
/// # Errors
/// When the process is gone.
pub fn proportional_kib(pid: u32) -> Result<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).context("the contestant is gone")?;
    let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).context("the kernel tells no Pss")?;
    Ok(pss.split_whitespace().next().unwrap_or_default().parse()?)
}

/// A contestant at work; it is killed when this is dropped, however the round ended.
#[derive(Debug)]
pub struct Contestant(Child);

impl Contestant {
    /// Takes over a process.
    pub fn new(child: Child) -> Self {
        Self(child)
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// The first line that it writes, without its end.
    ///
    /// # Errors
    /// When none comes within the limit.
    pub fn first_line(&mut self, limit: Duration) -> Result<String> {
        let stdout = self.0.stdout.take().context("a pipe")?;
        let (give, line) = mpsc::sync_channel(1);
        // Ends with the contestant at the latest.
        thread::spawn(move || give.send(BufReader::new(stdout).lines().next()));
        let line = line.recv_timeout(limit).with_context(|| format!("no word within {} s", limit.as_secs()))?;
        Ok(line.context("the contestant has ended without a word")??)
    }

    /// Asked while something is waited for: a contestant that has ended will never bring it.
    ///
    /// # Errors
    /// When it has ended.
    pub fn is_at_work(&mut self) -> Result<()> {
        match self.0.try_wait()? {
            Some(status) => bail!("the contestant has ended by itself: {status}"),
            None => Ok(()),
        }
    }
}

impl Drop for Contestant {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
