#![no_main]

use std::sync::OnceLock;

use tempfile::TempDir;

#[path = "../plugin.rs"]
mod plugin;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| tempfile::tempdir().unwrap());
    plugin::check_manifest::check(folder.path(), data);
});

// What the files of the bridge take from `wasmtime` here, it only passes on.
extern crate wasmparser as wasmtime;
