//! The components: which toolchain builds them, one cargo call for all of them, and where they are put.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use anyhow::{Context as _, Result, bail};

mod composed;

const TARGET: &str = "wasm32-unknown-unknown";
/// Magic, then version 13 of layer 1: what tells a component from a core module.
const COMPONENT_HEADER: [u8; 8] = *b"\0asm\x0d\0\x01\0";
const LINKER: &str = "wasm-component-ld";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_INSTALL: &str = "apt-get install --yes --no-install-recommends rustc-web rust-web-src";
/// Long enough for 30 MB on a slow line, short enough that a machine without a way out learns it soon.
const RUSTUP_LIMIT: Duration = Duration::from_secs(120);

/// Builds the shipped plugins and the test guests in one cargo call and returns the components in `target/guests`, sorted by name.
/// The shipped ones are also put into `plugins/`, where the pipelines name them.
///
/// # Errors
/// When no toolchain can be had (the error holds the command that gets one), when the build fails, or when its output is not
/// a component.
pub(crate) fn build(root: &Path) -> Result<Vec<PathBuf>> {
    let toolchain = Toolchain::choose(root)?;
    let mut artifacts = compile(root, &toolchain)?;
    artifacts.sort();
    let destination = root.join("target/guests");
    fs::create_dir_all(&destination)?;
    let mut components = Vec::with_capacity(artifacts.len());
    let read = |artifact: &Artifact| {
        fs::read(&artifact.file).with_context(|| format!("cannot read {}", artifact.file.display()))
    };
    for artifact in &artifacts {
        let bytes = composed::compose(&artifact.name, read(artifact)?, |other| {
            read(
                artifacts
                    .iter()
                    .find(|built| built.name == other)
                    .with_context(|| format!("there is no guest {other}"))?,
            )
        })?;
        if !bytes.starts_with(&COMPONENT_HEADER) {
            bail!(
                "{} is not a component; is plugins/.cargo/config.toml overridden by the environment?",
                artifact.file.display()
            );
        }
        let file_name = format!("{}.wasm", artifact.name);
        if artifact.shipped {
            replace(&root.join("plugins").join(&file_name), &bytes)?;
        }
        let component = destination.join(&file_name);
        replace(&component, &bytes)?;
        components.push(component);
    }
    eprintln!("guests: {} components in {}", components.len(), destination.display());
    Ok(components)
}

/// What a build of a component needs in its environment, as a JSON object: for tests that build one themselves.
///
/// # Errors
/// When no toolchain can be had.
pub(crate) fn toolchain_json(root: &Path) -> Result<String> {
    let variables = Toolchain::choose(root)?.variables.into_iter();
    let texts: serde_json::Map<String, serde_json::Value> =
        variables.map(|(name, value)| (name.to_owned(), value.to_string_lossy().into_owned().into())).collect();
    Ok(serde_json::Value::Object(texts).to_string())
}

/// What cargo needs in its environment to build for the guests' target.
#[derive(Debug, Default)]
pub(crate) struct Toolchain {
    variables: Vec<(&'static str, OsString)>,
}

impl Toolchain {
    /// Takes the toolchain that is there, then the one that rustup can add, then Debian's. `GUEST_TOOLCHAIN` set to `rustup`
    /// or `debian` allows only that one.
    pub(crate) fn choose(root: &Path) -> Result<Self> {
        let wanted = env::var("GUEST_TOOLCHAIN").unwrap_or_default();
        match wanted.as_str() {
            "" if rustup_has_target() || rustup_adds_target() => Ok(Self::default()),
            "rustup" if rustup_has_target() || rustup_adds_target() => Ok(Self::default()),
            "rustup" => bail!("rustup has no {TARGET}: run `rustup target add {TARGET}`"),
            "" | "debian" => debian(root),
            other => bail!("GUEST_TOOLCHAIN is `{other}`; it is `rustup`, `debian` or not set"),
        }
    }

