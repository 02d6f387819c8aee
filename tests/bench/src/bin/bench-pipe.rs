//! Kafka to Kafka on a real broker: a plain rdkafka loop against the bridge with 0, 1, 2, 4 and 8 plugins, alternating in
//! one run, with the plain loop once more as A/A control. The truth is what arrived in the destination topics.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use portcullis_bench::load::{self, Arrivals};
use portcullis_bench::process::usage;
use portcullis_bench::table::{Rounds, row};
use portcullis_bench::{bare, batch};
use serde_json::json;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command_>,
    /// A real Kafka; its topics `bench...` are made and deleted.
    #[arg(long)]
    brokers: Option<String>,
    /// Messages a round.
    #[arg(long, default_value_t = 1_000_000)]
    count: u64,
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
    /// The plain loop; started by the bench itself.
    Bare { brokers: String, group: String, sources: String, destination: String },
    /// The loop with batch consumption; started by the bench itself.
    Batch { brokers: String, group: String, sources: String, destination: String },
}

/// A contestant: its name in the table and what is started.
#[derive(Clone, Copy)]
enum Contestant {
    Bare(&'static str),
    Batch(&'static str),
    Bridge(&'static str, usize),
}

const CONTESTANTS: [Contestant; 8] = [
    Contestant::Bare("plain rdkafka loop"),
    Contestant::Batch("loop with batch consumption"),
    Contestant::Bridge("bridge0", 0),
    Contestant::Bridge("bridge1", 1),
    Contestant::Bridge("bridge2", 2),
    Contestant::Bridge("bridge4", 4),
    Contestant::Bridge("bridge8", 8),
    Contestant::Bare("plain loop again (A/A)"),
];

impl Contestant {
    fn name(self) -> &'static str {
        match self {
            Self::Bare(name) | Self::Batch(name) | Self::Bridge(name, _) => name,
        }
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(Command_::Bare { brokers, group, sources, destination }) = &arguments.command {
        return bare::run(brokers, group, &split(sources), destination);
    }
    if let Some(Command_::Batch { brokers, group, sources, destination }) = &arguments.command {
        return batch::run(brokers, group, &split(sources), destination);
    }
    let brokers = arguments.brokers.clone().context("--brokers HOST:PORT of a real Kafka is missing")?;
    let name = load::run_name()?;
    let sources = load::names(&format!("{name}.in"));
    load::create_topics(&brokers, &sources)?;
    eprintln!("filling {} topics with {} messages of {} B", sources.len(), arguments.count, arguments.bytes);
    load::fill(&brokers, &sources, arguments.count, arguments.bytes)?;
    let contestants: Vec<Contestant> = CONTESTANTS
        .into_iter()
        .filter(|one| {
            !matches!(one, Contestant::Bridge(..))
                || arguments.only.is_empty()
                || arguments.only.iter().any(|only| only == one.name())
        })
        .collect();
    let mut results: Vec<Rounds> = vec![Rounds::default(); contestants.len()];
    for round in 0..arguments.rounds {
        // Every other round in reverse order, so that none always runs on a warmer or fuller broker.
        let mut order: Vec<usize> = (0..contestants.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let (Some(contestant), Some(rounds)) = (contestants.get(index), results.get_mut(index)) else { continue };
            let run = Run {
                arguments: &arguments,
                brokers: &brokers,
                sources: &sources,
                id: format!("{name}.{round}.{index}"),
            };
            run.measure(*contestant, rounds).with_context(|| format!("contestant {}", contestant.name()))?;
            let last = |values: &[f64]| values.last().copied().unwrap_or(f64::NAN);
            eprintln!(
                "round {round}: {:<24} {:.2} CPU-s per million, {:.0} a second",
                contestant.name(),
                last(&rounds.cpu_s_per_million),
                last(&rounds.per_second)
            );
        }
    }
    load::delete_topics(&brokers, &sources)?;
    print_table(&arguments, &contestants, &results)
}

fn split(list: &str) -> Vec<String> {
    list.split(',').map(str::to_owned).collect()
}

fn print_table(arguments: &Arguments, contestants: &[Contestant], results: &[Rounds]) -> Result<()> {
    println!(
        "{} messages of {} B, {} x {} partitions, {} rounds",
        arguments.count,
        arguments.bytes,
        load::TOPICS,
        load::PARTITIONS,
        arguments.rounds
    );
    println!(
        "| contestant | CPU ratio | CPU-s per million (range) | messages a second | peak MiB |\n|---|---|---|---|---|"
    );
    // The plain loop runs twice a round, first and last: the reference is the mean of both, and each one's own ratio shows
    // the noise of the run.
    let reference = match (results.first(), results.last()) {
        (Some(first), Some(last)) => first.mean(last),
        _ => Rounds::default(),
    };
    let mut rows = Vec::new();
    for (contestant, rounds) in contestants.iter().zip(results) {
        let (line, value) = row(contestant.name(), rounds, &reference);
        println!("{line}");
        rows.push(value);
    }
    if let Some(path) = &arguments.json {
        let result = json!({ "bench": "pipe", "messages": arguments.count, "value_bytes": arguments.bytes, "rounds": arguments.rounds, "rows": rows });
        std::fs::write(path, serde_json::to_string_pretty(&result)?)?;
    }
    Ok(())
}

/// One contestant in one round.
struct Run<'a> {
    arguments: &'a Arguments,
    brokers: &'a str,
    sources: &'a [String],
    id: String,
}

impl Run<'_> {
    fn measure(&self, contestant: Contestant, rounds: &mut Rounds) -> Result<()> {
        let destinations = vec![format!("{}.out", self.id)];
        load::create_topics(self.brokers, &destinations)?;
        let arrivals = Arrivals::new(self.brokers, &destinations)?;
        let folder = std::env::temp_dir().join(&self.id);
        std::fs::create_dir_all(&folder)?;
        let mut child = self.start(contestant, &destinations, &folder)?;
        let result = self.watch(&arrivals, &mut child, rounds);
        child.kill()?;
        child.wait()?;
        std::fs::remove_dir_all(&folder)?;
        load::delete_topics(self.brokers, &destinations)?;
        result
    }

    /// Start-up (compile, join the group) is left out: the clock runs from the first tenth to the last message.
    fn watch(&self, arrivals: &Arrivals, child: &mut Child, rounds: &mut Rounds) -> Result<()> {
        let limit = Duration::from_secs(300);
        let count = self.arguments.count;
        arrivals.wait_for(count / 10, limit)?;
        let (begin, before, first) = (Instant::now(), usage(child.id())?, arrivals.count()?);
        let end = arrivals.wait_for(count, limit)?;
        let after = usage(child.id())?;
        let messages = (count - first) as f64;
        rounds.cpu_s_per_million.push((after.cpu_s - before.cpu_s) / messages * 1e6);
        rounds.per_second.push(messages / end.duration_since(begin).as_secs_f64());
        rounds.peak_mib.push(after.peak_kib as f64 / 1024.0);
        Ok(())
    }

    fn start(&self, contestant: Contestant, destinations: &[String], folder: &Path) -> Result<Child> {
        let log = std::fs::File::create(folder.join("log"))?;
        let mut command = match contestant {
            Contestant::Bare(_) | Contestant::Batch(_) => {
                let loop_ = if matches!(contestant, Contestant::Batch(_)) { "batch" } else { "bare" };
                let mut command = Command::new(std::env::current_exe()?);
                command.args([loop_, self.brokers, &self.id, &self.sources.join(","), &destinations.join(",")]);
                command
            }
            Contestant::Bridge(_, plugins) => {
                let file = folder.join("bench.yaml");
                std::fs::write(&file, self.pipeline(plugins, destinations)?)?;
                std::fs::write(
                    folder.join("portcullis.yaml"),
                    format!(
                        "audit: {{ file: {} }}\nadmin: {{ listen: \"127.0.0.1:0\" }}\npipelines_may_name: {{ files: [\"{}/**\"] }}\n",
                        folder.join("audit.jsonl").display(),
                        std::path::absolute(&self.arguments.guests)?.display()
                    ),
                )?;
                let mut command = Command::new(&self.arguments.portcullis);
                command.arg("run").arg(&file);
                command
            }
        };
        Ok(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?)
    }

    /// One pipeline over all topics.
    fn pipeline(&self, plugins: usize, destinations: &[String]) -> Result<String> {
        let guests = self.arguments.guests.canonicalize().context("the guests are missing: cargo xtask guests")?;
        let topics = self.sources.join(", ");
        let destination = destinations.first().context("a destination")?;
        let mut text = format!(
            "pipeline: bench\nsource:\n  kafka: {{ brokers: \"{0}\", topics: [{topics}], group: {1} }}\nsink:\n  kafka: {{ brokers: \"{0}\", topic: {destination}, linger: 5ms }}\n",
            self.brokers, self.id,
        );
        if plugins > 0 {
            text.push_str("plugins:\n");
        }
        for number in 0..plugins {
            text.push_str(&format!(
                "  - {{ name: touch{number}, component: {} }}\n",
                guests.join("touch.wasm").display()
            ));
        }
        Ok(text)
    }
}
