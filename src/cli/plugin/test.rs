//! `portcullis plugin test`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use portcullis_connector_api::Message;
use portcullis_connector_local::envelope::{self, Line, Outcome as Expected};
use serde_json::{Map, Value, json};

use super::trial::{Trial, TrialArguments};
use crate::cli::words::some;
use crate::cli::{DONE, FAILED, Format, report};
use crate::pipeline::tap::edits;
use crate::plugin::Outcome;

#[derive(Args, Clone, Debug)]
pub(crate) struct TestArguments {
    #[command(flatten)]
    trial: TrialArguments,
    /// What shall come out, one JSON object for each message of the input; only the keys that stand in it are compared. The
    /// lines of `--format json` are such objects. A line of the input may also say `"expect":{"outcome":..,"reason":..}`.
    #[arg(long, value_name = "FILE")]
    expect: Option<PathBuf>,
    /// How the result is printed; `json` shows keys, values and headers.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn test(arguments: &TestArguments) -> u8 {
    let trial = match Trial::link(&arguments.trial) {
        Ok(trial) => trial,
        Err(refusal) => return report::refused(&refusal, arguments.format),
    };
    match judged(arguments, trial) {
        Ok(true) => DONE,
        Ok(false) => FAILED,
        Err(error) => {
            eprintln!("portcullis: {error:#}");
            FAILED
        }
    }
}

/// What one call came to.
struct Ran {
    line: Value,
    text: String,
    fuel: u64,
    time: Duration,
    memory_bytes: u64,
}

/// Runs everything and says whether it was as expected.
fn judged(arguments: &TestArguments, trial: Trial) -> anyhow::Result<bool> {
    let inputs = arguments.trial.messages()?;
    let expected = arguments.expect.as_ref().map(|file| expectations(file, inputs.len())).transpose()?;
    let mut instance = trial.instance()?;
    let (mut wrong, mut ran) = (0_usize, Vec::with_capacity(inputs.len()));
    for (index, input) in inputs.iter().enumerate() {
        if instance.is_spent() {
            instance = trial.instance()?;
        }
        let one = call(&mut instance, input);
        let own = input.expect.as_ref().and_then(|expect| {
            let outcome = json!({ "outcome": expect.outcome.as_str() });
            difference(&with_reason(outcome, expect.reason.as_deref()), &one.line)
        });
        let listed = expected.as_ref().and_then(|lines| lines.get(index)).and_then(|line| difference(line, &one.line));
        let difference = own.or(listed);
        wrong += usize::from(difference.is_some());
        match arguments.format {
            Format::Text => println!("{:>4}  {}{}", index + 1, one.text, shown(difference.as_deref())),
            Format::Json => println!("{}", one.line),
        }
        if let (Format::Json, Some(difference)) = (arguments.format, &difference) {
            eprintln!("line {}: {difference}", index + 1);
        }
        ran.push(one);
    }
    drop(instance);
    let has_expectations = expected.is_some() || inputs.iter().any(|input| input.expect.is_some());
    let events = trial.events()?;
    if arguments.format == Format::Text {
        summary(&ran, wrong, has_expectations);
        if !events.is_empty() {
            let counts: Vec<String> = events.iter().map(|(code, count)| format!("{code} {count}")).collect();
            println!("audit: {}", counts.join(", "));
        }
    }
    Ok(wrong == 0)
}

fn summary(ran: &[Ran], wrong: usize, has_expectations: bool) {
    let median = |of: fn(&Ran) -> u64| {
        let mut all: Vec<u64> = ran.iter().map(of).collect();
        all.sort_unstable();
        (all.get(all.len() / 2).copied().unwrap_or(0), all.last().copied().unwrap_or(0))
    };
    let (fuel, fuel_max) = median(|one| one.fuel);
    let (us, us_max) = median(|one| u64::try_from(one.time.as_micros()).unwrap_or(u64::MAX));
    let memory_kib = ran.iter().map(|one| one.memory_bytes).max().unwrap_or(0).div_ceil(1024);
    println!("fuel: median {fuel}, most {fuel_max}; time: median {us} us, most {us_max} us; memory: {memory_kib} KiB");
    let count = some(ran.len(), "message");
    match (has_expectations, wrong) {
        (false, _) => println!("{count}, nothing was expected of them"),
        (true, 0) => println!("{count}, all as expected"),
        (true, wrong) => println!("{count}, {wrong} not as expected"),
    }
}

