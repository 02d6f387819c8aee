//! On librdkafka's test broker, which can be taken away.

use std::time::{Duration, Instant};

use portcullis_connector_api::{ErrorKind, Message, RefusalKind, SendError, Sink, Source};
use portcullis_connector_kafka::{Connection, Preview, SinkSettings, TestBroker, Topic, TopicRule, advertised_brokers};

use crate::scenarios;
use crate::support::{ALL, LIMIT, Reader, Writer, eventually, message, numbered};

fn broker(partitions: i32) -> (TestBroker, Connection) {
    let broker = TestBroker::start().unwrap();
    broker.create_topic(&Topic::new("orders", partitions)).unwrap();
    let connection = broker.connection().unwrap();
    (broker, connection)
}

/// A port of this machine that nobody listens on.
fn unreachable() -> Connection {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    Connection::plain(listener.local_addr().unwrap().to_string())
}

#[test]
fn every_byte_arrives_as_it_left() {
    let (_broker, connection) = broker(1);
    scenarios::every_byte_arrives_as_it_left(&connection, "orders");
}

#[test]
fn a_group_goes_on_behind_what_was_acknowledged() {
    let (_broker, connection) = broker(1);
    scenarios::a_group_goes_on_behind_what_was_acknowledged(&connection, "orders");
}

#[test]
fn a_partition_moves_only_after_its_work_is_done() {
    let (_broker, connection) = broker(4);
    scenarios::a_partition_moves_only_after_its_work_is_done(&connection, "orders");
}

#[test]
fn a_partition_that_left_while_it_was_paused_is_read_when_it_comes_back() {
    let (_broker, connection) = broker(4);
    scenarios::a_partition_that_left_while_it_was_paused_is_read_when_it_comes_back(&connection, "orders");
}

#[test]
fn a_paused_partition_is_silent_and_loses_nothing() {
    let (_broker, connection) = broker(4);
    scenarios::a_paused_partition_is_silent_and_loses_nothing(&connection, "orders");
}

#[test]
fn a_small_budget_is_kept_and_nothing_is_skipped() {
    let (_broker, connection) = broker(4);
    scenarios::a_small_budget_is_kept_and_nothing_is_skipped(&connection, "orders");
}

#[test]
fn keys_go_where_java_sends_them_and_stay_in_order() {
    let (_broker, connection) = broker(4);
    scenarios::keys_go_where_java_sends_them_and_stay_in_order(&connection, "orders");
}

#[test]
fn a_message_above_the_limit_is_refused_and_the_next_one_stored() {
    let (_broker, connection) = broker(1);
    scenarios::a_message_above_the_limit_is_refused_and_the_next_one_stored(&connection, "orders");
}

#[test]
fn a_template_that_gives_no_topic_name_refuses_its_message_alone() {
    let (_broker, connection) = broker(1);
    scenarios::a_template_that_gives_no_topic_name_refuses_its_message_alone(&connection, "orders");
}

#[test]
fn what_is_open_when_a_sink_is_dropped_is_confirmed_as_failed() {
    scenarios::what_is_open_when_a_sink_is_dropped_is_confirmed_as_failed(&unreachable());
}

#[test]
fn what_is_open_when_a_sink_is_abandoned_fails_and_nothing_is_taken_any_more() {
    scenarios::what_is_open_when_a_sink_is_abandoned_fails_and_nothing_is_taken_any_more(&unreachable());
}

