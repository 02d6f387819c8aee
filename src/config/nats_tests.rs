use std::path::Path;
use std::time::Duration;

use crate::*;

fn load(text: &str) -> Result<Pipeline, Diagnostics> {
    load_pipeline(Path::new("dir/p.yaml"), text.as_bytes(), &[("PASSWORD", "hunter2")])
}

fn pipeline(source: &str, sink: &str) -> String {
    format!("pipeline: p\nsource: {source}\nsink: {sink}\n")
}

/// Code, line and column of every error.
fn errors(text: &str) -> Vec<(&'static str, usize, usize)> {
    let found = load(text).expect_err(text);
    found.iter().map(|d| (d.code.as_str(), d.at.line, d.at.col)).collect()
}

#[test]
fn everything_of_a_stream_can_be_typed() {
    let source = "{ jetstream: { servers: [nats://n1:4222, 'tls://[::1]'], auth: { user: u, password: { env: PASSWORD } },
        tls: { ca: ca.pem, cert: c.pem, key: c.key, first: true }, client_name: b, timeout: 2s, domain: hub,
        stream: ORDERS, consumer: bridge, filter_subjects: [orders.eu.*, orders.us.>], key: null, heartbeat: 1s,
        create_consumer: { start: latest, ack_wait: 10s, max_ack_pending: 50, max_deliver: 3 },
        create_stream: { subjects: orders.>, storage: memory, retention: work_queue, replicas: 3, max_age: 1h, max_bytes: 1GiB, duplicate_window: 5m },
        window: { messages: 10, bytes: 1MiB } } }";
    let sink = "{ jetstream: { servers: nats://n1, subject: 'orders.{{key}}', allow: [orders.*], stream: OUT, ack_timeout: 2s } }";
    let found = load(&pipeline(source, sink)).unwrap();
    let Source::JetStream(source) = &found.sources[0].value else { panic!() };
    assert_eq!(
        source.connection.servers().iter().map(|s| s.as_str()).collect::<Vec<_>>(),
        ["nats://n1:4222", "tls://[::1]"]
    );
    let Some(NatsAuth::Password { user, password }) = &source.connection.auth else { panic!() };
    assert_eq!((user.as_str(), password.expose()), ("u", "hunter2"));
    assert!(!format!("{found:?}").contains("hunter2"));
    let tls = source.connection.tls.as_ref().unwrap();
    assert!(tls.first.value && tls.files.ca.as_ref().unwrap().value == Path::new("dir/ca.pem"));
    assert_eq!(
        (source.stream.as_str(), source.consumer.as_str(), source.key.value),
        ("ORDERS", "bridge", NatsKey::Null)
    );
    let consumer = source.create_consumer.as_ref().unwrap();
    assert_eq!((consumer.start.value, consumer.ack_wait.value), (Start::Latest, Duration::from_secs(10)));
    let stream = source.create_stream.as_ref().unwrap();
    assert_eq!((stream.retention.value, stream.replicas.value), (Retention::WorkQueue, 3));
    assert_eq!((stream.storage.value, stream.duplicate_window.value), (Storage::Memory, Duration::from_secs(300)));
    let Sink::JetStream(sink) = &found.sink.value else { panic!() };
    assert_eq!((sink.subject.to_string().as_str(), sink.stream.as_ref().unwrap().as_str()), ("orders.{{key}}", "OUT"));
}

#[test]
fn core_nats_is_a_source_and_a_sink() {
    let source = "{ nats: { servers: [nats://n1:4222], subjects: [a.*, b.>], queue_group: bridge } }";
    let found =
        load(&pipeline(source, "{ nats: { servers: [nats://n1:4222], subject: events, in_doubt: resend } }")).unwrap();
    let Source::Nats(source) = &found.sources[0].value else { panic!() };
    assert_eq!((source.subjects.len(), source.key.value), (2, NatsKey::Subject));
    let Sink::Nats(sink) = &found.sink.value else { panic!() };
    assert_eq!(sink.in_doubt.value, InDoubt::Resend);
    assert_eq!(nats_connections(&found).count(), 2);
}

/// The place of the mark `^`, which is taken out.
fn marked(text: &str) -> (String, usize, usize) {
    let before = text.split_once('^').expect(text).0;
    let (line, col) = (before.lines().count(), before.lines().last().unwrap().chars().count() + 1);
    (text.replacen('^', "", 1), line, col)
}

