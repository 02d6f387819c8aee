//! Grows its memory by `pages` pages of 64 KiB, one at a time, with each message and never gives any back: no single step is remarkable.
//! Rejects as `refused`, with the number of pages, once it gets no more. A value that begins with `ok` passes.

#![cfg(target_arch = "wasm32")]

use std::arch::wasm32::{memory_grow, memory_size};

use portcullis_plugin::{Message, Verdict, validator};

portcullis_plugin::manifest! { validator }

#[derive(serde::Deserialize)]
struct Config {
    #[serde(default = "a_mebibyte")]
    pages: u32,
}

fn a_mebibyte() -> u32 {
    16
}

#[validator]
fn grows_memory_by_steps(message: &Message, config: &Config) -> Verdict {
    if message.value().is_some_and(|value| value.starts_with(b"ok")) {
        return Verdict::pass();
    }
    for _ in 0..config.pages {
        if memory_grow::<0>(1) == usize::MAX {
            return Verdict::reject("refused", format!("{} pages", memory_size::<0>()));
        }
    }
    Verdict::pass()
}
