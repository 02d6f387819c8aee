//! Settings of a topic that lose something.

use std::time::Duration;

use portcullis_connector_kafka::inspect::{Settings, TopicState};

use super::finding::{Finding, Status};
use super::needs::Uses;

/// The evidence of a year can be asked for: what PCI DSS 10.5.1 wants.
const LEAST_AUDIT_RETENTION: Duration = Duration::from_secs(365 * 24 * 3600);

/// A finding that does not know yet what it is about.
#[derive(Debug)]
pub(super) struct Judged {
    status: Status,
    check: &'static str,
    found: String,
    advice: Option<String>,
}

impl Judged {
    pub(super) fn of(self, what: &str) -> Finding {
        let Self { status, check, found, advice } = self;
        Finding { status, check, what: format!("{what} settings"), found, advice }
    }
}

/// What is wrong; else one finding that says what was seen.
pub(super) fn judge(topic: &str, uses: &Uses, state: &TopicState, settings: &Settings) -> Vec<Judged> {
    let mut found = Vec::new();
    let text = |key: &str| settings.get(key).map(String::as_str);
    let number = |key: &str| text(key).and_then(|text| text.parse::<i64>().ok());
    let is_compacted = text("cleanup.policy").is_some_and(|policy| policy.contains("compact"));
    let set = |setting: &str| {
        format!("`kafka-configs.sh --alter --entity-type topics --entity-name {topic} --add-config {setting}`")
    };
    let is_kept = uses.is_audit || !uses.dead_letters_of.is_empty();
    if is_kept && is_compacted {
        let what = if uses.is_audit { "evidence" } else { "a dead letter" };
        found.push(Judged {
            status: Status::Fail,
            check: "topic.cleanup",
            found: format!("`cleanup.policy` has `compact`: a later record with the same key removes {what}"),
            advice: Some(set("cleanup.policy=delete")),
        });
    }
    let ours = i64::from(uses.max_message_bytes);
    if let Some(max) = number("max.message.bytes").filter(|max| uses.is_written() && *max < ours) {
        found.push(Judged {
            status: Status::Fail,
            check: "topic.max_message_bytes",
            found: format!("`max.message.bytes` is {max} and ours is {ours}: the broker refuses a whole batch for one message between them"),
            advice: Some(format!("{}, or `max_message_bytes: {max}` or less in the sink", set(&format!("max.message.bytes={ours}")))),
        });
    }
    if uses.is_audit {
        found.extend(audit_retention(number("retention.ms"), number("retention.bytes"), &set));
    }
    if uses.is_written() {
        found.extend(copies(state, number("min.insync.replicas"), &set));
        if text("unclean.leader.election.enable") == Some("true") {
            found.push(Judged {
                status: Status::Warn,
                check: "topic.unclean_election",
                found: "`unclean.leader.election.enable` is true: confirmed messages can be lost when brokers fail"
                    .to_owned(),
                advice: Some(set("unclean.leader.election.enable=false")),
            });
        }
    }
    if found.is_empty() {
        let shown = ["cleanup.policy", "retention.ms", "retention.bytes", "max.message.bytes", "min.insync.replicas"];
        let shown = shown.into_iter().filter_map(|key| Some(format!("{key}={}", text(key)?)));
        let found = shown.collect::<Vec<_>>().join(", ");
        return vec![Judged { status: Status::Ok, check: "topic.settings", found, advice: None }];
    }
    found
}

fn audit_retention(
    retention_ms: Option<i64>,
    retention_bytes: Option<i64>,
    set: &dyn Fn(&str) -> String,
) -> Option<Judged> {
    let least = i64::try_from(LEAST_AUDIT_RETENTION.as_millis()).unwrap_or(i64::MAX);
    let found = match (retention_ms, retention_bytes) {
        (_, Some(bytes)) if bytes >= 0 => {
            format!("`retention.bytes` is {bytes}: evidence leaves when there is more")
        }
        (Some(ms), _) if (0..least).contains(&ms) => {
            let days = Duration::from_millis(ms.unsigned_abs()).as_secs() / 86_400;
            format!("`retention.ms` is {ms} ({days} days): evidence leaves before a year is over")
        }
        _ => return None,
    };
    let advice = Some(set("retention.ms=-1,retention.bytes=-1"));
    Some(Judged { status: Status::Warn, check: "topic.retention", found, advice })
}

