//! What happens when the server, a stream or a consumer goes.

use std::time::Duration;

use portcullis_connector_api::{ErrorKind, Fate, Sink};
use portcullis_connector_nats::{
    ConsumerSpec, CoreSink, CoreSinkSettings, CoreSource, CoreSourceSettings, Count, InDoubt, JetStreamSink,
    SubjectRule,
};

use crate::server::Server;
use crate::support::{
    LIMIT, Other, Reader, eventually, fates, numbered, numbers, origin, send, sink_settings, source_settings, spec,
    store,
};

/// A stream on disk outlives the server that is killed.
const ON_DISK: &str = "jetstream { store_dir: \"FOLDER/store\", sync_interval: always }";

#[test]
fn a_server_that_is_killed_under_a_sink_loses_nothing_doubles_nothing_and_keeps_the_order() {
    const COUNT: i64 = 20_000;
    let mut server = Server::with(ON_DISK);
    let mut settings = sink_settings(server.connection());
    settings.create_stream.as_mut().unwrap().storage = portcullis_connector_nats::Storage::File;
    let counters = settings.counters.clone();
    let (fates, confirm) = fates();
    let sink = JetStreamSink::new(settings, confirm).unwrap();
    sink.check(LIMIT).unwrap();
    for number in 0..COUNT {
        send(&sink, &numbered(number), Some(origin(number)), number as u64);
        if number == COUNT / 3 || number == COUNT * 2 / 3 {
            server.kill();
            eventually("the sink says that it is not ready", || sink.not_ready().is_some());
            server.run();
        }
    }
    assert_eq!(sink.drain(LIMIT), 0, "{:?}", sink.not_ready());
    assert!(fates.take().iter().all(|(_, fate)| matches!(fate, Fate::Stored(_))));
    assert!(counters.of(Count::Resent) > 0 && counters.of(Count::Connects) >= 3, "{counters:?}");
    assert_eq!(sink.not_ready(), None);
    let mut reader = Reader::of(source_settings(server.connection()));
    reader.acknowledges = true;
    reader.until_count(COUNT as usize);
    assert_eq!(reader.values(), numbers(0..COUNT));
    reader.close();
}

#[test]
fn a_server_that_is_killed_under_a_source_loses_nothing() {
    const COUNT: i64 = 5000;
    let mut server = Server::with(ON_DISK);
    let mut settings = sink_settings(server.connection());
    settings.create_stream.as_mut().unwrap().storage = portcullis_connector_nats::Storage::File;
    let (fates, confirm) = fates();
    let sink = JetStreamSink::new(settings, confirm).unwrap();
    store(&sink, &fates, 0..COUNT);
    let mut reader = Reader::of(source_settings(server.connection()));
    reader.until("some came", |reader| reader.records.len() >= 500);
    reader.acknowledge(0..500, true);
    server.kill();
    reader.until("the source says that it is not ready", |reader| !reader.troubles.is_empty());
    server.run();
    // A killed server forgets acknowledgements that it had confirmed and not written yet: what it delivers again is handed
    // out again, but for what is in work.
    let all = |reader: &Reader| {
        let mut values = reader.values();
        values.sort_by_key(|value| value.parse::<i64>().unwrap());
        values.dedup();
        values == numbers(0..COUNT)
    };
    reader.until("all came", all);
    assert!(reader.records.len() <= COUNT as usize + 500, "{}", reader.records.len());
    let count = reader.records.len();
    reader.acknowledge(0..count, true);
    reader.acknowledges = true;
    let other = Other::at(&server.url());
    let is_done = |info: async_nats::jetstream::consumer::Info| (info.num_ack_pending, info.num_pending) == (0, 0);
    reader.until("all is acknowledged", |_| is_done(other.consumer("S", "C")));
    reader.close();
}

#[test]
fn a_consumer_that_is_deleted_ends_the_source_and_is_not_made_anew() {
    let server = Server::start();
    let other = Other::at(&server.url());
    let settings = source_settings(server.connection());
    let counters = settings.counters.clone();
    let mut reader = Reader::of(settings);
    let (fates, confirm) = fates();
    let sink = JetStreamSink::new(sink_settings(server.connection()), confirm).unwrap();
    store(&sink, &fates, 0..10);
    reader.until_count(10);
    other.delete_consumer("S", "C");
    let error = reader.failure();
    assert_eq!((error.kind, counters.of(Count::Gone)), (ErrorKind::Fatal, 1));
    assert!(error.context.contains("`C`") && error.context.contains("position"), "{error}");
    let streams = other.streams.clone();
    let left = other.runtime.block_on(async { streams.get_stream("S").await.unwrap().consumer_info("C").await });
    assert!(left.is_err(), "it was made anew");
}

