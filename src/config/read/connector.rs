use super::Context;
use super::fields::Fields;
use super::kafka::{self, Profiles};
use super::nats;
use super::values::{any_text, choice, integer, path, rate, size, text};
use crate::yaml::{Entry, Kind, Node};
use crate::{Code, FileEnd, Format, Generator, KafkaConnection, Located, Setting, Sink, Source, nearest};

const FORMATS: [(&str, Format); 2] = [("jsonl", Format::JsonLines), ("lines", Format::Lines)];

const SOURCES: [&str; 6] = ["kafka", "jetstream", "nats", "file", "stdio", "generator"];
const SINKS: [&str; 5] = ["kafka", "jetstream", "nats", "file", "stdio"];
const DEAD_LETTERS: [&str; 4] = ["kafka", "jetstream", "file", "stdio"];

/// `source:`, one of them. `group` is the default of a Kafka group.
pub(super) fn source(cx: &mut Context<'_>, node: &Node, group: Option<&str>) -> Option<Located<Source>> {
    let (kind, value) = connector(cx, node, "a source", &SOURCES)?;
    let source = match kind {
        "kafka" => Source::Kafka(Box::new(kafka::source(cx, value, group)?)),
        "jetstream" => Source::JetStream(Box::new(nats::jetstream_source(cx, value)?)),
        "nats" => Source::Nats(Box::new(nats::source(cx, value)?)),
        "file" => Source::File(file(cx, value, true)?),
        "stdio" => Source::Stdio(stdio(cx, value)?),
        _ => Source::Generator(generator(cx, value)?),
    };
    Some(Located::new(source, node.at.clone()))
}

/// `sink:`
pub(super) fn sink(cx: &mut Context<'_>, node: &Node) -> Option<Located<Sink>> {
    any_sink(cx, node, "a sink", Profiles::Yes, true)
}

/// `dead_letter:`, on the cluster of `source` where it names none.
pub(super) fn dead_letter(
    cx: &mut Context<'_>,
    node: &Node,
    source: Option<&KafkaConnection>,
) -> Option<Located<Sink>> {
    any_sink(cx, node, "a dead letter queue", Profiles::OrInherit(source), false)
}

fn any_sink(
    cx: &mut Context<'_>,
    node: &Node,
    what: &'static str,
    profiles: Profiles<'_>,
    templates: bool,
) -> Option<Located<Sink>> {
    let (kind, value) = connector(cx, node, what, if templates { &SINKS } else { &DEAD_LETTERS })?;
    let sink = match kind {
        "jetstream" => Sink::JetStream(Box::new(nats::jetstream_sink(cx, value, templates)?)),
        "nats" => Sink::Nats(Box::new(nats::sink(cx, value)?)),
        "kafka" => Sink::Kafka(Box::new(kafka::sink(cx, value, profiles, templates)?)),
        "file" => Sink::File(file(cx, value, false)?),
        _ => Sink::Stdio(stdio(cx, value)?),
    };
    Some(Located::new(sink, node.at.clone()))
}

/// The one key of the map and its value.
fn connector<'n>(
    cx: &mut Context<'_>,
    node: &'n Node,
    what: &'static str,
    kinds: &'static [&'static str],
) -> Option<(&'static str, &'n Node)> {
    if let Kind::Scalar(scalar) = &node.kind
        && let Some(kind) = kinds.iter().find(|kind| **kind == scalar.text)
    {
        let message = format!("{what} is a map, found only the name of the connector `{kind}`");
        cx.say(&node.at, Code::TypeWrong, message, format!("such as `{}`", example(kind, kinds == SOURCES)));
        return None;
    }
    let mut fields = Fields::of(cx, node, what)?;
    let mut chosen = Vec::new();
    for kind in kinds {
        chosen.extend(fields.optional(cx, kind, |_, value| Some((*kind, value))));
    }
    let absent = !kinds.contains(&"nats") && fields.entry("nats").is_some();
    if absent {
        let message = "cannot be here: core NATS keeps nothing, so a dead letter would be lost";
        fields.refuse(cx, "nats", Code::ConnectorNotAvailable, message, &nearest::help("available", None, kinds));
    }
    let entries = match &node.kind {
        Kind::Map(entries) => entries.len(),
        _ => 0,
    };
    fields.finish(cx);
    match chosen.as_slice() {
        [one] => Some(*one),
        [] if entries == 0 && !absent => {
            cx.say(
                &node.at,
                Code::KeyMissing,
                format!("{what} names no connector"),
                nearest::help("allowed", None, kinds),
            );
            None
        }
        [] => None,
        _ => {
            let later = kinds
                .iter()
                .filter_map(|kind| fields.entry(kind))
                .max_by_key(|entry| (entry.key_at.line, entry.key_at.col));
            let Entry { key: second, key_at, .. } = later?;
            let help = "a source may be a list of maps, each with one; a sink is one";
            cx.say(key_at, Code::KeyConflict, format!("{what} is one connector, and `{second}` is a second"), help);
            None
        }
    }
}

