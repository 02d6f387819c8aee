//! What a sink was given up with is sent no more, however much of it waits for a link that stands still.

use std::time::Duration;

use futures_util::StreamExt;
use portcullis_connector_api::{ErrorKind, Fate, Message, SendError, Sink, Token};
use portcullis_connector_nats::{
    Connection, CoreSink, CoreSinkSettings, CoreSource, CoreSourceSettings, JetStreamSink, SubjectRule,
};

use crate::server::Server;
use crate::support::{LIMIT, Other, Reader, eventually, fates, numbered, send, sink_settings, spec};
use crate::way::Way;

/// More than async-nats and the two sockets take: what is under way and what waits are there both.
const COUNT: u64 = 1024;
/// What the sockets of this machine hold, of messages of 256 KiB, with room to spare: it has left the process.
const IN_SOCKETS: u64 = 256;
const WINDOW_BYTES: usize = 512 * 1024 * 1024;

/// Stores one, sends the rest into a link that stands still, gives the sink up, and lets the link go again.
fn gives_up(sink: &dyn Sink, fates: &crate::support::Fates, way: &Way) {
    send(sink, &numbered(0), None, 0);
    assert_eq!(sink.drain(LIMIT), 0, "{:?}", sink.not_ready());
    assert!(matches!(fates.take()[..], [(_, Fate::Stored(_))]));
    way.hold();
    let large = Message { value: Some(vec![b'x'; 256 * 1024].into()), ..numbered(1) };
    for token in 1..=COUNT {
        send(sink, &large, None, token);
    }
    sink.abandon();
    assert!(matches!(sink.send(&large, Token(COUNT + 1)), Err(SendError::Fatal(_))));
    assert_eq!((sink.drain(LIMIT), sink.unconfirmed()), (0, 0));
    let mut told = fates.take();
    told.sort_by_key(|(token, _)| *token);
    assert!(told.iter().map(|(token, _)| token.0).eq(1..=COUNT), "each is told once");
    for (_, fate) in &told {
        assert!(matches!(fate, Fate::Failed(error) if error.kind == ErrorKind::Fatal), "{fate:?}");
    }
    assert!(way.let_through(), "the connection does not end");
}

#[test]
fn a_stream_sink_that_is_given_up_on_a_link_that_stands_still_sends_no_more() {
    let server = Server::start();
    let (way, other) = (Way::to(&server), Other::at(&server.url()));
    let (told, confirm) = fates();
    let mut settings = sink_settings(way.connection(&server));
    settings.create_stream = Some(spec(&["s"]));
    settings.window.bytes = WINDOW_BYTES;
    let sink = JetStreamSink::new(settings, confirm).unwrap();
    sink.check(LIMIT).unwrap();
    gives_up(&sink, &told, &way);
    let (next_told, confirm) = fates();
    let next = JetStreamSink::new(sink_settings(server.connection()), confirm).unwrap();
    send(&next, &numbered(2), None, 0);
    assert_eq!(next.drain(LIMIT), 0);
    let Fate::Stored(receipt) = next_told.take().remove(0).1 else { panic!("not stored") };
    // Behind it nothing comes: the old connection has ended before it was sent.
    let count = other.count("S");
    assert_eq!(receipt.offset.map(i64::cast_unsigned), Some(count));
    assert!(count - 2 < IN_SOCKETS, "{count} were stored");
    drop(sink);
    assert_eq!(other.count("S"), count);
}

#[test]
fn a_core_sink_that_is_given_up_on_a_link_that_stands_still_sends_no_more() {
    let server = Server::with("");
    let way = Way::to(&server);
    let mut settings = CoreSourceSettings::new(server.connection(), vec!["s".into()]);
    settings.window.bytes = WINDOW_BYTES;
    let source = CoreSource::new(settings).unwrap();
    source.wait_until_subscribed(LIMIT).unwrap();
    let mut reader = Reader::new(source);
    let of = |connection: Connection| {
        let mut settings = CoreSinkSettings::new(connection, SubjectRule::Fixed("s".into()));
        settings.window.bytes = WINDOW_BYTES;
        settings
    };
    let (told, confirm) = fates();
    let sink = CoreSink::new(of(way.connection(&server)), confirm).unwrap();
    sink.check(LIMIT).unwrap();
    gives_up(&sink, &told, &way);
    let next = CoreSink::new(of(server.connection()), fates().1).unwrap();
    send(&next, &numbered(2), None, 0);
    assert_eq!(next.drain(LIMIT), 0);
    let is_next = |message: &Message| message.value.as_deref() == Some(b"2");
    reader
        .until("the next owner's message came", |reader| reader.records.iter().any(|record| is_next(&record.message)));
    drop(sink);
    // One more of the next owner: whatever had been sent meanwhile would be in front of it.
    send(&next, &numbered(3), None, 1);
    assert_eq!(next.drain(LIMIT), 0);
    reader.until("another one came", |reader| {
        reader.records.last().is_some_and(|record| record.message.value.as_deref() == Some(b"3"))
    });
    let values = reader.records.iter().rev().take(2).map(|record| record.message.value.clone().unwrap());
    assert!(values.eq(["3", "2"]), "something came behind the next owner's message");
    assert!((reader.records.len() as u64) < IN_SOCKETS, "{} came", reader.records.len());
}

#[test]
fn a_connection_of_a_sink_that_is_left_takes_what_waits_in_it_to_its_end() {
    // The link stands still for longer than confirmations are waited for: the sink goes on over another connection, and what
    // the first one still held in the process is nowhere sent when the link goes again.
    let server = Server::start();
    let (way, other) = (Way::to(&server), Other::at(&server.url()));
    let mut published = other.runtime.block_on(other.client.subscribe("s")).unwrap();
    other.publish("unheard", []);
    let heard = other.runtime.spawn(async move {
        let mut count = 0;
        while published.next().await.is_some_and(|message| &message.payload[..] != b"the end") {
            count += 1;
        }
        count
    });
    let (told, confirm) = fates();
    let mut settings = sink_settings(way.connection(&server));
    settings.connection.servers.push(server.url());
    settings.ack_timeout = Duration::from_secs(1);
    settings.window.bytes = WINDOW_BYTES;
    let counters = settings.counters.clone();
    let sink = JetStreamSink::new(settings, confirm).unwrap();
    sink.check(LIMIT).unwrap();
    way.hold();
    let large = Message { value: Some(vec![b'x'; 256 * 1024].into()), ..numbered(1) };
    for token in 0..COUNT {
        send(&sink, &large, None, token);
    }
    eventually("everything is stored over the other connection", || told.count() as u64 == COUNT);
    assert_eq!(counters.of(portcullis_connector_nats::Count::Connects), 2);
    assert!(way.let_through(), "the connection that was left does not end");
    // What was in the sockets came twice, and the stream knows it by its id.
    assert_eq!((sink.drain(LIMIT), other.count("S")), (0, COUNT));
    other.publish("s", ["the end".to_owned()]);
    let twice = other.runtime.block_on(heard).unwrap() - COUNT;
    assert!(twice < IN_SOCKETS, "{twice} came twice");
}