    fn cargo(&self) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        // What `cargo xtask` and `cargo llvm-cov` set for the host's target must not reach the guests'.
        for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_TARGET_DIR"] {
            command.env_remove(variable);
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Artifact {
    name: String,
    file: PathBuf,
    shipped: bool,
}

fn compile(root: &Path, toolchain: &Toolchain) -> Result<Vec<Artifact>> {
    let plugins = root.join("plugins");
    eprintln!("guests: building the components (about two minutes the first time)");
    let mut cargo = toolchain.cargo();
    cargo.current_dir(&plugins).args(["build", "--release", "--locked", "--target", TARGET]);
    cargo.args(["--workspace", "--exclude", "portcullis-plugin-macros"]);
    cargo.args(["--message-format", "json-render-diagnostics"]).stderr(Stdio::inherit());
    let output = cargo.output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("the components were not built ({}): the compiler's messages are above", output.status);
    }
    let plugins = plugins.canonicalize()?;
    let messages = String::from_utf8_lossy(&output.stdout);
    Ok(messages.lines().filter_map(|line| artifact(line, &plugins)).collect())
}

/// The component of one line of cargo's output, where the line tells of one.
fn artifact(line: &str, plugins: &Path) -> Option<Artifact> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    let is_cdylib = message.pointer("/target/crate_types")?.as_array()?.iter().any(|kind| kind == "cdylib");
    if message.get("reason")? != "compiler-artifact" || !is_cdylib {
        return None;
    }
    let manifest = Path::new(message.get("manifest_path")?.as_str()?);
    let file = message.get("filenames")?.as_array()?.iter().find_map(|name| {
        let name = name.as_str()?;
        name.ends_with(".wasm").then(|| PathBuf::from(name))
    })?;
    // The folder's name is the package's; a library's file name has its dashes replaced.
    let folder = manifest.parent()?;
    Some(Artifact { name: folder.file_name()?.to_str()?.to_owned(), file, shipped: folder.parent()? == plugins })
}

/// Leaves an unchanged file alone, so that what is keyed by its time of change stays valid.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let partial = path.with_extension("partial");
    fs::write(&partial, bytes).with_context(|| format!("cannot write {}", partial.display()))?;
    fs::rename(&partial, path).with_context(|| format!("cannot write {}", path.display()))
}

fn rustc() -> OsString {
    env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())
}

fn rustup_has_target() -> bool {
    let Ok(directory) = answer(Command::new(rustc()).args(["--print", "target-libdir", "--target", TARGET])) else {
        return false;
    };
    fs::read_dir(directory)
        .is_ok_and(|entries| entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-")))
}

fn rustup_adds_target() -> bool {
    eprintln!("guests: rustup target add {TARGET}");
    let Ok(mut child) = Command::new("rustup").args(["target", "add", TARGET]).stdin(Stdio::null()).spawn() else {
        eprintln!("guests: there is no rustup here");
        return false;
    };
    let deadline = Instant::now() + RUSTUP_LIMIT;
    while Instant::now() < deadline {
        match child.try_wait() {
            Ok(Some(status)) => return status.success() && rustup_has_target(),
            Ok(None) => thread::sleep(Duration::from_millis(100)),
            Err(_) => break,
        }
    }
    eprintln!("guests: rustup gave no answer within {} s", RUSTUP_LIMIT.as_secs());
    if child.kill().is_ok() {
        drop(child.wait());
    }
    false
}

/// Debian's compiler for browsers knows the target but ships no library for it: that is built once, from its source package.
fn debian(root: &Path) -> Result<Toolchain> {
    install_debian_packages()?;
    let version = answer(Command::new(DEBIAN_RUSTC).arg("-vV"))?;
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .with_context(|| format!("{DEBIAN_RUSTC} -vV names no host"))?;
    let linker = linker_directories(host)?;
    let sysroot = root.join("target/sysroot-wasm32");
    // The packages move to new versions; a library of another compiler would fail in each crate, so it is made anew.
    if fs::read_to_string(sysroot.join("rustc-version")).ok().as_deref() != Some(version.as_str()) {
        build_sysroot(root, &sysroot, &version, host)?;
    }
    let mut flags = OsString::from("--sysroot=");
    flags.push(sysroot.canonicalize()?);
    Ok(Toolchain {
        variables: vec![
            ("RUSTC", DEBIAN_RUSTC.into()),
            ("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS", flags),
            ("PATH", linker),
        ],
    })
}

fn install_debian_packages() -> Result<()> {
    let library_source = || {
        let sysroot = answer(Command::new(DEBIAN_RUSTC).args(["--print", "sysroot"]))?;
        anyhow::Ok(Path::new(&sysroot).join("lib/rustlib/src/rust/library/std/Cargo.toml").exists())
    };
    if library_source().unwrap_or(false) {
        return Ok(());
    }
    let help = format!(
        "building components needs the target {TARGET}: run `rustup target add {TARGET}`, or on Debian `{DEBIAN_INSTALL}` as root"
    );
    let is_root = answer(Command::new("id").arg("-u")).is_ok_and(|user| user == "0");
    if !is_root {
        bail!(help);
    }
    eprintln!("guests: {DEBIAN_INSTALL}");
    let mut words = DEBIAN_INSTALL.split(' ');
    let status = Command::new(words.next().unwrap_or_default())
        .args(words)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .status();
    if status.is_ok_and(|status| status.success()) && library_source().unwrap_or(false) {
        return Ok(());
    }
    bail!("that did not work (try `apt-get update` first); {help}")
}

/// `PATH` with the folders of a rustup toolchain that hold the component linker and the linker that it calls, which Debian
/// does not ship.
fn linker_directories(host: &str) -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let sysroot = answer(Command::new(rustc()).args(["--print", "sysroot"]))?;
    let tools = Path::new(&sysroot).join("lib/rustlib").join(host).join("bin");
    if tools.join(LINKER).exists() {
        let ours = [tools.clone(), tools.join("gcc-ld")];
        return Ok(env::join_paths(ours.into_iter().chain(env::split_paths(&path)))?);
    }
    if env::split_paths(&path).any(|directory| directory.join(LINKER).exists()) {
        return Ok(path);
    }
    bail!("{LINKER} is neither in {} nor on PATH: run `cargo install --locked {LINKER}`", tools.display())
}