#[test]
fn a_consumer_that_is_deleted_while_the_source_is_away_ends_it_too() {
    let mut server = Server::with(ON_DISK);
    let mut settings = source_settings(server.connection());
    settings.create_stream.as_mut().unwrap().storage = portcullis_connector_nats::Storage::File;
    let counters = settings.counters.clone();
    let mut reader = Reader::of(settings);
    eventually("the consumer is there", || {
        counters.of(Count::Connects) == 1 && reader.poll(crate::support::ALL).is_ok()
    });
    let (fates, confirm) = fates();
    let sink = JetStreamSink::new(sink_settings(server.connection()), confirm).unwrap();
    store(&sink, &fates, 0..1);
    reader.until_count(1);
    server.kill();
    drop(sink);
    std::fs::remove_dir_all(server.store()).unwrap();
    server.run();
    let error = reader.failure();
    assert_eq!((error.kind, counters.of(Count::Gone)), (ErrorKind::Fatal, 1), "{error}");
    assert!(error.context.contains("`S`"), "{error}");
}

#[test]
fn a_stream_that_is_deleted_ends_source_and_sink_with_its_name() {
    let server = Server::start();
    let other = Other::at(&server.url());
    let (of_source, of_sink) = (source_settings(server.connection()), sink_settings(server.connection()));
    let counters = (of_source.counters.clone(), of_sink.counters.clone());
    let mut reader = Reader::of(of_source);
    let (fates, confirm) = fates();
    let sink = JetStreamSink::new(of_sink, confirm).unwrap();
    store(&sink, &fates, 0..10);
    reader.until_count(10);
    other.delete_stream("S");
    let error = reader.failure();
    assert_eq!(error.kind, ErrorKind::Fatal, "{error}");
    send(&sink, &numbered(10), Some(origin(10)), 10);
    eventually("the message is confirmed", || fates.count() == 1);
    let Fate::Failed(error) = fates.take().remove(0).1 else { panic!("not failed") };
    assert_eq!(error.kind, ErrorKind::Fatal);
    assert!(error.context.contains("`s`"), "{error}");
    assert_eq!((counters.0.of(Count::Gone), counters.1.of(Count::Gone)), (1, 1));
    assert!(counters.1.of(Count::NoResponders) > 0);
}

#[test]
fn a_stream_that_is_made_anew_soon_enough_is_only_an_outage() {
    let server = Server::start();
    let other = Other::at(&server.url());
    let (fates, confirm) = fates();
    let sink = JetStreamSink::new(sink_settings(server.connection()), confirm).unwrap();
    store(&sink, &fates, 0..10);
    other.delete_stream("S");
    send(&sink, &numbered(10), Some(origin(10)), 10);
    eventually("the sink says that it is not ready", || sink.not_ready().is_some());
    let config =
        async_nats::jetstream::stream::Config { name: "S".into(), subjects: vec!["s".into()], ..Default::default() };
    other.runtime.block_on(other.streams.create_stream(config)).unwrap();
    assert_eq!(sink.drain(LIMIT), 0);
    assert!(matches!(fates.take()[0].1, Fate::Stored(_)));
    assert_eq!(sink.not_ready(), None);
}

