//! The Kafka connector against librdkafka's test broker and against a real cluster.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "in a test a panic is the report; clippy.toml frees test functions, and not what they share"
)]

mod cluster;
mod conformance;
mod mock;
mod scenarios;
mod support;