fn call(instance: &mut crate::plugin::Instance, input: &Line) -> Ran {
    let mut message = input.message.clone();
    let begun = Instant::now();
    let outcome = instance.process(&mut message);
    let time = begun.elapsed();
    let usage = instance.usage();
    let (word, reason, detail) = match &outcome {
        Outcome::Pass => (Expected::Pass.as_str(), None, None),
        Outcome::Drop(reason) => (Expected::Drop.as_str(), Some(reason.code.clone()), Some(reason.detail.clone())),
        Outcome::Reject(reason) => (Expected::Reject.as_str(), Some(reason.code.clone()), Some(reason.detail.clone())),
        Outcome::Retry(reason) => ("retry", Some(reason.code.clone()), Some(reason.detail.clone())),
        Outcome::Fault(fault) => {
            (Expected::Fault.as_str(), Some(fault.kind.as_str().to_owned()), Some(fault.detail.clone()))
        }
    };
    let edits = if outcome == Outcome::Pass { edits(&input.message, &message) } else { Vec::new() };
    let mut text = format!("{word:<6}");
    for part in [&reason, &detail].into_iter().flatten().filter(|part| !part.is_empty()) {
        text.push_str(&format!("  {part}"));
    }
    if !edits.is_empty() {
        text.push_str(&format!("  {}", edits.join(", ")));
    }
    text.push_str(&format!("  ({} fuel, {} us)", usage.fuel, time.as_micros()));
    let mut line = with_reason(json!({ "outcome": word }), reason.as_deref());
    if let Some(line) = line.as_object_mut() {
        line.insert("detail".to_owned(), detail.into());
        line.insert("edits".to_owned(), edits.into());
        line.extend(fields(&message));
        line.insert("fuel".to_owned(), usage.fuel.into());
        line.insert("time_us".to_owned(), u64::try_from(time.as_micros()).unwrap_or(u64::MAX).into());
        line.insert("memory_bytes".to_owned(), usage.memory_bytes.into());
    }
    Ran { line, text, fuel: usage.fuel, time, memory_bytes: usage.memory_bytes }
}

fn with_reason(mut line: Value, reason: Option<&str>) -> Value {
    if let (Some(line), Some(reason)) = (line.as_object_mut(), reason) {
        line.insert("reason".to_owned(), reason.into());
    }
    line
}

/// The message as the file connector prints it.
fn fields(message: &Message) -> Map<String, Value> {
    let mut printed = Vec::new();
    envelope::print(message, &mut printed);
    serde_json::from_slice(&printed).unwrap_or_default()
}

/// One object for each message.
fn expectations(file: &PathBuf, count: usize) -> anyhow::Result<Vec<Value>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let value: Value = serde_json::from_str(line)
            .map_err(|error| anyhow::anyhow!("{}:{number}:{}: {error}", file.display(), error.column()))?;
        if !value.is_object() {
            bail!("{}:{number}:1: an expectation is a JSON object, such as {{\"outcome\":\"pass\"}}", file.display());
        }
        lines.push(value);
    }
    if lines.len() != count {
        bail!("{} holds {} for {}", file.display(), some(lines.len(), "expectation"), some(count, "message"));
    }
    Ok(lines)
}

/// The first key that is not as expected. Measurements are never compared.
fn difference(expected: &Value, found: &Value) -> Option<String> {
    const MEASURED: [&str; 3] = ["fuel", "time_us", "memory_bytes"];
    let keys = expected.as_object()?.iter().filter(|(key, _)| !MEASURED.contains(&key.as_str()));
    for (key, value) in keys {
        let is = found.get(key).unwrap_or(&Value::Null);
        if is != value {
            return Some(format!("`{key}` is {is}, expected was {value}"));
        }
    }
    None
}

fn shown(difference: Option<&str>) -> String {
    difference.map_or_else(String::new, |difference| format!("\n      not as expected: {difference}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_that_are_expected_are_compared_and_never_a_measurement() {
        let found = json!({ "outcome": "pass", "value": "a", "fuel": 12 });
        assert_eq!(difference(&json!({ "outcome": "pass", "fuel": 99 }), &found), None);
        let text = difference(&json!({ "outcome": "pass", "value": "b" }), &found).unwrap();
        assert_eq!(text, "`value` is \"a\", expected was \"b\"");
        assert!(difference(&json!({ "reason": "x" }), &found).is_some());
    }
}
