//! Two kills of the bridge and one of the nats-server in the middle of 100,000 messages.

use serde_json::Value;
use tempfile::TempDir;

use super::{LIMIT, bridge::Bridge, from_kafka, pipeline, to_kafka, to_stream, topic};
use crate::support::kafka::Kafka;
use crate::support::nats::Nats;
use crate::support::python;

const MESSAGES: u32 = 100_000;
/// When the bridge is killed, the server, and the bridge again: so many have arrived.
const KILLS: [u64; 3] = [15_000, 40_000, 65_000];
const SMALL: [&str; 2] = ["--values", "json"];

/// Runs the pipeline through the kills; `arrived` counts at its other end. What is given back runs.
fn killed_three_times(folder: &TempDir, pipeline: &str, nats: &mut Nats, arrived: impl Fn(&Nats) -> u64) -> Bridge {
    let pipelines = [pipeline.to_owned()];
    let start = || Bridge::start(folder.path(), &pipelines);
    let [first, server, second] = KILLS;
    let mut bridge = start();
    bridge.wait_until("a part has arrived", |_| arrived(nats) >= first);
    bridge.process.kill9();
    let mut bridge = start();
    bridge.wait_until("more has arrived", |_| arrived(nats) >= server);
    nats.kill9();
    nats.restart();
    bridge.wait_until("it goes on", |_| arrived(nats) >= second);
    bridge.process.kill9();
    let arrived = arrived(nats);
    assert!(arrived < MESSAGES.into(), "the last kill came after the last message: {arrived}");
    start()
}

fn assert_none(found: &Value, faults: &[&str]) {
    for fault in faults {
        assert_eq!(found[*fault], 0, "{fault}: {found:#}");
    }
}

#[test]
fn from_a_stream_into_kafka_nothing_is_lost() {
    let mut nats = Nats::start();
    let folder = TempDir::new().unwrap();
    nats.create_stream("S", "S");
    let more = [&SMALL[..], &["--subject", "S"]].concat();
    python::nats_produce(&nats.url(), 31, MESSAGES, &more, LIMIT);
    let out = topic("pairs.killed.out");
    // The shortest wait that there is: what a killed bridge had in work comes again soon.
    let source = format!(
        "jetstream: {{ servers: {}, stream: S, consumer: c, create_consumer: {{ ack_wait: 3s }} }}",
        nats.url()
    );
    let pipeline = pipeline("p", &[&source], &to_kafka(&out));
    let kafka = Kafka::shared();
    let mut bridge =
        killed_three_times(&folder, &pipeline, &mut nats, |_| u64::try_from(kafka.count(&out)).unwrap_or_default());
    bridge.wait_until("everything is acknowledged", |_| {
        let consumer = nats.consumer("S", "c");
        consumer.num_ack_pending == 0 && consumer.num_pending == 0
    });
    let more = [&SMALL[..], &["--allow-duplicates"]].concat();
    let found = python::verify(kafka.brokers(), &out, 31, MESSAGES, &more, LIMIT);
    assert_none(&found, &["missing", "changed", "unknown"]);
    // A stream gives again what was not acknowledged behind what it has given since: order is promised without redelivery only.
    println!("JetStream -> Kafka, three kills: {} doubled, {} out of order", found["duplicates"], found["disorder"]);
    bridge.end();
}

#[test]
fn from_kafka_into_a_stream_nothing_is_lost_doubled_or_out_of_order() {
    let mut nats = Nats::start();
    let folder = TempDir::new().unwrap();
    let (kafka, input) = (Kafka::shared(), topic("pairs.killed.in"));
    python::produce(kafka.brokers(), &input, 32, MESSAGES, &SMALL, LIMIT);
    // A killed member keeps its partitions for so long; the broker allows no less.
    let source = from_kafka(&input).replace("topics:", "session_timeout: 6s, topics:");
    let pipeline = pipeline("p", &[&source], &to_stream(&nats, "S"));
    let mut bridge = killed_three_times(&folder, &pipeline, &mut nats, |nats| nats.count("S"));
    let unfinished = "source=\"0\"";
    bridge.wait_until("nothing is in work", |events| {
        nats.count("S") >= MESSAGES.into() && events.sum("portcullis_unfinished_messages", unfinished) == 0
    });
    let found = python::nats_verify(&nats.url(), "S", 32, MESSAGES, &SMALL, LIMIT);
    assert_none(&found, &["missing", "duplicates", "disorder", "changed", "unknown", "steering"]);
    assert_eq!(found["stored"], MESSAGES, "{found:#}");
    let repeats = bridge.events().sum("portcullis_connector_events_total", "event=\"duplicates\"");
    println!("Kafka -> JetStream, three kills: {repeats} of the last run were there already");
    bridge.end();
}
