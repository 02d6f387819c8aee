//! Kafka to Kafka, Kafka to JetStream and JetStream to Kafka on real brokers: a plain loop of the client libraries against the
//! bridge, alternating in one run, with the plain loop once more as A/A control. The truth is what arrived in the destination.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use portcullis_bench::bridge::{self, Bridge};
use portcullis_bench::ends::{Ends, Route};
use portcullis_bench::load;
use portcullis_bench::process::{Contestant, threads_cpu_s, usage};
use portcullis_bench::table::{self, Rounds, order, row};
use portcullis_bench::to_jetstream::Carry;
use portcullis_bench::{bare, batch, from_jetstream, to_jetstream};
use serde_json::json;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command_>,
    /// From which broker to which.
    #[arg(long, value_enum, default_value = "kafka-kafka")]
    route: Route,
    /// A real Kafka; its topics `bench...` are made and deleted.
    #[arg(long)]
    brokers: Option<String>,
    /// The nats-server that is started where the route needs one.
    #[arg(long, default_value = "nats-server")]
    nats_server: PathBuf,
    /// Messages a round; 1,000,000 from Kafka to Kafka and 300,000 with JetStream when absent.
    #[arg(long)]
    count: Option<u64>,
    /// Bytes of a value.
    #[arg(long, default_value_t = 256)]
    bytes: usize,
    /// Rounds; each contestant runs once a round.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The bridge's binary.
    #[arg(long, default_value = "target/release/portcullis")]
    portcullis: PathBuf,
    /// Where the guests are.
    #[arg(long, default_value = "target/guests")]
    guests: PathBuf,
    /// Where the JSON result goes.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Only these contestants besides the plain loop, such as `bridge0,bridge2`.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

#[derive(Subcommand)]
enum Command_ {
    /// One of the loops; started by the bench itself.
    Loop { which: Loop, brokers: String, nats: String, group: String, sources: String, destination: String },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Loop {
    /// Kafka to Kafka with rdkafka
    Bare,
    /// Kafka to Kafka with the bridge's own connectors
    Batch,
    /// Kafka to JetStream, each message with its key and an id
    ToJetstream,
    /// Kafka to JetStream, values alone
    ToJetstreamBare,
    /// JetStream to Kafka
    FromJetstream,
}

/// A contestant: what is started.
#[derive(Clone, Copy)]
enum Start {
    Loop(Loop),
    Bridge(usize),
}

/// The first and the last are the same loop: the reference, and the A/A control.
fn contestants(route: Route) -> Vec<(&'static str, Start)> {
    let bridge = |name, plugins| (name, Start::Bridge(plugins));
    match route {
        Route::KafkaKafka => vec![
            ("plain rdkafka loop", Start::Loop(Loop::Bare)),
            ("loop with batch consumption", Start::Loop(Loop::Batch)),
            bridge("bridge0", 0),
            bridge("bridge1", 1),
            bridge("bridge2", 2),
            bridge("bridge4", 4),
            bridge("bridge8", 8),
            ("plain loop again (A/A)", Start::Loop(Loop::Bare)),
        ],
        Route::KafkaJetstream => vec![
            ("plain loop with key and id", Start::Loop(Loop::ToJetstream)),
            ("plain loop, values alone", Start::Loop(Loop::ToJetstreamBare)),
            bridge("bridge0", 0),
            bridge("bridge2", 2),
            ("plain loop again (A/A)", Start::Loop(Loop::ToJetstream)),
        ],
        Route::JetstreamKafka => vec![
            ("plain loop", Start::Loop(Loop::FromJetstream)),
            bridge("bridge0", 0),
            bridge("bridge2", 2),
            ("plain loop again (A/A)", Start::Loop(Loop::FromJetstream)),
        ],
    }
}

fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    if let Some(Command_::Loop { which, brokers, nats, group, sources, destination }) = &arguments.command {
        return run_loop(*which, brokers, nats, group, &split(sources), destination);
    }
    let brokers = arguments.brokers.take().context("--brokers HOST:PORT of a real Kafka is missing")?;
    let count = arguments.count.unwrap_or(if arguments.route == Route::KafkaKafka { 1_000_000 } else { 300_000 });
    let bridge = Bridge::new(&arguments.portcullis, &arguments.guests)?;
    let ends = Ends::fill(arguments.route, &brokers, &arguments.nats_server, count, arguments.bytes)?;
    let mut contestants = contestants(arguments.route);
    for only in &arguments.only {
        let names: Vec<&str> = contestants.iter().map(|(name, _)| *name).collect();
        ensure!(names.contains(&only.as_str()), "`--only {only}` is none of {}", names.join(", "));
    }
    let wanted = |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == name);
    contestants.retain(|(name, start)| matches!(start, Start::Loop(_)) || wanted(name));
    let mut results: Vec<Rounds> = vec![Rounds::default(); contestants.len()];
    for round in 0..arguments.rounds {
        for index in order(contestants.len(), round) {
            let (Some((name, start)), Some(rounds)) = (contestants.get(index), results.get_mut(index)) else {
                continue;
            };
            let run = Run { bridge: &bridge, ends: &ends, count, id: format!("{}-{round}-{index}", ends.name) };
            run.measure(*start, rounds).with_context(|| format!("contestant {name}"))?;
            let last = |values: &[f64]| values.last().copied().unwrap_or(f64::NAN);
            let (cpu, rate) = (last(&rounds.cpu_s_per_million), last(&rounds.per_second));
            eprintln!("round {round}: {name:<27} {cpu:.2} CPU-s per million, {rate:.0} a second");
        }
    }
    ends.end()?;
    print_table(&arguments, count, &contestants, &results)
}

