//! Medians, ratios and the table.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// The measurements of one contestant, one entry a round.
#[derive(Clone, Debug, Default)]
pub struct Rounds {
    /// CPU-seconds per million messages.
    pub cpu_s_per_million: Vec<f64>,
    /// Of it, librdkafka's threads for the brokers' connections.
    pub broker_threads_s_per_million: Vec<f64>,
    /// Messages per second.
    pub per_second: Vec<f64>,
    /// Peak resident memory in MiB.
    pub peak_mib: Vec<f64>,
}

impl Rounds {
    /// The mean of two contestants, round by round.
    #[must_use]
    pub fn mean(&self, other: &Self) -> Self {
        Self {
            cpu_s_per_million: mean(&self.cpu_s_per_million, &other.cpu_s_per_million),
            broker_threads_s_per_million: mean(&self.broker_threads_s_per_million, &other.broker_threads_s_per_million),
            per_second: mean(&self.per_second, &other.per_second),
            peak_mib: mean(&self.peak_mib, &other.peak_mib),
        }
    }
}

/// The middle value; of an even number, the lower middle.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

/// Ratio of each round to the same round of the reference, then the median: a machine that slows down for one round slows
/// both.
pub fn ratio(contestant: &[f64], reference: &[f64]) -> f64 {
    let ratios: Vec<f64> = contestant.iter().zip(reference).map(|(one, other)| one / other).collect();
    median(&ratios)
}

/// Smallest and largest.
pub fn range(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(*value), high.max(*value)))
}

/// The value below which this part of the values lies; they must be sorted.
pub fn percentile(sorted: &[f64], part: f64) -> f64 {
    let place = (sorted.len().saturating_sub(1) as f64 * part) as usize;
    sorted.get(place).copied().unwrap_or(f64::NAN)
}

/// Difference of each round to the same round of the reference, then the median.
pub fn over(contestant: &[f64], reference: &[f64]) -> f64 {
    let differences: Vec<f64> = contestant.iter().zip(reference).map(|(one, other)| one - other).collect();
    median(&differences)
}

/// Round by round, the mean of two contestants.
pub fn mean(one: &[f64], other: &[f64]) -> Vec<f64> {
    one.iter().zip(other).map(|(a, b)| f64::midpoint(*a, *b)).collect()
}

/// The order of a round: every other one in reverse, so that none always runs on a warmer or fuller broker.
pub fn order(contestants: usize, round: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..contestants).collect();
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

/// Writes a bench's result where the caller wants one.
///
/// # Errors
/// When the file cannot be written.
pub fn write_json(path: Option<&Path>, result: &Value) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let text = serde_json::to_string_pretty(result)?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// A row of the table and its JSON form.
pub fn row(name: &str, rounds: &Rounds, reference: &Rounds) -> (String, Value) {
    let cpu = median(&rounds.cpu_s_per_million);
    let (low, high) = range(&rounds.cpu_s_per_million);
    let ratio = ratio(&rounds.cpu_s_per_million, &reference.cpu_s_per_million);
    let (rate, broker_threads) = (median(&rounds.per_second), median(&rounds.broker_threads_s_per_million));
    let peak = median(&rounds.peak_mib);
    let line = format!(
        "| {name} | {ratio:.2} | {cpu:.2} ({low:.2}-{high:.2}) | {broker_threads:.2} | {rate:.0} | {peak:.0} |"
    );
    let value = json!({
        "contestant": name, "cpu_ratio": ratio, "cpu_s_per_million": cpu, "cpu_s_per_million_range": [low, high],
        "broker_threads_s_per_million": broker_threads, "messages_per_second": rate, "peak_mib": peak,
        "rounds": { "cpu_s_per_million": rounds.cpu_s_per_million, "messages_per_second": rounds.per_second },
    });
    (line, value)
}
