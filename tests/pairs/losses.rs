//! What core NATS loses: said before it happens, and counted where it can be known.

use std::fs;

use serde_json::json;
use tempfile::TempDir;

use super::{LIMIT, bridge::Bridge, from_core, pipeline, to_core, to_stream};
use crate::support::nats::Nats;
use crate::support::process::run;
use crate::support::python;

#[test]
fn a_source_that_is_slower_than_its_subject_counts_each_message_that_it_loses() {
    const PUBLISHED: u32 = 40_000;
    let (from, to) = (Nats::start(), Nats::start());
    let folder = TempDir::new().unwrap();
    let source = from_core(&from, "s").replace("subjects:", "window: { messages: 1000 }, subjects:");
    let mut bridge = Bridge::start(folder.path(), &[pipeline("p", &[&source], &to_stream(&to, "T"))]);
    bridge.wait_until_ready();
    // Queues are bounded, so with a sink that stands still everything behind them is full soon.
    to.signal("STOP");
    let published = python::nats_produce(&from.url(), 27, PUBLISHED, &["--subject", "s", "--core"], LIMIT);
    assert_eq!(published["sent"], PUBLISHED);
    // Longer than the sink waits for a confirmation: it gives up the connection and sends again what was under way.
    bridge.process.wait_for_line("no stream has confirmed a message", LIMIT);
    to.signal("CONT");
    let mut stored = 0;
    let dropped = "event=\"dropped\"";
    bridge.wait_until("each message is stored or counted as lost", |events| {
        stored = to.count("T");
        stored + events.sum("portcullis_connector_events_total", dropped) == u64::from(PUBLISHED)
    });
    assert!(stored > 0 && stored < u64::from(PUBLISHED), "{stored}");
    println!("core NATS: {} of {PUBLISHED} lost, and counted", u64::from(PUBLISHED) - stored);
    // More will not come. Of those that were taken none is lost, doubled or changed.
    let found = python::nats_verify(&to.url(), "T", 27, PUBLISHED, &["--wait", "0"], LIMIT);
    assert_eq!((&found["distinct"], &found["duplicates"], &found["changed"]), (&json!(stored), &json!(0), &json!(0)));
    bridge.end();
}

#[test]
fn a_plan_says_that_core_nats_is_at_most_once() {
    let folder = TempDir::new().unwrap();
    let (kafka, core) = ("kafka: { brokers: k, topics: t }", "nats: { servers: nats://m, subjects: s }");
    let stream = "jetstream: { servers: nats://n, subject: s, stream: S }";
    for (source, sink, promised, why) in [
        (kafka, "nats: { servers: nats://n, subject: s }", "at most once", "does not keep it"),
        (core, "nats: { servers: nats://n, subject: s }", "at most once", "cannot give a message again"),
        (core, "kafka: { brokers: k, topic: t }", "at most once", "cannot give a message again"),
        (core, stream, "at most once", "cannot give a message again"),
        (kafka, stream, "effectively once within the stream's duplicate window", "takes once"),
    ] {
        fs::write(folder.path().join("p.yaml"), pipeline("p", &[source], sink)).unwrap();
        let ended = run(folder.path(), &["plan", "p.yaml", "--format", "json"], LIMIT);
        assert_eq!(ended.code(), 0, "{ended:?}");
        let plan: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
        let plan = &plan["pipelines"][0];
        assert_eq!(plan["guarantee"], promised, "{plan:#}");
        assert!(plan.to_string().contains(why), "{why}: {plan:#}");
    }
}

#[test]
fn who_is_not_subscribed_gets_nothing_and_nothing_comes_later() {
    let nats = Nats::start();
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("in.jsonl"), "{\"value\":\"early\"}\n").unwrap();
    let to = |sink: &str| pipeline("p", &["file: { path: in.jsonl }"], sink);
    Bridge::start(folder.path(), &[to(&to_core(&nats, "s"))]).finish();
    let mut late = nats.subscribe("s");
    nats.publish("s", "late");
    let mut come = None;
    let first = crate::support::wait::wait_for(LIMIT, || {
        come = nats.come(&mut late);
        come.take()
    });
    assert_eq!(&first.unwrap().payload[..], b"late");
}
