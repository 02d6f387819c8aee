//! `portcullis plugin build`: cargo for the plugins' target, and what came of it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::Value;

use crate::cli::words::some;
use crate::cli::{DONE, FAILED};
use crate::plugin::{ComponentFile, Sandbox, SandboxOptions, Takes};

const TARGET: &str = "wasm32-unknown-unknown";

#[derive(Args, Clone, Debug)]
pub(crate) struct BuildArguments {
    /// The folder of the crate.
    #[arg(default_value = ".", value_name = "FOLDER")]
    folder: PathBuf,
}

pub(super) fn build(arguments: &BuildArguments) -> u8 {
    match built(&arguments.folder) {
        Ok(()) => DONE,
        Err(error) => {
            eprintln!("portcullis: {error:#}");
            FAILED
        }
    }
}

fn built(folder: &Path) -> anyhow::Result<()> {
    if !folder.join("Cargo.toml").is_file() {
        bail!("{} has no Cargo.toml; `portcullis plugin new NAME --kind validator` makes a crate", folder.display());
    }
    // Whoever chose a compiler has chosen its target, too.
    if std::env::var_os("RUSTC").is_none() {
        have_target()?;
    }
    let mut cargo = Command::new("cargo");
    cargo.current_dir(folder).args(["build", "--release", "--target", TARGET]);
    cargo.args(["--message-format", "json-render-diagnostics"]).stderr(Stdio::inherit());
    let output = cargo.output().context("cargo cannot be run: is Rust installed?")?;
    if !output.status.success() {
        bail!("cargo has not built the plugin ({}): its messages are above", output.status);
    }
    let components: Vec<PathBuf> =
        String::from_utf8_lossy(&output.stdout).lines().filter_map(|line| component(line, folder)).collect();
    if components.is_empty() {
        bail!("cargo has built no component: the crate's [lib] needs `crate-type = [\"cdylib\"]`");
    }
    components.iter().try_for_each(|component| tell(component))
}

/// Adds the target where rustup can.
fn have_target() -> anyhow::Result<()> {
    let libdir = Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]).output();
    let has_it = libdir.is_ok_and(|output| {
        output.status.success() && Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir()
    });
    if has_it {
        return Ok(());
    }
    eprintln!("the target {TARGET} is not installed: rustup target add {TARGET}");
    let added = Command::new("rustup").args(["target", "add", TARGET]).stdout(Stdio::null()).status();
    if !added.is_ok_and(|status| status.success()) {
        bail!(
            "there is no target {TARGET}, and `rustup target add {TARGET}` did not add it; without rustup see \"Where rustup has no such target\" in plugins/README.md"
        );
    }
    Ok(())
}

/// The component of one line of cargo's output, where the line tells of one of this crate.
fn component(line: &str, folder: &Path) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(line).ok()?;
    let is_cdylib = message.pointer("/target/crate_types")?.as_array()?.iter().any(|kind| kind == "cdylib");
    let manifest = Path::new(message.get("manifest_path")?.as_str()?).canonicalize().ok()?;
    if message.get("reason")? != "compiler-artifact" || !is_cdylib || !manifest.starts_with(folder.canonicalize().ok()?)
    {
        return None;
    }
    let files = message.get("filenames")?.as_array()?;
    files.iter().filter_map(Value::as_str).find(|name| name.ends_with(".wasm")).map(PathBuf::from)
}

fn tell(path: &Path) -> anyhow::Result<()> {
    let sandbox = Sandbox::new(SandboxOptions::default())?;
    let file = ComponentFile::read(path).with_context(|| format!("{} was built and cannot be read", path.display()))?;
    let examined = sandbox.examine(&file).with_context(|| format!("{} was built and is no plugin", path.display()))?;
    let bytes = std::fs::metadata(path)?.len();
    println!("{}", path.display());
    println!("  {}, {}", some(bytes, "byte"), examined.digest);
    println!("  {}", examined.world);
    let mut needs: Vec<&str> = examined
        .imports
        .iter()
        .filter_map(|import| match import.takes {
            Takes::Grant(wish) => Some(wish.as_str()),
            _ => None,
        })
        .collect();
    needs.sort_unstable();
    needs.dedup();
    match needs.is_empty() {
        true => println!("  needs no grant"),
        false => println!("  needs grants: {} (portcullis inspect shows why)", needs.join(", ")),
    }
    Ok(())
}