#[test]
fn a_server_that_is_silent_is_noticed_and_the_source_goes_on_when_it_speaks_again() {
    let server = Server::start();
    let mut settings = source_settings(server.connection());
    settings.connection.timeout = Duration::from_millis(500);
    let counters = settings.counters.clone();
    let mut reader = Reader::of(settings);
    let (fates, confirm) = fates();
    let mut settings = sink_settings(server.connection());
    settings.ack_timeout = Duration::from_secs(1);
    let sink = JetStreamSink::new(settings, confirm).unwrap();
    store(&sink, &fates, 0..10);
    reader.until_count(10);
    server.signal("STOP");
    send(&sink, &numbered(10), Some(origin(10)), 10);
    reader.until("the silence is noticed", |_| counters.of(Count::MissedHeartbeats) > 0);
    assert!(reader.troubles.iter().any(|trouble| trouble.contains("silent")), "{:?}", reader.troubles);
    eventually("the sink says that it is not ready", || sink.not_ready().is_some());
    server.signal("CONT");
    reader.until_count(11);
    assert_eq!(sink.drain(LIMIT), 0);
    assert_eq!(Other::at(&server.url()).count("S"), 11);
    reader.acknowledge(0..11, true);
    reader.close();
}

#[test]
fn a_server_that_will_shut_down_is_left_for_another() {
    let (going, staying) = (Server::with(""), Server::with(""));
    let mut settings = CoreSourceSettings::new(going.connection(), vec!["s".into()]);
    settings.connection.servers.push(staying.url());
    let counters = settings.counters.clone();
    let source = CoreSource::new(settings).unwrap();
    source.wait_until_subscribed(LIMIT).unwrap();
    let mut reader = Reader::new(source);
    going.lame_duck();
    reader.until("the other server is connected", |_| counters.of(Count::Connects) == 2);
    assert_eq!(counters.of(Count::LameDuck), 1);
    reader.until("it works again", |_| counters.of(Count::Connects) == 2);
    let other = Other::at(&staying.url());
    eventually("what the other server brings arrives", || {
        other.publish("s", ["v".to_owned()]);
        drop(reader.poll(crate::support::ALL));
        !reader.records.is_empty()
    });
}

#[test]
fn what_was_under_way_to_core_nats_at_a_break_is_counted_and_sent_again_only_where_that_is_set() {
    for (in_doubt, resent) in [(InDoubt::Drop, false), (InDoubt::Resend, true)] {
        // On a busy machine the break may come before anything was written: then nothing is in doubt, and it is tried again.
        let doubted = (0..10).map(|_| broken_under_way(in_doubt, resent)).find(|doubted| *doubted > 0);
        assert!(doubted.is_some_and(|doubted| doubted <= 100), "{doubted:?}");
    }
}

/// Breaks the connection under 100 messages of a core sink and gives how many of them were in doubt.
fn broken_under_way(in_doubt: InDoubt, resent: bool) -> u64 {
    let mut server = Server::with("");
    let mut settings = CoreSinkSettings::new(server.connection(), SubjectRule::Fixed("s".into()));
    settings.in_doubt = in_doubt;
    let counters = settings.counters.clone();
    let (fates, confirm) = fates();
    let sink = CoreSink::new(settings, confirm).unwrap();
    sink.check(LIMIT).unwrap();
    server.signal("STOP");
    for number in 0..100 {
        send(&sink, &numbered(number), None, number as u64);
    }
    // Stopped, it takes bytes and answers nothing; killed, nobody will know what it had.
    eventually("they are under way", || sink.unconfirmed() == 100);
    server.kill();
    eventually("the break is noticed", || counters.of(Count::Disconnects) == 1);
    server.run();
    assert_eq!(sink.drain(LIMIT), 0);
    assert_eq!(fates.count(), 100);
    let doubted = counters.of(Count::InDoubt);
    assert_eq!(counters.of(Count::Resent) == doubted, resent || doubted == 0);
    doubted
}

#[test]
fn a_full_stream_is_waited_for_and_said_to_be_full() {
    let server = Server::start();
    let other = Other::at(&server.url());
    let config = async_nats::jetstream::stream::Config {
        name: "S".into(),
        subjects: vec!["s".into()],
        max_messages: 10,
        discard: async_nats::jetstream::stream::DiscardPolicy::New,
        ..Default::default()
    };
    other.runtime.block_on(other.streams.create_stream(config)).unwrap();
    let (fates, confirm) = fates();
    let sink = JetStreamSink::new(sink_settings(server.connection()), confirm).unwrap();
    for number in 0..15 {
        send(&sink, &numbered(number), Some(origin(number)), number as u64);
    }
    eventually("ten are stored", || fates.count() == 10);
    eventually("the sink says why", || sink.not_ready().is_some_and(|why| why.contains("maximum messages")));
    other.purge("S");
    assert_eq!(sink.drain(LIMIT), 0);
    assert_eq!((fates.count(), other.count("S")), (15, 5));
    assert_eq!(sink.not_ready(), None);
}

