//! What a stream promises while everything works.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use futures_util::{FutureExt, StreamExt};
use portcullis_connector_api::{
    AssignmentId, Budget, Bytes, ErrorKind, Fate, Header, Message, Origin, RefusalKind, Sink,
};
use portcullis_connector_nats::{ConsumerSpec, Count, JetStreamSink, JetStreamSource, Storage, SubjectRule, Window};

use crate::server::Server;
use crate::support::{
    LIMIT, Other, Reader, eventually, fates, numbered, numbers, origin, send, sink_settings, source_settings, store,
};

#[test]
fn the_same_output_of_two_runs_is_in_the_stream_once_and_the_duplicates_are_counted() {
    let server = Server::start();
    let settings = sink_settings(server.connection());
    let counters = settings.counters.clone();
    for _ in 0..2 {
        let (fates, confirm) = fates();
        store(&JetStreamSink::new(settings.clone(), confirm).unwrap(), &fates, 0..100);
    }
    assert_eq!(counters.of(Count::Duplicates), 100);
    let (fates, confirm) = fates();
    let mut another = settings;
    another.id_prefix = "another pipeline/c1".into();
    let sink = JetStreamSink::new(another, confirm).unwrap();
    store(&sink, &fates, 0..100);
    let more = Origin { output: 1, ..origin(0) };
    send(&sink, &numbered(0), Some(more), 0);
    assert_eq!(sink.drain(LIMIT), 0);
    assert_eq!(Other::at(&server.url()).count("S"), 201);
}

#[test]
fn messages_without_an_origin_have_ids_that_nobody_else_has() {
    let server = Server::start();
    for _ in 0..2 {
        let (fates, confirm) = fates();
        let sink = JetStreamSink::new(sink_settings(server.connection()), confirm).unwrap();
        send(&sink, &numbered(0), None, 0);
        send(&sink, &numbered(0), None, 1);
        assert_eq!((sink.drain(LIMIT), fates.count()), (0, 2));
    }
    let other = Other::at(&server.url());
    assert_eq!(other.count("S"), 4);
    let stream = other.runtime.block_on(other.streams.get_stream("S")).unwrap();
    let message = other.runtime.block_on(stream.get_raw_message(1)).unwrap();
    assert!(message.headers.get("Nats-Msg-Id").unwrap().as_str().starts_with("portcullis/"));
}

#[test]
fn headers_that_steer_a_stream_arrive_as_headers_and_steer_nothing() {
    let server = Server::start();
    let (fates, confirm) = fates();
    let sink = JetStreamSink::new(sink_settings(server.connection()), confirm).unwrap();
    store(&sink, &fates, 0..10);
    let steering = [
        ("Nats-Rollup", "all"),
        ("Nats-Msg-Id", "x"),
        ("Nats-TTL", "1s"),
        ("Nats-Expected-Last-Sequence", "99"),
        ("Nats-Expected-Stream", "OTHER"),
        ("nats-rollup", "sub"),
        ("Nats-Schedule", "@at 2000-01-01T00:00:00Z"),
        ("Portcullis-Key", "forged"),
    ];
    let mut message = numbered(10);
    for (name, value) in steering {
        message.headers.append(Header::new(name, Some(value)));
    }
    message.headers.append(Header::new(&b"\xff:\r\n"[..], None::<Bytes>));
    send(&sink, &message, Some(origin(10)), 10);
    assert_eq!(sink.drain(LIMIT), 0);
    let fates = fates.take();
    assert!(matches!(fates[0].1, Fate::Stored(_)), "{fates:?}");
    assert_eq!(Other::at(&server.url()).count("S"), 11, "nothing was rolled up");
    let mut reader = Reader::of(source_settings(server.connection()));
    reader.until_count(11);
    let arrived = &reader.records[10].message;
    assert_eq!((&arrived.headers, &arrived.key, &arrived.value), (&message.headers, &message.key, &message.value));
    reader.close();
}

