use std::collections::HashSet;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use super::Context;
use super::connector::{dead_letter, sink, source};
use super::fields::Fields;
use super::plugin::plugin;
use super::values::{choice, choice_or_refused, duration, integer_u32, list, name, size};
use crate::yaml::{Kind, Node};
use crate::{
    Cluster, Code, Delivery, Format, KafkaConnection, Located, Order, Pipeline, Plugin, Setting, Sink, Source, Window,
};

const NOT_EXACTLY_ONCE: &str = "is not built yet: a message may come twice";

/// Keys that only the node's file has.
const NODE_KEYS: [&str; 11] = [
    "mode",
    "brokers",
    "audit",
    "admin",
    "cache",
    "log",
    "egress",
    "ceilings",
    "limits",
    "tenants",
    "pipelines_may_name",
];

/// What was read of a pipeline file.
pub(crate) struct ReadPipeline {
    pub(crate) pipeline: Pipeline,
    /// Without a source or a sink standard input or output stands for it, so that its plugins can be looked at.
    pub(crate) is_whole: bool,
}

/// The root of a pipeline file; none where not even its name is known.
pub(crate) fn pipeline(cx: &mut Context<'_>, file: &Path, node: &Node) -> Option<ReadPipeline> {
    let mut fields = Fields::of(cx, node, "a pipeline")?;
    let has = |keys: &[&str]| keys.iter().any(|key| fields.entry(key).is_some());
    if has(&NODE_KEYS) && !has(&["pipeline", "source", "sink"]) {
        let message = "this is no pipeline: its keys are those of the node's file";
        let help = "the node's file is `portcullis.yaml` beside the pipeline's, or another one with `--node FILE`";
        cx.say(&node.at, Code::KeyMissing, message, help);
        return None;
    }
    let name_of = fields.required(cx, "pipeline", name);
    let tenant = fields.optional(cx, "tenant", name);
    let delivery = fields.optional(cx, "delivery", |cx, node| {
        let refused = [("exactly_once", NOT_EXACTLY_ONCE)];
        choice_or_refused(cx, node, &[("at_least_once", Delivery::AtLeastOnce)], &refused)
    });
    let orders = [("key", Order::Key), ("partition", Order::Partition), ("none", Order::None)];
    let order = fields.optional(cx, "order", |cx, node| choice(cx, node, &orders));
    let lanes = fields.optional(cx, "lanes", |cx, node| integer_u32(cx, node, 1..=256));
    let group = name_of.as_ref().map(|name| name.value.as_str());
    let sources = fields.required(cx, "source", |cx, node| list(cx, node, true, |cx, node| source(cx, node, group)));
    let lender = sources.as_deref().and_then(lender);
    let declares = fields.entry("dead_letter").is_some();
    let plugins = fields.optional(cx, "plugins", |cx, node| plugins(cx, node, declares)).unwrap_or_default();
    let sink = fields.required(cx, "sink", sink);
    let dead_letter = fields.optional(cx, "dead_letter", |cx, node| dead_letter(cx, node, lender));
    let queue = fields.optional(cx, "queue", |_, node| Some(node));
    let queue = window(cx, queue, "`queue`", 10_000, 16 << 20);
    let finish = fields.optional(cx, "window", |_, node| Some(node));
    let unfinished = window(cx, finish, "`window`", 100_000, 64 << 20);
    // A revocation drains between two polls, and librdkafka takes a consumer that does not poll for 300 s for dead.
    let drains = Duration::ZERO..=Duration::from_secs(240);
    let drain = fields.optional(cx, "drain", |cx, node| duration(cx, node, drains));
    let help = "write it into the node's file, portcullis.yaml";
    fields.refuse(cx, "audit", Code::SettingNotAvailable, "is a setting of the node in this version", help);
    fields.refuse(cx, "admin", Code::SettingNotAvailable, "is a setting of the node", help);
    fields.refuse(cx, "brokers", Code::SettingNotAvailable, "are profiles of the node", help);
    fields.finish(cx);
    let is_whole = sources.is_some() && sink.is_some();
    let stdio = || Setting::default_of(Format::JsonLines);
    let pipeline = Pipeline {
        file: file.to_owned(),
        at: node.at.clone(),
        name: name_of?,
        tenant,
        delivery: Setting::or(delivery, Delivery::AtLeastOnce),
        order: Setting::or(order, Order::Key),
        lanes: lanes.and_then(|lanes| Some(Located::new(NonZeroU32::new(lanes.value)?, lanes.at))),
        sources: sources.unwrap_or_else(|| vec![Located::new(Source::Stdio(stdio()), node.at.clone())]),
        plugins,
        sink: sink.unwrap_or_else(|| Located::new(Sink::Stdio(stdio()), node.at.clone())),
        dead_letter,
        queue,
        window: unfinished,
        drain: Setting::or(drain, Duration::from_secs(30)),
    };
    Some(ReadPipeline { pipeline, is_whole })
}

/// The connection that a dead letter queue inherits: the Kafka sources', where they are of one cluster.
fn lender(sources: &[Located<Source>]) -> Option<&KafkaConnection> {
    let mut connections = sources.iter().filter_map(|source| match &source.value {
        Source::Kafka(kafka) => Some(&kafka.connection),
        _ => None,
    });
    let first = connections.next()?;
    connections.all(|other| same_cluster(&first.cluster, &other.cluster)).then_some(first)
}

fn same_cluster(one: &Cluster, other: &Cluster) -> bool {
    match (one, other) {
        (Cluster::Brokers(one), Cluster::Brokers(other)) => one.value == other.value,
        (Cluster::Profile(one), Cluster::Profile(other)) => one.value == other.value,
        _ => false,
    }
}

fn plugins(cx: &mut Context<'_>, node: &Node, dead_letter: bool) -> Option<Vec<Plugin>> {
    if matches!(&node.kind, Kind::Seq(items) if items.is_empty()) {
        return Some(Vec::new());
    }
    let plugins = list(cx, node, false, |cx, node| plugin(cx, node, dead_letter))?;
    let mut seen = HashSet::new();
    for plugin in &plugins {
        if !seen.insert(plugin.name.value.as_str()) {
            let message = format!("a plugin named `{}` is already in this pipeline", plugin.name.value);
            cx.say(
                &plugin.name.at,
                Code::NameDuplicate,
                message,
                "give each plugin a name of its own, also two of one component",
            );
        }
    }
    Some(plugins)
}

fn window(cx: &mut Context<'_>, node: Option<&Node>, what: &'static str, messages: u32, bytes: u64) -> Window {
    let mut window = Window { messages: Setting::default_of(messages), bytes: Setting::default_of(bytes) };
    let Some(mut fields) = node.and_then(|node| Fields::of(cx, node, what)) else { return window };
    let typed = fields.optional(cx, "messages", |cx, node| integer_u32(cx, node, 1..=10_000_000));
    window.messages = Setting::or(typed, messages);
    let typed = fields.optional(cx, "bytes", |cx, node| size(cx, node, 1 << 10..=64 << 30));
    window.bytes = Setting::or(typed, bytes);
    fields.finish(cx);
    window
}