#[test]
fn an_unreachable_cluster_is_retriable_for_source_and_sink() {
    let connection = unreachable();
    let mut reader = Reader::of(&connection, "g", "orders");
    reader.until("the outage is reported", |reader| !reader.troubles.is_empty());
    assert!(reader.troubles[0].context.contains(&connection.brokers), "{}", reader.troubles[0]);
    let writer = Writer::to(&connection, "orders");
    assert_eq!(writer.sink.check(Duration::from_millis(300)).unwrap_err().kind, ErrorKind::Retriable);
    eventually("the sink says that it is not ready", || writer.sink.not_ready().is_some());
    let started = Instant::now();
    reader.source.close(Duration::from_secs(5)).unwrap();
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_check_of_a_slow_cluster_ends_when_its_time_is_over() {
    let (broker, connection) = broker(1);
    let sink = Writer::to(&connection, "orders").sink;
    sink.check(LIMIT).unwrap();
    // The first answer comes within the time, the second does not.
    broker.set_latency(Duration::from_millis(700)).unwrap();
    let error = sink.check(Duration::from_millis(1000)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Retriable, "{error}");
}

#[test]
fn a_preview_tells_a_cluster_that_does_not_answer_from_a_message_that_is_refused() {
    let (broker, connection) = broker(4);
    let preview = Preview::new(SinkSettings::new(connection, TopicRule::Fixed("orders".into()))).unwrap();
    broker.set_reachable(false).unwrap();
    let keyed = message("in", "k", "v");
    match preview.place(&keyed) {
        Err(SendError::Fatal(error)) => assert_eq!(error.kind, ErrorKind::Retriable, "{error}"),
        other => panic!("{other:?}"),
    }
    broker.set_reachable(true).unwrap();
    eventually("the cluster answers", || preview.place(&keyed).is_ok_and(|found| found.topic == "orders"));
    let large = Message { value: Some(vec![b'x'; 2 * 1024 * 1024].into()), ..keyed };
    assert!(matches!(preview.place(&large), Err(SendError::Refused(refusal)) if refusal.kind == RefusalKind::Oversize));
}

#[test]
fn an_outage_is_reported_and_survived_in_order() {
    let (broker, connection) = broker(1);
    let mut writer = Writer::to(&connection, "orders");
    writer.store(&numbered("orders", 10));
    let mut reader = Reader::of(&connection, "outage", "orders");
    reader.until_count(10);
    reader.acknowledge_all();

    broker.set_reachable(false).unwrap();
    for number in 10..20 {
        writer.send(&message("orders", "k", number.to_string()));
    }
    reader.until("the outage is reported", |reader| !reader.troubles.is_empty());
    eventually("the sink says that it is not ready", || writer.sink.not_ready().is_some());
    assert_eq!(writer.fates.count(), 0, "an outage fails no message");
    assert_eq!(writer.sink.unconfirmed(), 10);

    broker.set_reachable(true).unwrap();
    assert_eq!(writer.sink.drain(LIMIT), 0);
    assert_eq!(writer.fates.count(), 10);
    assert_eq!(writer.sink.not_ready(), None);
    reader.until("everything", |reader| reader.records.len() >= 20);
    let expected: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    assert_eq!(reader.values(), expected);
    reader.poll(ALL).unwrap();
    reader.close();
}

#[test]
fn a_broker_that_comes_back_is_noticed_without_a_message() {
    let (broker, connection) = broker(1);
    let mut reader = Reader::of(&connection, "quiet", "orders");
    let writer = Writer::to(&connection, "orders");
    writer.sink.check(LIMIT).unwrap();
    reader.until("the partition is ours", |reader| !reader.assigned.is_empty());
    broker.set_reachable(false).unwrap();
    reader.until("the outage is reported", |reader| !reader.troubles.is_empty());
    eventually("the sink says that it is not ready", || writer.sink.not_ready().is_some());
    broker.set_reachable(true).unwrap();
    eventually("the source is well again", || reader.poll(ALL).is_ok());
    eventually("the sink is well again", || writer.sink.not_ready().is_none());
    reader.close();
}

#[test]
fn one_broker_tells_of_all_and_none_is_waited_for_longer_than_was_said() {
    let cluster = TestBroker::start_several(3).unwrap();
    let address = cluster.address().unwrap();
    let first = address.split(',').next().unwrap();
    let told = advertised_brokers(&Connection::plain(first), LIMIT).unwrap();
    let mut told: Vec<String> = told.iter().map(|(host, port)| format!("{host}:{port}")).collect();
    let mut all: Vec<&str> = address.split(',').collect();
    told.sort();
    all.sort_unstable();
    assert_eq!((told.len(), told), (3, all.iter().map(|&broker| broker.to_owned()).collect()));
    let started = Instant::now();
    let error = advertised_brokers(&unreachable(), Duration::from_millis(300)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Retriable, "{error}");
    assert!(started.elapsed() < LIMIT);
}

#[test]
fn lag_is_what_waits_behind_the_last_message() {
    let (_broker, connection) = broker(1);
    let mut writer = Writer::to(&connection, "orders");
    writer.store(&numbered("orders", 100));
    let mut reader = Reader::of(&connection, "lag", "orders");
    while reader.records.len() < 30 {
        reader.poll(portcullis_connector_api::Budget { messages: 10, bytes: usize::MAX }).unwrap();
    }
    assert_eq!(reader.source.lag(), [(reader.records[0].assignment, 100 - reader.records.len() as u64)]);
    reader.until_count(100);
    assert_eq!(reader.source.lag(), [(reader.records[0].assignment, 0)]);
    reader.close();
}
