//! A tenant's latency beside a tenant whose plugins spin, leak and flood: the same tenant alone, under attack, and beside a
//! core that a process without any bridge keeps busy, alternating, open loop: a message is written when its time has come,
//! whatever became of those before. The busy core is what the machine itself does to a latency once a core has no idle time;
//! what an attack costs beyond it is the bridge's.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use portcullis_bench::table::{self, median, range, ratio};
use serde_json::{Value, json};

#[derive(Parser)]
struct Arguments {
    /// Messages a second of the tenant that is measured.
    #[arg(long, default_value_t = 400)]
    rate: u32,
    /// Seconds a round.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Rounds; quiet, attacked and quiet again once a round.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only these of tenant A's plugins: `spins-forever`, `allocates-without-end`, `logs-without-end`; all without it.
    #[arg(long, value_delimiter = ',')]
    attackers: Vec<String>,
    /// The bridge's binary.
    #[arg(long, default_value = "target/release/portcullis")]
    portcullis: PathBuf,
    /// Where the guests are.
    #[arg(long, default_value = "target/guests")]
    guests: PathBuf,
    /// Where the JSON result goes.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Keeps a core busy until standard input ends, and measures nothing.
    #[arg(long, hide = true)]
    busy: bool,
}

/// What tenant B has beside it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    Nobody,
    Attackers,
    BusyCore,
}

const CONTESTANTS: [(&str, Beside); 4] = [
    ("quiet", Beside::Nobody),
    ("beside an attacker", Beside::Attackers),
    ("beside a core that another process keeps busy", Beside::BusyCore),
    ("quiet again (A/A)", Beside::Nobody),
];

/// The first second is start-up: caches, first instances.
const WARM_UP: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(60);

/// Latencies of one round in milliseconds.
struct Round {
    p50_ms: f64,
    p99_ms: f64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if arguments.busy {
        return keep_busy();
    }
    for wanted in &arguments.attackers {
        let names = ATTACKERS.map(|(_, guest, _)| guest);
        ensure!(names.contains(&wanted.as_str()), "`--attackers {wanted}` is none of {}", names.join(", "));
    }
    let mut rounds = CONTESTANTS.map(|_| Vec::new());
    for round in 0..arguments.rounds {
        for ((name, beside), into) in CONTESTANTS.into_iter().zip(&mut rounds) {
            let one = run(&arguments, beside)?;
            eprintln!("round {round}: {name}: p50 {:.2} ms, p99 {:.2} ms", one.p50_ms, one.p99_ms);
            into.push(one);
        }
    }
    let p99 = rounds.each_ref().map(|rounds| rounds.iter().map(|round| round.p99_ms).collect::<Vec<_>>());
    let [quiet, ..] = &p99;
    println!("{} messages a second, {} rounds of {} s\n", arguments.rate, arguments.rounds, arguments.seconds);
    println!("| tenant B | p99 ratio | p99 ms (range) | p50 ms |\n|---|---|---|---|");
    for (((name, _), rounds), p99) in CONTESTANTS.into_iter().zip(&rounds).zip(&p99) {
        let (low, high) = range(p99);
        let p50: Vec<f64> = rounds.iter().map(|round| round.p50_ms).collect();
        println!(
            "| {name} | {:.2} | {:.2} ({low:.2}-{high:.2}) | {:.2} |",
            ratio(p99, quiet),
            median(p99),
            median(&p50)
        );
    }
    let [quiet, attacked, busy, again] = &p99;
    let result = json!({
        "bench": "neighbour", "rate": arguments.rate, "seconds": arguments.seconds, "quiet_p99_ms": quiet,
        "attacked_p99_ms": attacked, "busy_core_p99_ms": busy, "quiet_again_p99_ms": again,
    });
    table::write_json(arguments.json.as_deref(), &result)
}

