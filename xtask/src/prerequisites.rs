//! What has to be on the machine before a chore: looked for, installed where that needs no question, else named with the
//! command that installs it.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::{nats, steps};

/// Something that a chore needs and cargo does not bring.
struct Need {
    what: &'static str,
    is_there: fn() -> bool,
    /// The Debian packages to try, best first: distributions differ in the versions that they carry.
    packages: &'static [&'static str],
}

/// librdkafka is built from source, and links the system's OpenSSL and zlib.
const BUILD: &[Need] = &[
    Need { what: "a C compiler", is_there: || succeeds("cc", &["--version"]), packages: &["gcc"] },
    Need { what: "the C library's headers", is_there: has_libc_headers, packages: &["libc6-dev"] },
    Need { what: "make", is_there: || succeeds("make", &["--version"]), packages: &["make"] },
    Need { what: "pkg-config", is_there: || succeeds("pkg-config", &["--version"]), packages: &["pkg-config"] },
    Need { what: "OpenSSL's headers", is_there: || has_library("openssl"), packages: &["libssl-dev"] },
    Need { what: "zlib's headers", is_there: || has_library("zlib"), packages: &["zlib1g-dev"] },
];

const KAFKA: &[Need] = &[
    Need {
        what: "Java 17 or newer",
        is_there: has_java_17,
        packages: &["openjdk-17-jre-headless", "openjdk-21-jre-headless", "openjdk-25-jre-headless"],
    },
    Need { what: "Maven", is_there: || succeeds("mvn", &["--version"]), packages: &["maven"] },
];

const NATS: &[Need] = &[Need {
    what: "nats-server 2.10 or newer",
    is_there: || nats::is_new_enough(Path::new("nats-server")),
    packages: &["nats-server"],
}];

const PYTHON: &[Need] = &[
    Need { what: "Python 3", is_there: || succeeds("python3", &["--version"]), packages: &["python3"] },
    Need { what: "Python's venv", is_there: has_venv, packages: &["python3-venv"] },
];

const NODE: &[Need] = &[
    Need { what: "Node.js 20.19 or newer", is_there: has_node_20, packages: &["nodejs"] },
    Need { what: "npm", is_there: || succeeds("npm", &["--version"]), packages: &["npm"] },
];

/// What building the bridge needs.
pub(crate) fn build() -> anyhow::Result<()> {
    ensure(BUILD)
}

/// What fetching and running a real Kafka needs.
pub(crate) fn kafka() -> anyhow::Result<()> {
    ensure(KAFKA)
}

/// What a real NATS needs where it is not built.
pub(crate) fn nats() -> anyhow::Result<()> {
    ensure(NATS)
}

/// Whether Go is there, which builds a nats-server. It is never installed for that alone.
pub(crate) fn has_go() -> bool {
    succeeds("go", &["version"])
}

/// What the independent clients need.
pub(crate) fn python() -> anyhow::Result<()> {
    ensure(PYTHON)
}

/// What the component tools of JavaScript need.
pub(crate) fn node() -> anyhow::Result<()> {
    ensure(NODE)
}

/// rustfmt and clippy, which a minimal Rust toolchain leaves out.
pub(crate) fn rust_components() -> anyhow::Result<()> {
    let missing: Vec<&str> = [("fmt", "rustfmt"), ("clippy", "clippy")]
        .into_iter()
        .filter(|(command, _)| !succeeds("cargo", &[command, "--version"]))
        .map(|(_, component)| component)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut rustup = Command::new("rustup");
    rustup.args(["component", "add"]).args(&missing);
    steps::run(&mut rustup).context("the tests need rustfmt and clippy of the Rust toolchain in use")
}

fn ensure(needs: &[Need]) -> anyhow::Result<()> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !(need.is_there)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for need in &missing {
        eprintln!("    missing: {}", need.what);
    }
    if !succeeds("apt-get", &["--version"]) {
        bail!("install {}, then type the command again", join(missing.iter().map(|need| need.what), ", "));
    }
    let is_root = output("id", &["-u"]).is_some_and(|user| user.trim() == "0");
    if !is_root {
        let packages = join(missing.iter().filter_map(|need| need.packages.first().copied()), " ");
        bail!("type: sudo apt-get update && sudo apt-get install -y {packages}, then the command again");
    }
    steps::run(Command::new("apt-get").args(["update", "-q"]))?;
    for need in missing {
        install(need)?;
    }
    Ok(())
}

fn install(need: &Need) -> anyhow::Result<()> {
    let offered = need.packages.iter().find(|package| {
        output("apt-cache", &["policy", package]).is_some_and(|text| {
            text.lines().any(|line| line.trim_start().starts_with("Candidate:") && !line.contains("(none)"))
        })
    });
    let Some(package) = offered else {
        bail!("{} is missing, and no package source has {}", need.what, need.packages.join(" or "));
    };
    let mut install = Command::new("apt-get");
    install.args(["install", "-y", "-q", "--no-install-recommends", package]).env("DEBIAN_FRONTEND", "noninteractive");
    steps::run(&mut install)?;
    if !(need.is_there)() {
        bail!("{} is still not found after the package {package} was installed", need.what);
    }
    Ok(())
}

fn has_libc_headers() -> bool {
    let mut compiler = Command::new("cc");
    compiler.args(["-E", "-include", "stdlib.h", "-x", "c", "/dev/null"]);
    compiler
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn has_library(name: &str) -> bool {
    succeeds("pkg-config", &["--exists", name])
}

/// Debian's python3 without python3-venv has the module `venv`, but not what it starts pip with.
fn has_venv() -> bool {
    succeeds("python3", &["-c", "import venv, ensurepip"])
}

fn has_node_20() -> bool {
    output("node", &["--version"]).and_then(|text| node_version(&text)).is_some_and(|version| version >= (20, 19))
}

/// (20, 19) from `v20.19.2`.
fn node_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.trim().strip_prefix('v')?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn has_java_17() -> bool {
    // Java prints its version to the standard error stream.
    let Ok(java) = Command::new("java").arg("-version").stdin(Stdio::null()).output() else { return false };
    java_major(&String::from_utf8_lossy(&java.stderr)).is_some_and(|major| major >= 17)
}

/// 17 from `openjdk version "17.0.15" 2025-04-15`; 1 from the `1.8.0_442` of Java 8, which is as much too old.
fn java_major(text: &str) -> Option<u32> {
    let version = text.split('"').nth(1)?;
    version.split(['.', '-', '+']).next()?.parse().ok()
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    output(program, arguments).is_some()
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn join<'a>(words: impl Iterator<Item = &'a str>, separator: &str) -> String {
    words.collect::<Vec<_>>().join(separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_versions_are_compared_by_number() {
        assert!(node_version("v20.19.2\n") >= Some((20, 19)) && node_version("v100.1.0") > Some((20, 19)));
        assert!(node_version("v20.9.0") < Some((20, 19)) && node_version("v18.20.4") < Some((20, 19)));
        assert_eq!(node_version("20"), None);
    }

    #[test]
    fn java_versions_old_and_new_are_read() {
        assert_eq!(java_major("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK Runtime"), Some(17));
        assert_eq!(java_major("openjdk version \"26-ea\" 2026-03-17"), Some(26));
        assert_eq!(java_major("java version \"1.8.0_442\""), Some(1));
        assert_eq!(java_major("Unrecognized option"), None);
    }
}