#[test]
fn what_is_missing_at_the_start_is_the_configurations_fault_and_nothing_is_made() {
    let server = Server::start();
    let other = Other::at(&server.url());
    let mut settings = source_settings(server.connection());
    settings.create_stream = None;
    let error = Reader::of(settings).failure();
    assert_eq!((error.kind, error.context.as_str()), (ErrorKind::Configuration, "there is no stream `S`"));
    let mut settings = sink_settings(server.connection());
    settings.create_stream = None;
    let error = JetStreamSink::new(settings, fates().1).unwrap().check(LIMIT).unwrap_err();
    assert_eq!((error.kind, error.context.as_str()), (ErrorKind::Configuration, "no stream takes the subject `s`"));
    let config = spec(&["other"]);
    let mut settings = source_settings(server.connection());
    settings.create_stream = Some(config);
    settings.create_consumer = None;
    let error = Reader::of(settings).failure();
    assert_eq!(error.context, "the stream `S` has no consumer `C`");
    // `S` is there now and has another subject.
    let mut settings = sink_settings(server.connection());
    settings.create_stream = None;
    let error = JetStreamSink::new(settings, fates().1).unwrap().check(LIMIT).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Configuration);
    assert_eq!(other.count("S"), 0);
}

#[test]
fn a_server_without_jetstream_and_one_that_is_not_there_are_outages() {
    let server = Server::with("");
    let wait = Duration::from_secs(3);
    let error = JetStreamSink::new(sink_settings(server.connection()), fates().1).unwrap().check(wait).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Retriable);
    assert!(error.context.contains("JetStream does not answer"), "{error}");
    let connection = server.connection();
    drop(server);
    let error = JetStreamSink::new(sink_settings(connection), fates().1).unwrap().check(wait).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Retriable);
    assert!(error.context.contains("cannot be reached"), "{error}");
}

#[test]
fn a_message_that_the_client_cannot_read_is_passed_by_others_and_told() {
    let server = Server::start();
    let other = Other::at(&server.url());
    let mut settings = source_settings(server.connection());
    settings.create_consumer = Some(ConsumerSpec { ack_wait: Duration::from_secs(3), ..ConsumerSpec::default() });
    let mut reader = Reader::of(settings);
    reader.acknowledges = true;
    let (fates, confirm) = fates();
    let sink = JetStreamSink::new(sink_settings(server.connection()), confirm).unwrap();
    store(&sink, &fates, 0..1);
    reader.until_count(1);
    server.publish_raw(b"HPUB s 18 19\r\nNATS/1.0\r\na: \xff\r\n\r\nv\r\n");
    store(&sink, &fates, 1..2);
    reader.until_count(2);
    reader.until("it is told", |reader| reader.troubles.iter().any(|trouble| trouble.contains("headers")));
    let stream = other.runtime.block_on(other.streams.get_stream("S")).unwrap();
    other.runtime.block_on(stream.delete_message(2)).unwrap();
    eventually("it works again", || reader.poll(crate::support::ALL).is_ok());
    reader.close();
}

#[test]
fn a_server_that_takes_no_more_bytes_is_an_outage_and_nothing_is_lost() {
    let server = Server::start();
    let mut settings = sink_settings(server.connection());
    settings.ack_timeout = Duration::from_secs(1);
    settings.window.bytes = 64 * 1024 * 1024;
    let (fates, confirm) = fates();
    let sink = JetStreamSink::new(settings, confirm).unwrap();
    store(&sink, &fates, 0..1);
    server.signal("STOP");
    let large = portcullis_connector_api::Message { value: Some(vec![b'x'; 256 * 1024].into()), ..numbered(1) };
    for number in 1..100 {
        send(&sink, &large, Some(origin(number)), number as u64);
    }
    eventually("the sink says that it is not ready", || sink.not_ready().is_some());
    server.signal("CONT");
    assert_eq!(sink.drain(LIMIT), 0, "{:?}", sink.not_ready());
    assert_eq!((fates.count(), Other::at(&server.url()).count("S")), (99, 100));
}

