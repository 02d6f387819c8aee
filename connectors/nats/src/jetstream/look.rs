//! Looks at what is there without making any of it.

use std::time::{Duration, SystemTime};

use async_nats::Client;
use portcullis_connector_api::{Bytes, ConnectorError};
use serde::Deserialize;
use serde_json::Value;

use super::api::{self, Unanswered};
use super::setup::{self, Destination, unanswered};
use crate::failure::{CONSUMER_NOT_FOUND, STREAM_NOT_FOUND};
use crate::inspect::{ClockReading, Permissions, StreamFacts, Subjects};
use crate::settings::{Connection, JetStreamSinkSettings, JetStreamSourceSettings, Retention, Storage};

/// Who we are, in the words of the server that we are connected to.
const WHO_AM_I: &str = "$SYS.REQ.USER.INFO";

pub(crate) async fn account(client: &Client, connection: &Connection) -> Result<(), ConnectorError> {
    let subject = format!("{}INFO", api::prefix(connection.domain.as_deref()));
    let answer = api::ask(client, subject, None, connection.timeout).await;
    answer.map(drop).map_err(|error| unanswered("JetStream", &error))
}

pub(crate) async fn stream(
    client: &Client,
    connection: &Connection,
    name: &str,
) -> Result<Option<StreamFacts>, ConnectorError> {
    let subject = format!("{}STREAM.INFO.{name}", api::prefix(connection.domain.as_deref()));
    let asked = SystemTime::now();
    let answer = api::ask(client, subject, None, connection.timeout).await;
    let answered = SystemTime::now();
    match answer {
        Ok(info) => {
            let server = info.get("ts").and_then(Value::as_str).and_then(instant);
            Ok(Some(facts(&info, server.map(|server| ClockReading { asked, server, answered }))))
        }
        Err(Unanswered::Error(error)) if error.err_code == STREAM_NOT_FOUND => Ok(None),
        Err(error) => Err(unanswered(&format!("the stream `{name}`"), &error)),
    }
}

pub(crate) async fn consumer(client: &Client, settings: &JetStreamSourceSettings) -> Result<bool, ConnectorError> {
    let (stream, name) = (&settings.stream, &settings.consumer);
    let connection = &settings.connection;
    let subject = format!("{}CONSUMER.INFO.{stream}.{name}", api::prefix(connection.domain.as_deref()));
    match api::ask(client, subject, None, connection.timeout).await {
        Err(Unanswered::Error(error)) if [CONSUMER_NOT_FOUND, STREAM_NOT_FOUND].contains(&error.err_code) => Ok(false),
        Err(error) => Err(unanswered(&format!("the consumer `{name}` of stream `{stream}`"), &error)),
        // Judged by what the source itself judges by.
        Ok(_) => setup::consumer(client, settings, false).await.map(|_| true),
    }
}

pub(crate) async fn destination(client: &Client, settings: &JetStreamSinkSettings) -> Result<bool, ConnectorError> {
    let found = setup::destination(client, settings, false).await?;
    setup::may_ask(client, settings).await?;
    Ok(found == Destination::There)
}

pub(crate) async fn permissions(client: &Client, timeout: Duration) -> Option<Permissions> {
    #[derive(Deserialize)]
    struct Answer {
        data: User,
    }
    #[derive(Deserialize)]
    struct User {
        permissions: Option<Listed>,
    }
    #[derive(Default, Deserialize)]
    struct Listed {
        publish: Option<Lists>,
        subscribe: Option<Lists>,
    }
    #[derive(Deserialize)]
    struct Lists {
        allow: Option<Vec<String>>,
        deny: Option<Vec<String>>,
    }
    let answer = tokio::time::timeout(timeout, client.request(WHO_AM_I, Bytes::new())).await.ok()?.ok()?;
    let answer: Answer = serde_json::from_slice(&answer.payload).ok()?;
    let listed = answer.data.permissions.unwrap_or_default();
    let subjects = |lists: Option<Lists>| match lists {
        // An empty list is how the server writes that there is none.
        Some(lists) => {
            Subjects { allow: lists.allow.filter(|allow| !allow.is_empty()), deny: lists.deny.unwrap_or_default() }
        }
        None => Subjects::default(),
    };
    Some(Permissions { publish: subjects(listed.publish), subscribe: subjects(listed.subscribe) })
}

fn facts(info: &Value, clock: Option<ClockReading>) -> StreamFacts {
    let config = info.get("config").unwrap_or(&Value::Null);
    let text = |key: &str| config.get(key).and_then(Value::as_str).unwrap_or_default();
    let nanos = |key: &str| Duration::from_nanos(config.get(key).and_then(Value::as_u64).unwrap_or(0));
    let subjects = config.get("subjects").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    StreamFacts {
        storage: if text("storage") == "memory" { Storage::Memory } else { Storage::File },
        retention: match text("retention") {
            "interest" => Retention::Interest,
            "workqueue" => Retention::WorkQueue,
            _ => Retention::Limits,
        },
        replicas: config.get("num_replicas").and_then(Value::as_u64).unwrap_or(1),
        subjects: subjects.map(str::to_owned).collect(),
        max_age: Some(nanos("max_age")).filter(|age| !age.is_zero()),
        duplicate_window: nanos("duplicate_window"),
        sealed: config.get("sealed").and_then(Value::as_bool) == Some(true),
        clock,
    }
}

/// A time as the server writes it: RFC 3339, such as `2026-01-31T12:00:00.123456789Z`.
fn instant(text: &str) -> Option<SystemTime> {
    let nanos = async_nats::datetime::parse_rfc3339(text).ok()?.unix_timestamp_nanos();
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(u64::try_from(nanos).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_the_server_is_read_to_the_nanosecond() {
        let at = |seconds: u64, nanos: u32| Some(SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos));
        assert_eq!(instant("1970-01-01T00:00:00Z"), at(0, 0));
        assert_eq!(instant("2000-02-29T12:34:56.5Z"), at(951_827_696, 500_000_000));
        assert_eq!(instant("2026-11-23T15:14:00.123456789Z"), at(1_795_446_840, 123_456_789));
        for wrong in ["", "2026-11-23", "2026-13-01T00:00:00Z", "1969-12-31T23:59:59Z", "x-y-zT0:0:0Z"] {
            assert_eq!(instant(wrong), None, "{wrong}");
        }
        for beyond in ["00:60:00", "00:00:61", "00:00:9223372036854775808", "00:18446744073709551615:00"] {
            assert_eq!(instant(&format!("2026-11-23T{beyond}Z")), None, "{beyond}");
        }
    }

    #[test]
    fn what_a_stream_says_of_itself_is_read() {
        let info = serde_json::json!({ "config": {
            "storage": "memory", "retention": "workqueue", "num_replicas": 3, "subjects": ["a", "b.>"],
            "max_age": 0, "duplicate_window": 120_000_000_000_u64, "sealed": false,
        }});
        let facts = facts(&info, None);
        assert_eq!((facts.storage, facts.retention, facts.replicas), (Storage::Memory, Retention::WorkQueue, 3));
        assert_eq!((facts.max_age, facts.duplicate_window), (None, Duration::from_secs(120)));
        assert_eq!(facts.subjects, ["a", "b.>"]);
    }
}
