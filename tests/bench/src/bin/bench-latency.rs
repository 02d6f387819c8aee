//! How much later a message comes out of the bridge than out of a plain rdkafka loop, at half of what the loop can carry:
//! open loop, each message timed from when it was due. Contestants alternate in one run; every message must come out.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use portcullis_bench::bridge::{self, Bridge, KafkaToKafka};
use portcullis_bench::open_loop::{Generator, Reader};
use portcullis_bench::process::Contestant;
use portcullis_bench::table::{self, mean, median, order, over, percentile, range};
use portcullis_bench::{bare, load};
use serde_json::json;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command_>,
    /// A real Kafka; its topics `bench...` are made and deleted.
    #[arg(long)]
    brokers: Option<String>,
    /// Messages a second; half of what the plain loop carries here when absent.
    #[arg(long)]
    rate: Option<u64>,
    /// Bytes of a value.
    #[arg(long, default_value_t = 256)]
    bytes: usize,
    /// Seconds of a round that are measured, after the warm-up.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// How long all producers may wait to fill a batch: the generator's, the plain loop's and the bridge's.
    #[arg(long, default_value_t = 5)]
    linger_ms: u32,
    /// Rounds; each contestant runs once a round.
    #[arg(long, default_value_t = 5)]
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
    /// The plain loop; started by the bench itself.
    Bare { brokers: String, group: String, sources: String, destination: String, linger_ms: String },
}

/// A contestant in the table, and how many plugins it has; none for the plain loop.
const CONTESTANTS: [(&str, Option<usize>); 4] =
    [("plain rdkafka loop", None), ("bridge0", Some(0)), ("bridge2", Some(2)), ("plain loop again (A/A)", None)];

/// At the begin of a round, which is not measured: caches, first batches.
const WARM_UP: Duration = Duration::from_secs(2);
/// For finding out what the loop carries: messages a second to begin with, where no machine is full, and seconds of a step.
const FIRST_RATE: u64 = 10_000;
const STEP_SECONDS: u64 = 4;
/// The loop carries a rate as long as its median stays within this many times that of the first rate.
const STEADY: f64 = 2.0;
/// A broker that has just started takes a hundred times as long, and half a minute of small batches until its code is
/// compiled: it is warm when a run takes no less than this part of the fastest one before.
const WARM: f64 = 0.9;
const LEAST_WARM_UPS: usize = 5;
const MOST_WARM_UPS: usize = 15;
/// Beyond it nobody asks further.
const LAST_RATE: u64 = 2_000_000;

/// Latencies of one contestant, one entry a round.
#[derive(Clone, Default)]
struct Latencies {
    p50_ms: Vec<f64>,
    p99_ms: Vec<f64>,
    p999_ms: Vec<f64>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(Command_::Bare { brokers, group, sources, destination, linger_ms }) = &arguments.command {
        let sources: Vec<String> = sources.split(',').map(str::to_owned).collect();
        return bare::run_with(brokers, group, &sources, destination, linger_ms);
    }
    let brokers = arguments.brokers.as_deref().context("--brokers HOST:PORT of a real Kafka is missing")?;
    let bench = Bench {
        arguments: &arguments,
        brokers,
        bridge: Bridge::new(&arguments.portcullis, &arguments.guests)?,
        name: load::run_name()?,
    };
    let rate = match arguments.rate {
        Some(rate) => rate,
        None => bench.half_load()?,
    };
    let mut results = vec![Latencies::default(); CONTESTANTS.len()];
    for round in 0..arguments.rounds {
        for index in order(CONTESTANTS.len(), round) {
            let (Some((name, plugins)), Some(into)) = (CONTESTANTS.get(index), results.get_mut(index)) else {
                continue;
            };
            let taken = bench.round(&format!("{round}.{index}"), *plugins, rate, arguments.seconds);
            let taken = taken.with_context(|| (*name).to_owned())?;
            let at = |part| percentile(&taken, part);
            eprintln!("round {round}: {name:<22} p50 {:.2} ms, p99 {:.2} ms", at(0.5), at(0.99));
            into.p50_ms.push(at(0.5));
            into.p99_ms.push(at(0.99));
            into.p999_ms.push(at(0.999));
        }
    }
    print_table(&arguments, rate, &results)
}

struct Bench<'a> {
    arguments: &'a Arguments,
    brokers: &'a str,
    bridge: Bridge,
    name: String,
}