/// The least of an end that says what it reads or writes.
fn example(kind: &str, is_source: bool) -> &'static str {
    match (kind, is_source) {
        ("kafka", true) => "{ kafka: { brokers: \"broker:9092\", topics: [orders] } }",
        ("kafka", false) => "{ kafka: { brokers: \"broker:9092\", topic: orders } }",
        ("jetstream", true) => "{ jetstream: { servers: \"nats://server:4222\", stream: ORDERS, consumer: bridge } }",
        ("jetstream", false) => "{ jetstream: { servers: \"nats://server:4222\", subject: orders } }",
        ("nats", true) => "{ nats: { servers: \"nats://server:4222\", subjects: [orders] } }",
        ("nats", false) => "{ nats: { servers: \"nats://server:4222\", subject: orders } }",
        ("file", _) => "{ file: { path: orders.jsonl } }",
        ("generator", _) => "{ generator: { count: 10, value: text } }",
        _ => "{ stdio: {} }",
    }
}

fn file(cx: &mut Context<'_>, node: &Node, source: bool) -> Option<FileEnd> {
    let mut fields = Fields::of(cx, node, if source { "a file source" } else { "a file sink" })?;
    let path_of = fields.required(cx, "path", path);
    let format = fields.optional(cx, "format", |cx, node| choice(cx, node, &FORMATS));
    let position = if source { fields.optional(cx, "position", path) } else { None };
    fields.finish(cx);
    Some(FileEnd { path: path_of?, format: Setting::or(format, Format::JsonLines), position })
}

fn stdio(cx: &mut Context<'_>, node: &Node) -> Option<Setting<Format>> {
    if node.is_null() {
        return Some(Setting::default_of(Format::JsonLines));
    }
    let mut fields = Fields::of(cx, node, "`stdio`")?;
    let format = fields.optional(cx, "format", |cx, node| choice(cx, node, &FORMATS));
    fields.finish(cx);
    Some(Setting::or(format, Format::JsonLines))
}

fn generator(cx: &mut Context<'_>, node: &Node) -> Option<Generator> {
    let mut fields = Fields::of(cx, node, "a generator")?;
    let count = fields.optional(cx, "count", |cx, node| integer(cx, node, 0..=u64::MAX));
    let rate = fields.optional(cx, "rate", |cx, node| rate(cx, node, true));
    if let Some(rate) = rate.as_ref().filter(|rate| rate.count == 0) {
        cx.say(&rate.at, Code::ValueInvalid, "a rate of 0 generates nothing", "allowed: from 1");
    }
    let seed = fields.optional(cx, "seed", |cx, node| integer(cx, node, 0..=u64::MAX));
    let key = fields.optional(cx, "key", any_text);
    let value = fields.optional(cx, "value", any_text);
    let value_bytes = fields.optional(cx, "value_bytes", |cx, node| size(cx, node, 0..=256 << 20));
    let headers = fields.optional(cx, "headers", headers).unwrap_or_default();
    let channel = fields.optional(cx, "channel", text);
    fields.finish(cx);
    Some(Generator {
        count,
        rate,
        seed: Setting::or(seed, 0),
        key,
        value,
        value_bytes,
        headers,
        channel: Setting::or(channel, "generator".to_owned()),
    })
}

/// A map of names to templates; `~` is a header whose value is null.
fn headers(cx: &mut Context<'_>, node: &Node) -> Option<Vec<(String, Option<String>)>> {
    let Kind::Map(entries) = &node.kind else {
        Fields::of(cx, node, "`headers`")?;
        return None;
    };
    let headers = entries.iter().filter_map(|entry| match entry.value.is_null() {
        true => Some((entry.key.clone(), None)),
        false => Some((entry.key.clone(), Some(any_text(cx, &entry.value)?.value))),
    });
    Some(headers.collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{NoEnvironment, load_pipeline};

    #[test]
    fn whoever_writes_only_the_name_of_a_connector_is_shown_one_that_works() {
        let end = "{ file: { path: end.jsonl } }";
        for (key, other, kinds) in [("source", "sink", &SOURCES[..]), ("sink", "source", &SINKS)] {
            for kind in kinds {
                let load = |value: &str| {
                    let text = format!("pipeline: p\n{other}: {end}\n{key}: {value}\n");
                    load_pipeline(Path::new("p.yaml"), text.as_bytes(), &NoEnvironment)
                };
                let wrong = load(kind).unwrap_err();
                let help = wrong.iter().next().unwrap().help.clone().unwrap();
                let example = help.strip_prefix("such as `").unwrap().strip_suffix('`').unwrap();
                assert!(example.contains(kind) && wrong.len() == 1, "{wrong:?}");
                load(example).unwrap_or_else(|wrong| panic!("{example}: {wrong:?}"));
            }
        }
    }

    #[test]
    fn a_file_of_the_node_in_the_place_of_a_pipeline_is_told_in_one_sentence() {
        let text = "audit: { file: a.jsonl }\nadmin: { listen: \"127.0.0.1:0\" }\n";
        let wrong = load_pipeline(Path::new("portcullis.yaml"), text.as_bytes(), &NoEnvironment).unwrap_err();
        let only = wrong.iter().next().unwrap();
        assert!(wrong.len() == 1 && only.help.as_deref().unwrap().contains("--node"), "{wrong:?}");
        let text = "pipeline: p\nadmin: {}\n";
        let wrong = load_pipeline(Path::new("p.yaml"), text.as_bytes(), &NoEnvironment).unwrap_err();
        assert_eq!(wrong.len(), 3, "what is begun as a pipeline is judged as one: {wrong:?}");
    }
}
