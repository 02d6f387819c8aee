//! What core NATS promises, and what it loses.

use std::sync::atomic::{AtomicBool, Ordering};

use portcullis_connector_api::{Budget, Message, Sink};
use portcullis_connector_nats::{
    CoreSink, CoreSinkSettings, CoreSource, CoreSourceSettings, Count, SubjectRule, Window,
};

use crate::server::Server;
use crate::support::{LIMIT, Other, Reader, eventually, fates, numbers, send};

#[test]
fn what_does_not_fit_into_the_window_is_lost_and_counted_to_the_message() {
    let server = Server::with("");
    let mut settings = CoreSourceSettings::new(server.connection(), vec!["s.>".into()]);
    settings.window = Window { messages: 10, bytes: 1024 * 1024 };
    let counters = settings.counters.clone();
    let source = CoreSource::new(settings).unwrap();
    source.wait_until_subscribed(LIMIT).unwrap();
    Other::at(&server.url()).publish("s.1", numbers(0..1000));
    let mut reader = Reader::new(source);
    eventually("the rest is counted", || {
        drop(reader.poll(Budget::NOTHING));
        counters.of(Count::Dropped) == 990
    });
    reader.until_count(10);
    assert_eq!(reader.values(), numbers(0..10), "the oldest are kept");
    assert_eq!(reader.records[0].message.key.as_deref(), Some(&b"s.1"[..]));
}

#[test]
fn a_burst_on_a_busy_machine_is_counted_to_the_message() {
    const BURST: u64 = 100_000;
    let server = Server::with("");
    let mut settings = CoreSourceSettings::new(server.connection(), vec!["s".into()]);
    settings.window = Window { messages: 10, bytes: 1024 * 1024 };
    let counters = settings.counters.clone();
    let source = CoreSource::new(settings).unwrap();
    source.wait_until_subscribed(LIMIT).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Other::at(&server.url()).publish("s", numbers(0..BURST.cast_signed()));
        over.store(true, Ordering::Relaxed);
    });
    let mut reader = Reader::new(source);
    eventually("the rest is counted", || {
        drop(reader.poll(Budget::NOTHING));
        counters.of(Count::Dropped) >= BURST - 10
    });
    assert_eq!(counters.of(Count::Dropped), BURST - 10);
}

#[test]
fn members_of_a_queue_group_share_what_wildcards_match() {
    let server = Server::with("");
    let member = || {
        let mut settings = CoreSourceSettings::new(server.connection(), vec!["a.*.x".into(), "b.>".into()]);
        settings.queue_group = Some("g".into());
        let source = CoreSource::new(settings).unwrap();
        source.wait_until_subscribed(LIMIT).unwrap();
        Reader::new(source)
    };
    let (mut one, mut two) = (member(), member());
    let other = Other::at(&server.url());
    for subject in ["a.1.x", "b.2.3.4", "a.1.y", "c"] {
        other.publish(subject, numbers(0..50));
    }
    eventually("all that match came", || {
        drop((one.poll(crate::support::ALL), two.poll(crate::support::ALL)));
        one.records.len() + two.records.len() == 100
    });
    assert!(!one.records.is_empty() && !two.records.is_empty());
}

#[test]
fn a_source_comes_back_after_its_server_does() {
    let mut server = Server::with("");
    let settings = CoreSourceSettings::new(server.connection(), vec!["s".into()]);
    let counters = settings.counters.clone();
    let source = CoreSource::new(settings).unwrap();
    source.wait_until_subscribed(LIMIT).unwrap();
    let mut reader = Reader::new(source);
    server.kill();
    reader.until("the break is reported", |reader| !reader.troubles.is_empty());
    server.run();
    reader.until("it is connected again", |_| counters.of(Count::Connects) == 2);
    let other = Other::at(&server.url());
    eventually("messages come again", || {
        other.publish("s", ["v".to_owned()]);
        reader.poll(crate::support::ALL).is_ok() && !reader.records.is_empty()
    });
}

#[test]
fn a_subject_by_template_is_used_and_a_wrong_one_refuses_its_message_alone() {
    let server = Server::with("");
    let settings = CoreSourceSettings::new(server.connection(), vec!["out.>".into()]);
    let source = CoreSource::new(settings).unwrap();
    source.wait_until_subscribed(LIMIT).unwrap();
    let rule = SubjectRule::template("out.{{key}}", &["out.*".to_owned()], &[]).unwrap();
    let (fates, confirm) = fates();
    let sink = CoreSink::new(CoreSinkSettings::new(server.connection(), rule), confirm).unwrap();
    let message = |key: &'static str| Message { key: Some(key.into()), ..Message::new("in") };
    send(&sink, &message("a"), None, 0);
    sink.send(&message("a.b"), portcullis_connector_api::Token(1)).unwrap_err();
    send(&sink, &message("c"), None, 2);
    assert_eq!((sink.drain(LIMIT), fates.count()), (0, 2));
    let mut reader = Reader::new(source);
    reader.until_count(2);
    let read: Vec<_> = reader.records.iter().map(|record| record.message.channel.to_string()).collect();
    assert_eq!(read, ["out.a", "out.c"]);
    assert_eq!(reader.records[0].message.value, None, "null is not empty");
}
