//! What the bridge holds in memory: idle after its start, and after messages have gone through every instance. The kernel's
//! own books (`VmRSS`, `Pss`, `VmHWM`) are the truth.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use portcullis_bench::bridge::{self, Bridge, KafkaToKafka};
use portcullis_bench::load::{self, Arrivals};
use portcullis_bench::process::{Contestant, proportional_kib, usage};
use portcullis_bench::table::{self, median, order, range};
use serde_json::json;

#[derive(Parser)]
struct Arguments {
    /// A real Kafka; its topics `bench...` are made and deleted.
    #[arg(long)]
    brokers: Option<String>,
    /// Messages that go through before the second look.
    #[arg(long, default_value_t = 200_000)]
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
}

/// One pipeline from Kafka to Kafka; each lane has an instance of each plugin.
struct Shape {
    name: &'static str,
    /// The default, one for each core, when absent.
    lanes: Option<usize>,
    plugins: usize,
    guest: &'static str,
}

const SHAPES: [Shape; 5] = [
    Shape { name: "one pipeline, no plugin", lanes: None, plugins: 0, guest: "touch" },
    Shape { name: "one pipeline, one plugin", lanes: None, plugins: 1, guest: "touch" },
    Shape { name: "1,000 instances (100 lanes x 10)", lanes: Some(100), plugins: 10, guest: "touch" },
    Shape {
        name: "1,000 instances of json-schema (100 lanes x 10)",
        lanes: Some(100),
        plugins: 10,
        guest: "json-schema",
    },
    Shape { name: "one pipeline, no plugin again (A/A)", lanes: None, plugins: 0, guest: "touch" },
];

const LIMIT: Duration = Duration::from_secs(120);
/// Idle is when the resident set has not moved for so long.
const STILL: Duration = Duration::from_secs(2);
/// What it may move by and be still, in KiB.
const WOBBLE_KIB: u64 = 64;

#[derive(Clone, Default)]
struct Held {
    idle_mib: Vec<f64>,
    /// Of it, with shared pages counted once: instances share what they have not written of their memory.
    shared_once_mib: Vec<f64>,
    after_mib: Vec<f64>,
    peak_mib: Vec<f64>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let brokers = arguments.brokers.as_deref().context("--brokers HOST:PORT of a real Kafka is missing")?;
    let bridge = Bridge::new(&arguments.portcullis, &arguments.guests)?;
    let name = load::run_name()?;
    let cache = tempfile::tempdir()?;
    let bench = Bench { arguments: &arguments, brokers, bridge, cache: &cache.path().join("compiled") };
    let mut results = vec![Held::default(); SHAPES.len()];
    // The first round compiles the plugins, which is not what an idle process holds, and is not counted.
    for round in 0..=arguments.rounds {
        for index in order(SHAPES.len(), round) {
            let (Some(shape), Some(into)) = (SHAPES.get(index), results.get_mut(index)) else { continue };
            let held = bench.measure(shape, &format!("{name}.{round}.{index}"));
            let [idle, shared_once, after, peak] = held.with_context(|| shape.name.to_owned())?;
            eprintln!(
                "round {round}: {:<47} {idle:.1} MiB idle ({shared_once:.1}), {after:.1} after messages, peak {peak:.1}",
                shape.name
            );
            if round > 0 {
                into.idle_mib.push(idle);
                into.shared_once_mib.push(shared_once);
                into.after_mib.push(after);
                into.peak_mib.push(peak);
            }
        }
    }
    print_table(&arguments, &results)
}

struct Bench<'a> {
    arguments: &'a Arguments,
    brokers: &'a str,
    bridge: Bridge,
    cache: &'a Path,
}