/// Computes until whoever started this closes its standard input, or is gone.
fn keep_busy() -> Result<()> {
    let ended = std::thread::spawn(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    while !ended.is_finished() {
        std::hint::spin_loop();
    }
    ended.join().map_err(|_| anyhow::anyhow!("the reader has panicked"))??;
    Ok(())
}

fn run(arguments: &Arguments, beside: Beside) -> Result<Round> {
    let folder = tempfile::tempdir()?;
    let guests = arguments.guests.canonicalize().context("the guests are missing: cargo xtask guests")?;
    let mut files = vec!["good.yaml"];
    std::fs::write(folder.path().join("good.yaml"), good(&guests))?;
    if beside == Beside::Attackers {
        let is_wanted =
            |guest: &str| arguments.attackers.is_empty() || arguments.attackers.iter().any(|one| one == guest);
        for (name, guest, rate) in ATTACKERS.into_iter().filter(|(_, guest, _)| is_wanted(guest)) {
            std::fs::write(folder.path().join(name), attacker(&guests, guest, rate))?;
            files.push(name);
        }
    }
    std::fs::write(
        folder.path().join("portcullis.yaml"),
        format!(
            "audit: {{ file: audit.jsonl }}\nadmin: {{ listen: \"127.0.0.1:0\" }}\npipelines_may_name: {{ files: [\"{}/**\"] }}\n\
             tenants:\n  a: {{ limits: {{ memory: 256MiB, cpu_share: 1 }} }}\n  b: {{ limits: {{ memory: 256MiB, cpu_share: 1 }} }}\n",
            guests.display()
        ),
    )?;
    let program = arguments.portcullis.canonicalize().context("the bridge is missing: cargo build --release")?;
    let log = std::fs::File::create(folder.path().join("log"))?;
    let mut bridge = Command::new(program)
        .arg("run")
        .args(files)
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()?;
    let busy = (beside == Beside::BusyCore).then(busy).transpose();
    let measured = busy.and_then(|busy| {
        let measured = measure(arguments, &mut bridge);
        if let Some(mut busy) = busy {
            drop(busy.stdin.take());
            busy.wait()?;
        }
        measured
    });
    bridge.kill()?;
    bridge.wait()?;
    measured.with_context(|| log_of(folder.path()))
}

fn busy() -> Result<Child> {
    Ok(Command::new(std::env::current_exe()?).arg("--busy").stdin(Stdio::piped()).spawn()?)
}

fn log_of(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("log")).unwrap_or_default().chars().take(4000).collect()
}

/// What tenant A runs: the file, the guest and how many messages a second it gets.
const ATTACKERS: [(&str, &str, u32); 3] = [
    ("spins.yaml", "spins-forever", 1000),
    ("leaks.yaml", "allocates-without-end", 1000),
    ("floods.yaml", "logs-without-end", 1000),
];

fn good(guests: &Path) -> String {
    format!(
        "pipeline: good\ntenant: b\norder: key\nsource: {{ stdio: {{}} }}\nplugins:\n  - {{ name: one, component: {0} }}\n  - {{ name: two, component: {0} }}\nsink: {{ stdio: {{}} }}\n",
        guests.join("touch.wasm").display()
    )
}

fn attacker(guests: &Path, guest: &str, rate: u32) -> String {
    format!(
        "pipeline: {guest}\ntenant: a\nsource: {{ generator: {{ rate: {rate}/s, key: \"k{{{{seq}}}}\", value_bytes: 64 }} }}\nplugins:\n  - name: bad\n    component: {}\n    grants: {{ log: info }}\n    on: {{ fault: drop, reject: drop }}\n    limits: {{ restarts: 100000/s }}\nsink: {{ file: {{ path: {guest}.out }} }}\n",
        guests.join(format!("{guest}.wasm")).display()
    )
}

/// Writes on time and reads what comes out; the number of a message is its key.
fn measure(arguments: &Arguments, bridge: &mut Child) -> Result<Round> {
    let mut stdin = bridge.stdin.take().context("a pipe")?;
    let stdout = bridge.stdout.take().context("a pipe")?;
    let total = arguments.rate.saturating_mul(arguments.seconds) as usize;
    let pause = Duration::from_secs(1) / arguments.rate.max(1);
    let (arrived, arrivals) = std::sync::mpsc::sync_channel(1 << 16);
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(std::io::Result::ok) {
            if arrived.send((line, Instant::now())).is_err() {
                return;
            }
        }
    });
    // One message first: what it takes to start is not the neighbours' doing.
    writeln!(stdin, "{}", json!({ "key": "start", "value": "x" }))?;
    stdin.flush()?;
    arrivals.recv_timeout(LIMIT).context("the first message did not come out")?;
    let begin = Instant::now() + Duration::from_millis(50);
    let due = move |number: usize| begin + pause * u32::try_from(number).unwrap_or(u32::MAX);
    let value = "x".repeat(512);
    let writer = std::thread::spawn(move || -> std::io::Result<()> {
        for number in 0..total {
            std::thread::sleep(due(number).saturating_duration_since(Instant::now()));
            writeln!(stdin, "{}", json!({ "key": number.to_string(), "value": value }))?;
            stdin.flush()?;
        }
        Ok(())
    });
    let mut latencies = Vec::with_capacity(total);
    for _ in 0..total {
        let (line, at) = arrivals.recv_timeout(LIMIT).context("not every message came out in time")?;
        let message: Value = serde_json::from_str(&line)?;
        let number: usize = message.get("key").and_then(Value::as_str).unwrap_or_default().parse()?;
        if due(number) >= begin + WARM_UP {
            latencies.push(at.saturating_duration_since(due(number)).as_secs_f64() * 1e3);
        }
    }
    writer.join().map_err(|_| anyhow::anyhow!("the writer has panicked"))??;
    ensure!(!latencies.is_empty(), "a round must be longer than {} s", WARM_UP.as_secs());
    latencies.sort_by(f64::total_cmp);
    let at = |part: f64| latencies.get(((latencies.len() - 1) as f64 * part) as usize).copied().unwrap_or(f64::NAN);
    Ok(Round { p50_ms: at(0.5), p99_ms: at(0.99) })
}
