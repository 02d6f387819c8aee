//! What was typed under `nats:` and `jetstream:`, made complete.

use std::sync::Arc;

use portcullis_config::{
    Code, Diagnostic, JetStreamSink, JetStreamSource, Located, NatsAuth, NatsConnection, NatsKey, NatsSink, NatsSource,
    NatsWindow, Node, Template,
};
use portcullis_connector_nats as nats;

use crate::pipeline::ReadCounts;

pub(super) fn jetstream_source(
    typed: &JetStreamSource,
    node: &Node,
) -> Result<nats::JetStreamSourceSettings, Diagnostic> {
    let connection = connection(&typed.connection, node)?;
    let mut settings =
        nats::JetStreamSourceSettings::new(connection, typed.stream.value.clone(), typed.consumer.value.clone());
    settings.create_stream = typed.create_stream.as_ref().map(stream_spec);
    settings.create_consumer = typed.create_consumer.as_ref().map(|spec| nats::ConsumerSpec {
        start: match spec.start.value {
            portcullis_config::Start::Earliest => nats::Start::Earliest,
            portcullis_config::Start::Latest => nats::Start::Latest,
        },
        ack_wait: spec.ack_wait.value,
        max_ack_pending: spec.max_ack_pending.value,
        max_deliver: value(spec.max_deliver.as_ref()),
    });
    settings.filter_subjects = typed.filter_subjects.as_deref().map(texts);
    settings.key = key(typed.key.value);
    settings.window = window(typed.window.as_ref(), settings.window);
    settings.heartbeat = or(typed.heartbeat.as_ref(), settings.heartbeat);
    Ok(settings)
}

/// `id_prefix` tells the pipeline's messages from all others in the stream.
pub(super) fn jetstream_sink(
    typed: &JetStreamSink,
    node: &Node,
    forbidden: &[String],
    id_prefix: &str,
) -> Result<nats::JetStreamSinkSettings, Diagnostic> {
    let subject = subject(&typed.subject, &typed.allow, forbidden)?;
    let mut settings = nats::JetStreamSinkSettings::new(connection(&typed.connection, node)?, subject, id_prefix);
    settings.stream = value(typed.stream.as_ref());
    settings.create_stream = typed.create_stream.as_ref().map(stream_spec);
    settings.window = window(typed.window.as_ref(), settings.window);
    settings.ack_timeout = or(typed.ack_timeout.as_ref(), settings.ack_timeout);
    Ok(settings)
}

pub(super) fn source(typed: &NatsSource, node: &Node) -> Result<nats::CoreSourceSettings, Diagnostic> {
    let mut settings = nats::CoreSourceSettings::new(connection(&typed.connection, node)?, texts(&typed.subjects));
    settings.queue_group = value(typed.queue_group.as_ref());
    settings.key = key(typed.key.value);
    settings.window = window(typed.window.as_ref(), settings.window);
    Ok(settings)
}

pub(super) fn sink(typed: &NatsSink, node: &Node, forbidden: &[String]) -> Result<nats::CoreSinkSettings, Diagnostic> {
    let subject = subject(&typed.subject, &typed.allow, forbidden)?;
    let mut settings = nats::CoreSinkSettings::new(connection(&typed.connection, node)?, subject);
    settings.window = window(typed.window.as_ref(), settings.window);
    settings.in_doubt = match typed.in_doubt.value {
        portcullis_config::InDoubt::Drop => nats::InDoubt::Drop,
        portcullis_config::InDoubt::Resend => nats::InDoubt::Resend,
    };
    Ok(settings)
}

/// The subject for people.
pub(super) fn name(rule: &nats::SubjectRule) -> String {
    match rule {
        nats::SubjectRule::Fixed(subject) => subject.clone(),
        nats::SubjectRule::Each(_) => "a subject by template".to_owned(),
    }
}

/// What tells these servers from others, however they are ordered.
pub(super) fn place(connection: &nats::Connection) -> String {
    let mut servers = connection.servers.clone();
    servers.sort_unstable();
    format!("{} {}", servers.join(","), connection.domain.as_deref().unwrap_or_default())
}

