//! `cargo xtask quickstart`: from a fresh clone to messages that go through three plugins.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

use crate::steps::{self, Steps};
use crate::{cargo_target, guests, prerequisites};

const PIPELINE: &str = "pipelines/orders.yaml";

pub(crate) fn run(root: &Path, arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    let mut steps = Steps::new("quickstart set-up");
    steps.step("what the build needs", prerequisites::build)?;
    steps.step("the plugins, as WebAssembly components", || guests::build(root))?;
    steps.step("the bridge (the first build takes some minutes)", || {
        // The whole workspace, as in the tests: another selection would compile the dependencies once more.
        steps::run(Command::new("cargo").args(["build", "--locked", "--workspace"]).current_dir(root))
    })?;
    steps.finish();
    let mut portcullis = Command::new(cargo_target(root).join("debug/portcullis"));
    portcullis.arg("dev").arg(PIPELINE).args(arguments).current_dir(root);
    eprintln!("\n$ {}\n", steps::line(&portcullis));
    let status = steps::status(&mut portcullis)?;
    // Ended by a signal: no code to pass on.
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(ExitCode::from(code))
}