#[test]
fn a_durable_acknowledgement_is_at_the_server_when_it_returns() {
    let server = Server::start();
    let other = Other::at(&server.url());
    let (fates, confirm) = fates();
    store(&JetStreamSink::new(sink_settings(server.connection()), confirm).unwrap(), &fates, 0..1000);
    let mut reader = Reader::of(source_settings(server.connection()));
    reader.until_count(1000);
    assert_eq!(reader.values(), numbers(0..1000));
    reader.acknowledge(0..10, false);
    reader.acknowledge(10..300, true);
    assert_eq!(other.consumer("S", "C").num_ack_pending, 700);
    reader.acknowledge(300..1000, true);
    let info = other.consumer("S", "C");
    assert_eq!((info.num_ack_pending, info.ack_floor.stream_sequence), (0, 1000));
    reader.close();
}

#[test]
fn a_message_that_is_slow_is_not_delivered_again_while_the_pipeline_polls() {
    let server = Server::start();
    let (fates, confirm) = fates();
    store(&JetStreamSink::new(sink_settings(server.connection()), confirm).unwrap(), &fates, 0..5);
    let mut settings = source_settings(server.connection());
    settings.create_consumer = Some(ConsumerSpec { ack_wait: Duration::from_secs(3), ..ConsumerSpec::default() });
    let counters = settings.counters.clone();
    let mut reader = Reader::of(settings);
    // Four are waited for longer in the source's own queue.
    while reader.records.is_empty() {
        drop(reader.poll(Budget { messages: 1, bytes: usize::MAX }));
    }
    // Six signals for each of five messages: twice the wait.
    eventually("the signals are sent", || {
        reader.poll(Budget::NOTHING).unwrap();
        counters.of(Count::ProgressSignals) >= 30
    });
    assert_eq!(counters.of(Count::Redelivered), 0);
    reader.until_count(5);
    assert!(reader.records.iter().all(|record| record.redelivered == 0));
    reader.acknowledge(0..5, true);
    reader.close();
}

#[test]
fn what_the_server_delivers_again_although_it_is_in_work_is_not_handed_out_twice() {
    let server = Server::start();
    let (fates, confirm) = fates();
    store(&JetStreamSink::new(sink_settings(server.connection()), confirm).unwrap(), &fates, 0..3);
    let mut settings = source_settings(server.connection());
    settings.create_consumer = Some(ConsumerSpec { ack_wait: Duration::from_secs(3), ..ConsumerSpec::default() });
    let counters = settings.counters.clone();
    let mut reader = Reader::of(settings);
    reader.until_count(3);
    // No poll, no sign of progress: the server gives up waiting.
    let other = Other::at(&server.url());
    eventually("the server delivers again", || other.consumer("S", "C").num_redelivered == 3);
    reader.until("the source sees it", |_| counters.of(Count::RedeliveredInWork) >= 3);
    assert_eq!(reader.records.len(), 3);
    reader.acknowledge(0..3, true);
    assert_eq!(other.consumer("S", "C").num_ack_pending, 0);
    reader.close();
}

#[test]
fn what_was_not_done_comes_again_with_its_count_and_to_another_member_at_once() {
    let server = Server::start();
    let (fates, confirm) = fates();
    store(&JetStreamSink::new(sink_settings(server.connection()), confirm).unwrap(), &fates, 0..10);
    let mut reader = Reader::of(source_settings(server.connection()));
    reader.until_count(10);
    reader.acknowledge(0..4, true);
    reader.close();
    let mut next = Reader::of(source_settings(server.connection()));
    next.until_count(6);
    assert_eq!(next.values(), numbers(4..10));
    assert!(next.records.iter().all(|record| record.redelivered == 1));
    next.close();
}

