#![no_main]

#[path = "../plugin.rs"]
mod plugin;

libfuzzer_sys::fuzz_target!(|data: &[u8]| plugin::check_component::check(data));

// What the files of the bridge take from `wasmtime` here, it only passes on.
extern crate wasmparser as wasmtime;