#[test]
fn what_a_server_would_refuse_or_misread_is_refused_with_its_place() {
    let source = |keys: &str| pipeline(&format!("{{ nats: {{ subjects: a, {keys} }} }}"), "{ stdio: }");
    let sink = |keys: &str| pipeline("{ stdio: }", &format!("{{ jetstream: {{ servers: nats://n, {keys} }} }}"));
    for (text, code) in [
        (pipeline("{ nats: ^{ subjects: a } }", "{ stdio: }"), "key.missing"),
        (source("servers: ^n1:4222"), "value.invalid"),
        (source("servers: [nats://n1, ^'nats://:4222']"), "value.invalid"),
        (source("servers: ^[]"), "value.invalid"),
        (source("^profile: main, servers: nats://n"), "key.conflict"),
        (source("profile: ^Main"), "value.invalid"),
        (source("profile: main, ^auth: { token: t }"), "key.conflict"),
        (source("profile: main, ^tls: {}"), "key.conflict"),
        (sink("subject: a, ^profile: main"), "key.conflict"),
        (source("servers: nats://n, auth: ^{}"), "key.conflict"),
        (source("servers: nats://n, auth: { ^user: u }"), "key.conflict"),
        (source("servers: nats://n, auth: ^{ token: t, nkey: f }"), "key.conflict"),
        (source("servers: nats://n, tls: { ^verify: false }"), "setting.not_available"),
        (source("servers: nats://n, queue_group: ^a.b"), "value.invalid"),
        (source("servers: nats://n, key: ^value"), "value.invalid"),
        (pipeline("{ nats: { servers: nats://n, subjects: [a.*, ^a.b*] } }", "{ stdio: }"), "value.invalid"),
        (pipeline("{ nats: { servers: nats://n, subjects: ^a.>.b } }", "{ stdio: }"), "value.invalid"),
        (sink("subject: ^a..b"), "value.invalid"),
        (sink("subject: ^'a.*'"), "value.invalid"),
        (sink("subject: ^$$JS.API.x"), "value.invalid"),
        (sink("subject: ^'a.{{key}}'"), "key.missing"),
        (sink("subject: a, ^allow: a"), "key.conflict"),
        (sink("subject: a, stream: ^a b"), "value.invalid"),
        (sink("subject: a, ^create_stream: { subjects: a }"), "key.missing"),
        (sink("subject: a, ack_timeout: ^10ms"), "value.invalid"),
        (sink("subject: a, stream: S, create_stream: { subjects: a, max_age: ^1m }"), "key.conflict"),
        (sink("subject: a, window: { ^message: 1 }"), "key.unknown"),
    ] {
        let (text, line, col) = marked(&text);
        assert_eq!(errors(&text), [(code, line, col)], "{text}");
    }
}

#[test]
fn an_address_with_a_password_in_it_is_not_shown() {
    let text = pipeline("{ nats: { servers: ['nats://u:hunter3@n:4222'], subjects: a } }", "{ stdio: }");
    let found = load(&text).unwrap_err();
    let messages: String = found.iter().map(|d| format!("{}{:?}", d.message, d.help)).collect();
    assert!(messages.contains("`auth`") && !messages.contains("hunter3"), "{messages}");
}

#[test]
fn a_dead_letter_is_kept_by_a_stream_and_never_by_core_nats() {
    let with = |letters: &str| format!("{}dead_letter: {letters}\n", pipeline("{ stdio: }", "{ stdio: }"));
    assert!(load(&with("{ jetstream: { servers: nats://n, subject: dlq, stream: DLQ } }")).is_ok());
    assert_eq!(errors(&with("{ nats: { servers: nats://n, subject: dlq } }")), [("connector.not_available", 4, 16)]);
    let chosen = "{ jetstream: { servers: nats://n, subject: 'dlq.{{key}}', allow: dlq.* } }";
    assert_eq!(errors(&with(chosen)), [("value.invalid", 4, 57)]);
}

#[test]
fn a_domain_is_refused_where_nothing_reads_it() {
    let source = |more: &str| format!("{{ nats: {{ servers: nats://n, subjects: a{more} }} }}");
    let sink = |more: &str| format!("{{ nats: {{ servers: nats://n, subject: b{more} }} }}");
    assert!(load(&pipeline(&source(""), &sink(""))).is_ok());
    assert_eq!(errors(&pipeline(&source(", domain: hub"), &sink(""))), [("key.conflict", 2, 51)]);
    assert_eq!(errors(&pipeline(&source(""), &sink(", domain: hub"))), [("key.conflict", 3, 48)]);
}
