//! Medians, ratios and the table.

use serde_json::{Value, json};

/// The measurements of one contestant, one entry a round.
#[derive(Clone, Debug, Default)]
pub struct Rounds {
    /// CPU-seconds per million messages.
    pub cpu_s_per_million: Vec<f64>,
    /// Messages per second.
    pub per_second: Vec<f64>,
    /// Peak resident memory in MiB.
    pub peak_mib: Vec<f64>,
}

impl Rounds {
    /// The mean of two contestants, round by round.
    #[must_use]
    pub fn mean(&self, other: &Self) -> Self {
        let mean = |one: &[f64], other: &[f64]| one.iter().zip(other).map(|(a, b)| f64::midpoint(*a, *b)).collect();
        Self {
            cpu_s_per_million: mean(&self.cpu_s_per_million, &other.cpu_s_per_million),
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

/// A row of the table and its JSON form.
pub fn row(name: &str, rounds: &Rounds, reference: &Rounds) -> (String, Value) {
    let cpu = median(&rounds.cpu_s_per_million);
    let (low, high) = range(&rounds.cpu_s_per_million);
    let ratio = ratio(&rounds.cpu_s_per_million, &reference.cpu_s_per_million);
    let rate = median(&rounds.per_second);
    let peak = median(&rounds.peak_mib);
    let line = format!("| {name} | {ratio:.2} | {cpu:.2} ({low:.2}-{high:.2}) | {rate:.0} | {peak:.0} |");
    let value = json!({
        "contestant": name, "cpu_ratio": ratio, "cpu_s_per_million": cpu, "cpu_s_per_million_range": [low, high],
        "messages_per_second": rate, "peak_mib": peak,
        "rounds": { "cpu_s_per_million": rounds.cpu_s_per_million, "messages_per_second": rounds.per_second },
    });
    (line, value)
}
