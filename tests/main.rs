//! The integration tests: through the binary, on the local connector and on a real Kafka. README.md here says which kind of
//! test goes where.

mod bad_input;
mod cases;
mod cli;
mod delivery;
mod evidence;
mod support;