#[test]
fn filters_and_bounds_hold_and_a_message_above_the_window_still_comes() {
    let server = Server::start();
    let (fates, confirm) = fates();
    let mut settings = sink_settings(server.connection());
    let allow = ["s.*".to_owned()];
    settings.subject = SubjectRule::template("s.{{key}}", &allow, &[]).unwrap();
    let sink = JetStreamSink::new(settings, confirm).unwrap();
    for (token, (key, size)) in [("a", 10), ("b", 10), ("c", 300_000), ("a", 20)].into_iter().enumerate() {
        let value = vec![b'x'; size];
        let message = Message { key: Some(key.into()), value: Some(value.into()), ..Message::new("in") };
        send(&sink, &message, Some(origin(token as i64)), token as u64);
    }
    assert_eq!((sink.drain(LIMIT), fates.count()), (0, 4));
    let mut settings = source_settings(server.connection());
    settings.filter_subjects = Some(vec!["s.a".into(), "s.c".into()]);
    settings.window = Window { messages: 10, bytes: 20_000 };
    let mut reader = Reader::of(settings.clone());
    reader.until_count(3);
    let sizes: Vec<_> = reader.records.iter().map(|record| record.message.value.as_ref().unwrap().len()).collect();
    assert_eq!(sizes, [10, 300_000, 20]);
    let channels: Vec<_> = reader.records.iter().map(|record| record.message.channel.to_string()).collect();
    assert_eq!(channels, ["s.a", "s.c", "s.a"]);
    reader.close();
    settings.filter_subjects = Some(vec!["s.b".into()]);
    let error = Reader::of(settings).failure();
    assert_eq!(error.kind, ErrorKind::Configuration);
    assert!(error.context.contains("filtered to"), "{error}");
}

#[test]
fn a_subject_that_no_stream_takes_refuses_its_message_alone() {
    let server = Server::start();
    let (fates, confirm) = fates();
    let mut settings = sink_settings(server.connection());
    settings.subject = SubjectRule::template("{{key}}.x", &["*.x".to_owned()], &[]).unwrap();
    let sink = JetStreamSink::new(settings, confirm).unwrap();
    for (token, key) in ["s", "nowhere", "s"].into_iter().enumerate() {
        let message = Message { key: Some(key.into()), value: Some("v".into()), ..Message::new("in") };
        send(&sink, &message, Some(origin(token as i64)), token as u64);
    }
    assert_eq!(sink.drain(LIMIT), 0);
    let mut fates = fates.take();
    fates.sort_by_key(|(token, _)| *token);
    let Fate::Refused(refusal) = &fates[1].1 else { panic!("{fates:?}") };
    assert_eq!(refusal.kind, RefusalKind::Rejected);
    assert_eq!(refusal.detail, "no stream takes the message's subject");
    assert!(matches!((&fates[0].1, &fates[2].1), (Fate::Stored(_), Fate::Stored(_))));
    eventually("the sink is ready again", || sink.not_ready().is_none());
}

#[test]
fn a_message_above_the_window_is_asked_for_seldom_while_others_are_in_work() {
    let server = Server::start();
    let other = Other::at(&server.url());
    let (fates, confirm) = fates();
    let sink = JetStreamSink::new(sink_settings(server.connection()), confirm).unwrap();
    store(&sink, &fates, 0..2);
    let large = Message { value: Some(vec![b'x'; 300_000].into()), ..numbered(2) };
    send(&sink, &large, Some(origin(2)), 2);
    assert_eq!(sink.drain(LIMIT), 0);
    let requests = other.runtime.block_on(other.client.subscribe("$JS.API.CONSUMER.MSG.NEXT.S.C")).unwrap();
    let requests = RefCell::new(requests);
    other.publish("unheard", []);
    let mut settings = source_settings(server.connection());
    settings.window = Window { messages: 10, bytes: 20_000 };
    let mut reader = Reader::of(settings);
    reader.until_count(2);
    let times = RefCell::new(Vec::new());
    reader.until("some requests were made", |_| {
        while requests.borrow_mut().next().now_or_never().is_some() {
            times.borrow_mut().push(Instant::now());
        }
        times.borrow().len() >= 8
    });
    // The first two may go out together; then there is a pause behind each answer.
    let times = times.into_inner();
    let took = times[7] - times[1];
    assert!(took > Duration::from_millis(500), "eight requests took {took:?}");
    reader.acknowledge(0..2, true);
    reader.until_count(3);
    reader.acknowledge(2..3, true);
    reader.close();
}