fn run_loop(which: Loop, brokers: &str, nats: &str, group: &str, sources: &[String], destination: &str) -> Result<()> {
    match which {
        Loop::Bare => bare::run(brokers, group, sources, destination),
        Loop::Batch => batch::run(brokers, group, sources, destination),
        Loop::ToJetstream => to_jetstream::run(brokers, nats, group, sources, destination, Carry::KeyAndId),
        Loop::ToJetstreamBare => to_jetstream::run(brokers, nats, group, sources, destination, Carry::Nothing),
        Loop::FromJetstream => {
            let stream = sources.first().context("a stream")?;
            from_jetstream::run(nats, stream, group, brokers, destination)
        }
    }
}

fn split(list: &str) -> Vec<String> {
    list.split(',').map(str::to_owned).collect()
}

fn print_table(
    arguments: &Arguments,
    count: u64,
    contestants: &[(&'static str, Start)],
    results: &[Rounds],
) -> Result<()> {
    let route = arguments.route.to_possible_value().map(|route| route.get_name().to_owned()).unwrap_or_default();
    println!("{route}: {count} messages of {} B, {} rounds", arguments.bytes, arguments.rounds);
    println!(
        "| contestant | CPU ratio | CPU-s per million (range) | of it, librdkafka's broker threads | messages a second | peak MiB |\n|---|---|---|---|---|---|"
    );
    // The plain loop runs twice a round, first and last: the reference is the mean of both, and each one's own ratio shows
    // the noise of the run.
    let reference = match (results.first(), results.last()) {
        (Some(first), Some(last)) => first.mean(last),
        _ => Rounds::default(),
    };
    let mut rows = Vec::new();
    for ((name, _), rounds) in contestants.iter().zip(results) {
        let (line, value) = row(name, rounds, &reference);
        println!("{line}");
        rows.push(value);
    }
    let result = json!({ "bench": "pipe", "route": route, "messages": count, "value_bytes": arguments.bytes, "rounds": arguments.rounds, "rows": rows });
    table::write_json(arguments.json.as_deref(), &result)
}

/// One contestant in one round.
struct Run<'a> {
    bridge: &'a Bridge,
    ends: &'a Ends,
    count: u64,
    /// The destination, the group or consumer, and the folder.
    id: String,
}

impl Run<'_> {
    fn measure(&self, start: Start, rounds: &mut Rounds) -> Result<()> {
        self.ends.create_destination(&self.id)?;
        let folder = tempfile::tempdir()?;
        let mut contestant = self.start(start, folder.path())?;
        let watched = self.watch(&mut contestant, rounds);
        drop(contestant);
        watched.with_context(|| bridge::log_of(folder.path()))?;
        self.ends.clean(&self.id, &self.id)
    }

    /// Start-up (compile, join the group) is left out: the clock runs from the first tenth to the last message.
    fn watch(&self, contestant: &mut Contestant, rounds: &mut Rounds) -> Result<()> {
        let limit = Duration::from_secs(300);
        let count = self.ends.counter(&self.id)?;
        load::wait_for(self.count / 10, limit, &count, || contestant.is_at_work())?;
        let (begin, first) = (Instant::now(), count()?);
        let (before, threads_before) = (usage(contestant.id())?, threads_cpu_s(contestant.id(), "rdk:")?);
        let end = load::wait_for(self.count, limit, &count, || contestant.is_at_work())?;
        let (after, threads_after) = (usage(contestant.id())?, threads_cpu_s(contestant.id(), "rdk:")?);
        let messages = (self.count - first) as f64;
        rounds.cpu_s_per_million.push((after.cpu_s - before.cpu_s) / messages * 1e6);
        rounds.broker_threads_s_per_million.push((threads_after - threads_before) / messages * 1e6);
        rounds.per_second.push(messages / end.duration_since(begin).as_secs_f64());
        rounds.peak_mib.push(after.peak_kib as f64 / 1024.0);
        Ok(())
    }

    fn start(&self, start: Start, folder: &Path) -> Result<Contestant> {
        let which = match start {
            Start::Bridge(plugins) => {
                let pipeline = self.ends.pipeline(&self.id, &self.id) + &self.bridge.plugins("touch", plugins);
                return self.bridge.start(folder, &pipeline, None);
            }
            Start::Loop(which) => which.to_possible_value().context("a loop")?,
        };
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["loop", which.get_name(), self.ends.brokers(), self.ends.nats_url()]);
        command.args([&self.id, &self.ends.sources.join(","), &self.id]);
        bridge::spawn(&mut command, folder)
    }
}
