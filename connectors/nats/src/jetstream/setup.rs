//! Streams and consumers: found, created where the settings say so, and judged.

use std::time::Duration;

use async_nats::Client;
use portcullis_connector_api::{ConnectorError, ErrorKind};
use serde_json::{Value, json};

use super::api::{self, Unanswered};
use crate::failure::{self, CONSUMER_NOT_FOUND, STREAM_NOT_FOUND};
use crate::settings::{
    Connection, ConsumerSpec, JetStreamSinkSettings, JetStreamSourceSettings, Retention, Start, Storage, StreamSpec,
};
use crate::subject;

/// A shorter wait leaves no time for a sign of progress between two polls of a busy pipeline.
pub(super) const LEAST_ACK_WAIT: Duration = Duration::from_secs(3);

/// What the source must know of its consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Consumer {
    /// Without a sign for so long, a message is delivered again.
    pub(super) ack_wait: Duration,
    /// Messages of one pull request at most.
    pub(super) max_batch: Option<usize>,
}

/// Finds the source's stream and consumer, or creates them where `create` and the settings say so. Only at the beginning:
/// a consumer that was there and is gone has taken its position with it.
pub(super) async fn consumer(
    client: &Client,
    settings: &JetStreamSourceSettings,
    create: bool,
) -> Result<Consumer, ConnectorError> {
    let connection = &settings.connection;
    let (stream, name) = (&settings.stream, &settings.consumer);
    if let Some(spec) = settings.create_stream.as_ref().filter(|_| create) {
        ensure_stream(client, connection, stream, spec).await?;
    }
    let subject = format!("{}CONSUMER.INFO.{stream}.{name}", api::prefix(connection.domain.as_deref()));
    let found = api::ask(client, subject, None, connection.timeout).await;
    let info = match (found, settings.create_consumer.as_ref().filter(|_| create)) {
        (Ok(info), _) => info,
        (Err(Unanswered::Error(error)), Some(spec)) if error.err_code == CONSUMER_NOT_FOUND => {
            create_consumer(client, settings, spec).await?
        }
        (Err(Unanswered::Error(error)), _) if error.err_code == CONSUMER_NOT_FOUND => {
            return Err(configuration(format!("the stream `{stream}` has no consumer `{name}`")));
        }
        (Err(Unanswered::Error(error)), _) if error.err_code == STREAM_NOT_FOUND => {
            return Err(configuration(format!("there is no stream `{stream}`")));
        }
        (Err(error), _) => return Err(unanswered(&format!("the consumer `{name}` of stream `{stream}`"), &error)),
    };
    judge(&info, settings)
}

/// Where a reader begins that looks at what the consumer would be given next, and the subjects that it reads: those that the
/// consumer has, or would have if it were created now. Creates nothing.
pub(super) async fn beginning(
    client: &Client,
    settings: &JetStreamSourceSettings,
) -> Result<(u64, Vec<String>), ConnectorError> {
    let (connection, stream, name) = (&settings.connection, &settings.stream, &settings.consumer);
    let prefix = api::prefix(connection.domain.as_deref());
    let found = api::ask(client, format!("{prefix}CONSUMER.INFO.{stream}.{name}"), None, connection.timeout).await;
    let all = |filters: Vec<String>| if filters.is_empty() { vec![">".to_owned()] } else { filters };
    match (found, &settings.create_consumer) {
        (Ok(info), _) => {
            judge(&info, settings)?;
            let floor = info.pointer("/ack_floor/stream_seq").and_then(Value::as_u64).unwrap_or(0);
            Ok((behind(stream, floor)?, all(filters(info.get("config").unwrap_or(&Value::Null)))))
        }
        (Err(Unanswered::Error(error)), Some(spec)) if error.err_code == CONSUMER_NOT_FOUND => {
            let info = api::ask(client, format!("{prefix}STREAM.INFO.{stream}"), None, connection.timeout).await;
            let info = info.map_err(|error| unanswered(&format!("the stream `{stream}`"), &error))?;
            let last = info.pointer("/state/last_seq").and_then(Value::as_u64).unwrap_or(0);
            let next = match spec.start {
                Start::Earliest => 1,
                Start::Latest => behind(stream, last)?,
            };
            Ok((next, all(settings.filter_subjects.clone().unwrap_or_default())))
        }
        (Err(Unanswered::Error(error)), None) if error.err_code == CONSUMER_NOT_FOUND => {
            Err(configuration(format!("the stream `{stream}` has no consumer `{name}`")))
        }
        (Err(Unanswered::Error(error)), _) if error.err_code == STREAM_NOT_FOUND => {
            let would = if settings.create_stream.is_some() { ", and none is created to look at it" } else { "" };
            Err(configuration(format!("there is no stream `{stream}`{would}")))
        }
        (Err(error), _) => Err(unanswered(&format!("the consumer `{name}` of stream `{stream}`"), &error)),
    }
}