#[test]
fn many_subjects_that_no_stream_takes_do_not_hold_up_the_others() {
    let server = Server::start();
    let (fates, confirm) = fates();
    let mut settings = sink_settings(server.connection());
    settings.subject = SubjectRule::template("{{key}}.x", &["*.x".to_owned()], &[]).unwrap();
    let sink = JetStreamSink::new(settings, confirm).unwrap();
    sink.check(LIMIT).unwrap();
    let begun = std::time::Instant::now();
    for token in 0..400 {
        let key = if token % 2 == 0 { "s".to_owned() } else { format!("nowhere{token}") };
        let message = Message { key: Some(key.into()), value: Some("v".into()), ..Message::new("in") };
        send(&sink, &message, Some(origin(token as i64)), token);
    }
    assert_eq!(sink.drain(Duration::from_secs(10)), 0, "{:?}", sink.not_ready());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    for (token, fate) in fates.take() {
        assert_eq!(matches!(fate, Fate::Stored(_)), token.0 % 2 == 0, "{fate:?}");
        assert_eq!(matches!(fate, Fate::Refused(_)), token.0 % 2 == 1, "{fate:?}");
    }
}

#[test]
fn a_subject_that_only_somebody_silent_listens_to_refuses_its_message_alone() {
    let server = Server::start();
    let other = Other::at(&server.url());
    let _silent = other.runtime.block_on(other.client.subscribe("silent.>")).unwrap();
    other.publish("unheard", []);
    let (fates, confirm) = fates();
    let mut settings = sink_settings(server.connection());
    settings.subject = SubjectRule::template("{{key}}.x", &["*.x".to_owned()], &[]).unwrap();
    settings.ack_timeout = Duration::from_secs(1);
    let sink = JetStreamSink::new(settings, confirm).unwrap();
    let message = |key: &'static str| Message { key: Some(key.into()), value: Some("v".into()), ..Message::new("in") };
    // Alone, and with others that are confirmed all the time.
    send(&sink, &message("silent"), Some(origin(0)), 0);
    assert_eq!((sink.drain(LIMIT), fates.take().len()), (0, 1));
    send(&sink, &message("silent"), Some(origin(1)), 1);
    let (mut number, mut found) = (2, None);
    eventually("it is refused", || {
        send(&sink, &message("s"), Some(origin(number)), number as u64);
        number += 1;
        std::thread::park_timeout(Duration::from_millis(50));
        found = fates.take().into_iter().find(|(token, _)| token.0 == 1);
        found.is_some()
    });
    let Some((_, Fate::Refused(refusal))) = found else { panic!("{found:?}") };
    assert_eq!(refusal.detail, "no stream takes the message's subject");
    assert_eq!(sink.drain(LIMIT), 0);
    assert_eq!(other.count("S"), number as u64 - 2);
    eventually("the sink is ready again", || sink.not_ready().is_none());
}

#[test]
fn a_message_whose_confirmation_is_lost_is_sent_again_although_others_are_confirmed() {
    let server = Server::with("");
    let other = Other::at(&server.url());
    let (fates, confirm) = fates();
    let mut settings = sink_settings(server.connection());
    (settings.stream, settings.create_stream) = (None, None);
    settings.subject = SubjectRule::template("r.{{key}}", &["r.*".to_owned()], &[]).unwrap();
    settings.ack_timeout = Duration::from_secs(1);
    let mut asked = other.runtime.block_on(other.client.subscribe("r.*")).unwrap();
    let mut looked_for = other.runtime.block_on(other.client.subscribe("$JS.API.>")).unwrap();
    other.publish("unheard", []);
    // A JetStream whose stream loses one message and takes it when it comes again.
    let client = other.client.clone();
    other.runtime.spawn(async move {
        while let Some(question) = looked_for.next().await {
            let answer = "{\"streams\":[\"R\"],\"config\":{}}";
            client.publish(question.reply.unwrap(), answer.into()).await.unwrap();
        }
    });
    let client = other.client.clone();
    other.runtime.spawn(async move {
        let (mut sequence, mut lost) = (0, false);
        while let Some(message) = asked.next().await {
            if &message.payload[..] == b"3" && !std::mem::replace(&mut lost, true) {
                continue;
            }
            sequence += 1;
            let answer = format!("{{\"stream\":\"R\",\"seq\":{sequence}}}");
            client.publish(message.reply.unwrap(), answer.into()).await.unwrap();
        }
    });
    let sink = JetStreamSink::new(settings, confirm).unwrap();
    sink.check(LIMIT).unwrap();
    let (mut number, mut found) = (0, false);
    eventually("the message is stored", || {
        send(&sink, &numbered(number), Some(origin(number)), number as u64);
        std::thread::park_timeout(Duration::from_millis(100));
        number += 1;
        for (token, fate) in fates.take() {
            assert!(matches!(fate, Fate::Stored(_)), "{fate:?}");
            found |= token.0 == 3;
        }
        found
    });
    assert!(number > 5, "others were sent and confirmed meanwhile");
    assert_eq!(sink.drain(LIMIT), 0);
    assert_eq!(sink.not_ready(), None);
}

