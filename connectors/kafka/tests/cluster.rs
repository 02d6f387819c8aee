//! On a real cluster.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use portcullis_connector_api::{Budget, ErrorKind, Fate, Message, RefusalKind, Sink, Source};
use portcullis_connector_kafka::{
    Connection, OutOfRange, SinkSettings, Start, Topic, TopicRule, advertised_brokers, create_topics, missing_topics,
};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{Offset, TopicPartitionList};

use crate::scenarios;
use crate::support::{ALL, LIMIT, Reader, Writer, block_on, message, numbered, settings};

pub(crate) fn cluster() -> Connection {
    let brokers = std::env::var("BRIDGE_TEST_BROKERS");
    Connection::plain(
        brokers.expect("needs a Kafka broker: `cargo xtask test brokers` starts one and sets BRIDGE_TEST_BROKERS"),
    )
}

/// A name that no other test and no earlier run has.
pub(crate) fn fresh(what: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let run = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    format!("{what}-{run}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn topic(connection: &Connection, topic: Topic) -> String {
    assert_eq!(create_topics(connection, std::slice::from_ref(&topic), LIMIT).unwrap(), [topic.name.as_str()]);
    topic.name
}

fn with_topic(partitions: i32, scenario: impl Fn(&Connection, &str)) {
    let connection = cluster();
    scenario(&connection, &topic(&connection, Topic::new(fresh("t"), partitions)));
}

fn admin(connection: &Connection) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", &connection.brokers).create().unwrap()
}

#[test]
fn every_byte_arrives_as_it_left() {
    with_topic(1, scenarios::every_byte_arrives_as_it_left);
}

#[test]
fn a_group_goes_on_behind_what_was_acknowledged() {
    with_topic(1, scenarios::a_group_goes_on_behind_what_was_acknowledged);
}

#[test]
fn a_partition_moves_only_after_its_work_is_done() {
    with_topic(4, scenarios::a_partition_moves_only_after_its_work_is_done);
}

#[test]
fn a_partition_that_left_while_it_was_paused_is_read_when_it_comes_back() {
    with_topic(4, scenarios::a_partition_that_left_while_it_was_paused_is_read_when_it_comes_back);
}

#[test]
fn a_paused_partition_is_silent_and_loses_nothing() {
    with_topic(4, scenarios::a_paused_partition_is_silent_and_loses_nothing);
}

#[test]
fn a_small_budget_is_kept_and_nothing_is_skipped() {
    with_topic(4, scenarios::a_small_budget_is_kept_and_nothing_is_skipped);
}

#[test]
fn keys_go_where_java_sends_them_and_stay_in_order() {
    with_topic(4, scenarios::keys_go_where_java_sends_them_and_stay_in_order);
}

#[test]
fn a_message_above_the_limit_is_refused_and_the_next_one_stored() {
    with_topic(1, scenarios::a_message_above_the_limit_is_refused_and_the_next_one_stored);
}

#[test]
fn a_template_that_gives_no_topic_name_refuses_its_message_alone() {
    with_topic(1, scenarios::a_template_that_gives_no_topic_name_refuses_its_message_alone);
}

#[test]
fn an_unknown_topic_is_an_error_that_names_it_and_nothing_is_made() {
    let connection = cluster();
    let name = fresh("unknown");
    let mut reader = Reader::of(&connection, &name, &name);
    let error = reader.failure();
    assert_eq!(error.kind, ErrorKind::Configuration);
    assert!(error.context.contains(&name), "{error}");
    let writer = Writer::to(&connection, &name);
    let error = writer.sink.check(LIMIT).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Configuration);
    assert!(error.context.contains(&name), "{error}");
    assert_eq!(missing_topics(&connection, std::slice::from_ref(&name), LIMIT).unwrap(), [name]);
}

#[test]
fn a_cluster_tells_where_its_brokers_are() {
    let connection = cluster();
    let told = advertised_brokers(&connection, LIMIT).unwrap();
    let told: Vec<String> = told.iter().map(|(host, port)| format!("{host}:{port}")).collect();
    assert_eq!(told, [connection.brokers], "the node of the tests is all of its cluster");
}

#[test]
fn a_topic_that_only_its_message_asked_for_refuses_the_message_and_is_not_made() {
    let connection = cluster();
    let name = fresh("unknown");
    let own = name.clone();
    let rule = TopicRule::Each(Arc::new(move |_: &Message| Ok(own.clone().into())));
    let mut settings = SinkSettings::new(connection.clone(), rule);
    // librdkafka gives a new topic 30 s to become known everywhere.
    settings.connection.passthrough.push(("topic.metadata.propagation.max.ms".into(), "1000".into()));
    let mut writer = Writer::with(settings);
    writer.send(&message("in", "k", "v"));
    assert_eq!(writer.sink.drain(LIMIT), 0);
    let fates = writer.fates.take();
    let Fate::Refused(refusal) = &fates[0].1 else { panic!("{fates:?}") };
    assert_eq!(refusal.kind, RefusalKind::Rejected);
    assert!(refusal.detail.contains(&name), "{}", refusal.detail);
    assert_eq!(missing_topics(&connection, std::slice::from_ref(&name), LIMIT).unwrap(), [name]);
}

