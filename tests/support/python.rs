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
