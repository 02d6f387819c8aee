#![no_main]

use std::path::Path;

#[path = "../checks/config.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    checks::check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("files"), data);
});
