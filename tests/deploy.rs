//! What deploy/ and docker-compose.yml promise, without an engine: the files fit together and name what is there, and the same
//! commands, configuration and checks do their work natively.

mod alerts;
mod compose;
mod on_kafka;
mod parts;
mod rates;
mod series;

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::support::process::{Process, portcullis};
use crate::support::{guests, root};

/// The first run compiles three components.
const LIMIT: Duration = Duration::from_secs(120);
const NODE: &str = "deploy/portcullis/portcullis.yaml";
const PIPELINES: &str = "deploy/portcullis/pipelines";
const FEED: &str = "deploy/portcullis/feed.yaml";

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&text(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Members of a map, in the order of their names.
fn members(value: &Value) -> Vec<(&str, &Value)> {
    value.as_object().map(|map| map.iter().map(|(name, value)| (name.as_str(), value)).collect()).unwrap_or_default()
}

/// The texts of a list; none where there is no list.
fn texts(value: &Value) -> Vec<&str> {
    value.as_array().map(|list| list.iter().map(|item| item.as_str().unwrap()).collect()).unwrap_or_default()
}

#[test]
fn the_pipelines_of_the_compose_file_pass_check_with_the_variables_that_it_sets() {
    // The pipelines name the components where the build of the guests puts them.
    assert!(guests().is_dir());
    let compose = yaml("docker-compose.yml");
    for service in ["portcullis", "feed"] {
        let service = &compose["services"][service];
        let command = texts(&service["command"]);
        assert_eq!(command[0], "run");
        let mut check = portcullis(root());
        check.arg("check").args(&command[1..]);
        check.envs(members(&service["environment"]).into_iter().map(|(name, value)| (name, value.as_str().unwrap())));
        let ended = Process::start(&mut check).finish(LIMIT);
        assert_eq!(ended.code(), 0, "{ended:?}");
        assert!(ended.stdout.contains(": ok: pipeline "), "{ended:?}");
    }
}

#[test]
fn a_plugin_of_the_compose_file_may_ask_for_three_paths_at_one_address() {
    let rates = yaml("docker-compose.yml")["services"]["rates"]["networks"]["apis"].clone();
    let address = rates["ipv4_address"].as_str().unwrap();
    let name = texts(&rates["aliases"])[0];
    let mut pipeline = root().join(PIPELINES);
    pipeline.push("orders.yaml");
    let decide = |request: &str, answer: &str, expected: &str| {
        let mut explain = portcullis(root());
        explain.arg("explain").arg(&pipeline).args(["--node", NODE, "--plugin", "rates", "--answer", answer]);
        explain.args(["--request", request, "--expect", expected]);
        let ended = Process::start(&mut explain).finish(LIMIT);
        assert_eq!(ended.code(), 0, "{request} with {answer} is not {expected}: {ended:?}");
    };
    decide(&format!("GET http://{name}:8080/v1/EUR"), address, "allow");
    decide(&format!("GET http://{name}:8080/v1/JPY"), address, "deny");
    // The gateway of that network is the machine itself.
    decide(&format!("GET http://{name}:8080/v1/EUR"), "10.203.7.1", "deny");
    decide("tcp://kafka:9092", "10.203.7.10", "deny");
}
