//! The data path from end to end, on the in-memory broker.

mod answers;
mod leaving;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use portcullis_audit::MemoryStore;
use portcullis_connector_api::{AckMode, Batch, Budget, Event, Message, Sink, Source, Template};
use portcullis_connector_local::{ConfirmOrder, Fault, MemoryBroker, MemorySinkSettings, MemorySourceSettings};
use portcullis_flow::{Backoff, Order, QueueSum, Window};

use super::*;
use crate::audit_store;
use crate::plugin::{Grants, Limits, PluginSpec, Sandbox, SandboxOptions, Sums};
use crate::telemetry::readiness::Readiness;

const WAIT: Duration = Duration::from_secs(30);

fn message(key: &str, value: &str) -> Message {
    Message { key: Some(key.to_owned().into()), value: Some(value.to_owned().into()), ..Message::new("x") }
}

fn values(broker: &MemoryBroker, channel: &str) -> Vec<String> {
    let value = |message: &Message| String::from_utf8(message.value.clone().unwrap().to_vec()).unwrap();
    broker.stored(channel).iter().map(value).collect()
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + WAIT;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

/// From `in` to `to`, as one member of the group `g`; one lane.
fn blueprint(broker: &Arc<MemoryBroker>, ack_mode: AckMode, (from, to): (&str, &str)) -> Blueprint {
    let source = MemorySourceSettings { ack_mode, ..MemorySourceSettings::new(from, "g") };
    let allow = if to.contains("{{") { vec!["*".to_owned()] } else { Vec::new() };
    let sink = MemorySinkSettings::new(Template::parse(to, &allow).unwrap());
    let (sources, sinks) = (broker.clone(), broker.clone());
    Blueprint {
        identity: Identity { name: from.into(), tenant: None, dead_letter_name: "".into() },
        order: Order::Key,
        lanes: 1,
        queue: Bounds { messages: 10_000, bytes: 1 << 30 },
        queue_sums: Vec::new(),
        window: Window { max_messages: 100_000, max_bytes: 1 << 30 },
        drain: Duration::from_millis(50),
        stages: Vec::new(),
        sources: vec![Inlet {
            open: Box::new(move || Ok(Box::new(sources.source(source.clone())))),
            identity: SourceIdentity::of_this_run(),
        }],
        sink: Box::new(move |confirm| Ok(Arc::new(sinks.sink(sink.clone(), confirm)?) as Arc<dyn Sink>)),
        dead_letter: None,
        counts: Vec::new(),
        taps: Arc::default(),
        place: Arc::new(|_| None),
        is_dry: false,
    }
}

fn run(blueprint: Blueprint, stop: &Stop) -> Running {
    let recorder = audit_store::in_memory(MemoryStore::new()).unwrap();
    start(blueprint, stop, Readiness::default(), recorder, Arc::new(AtomicBool::new(false))).unwrap()
}

/// A plugin that asks for each message to be given again, which happens in an hour.
fn parks() -> Arc<Stage> {
    let spec = PluginSpec {
        name: "parks".into(),
        pipeline: "tests".into(),
        tenant: "tests".into(),
        component: concat!(env!("CARGO_MANIFEST_DIR"), "/target/guests/retries-twice.wasm").into(),
        digest: None,
        config_json: "{}".to_owned(),
        grants: Grants::default(),
        left_out: Vec::new(),
        limits: Limits { deadline_ms: 60_000, ..Limits::default() },
        sums: Sums::default(),
    };
    let plugin = Sandbox::new(SandboxOptions::default()).unwrap().link(spec).unwrap();
    let hour = Duration::from_secs(3600);
    let backoff = Backoff { min: hour, max: hour, attempts: u32::MAX };
    let on = On { reject: Way::Stop, fault: Way::Stop, drop_allowed: false, backoff };
    Arc::new(Stage::new(plugin, on, Restarts { most: 5, window: hour, sums: Vec::new() }))
}

#[test]
fn one_message_that_is_never_done_stops_no_other_where_no_position_is_held_back() {
    for ack_mode in [AckMode::None, AckMode::Each] {
        let broker = MemoryBroker::new();
        ["in", "never", "out"].iter().for_each(|channel| broker.create(channel, 1));
        broker.hold_confirmations("never");
        let stop = Stop::default();
        let mut blueprint = blueprint(&broker, ack_mode, ("in", "{{key}}"));
        blueprint.window = Window { max_messages: 10, max_bytes: 1 << 30 };
        let running = run(blueprint, &stop);
        broker.publish("in", [message("never", "0")]).unwrap();
        assert!(broker.wait_until_stored("never", 1, WAIT));
        // One by one: what is fetched at once passes the window at once.
        for n in 1..=100 {
            broker.publish("in", [message("out", &n.to_string())]).unwrap();
            assert!(broker.wait_until_stored("out", n, WAIT), "{ack_mode:?}: message {n} did not pass");
        }
        broker.release_confirmations("never", ConfirmOrder::AsSent);
        stop.request();
        assert_eq!(running.join().unwrap(), 0);
    }
}

#[test]
fn the_window_of_unfinished_messages_still_pauses_and_resumes() {
    for ack_mode in [AckMode::None, AckMode::Each, AckMode::Cumulative] {
        let broker = MemoryBroker::new();
        ["in", "out"].iter().for_each(|channel| broker.create(channel, 1));
        broker.hold_confirmations("out");
        let stop = Stop::default();
        let mut blueprint = blueprint(&broker, ack_mode, ("in", "out"));
        blueprint.window = Window { max_messages: 10, max_bytes: 1 << 30 };
        // Each poll brings one.
        blueprint.queue = Bounds { messages: 1, bytes: 1 << 30 };
        let running = run(blueprint, &stop);
        broker.publish("in", (0..30).map(|n| message("k", &n.to_string()))).unwrap();
        assert!(broker.wait_until_stored("out", 10, WAIT));
        assert!(!broker.wait_until_stored("out", 12, Duration::from_millis(300)), "{ack_mode:?}: not paused");
        broker.release_confirmations("out", ConfirmOrder::Reversed);
        assert!(broker.wait_until_stored("out", 30, WAIT), "{ack_mode:?}: not resumed");
        stop.request();
        assert_eq!(running.join().unwrap(), 0);
        assert_eq!(values(&broker, "out"), (0..30).map(|n| n.to_string()).collect::<Vec<_>>());
    }
}

#[test]
fn nothing_that_was_sent_of_a_partition_is_stored_after_it_has_become_anothers() {
    for lost in [false, true] {
        let broker = MemoryBroker::new();
        ["in", "out"].iter().for_each(|channel| broker.create(channel, 1));
        broker.go_away("out");
        broker.publish("in", (1..=3).map(|n| message("k", &format!("m{n}")))).unwrap();
        let stop = Stop::default();
        let old = run(blueprint(&broker, AckMode::Cumulative, ("in", "out")), &stop);
        assert!(broker.wait_until_kept("out", 3, WAIT));
        // The next owner joins while the sink's cluster is away, and takes over.
        assert!(broker.revoke("g", "in", 0, lost));
        let new = run(blueprint(&broker, AckMode::Cumulative, ("in", "out")), &stop);
        let error = old.join().unwrap_err();
        assert!(error.to_string().contains("has not confirmed 3 of their messages"), "{error}");
        assert!(broker.wait_until_kept("out", 3, WAIT), "the next owner has them");
        broker.publish("in", [message("k", "m4")]).unwrap();
        broker.come_back("out");
        assert!(broker.wait_until_committed("g", "in", 0, 4, WAIT));
        assert_eq!(values(&broker, "out"), ["m1", "m2", "m3", "m4"], "lost={lost}");
        stop.request();
        assert_eq!(new.join().unwrap(), 0);
    }
}

#[test]
fn the_end_gives_up_what_the_sink_has_not_confirmed() {
    let broker = MemoryBroker::new();
    ["in", "out"].iter().for_each(|channel| broker.create(channel, 1));
    broker.go_away("out");
    broker.publish("in", (1..=3).map(|n| message("k", &format!("m{n}")))).unwrap();
    let stop = Stop::default();
    let running = run(blueprint(&broker, AckMode::Cumulative, ("in", "out")), &stop);
    assert!(broker.wait_until_kept("out", 3, WAIT));
    stop.request();
    assert_eq!(running.join().unwrap(), 3);
    broker.come_back("out");
    assert_eq!((broker.stored_count("out"), broker.committed("g", "in", 0)), (0, 0));
}

#[test]
fn what_a_healthy_sink_confirms_late_is_acknowledged_before_the_end() {
    let broker = MemoryBroker::new();
    ["in", "out"].iter().for_each(|channel| broker.create(channel, 1));
    broker.hold_confirmations("out");
    broker.publish("in", (1..=3).map(|n| message("k", &format!("m{n}")))).unwrap();
    let stop = Stop::default();
    let mut blueprint = blueprint(&broker, AckMode::Cumulative, ("in", "out"));
    blueprint.drain = Duration::ZERO;
    let running = run(blueprint, &stop);
    assert!(broker.wait_until_stored("out", 3, WAIT));
    stop.request();
    broker.release_confirmations("out", ConfirmOrder::Reversed);
    assert_eq!(running.join().unwrap(), 0);
    assert_eq!(broker.committed("g", "in", 0), 3);
}

#[test]
fn a_parked_message_leaves_with_its_partition_and_ends_nothing() {
    let broker = MemoryBroker::new();
    ["in", "out"].iter().for_each(|channel| broker.create(channel, 2));
    broker.publish("in", (0..4).map(|n| Message { key: None, ..message("", &n.to_string()) })).unwrap();
    let stop = Stop::default();
    let mut blueprint = blueprint(&broker, AckMode::Cumulative, ("in", "out"));
    blueprint.stages = vec![parks()];
    let running = run(blueprint, &stop);
    let unfinished = running.unfinished();
    until("the messages were not taken in", || unfinished[0].load(Ordering::Relaxed) == 4);
    let mut other = broker.source(MemorySourceSettings::new("in", "g"));
    let mut batch = Batch::default();
    let deadline = Instant::now() + WAIT;
    while batch.records.len() < 2 {
        assert!(Instant::now() < deadline, "the partition did not become free");
        other.poll(Budget { messages: 10, bytes: 1 << 20 }, Duration::from_millis(50), &mut batch).unwrap();
        assert!(batch.events.iter().all(|event| matches!(event, Event::Assigned { .. })), "{:?}", batch.events);
    }
    assert!(!running.has_ended());
    stop.request();
    assert_eq!(running.join().unwrap(), 2, "those of the partition that has stayed");
    assert_eq!(broker.stored_count("out"), 0);
}

#[test]
fn a_pipeline_that_stands_still_with_the_nodes_queue_full_shuts_no_other_out() {
    let broker = MemoryBroker::new();
    ["stands", "stands-out", "goes", "goes-out"].iter().for_each(|channel| broker.create(channel, 1));
    broker.inject("stands-out", Fault::FullFor { sends: u64::MAX });
    let node = Arc::new(QueueSum::new(portcullis_flow::QueueLevel::Node, Bounds { messages: 100, bytes: 1 << 30 }));
    let stop = Stop::default();
    let of = |from, to| {
        let mut blueprint = blueprint(&broker, AckMode::Cumulative, (from, to));
        blueprint.queue_sums = vec![node.clone()];
        run(blueprint, &stop)
    };
    let numbered = |count: usize| (0..count).map(|n| message("k", &n.to_string()));
    broker.publish("stands", numbered(1000)).unwrap();
    let stands = of("stands", "stands-out");
    until("the node's queue did not fill", || node.room().messages == 0);
    broker.publish("goes", numbered(1000)).unwrap();
    let goes = of("goes", "goes-out");
    assert!(broker.wait_until_stored("goes-out", 1000, WAIT), "{} came through", broker.stored_count("goes-out"));
    assert_eq!(broker.stored_count("stands-out"), 0);
    stop.request();
    assert_eq!(goes.join().unwrap(), 0);
    assert!(stands.join().unwrap() > 0);
}
