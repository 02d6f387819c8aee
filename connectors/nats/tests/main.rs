//! The NATS connectors against a real server, which each test starts for itself.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "in a test a panic is the report; clippy.toml frees test functions, and not what they share"
)]

mod abandon;
mod access;
mod conformance;
mod credentials;
mod degraded;
mod denials;
mod inspect;
mod liars;
mod outages;
mod pubsub;
mod server;
mod streams;
mod support;
mod templates;
mod way;
