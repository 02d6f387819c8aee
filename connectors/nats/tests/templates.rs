//! What a producer can do to a sink whose subject its messages choose.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use async_nats::jetstream::stream::Config;
use futures_util::StreamExt;
use portcullis_connector_api::{ErrorKind, Fate, Message, Sink, Token};
use portcullis_connector_nats::{Auth, Count, JetStreamSink, JetStreamSinkSettings, Secret, SubjectRule};
use tracing::field::{Field, Visit};
use tracing::span;

use crate::server::Server;
use crate::support::{Fates, LIMIT, Other, eventually, fates, origin, send, sink_settings};

/// Of `{{key}}.x`.
fn settings(server: &Server) -> JetStreamSinkSettings {
    let mut settings = sink_settings(server.connection());
    settings.subject = SubjectRule::template("{{key}}.x", &["*.x".to_owned()], &[]).unwrap();
    settings
}

fn message(key: &str) -> Message {
    Message { key: Some(key.to_owned().into()), value: Some("v".into()), ..Message::new("in") }
}

fn sends(sink: &dyn Sink, key: &str, token: u64) {
    send(sink, &message(key), Some(origin(token as i64)), token);
}

/// Everything that has come so far, by its token.
fn all(fates: &Fates, known: &mut BTreeMap<u64, Fate>) {
    for (Token(token), fate) in fates.take() {
        assert!(known.insert(token, fate).is_none(), "{token} has two fates");
    }
}

#[test]
fn a_sealed_stream_refuses_its_own_messages_and_no_others() {
    let server = Server::start();
    let other = Other::at(&server.url());
    let mut sealed = Config { name: "T".into(), subjects: vec!["t.>".into()], ..Default::default() };
    other.runtime.block_on(other.streams.create_stream(sealed.clone())).unwrap();
    sealed.sealed = true;
    other.runtime.block_on(other.streams.update_stream(sealed)).unwrap();
    let (fates, confirm) = fates();
    let mut settings = settings(&server);
    (settings.stream, settings.create_stream) = (None, None);
    let taking = Config { name: "S".into(), subjects: vec!["s.>".into()], ..Default::default() };
    other.runtime.block_on(other.streams.create_stream(taking)).unwrap();
    let sink = JetStreamSink::new(settings, confirm).unwrap();
    for (token, key) in ["s", "t", "s", "s"].into_iter().enumerate() {
        sends(&sink, key, token as u64);
    }
    assert_eq!(sink.drain(LIMIT), 0);
    let mut found = BTreeMap::new();
    all(&fates, &mut found);
    assert!(matches!(found[&1], Fate::Refused(_)), "{found:?}");
    assert_eq!((other.count("S"), other.count("T")), (3, 0));
    sends(&sink, "s", 4);
    assert_eq!((sink.drain(LIMIT), other.count("S")), (0, 4));
}

#[test]
fn keys_that_only_somebody_silent_listens_to_cost_no_connection_and_hold_up_nobody() {
    const GOOD: u64 = 4000;
    let server = Server::start();
    let other = Other::at(&server.url());
    let _silent = other.runtime.block_on(other.client.subscribe("*.x")).unwrap();
    other.publish("unheard", []);
    let (fates, confirm) = fates();
    let mut settings = settings(&server);
    settings.ack_timeout = Duration::from_secs(2);
    // A small window shows at once what stands still.
    settings.window.messages = 64;
    let counters = settings.counters.clone();
    let sink = JetStreamSink::new(settings, confirm).unwrap();
    sink.check(LIMIT).unwrap();
    let begun = Instant::now();
    for token in 0..GOOD {
        if token % 400 == 0 {
            sends(&sink, &format!("silent{token}"), GOOD + token);
        }
        sends(&sink, "s", token);
    }
    assert_eq!(sink.drain(Duration::from_secs(20)), 0, "{:?}", sink.not_ready());
    let took = begun.elapsed();
    let mut found = BTreeMap::new();
    all(&fates, &mut found);
    for (token, fate) in found {
        assert_eq!(matches!(fate, Fate::Stored(_)), token < GOOD, "{token}: {fate:?}");
        assert_eq!(matches!(fate, Fate::Refused(_)), token >= GOOD, "{token}: {fate:?}");
    }
    assert_eq!(counters.of(Count::Disconnects), 0);
    assert!(took < Duration::from_secs(15), "{took:?}");
    // Alone, too: nothing is confirmed that could overtake it.
    let begun = Instant::now();
    sends(&sink, "alone", 0);
    assert_eq!(sink.drain(LIMIT), 0);
    assert!(matches!(fates.take()[..], [(_, Fate::Refused(_))]));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    // And beside one that nobody at all listens to.
    sends(&sink, "silent", 0);
    send(&sink, &message("s"), Some(origin(GOOD as i64)), 1);
    assert_eq!((sink.drain(LIMIT), fates.take().len()), (0, 2));
    assert_eq!(counters.of(Count::Disconnects), 0);
    assert_eq!(other.count("S"), GOOD + 1);
    eventually("the sink is ready", || sink.not_ready().is_none());
}

