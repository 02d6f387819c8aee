//! A revocation drains between two polls: within that time librdkafka must not take the consumer for dead.

use std::time::Duration;

use portcullis_config::{Code, Diagnostic, Node, Pipeline, Source, format_duration};

use crate::pipeline::SENDS_WAIT;

const KEY: &str = "max.poll.interval.ms";

/// Where `drain` is too long for a `max.poll.interval.ms` that was typed, in the pipeline or in its profile. Four fifths of it
/// may be used, as of librdkafka's own 5 minutes: between the last poll and the revocation lies work too. After the drain a
/// revocation waits for what was handed to the sink, and a tenth of the interval is left behind that.
pub(super) fn within_polls(node: &Node, pipeline: &Pipeline) -> Vec<Diagnostic> {
    let drain = &pipeline.drain;
    let of_source = |source: &portcullis_config::Located<Source>| {
        let Source::Kafka(kafka) = &source.value else { return None };
        // A profile that is not declared is refused elsewhere, at its place.
        let connection = node.resolve(&kafka.connection).ok()?;
        let (key, value) = connection.librdkafka.iter().rev().find(|(key, _)| key.value == KEY)?;
        // What is no number librdkafka refuses itself.
        let interval_ms: u64 = value.expose().trim().parse().ok()?;
        let interval = Duration::from_millis(interval_ms);
        let most = (interval.saturating_mul(4) / 5).min((interval.saturating_mul(9) / 10).saturating_sub(SENDS_WAIT));
        if drain.value <= most {
            return None;
        }
        let typed = drain.at.as_ref().map_or_else(|| "the default".to_owned(), ToString::to_string);
        let message = format!(
            "a revocation waits for `drain: {}` ({typed}) and then up to {} for the sink without a poll, and `{KEY}: {interval_ms}` ({}) expels the member before",
            format_duration(drain.value),
            format_duration(SENDS_WAIT),
            key.at
        );
        let help = format!("allowed with it: `drain` up to {}; or raise `{KEY}`", format_duration(most));
        Some(drain.at.as_ref().unwrap_or(&key.at).diagnostic(Code::KeyConflict, message).help(help))
    };
    pipeline.sources.iter().filter_map(of_source).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use portcullis_config::{Flags, NoEnvironment, load_node, load_pipeline};

    use super::*;

    /// What is said, with the place.
    fn said(source: &str, drain: &str) -> Vec<String> {
        let text =
            format!("pipeline: p\n{drain}\nsource: {{ kafka: {{ topics: t, {source} }} }}\nsink: {{ stdio: }}\n");
        let pipeline = load_pipeline(Path::new("p.yaml"), text.as_bytes(), &NoEnvironment).unwrap();
        let node = "brokers: { main: { kafka: { brokers: k, librdkafka: { max.poll.interval.ms: 60000 } } } }\n";
        let node = load_node(Some((Path::new("n.yaml"), node.as_bytes())), &NoEnvironment, &Flags::new()).unwrap();
        within_polls(&node, &pipeline).iter().map(|found| format!("{}: {}", found.at, found.message)).collect()
    }

    #[test]
    fn a_drain_that_outlasts_the_interval_between_polls_is_refused_with_both_places() {
        let own = "brokers: k, librdkafka: { max.poll.interval.ms: 60000 }";
        for (source, drain, places) in [
            (own, "drain: 2m", ["p.yaml:2:8", "p.yaml:3:"]),
            (own, "drain: 60s", ["p.yaml:2:8", "p.yaml:3:"]),
            ("profile: main", "drain: 49s", ["p.yaml:2:8", "n.yaml:1:"]),
            // 16 s are four fifths, and 5 s more for the sink are past the interval.
            ("brokers: k, librdkafka: { max.poll.interval.ms: 20000 }", "drain: 16s", ["p.yaml:2:8", "p.yaml:3:"]),
            ("brokers: k, librdkafka: { max.poll.interval.ms: 20000 }", "", ["p.yaml:3:", "the default"]),
        ] {
            let found = said(source, drain);
            assert!(
                matches!(&found[..], [one] if places.iter().all(|place| one.contains(place))),
                "{drain}: {found:?}"
            );
        }
        for (source, drain) in [
            (own, "drain: 48s"),
            (own, ""),
            ("brokers: k", "drain: 4m"),
            ("brokers: k, librdkafka: { max.poll.interval.ms: 20000 }", "drain: 13s"),
            ("profile: main", "drain: 48s"),
            ("profile: main, librdkafka: { max.poll.interval.ms: 300000 }", "drain: 4m"),
        ] {
            assert_eq!(said(source, drain), [""; 0], "{source} {drain}");
        }
    }
}