#[test]
fn a_subject_of_another_stream_than_the_expected_refuses_its_message_alone() {
    let server = Server::start();
    let other = Other::at(&server.url());
    let config =
        async_nats::jetstream::stream::Config { name: "T".into(), subjects: vec!["t.>".into()], ..Default::default() };
    other.runtime.block_on(other.streams.create_stream(config)).unwrap();
    let (fates, confirm) = fates();
    let mut settings = sink_settings(server.connection());
    settings.subject = SubjectRule::template("{{key}}.x", &["*.x".to_owned()], &[]).unwrap();
    let sink = JetStreamSink::new(settings, confirm).unwrap();
    for (token, key) in ["t", "s"].into_iter().enumerate() {
        let message = Message { key: Some(key.into()), value: Some("v".into()), ..Message::new("in") };
        send(&sink, &message, Some(origin(token as i64)), token as u64);
    }
    assert_eq!(sink.drain(LIMIT), 0);
    let mut fates = fates.take();
    fates.sort_by_key(|(token, _)| *token);
    assert!(matches!((&fates[0].1, &fates[1].1), (Fate::Refused(_), Fate::Stored(_))), "{fates:?}");
    assert_eq!((other.count("T"), other.count("S")), (0, 1));
}

#[test]
fn an_acknowledgement_of_what_is_unknown_is_harmless() {
    let server = Server::start();
    let (fates, confirm) = fates();
    store(&JetStreamSink::new(sink_settings(server.connection()), confirm).unwrap(), &fates, 0..3);
    let mut reader = Reader::new(JetStreamSource::new(source_settings(server.connection())).unwrap());
    reader.until_count(3);
    let unknown = [(0, 99), (1, 1)].map(|(assignment, offset)| portcullis_connector_api::Acknowledgement {
        assignment: AssignmentId(assignment),
        offset,
    });
    reader.source.acknowledge(&unknown, true).unwrap();
    assert_eq!(Other::at(&server.url()).consumer("S", "C").num_ack_pending, 3);
    reader.close();
}

#[test]
fn members_that_start_together_make_one_stream_and_one_consumer() {
    let server = Server::start();
    let mut members: Vec<_> = (0..8)
        .map(|member| {
            let mut settings = source_settings(server.connection());
            // Whoever comes first decides.
            settings.create_stream.as_mut().unwrap().duplicate_window = Duration::from_secs(60 + member);
            let ack_wait = Duration::from_secs(30 + member);
            settings.create_consumer = Some(ConsumerSpec { ack_wait, ..ConsumerSpec::default() });
            let mut reader = Reader::of(settings);
            reader.acknowledges = true;
            reader
        })
        .collect();
    let (fates, confirm) = fates();
    let mut settings = sink_settings(server.connection());
    settings.create_stream.as_mut().unwrap().storage = Storage::File;
    store(&JetStreamSink::new(settings, confirm).unwrap(), &fates, 0..2000);
    eventually("all came once", || {
        for member in &mut members {
            match member.poll(crate::support::ALL) {
                Err(error) if error.kind != ErrorKind::Retriable => panic!("{error}"),
                _ => {}
            }
        }
        members.iter().map(|member| member.records.len()).sum::<usize>() == 2000
    });
    for member in members {
        member.close();
    }
    let info = Other::at(&server.url()).consumer("S", "C");
    assert_eq!((info.num_ack_pending, info.num_pending), (0, 0));
}
