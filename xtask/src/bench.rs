//! `cargo xtask bench`: builds for release, starts real brokers where they are needed, and runs the benches of tests/bench.

use std::path::Path;
use std::process::{Command, ExitCode};

use clap::ValueEnum;

use crate::steps::{self, Steps};
use crate::{cargo_target, guests, kafka, nats, prerequisites};

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Bench {
    /// A plugin call with every budget on, against a component call that does nothing
    Call,
    /// The plugin json-schema in the sandbox, against the same crate run natively
    Schema,
    /// Kafka to Kafka, Kafka to JetStream and JetStream to Kafka on real brokers, against plain loops of the client libraries
    Pipe,
    /// Added latency at half load, against a plain rdkafka loop
    Latency,
    /// From the start of the process to the first message out, against a bare consumer
    Start,
    /// Resident memory, idle and after messages, with up to 1,000 instances
    Memory,
    /// A plugin that asks a slow HTTP server, against concurrency / latency
    Net,
    /// A tenant's latency beside a tenant whose plugins spin, leak and flood
    Neighbour,
}

pub(crate) fn run(root: &Path, bench: Option<Bench>, arguments: &[String]) -> anyhow::Result<ExitCode> {
    let mut run = Run { root, bench, arguments, steps: Steps::new("bench") };
    run.steps.step("what the build needs", prerequisites::build)?;
    run.steps.step("the guests", || guests::build(root))?;
    run.steps.step("release build", || {
        steps::run(Command::new("cargo").args(["build", "--release", "--locked", "--workspace"]).current_dir(root))
    })?;
    std::fs::create_dir_all(root.join("target/bench"))?;
    run.alone(Bench::Call, "a plugin call", "bench-call")?;
    run.schema()?;
    run.pipe()?;
    run.on_kafka(Bench::Latency, "added latency", "bench-latency")?;
    run.on_kafka(Bench::Start, "start of the process", "bench-start")?;
    run.on_kafka(Bench::Memory, "memory", "bench-memory")?;
    run.alone(Bench::Net, "a plugin that asks", "bench-net")?;
    run.alone(Bench::Neighbour, "a bad neighbour", "bench-neighbour")?;
    run.steps.finish();
    Ok(ExitCode::SUCCESS)
}

struct Run<'a> {
    root: &'a Path,
    /// None: all.
    bench: Option<Bench>,
    arguments: &'a [String],
    steps: Steps,
}

impl Run<'_> {
    fn wants(&self, bench: Bench) -> bool {
        self.bench.is_none_or(|wanted| wanted == bench)
    }

    /// The bench's command; its result goes to `target/bench/RESULT.json`.
    fn command(&self, binary: &str, result: &str) -> Command {
        let mut command = Command::new(cargo_target(self.root).join("release").join(binary));
        let result = self.root.join("target/bench").join(format!("{result}.json"));
        command.current_dir(self.root).arg("--json").arg(result);
        command
    }

    fn alone(&mut self, bench: Bench, name: &str, binary: &str) -> anyhow::Result<()> {
        if !self.wants(bench) {
            return Ok(());
        }
        let mut command = self.command(binary, binary);
        self.steps.step(name, || steps::run(command.args(self.arguments)))
    }

    /// With a broker of its own: what an earlier bench has left there would be work for it.
    fn on_kafka(&mut self, bench: Bench, name: &str, binary: &str) -> anyhow::Result<()> {
        if !self.wants(bench) {
            return Ok(());
        }
        let mut command = self.command(binary, binary);
        let broker = self.start_kafka()?;
        command.args(["--brokers", &broker.address()]).args(self.arguments);
        self.steps.step(name, || steps::run(&mut command))
    }

    fn schema(&mut self) -> anyhow::Result<()> {
        if !self.wants(Bench::Schema) {
            return Ok(());
        }
        // Its own workspace: in the bridge's, the schema crate would change the features of what the bridge is built of.
        let target = self.root.join("target/native-schema");
        let mut build = Command::new("cargo");
        build.args(["build", "--release", "--locked"]).arg("--target-dir").arg(&target);
        build.current_dir(self.root.join("tests/bench/native-schema"));
        self.steps.step("the native contestant of json-schema", || steps::run(&mut build))?;
        let mut command = self.command("bench-schema", "bench-schema");
        command.arg("--native").arg(target.join("release/portcullis-bench-native-schema")).args(self.arguments);
        self.steps.step("json-schema against native", || steps::run(&mut command))
    }

    /// Each route, or the one that the caller names.
    fn pipe(&mut self) -> anyhow::Result<()> {
        const ROUTES: [(&str, &str); 3] = [
            ("kafka-kafka", "bench-pipe"),
            ("kafka-jetstream", "bench-pipe-kafka-jetstream"),
            ("jetstream-kafka", "bench-pipe-jetstream-kafka"),
        ];
        if !self.wants(Bench::Pipe) {
            return Ok(());
        }
        let root = self.root;
        let server = self.steps.step("nats-server", || nats::server(root))?;
        let mut rest = Vec::new();
        let mut named = None;
        let mut arguments = self.arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.strip_prefix("--route") {
                Some("") => named = Some(arguments.next().map_or("", String::as_str)),
                Some(value) if value.starts_with('=') => named = value.strip_prefix('='),
                _ => rest.push(argument),
            }
        }
        if let Some(named) = named
            && !ROUTES.iter().any(|(route, _)| *route == named)
        {
            anyhow::bail!("`--route {named}` is none of {}", ROUTES.map(|(route, _)| route).join(", "));
        }
        for (route, result) in ROUTES.into_iter().filter(|(route, _)| named.is_none_or(|named| named == *route)) {
            let mut command = self.command("bench-pipe", result);
            let broker = self.start_kafka()?;
            command.args(["--brokers", &broker.address()]).arg("--nats-server").arg(&server);
            command.args(["--route", route]).args(&rest);
            self.steps.step(route, || steps::run(&mut command))?;
        }
        Ok(())
    }

    fn start_kafka(&mut self) -> anyhow::Result<crate::support::broker::Broker> {
        let root = self.root;
        let libs = self.steps.step("Apache Kafka", || kafka::libs(root))?;
        self.steps.step("a broker for the bench", || kafka::start(&libs))
    }
}
