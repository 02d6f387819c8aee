//! Turns numbered events into records, each with the hash of the one before it.

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::actor::Actor;
use crate::canonical::canonical;
use crate::clock::now_ms;
use crate::cloudevents;
use crate::event::{Event, Fact, Loss};
use crate::ocsf::{self, Context, Stamp};
use crate::store::AuditRecord;

/// The largest value: well below what a broker takes by default, so that no event is refused for its size.
const MAX_VALUE_BYTES: usize = 256 * 1024;
/// Grants that are remembered, so that later events of a plugin name them.
const MAX_POLICIES: usize = 4096;

/// One chain: from `audit.boot` on, contiguous numbers and hashes. Its uid ends in the boot epoch (milliseconds at the
/// start, so it increases as the machine's clock does) and the partition, which is one.
pub(crate) struct Chain {
    context: Context,
    /// `portcullis/<instance>/<epoch>`.
    provider: String,
    uid: Arc<str>,
    /// Leaf hash of the last event in hexadecimal digits; 64 zeros before the first.
    previous: String,
    max_value_bytes: usize,
    /// Digest of the grants that a plugin was linked under.
    policies: HashMap<Actor, String>,
}

/// A record, and whether it tells of its event's loss instead of the event.
pub(crate) struct Link {
    pub(crate) record: AuditRecord,
    pub(crate) substituted: bool,
}

impl Chain {
    pub(crate) fn new(context: Context) -> Self {
        let provider = format!("portcullis/{}/{}", context.instance_uid, now_ms());
        let uid = format!("{provider}/p0").into();
        Self {
            context,
            provider,
            uid,
            previous: "0".repeat(64),
            max_value_bytes: MAX_VALUE_BYTES,
            policies: HashMap::new(),
        }
    }

    /// Builds the record of the next event.
    pub(crate) fn link(&mut self, sequence: u64, event: &Event) -> Link {
        let policy_uid = self.policy_uid(event);
        let (record, substituted) = match self.record(sequence, event, policy_uid.as_deref()) {
            Ok(record) => (record, false),
            Err(reason) => (self.substitute(sequence, event, reason), true),
        };
        self.previous = hex(&leaf(&record.value));
        Link { record, substituted }
    }

    fn policy_uid(&mut self, event: &Event) -> Option<String> {
        let Fact::Linked(linked) = &event.fact else {
            return self.policies.get(&event.actor).cloned();
        };
        let uid = ocsf::policy_uid(linked);
        if self.policies.len() < MAX_POLICIES {
            self.policies.insert(event.actor.clone(), uid.clone());
        }
        Some(uid)
    }

    fn record(&self, sequence: u64, event: &Event, policy_uid: Option<&str>) -> Result<AuditRecord, &'static str> {
        let uid = event.uid().to_string();
        let stamp = Stamp {
            context: &self.context,
            chain_uid: &self.uid,
            provider: &self.provider,
            previous: &self.previous,
            sequence,
            uid: &uid,
            logged_ms: now_ms(),
            policy_uid,
        };
        let value = canonical(&ocsf::event(&stamp, event)).map_err(|_| "event.not_canonical")?;
        if value.len() > self.max_value_bytes {
            return Err("event.too_large");
        }
        Ok(AuditRecord { sequence, key: self.uid.clone(), value, headers: cloudevents::headers(&stamp, event) })
    }

    /// The number was given, so something must stand in its place: a gap would look like a deletion. The uid stays, since
    /// other events may point at it.
    fn substitute(&self, sequence: u64, event: &Event, reason: &'static str) -> AuditRecord {
        let mut loss = Loss { reason, first_ms: event.time_ms, ..Loss::default() };
        loss.add(event);
        let substitute =
            Event { uid: event.uid, time_ms: event.time_ms, ..Event::new(Actor::bridge(), Fact::Loss(loss)) };
        let key = self.uid.clone();
        // A loss event holds capped text and capped integers only, which always have a canonical form.
        self.record(sequence, &substitute, None).unwrap_or(AuditRecord {
            sequence,
            key,
            value: Vec::new(),
            headers: Vec::new(),
        })
    }
}