/// The place behind this one. The last of all numbers has none, and only a server that lies names it.
pub(super) fn behind(stream: &str, place: u64) -> Result<u64, ConnectorError> {
    place.checked_add(1).ok_or_else(|| {
        let what = format!("the server says that the stream `{stream}` has come to {place}, behind which nothing is");
        ConnectorError::new(ErrorKind::Fatal, what)
    })
}

/// Whether this consumer can be read by a source that acknowledges each message.
fn judge(info: &Value, settings: &JetStreamSourceSettings) -> Result<Consumer, ConnectorError> {
    let (stream, name) = (&settings.stream, &settings.consumer);
    let refuse = |what: String| Err(configuration(format!("the consumer `{name}` of stream `{stream}` {what}")));
    let config = info.get("config").unwrap_or(&Value::Null);
    let text = |key: &str| config.get(key).and_then(Value::as_str).unwrap_or_default();
    if !text("deliver_subject").is_empty() {
        return refuse("is push based; a pull consumer is needed".to_owned());
    }
    if text("ack_policy") != "explicit" {
        return refuse(format!("has the ack policy `{}`; `explicit` is needed", text("ack_policy")));
    }
    if !matches!(text("priority_policy"), "" | "none") {
        return refuse("has priority groups, which are not supported".to_owned());
    }
    if config.get("headers_only").and_then(Value::as_bool) == Some(true) {
        return refuse("delivers headers only".to_owned());
    }
    if let Some(wanted) = &settings.filter_subjects {
        let found = filters(config);
        let mut wanted = wanted.clone();
        wanted.sort_unstable();
        if found != wanted {
            return refuse(format!("is filtered to {found:?}, `filter_subjects` asks for {wanted:?}"));
        }
    }
    let nanos = |value: &Value| value.as_u64().map(Duration::from_nanos);
    let backoff = config.get("backoff").and_then(Value::as_array).into_iter().flatten().filter_map(nanos).min();
    let wait = config.get("ack_wait").and_then(nanos).unwrap_or(Duration::from_secs(30));
    let ack_wait = backoff.map_or(wait, |backoff| backoff.min(wait));
    if ack_wait < LEAST_ACK_WAIT {
        return refuse(format!("waits {} ms for an acknowledgement; at least 3 s are needed", ack_wait.as_millis()));
    }
    let max_batch = config.get("max_batch").and_then(Value::as_u64).filter(|max| *max > 0);
    Ok(Consumer { ack_wait, max_batch: max_batch.and_then(|max| usize::try_from(max).ok()) })
}

fn filters(config: &Value) -> Vec<String> {
    let many = config.get("filter_subjects").and_then(Value::as_array).into_iter().flatten();
    let one = config.get("filter_subject").into_iter();
    let texts = many.chain(one).filter_map(Value::as_str).filter(|text| !text.is_empty());
    let mut filters: Vec<String> = texts.map(str::to_owned).collect();
    filters.sort_unstable();
    filters
}

