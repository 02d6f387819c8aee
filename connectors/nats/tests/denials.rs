//! What a server denies is refused, however much of it comes at once and whatever its subject is made of.

use std::collections::BTreeMap;
use std::sync::Arc;

use portcullis_connector_api::{Bytes, Confirm, ErrorKind, Fate, Header, Message, Sink, Token};
use portcullis_connector_nats::{
    Auth, Connection, CoreSink, CoreSinkSettings, Count, JetStreamSink, Secret, SubjectRule,
};

use crate::server::Server;
use crate::support::{LIMIT, Other, eventually, fates, numbered, send, sink_settings};

/// Of the tokens after `s`, those that begin with `open` may be published to.
fn server() -> (Server, Connection) {
    let rights = "publish: { allow: [\"s.open.*\", \"$JS.API.>\", \"_INBOX.>\"] }";
    let server = Server::with(&format!(
        "jetstream {{ store_dir: \"FOLDER/store\" }}\n\
         authorization {{ users: [ {{ user: pc, password: p, permissions: {{ {rights} }} }}, {{ user: all, password: p }} ] }}\n\
         no_auth_user: all"
    ));
    let mut connection = server.connection();
    connection.auth = Some(Auth::Password { user: "pc".into(), password: Secret::new("p") });
    (server, connection)
}

/// As a template, without its rule that names are letters, digits, `-`, `_` and `.`.
fn rule() -> SubjectRule {
    SubjectRule::Each(Arc::new(|message| {
        let text = |value: Option<&Bytes>| String::from_utf8(value.unwrap().to_vec()).unwrap();
        let place = text(message.headers.last(b"h").unwrap().value.as_ref());
        Ok(format!("s.{place}.{}", text(message.key.as_ref())).into())
    }))
}

fn message(shut: bool, key: &str) -> Message {
    let mut message = Message { key: Some(key.to_owned().into()), ..numbered(0) };
    message.headers.append(Header::new("h", Some(if shut { "shut" } else { "open" })));
    message
}

/// Each message alternately denied and allowed; gives how many there are of each key's fate.
fn sends(sink: &dyn Sink, fates: &crate::support::Fates, keys: &[String]) {
    for (token, key) in keys.iter().enumerate() {
        send(sink, &message(token % 2 == 0, key), None, token as u64);
    }
    assert_eq!(sink.drain(LIMIT), 0, "{:?}", sink.not_ready());
    let fates: BTreeMap<Token, Fate> = fates.take().into_iter().collect();
    assert_eq!(fates.len(), keys.len());
    for (Token(token), fate) in fates {
        let denied = token % 2 == 0;
        assert_eq!(matches!(fate, Fate::Refused(_)), denied, "{}: {fate:?}", keys[token as usize]);
        assert_eq!(matches!(fate, Fate::Stored(_)), !denied, "{}: {fate:?}", keys[token as usize]);
    }
}

fn distinct(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("k{number}")).collect()
}

/// What `%q` writes in another way than it is.
fn quoted() -> Vec<String> {
    let keys = ["a\"b", "a\\b", "\"", "\\", "a'", "ü\u{1f600}", "\\\"", "\u{ad}\u{e0001}", "\\u0041"];
    keys.iter().flat_map(|key| [(*key).to_owned(), (*key).to_owned()]).collect()
}

#[test]
fn a_core_sink_confirms_nothing_that_the_server_denied() {
    let (_server, connection) = server();
    let (fates, confirm) = fates();
    let sink = CoreSink::new(CoreSinkSettings::new(connection, rule()), confirm).unwrap();
    for _ in 0..5 {
        sends(&sink, &fates, &distinct(400));
        sends(&sink, &fates, &quoted());
    }
    sends(&sink, &fates, &distinct(2000));
    sends(&sink, &fates, &vec!["same".to_owned(); 2000]);
    assert_eq!(sink.not_ready(), None);
}

#[test]
fn a_fixed_subject_of_a_core_sink_that_is_denied_confirms_no_message() {
    let (_server, connection) = server();
    for _ in 0..10 {
        let (fates, confirm) = fates();
        let settings = CoreSinkSettings::new(connection.clone(), SubjectRule::Fixed("s.shut.x".into()));
        let sink = CoreSink::new(settings, confirm).unwrap();
        sink.check(LIMIT).unwrap();
        for token in 0..1000 {
            if sink.send(&numbered(0), Token(token)).is_err() {
                break;
            }
        }
        assert_eq!(sink.drain(LIMIT), 0);
        for (_, fate) in fates.take() {
            assert!(matches!(fate, Fate::Failed(error) if error.kind == ErrorKind::Configuration));
        }
    }
}

#[test]
fn a_stream_sink_refuses_each_of_many_messages_that_the_server_denied() {
    let (server, connection) = server();
    let (fates, confirm) = fates();
    let mut settings = sink_settings(connection);
    settings.subject = rule();
    settings.ack_timeout = std::time::Duration::from_secs(1);
    let counters = settings.counters.clone();
    let sink = JetStreamSink::new(settings, confirm).unwrap();
    sends(&sink, &fates, &quoted());
    sends(&sink, &fates, &distinct(1000));
    let connects = counters.of(Count::Connects);
    sends(&sink, &fates, &distinct(1000));
    assert_eq!(counters.of(Count::Connects), connects, "no denial is lost after the first");
    assert_eq!(Other::at(&server.url()).count("S"), 1009);
    eventually("the sink is ready again", || sink.not_ready().is_none());
}

#[test]
fn a_burst_of_denials_at_the_very_beginning_is_refused_too() {
    let (_server, connection) = server();
    let (fates, confirm): (_, Arc<dyn Confirm>) = fates();
    let mut settings = sink_settings(connection);
    settings.subject = rule();
    settings.ack_timeout = std::time::Duration::from_secs(1);
    let sink = JetStreamSink::new(settings, confirm).unwrap();
    sink.check(LIMIT).unwrap();
    sends(&sink, &fates, &distinct(1000));
}