/// The leaf hash of RFC 6962: the prefix keeps a leaf from being taken for an inner node of a tree.
pub(crate) fn leaf(value: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update([0]).chain_update(value).finalize().into()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or('?');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::samples::{context, every_event, linked, plugin};

    fn links(events: &[Event]) -> Vec<(AuditRecord, Value)> {
        let mut chain = Chain::new(context());
        let link = |(sequence, event)| {
            let record = chain.link(sequence, event).record;
            let value = serde_json::from_slice(&record.value).unwrap();
            (record, value)
        };
        (1..).zip(events).map(link).collect()
    }

    #[test]
    fn each_event_holds_the_leaf_hash_of_the_one_before() {
        let mut expected = "0".repeat(64);
        for (index, (record, value)) in links(&every_event()).into_iter().enumerate() {
            let integrity = &value["unmapped"]["integrity"];
            assert_eq!(integrity["prev_sha256"], expected);
            assert_eq!(integrity["chain_uid"], &*record.key);
            assert_eq!(value["metadata"]["sequence"], index + 1);
            assert_eq!(canonical(&value).unwrap(), record.value);
            let mut input = vec![0];
            input.extend_from_slice(&record.value);
            expected = hex(&Sha256::digest(&input));
        }
    }

    #[test]
    fn uids_are_those_of_the_events_of_version_7_and_all_different() {
        let events = [every_event(), every_event()].concat();
        let uids: Vec<String> =
            links(&events).iter().map(|(_, value)| value["metadata"]["uid"].as_str().unwrap().to_owned()).collect();
        assert_eq!(uids.iter().collect::<BTreeSet<_>>().len(), events.len());
        for (uid, event) in uids.iter().zip(&events) {
            assert_eq!(*uid, event.uid().to_string());
            let uid = uuid::Uuid::parse_str(uid).unwrap();
            assert_eq!((uid.get_version_num(), uid.get_variant()), (7, uuid::Variant::RFC4122));
            assert_eq!(uid.as_u128() >> 80, u128::from(event.time_ms));
        }
    }

    #[test]
    fn the_chain_is_named_after_instance_and_boot() {
        let (record, value) = links(&every_event()).swap_remove(0);
        let parts: Vec<&str> = record.key.split('/').collect();
        assert_eq!((parts[0], parts[1], parts[3]), ("portcullis", "6f1c2c1e-4b0f-4a52-9d0c-6f7d0a7c9a11", "p0"));
        assert!(parts[2].parse::<u64>().unwrap() > 1_700_000_000_000);
        assert_eq!(value["metadata"]["log_provider"], parts[..3].join("/"));
    }

    #[test]
    fn an_event_that_is_too_large_leaves_a_loss_in_its_place_and_the_chain_goes_on() {
        let mut chain = Chain::new(context());
        chain.max_value_bytes = 2000;
        let mut large = linked();
        large.imports = vec!["x".repeat(400); 10];
        let large = Event::plugin_linked(plugin(), large);
        let lost = chain.link(1, &large);
        let next = chain.link(2, &Event::plugin_stopped(plugin()));
        assert!(lost.substituted && !next.substituted);
        let value: Value = serde_json::from_slice(&lost.record.value).unwrap();
        assert_eq!(value["metadata"]["event_code"], "audit.loss");
        assert_eq!(value["metadata"]["sequence"], 1);
        assert_eq!(value["metadata"]["uid"], large.uid().to_string(), "so that what points at it finds the loss");
        assert_eq!(value["unmapped"]["loss"]["by_code"]["plugin.linked"], 1);
        let value: Value = serde_json::from_slice(&next.record.value).unwrap();
        assert_eq!(value["unmapped"]["integrity"]["prev_sha256"], hex(&leaf(&lost.record.value)));
    }

    #[test]
    fn later_events_of_a_plugin_name_the_grants_that_it_was_linked_under() {
        let calls = Event::plugin_stopped(plugin());
        let stranger = Event::plugin_stopped(Actor::plugin(None, "orders".into(), "fx".into(), None));
        let events = [calls.clone(), Event::plugin_linked(plugin(), linked()), calls, stranger];
        let values: Vec<Value> = links(&events).into_iter().map(|(_, value)| value).collect();
        assert!(values[0].get("policy").is_none() && values[3].get("policy").is_none());
        let uid = values[1]["policy"]["uid"].as_str().unwrap();
        assert!(uid.starts_with("sha256:") && uid.len() == 71);
        assert_eq!(values[2]["policy"]["uid"], uid);
    }
}
