//! What holds on every broker: each function is called once with the test broker and once with a cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use portcullis_connector_api::{
    Acknowledgement, Budget, Bytes, Fate, Header, Message, RefusalKind, SendError, Sink, Source, Timestamp, Token,
};
use portcullis_connector_kafka::{Connection, SinkSettings, TopicRule};

use crate::support::{ALL, LIMIT, Reader, Writer, message, numbered};

fn odd_messages(topic: &str) -> Vec<Message> {
    let old = Timestamp::Created(981_173_106_789);
    let mut tombstone = Message::new(topic);
    tombstone.key = Some(Bytes::from_static(b"\x00\xff\xfe"));
    tombstone.timestamp = old;
    let mut empty = Message::new(topic);
    empty.key = Some(Bytes::new());
    empty.value = Some(Bytes::new());
    empty.timestamp = old;
    empty.headers = [
        Header::new("twice", Some("first")),
        Header::new("null", None::<Bytes>),
        Header::new("twice", Some(&b"\x00\x01\xff"[..])),
        Header::new("empty", Some("")),
        Header::new("", Some("no name")),
        Header::new("\u{fc}ml\u{e4}ut", Some("text")),
    ]
    .into_iter()
    .collect();
    let mut large = message(topic, "large", vec![b'x'; 300_000]);
    large.timestamp = old;
    let mut many = message(topic, "many", "headers");
    many.timestamp = old;
    many.headers = (0..1000).map(|number| Header::new(format!("h{}", number % 7), Some(number.to_string()))).collect();
    let mut nothing = Message::new(topic);
    nothing.timestamp = old;
    vec![tombstone, empty, large, many, nothing]
}

pub(crate) fn every_byte_arrives_as_it_left(connection: &Connection, topic: &str) {
    let sent = odd_messages(topic);
    let mut foreign = message(topic, "foreign", "header");
    foreign.timestamp = Timestamp::Created(1);
    foreign.headers = [Header::new(&b"caf\xe9"[..], Some("latin"))].into_iter().collect();
    Writer::to(connection, topic).store(&[&sent[..], std::slice::from_ref(&foreign)].concat());

    let mut reader = Reader::of(connection, "bytes", topic);
    reader.until_count(sent.len() + 1);
    let last = reader.records.pop().unwrap();
    for (record, sent) in reader.records.iter().zip(&sent) {
        assert_eq!(record.message, *sent);
        assert_eq!(record.defect, None);
    }
    assert_eq!(last.message, foreign, "also what is no text");
    assert_eq!(last.defect.unwrap().detail, "the name of header 1 is not UTF-8");
    reader.close();
}

pub(crate) fn a_group_goes_on_behind_what_was_acknowledged(connection: &Connection, topic: &str) {
    Writer::to(connection, topic).store(&numbered(topic, 100));
    let mut first = Reader::of(connection, "resume", topic);
    first.until_count(100);
    let assignment = first.records[0].assignment;
    // Not durable: the end must take care of it.
    first.source.acknowledge(&[Acknowledgement { assignment, offset: 40 }], false).unwrap();
    first.source.acknowledge(&[Acknowledgement { assignment, offset: 30 }], false).unwrap();
    first.close();

    let mut second = Reader::of(connection, "resume", topic);
    second.until_count(60);
    assert_eq!(second.values()[0], "40", "neither before nor behind, and not back at 30");
    second.acknowledge_all();
    drop(second);

    Writer::to(connection, topic).store(&[message(topic, "k", "new")]);
    let mut third = Reader::of(connection, "resume", topic);
    third.until_count(1);
    assert_eq!(third.values(), ["new"]);
    third.close();
}

