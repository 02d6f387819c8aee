//! promtool for the tests of the alert rules: the one on the path, else built once from the Go module proxy, else none.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::{prerequisites, steps};

/// The module's version of the release that docker-compose.yml runs: 3.5.0 there.
const VERSION: &str = "0.305.0";

/// The variable by which the tests find it.
pub(crate) const VARIABLE: &str = "BRIDGE_TEST_PROMTOOL";

/// The program; none where there is no Go, or where it cannot be built: what it would find is left to whoever has one.
pub(crate) fn program(root: &Path) -> Option<PathBuf> {
    let home = root.join("target/prometheus");
    let built = home.join("promtool");
    let named = std::env::var_os(VARIABLE).map(PathBuf::from);
    let there = named.into_iter().chain(["promtool".into(), built.clone()]).find(|program| answers(program));
    if let Some(program) = there {
        eprintln!("    {} is there", program.display());
        return Some(program);
    }
    if !prerequisites::has_go() {
        eprintln!("    there is none, and no Go to build it: rules and dashboard are checked for their form only");
        return None;
    }
    eprintln!("    building promtool: some minutes, once");
    match build(&home, &built) {
        Ok(()) => Some(built),
        Err(error) => {
            eprintln!("    {error:#}: rules and dashboard are checked for their form only");
            None
        }
    }
}

/// `go install` refuses a module that replaces others, so it is built where its source lies.
fn build(home: &Path, program: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(home).with_context(|| home.display().to_string())?;
    let module = format!("github.com/prometheus/prometheus@v{VERSION}");
    let mut download = Command::new("go");
    let told = download.args(["mod", "download", "-json", &module]).current_dir(home).output().context("go")?;
    if !told.status.success() {
        bail!("go mod download {module}: {}", String::from_utf8_lossy(&told.stdout).trim());
    }
    let told: serde_json::Value = serde_json::from_slice(&told.stdout).context("go mod download -json")?;
    let source = told.get("Dir").and_then(serde_json::Value::as_str).context("go mod download names no folder")?;
    let mut go = Command::new("go");
    go.args(["build", "-C", source, "-trimpath", "-ldflags=-s -w", "-o"]).arg(program).arg("./cmd/promtool");
    steps::run(go.current_dir(home))
}

fn answers(program: &Path) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_of_the_release_that_the_compose_file_runs() {
        let compose = include_str!("../../docker-compose.yml");
        let release = compose.split("image: prom/prometheus:v").nth(1).unwrap().lines().next().unwrap();
        let mut numbers = release.split('.').map(|number| number.parse::<u32>().unwrap());
        let (major, minor, patch) = (numbers.next().unwrap(), numbers.next().unwrap(), numbers.next().unwrap());
        // As Prometheus numbers its module since 3.0.
        assert_eq!(VERSION, format!("0.{}.{patch}", 100 * major + minor));
    }
}
