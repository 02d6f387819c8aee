//! nats-server for the tests: the one on the path, else built once from the Go module proxy, else Debian's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::{prerequisites, steps};

/// What is built where none is on the path. docs/nats.md says from which version on the bridge works.
const VERSION: &str = "2.15.2";
/// Consumers with several filters, which the tests make.
const OLDEST: (u32, u32) = (2, 10);

/// The variable by which the tests find it.
pub(crate) const VARIABLE: &str = "BRIDGE_TEST_NATS_SERVER";

/// The program.
pub(crate) fn server(root: &Path) -> anyhow::Result<PathBuf> {
    let named = std::env::var_os(VARIABLE).map(PathBuf::from);
    let home = root.join("target/nats");
    let built = home.join("nats-server");
    let there = named.into_iter().chain(["nats-server".into()]).find(|program| is_new_enough(program));
    if let Some(program) = there {
        eprintln!("    {} is there", program.display());
        return Ok(program);
    }
    if version(&built).is_some_and(|version| version == VERSION) {
        eprintln!("    {} is there", built.display());
        return Ok(built);
    }
    let source = format!("github.com/nats-io/nats-server/v2@v{VERSION}");
    if prerequisites::has_go() {
        fs::create_dir_all(&home).with_context(|| home.display().to_string())?;
        let mut go = Command::new("go");
        // In the folder of the result: a go.mod above would be asked first.
        go.args(["install", &source]).env("GOBIN", &home).current_dir(&home);
        steps::run(&mut go)?;
        return Ok(built);
    }
    prerequisites::nats().with_context(|| {
        format!("or install Go and type: GOBIN=/usr/local/bin go install {source}; or name a nats-server in {VARIABLE}")
    })?;
    Ok("nats-server".into())
}

/// Whether the tests can run on it.
pub(crate) fn is_new_enough(program: &Path) -> bool {
    version(program).and_then(|text| numbers(&text)).is_some_and(|version| version >= OLDEST)
}

/// 2.15.2 from `nats-server: v2.15.2`.
fn version(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(text.trim().rsplit_once(": v")?.1.to_owned())
}

fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert!(numbers("2.15.2") >= Some(OLDEST) && numbers("2.10.0") >= Some(OLDEST));
        assert!(numbers("2.9.10") < Some(OLDEST) && numbers("1.99.0") < Some(OLDEST));
        assert_eq!(numbers("two"), None);
    }
}
