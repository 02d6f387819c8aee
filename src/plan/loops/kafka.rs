//! Topics that a pipeline sends to and another, or the same, reads.

use portcullis_config::{Cluster, KafkaConnection, KafkaSink, KafkaSource, Located, Location, Node, Pipeline, Source};

use super::endpoint::{Endpoint, KAFKA_PORT, Near};
use super::glob::Glob;
use super::{Reach, come_back};

/// The brokers of a connection, whoever names them. A profile that is not declared is refused elsewhere, at its place.
pub(super) fn brokers(node: &Node, connection: &KafkaConnection) -> Vec<Endpoint> {
    let Ok(Cluster::Brokers(brokers)) = node.resolve(connection).map(|resolved| resolved.cluster) else {
        return Vec::new();
    };
    brokers
        .split(',')
        .filter(|broker| !broker.trim().is_empty())
        .map(|broker| Endpoint::of(broker, KAFKA_PORT))
        .collect()
}

/// Whether a sink sends to what a source reads, where their brokers are that near.
pub(super) fn reach(
    from: &Pipeline,
    sink: &KafkaSink,
    source: &KafkaSource,
    at: &Location,
    brokers: Near,
    is_own: bool,
) -> Option<Reach> {
    if brokers == Near::Other {
        return None;
    }
    let (topic, is_certain) = topic(from, sink, source)?;
    Some(match (brokers, is_certain) {
        (Near::Same, true) => Reach::certain(come_back(&topic, at), "name another topic"),
        (Near::Same, false) => Reach::possible(
            format!(
                "`allow` lets this template give `{topic}`, which the source at {at} reads: such a message {}",
                if is_own { "is refused" } else { "goes there" }
            ),
            "let `allow` leave it out",
        ),
        _ => Reach::possible(
            format!(
                "`{topic}` is read at {at} too, by another port of the same host: if both are one cluster, messages come back without end"
            ),
            "name the brokers of both alike if they are one cluster, and then another topic",
        ),
    })
}

/// A topic that the sink may send to and the source reads, and whether every message of some topic goes there.
fn topic(from: &Pipeline, sink: &KafkaSink, source: &KafkaSource) -> Option<(String, bool)> {
    let template = &sink.topic.value;
    if let Some(fixed) = template.fixed() {
        return source.topics.iter().any(|topic| topic.value == fixed).then(|| (fixed.to_owned(), true));
    }
    let lets = |topic: &str| {
        let name = Glob::exactly(topic);
        sink.allow.iter().any(|pattern| Glob::of_allow(pattern).meets(&name))
    };
    let is_chosen_by_channel = !template.to_string().contains("{{key}}") && !template.to_string().contains("{{header.");
    let gives = |topic: &str, channel: Option<&str>| Glob::of_template(template, channel).meets(&Glob::exactly(topic));
    let channels = channels(from);
    let known = || channels.iter().flatten().map(|channel| Some(channel.as_str()));
    let read: Vec<&str> = source.topics.iter().map(|topic| topic.as_str()).filter(|topic| lets(topic)).collect();
    let certain = read.iter().find(|topic| is_chosen_by_channel && known().any(|channel| gives(topic, channel)));
    let possible = || {
        read.iter().find(|topic| {
            known().any(|channel| gives(topic, channel)) || channels.contains(&None) && gives(topic, None)
        })
    };
    certain.map(|topic| ((*topic).to_owned(), true)).or_else(|| possible().map(|topic| ((*topic).to_owned(), false)))
}

/// What messages of a pipeline say that they came from; none where that is not known before they come.
fn channels(pipeline: &Pipeline) -> Vec<Option<String>> {
    let of = |source: &Located<Source>| match &source.value {
        Source::Kafka(kafka) => kafka.topics.iter().map(|topic| Some(topic.value.clone())).collect(),
        Source::Generator(generator) => vec![Some(generator.channel.value.clone())],
        _ => vec![None],
    };
    pipeline.sources.iter().flat_map(of).collect()
}
