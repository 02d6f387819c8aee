//! The plugin json-schema in the sandbox, with every budget on, against the same crate run natively in a process of its own:
//! the same schema and documents, alternating in one run; CPU time of the calling thread.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use portcullis::plugin::{Grants, Instance, Limits, Outcome, PluginSpec, Sandbox, SandboxOptions, Sums};
use portcullis_bench::bridge::{ORDER_SCHEMA, schema_config};
use portcullis_bench::process::{Contestant, thread_cpu_ns};
use portcullis_bench::table::{self, mean, median, range, ratio};
use portcullis_connector_api::{Bytes, Message};
use serde_json::{Value, json};

#[derive(Parser)]
struct Arguments {
    /// The same crate without a sandbox; `cargo xtask bench schema` builds it.
    #[arg(long, default_value = "target/native-schema/release/portcullis-bench-native-schema")]
    native: PathBuf,
    /// Where the guests are.
    #[arg(long, default_value = "target/guests")]
    guests: PathBuf,
    /// Rounds; each contestant runs once a round.
    #[arg(long, default_value_t = 11)]
    rounds: usize,
    /// About so many bytes of documents are checked by a contestant in a round.
    #[arg(long, default_value_t = 30_000_000)]
    bytes: u32,
    /// Where the JSON result goes.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// A document, and what was measured of it in nanoseconds a call, one entry a round.
struct Case {
    name: String,
    text: String,
    fits: bool,
    native: Vec<f64>,
    plugin: Vec<f64>,
    again: Vec<f64>,
}

impl Case {
    fn new(what: &str, text: String, fits: bool) -> Self {
        let (native, plugin, again) = Default::default();
        Self { name: format!("{what}, {} B", text.len()), text, fits, native, plugin, again }
    }

    fn calls(&self, bytes: u32) -> u32 {
        bytes / u32::try_from(self.text.len().max(256)).unwrap_or(u32::MAX)
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut cases = vec![
        Case::new("order with one item", order(1, true), true),
        Case::new("order with 20 items", order(20, true), true),
        Case::new("order with 200 items", order(200, true), true),
        Case::new("order with 20 items, the last one wrong", order(20, false), false),
    ];
    let folder = tempfile::tempdir()?;
    let mut native = Native::start(&arguments.native, folder.path(), &cases)?;
    let mut instance = plugin(&arguments.guests)?;
    // The first round warms caches and is not counted.
    for round in 0..=arguments.rounds {
        for (index, case) in cases.iter_mut().enumerate() {
            let calls = case.calls(arguments.bytes);
            let native_ns = native.run(index, calls)?;
            let plugin_ns = run_plugin(&mut instance, case, calls)?;
            let again_ns = native.run(index, calls)?;
            if round > 0 {
                case.native.push(native_ns / f64::from(calls));
                case.plugin.push(plugin_ns / f64::from(calls));
                case.again.push(again_ns / f64::from(calls));
            }
        }
    }
    print_table(&arguments, &cases)
}

fn order(items: u32, fits: bool) -> String {
    let item = |number: u32| {
        let wrong = !fits && number + 1 == items;
        let sku = if wrong { "wrong".to_owned() } else { format!("AB-{:04}", number + 1000) };
        json!({ "sku": sku, "quantity": number % 1000 + 1, "price": f64::from(number) + 10.5 })
    };
    let items: Vec<Value> = (0..items).map(item).collect();
    json!({ "id": 4711, "customer": "customer-1", "currency": "USD", "items": items }).to_string()
}

/// The contestant in a process of its own.
struct Native {
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    _process: Contestant,
}

impl Native {
    fn start(program: &Path, folder: &Path, cases: &[Case]) -> Result<Self> {
        let schema = folder.join("schema.json");
        std::fs::write(&schema, ORDER_SCHEMA)?;
        let mut command = Command::new(program);
        command.arg(&schema);
        for (number, case) in cases.iter().enumerate() {
            let document = folder.join(format!("{number}.json"));
            std::fs::write(&document, &case.text)?;
            command.arg(document);
        }
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let child = child.with_context(|| format!("{} is missing: cargo xtask bench schema", program.display()))?;
        let mut process = Contestant::new(child);
        let to = process.child().stdin.take().context("a pipe")?;
        let from = BufReader::new(process.child().stdout.take().context("a pipe")?);
        Ok(Self { to, from, _process: process })
    }

    /// Nanoseconds of so many calls.
    fn run(&mut self, document: usize, calls: u32) -> Result<f64> {
        writeln!(self.to, "{document} {calls}")?;
        let mut line = String::new();
        self.from.read_line(&mut line)?;
        line.trim().parse().context("the native contestant has ended")
    }
}

fn plugin(guests: &Path) -> Result<Instance> {
    let sandbox = Sandbox::new(SandboxOptions::default())?;
    let linked = sandbox.link(PluginSpec {
        name: "json-schema".into(),
        pipeline: "bench".into(),
        tenant: "".into(),
        component: guests.join("json-schema.wasm"),
        digest: None,
        config_json: schema_config(),
        left_out: Vec::new(),
        grants: Grants::default(),
        // Budgets cost what they cost however large they are; this process may wait long for a busy machine.
        limits: Limits { deadline_ms: 60_000, ..Limits::default() },
        sums: Sums::default(),
    })?;
    linked.instantiate(None).map_err(|fault| anyhow::anyhow!("{fault}"))
}

fn run_plugin(instance: &mut Instance, case: &Case, calls: u32) -> Result<f64> {
    let mut message = Message::new("bench");
    message.value = Some(Bytes::copy_from_slice(case.text.as_bytes()));
    let begin = thread_cpu_ns()?;
    for _ in 0..calls {
        let outcome = instance.process(&mut message);
        let as_expected = matches!((&outcome, case.fits), (Outcome::Pass, true) | (Outcome::Reject(_), false));
        ensure!(as_expected, "{}: {outcome:?}", case.name);
    }
    Ok((thread_cpu_ns()? - begin) as f64)
}

fn print_table(arguments: &Arguments, cases: &[Case]) -> Result<()> {
    println!("{} rounds; ns of CPU a document, median (range)", arguments.rounds);
    println!(
        "| document | in the sandbox, against native | native | in the sandbox | native again (A/A) |\n|---|---|---|---|---|"
    );
    let mut rows = Vec::new();
    for case in cases {
        let reference = mean(&case.native, &case.again);
        let (times, control) = (ratio(&case.plugin, &reference), ratio(&case.again, &case.native));
        let shown = |values: &[f64]| {
            let (low, high) = range(values);
            format!("{:.0} ({low:.0}-{high:.0})", median(values))
        };
        println!("| {} | {times:.2} | {} | {} | {control:.2} |", case.name, shown(&case.native), shown(&case.plugin));
        rows.push(json!({
            "document": case.name, "ratio": times, "control": control,
            "rounds": { "native_ns": case.native, "plugin_ns": case.plugin, "native_again_ns": case.again },
        }));
    }
    let result = json!({ "bench": "schema", "rounds": arguments.rounds, "rows": rows });
    table::write_json(arguments.json.as_deref(), &result)
}
