//! A server that does not say what is.

use futures_util::StreamExt;
use portcullis_connector_api::{Batch, ErrorKind, Source};
use portcullis_connector_nats::{ConsumerSpec, JetStreamReader, JetStreamSourceSettings, Start};

use crate::server::Server;
use crate::support::{ALL, LIMIT, Other};

/// Reads from a JetStream that answers each question by the end of its subject.
fn reads(answers: &'static [(&'static str, &'static str)]) -> portcullis_connector_api::ConnectorError {
    let server = Server::with("");
    let other = Other::at(&server.url());
    let mut asked = other.runtime.block_on(other.client.subscribe("$JS.API.>")).unwrap();
    other.publish("unheard", []);
    let client = other.client.clone();
    other.runtime.spawn(async move {
        while let Some(question) = asked.next().await {
            let (_, answer) = answers.iter().find(|(end, _)| question.subject.ends_with(end)).unwrap();
            client.publish(question.reply.unwrap(), (*answer).into()).await.unwrap();
        }
    });
    let mut settings = JetStreamSourceSettings::new(server.connection(), "S", "C");
    settings.create_consumer = Some(ConsumerSpec { start: Start::Latest, ..ConsumerSpec::default() });
    let mut reader = JetStreamReader::new(settings).unwrap();
    let mut batch = Batch::default();
    reader.poll(ALL, LIMIT, &mut batch).unwrap_err()
}

#[test]
fn the_last_of_all_numbers_as_a_place_in_a_stream_ends_a_dry_run_with_an_error() {
    const NO_CONSUMER: &str = r#"{"error":{"code":404,"err_code":10014,"description":"consumer not found"}}"#;
    const LAST: &str = r#"{"config":{},"state":{"last_seq":18446744073709551615}}"#;
    const FLOOR: &str =
        r#"{"config":{"ack_policy":"explicit"},"ack_floor":{"stream_seq":18446744073709551615,"consumer_seq":1}}"#;
    const BEGIN: &str = r#"{"config":{"ack_policy":"explicit"},"ack_floor":{"stream_seq":0,"consumer_seq":0}}"#;
    const MESSAGE: &str = r#"{"message":{"subject":"s","seq":18446744073709551615,"time":"2026-11-23T00:00:00Z"}}"#;
    let lies: [&'static [(&str, &str)]; 3] = [
        &[("CONSUMER.INFO.S.C", NO_CONSUMER), ("STREAM.INFO.S", LAST)],
        &[("CONSUMER.INFO.S.C", FLOOR)],
        &[("CONSUMER.INFO.S.C", BEGIN), ("STREAM.MSG.GET.S", MESSAGE)],
    ];
    for lie in lies {
        let error = reads(lie);
        assert_eq!(error.kind, ErrorKind::Fatal, "{error}");
        assert!(error.context.contains("18446744073709551615"), "{error}");
    }
}
