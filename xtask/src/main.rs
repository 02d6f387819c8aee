//! Set-up and chores, so that nobody reads a wiki: `cargo xtask --help` lists them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};

mod attack;
mod bench;
mod examples;
mod guests;
mod kafka;
mod nats;
mod prerequisites;
mod promtool;
mod python;
mod quickstart;
mod steps;
mod test;

/// The same broker as in the tests: their files use the standard library only.
#[path = "../../tests/support"]
#[allow(dead_code, reason = "the tests use all of it")]
mod support {
    pub(crate) mod broker;
    pub(crate) mod wait;
}

/// Set-up and chores of Portcullis.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Builds the bridge and its plugins and shows them at work on a broker inside the process
    Quickstart {
        /// Passed to `portcullis dev`: --keep, --brokers HOST:PORT, --format json
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Runs everything that has to be green before a merge, or parts of it
    Test {
        /// Without one: all of them
        #[arg(value_enum)]
        parts: Vec<Part>,
        /// Passed to the test binaries, as in `cargo xtask test cases -- name_of_a_test`
        #[arg(last = true)]
        filter: Vec<String>,
    },
    /// Builds the plugins and the test guests into target/guests
    Guests,
    /// Runs a file of egress vectors against the bridge, each in a network namespace of its own
    Attack {
        /// One JSON object a line; tests/attack/egress-vectors.jsonl without it
        file: Option<PathBuf>,
        /// Passed to the runner, as in `cargo xtask attack -- --only D10 --keep`
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
    /// Measures, as ratios of contestants that alternate in one run; `target/bench/` gets the results as JSON
    Bench {
        /// What to measure; all of them without one
        #[arg(value_enum)]
        bench: Option<bench::Bench>,
        /// Passed to the bench, as in `cargo xtask bench pipe -- --rounds 5`
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Starts a real Kafka for trying by hand, until Ctrl-C; its data is thrown away
    Kafka {
        /// The port on 127.0.0.1
        #[arg(long, default_value_t = 9092)]
        port: u16,
        /// A topic to create, as NAME or NAME:PARTITIONS; may be repeated
        #[arg(long = "topic")]
        topics: Vec<String>,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Format, lints, unit, property and documentation tests
    Unit,
    /// Everything through the binary that needs no broker: tests/cases, hostile plugins, link, explain, the command line
    Cases,
    /// The tests on real brokers
    Brokers,
    /// The egress vectors, in network namespaces of their own
    Attack,
    /// Lints, native tests and builds of the plugins and the test guests; named, also the examples in Python and JavaScript
    Guests,
}

fn main() -> ExitCode {
    match run(Arguments::parse().chore) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(chore: Chore) -> anyhow::Result<ExitCode> {
    let root = root()?;
    match chore {
        Chore::Quickstart { arguments } => quickstart::run(&root, &arguments),
        Chore::Test { parts, filter } => test::run(&root, &parts, &filter),
        Chore::Guests => {
            guests::build(&root)?;
            Ok(ExitCode::SUCCESS)
        }
        Chore::Attack { file, arguments } => attack::run(&root, file.as_deref(), &arguments),
        Chore::Bench { bench, arguments } => bench::run(&root, bench, &arguments),
        Chore::Kafka { port, topics } => kafka::run_by_hand(&root, port, &topics),
    }
}

/// The repository, from wherever in it the command was typed.
fn root() -> anyhow::Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has no parent folder")?;
    Ok(root.to_owned())
}

/// Where cargo puts the binaries; what xtask itself fetches always lies in `target` of the repository.
fn cargo_target(root: &Path) -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => std::env::current_dir().unwrap_or_default().join(folder),
        None => root.join("target"),
    }
}
