//! CPU time and memory of another process, from the kernel's own books.

use std::fs;

use anyhow::{Context, Result};

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
    let peak_kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or_default();
    Ok(Usage { cpu_s: (ticks(11) + ticks(12)) / TICKS_PER_SECOND, peak_kib })
}