#[test]
fn what_never_left_for_core_nats_is_not_in_doubt_when_the_connection_ends() {
    use std::io::{BufRead, BufReader, Write};
    // Four slices, all there before the first is sent. The client takes two of them and the socket a part of the third.
    const COUNT: u64 = 1024;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    let (go, gone) = std::sync::mpsc::sync_channel::<()>(1);
    // Answers the sink's first question when it is told to, and reads nothing after that.
    let server = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let (mut reader, mut writer) = (BufReader::new(stream.try_clone().unwrap()), stream);
        writer.write_all(b"INFO {\"server_id\":\"A\",\"max_payload\":1048576,\"headers\":true}\r\n").unwrap();
        let (mut line, mut sid, mut published) = (String::new(), String::new(), 0);
        while published < 2 {
            line.clear();
            reader.read_line(&mut line).unwrap();
            let words: Vec<_> = line.split_whitespace().collect();
            match words[..] {
                ["PING"] => writer.write_all(b"PONG\r\n").unwrap(),
                ["SUB", _, number] => sid = number.to_owned(),
                ["PUB", subject, "0"] => {
                    published += 1;
                    if published == 2 {
                        gone.recv().unwrap();
                    }
                    writer.write_all(format!("MSG {subject} {sid} 0\r\n\r\n").as_bytes()).unwrap();
                }
                _ => {}
            }
        }
        drop((gone.recv(), listener));
    });
    let connection = portcullis_connector_nats::Connection::plain([url]);
    let mut settings = CoreSinkSettings::new(connection, SubjectRule::Fixed("s".into()));
    settings.in_doubt = InDoubt::Drop;
    settings.window.bytes = 512 * 1024 * 1024;
    let counters = settings.counters.clone();
    let (fates, confirm) = fates();
    let sink = CoreSink::new(settings, confirm).unwrap();
    let large = portcullis_connector_api::Message { value: Some(vec![b'x'; 256 * 1024].into()), ..numbered(1) };
    for number in 0..COUNT {
        send(&sink, &large, None, number);
    }
    go.send(()).unwrap();
    eventually("the connection is given up", || counters.of(Count::InDoubt) > 0);
    let doubted = counters.of(Count::InDoubt);
    assert!((256..720).contains(&doubted), "{doubted}");
    eventually("those in doubt are confirmed", || fates.count() as u64 == doubted);
    eventually("the others wait", || sink.unconfirmed() == COUNT - doubted);
    drop((go, sink));
    server.join().unwrap();
}

#[test]
fn a_stream_that_confirms_nothing_or_takes_nothing_is_no_destination() {
    use async_nats::jetstream::stream::{Config, Source};
    let server = Server::start();
    let other = Other::at(&server.url());
    let config = |name: &str| Config { name: name.into(), ..Default::default() };
    let subjects = |subject: &str| vec![subject.to_owned()];
    let configs = [
        Config { no_ack: true, subjects: subjects("n.>"), ..config("N") },
        Config { subjects: subjects("e.>"), ..config("E") },
        Config { mirror: Some(Source { name: "E".into(), ..Default::default() }), ..config("M") },
    ];
    for config in configs {
        other.runtime.block_on(other.streams.create_stream(config)).unwrap();
    }
    let sealed = Config { sealed: true, subjects: subjects("e.>"), ..config("E") };
    other.runtime.block_on(other.streams.update_stream(sealed)).unwrap();
    let template = SubjectRule::template("n.{{key}}", &["n.*".to_owned()], &[]).unwrap();
    let fixed = |subject: &str| SubjectRule::Fixed(subject.into());
    let cases = [
        (fixed("n.1"), None, "no_ack"),
        (fixed("n.1"), Some("N"), "no_ack"),
        (template.clone(), Some("N"), "no_ack"),
        (fixed("e.1"), None, "sealed"),
        (template.clone(), Some("E"), "sealed"),
        (template, Some("M"), "mirror"),
    ];
    for (subject, stream, expected) in cases {
        let mut settings = sink_settings(server.connection());
        settings.subject = subject;
        (settings.stream, settings.create_stream) = (stream.map(str::to_owned), None);
        let error = JetStreamSink::new(settings, fates().1).unwrap().check(LIMIT).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Configuration, "{error}");
        assert!(error.context.contains(expected), "{error}");
    }
}