impl Bench<'_> {
    /// MiB idle after the start, the same with shared pages counted once, idle after messages, and at most.
    fn measure(&self, shape: &Shape, id: &str) -> Result<[f64; 4]> {
        let (brokers, folder) = (self.brokers, tempfile::tempdir()?);
        let (source, destination) = (format!("{id}.in"), format!("{id}.out"));
        let topics = [source.clone(), destination.clone()];
        load::create_topics(brokers, &topics)?;
        let (sources, lanes) = (std::slice::from_ref(&source), shape.lanes);
        let pipeline = KafkaToKafka { brokers, sources, group: id, destination: &destination, linger_ms: None, lanes };
        let pipeline = pipeline.yaml() + &self.bridge.plugins(shape.guest, shape.plugins);
        let mut contestant = self.bridge.start(folder.path(), &pipeline, Some(self.cache))?;
        let looked = self.look(&mut contestant, folder.path(), &topics);
        drop(contestant);
        let looked = looked.with_context(|| bridge::log_of(folder.path()))?;
        load::delete_topics(brokers, &topics)?;
        Ok(looked)
    }

    fn look(&self, contestant: &mut Contestant, folder: &Path, topics: &[String; 2]) -> Result<[f64; 4]> {
        let deadline = Instant::now() + LIMIT;
        // It has its partitions: every instance is made by then.
        while bridge::log_of(folder).matches("assigned").count() < load::PARTITIONS as usize {
            contestant.is_at_work()?;
            if Instant::now() > deadline {
                bail!("no partition was assigned within {} s", LIMIT.as_secs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let idle = still(contestant)?;
        let shared_once = proportional_kib(contestant.id())?;
        let [source, destination] = topics;
        load::fill(self.brokers, std::slice::from_ref(source), self.arguments.count, self.arguments.bytes)?;
        let arrivals = Arrivals::new(self.brokers, std::slice::from_ref(destination))?;
        load::wait_for(self.arguments.count, LIMIT, || arrivals.count(), || contestant.is_at_work())?;
        let after = still(contestant)?;
        let mib = |kib: u64| kib as f64 / 1024.0;
        Ok([mib(idle), mib(shared_once), mib(after), mib(usage(contestant.id())?.peak_kib)])
    }
}

/// The resident set in KiB once it is still.
fn still(contestant: &Contestant) -> Result<u64> {
    let deadline = Instant::now() + LIMIT;
    let mut last = usage(contestant.id())?.resident_kib;
    let mut since = Instant::now();
    while since.elapsed() < STILL {
        std::thread::sleep(Duration::from_millis(100));
        let now = usage(contestant.id())?.resident_kib;
        if now.abs_diff(last) > WOBBLE_KIB {
            (last, since) = (now, Instant::now());
        }
        if Instant::now() > deadline {
            bail!("the resident set was not still within {} s", LIMIT.as_secs());
        }
    }
    Ok(usage(contestant.id())?.resident_kib)
}

fn print_table(arguments: &Arguments, results: &[Held]) -> Result<()> {
    println!("{} messages of {} B, {} rounds", arguments.count, arguments.bytes, arguments.rounds);
    println!(
        "| Kafka to Kafka | idle after the start, MiB (range) | of it, shared pages once | idle after messages, MiB | peak MiB |\n|---|---|---|---|---|"
    );
    let mut rows = Vec::new();
    for (shape, held) in SHAPES.iter().zip(results) {
        let (idle, (low, high)) = (median(&held.idle_mib), range(&held.idle_mib));
        let (once, after, peak) = (median(&held.shared_once_mib), median(&held.after_mib), median(&held.peak_mib));
        println!("| {} | {idle:.1} ({low:.1}-{high:.1}) | {once:.1} | {after:.1} | {peak:.1} |", shape.name);
        rows.push(json!({
            "contestant": shape.name, "idle_mib": idle, "shared_once_mib": once, "after_mib": after, "peak_mib": peak,
            "rounds": { "idle_mib": held.idle_mib, "shared_once_mib": held.shared_once_mib, "after_mib": held.after_mib, "peak_mib": held.peak_mib },
        }));
    }
    let result = json!({ "bench": "memory", "messages": arguments.count, "value_bytes": arguments.bytes, "rounds": arguments.rounds, "rows": rows });
    table::write_json(arguments.json.as_deref(), &result)
}