/// `topic` has four partitions.
pub(crate) fn a_partition_moves_only_after_its_work_is_done(connection: &Connection, topic: &str) {
    let mut writer = Writer::to(connection, topic);
    writer.store(&numbered(topic, 400));
    let mut first = Reader::of(connection, "moving", topic);
    first.until_count(400);
    assert_eq!(first.assigned.len(), 4);

    let mut second = Reader::of(connection, "moving", topic);
    both_until(&mut first, &mut second, "a revocation", |first, _| !first.revoking.is_empty());
    let (ids, lost) = first.revoking[0].clone();
    assert!(!lost && ids.len() == 2, "cooperative: half of them, not all");
    // The work takes its time, and the group waits.
    for _ in 0..25 {
        first.poll(Budget::NOTHING).unwrap();
        second.poll(ALL).unwrap();
        assert!(second.assigned.is_empty() && second.records.is_empty(), "the other member waits for the release");
    }
    first.acknowledge_all();
    first.release();
    both_until(&mut first, &mut second, "the other half", |_, second| second.assigned.len() == 2);
    writer.store(&numbered(topic, 400));
    both_until(&mut first, &mut second, "everything", |first, second| {
        first.records.len() + second.records.len() >= 800
    });
    assert!(second.records.iter().all(|record| record.offset > 0), "the new owner starts behind what was done");
    let kept: BTreeSet<i32> = first.assigned.values().map(|(_, partition)| *partition).collect();
    let moved: BTreeSet<i32> = second.assigned.values().map(|(_, partition)| *partition).collect();
    assert_eq!(kept.union(&moved).count(), 4);
    assert!(kept.is_disjoint(&moved));
    let mut values = [first.values(), second.values()].concat();
    values.sort();
    let mut expected: Vec<String> = (0..800).map(|number| (number % 400).to_string()).collect();
    expected.sort();
    assert_eq!(values, expected, "each once");
    second.close();
    first.close();
}

/// `topic` has four partitions.
pub(crate) fn a_partition_that_left_while_it_was_paused_is_read_when_it_comes_back(
    connection: &Connection,
    topic: &str,
) {
    let mut first = Reader::of(connection, "back", topic);
    first.until("four partitions", |first| first.assigned.len() == 4);
    let all: Vec<_> = first.assigned.keys().copied().collect();
    first.source.pause(&all).unwrap();
    let mut second = Reader::of(connection, "back", topic);
    both_until(&mut first, &mut second, "a revocation", |first, _| !first.revoking.is_empty());
    let gone = first.revoking[0].0.clone();
    first.release();
    both_until(&mut first, &mut second, "the other half", |_, second| second.assigned.len() == 2);
    second.close();
    first.until("the half that comes back", |first| first.assigned.len() == 4);
    Writer::to(connection, topic).store(&numbered(topic, 400));
    let stayed = all.iter().filter(|id| !gone.contains(id)).map(|id| first.assigned[id].1).collect::<BTreeSet<_>>();
    let expected = 400 - stayed.iter().map(|partition| count_in(topic, *partition, 400)).sum::<usize>();
    first.until("its messages", |first| first.records.len() >= expected);
    assert!(
        first.coordinates().iter().all(|(partition, _)| !stayed.contains(partition)),
        "the others are paused still"
    );
    let stayed: Vec<_> = all.into_iter().filter(|id| !gone.contains(id)).collect();
    first.source.resume(&stayed).unwrap();
    first.until_count(400);
    first.close();
}

/// A group waits for each of its members, so both are polled.
fn both_until(first: &mut Reader, second: &mut Reader, what: &str, holds: impl Fn(&Reader, &Reader) -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds(first, second) {
        assert!(Instant::now() < deadline, "{what} did not come within {} s", LIMIT.as_secs());
        first.poll(ALL).unwrap();
        second.poll(ALL).unwrap();
    }
}