#[test]
fn a_member_that_is_killed_leaves_nothing_behind_that_is_not_read_again() {
    with_topic(1, |connection, topic| {
        Writer::to(connection, topic).store(&numbered(topic, 100));
        let mut killed = Reader::of(&impatient(connection), "killed", topic);
        killed.until_count(100);
        let mut done = killed.done();
        done[0].offset = 25;
        killed.source.acknowledge(&done, true).unwrap();
        // As at a `kill -9`, it says nothing to the group. Its threads live on here, so that the group notices by the
        // polls that do not come.
        std::mem::forget(killed);
        let mut next = Reader::of(connection, "killed", topic);
        next.until_count(75);
        assert_eq!(next.values()[0], "25");
        next.close();
    });
}

#[test]
fn latest_skips_the_past_once_and_never_a_partition_that_is_added_later() {
    with_topic(2, |connection, topic| {
        let mut writer = Writer::to(connection, topic);
        writer.store(&numbered(topic, 100));
        let latest = || {
            let mut latest = settings(connection, "latest", topic);
            latest.start = Start::Latest;
            latest
        };
        let mut first = Reader::with(latest());
        first.until("both partitions", |reader| reader.assigned.len() == 2);
        // One partition gets a message, the other stays quiet.
        let receipt = writer.store(&[message(topic, "busy", "new")])[0];
        first.until_count(1);
        assert_eq!(first.values(), ["new"]);
        first.acknowledge_all();
        first.close();

        // Nobody is there when the topic grows and all three partitions get messages.
        let admin = admin(connection);
        let three = [NewPartitions::new(topic, 3)];
        block_on(admin.create_partitions(&three, &AdminOptions::new()), LIMIT).unwrap()[0].as_ref().unwrap();
        let mut writer = Writer::to(connection, topic);
        let mut later = 0;
        let deadline = Instant::now() + LIMIT;
        let mut touched = BTreeSet::new();
        while touched.len() < 3 {
            assert!(Instant::now() < deadline);
            let receipts = writer.store(&[message(topic, &later.to_string(), format!("later-{later}"))]);
            touched.insert(receipts[0].partition.unwrap());
            later += 1;
        }
        let mut second = Reader::with(latest());
        second.until_count(later);
        assert!(second.values().iter().all(|value| value.starts_with("later-")), "no history of partition {receipt:?}");
        second.close();
    });
}

fn cut(connection: &Connection, topic: &str, partition: i32, before: i64) {
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(topic, partition, Offset::Offset(before)).unwrap();
    let admin = admin(connection);
    block_on(admin.delete_records(&offsets, &AdminOptions::new()), LIMIT).unwrap();
}

#[test]
fn a_position_that_is_gone_stops_the_source_unless_it_may_go_on() {
    with_topic(1, |connection, topic| {
        Writer::to(connection, topic).store(&numbered(topic, 100));
        let mut reader = Reader::of(connection, "gone", topic);
        reader.until_count(100);
        let mut done = reader.done();
        done[0].offset = 10;
        reader.source.acknowledge(&done, true).unwrap();
        reader.close();
        cut(connection, topic, 0, 50);

        let mut stopped = Reader::of(connection, "gone", topic);
        let error = stopped.failure();
        assert_eq!(error.kind, ErrorKind::Fatal);
        for part in [topic, "position 10", "partition 0", "50 up to 100", "out_of_range"] {
            assert!(error.context.contains(part), "{part} is not in: {error}");
        }
        stopped.close();

        let mut goes_on = settings(connection, "gone", topic);
        goes_on.out_of_range = OutOfRange::Earliest;
        let mut reader = Reader::with(goes_on);
        reader.until("the end of the old assignment", |reader| !reader.starting_over.is_empty());
        assert!(reader.revoking.is_empty(), "it is nobody else's");
        reader.release();
        reader.until_count(50);
        assert_eq!(reader.values()[0], "50");
        reader.acknowledge_all();
        reader.close();
        let mut next = Reader::of(connection, "gone", topic);
        Writer::to(connection, topic).store(&[message(topic, "k", "next")]);
        next.until_count(1);
        next.close();
    });
}