impl Bench<'_> {
    /// Half of what the plain loop carries on a schedule. Without one, batches grow as the machine fills and it carries far
    /// more than it ever could in small ones: half of that would be more than all of this.
    fn half_load(&self) -> Result<u64> {
        let median_at = |id: &str, rate: u64| -> Result<f64> {
            let p50 = percentile(&self.round(&format!("{id}{rate}"), None, rate, STEP_SECONDS)?, 0.5);
            eprintln!("the plain loop at {rate} messages a second: p50 {p50:.2} ms");
            Ok(p50)
        };
        let mut calm = median_at("cold", FIRST_RATE)?;
        for number in 1..MOST_WARM_UPS {
            let before = calm;
            calm = calm.min(median_at(&format!("warm{number}."), FIRST_RATE)?);
            if number >= LEAST_WARM_UPS && calm > before * WARM {
                break;
            }
        }
        eprintln!("the broker is taken for warm at {calm:.2} ms");
        let (mut carried, mut rate) = (FIRST_RATE, FIRST_RATE * 3 / 2);
        while rate < LAST_RATE && median_at("load", rate)? <= STEADY * calm {
            carried = rate;
            rate = rate * 3 / 2;
        }
        Ok(carried / 2)
    }

    /// The latencies of one contestant in milliseconds, sorted.
    fn round(&self, id: &str, plugins: Option<usize>, rate: u64, seconds: u64) -> Result<Vec<f64>> {
        let time = WARM_UP + Duration::from_secs(seconds);
        let ((begin, sent), taken) = self.at_work(id, plugins, |generator, reader| {
            let before = reader.arrived();
            let begin = generator.on_schedule(rate, time)?;
            generator.wait_for_all()?;
            Ok((begin, reader.arrived() - before))
        })?;
        let due = rate * time.as_secs();
        ensure!(sent == due, "{sent} messages came out, {due} were sent");
        let measured = begin + u64::try_from(WARM_UP.as_nanos())?;
        let of_it = taken.iter().filter(|(due, _)| *due >= measured).map(|(_, taken)| *taken as f64 / 1e6);
        let mut latencies: Vec<f64> = of_it.collect();
        latencies.sort_by(f64::total_cmp);
        Ok(latencies)
    }

    /// A contestant on topics of its own, with messages flowing, for as long as `work` takes.
    fn at_work<T>(
        &self,
        id: &str,
        plugins: Option<usize>,
        work: impl FnOnce(&mut Generator<'_>, &Reader) -> Result<T>,
    ) -> Result<(T, Vec<(u64, u64)>)> {
        let group = format!("{}.{id}", self.name);
        // One topic: every partition has its own request each `linger`, and with sixteen the broker is busy with those alone.
        let (sources, destination) = (vec![format!("{group}.in")], format!("{group}.out"));
        let mut topics = sources.clone();
        topics.push(destination.clone());
        load::create_topics(self.brokers, &topics)?;
        let reader = Reader::start(self.brokers, &destination)?;
        let folder = tempfile::tempdir()?;
        let mut contestant = self.start(folder.path(), plugins, &group, &sources, &destination)?;
        let mut generator =
            Generator::new(self.brokers, &sources, &reader, self.arguments.bytes, self.arguments.linger_ms)?;
        let worked = generator
            .until_it_flows(|| contestant.is_at_work())
            .and_then(|()| work(&mut generator, &reader))
            .with_context(|| bridge::log_of(folder.path()))?;
        drop((generator, contestant));
        let taken = reader.end()?;
        load::delete_topics(self.brokers, &topics)?;
        Ok((worked, taken))
    }

    fn start(
        &self,
        folder: &Path,
        plugins: Option<usize>,
        group: &str,
        sources: &[String],
        destination: &str,
    ) -> Result<Contestant> {
        let (brokers, linger_ms) = (self.brokers, self.arguments.linger_ms);
        let Some(plugins) = plugins else {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["bare", brokers, group, &sources.join(","), destination, &linger_ms.to_string()]);
            return bridge::spawn(&mut command, folder);
        };
        let pipeline =
            KafkaToKafka { brokers, sources, group, destination, linger_ms: Some(linger_ms), lanes: None }.yaml();
        let pipeline = pipeline + &self.bridge.plugins("touch", plugins);
        self.bridge.start(folder, &pipeline, None)
    }
}

fn print_table(arguments: &Arguments, rate: u64, results: &[Latencies]) -> Result<()> {
    println!(
        "{rate} messages a second of {} B, linger {} ms, {} rounds of {} s",
        arguments.bytes, arguments.linger_ms, arguments.rounds, arguments.seconds
    );
    println!(
        "| contestant | p99 over the plain loop, ms | p99 ms (range) | p50 over, ms | p50 ms (range) | p99.9 ms |\n|---|---|---|---|---|---|"
    );
    let reference = |of: fn(&Latencies) -> &Vec<f64>| match (results.first(), results.last()) {
        (Some(first), Some(last)) => mean(of(first), of(last)),
        _ => Vec::new(),
    };
    let (plain_p50, plain_p99) = (reference(|one| &one.p50_ms), reference(|one| &one.p99_ms));
    let mut rows = Vec::new();
    for ((name, _), one) in CONTESTANTS.iter().zip(results) {
        let (over_p50, over_p99) = (over(&one.p50_ms, &plain_p50), over(&one.p99_ms, &plain_p99));
        let (p50, p99, p999) = (median(&one.p50_ms), median(&one.p99_ms), median(&one.p999_ms));
        let ((low50, high50), (low99, high99)) = (range(&one.p50_ms), range(&one.p99_ms));
        println!(
            "| {name} | {over_p99:+.2} | {p99:.2} ({low99:.2}-{high99:.2}) | {over_p50:+.2} | {p50:.2} ({low50:.2}-{high50:.2}) | {p999:.2} |"
        );
        rows.push(json!({
            "contestant": name, "p99_over_ms": over_p99, "p50_over_ms": over_p50,
            "rounds": { "p50_ms": one.p50_ms, "p99_ms": one.p99_ms, "p999_ms": one.p999_ms },
        }));
    }
    let result = json!({
        "bench": "latency", "messages_per_second": rate, "value_bytes": arguments.bytes, "linger_ms": arguments.linger_ms,
        "seconds": arguments.seconds, "rows": rows,
    });
    table::write_json(arguments.json.as_deref(), &result)
}
