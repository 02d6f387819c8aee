//! What one plugin costs a message: a call with every budget on, for values of several sizes, against a component call that
//! does nothing. Alternating in one run; CPU time of the calling thread.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Parser;
use portcullis::plugin::{Grants, Instance, Kind, Limits, Outcome, PluginSpec, Sandbox, SandboxOptions, Sums};
use portcullis_bench::process::thread_cpu_ns;
use portcullis_bench::table::{self, median, range};
use portcullis_connector_api::{Bytes, Header, Message};
use serde_json::json;
use wasmtime::component::{Component, Linker, TypedFunc};
use wasmtime::{Config, Engine, Store};

#[derive(Parser)]
struct Arguments {
    /// Where the guests are.
    #[arg(long, default_value = "target/guests")]
    guests: PathBuf,
    /// Rounds; each contestant runs once a round.
    #[arg(long, default_value_t = 11)]
    rounds: usize,
    /// Calls of a contestant in a round; the kernel counts CPU time in steps of 4 ms, so a round must be much longer.
    #[arg(long, default_value_t = 400_000)]
    calls: u32,
    /// Where the JSON result goes.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Something to be called many times.
type Call = Box<dyn FnMut() -> Result<()>>;

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let sandbox = Sandbox::new(SandboxOptions::default())?;
    let mut contestants: Vec<(String, Call, Vec<f64>)> =
        vec![("empty component call".to_owned(), empty(&arguments)?, Vec::new())];
    for (guest, what) in [("touch", "validator that reads a byte"), ("touch-edit", "enricher that appends a header")] {
        for bytes in [100, 1024, 10 * 1024] {
            let call = plugin(&arguments, &sandbox, guest, bytes)?;
            contestants.push((format!("{what}, {bytes} B"), call, Vec::new()));
        }
    }
    contestants.push(("empty component call again (A/A)".to_owned(), empty(&arguments)?, Vec::new()));
    for round in 0..=arguments.rounds {
        for (_, call, times) in &mut contestants {
            let begin = thread_cpu_ns()?;
            for _ in 0..arguments.calls {
                call()?;
            }
            let per_call = (thread_cpu_ns()? - begin) as f64 / f64::from(arguments.calls);
            // The first round warms caches and is not counted.
            if round > 0 {
                times.push(per_call);
            }
        }
    }
    let reference = contestants.first().map(|(_, _, times)| median(times)).context("a reference")?;
    println!(
        "{} rounds of {} calls, 3 headers and a key on each message, every budget on",
        arguments.rounds, arguments.calls
    );
    println!("| call | ns of CPU, median (range) | against the empty call |\n|---|---|---|");
    let mut rows = Vec::new();
    for (name, _, times) in &contestants {
        let (middle, (low, high)) = (median(times), range(times));
        println!("| {name} | {middle:.0} ({low:.0}-{high:.0}) | {:.2} |", middle / reference);
        rows.push(json!({ "contestant": name, "ns": middle, "ns_range": [low, high], "ratio": middle / reference }));
    }
    let result = json!({ "bench": "call", "rounds": arguments.rounds, "calls": arguments.calls, "rows": rows });
    table::write_json(arguments.json.as_deref(), &result)
}

/// wasmtime alone, without any budget.
fn empty(arguments: &Arguments) -> Result<Call> {
    let engine = Engine::new(&Config::new())?;
    let bytes =
        std::fs::read(arguments.guests.join("empty.wasm")).context("the guests are missing: cargo xtask guests")?;
    let component = Component::new(&engine, bytes)?;
    let mut store = Store::new(&engine, ());
    let instance = Linker::new(&engine).instantiate(&mut store, &component)?;
    let nop: TypedFunc<(), ()> = instance.get_typed_func(&mut store, "nop")?;
    Ok(Box::new(move || Ok(nop.call(&mut store, ())?)))
}

fn plugin(arguments: &Arguments, sandbox: &Arc<Sandbox>, guest: &str, bytes: usize) -> Result<Call> {
    let spec = PluginSpec {
        name: guest.into(),
        pipeline: "bench".into(),
        tenant: "".into(),
        component: arguments.guests.join(format!("{guest}.wasm")),
        digest: None,
        config_json: "{}".to_owned(),
        left_out: Vec::new(),
        grants: Grants::default(),
        limits: Limits::default(),
        sums: Sums::default(),
    };
    let linked = sandbox.link(spec)?;
    let mut instance: Instance = linked.instantiate(None).map_err(|fault| anyhow::anyhow!("{fault}"))?;
    let mut original = Message::new("bench");
    original.key = Some(Bytes::from_static(b"key-00000001"));
    original.value = Some(Bytes::from(vec![b'x'; bytes]));
    original.headers = (0..3).map(|number| Header::new(format!("header-{number}"), Some("sixteen bytes..."))).collect();
    let edits = linked.kind() == Kind::Enricher;
    let mut message = original.clone();
    Ok(Box::new(move || {
        if edits {
            // Else the headers would grow from call to call. A validator leaves the message as it is.
            message = original.clone();
        }
        match instance.process(&mut message) {
            Outcome::Pass => Ok(()),
            other => bail!("{other:?}"),
        }
    }))
}