/// Lines of the log that hold the word that only one test uses.
struct Log;

const WORD: &str = "canary-5d1f";
static FOUND: LazyLock<Mutex<Vec<String>>> = LazyLock::new(Mutex::default);

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("portcullis") && *metadata.level() <= tracing::Level::INFO
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Text(String);
        impl Visit for Text {
            fn record_debug(&mut self, _: &Field, value: &dyn Debug) {
                self.0 += &format!("{value:?} ");
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        if text.0.contains(WORD) {
            FOUND.lock().unwrap().push(text.0);
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[test]
fn a_question_that_is_not_answered_shows_no_key_and_holds_up_no_verdict_of_others() {
    tracing::subscriber::set_global_default(Log).unwrap();
    let server = Server::with("");
    let other = Other::at(&server.url());
    let mut asked = other.runtime.block_on(other.client.subscribe("$JS.API.>")).unwrap();
    let mut stored = other.runtime.block_on(other.client.subscribe("s.x")).unwrap();
    other.publish("unheard", []);
    // A JetStream that says nothing about one subject.
    let speaks = Arc::new(AtomicBool::new(false));
    let (client, all_answered) = (other.client.clone(), Arc::clone(&speaks));
    other.runtime.spawn(async move {
        while let Some(question) = asked.next().await {
            let text = String::from_utf8_lossy(&question.payload).into_owned();
            let answer = match text {
                text if text.contains(WORD) && !all_answered.load(Ordering::SeqCst) => continue,
                text if text.contains("s.x") => "{\"streams\":[\"S\"],\"config\":{}}",
                _ => "{\"streams\":null,\"config\":{}}",
            };
            client.publish(question.reply.unwrap(), answer.into()).await.unwrap();
        }
    });
    let client = other.client.clone();
    other.runtime.spawn(async move {
        let mut sequence = 0;
        while let Some(message) = stored.next().await {
            sequence += 1;
            let answer = format!("{{\"stream\":\"S\",\"seq\":{sequence}}}");
            client.publish(message.reply.unwrap(), answer.into()).await.unwrap();
        }
    });
    let (fates, confirm) = fates();
    let mut settings = settings(&server);
    (settings.stream, settings.create_stream) = (None, None);
    settings.connection.timeout = Duration::from_millis(500);
    let counters = settings.counters.clone();
    let sink = JetStreamSink::new(settings, confirm).unwrap();
    sink.check(LIMIT).unwrap();
    let mut found = BTreeMap::new();
    sends(&sink, WORD, 0);
    let (mut token, mut shown) = (0, Vec::new());
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        token += 1;
        let key = if token % 10 == 0 { format!("nowhere{token}") } else { "s".to_owned() };
        sends(&sink, &key, token);
        std::thread::park_timeout(Duration::from_millis(10));
        shown.extend(sink.not_ready());
    }
    eventually("all others have their fates", || {
        all(&fates, &mut found);
        found.len() as u64 == token
    });
    assert!(!found.contains_key(&0), "nobody has said that no stream takes it");
    for (token, fate) in &found {
        assert_eq!(matches!(fate, Fate::Refused(_)), token % 10 == 0, "{token}: {fate:?}");
    }
    assert_eq!(counters.of(Count::Disconnects), 0, "what others are stored over is no broken connection");
    assert!(!shown.is_empty(), "it is told that there is a question");
    speaks.store(true, Ordering::SeqCst);
    assert_eq!(sink.drain(LIMIT), 0);
    all(&fates, &mut found);
    let Fate::Refused(refusal) = &found[&0] else { panic!("{:?}", found[&0]) };
    assert_eq!(refusal.detail, "no stream takes the message's subject");
    eventually("the sink is ready again", || sink.not_ready().is_none());
    assert!(shown.iter().all(|line| !line.contains(WORD)), "{shown:?}");
    assert!(FOUND.lock().unwrap().is_empty(), "{:?}", FOUND.lock().unwrap());
}

#[test]
fn an_account_that_must_not_ask_for_streams_is_told_at_the_start() {
    let server = Server::with(
        "jetstream { store_dir: \"FOLDER/store\" }\n\
         authorization { users: [ { user: pc, password: p, permissions: {\n\
           publish: { deny: \"$JS.API.STREAM.NAMES\" } } } ] }",
    );
    let mut settings = settings(&server);
    settings.connection.auth = Some(Auth::Password { user: "pc".into(), password: Secret::new("p") });
    let sink = JetStreamSink::new(settings, fates().1).unwrap();
    let error = sink.check(Duration::from_secs(20)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Configuration, "{error}");
    assert!(error.context.contains("`$JS.API.STREAM.NAMES`"), "{error}");
}
