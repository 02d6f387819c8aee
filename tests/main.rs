//! The integration tests: through the binary, on the local connector and on a real Kafka. README.md here says which kind of
//! test goes where.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test a panic is the report; clippy.toml frees test functions only, not their helpers"
)]

mod authoring;
mod bad_input;
mod cases;
mod check;
mod cli;
mod delivery;
mod deploy;
mod doctor;
mod dry_run;
mod evidence;
mod examples;
mod explain;
mod hostile;
mod link;
mod nats;
mod pairs;
mod pipelines;
mod schema;
mod support;
mod tap;
mod trace;