async fn create_consumer(
    client: &Client,
    settings: &JetStreamSourceSettings,
    spec: &ConsumerSpec,
) -> Result<Value, ConnectorError> {
    let (stream, name) = (&settings.stream, &settings.consumer);
    let mut config = json!({
        "durable_name": name,
        "name": name,
        "ack_policy": "explicit",
        "deliver_policy": match spec.start { Start::Earliest => "all", Start::Latest => "new" },
        "replay_policy": "instant",
        "ack_wait": nanos(spec.ack_wait),
        "max_ack_pending": spec.max_ack_pending,
        "max_deliver": spec.max_deliver.map_or(-1, i64::from),
    });
    let filters = settings.filter_subjects.as_deref().unwrap_or_default();
    match (filters, config.as_object_mut()) {
        ([], _) | (_, None) => {}
        // Servers before 2.10 know only this form.
        ([one], Some(config)) => drop(config.insert("filter_subject".to_owned(), json!(one))),
        (many, Some(config)) => drop(config.insert("filter_subjects".to_owned(), json!(many))),
    }
    let subject =
        format!("{}CONSUMER.DURABLE.CREATE.{stream}.{name}", api::prefix(settings.connection.domain.as_deref()));
    let question = json!({ "stream_name": stream, "config": config, "action": "create" });
    let created = api::ask(client, subject, Some(question), settings.connection.timeout).await;
    created.inspect(|_| tracing::info!(stream, consumer = name, "created the consumer")).map_err(|error| match error {
        Unanswered::Error(error) if error.err_code == STREAM_NOT_FOUND => {
            configuration(format!("there is no stream `{stream}`"))
        }
        error => not_created(&format!("the consumer `{name}` of stream `{stream}`"), &error),
    })
}

/// What the sink's destination is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    /// A stream takes the subject, or the subjects are chosen for each message.
    There,
    /// JetStream answers, and no stream takes this subject.
    Nowhere,
}

/// Finds the sink's stream, or creates it where `create` and the settings say so.
pub(super) async fn destination(
    client: &Client,
    settings: &JetStreamSinkSettings,
    create: bool,
) -> Result<Destination, ConnectorError> {
    let connection = &settings.connection;
    if let (Some(stream), Some(spec), true) = (&settings.stream, &settings.create_stream, create) {
        ensure_stream(client, connection, stream, spec).await?;
    }
    match (settings.subject.fixed(), &settings.stream) {
        (Some(subject), expected) => {
            of_subject(client, connection, subject, &format!("`{subject}`"), expected.as_deref()).await
        }
        (None, Some(stream)) => writable(client, connection, stream).await,
        (None, None) => {
            let subject = format!("{}INFO", api::prefix(connection.domain.as_deref()));
            match api::ask(client, subject, None, connection.timeout).await {
                Ok(_) => Ok(Destination::There),
                Err(error) => Err(unanswered("JetStream", &error)),
            }
        }
    }
}

/// Whether a stream is there, and takes and confirms what is published.
async fn writable(client: &Client, connection: &Connection, stream: &str) -> Result<Destination, ConnectorError> {
    let subject = format!("{}STREAM.INFO.{stream}", api::prefix(connection.domain.as_deref()));
    let info = match api::ask(client, subject, None, connection.timeout).await {
        Ok(info) => info,
        Err(Unanswered::Error(error)) if error.err_code == STREAM_NOT_FOUND => return Ok(Destination::Nowhere),
        Err(error) => return Err(unanswered(&format!("the stream `{stream}`"), &error)),
    };
    let config = info.get("config").unwrap_or(&Value::Null);
    let is = |key: &str| config.get(key).and_then(Value::as_bool) == Some(true);
    let fault = if is("no_ack") {
        "confirms no message (`no_ack`), so none could be known to be stored"
    } else if is("sealed") {
        "is sealed: nothing can be added to it"
    } else if config.get("mirror").is_some_and(|mirror| !mirror.is_null()) {
        "is a mirror: nothing can be published to it"
    } else {
        return Ok(Destination::There);
    };
    Err(configuration(format!("the stream `{stream}` {fault}")))
}

