//! From the start of the process to the first message out, with compiled plugins in the cache, against what the broker itself
//! takes to let a consumer in: a bare consumer's way to its first message, alternating in one run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};
use portcullis_bench::bridge::{self, Bridge, KafkaToKafka};
use portcullis_bench::process::Contestant;
use portcullis_bench::table::{self, mean, median, order, over, range};
use portcullis_bench::{bare, load};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::json;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command_>,
    /// A real Kafka; its topics `bench...` are made and deleted.
    #[arg(long)]
    brokers: Option<String>,
    /// Rounds; each contestant runs once a round.
    #[arg(long, default_value_t = 11)]
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
}

#[derive(Subcommand)]
enum Command_ {
    /// A consumer that says when its first message has come; started by the bench itself.
    Consume { brokers: String, group: String, sources: String },
    /// The plain loop; started by the bench itself.
    Bare { brokers: String, group: String, sources: String, destination: String },
}

#[derive(Clone, Copy)]
enum Start {
    Consumer,
    Bare,
    Bridge { plugins: usize, guest: &'static str },
}

const CONTESTANTS: [(&str, Start); 6] = [
    ("bare consumer, first message read", Start::Consumer),
    ("plain rdkafka loop, first message out", Start::Bare),
    ("bridge without plugins, first message out", Start::Bridge { plugins: 0, guest: "touch" }),
    ("bridge with two plugins, first message out", Start::Bridge { plugins: 2, guest: "touch" }),
    ("bridge with json-schema, first message out", Start::Bridge { plugins: 1, guest: "json-schema" }),
    ("bare consumer again (A/A)", Start::Consumer),
];

/// In the sources before anything starts: some in each partition.
const MESSAGES: u64 = 1600;
const LIMIT: Duration = Duration::from_secs(60);

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let split = |list: &str| list.split(',').map(str::to_owned).collect::<Vec<_>>();
    match &arguments.command {
        Some(Command_::Consume { brokers, group, sources }) => return consume(brokers, group, &split(sources)),
        Some(Command_::Bare { brokers, group, sources, destination }) => {
            return bare::run(brokers, group, &split(sources), destination);
        }
        None => {}
    }
    let brokers = arguments.brokers.as_deref().context("--brokers HOST:PORT of a real Kafka is missing")?;
    let name = load::run_name()?;
    let sources = load::names(&format!("{name}.in"));
    load::create_topics(brokers, &sources)?;
    load::fill(brokers, &sources, MESSAGES, 256)?;
    let cache = tempfile::tempdir()?;
    let bridge = Bridge::new(&arguments.portcullis, &arguments.guests)?;
    let bench = Bench { brokers, bridge, sources, cache: &cache.path().join("compiled") };
    let mut results: Vec<Vec<f64>> = vec![Vec::new(); CONTESTANTS.len()];
    // The first round fills the cache and is not counted.
    for round in 0..=arguments.rounds {
        for index in order(CONTESTANTS.len(), round) {
            let (Some((contestant, start)), Some(into)) = (CONTESTANTS.get(index), results.get_mut(index)) else {
                continue;
            };
            let took = bench.measure(*start, &format!("{name}.{round}.{index}"));
            let took_ms = took.with_context(|| (*contestant).to_owned())?.as_secs_f64() * 1e3;
            eprintln!("round {round}: {contestant:<42} {took_ms:.0} ms");
            if round > 0 {
                into.push(took_ms);
            }
        }
    }
    load::delete_topics(brokers, &bench.sources)?;
    print_table(&arguments, &results)
}

/// Runs until the first message has come.
fn consume(brokers: &str, group: &str, sources: &[String]) -> Result<()> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", group);
    for (key, value) in bare::CONSUMER {
        config.set(*key, *value);
    }
    let consumer: BaseConsumer = config.create()?;
    consumer.subscribe(&sources.iter().map(String::as_str).collect::<Vec<_>>())?;
    loop {
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            message?;
            println!("first");
            // Killed by the bench: leaving the group is not measured.
            std::thread::sleep(LIMIT);
        }
    }
}

