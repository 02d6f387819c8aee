//! The compose set-up with its own files, on a Kafka of this machine: topics, feed, bridge, health check, metrics, reader.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use serde_json::Value;
use tempfile::TempDir;

use super::alerts::{base, catalogue};
use super::{FEED, NODE, PIPELINES, text};
use crate::support::kafka::{Kafka, libs};
use crate::support::process::{Finished, Process, portcullis};
use crate::support::{python, root};

const LIMIT: Duration = Duration::from_secs(180);
const ORDERS: i64 = 16;

/// A tool of the image, as a script that runs the same class from the jars of the tests.
pub(super) fn tool(folder: &Path, name: &str, class: &str) {
    let tool = folder.join(name);
    let java = format!(
        "#!/bin/sh\nexec java -Xmx128m -Dorg.slf4j.simpleLogger.defaultLogLevel=error -cp '{}' org.apache.kafka.tools.{class} \"$@\"\n",
        libs().join("*").display()
    );
    fs::write(&tool, java).unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
}

pub(super) fn create_topics(kafka: &Kafka) {
    let folder = TempDir::new().unwrap();
    tool(folder.path(), "kafka-topics.sh", "TopicCommand");
    let mut script = Command::new("sh");
    script.arg(root().join("deploy/kafka/topics.sh"));
    script.env("KAFKA_BROKERS", kafka.brokers()).env("KAFKA_TOOLS", folder.path());
    let ended = Process::start(&mut script).finish(LIMIT);
    assert_eq!(ended.code(), 0, "{ended:?}");
}

/// The bridge with the command of the compose file; the admin endpoint takes a free port.
fn bridge(kafka: &Kafka, files: &str) -> Command {
    let mut command = portcullis(root());
    command.args(["run", "--node", NODE, files]);
    command.env("KAFKA_BROKERS", kafka.brokers()).env("PORTCULLIS_ADMIN__LISTEN", "127.0.0.1:0");
    command
}

fn health(address: &str, path: &str) -> Finished {
    let mut check = Command::new(root().join("deploy/portcullis/health.sh"));
    Process::start(check.arg(path).env("PORTCULLIS_HEALTH_ADDRESS", address)).finish(LIMIT)
}

fn reader(arguments: &[&str]) -> Finished {
    python::client("../../deploy/siem/reader.py", arguments, LIMIT)
}

#[test]
fn the_files_of_the_compose_set_up_do_their_work_and_the_reader_tells_the_refused_and_the_granted() {
    let kafka = Kafka::start();
    create_topics(&kafka);
    // A second `up` finds them there.
    create_topics(&kafka);
    let fed = Process::start(&mut bridge(&kafka, FEED)).finish(LIMIT);
    assert_eq!(fed.code(), 0, "{fed:?}");
    assert_eq!(kafka.count("orders.raw"), ORDERS);
    let mut running = Process::start(&mut bridge(&kafka, PIPELINES));
    let started: Value = serde_json::from_str(&running.wait_for_line("\"started\"", LIMIT)).unwrap();
    let admin = started["admin"].as_str().unwrap().to_owned();
    // Nothing answers for the API here: the orders that may ask for their rate are dead letters as well. `rates.rs` has it.
    running.wait_until("every order has ended", LIMIT, || {
        kafka.count("orders.clean") + kafka.count("orders.dlq") == ORDERS
    });
    running.wait_until("the health check says so", LIMIT, || health(&admin, "/ready").code() == 0);
    assert_eq!(health(&admin, "/live").stdout.trim(), "live");
    assert_ne!(health(&admin, "/nowhere").code(), 0);
    // librdkafka tells the lag with its statistics, some seconds after the start.
    let scrape = || health(&admin, "/metrics").stdout;
    running.wait_until("the lag is known", LIMIT, || scrape().contains("portcullis_lag_messages{"));
    let scraped = scrape();
    running.signal("TERM");
    let ended = running.finish(LIMIT);
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_ne!(health(&admin, "/ready").code(), 0, "nobody is there any more");

    assert_labels(&scraped);
    assert_evidence(&kafka);
}