/// What the connector counts, for metrics.
pub(super) fn counts(counters: &Arc<nats::Counters>) -> ReadCounts {
    let counters = Arc::clone(counters);
    Arc::new(move |tell| counters.read().for_each(|(count, sum)| tell(count.as_str(), sum)))
}

/// With its profile put in.
fn connection(typed: &NatsConnection, node: &Node) -> Result<nats::Connection, Diagnostic> {
    let typed = node.resolve_nats(typed)?;
    let mut connection = nats::Connection::plain(texts(typed.servers()));
    connection.auth = typed.auth.as_ref().map(|auth| match auth {
        NatsAuth::Credentials(file) => nats::Auth::Credentials(file.value.clone()),
        NatsAuth::Nkey(file) => nats::Auth::NkeySeed(file.value.clone()),
        NatsAuth::Token(token) => nats::Auth::Token(nats::Secret::new(token.expose())),
        NatsAuth::Password { user, password } => {
            nats::Auth::Password { user: user.value.clone(), password: nats::Secret::new(password.expose()) }
        }
    });
    connection.tls = typed.tls.as_ref().map(|tls| nats::Tls {
        ca: value(tls.files.ca.as_ref()),
        cert: value(tls.files.cert.as_ref()),
        key: value(tls.files.key.as_ref()),
        first: tls.first.value,
    });
    connection.client_name = or(typed.client_name.as_ref(), connection.client_name);
    connection.timeout = or(typed.timeout.as_ref(), connection.timeout);
    connection.domain = value(typed.domain.as_ref());
    Ok(connection)
}

fn subject(
    typed: &Located<Template>,
    allow: &[Located<String>],
    forbidden: &[String],
) -> Result<nats::SubjectRule, Diagnostic> {
    nats::SubjectRule::template(&typed.value.to_string(), &texts(allow), forbidden)
        .map_err(|error| typed.at.diagnostic(Code::ValueInvalid, format!("the subject's template: {error}")))
}

fn stream_spec(typed: &portcullis_config::StreamSpec) -> nats::StreamSpec {
    nats::StreamSpec {
        subjects: texts(&typed.subjects),
        storage: match typed.storage.value {
            portcullis_config::Storage::File => nats::Storage::File,
            portcullis_config::Storage::Memory => nats::Storage::Memory,
        },
        retention: match typed.retention.value {
            portcullis_config::Retention::Limits => nats::Retention::Limits,
            portcullis_config::Retention::Interest => nats::Retention::Interest,
            portcullis_config::Retention::WorkQueue => nats::Retention::WorkQueue,
        },
        replicas: u8::try_from(typed.replicas.value).unwrap_or(u8::MAX),
        max_age: value(typed.max_age.as_ref()),
        max_bytes: value(typed.max_bytes.as_ref()),
        duplicate_window: typed.duplicate_window.value,
    }
}

fn key(typed: NatsKey) -> nats::KeyRule {
    match typed {
        NatsKey::Subject => nats::KeyRule::Subject,
        NatsKey::Null => nats::KeyRule::Null,
    }
}

fn window(typed: Option<&NatsWindow>, default: nats::Window) -> nats::Window {
    let Some(typed) = typed else { return default };
    nats::Window {
        messages: typed.messages.as_ref().map_or(default.messages, |messages| messages.value as usize),
        bytes: typed.bytes.as_ref().map_or(default.bytes, |bytes| usize::try_from(bytes.value).unwrap_or(usize::MAX)),
    }
}

fn value<T: Clone>(typed: Option<&Located<T>>) -> Option<T> {
    typed.map(|typed| typed.value.clone())
}

fn or<T: Clone>(typed: Option<&Located<T>>, default: T) -> T {
    value(typed).unwrap_or(default)
}

fn texts(typed: &[Located<String>]) -> Vec<String> {
    typed.iter().map(|text| text.value.clone()).collect()
}
