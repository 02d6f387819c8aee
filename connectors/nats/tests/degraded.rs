//! What is worse than it should be while a connector works: said on `/ready`, counted, and over when it is over.

use portcullis_connector_api::{Budget, Fate, Message, RefusalKind, Sink};
use portcullis_connector_nats::{
    CoreSink, CoreSinkSettings, CoreSource, CoreSourceSettings, Count, JetStreamSink, SubjectRule, Window,
};

use crate::server::Server;
use crate::support::{
    LIMIT, Other, Reader, eventually, fates, numbered, numbers, origin, send, sink_settings, source_settings, store,
};

/// What a sink or source says of itself, as far as it has this in it.
fn says(degraded: Option<String>, what: &str) -> bool {
    degraded.is_some_and(|degraded| degraded.contains(what))
}

#[test]
fn a_core_source_that_is_too_slow_says_so_until_nothing_is_lost_for_a_while() {
    let server = Server::with("");
    let mut settings = CoreSourceSettings::new(server.connection(), vec!["s".into()]);
    settings.window = Window { messages: 10, bytes: 1 << 20 };
    let counters = settings.counters.clone();
    let source = CoreSource::new(settings).unwrap();
    source.wait_until_subscribed(LIMIT).unwrap();
    let mut reader = Reader::new(source);
    assert_eq!(reader.source.degraded(), None);
    let other = Other::at(&server.url());
    other.publish("s", numbers(0..100));
    eventually("what does not fit is lost", || counters.of(Count::Dropped) == 90);
    assert!(says(reader.source.degraded(), "the newest are lost"), "{:?}", reader.source.degraded());
    reader.until("the first ones came", |reader| reader.records.len() == 10);
    assert_eq!(reader.values(), numbers(0..10));
    eventually("it is over", || reader.source.degraded().is_none());
    other.publish("s", numbers(100..105));
    reader.until("others came", |reader| reader.records.len() == 15);
    assert_eq!((counters.of(Count::Dropped), reader.troubles.len()), (90, 0));
}

#[test]
fn messages_that_are_too_large_are_counted_and_said_while_others_are_stored() {
    let server = Server::start();
    let large = Message { value: Some(vec![b'x'; 1024 * 1024].into()), ..numbered(1) };
    let mut core = CoreSinkSettings::new(server.connection(), SubjectRule::Fixed("elsewhere".into()));
    core.window.bytes = 1 << 24;
    let stream = sink_settings(server.connection());
    let (of_core, of_stream) = (core.counters.clone(), stream.counters.clone());
    let (told_of_core, to_core) = fates();
    let (told_of_stream, to_stream) = fates();
    let ends: [(Box<dyn Sink>, _, _); 2] = [
        (Box::new(CoreSink::new(core, to_core).unwrap()), of_core, told_of_core),
        (Box::new(JetStreamSink::new(stream, to_stream).unwrap()), of_stream, told_of_stream),
    ];
    for (sink, counters, told) in &ends {
        store(&**sink, told, 0..1);
        assert_eq!((sink.degraded(), counters.of(Count::Oversize)), (None, 0));
        send(&**sink, &large, Some(origin(1)), 1);
        assert_eq!(sink.drain(LIMIT), 0);
        let Fate::Refused(refusal) = told.take().remove(0).1 else { panic!("not refused") };
        assert_eq!(refusal.kind, RefusalKind::Oversize);
        assert!(says(sink.degraded(), "too large"), "{:?}", sink.degraded());
        assert_eq!((counters.of(Count::Oversize), sink.not_ready()), (1, None));
        store(&**sink, told, 2..3);
    }
    for (sink, ..) in &ends {
        eventually("it is over", || sink.degraded().is_none());
    }
}

#[test]
fn a_stream_that_takes_less_than_the_server_counts_as_too_large_as_well() {
    let server = Server::start();
    let other = Other::at(&server.url());
    let config = async_nats::jetstream::stream::Config {
        name: "S".into(),
        subjects: vec!["s".into()],
        max_message_size: 1000,
        ..Default::default()
    };
    other.runtime.block_on(other.streams.create_stream(config)).unwrap();
    let (told, confirm) = fates();
    let settings = sink_settings(server.connection());
    let counters = settings.counters.clone();
    let sink = JetStreamSink::new(settings, confirm).unwrap();
    send(&sink, &Message { value: Some(vec![b'x'; 2000].into()), ..numbered(0) }, Some(origin(0)), 0);
    assert_eq!(sink.drain(LIMIT), 0);
    assert!(matches!(&told.take()[0].1, Fate::Refused(refusal) if refusal.kind == RefusalKind::Oversize));
    assert!(says(sink.degraded(), "too large") && counters.of(Count::Oversize) == 1);
    store(&sink, &told, 1..2);
}

#[test]
fn the_only_server_that_will_shut_down_is_stayed_with_and_said_until_it_is_back() {
    let mut server = Server::with("jetstream { store_dir: \"FOLDER/store\", sync_interval: always }");
    let mut settings = source_settings(server.connection());
    settings.create_stream.as_mut().unwrap().storage = portcullis_connector_nats::Storage::File;
    let counters = settings.counters.clone();
    let mut reader = Reader::of(settings);
    reader.acknowledges = true;
    eventually("the stream is there", || counters.of(Count::Connects) == 1 && reader.poll(Budget::NOTHING).is_ok());
    let settings = sink_settings(server.connection());
    let of_sink = settings.counters.clone();
    let (told, confirm) = fates();
    let sink = JetStreamSink::new(settings, confirm).unwrap();
    store(&sink, &told, 0..10);
    let (told_of_core, confirm) = fates();
    let settings = CoreSinkSettings::new(server.connection(), SubjectRule::Fixed("elsewhere".into()));
    let core = CoreSink::new(settings, confirm).unwrap();
    store(&core, &told_of_core, 0..1);
    reader.until_count(10);
    assert_eq!((sink.degraded(), reader.source.degraded()), (None, None));
    server.lame_duck();
    let lame = |degraded: Option<String>| says(degraded, "about to shut down");
    eventually("the sink says so", || lame(sink.degraded()));
    reader.until("the source says so", |reader| lame(reader.source.degraded()));
    assert_eq!((counters.of(Count::LameDuck), of_sink.of(Count::LameDuck)), (1, 1));
    // JetStream stops at once, the rest of the server a while later: core NATS goes on until then.
    store(&core, &told_of_core, 1..2);
    assert!(lame(core.degraded()));
    server.kill();
    eventually("the sink says that it is not ready", || sink.not_ready().is_some());
    server.run();
    store(&sink, &told, 10..20);
    store(&core, &told_of_core, 2..3);
    reader.until("the others came", |reader| reader.values().contains(&"19".to_owned()));
    assert_eq!((sink.degraded(), core.degraded(), reader.source.degraded()), (None, None, None));
}