/// Whether what is confirmed outlives a broker, and whether it can be confirmed at all.
fn copies(state: &TopicState, min_in_sync: Option<i64>, set: &dyn Fn(&str) -> String) -> Option<Judged> {
    let (replicas, in_sync) = (state.replicas, state.in_sync);
    let least = min_in_sync.and_then(|least| usize::try_from(least).ok()).unwrap_or(1);
    let judged = |status, found: String, advice: String| {
        Some(Judged { status, check: "topic.replication", found, advice: Some(advice) })
    };
    if replicas > 0 && least > replicas {
        let found =
            format!("`min.insync.replicas` is {least} and there are {replicas} replicas: nothing is ever confirmed");
        return judged(Status::Fail, found, set(&format!("min.insync.replicas={}", replicas.saturating_sub(1).max(1))));
    }
    if state.leaderless == 0 && in_sync < least {
        let found =
            format!("{in_sync} replicas are in sync and `min.insync.replicas` is {least}: nothing is confirmed now");
        return judged(Status::Fail, found, "start the brokers that are away".to_owned());
    }
    if replicas == 1 {
        let found = "replication factor 1: what its broker's disk loses is lost".to_owned();
        return judged(
            Status::Warn,
            found,
            "3 replicas with `min.insync.replicas=2` where there are brokers for them".to_owned(),
        );
    }
    if least == 1 {
        let found = "`min.insync.replicas` is 1: a message may be confirmed that one broker alone has".to_owned();
        return judged(Status::Warn, found, set("min.insync.replicas=2"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(replicas: usize, in_sync: usize) -> TopicState {
        TopicState { partitions: 1, leaderless: 0, replicas, in_sync, rights: None }
    }

    fn audit() -> Uses {
        Uses { is_audit: true, max_message_bytes: 1_000_000, ..Uses::default() }
    }

    fn checks(uses: &Uses, state: &TopicState, settings: &[(&str, &str)]) -> Vec<(Status, &'static str)> {
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        judge("t", uses, state, &settings).into_iter().map(|judged| (judged.status, judged.check)).collect()
    }

    const SAFE: [(&str, &str); 5] = [
        ("cleanup.policy", "delete"),
        ("max.message.bytes", "1048588"),
        ("retention.ms", "-1"),
        ("retention.bytes", "-1"),
        ("min.insync.replicas", "2"),
    ];

    fn with(key: &'static str, value: &'static str) -> Vec<(&'static str, &'static str)> {
        SAFE.into_iter().filter(|(safe, _)| *safe != key).chain([(key, value)]).collect()
    }

    #[test]
    fn safe_settings_are_one_line_that_says_what_was_seen() {
        assert_eq!(checks(&audit(), &state(3, 3), &SAFE), [(Status::Ok, "topic.settings")]);
    }

    #[test]
    fn each_setting_that_loses_something_is_found_alone() {
        for (key, value, expected) in [
            ("cleanup.policy", "compact,delete", (Status::Fail, "topic.cleanup")),
            ("max.message.bytes", "999999", (Status::Fail, "topic.max_message_bytes")),
            ("retention.ms", "604800000", (Status::Warn, "topic.retention")),
            ("retention.bytes", "1000000000", (Status::Warn, "topic.retention")),
            ("min.insync.replicas", "1", (Status::Warn, "topic.replication")),
            ("min.insync.replicas", "4", (Status::Fail, "topic.replication")),
            ("unclean.leader.election.enable", "true", (Status::Warn, "topic.unclean_election")),
        ] {
            assert_eq!(checks(&audit(), &state(3, 3), &with(key, value)), [expected], "{key}={value}");
        }
        assert_eq!(checks(&audit(), &state(3, 1), &SAFE), [(Status::Fail, "topic.replication")]);
        assert_eq!(
            checks(&audit(), &state(1, 1), &with("min.insync.replicas", "1")),
            [(Status::Warn, "topic.replication")]
        );
    }

    #[test]
    fn a_source_may_be_compacted_small_and_short() {
        let source = Uses { source_of: vec!["p".to_owned()], ..Uses::default() };
        let settings = [("cleanup.policy", "compact"), ("max.message.bytes", "100"), ("retention.ms", "1000")];
        assert_eq!(checks(&source, &state(1, 1), &settings), [(Status::Ok, "topic.settings")]);
    }
}