/// `topic` has four partitions.
pub(crate) fn a_paused_partition_is_silent_and_loses_nothing(connection: &Connection, topic: &str) {
    Writer::to(connection, topic).store(&numbered(topic, 4000));
    let mut reader = Reader::of(connection, "pausing", topic);
    let few = Budget { messages: 7, bytes: usize::MAX };
    while reader.records.len() < 50 {
        reader.poll(few).unwrap();
    }
    let quiet = reader.records[0].assignment;
    reader.source.pause(&[quiet]).unwrap();
    let before = reader.records.len();
    let others = reader.assigned.keys().filter(|id| **id != quiet).count();
    assert_eq!(others, 3);
    // Everything of the others arrives, and nothing of it.
    let partition = reader.assigned[&quiet].1;
    let expected = 4000 - count_in(topic, partition, 4000);
    reader.until("the others' messages", |reader| {
        reader.records.iter().filter(|record| record.assignment != quiet).count() == expected
    });
    assert!(reader.records[before..].iter().all(|record| record.assignment != quiet));
    reader.source.resume(&[quiet]).unwrap();
    reader.until("everything", |reader| reader.records.len() >= 4000);
    in_order_without_gaps(&reader, 4000);
    reader.close();
}

/// How many of `numbered` went to a partition: the partitioner is a function of the key.
fn count_in(topic: &str, partition: i32, count: usize) -> usize {
    numbered(topic, count)
        .iter()
        .filter(|message| java_partition(message.key.as_deref().unwrap(), 4) == partition)
        .count()
}

pub(crate) fn in_order_without_gaps(reader: &Reader, count: usize) {
    let mut next: BTreeMap<i32, i64> = BTreeMap::new();
    for (partition, offset) in reader.coordinates() {
        let next = next.entry(partition).or_insert(0);
        assert_eq!(offset, *next, "partition {partition}");
        *next += 1;
    }
    assert_eq!(next.values().sum::<i64>(), i64::try_from(count).unwrap());
}

/// `topic` has four partitions.
pub(crate) fn a_small_budget_is_kept_and_nothing_is_skipped(connection: &Connection, topic: &str) {
    Writer::to(connection, topic).store(&numbered(topic, 2000));
    let mut reader = Reader::of(connection, "budget", topic);
    let mut turn = 0_usize;
    while reader.records.len() < 2000 {
        let before = reader.records.len();
        let budget = match turn % 4 {
            0 => Budget { messages: 13, bytes: usize::MAX },
            1 => Budget { messages: 1000, bytes: 100 },
            2 => Budget::NOTHING,
            _ => Budget { messages: 1, bytes: 1 },
        };
        reader.poll(budget).unwrap();
        let got = &reader.records[before..];
        assert!(got.len() <= budget.messages);
        let bytes: usize = got.iter().rev().skip(1).map(|record| record.message.size_bytes()).sum();
        assert!(bytes < budget.bytes.max(1), "only the last one may pass the bound");
        turn += 1;
        assert!(turn < 100_000);
    }
    in_order_without_gaps(&reader, 2000);
    reader.close();
}

/// `topic` has four partitions.
pub(crate) fn keys_go_where_java_sends_them_and_stay_in_order(connection: &Connection, topic: &str) {
    let mut settings = SinkSettings::new(connection.clone(), TopicRule::Fixed(topic.into()));
    // Small enough to be full often.
    settings.queue_messages = 200;
    let mut writer = Writer::with(settings);
    let sent = numbered(topic, 5000);
    let receipts = writer.store(&sent);
    let mut last: BTreeMap<(i32, Bytes), i64> = BTreeMap::new();
    for (message, receipt) in sent.iter().zip(&receipts) {
        let (key, partition, offset) =
            (message.key.clone().unwrap(), receipt.partition.unwrap(), receipt.offset.unwrap());
        assert_eq!(partition, java_partition(&key, 4));
        assert!(last.insert((partition, key), offset).is_none_or(|before| before < offset));
    }
    assert_eq!(java_partition(b"21", 4), 0, "as Kafka's own tests have it: -973932308");
    assert_eq!(java_partition(b"foobar", 4), 2, "as Kafka's own tests have it: -790332482");
    assert_eq!(writer.sink.unconfirmed(), 0);
}

