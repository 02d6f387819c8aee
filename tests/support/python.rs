//! The clients of tests/clients, in pure Python: they share no line with librdkafka, so that we are not checked by ourselves.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::process::{Finished, Process};
use super::{provided, root};

/// Runs `tests/clients/<script>` to its end.
pub(crate) fn client(script: &str, arguments: &[&str], limit: Duration) -> Finished {
    start(script, arguments).finish(limit)
}

/// Starts `tests/clients/<script>`, for one that works while the test does something else.
pub(crate) fn start(script: &str, arguments: &[&str]) -> Process {
    let python = provided("BRIDGE_TEST_PYTHON", "target/venv/bin/python", "cargo xtask test brokers");
    let script = root().join("tests/clients").join(script);
    Process::start(Command::new(python).arg(script).args(arguments).env("PYTHONDONTWRITEBYTECODE", "1"))
}

/// Sends `count` messages of the seed to the topic, and fails when the broker did not confirm all of them.
pub(crate) fn produce(brokers: &str, topic: &str, seed: u32, count: u32, more: &[&str], limit: Duration) -> Value {
    let (seed, count) = (seed.to_string(), count.to_string());
    let mut arguments = vec!["--brokers", brokers, "--topic", topic, "--seed", &seed, "--count", &count];
    arguments.extend(more);
    let finished = client("produce.py", &arguments, limit);
    assert_eq!(finished.code(), 0, "{finished:?}");
    finished.json()
}

/// Compares what is in the topic with what `produce` sent, waiting for missing messages up to half of `limit`. The counts are
/// returned for the test to judge; `more` takes the options of `verify.py` and those of `produce`.
pub(crate) fn verify(brokers: &str, topic: &str, seed: u32, count: u32, more: &[&str], limit: Duration) -> Value {
    let (seed, count, wait) = (seed.to_string(), count.to_string(), (limit.as_secs() / 2).to_string());
    let mut arguments =
        vec!["--brokers", brokers, "--topic", topic, "--seed", &seed, "--count", &count, "--wait", &wait];
    arguments.extend(more);
    client("verify.py", &arguments, limit).json()
}

/// Every record of the topic, as `read.py` prints it; waits up to half of `limit` until there are `count`.
pub(crate) fn read(brokers: &str, topic: &str, count: usize, limit: Duration) -> Vec<Value> {
    let (count, wait) = (count.to_string(), (limit.as_secs() / 2).to_string());
    let arguments = ["--brokers", brokers, "--topic", topic, "--count", &count, "--wait", &wait];
    let finished = client("read.py", &arguments, limit);
    assert_eq!(finished.code(), 0, "{finished:?}");
    finished.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Publishes `count` messages of the seed, carried by the rule of docs/nats.md: `more` has the subject, and `--core` or nothing.
pub(crate) fn nats_produce(servers: &str, seed: u32, count: u32, more: &[&str], limit: Duration) -> Value {
    let (seed, count) = (seed.to_string(), count.to_string());
    let mut arguments = vec!["--servers", servers, "--seed", &seed, "--count", &count];
    arguments.extend(more);
    let finished = client("nats_produce.py", &arguments, limit);
    assert_eq!(finished.code(), 0, "{finished:?}");
    finished.json()
}

/// Compares what a stream holds with what was sent, as [`verify`] does for a topic.
pub(crate) fn nats_verify(servers: &str, stream: &str, seed: u32, count: u32, more: &[&str], limit: Duration) -> Value {
    let mut arguments = vec!["--stream", stream];
    arguments.extend(more);
    start_nats_verify(servers, seed, count, &arguments, limit).finish(limit).json()
}

/// Starts a reader that compares; for one that must be there before anything is sent.
fn start_nats_verify(servers: &str, seed: u32, count: u32, place: &[&str], limit: Duration) -> Process {
    let (seed, count, wait) = (seed.to_string(), count.to_string(), (limit.as_secs() / 2).to_string());
    let mut arguments = vec!["--servers", servers, "--seed", &seed, "--count", &count, "--wait", &wait];
    arguments.extend(place);
    start("nats_verify.py", &arguments)
}

/// A reader that is subscribed to a subject of core NATS: what comes from now on, it gets.
pub(crate) fn subscribe(servers: &str, subject: &str, seed: u32, count: u32, limit: Duration) -> Process {
    let mut reader = start_nats_verify(servers, seed, count, &["--subject", subject], limit);
    reader.wait_for_line("ready", limit);
    reader
}

/// The messages of a stream as they are there; waits up to half of `limit` until there are `count`.
pub(crate) fn nats_read(servers: &str, stream: &str, count: usize, limit: Duration) -> Vec<Value> {
    let (count, wait) = (count.to_string(), (limit.as_secs() / 2).to_string());
    let arguments = ["--servers", servers, "--stream", stream, "--count", &count, "--wait", &wait];
    let finished = client("nats_read.py", &arguments, limit);
    assert_eq!(finished.code(), 0, "{finished:?}");
    finished.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The messages of the seed as the file connector reads them.
pub(crate) fn lines(seed: u32, count: u32, limit: Duration) -> String {
    let finished = client("lines.py", &["--seed", &seed.to_string(), "--count", &count.to_string()], limit);
    assert_eq!(finished.code(), 0, "{finished:?}");
    finished.stdout
}