/// Whether JetStream answers what [`of_subject`] asks. A sink with subjects by template asks it only when a message is in
/// doubt, and an account that must not ask would be noticed then.
pub(super) async fn may_ask(client: &Client, settings: &JetStreamSinkSettings) -> Result<(), ConnectorError> {
    if settings.subject.fixed().is_some() {
        return Ok(());
    }
    let question = format!("{}STREAM.NAMES", api::prefix(settings.connection.domain.as_deref()));
    let nobodys = json!({ "subject": client.new_inbox() });
    let answer = api::ask(client, question, Some(nobodys), settings.connection.timeout).await;
    answer.map(drop).map_err(|error| unanswered("the streams of subjects by template", &error))
}

/// Whether a stream takes and confirms what is published to this subject, and whether it is the expected one. `named` is the
/// subject as errors may show it.
pub(super) async fn of_subject(
    client: &Client,
    connection: &Connection,
    subject: &str,
    named: &str,
    expected: Option<&str>,
) -> Result<Destination, ConnectorError> {
    match stream_of(client, connection, subject, named, expected).await? {
        Some(stream) => writable(client, connection, &stream).await,
        None => Ok(Destination::Nowhere),
    }
}

/// As [`of_subject`], for a message in doubt. A stream that is named and of which nothing more can be asked is one that takes
/// it: an account need not be allowed to look at every stream, and the answer to the message itself says the rest.
pub(super) async fn of_subject_in_doubt(
    client: &Client,
    connection: &Connection,
    subject: &str,
    named: &str,
    expected: Option<&str>,
) -> Result<Destination, ConnectorError> {
    let Some(stream) = stream_of(client, connection, subject, named, expected).await? else {
        return Ok(Destination::Nowhere);
    };
    match writable(client, connection, &stream).await {
        Err(error) if error.kind == ErrorKind::Retriable => Ok(Destination::There),
        found => found,
    }
}

async fn stream_of(
    client: &Client,
    connection: &Connection,
    subject: &str,
    named: &str,
    expected: Option<&str>,
) -> Result<Option<String>, ConnectorError> {
    let question = format!("{}STREAM.NAMES", api::prefix(connection.domain.as_deref()));
    let answer = api::ask(client, question, Some(json!({ "subject": subject })), connection.timeout).await;
    let answer = answer.map_err(|error| unanswered(&format!("the stream of {named}"), &error))?;
    let found = answer.get("streams").and_then(Value::as_array).and_then(|streams| streams.first()?.as_str());
    match (found, expected) {
        (Some(found), Some(expected)) if found != expected => {
            Err(configuration(format!("{named} belongs to the stream `{found}` and not to `{expected}`")))
        }
        (found, _) => Ok(found.map(str::to_owned)),
    }
}

