//! What the tests share: real brokers, the bridge as a process, independent clients, and the one place that waits.

#![allow(dead_code, reason = "each part is used by some of the tests, and by no code outside them")]
use std::path::{Path, PathBuf};

pub(crate) mod broker;
pub(crate) mod kafka;
pub(crate) mod names;
pub(crate) mod nats;
pub(crate) mod process;
pub(crate) mod python;
pub(crate) mod servers;
pub(crate) mod tls;
pub(crate) mod wait;

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The component of a guest, as `target/guests/<name>.wasm`.
pub(crate) fn guest(name: &str) -> PathBuf {
    let folder = guests();
    let file = folder.join(format!("{name}.wasm"));
    assert!(file.is_file(), "{} is missing; type: cargo xtask guests", file.display());
    file
}

/// The folder of the guests' components.
pub(crate) fn guests() -> PathBuf {
    provided("BRIDGE_TEST_GUESTS", "target/guests", "cargo xtask guests")
}

/// The folder of the components in other languages.
pub(crate) fn examples() -> PathBuf {
    provided("BRIDGE_TEST_EXAMPLES", "target/examples", "cargo xtask test guests")
}

/// What `cargo xtask test` names in the environment, else where it puts it; never silently nothing.
fn provided(variable: &str, usual_place: &str, command: &str) -> PathBuf {
    let place = std::env::var_os(variable).map_or_else(|| root().join(usual_place), PathBuf::from);
    assert!(place.exists(), "{} is missing (variable {variable}); type: {command}", place.display());
    place
}