/// What is scraped has the labels that the page of metrics says, which the dashboard and the alerts are held against.
fn assert_labels(scraped: &str) {
    let known = catalogue();
    let mut seen = BTreeSet::new();
    for line in scraped.lines().filter(|line| line.starts_with("portcullis_")) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let name = base(name, &known);
        let metric = known.get(name).unwrap_or_else(|| panic!("docs/metrics.md does not know {name}"));
        let found: BTreeSet<String> = labels
            .split("\",")
            .filter_map(|label| label.split_once("=\"").map(|(label, _)| label.to_owned()))
            .filter(|label| label != "le")
            .collect();
        let missing: Vec<&String> = metric
            .labels
            .difference(&found)
            .filter(|label| *label != "code" || name != "portcullis_faults_total")
            .collect();
        assert!(
            missing.is_empty() && found.is_subset(&metric.labels),
            "{line}: docs/metrics.md says {:?}",
            metric.labels
        );
        seen.insert(name.to_owned());
    }
    assert!(seen.len() >= 19, "a running bridge has only {seen:?}");
}

fn assert_evidence(kafka: &Kafka) {
    let count = usize::try_from(kafka.count("portcullis.audit")).unwrap();
    let read = reader(&["--brokers", kafka.brokers(), "--topic", "portcullis.audit"]);
    assert_eq!(read.code(), 0, "{read:?}");
    let has = |pieces: &[&str]| read.stdout.lines().any(|line| pieces.iter().all(|piece| line.contains(piece)));
    // Two processes, each with its chain.
    assert!(has(&["WHOLE", &format!("{count} events in 2 chains")]), "{read:?}");
    assert!(
        has(&["GRANTED", "plugin.linked rates", "digest=sha256:", "http://rates.example.com:8080", "path=/v1/EUR"]),
        "{read:?}"
    );
    assert!(has(&["GRANTED", "dns.allowed rates", "rule=egress[0]"]), "{read:?}");
    assert!(has(&["REFUSED", "http.denied rates", "/v1/JPY", "reason=http.path"]), "{read:?}");
    assert!(has(&["MESSAGE", "record.quarantined order-schema", "code=schema"]), "{read:?}");
    assert!(read.stdout.is_ascii() && !read.stdout.contains("customer"), "{read:?}");
    assert_tampering_shows(kafka, count);
}

/// Each way to change the evidence ends the reader with 1; what retention takes from the beginning does not.
fn assert_tampering_shows(kafka: &Kafka, count: usize) {
    let records = python::read(kafka.brokers(), "portcullis.audit", count, LIMIT);
    let decode = |record: &Value| {
        let value = base64::engine::general_purpose::STANDARD.decode(record["value_b64"].as_str().unwrap()).unwrap();
        String::from_utf8(value).unwrap()
    };
    let events: Vec<String> = records.iter().map(decode).collect();
    let chain = |event: &String| {
        serde_json::from_str::<Value>(event).unwrap()["unmapped"]["integrity"]["chain_uid"].to_string()
    };
    // The bridge's own chain, which is the later one.
    let last = chain(events.last().unwrap());
    let own: Vec<String> = events.into_iter().filter(|event| chain(event) == last).collect();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("audit.jsonl");
    let verdict = |lines: &[String]| {
        fs::write(&file, lines.join("\n") + "\n").unwrap();
        reader(&["--file", file.to_str().unwrap()])
    };
    let whole = verdict(&own);
    assert_eq!(whole.code(), 0, "{whole:?}");
    let retained = verdict(&own[3..]);
    assert!(retained.code() == 0 && retained.stdout.contains("begins at event 4"), "{retained:?}");

    let mut changed = own.clone();
    let denied = changed.iter().position(|event| event.contains("\"http.denied\"")).unwrap();
    changed[denied] = changed[denied].replace("/v1/JPY", "/v1/EUR");
    let mut removed = own.clone();
    removed.remove(denied);
    let mut swapped = own.clone();
    swapped.swap(denied, denied + 1);
    let twice = [&own[..=denied], &own[denied..]].concat();
    let forged = [&own[..], &["{\"metadata\":{}}".to_owned()]].concat();
    let garbage = [&own[..], &["\u{1b}[2J not JSON".to_owned()]].concat();
    for (what, lines) in [
        ("changed", changed),
        ("removed", removed),
        ("swapped", swapped),
        ("twice", twice),
        ("forged", forged),
        ("garbage", garbage),
    ] {
        let told = verdict(&lines);
        assert_eq!(told.code(), 1, "{what}: {told:?}");
        assert!(told.stdout.lines().last().unwrap().starts_with("BROKEN "), "{what}: {told:?}");
    }
}

#[test]
fn the_health_check_is_the_one_that_the_image_has() {
    assert!(text("Dockerfile").contains("COPY deploy/portcullis/health.sh /usr/local/bin/portcullis-health"));
    let mode = fs::metadata(root().join("deploy/portcullis/health.sh")).unwrap().permissions().mode();
    assert_eq!(mode & 0o111, 0o111, "the image copies the file with its rights");
}