async fn ensure_stream(
    client: &Client,
    connection: &Connection,
    stream: &str,
    spec: &StreamSpec,
) -> Result<(), ConnectorError> {
    let prefix = api::prefix(connection.domain.as_deref());
    match api::ask(client, format!("{prefix}STREAM.INFO.{stream}"), None, connection.timeout).await {
        Ok(_) => return Ok(()),
        Err(Unanswered::Error(error)) if error.err_code == STREAM_NOT_FOUND => {}
        Err(error) => return Err(unanswered(&format!("the stream `{stream}`"), &error)),
    }
    let config = json!({
        "name": stream,
        "subjects": spec.subjects,
        "storage": match spec.storage { Storage::File => "file", Storage::Memory => "memory" },
        "retention": match spec.retention {
            Retention::Limits => "limits",
            Retention::Interest => "interest",
            Retention::WorkQueue => "workqueue",
        },
        "num_replicas": spec.replicas,
        "max_age": spec.max_age.map_or(0, nanos),
        "max_bytes": spec.max_bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
        "max_msgs": -1,
        "max_consumers": -1,
        "max_msg_size": -1,
        "discard": "old",
        "duplicate_window": nanos(spec.duplicate_window),
    });
    match api::ask(client, format!("{prefix}STREAM.CREATE.{stream}"), Some(config), connection.timeout).await {
        Ok(_) => {
            tracing::info!(stream, "created the stream");
            Ok(())
        }
        Err(error) => Err(not_created(&format!("the stream `{stream}`"), &error)),
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn configuration(context: String) -> ConnectorError {
    ConnectorError::new(ErrorKind::Configuration, context)
}

/// A question that could not be answered: what may pass is told from what does not.
pub(super) fn unanswered(what: &str, error: &Unanswered) -> ConnectorError {
    let kind = match error {
        Unanswered::Error(error)
            if error.err_code == failure::NOT_ENABLED || error.err_code == failure::NOT_ENABLED_FOR_ACCOUNT =>
        {
            ErrorKind::Configuration
        }
        _ => ErrorKind::Retriable,
    };
    ConnectorError::new(kind, format!("cannot look for {what}: {error}"))
}

fn not_created(what: &str, error: &Unanswered) -> ConnectorError {
    let kind = match error {
        // Another process was faster, and what it made is looked at next.
        Unanswered::Error(error) if failure::EXISTS.contains(&error.err_code) => ErrorKind::Retriable,
        Unanswered::Error(error) if error.code < 500 => ErrorKind::Configuration,
        _ => ErrorKind::Retriable,
    };
    ConnectorError::new(kind, format!("cannot create {what}: {error}"))
}

/// What is wrong with how a stream to be created is written.
pub(super) fn judge_stream(stream: &str, spec: Option<&StreamSpec>) -> Result<(), ConnectorError> {
    subject::name(stream).map_err(|what| configuration(format!("{stream:?} is no stream name: {what}")))?;
    for pattern in spec.map_or(&[][..], |spec| &spec.subjects) {
        subject::pattern(pattern).map_err(|what| configuration(format!("{pattern:?} is no subject: {what}")))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(config: Value, filters: Option<&[&str]>) -> Result<Consumer, ConnectorError> {
        let mut settings = JetStreamSourceSettings::new(Connection::plain(["n"]), "S", "C");
        settings.filter_subjects = filters.map(|filters| filters.iter().map(|text| (*text).to_owned()).collect());
        judge(&json!({ "config": config }), &settings)
    }

    #[test]
    fn a_consumer_that_does_not_fit_is_refused_with_what_was_found() {
        let seconds = 1_000_000_000_u64;
        let cases = [
            (json!({ "ack_policy": "explicit", "deliver_subject": "d" }), "push based"),
            (json!({ "ack_policy": "none" }), "`none`"),
            (json!({ "ack_policy": "all" }), "`all`"),
            (json!({ "ack_policy": "explicit", "ack_wait": seconds }), "1000 ms"),
            (json!({ "ack_policy": "explicit", "ack_wait": 30 * seconds, "backoff": [seconds] }), "1000 ms"),
            (json!({ "ack_policy": "explicit", "priority_policy": "pinned_client" }), "priority groups"),
            (json!({ "ack_policy": "explicit", "headers_only": true }), "headers only"),
        ];
        for (config, expected) in cases {
            let error = judged(config, None).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Configuration);
            assert!(error.to_string().contains(expected), "{error}");
        }
        let fits = json!({ "ack_policy": "explicit", "ack_wait": 30 * seconds, "max_batch": 64 });
        assert_eq!(judged(fits, None).unwrap(), Consumer { ack_wait: Duration::from_secs(30), max_batch: Some(64) });
    }

    #[test]
    fn filters_are_compared_in_both_of_their_forms_and_any_order() {
        let one = json!({ "ack_policy": "explicit", "filter_subject": "a" });
        judged(one.clone(), Some(&["a"])).unwrap();
        judged(one.clone(), None).unwrap();
        judged(one, Some(&["b"])).unwrap_err();
        let two = json!({ "ack_policy": "explicit", "filter_subjects": ["b", "a"] });
        judged(two.clone(), Some(&["a", "b"])).unwrap();
        judged(two, Some(&["a"])).unwrap_err();
        judged(json!({ "ack_policy": "explicit" }), Some(&["a"])).unwrap_err();
    }
}