struct Bench<'a> {
    brokers: &'a str,
    bridge: Bridge,
    sources: Vec<String>,
    cache: &'a Path,
}

impl Bench<'_> {
    fn measure(&self, start: Start, id: &str) -> Result<Duration> {
        let folder = tempfile::tempdir()?;
        if let Start::Consumer = start {
            return self.first_read(id, folder.path());
        }
        let destination = format!("{id}.out");
        load::create_topics(self.brokers, std::slice::from_ref(&destination))?;
        let reader = self.reader(&destination)?;
        let begin = Instant::now();
        let mut contestant = self.start(start, id, &destination, folder.path())?;
        let first = first_of(&reader, &mut contestant).with_context(|| bridge::log_of(folder.path()));
        let took = first?.duration_since(begin);
        drop(contestant);
        load::delete_topics(self.brokers, &[destination])?;
        Ok(took)
    }

    fn first_read(&self, id: &str, folder: &Path) -> Result<Duration> {
        let begin = Instant::now();
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["consume", self.brokers, id, &self.sources.join(",")]);
        let log = std::fs::File::create(folder.join("log"))?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn()?;
        let mut contestant = Contestant::new(child);
        let word = contestant.first_line(LIMIT).with_context(|| bridge::log_of(folder))?;
        let took = begin.elapsed();
        ensure!(word == "first", "no message came but {word:?}");
        Ok(took)
    }

    /// At the end of the empty destination, with its request already at the broker.
    fn reader(&self, destination: &str) -> Result<BaseConsumer> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.brokers)
            .set("group.id", "bench-reader")
            .set("enable.auto.commit", "false")
            .create()?;
        let mut all = TopicPartitionList::new();
        for partition in 0..load::PARTITIONS {
            all.add_partition_offset(destination, partition, Offset::Beginning)?;
        }
        consumer.assign(&all)?;
        let until = Instant::now() + Duration::from_millis(700);
        while Instant::now() < until {
            if let Some(message) = consumer.poll(Duration::from_millis(50)) {
                message?;
                bail!("the destination is not empty");
            }
        }
        Ok(consumer)
    }

    fn start(&self, start: Start, id: &str, destination: &str, folder: &Path) -> Result<Contestant> {
        let brokers = self.brokers;
        let Start::Bridge { plugins, guest } = start else {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["bare", brokers, id, &self.sources.join(","), destination]);
            return bridge::spawn(&mut command, folder);
        };
        let sources = &self.sources;
        let pipeline = KafkaToKafka { brokers, sources, group: id, destination, linger_ms: Some(5), lanes: None };
        let pipeline = pipeline.yaml() + &self.bridge.plugins(guest, plugins);
        self.bridge.start(folder, &pipeline, Some(self.cache))
    }
}

fn first_of(reader: &BaseConsumer, contestant: &mut Contestant) -> Result<Instant> {
    let deadline = Instant::now() + LIMIT;
    while Instant::now() < deadline {
        if let Some(message) = reader.poll(Duration::from_millis(100)) {
            message?;
            return Ok(Instant::now());
        }
        contestant.is_at_work()?;
    }
    bail!("no message came out within {} s", LIMIT.as_secs())
}

fn print_table(arguments: &Arguments, results: &[Vec<f64>]) -> Result<()> {
    println!("{} rounds, a new group each time, compiled plugins in the cache", arguments.rounds);
    println!("| from the start of the process to | over the bare consumer, ms | ms (range) |\n|---|---|---|");
    let reference = match (results.first(), results.last()) {
        (Some(first), Some(last)) => mean(first, last),
        _ => Vec::new(),
    };
    let mut rows = Vec::new();
    for ((name, _), took) in CONTESTANTS.iter().zip(results) {
        let (over_ms, middle, (low, high)) = (over(took, &reference), median(took), range(took));
        println!("| {name} | {over_ms:+.0} | {middle:.0} ({low:.0}-{high:.0}) |");
        rows.push(json!({ "contestant": name, "over_ms": over_ms, "ms": middle, "rounds_ms": took }));
    }
    let result = json!({ "bench": "start", "rounds": arguments.rounds, "rows": rows });
    table::write_json(arguments.json.as_deref(), &result)
}
