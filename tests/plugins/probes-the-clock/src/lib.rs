//! Measures how fine the clocks are, as one does who wants to time what others do: the smallest step of each, in nanoseconds, over `rounds`
//! readings, by default 10,000, goes into the headers `monotonic-step-ns` and `wall-step-ns`. No step seen: `none`.

#![cfg(target_arch = "wasm32")]

use portcullis_plugin::bindings::host::wasi::clocks::wall_clock;
use portcullis_plugin::bindings::io::wasi::clocks::monotonic_clock;
use portcullis_plugin::{Message, Verdict, enricher};

portcullis_plugin::manifest! { enricher, clock: "measures it" }

#[derive(serde::Deserialize)]
struct Config {
    #[serde(default = "ten_thousand")]
    rounds: u32,
}

fn ten_thousand() -> u32 {
    10_000
}

#[enricher]
fn probes_the_clock(message: &mut Message, config: &Config) -> Verdict {
    let wall = || {
        let now = wall_clock::now();
        now.seconds.wrapping_mul(1_000_000_000).wrapping_add(u64::from(now.nanoseconds))
    };
    for (name, step) in [
        ("monotonic-step-ns", smallest_step(config.rounds, monotonic_clock::now)),
        ("wall-step-ns", smallest_step(config.rounds, wall)),
    ] {
        let text = step.map_or_else(|| "none".to_owned(), |step| step.to_string());
        message.set_header(name, Some(text.as_bytes()));
    }
    Verdict::pass()
}

fn smallest_step(rounds: u32, read: impl Fn() -> u64) -> Option<u64> {
    let mut last = read();
    let mut smallest = None;
    for _ in 0..rounds {
        let now = read();
        let step = now.saturating_sub(last);
        if step > 0 {
            smallest = Some(smallest.map_or(step, |smallest: u64| smallest.min(step)));
        }
        last = now;
    }
    smallest
}
