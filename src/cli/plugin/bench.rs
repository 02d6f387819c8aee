//! `portcullis plugin bench`.

use std::time::{Duration, Instant};

use clap::Args;
use portcullis_connector_local::envelope::Line;

use super::trial::{Trial, TrialArguments};
use crate::cli::words::some;
use crate::cli::{DONE, FAILED, Format, report};
use crate::plugin::Outcome;

#[derive(Args, Clone, Debug)]
pub(crate) struct BenchArguments {
    #[command(flatten)]
    trial: TrialArguments,
    /// How long to measure, in seconds, 1 to 600.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
}

pub(super) fn bench(arguments: &BenchArguments) -> u8 {
    let trial = match Trial::link(&arguments.trial) {
        Ok(trial) => trial,
        Err(refusal) => return report::refused(&refusal, Format::Text),
    };
    let measured = arguments.trial.messages().and_then(|inputs| measure(&trial, &inputs, arguments.seconds));
    match measured {
        Ok(()) => DONE,
        Err(error) => {
            eprintln!("portcullis: {error:#}");
            FAILED
        }
    }
}

/// Rounds over all of the input until the time is over. A round and not a call is timed: a look at the clock costs a tenth of
/// one. Each call begins with a copy of the message, which a pipeline does not make.
fn measure(trial: &Trial, inputs: &[Line], seconds: u64) -> anyhow::Result<()> {
    let mut instance = trial.instance()?;
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut rounds_ns: Vec<u64> = Vec::new();
    let (mut calls, mut passed, mut faults, mut fuel_most, mut memory_most) = (0_u64, 0_u64, 0_u64, 0_u64, 0_u64);
    // The first calls run on a cold memory.
    let mut is_warm = false;
    while Instant::now() < end {
        let repeats = (1000 / inputs.len()).max(1);
        let begun = Instant::now();
        for input in std::iter::repeat_n(inputs, repeats).flatten() {
            let mut message = input.message.clone();
            match instance.process(&mut message) {
                Outcome::Pass => passed += 1,
                Outcome::Fault(_) => {
                    faults += 1;
                    instance = trial.instance()?;
                }
                _ => {}
            }
        }
        let count = (repeats * inputs.len()) as u64;
        let usage = instance.usage();
        (fuel_most, memory_most) = (fuel_most.max(usage.fuel), memory_most.max(usage.memory_bytes));
        calls += count;
        if std::mem::replace(&mut is_warm, true) {
            let ns = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
            rounds_ns.push(ns / count);
        }
    }
    rounds_ns.sort_unstable();
    let at = |part: usize| rounds_ns.get((rounds_ns.len().saturating_sub(1)) * part / 100).copied().unwrap_or(0);
    println!("{}, {passed} passed, {}", some(calls, "call"), some(faults, "fault"));
    println!("a call: median {} ns, best round {} ns, 99 of 100 rounds within {} ns", at(50), at(0), at(99));
    println!("fuel of a last call: {fuel_most}; memory: {} KiB", memory_most.div_ceil(1024));
    Ok(())
}
