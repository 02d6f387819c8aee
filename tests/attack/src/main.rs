//! Runs egress vectors against the bridge: each in a network namespace of its own, in which every address is on the loopback
//! device. So real addresses are used, every packet is seen, and none leaves the machine.
//!
//! Prints one JSON line a vector, then a summary. Exit codes: 0 all are as they must be, 1 some are not, 2 nothing could be run.

mod bridge;
mod dns;
mod folder;
mod judge;
mod namespace;
mod packets;
mod runner;
mod servers;
mod tls;
mod vector;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Runs egress vectors against the bridge, each in a network namespace of its own.
///
/// Exit codes: 0 all vectors are as they must be, 1 some are not, 2 nothing could be run.
#[derive(Debug, Parser)]
#[command(name = "portcullis-attack")]
struct Arguments {
    /// A file of vectors, one JSON object a line
    #[arg(required_unless_present = "worker")]
    file: Option<PathBuf>,
    /// The bridge
    #[arg(long, value_name = "FILE", default_value = "target/debug/portcullis")]
    binary: PathBuf,
    /// The probe plugin
    #[arg(long, value_name = "FILE", default_value = "target/guests/probe.wasm")]
    probe: PathBuf,
    /// Only this vector; may be repeated
    #[arg(long, value_name = "ID")]
    only: Vec<String>,
    /// Vectors at a time; as many as there are cores without it
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: Option<u16>,
    /// Keeps the folders of the runs, and says where
    #[arg(long)]
    keep: bool,
    /// One vector, told on the standard input: how the runner calls itself in a namespace
    #[arg(long, hide = true)]
    worker: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.file {
        Some(file) if !arguments.worker => runner::run(file, &arguments),
        _ => worker::run().map(|()| true),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("attack: {error:#}");
            ExitCode::from(2)
        }
    }
}
