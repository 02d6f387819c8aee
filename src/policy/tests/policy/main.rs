//! What the policy promises, seen from outside.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test a panic is the report; clippy.toml frees test functions only, not their helpers"
)]

mod ceilings;
mod corpus;
mod decisions;
mod grants;
mod hosts;
mod iana;
mod properties;
mod readers;
mod rules;
mod support;
mod vectors;
