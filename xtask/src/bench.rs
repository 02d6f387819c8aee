//! `cargo xtask bench`: builds for release, starts a real Kafka where one is needed, and runs the benches of tests/bench.

use std::path::Path;
use std::process::{Command, ExitCode};

use clap::ValueEnum;

use crate::steps::{self, Steps};
use crate::{cargo_target, guests, kafka, prerequisites};

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Bench {
    /// A plugin call with every budget on, against a component call that does nothing
    Call,
    /// Kafka to Kafka on a real broker, against a plain rdkafka loop
    Pipe,
    /// A plugin that asks a slow HTTP server, against concurrency / latency
    Net,
    /// A tenant's latency beside a tenant whose plugins spin, leak and flood
    Neighbour,
}

pub(crate) fn run(root: &Path, bench: Option<Bench>, arguments: &[String]) -> anyhow::Result<ExitCode> {
    let mut steps = Steps::new("bench");
    let wants = |one| bench.is_none_or(|wanted| wanted == one);
    steps.step("what the build needs", prerequisites::build)?;
    steps.step("the guests", || guests::build(root))?;
    steps.step("release build", || {
        steps::run(Command::new("cargo").args(["build", "--release", "--locked", "--workspace"]).current_dir(root))
    })?;
    let results = root.join("target/bench");
    std::fs::create_dir_all(&results)?;
    let binary = |name: &str| {
        let mut command = Command::new(cargo_target(root).join("release").join(name));
        command.current_dir(root).arg("--json").arg(results.join(format!("{name}.json")));
        command
    };
    if wants(Bench::Call) {
        steps.step("a plugin call", || steps::run(binary("bench-call").args(arguments)))?;
    }
    if wants(Bench::Pipe) {
        let libs = steps.step("Apache Kafka", || kafka::libs(root))?;
        let broker = steps.step("a broker for the bench", || kafka::start(&libs))?;
        let mut command = binary("bench-pipe");
        command.args(["--brokers", &broker.address()]).args(arguments);
        steps.step("Kafka to Kafka", || steps::run(&mut command))?;
    }
    if wants(Bench::Net) {
        steps.step("a plugin that asks", || steps::run(binary("bench-net").args(arguments)))?;
    }
    if wants(Bench::Neighbour) {
        steps.step("a bad neighbour", || steps::run(binary("bench-neighbour").args(arguments)))?;
    }
    steps.finish();
    Ok(ExitCode::SUCCESS)
}