fn build_sysroot(root: &Path, sysroot: &Path, version: &str, host: &str) -> Result<()> {
    let release = version.lines().next().unwrap_or_default();
    eprintln!("guests: building the standard library for {TARGET} with {release} (about a minute, once)");
    let work = root.join("target/sysroot-wasm32.build");
    remove(&work)?;
    fs::create_dir_all(work.join("src"))?;
    fs::write(work.join("src/lib.rs"), "")?;
    // The empty [workspace] keeps cargo from looking for one above.
    let manifest = "[package]\nname = \"sysroot\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
                    [profile.release]\npanic = \"abort\"\n\n[workspace]\n";
    fs::write(work.join("Cargo.toml"), manifest)?;
    // RUSTC_BOOTSTRAP frees `-Z build-std` for this one call; no plugin is built with it. Without the bitcode no plugin could use LTO.
    let bootstrap = Toolchain {
        variables: vec![
            ("RUSTC", DEBIAN_RUSTC.into()),
            ("RUSTC_BOOTSTRAP", "1".into()),
            ("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS", "-Cembed-bitcode=yes".into()),
        ],
    };
    let status = bootstrap
        .cargo()
        .current_dir(&work)
        .args(["build", "--release", "-Z", "build-std=std,panic_abort", "--target", TARGET])
        .arg("--target-dir")
        .arg(work.join("target"))
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("the standard library for {TARGET} was not built ({status}): the compiler's messages are above");
    }
    let made = work.join("sysroot");
    let libraries = made.join("lib/rustlib").join(TARGET).join("lib");
    fs::create_dir_all(&libraries)?;
    for entry in fs::read_dir(work.join("target").join(TARGET).join("release/deps"))? {
        let file = entry?.path();
        let name = file.file_name().unwrap_or_default();
        if file.extension().is_some_and(|extension| extension == "rlib")
            && !name.to_string_lossy().starts_with("libsysroot")
        {
            fs::copy(&file, libraries.join(name))?;
        }
    }
    // Procedural macros are built for the host with the same compiler, and look for their library beside the target's.
    let system = answer(Command::new(DEBIAN_RUSTC).args(["--print", "sysroot"]))?;
    std::os::unix::fs::symlink(Path::new(&system).join("lib/rustlib").join(host), made.join("lib/rustlib").join(host))?;
    fs::write(made.join("rustc-version"), version)?;
    remove(sysroot)?;
    fs::rename(&made, sysroot)?;
    remove(&work)
}

fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}

/// The standard output of a command that succeeds, without the white space around it.
fn answer(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_component_of_the_guests_workspace_counts_as_an_artifact() {
        let line = |kind: &str, folder: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"{folder}/Cargo.toml","target":{{"crate_types":["{kind}"]}},"filenames":["/t/json_schema.wasm"]}}"#
            )
        };
        let plugins = Path::new("/r/plugins");
        let shipped = artifact(&line("cdylib", "/r/plugins/json-schema"), plugins).unwrap();
        assert_eq!((shipped.name.as_str(), shipped.shipped), ("json-schema", true));
        assert!(!artifact(&line("cdylib", "/r/tests/plugins/touch"), plugins).unwrap().shipped);
        assert_eq!(artifact(&line("lib", "/r/plugins/sdk"), plugins), None);
        assert_eq!(artifact("   Compiling json-schema", plugins), None);
    }
}
