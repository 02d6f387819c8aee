//! CPU time and memory of another process, from the kernel's own books.

use std::fs;
use std::process::Child;

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

/// Reads `/proc`. Linux only, as the benches are.
///
/// # Errors
/// When the process is gone.
pub fn usage(pid: u32) -> Result<Usage> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the contestant is gone")?;
    // The command's name, in parentheses, may itself hold spaces: fields count from behind it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = |name: &str| {
        let rest = status.lines().find_map(|line| line.strip_prefix(name));
        rest.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
    };
    let cpu_s = (ticks(11) + ticks(12)) / TICKS_PER_SECOND;
    Ok(Usage { cpu_s, resident_kib: kib("VmRSS:"), peak_kib: kib("VmHWM:") })
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