/// Java's `Utils.toPositive(Utils.murmur2(key)) % partitions`, written from its description.
fn java_partition(key: &[u8], partitions: u32) -> i32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ u32::try_from(key.len()).unwrap();
    let mut words = key.chunks_exact(4);
    for word in &mut words {
        let mut word = u32::from_le_bytes(word.try_into().unwrap()).wrapping_mul(M);
        word ^= word >> 24;
        hash = hash.wrapping_mul(M) ^ word.wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^= hash >> 15;
    i32::try_from((hash & 0x7fff_ffff) % partitions).unwrap()
}

pub(crate) fn a_message_above_the_limit_is_refused_and_the_next_one_stored(connection: &Connection, topic: &str) {
    let mut settings = SinkSettings::new(connection.clone(), TopicRule::Fixed(topic.into()));
    settings.max_message_bytes = 10_000;
    let mut writer = Writer::with(settings);
    let error = writer.sink.send(&message(topic, "k", vec![0; 20_000]), Token(99)).unwrap_err();
    let SendError::Refused(refusal) = error else { panic!("{error}") };
    assert_eq!(refusal.kind, RefusalKind::Oversize);
    assert!(refusal.detail.contains(topic), "{}", refusal.detail);
    assert_eq!(writer.sink.unconfirmed(), 0, "it was not handed over");
    writer.store(&[message(topic, "k", "small")]);
}

pub(crate) fn a_template_that_gives_no_topic_name_refuses_its_message_alone(connection: &Connection, topic: &str) {
    let rule = TopicRule::Each(std::sync::Arc::new(|message: &Message| {
        Ok(String::from_utf8_lossy(message.key.as_deref().unwrap_or_default()).into_owned().into())
    }));
    let mut writer = Writer::with(SinkSettings::new(connection.clone(), rule));
    for name in ["", "..", "with space", "null\0", &"x".repeat(250)] {
        let error = writer.sink.send(&message("in", name, "v"), Token(1)).unwrap_err();
        assert!(matches!(&error, SendError::Refused(refusal) if refusal.kind == RefusalKind::Rejected), "{error}");
    }
    writer.store(&[message("in", topic, "through the template")]);
    let mut reader = Reader::of(connection, "template", topic);
    reader.until_count(1);
    assert_eq!(reader.values(), ["through the template"]);
    reader.close();
}

pub(crate) fn what_is_open_when_a_sink_is_dropped_is_confirmed_as_failed(unreachable: &Connection) {
    let mut writer = Writer::to(unreachable, "nowhere");
    for message in numbered("nowhere", 50) {
        writer.send(&message);
    }
    assert_eq!(writer.sink.unconfirmed(), 50);
    assert_eq!(writer.sink.drain(Duration::from_millis(50)), 50);
    let fates = std::sync::Arc::clone(&writer.fates);
    drop(writer);
    let fates = fates.take();
    assert_eq!(fates.len(), 50, "each token once");
    assert!(fates.iter().all(|(_, fate)| matches!(fate, Fate::Failed(_))));
}

pub(crate) fn what_is_open_when_a_sink_is_abandoned_fails_and_nothing_is_taken_any_more(unreachable: &Connection) {
    let mut writer = Writer::to(unreachable, "nowhere");
    for message in numbered("nowhere", 50) {
        writer.send(&message);
    }
    assert_eq!(writer.sink.unconfirmed(), 50);
    writer.sink.abandon();
    assert_eq!(writer.sink.drain(Duration::from_secs(20)), 0);
    let late = writer.sink.send(&message("in", "nowhere", "late"), Token(77));
    assert!(matches!(late, Err(SendError::Fatal(_))), "{late:?}");
    let fates = writer.fates.take();
    assert_eq!(fates.len(), 50, "each token once");
    assert!(fates.iter().all(|(_, fate)| matches!(fate, Fate::Failed(_))));
}