#[test]
fn a_position_that_is_gone_while_reading_goes_on_at_the_end_when_it_may() {
    with_topic(1, |connection, topic| {
        let mut writer = Writer::to(connection, topic);
        writer.store(&numbered(topic, 10));
        let mut goes_on = settings(connection, "end", topic);
        goes_on.out_of_range = OutOfRange::Latest;
        let mut reader = Reader::with(goes_on);
        reader.until_count(10);
        reader.acknowledge_all();
        reader.source.pause(&[reader.records[0].assignment]).unwrap();
        writer.store(&numbered(topic, 50));
        cut(connection, topic, 0, 40);
        reader.source.resume(&[reader.records[0].assignment]).unwrap();
        reader.until("the end of the old assignment", |reader| !reader.starting_over.is_empty());
        let old = reader.records.len();
        reader.release();
        reader.until("the new assignment", |reader| !reader.assigned.is_empty());
        // The end is looked up by librdkafka, so messages are sent until one is behind it.
        let deadline = Instant::now() + LIMIT;
        while reader.records.len() == old {
            assert!(Instant::now() < deadline);
            writer.store(&[message(topic, "k", "new")]);
            reader.poll(ALL).unwrap();
        }
        assert!(reader.values()[old..].iter().all(|value| value == "new"));
        reader.close();
    });
}

#[test]
fn what_only_the_broker_finds_too_large_is_refused_alone() {
    let connection = cluster();
    let mut small = Topic::new(fresh("small"), 1);
    small.settings = vec![("max.message.bytes".into(), "10000".into())];
    let small = topic(&connection, small);
    let mut settings = SinkSettings::new(connection.clone(), TopicRule::Fixed(small.clone()));
    settings.max_message_bytes = 100_000;
    // Alone in its batch: what shares a batch shares its fate.
    settings.linger_ms = 0;
    let mut writer = Writer::with(settings);
    writer.store(&[message(&small, "k", "before")]);
    writer.send(&message(&small, "k", vec![1; 50_000]));
    assert_eq!(writer.sink.drain(LIMIT), 0);
    let fates = writer.fates.take();
    assert!(matches!(&fates[0].1, Fate::Refused(refusal) if refusal.kind == RefusalKind::Oversize), "{fates:?}");
    writer.store(&[message(&small, "k", "after")]);
}

#[test]
fn a_tombstone_without_key_in_a_compacted_topic_is_refused_and_the_sink_goes_on() {
    let connection = cluster();
    let mut compacted = Topic::new(fresh("compacted"), 1);
    compacted.settings = vec![("cleanup.policy".into(), "compact".into())];
    let compacted = topic(&connection, compacted);
    let mut writer = Writer::to(&connection, &compacted);
    writer.store(&[message(&compacted, "k", "before")]);
    writer.send(&Message::new(compacted.as_str()));
    assert_eq!(writer.sink.drain(LIMIT), 0);
    let fates = writer.fates.take();
    assert!(matches!(&fates[0].1, Fate::Refused(refusal) if refusal.kind == RefusalKind::Rejected), "{fates:?}");
    writer.store(&[message(&compacted, "k", "after")]);
}

fn impatient(connection: &Connection) -> Connection {
    let mut connection = connection.clone();
    connection.passthrough.push(("max.poll.interval.ms".into(), "6000".into()));
    connection
}

#[test]
fn a_source_that_may_deliver_nothing_for_long_stays_in_the_group_and_loses_nothing() {
    with_topic(2, |connection, topic| {
        let mut writer = Writer::to(connection, topic);
        writer.store(&numbered(topic, 3000));
        let mut reader = Reader::of(&impatient(connection), "stalled", topic);
        while reader.records.len() < 500 {
            reader.poll(Budget { messages: 50, bytes: usize::MAX }).unwrap();
        }
        let stalled = Instant::now();
        while stalled.elapsed() < Duration::from_secs(9) {
            reader.poll(Budget::NOTHING).unwrap();
            std::thread::park_timeout(Duration::from_millis(50));
        }
        let numbers = reader.assigned.len();
        reader.until_count(3000);
        assert_eq!(reader.assigned.len(), numbers, "no new assignment");
        assert!(reader.revoking.is_empty());
        scenarios::in_order_without_gaps(&reader, 3000);
        reader.close();
    });
}

#[test]
fn a_member_that_did_not_poll_is_told_that_its_partitions_are_lost_and_gets_them_again() {
    with_topic(1, |connection, topic| {
        Writer::to(connection, topic).store(&numbered(topic, 10));
        let mut reader = Reader::of(&impatient(connection), "late", topic);
        reader.until_count(10);
        // It does not poll until the group has given its partition to another member.
        let mut other = Reader::of(connection, "late", topic);
        other.until_count(10);
        let done = reader.done();
        reader.until("the loss", |reader| !reader.revoking.is_empty());
        assert!(reader.revoking[0].1, "lost");
        reader.source.acknowledge(&done, true).unwrap();
        reader.release();
        other.close();
        reader.until("the messages again", |reader| reader.records.len() >= 20);
        assert_eq!(reader.values()[10..], reader.values()[..10], "nothing was acknowledged in time");
        reader.close();
    });
}
