//! `cargo xtask attack`: egress vectors against the real bridge, in network namespaces of the runner's own making.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

use crate::steps::{self, Steps};
use crate::{cargo_target, guests, prerequisites};

/// The vectors that are in the tests; without a file named, the first are run.
pub(crate) const VECTORS: [&str; 2] = ["tests/attack/egress-vectors.jsonl", "tests/attack/more-vectors.jsonl"];

pub(crate) fn run(root: &Path, file: Option<&Path>, arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    let file = match file {
        // As it was typed: the runner works in another folder.
        Some(file) => std::env::current_dir()?.join(file),
        None => root.join(VECTORS.first().copied().unwrap_or_default()),
    };
    let mut steps = Steps::new("attack set-up");
    steps.step("what the build needs", prerequisites::build)?;
    steps.step("the guests, as WebAssembly components", || guests::build(root))?;
    steps.step("the bridge and the runner (the first build takes some minutes)", || {
        // The whole workspace, as in the tests: another selection would compile the dependencies once more.
        steps::run(Command::new("cargo").args(["build", "--locked", "--workspace"]).current_dir(root))
    })?;
    steps.finish();
    let mut runner = runner(root, &file);
    runner.args(arguments);
    eprintln!("\n$ {}\n", steps::line(&runner));
    let status = steps::status(&mut runner)?;
    // Ended by a signal: no code to pass on.
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(ExitCode::from(code))
}

/// The runner over the bridge and the probe as they were built last.
pub(crate) fn runner(root: &Path, file: &Path) -> Command {
    let binaries = cargo_target(root).join("debug");
    let mut runner = Command::new(binaries.join("portcullis-attack"));
    runner.arg(file).arg("--binary").arg(binaries.join("portcullis"));
    runner.arg("--probe").arg(root.join("target/guests/probe.wasm")).current_dir(root);
    runner
}
