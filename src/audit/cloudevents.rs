//! The headers of the CloudEvents 1.0 Kafka binding in binary mode: a consumer routes by them without reading the value.

use crate::clock::rfc3339;
use crate::event::Event;
use crate::ocsf::{SCHEMA_VERSION, Stamp, subject};

/// The headers of one event, in a fixed order.
pub(crate) fn headers(stamp: &Stamp<'_>, event: &Event) -> Vec<(&'static str, String)> {
    let code = event.code();
    let class = code.shape().class.name();
    let mut headers = vec![
        ("content-type", "application/json".to_owned()),
        ("ce_specversion", "1.0".to_owned()),
        ("ce_id", stamp.uid.to_owned()),
        ("ce_source", format!("urn:portcullis:{}", stamp.context.instance_uid)),
        ("ce_type", format!("portcullis.audit.{code}")),
        ("ce_time", rfc3339(event.time_ms)),
        ("ce_dataschema", format!("https://schema.ocsf.io/{SCHEMA_VERSION}/classes/{class}")),
        // The extension compares sequences as text, so they must all have one length.
        ("ce_sequence", format!("{:020}", stamp.sequence)),
        ("ce_partitionkey", stamp.chain_uid.to_owned()),
    ];
    headers.extend(subject(event).map(|subject| ("ce_subject", subject)));
    headers
}

#[cfg(test)]
mod tests {
    use crate::chain::Chain;
    use crate::samples::{context, plugin};
    use crate::{Actor, Event};

    #[test]
    fn the_headers_are_those_of_binary_mode() {
        let mut chain = Chain::new(context());
        let mut event = Event::plugin_stopped(plugin());
        event.time_ms = 1_700_000_000_123;
        let record = chain.link(7, &event).record;
        let header = |name: &str| record.headers.iter().find(|(known, _)| *known == name).unwrap().1.clone();
        let value: serde_json::Value = serde_json::from_slice(&record.value).unwrap();
        for (name, expected) in [
            ("content-type", "application/json"),
            ("ce_specversion", "1.0"),
            ("ce_id", value["metadata"]["uid"].as_str().unwrap()),
            ("ce_source", "urn:portcullis:6f1c2c1e-4b0f-4a52-9d0c-6f7d0a7c9a11"),
            ("ce_type", "portcullis.audit.plugin.stopped"),
            ("ce_time", "2023-11-14T22:13:20.123Z"),
            ("ce_subject", "acme/order-schema"),
            ("ce_dataschema", "https://schema.ocsf.io/1.8.0/classes/application_lifecycle"),
            ("ce_sequence", "00000000000000000007"),
            ("ce_partitionkey", &*record.key),
        ] {
            assert_eq!(header(name), expected, "{name}");
        }
        assert_eq!(record.headers.len(), 10);
    }

    #[test]
    fn an_event_of_the_bridge_has_no_subject() {
        let mut chain = Chain::new(context());
        let event = Event::plugin_stopped(Actor::bridge());
        assert!(chain.link(1, &event).record.headers.iter().all(|(name, _)| *name != "ce_subject"));
    }
}
