//! Every budget with its origin: of a plugin, of a pipeline, of a connector, and the sums of tenants and of the node.

#[cfg(feature = "nats")]
use portcullis_config::NatsWindow;
use portcullis_config::{
    LevelLimits, Limits, Located, Location, Pipeline, Setting, Sink, Source, format_duration, format_size,
};

use super::BudgetDescription;
use crate::connectors::{SinkPlan, SourcePlan};

pub(in crate::plan) fn of_plugin(limits: &Limits, network: bool) -> Vec<BudgetDescription> {
    let mut all = vec![
        budget("deadline", &limits.deadline, |deadline| format_duration(*deadline)),
        budget("fuel", &limits.fuel, u64::to_string),
        budget("memory", &limits.memory_bytes, size),
        budget("output", &limits.output_bytes, size),
        budget("log", &limits.log_bytes, size),
        budget("log_rate", &limits.log_rate_bytes_s, a_second),
        budget("host_calls", &limits.host_calls, u64::to_string),
        budget("handles", &limits.handles, u32::to_string),
        budget("restarts", &limits.restarts, ToString::to_string),
        budget("concurrency", &limits.concurrency, u32::to_string),
    ];
    if network {
        all.extend([
            budget("connections", &limits.connections, u32::to_string),
            budget("connects", &limits.connects, ToString::to_string),
            budget("lookups", &limits.lookups, ToString::to_string),
            bound("egress_bytes", limits.egress_bytes.as_ref(), a_second),
            bound("ingress_bytes", limits.ingress_bytes.as_ref(), a_second),
        ]);
    }
    all
}

pub(super) const DEFAULT: &str = "default";

pub(super) fn budget<T>(name: &'static str, setting: &Setting<T>, text: impl Fn(&T) -> String) -> BudgetDescription {
    let origin = setting.at.as_ref().map_or_else(|| DEFAULT.to_owned(), Location::to_string);
    BudgetDescription { name, value: Some(text(&setting.value)), origin }
}

/// Of the pipeline itself.
pub(super) fn of_pipeline(config: &Pipeline) -> Vec<BudgetDescription> {
    let lanes = typed_or(config.lanes.as_ref().map(|lanes| &lanes.at), config.lane_count().to_string());
    vec![
        named("lanes", lanes),
        budget("queue.messages", &config.queue.messages, u32::to_string),
        budget("queue.bytes", &config.queue.bytes, size),
        budget("window.messages", &config.window.messages, u32::to_string),
        budget("window.bytes", &config.window.bytes, size),
        budget("drain", &config.drain, |drain| format_duration(*drain)),
    ]
}

/// What the plugins of a tenant or of the node may use together.
pub(super) fn of_level(limits: &LevelLimits) -> Vec<BudgetDescription> {
    let queue = &limits.queue;
    vec![
        bound("memory", limits.memory_bytes.as_ref(), size),
        bound("connections", limits.connections.as_ref(), u32::to_string),
        bound("connects", limits.connects.as_ref(), ToString::to_string),
        bound("lookups", limits.lookups.as_ref(), ToString::to_string),
        bound("egress_bytes", limits.egress_bytes.as_ref(), a_second),
        bound("ingress_bytes", limits.ingress_bytes.as_ref(), a_second),
        bound("log_rate", limits.log_rate_bytes_s.as_ref(), a_second),
        bound("restarts", limits.restarts.as_ref(), ToString::to_string),
        bound("queue.messages", queue.messages.as_ref(), u32::to_string),
        bound("queue.bytes", queue.bytes.as_ref(), size),
    ]
}

/// A tenant's weight, which has no bound to be.
pub(super) fn share(limits: &LevelLimits) -> BudgetDescription {
    let share = limits.cpu_share.as_ref();
    named("cpu_share", typed_or(share.map(|share| &share.at), share.map_or(1, |share| share.value).to_string()))
}

/// Of a source's connector: what was typed, or its default.
pub(super) fn of_source(typed: &Source, plan: &SourcePlan) -> Vec<BudgetDescription> {
    match (typed, plan) {
        #[cfg(feature = "nats")]
        (Source::JetStream(typed), SourcePlan::JetStream(settings)) => {
            let mut budgets = window(typed.window.as_ref(), settings.window);
            budgets.push(waits("heartbeat", typed.heartbeat.as_ref(), settings.heartbeat));
            budgets
        }
        #[cfg(feature = "nats")]
        (Source::Nats(typed), SourcePlan::Nats(settings)) => window(typed.window.as_ref(), settings.window),
        _ => Vec::new(),
    }
}

/// Of a sink's connector.
pub(super) fn of_sink(typed: &Sink, plan: &SinkPlan) -> Vec<BudgetDescription> {
    match (typed, plan) {
        #[cfg(feature = "kafka")]
        (Sink::Kafka(typed), SinkPlan::Kafka(settings)) => {
            let queue = typed.queue.as_ref();
            let messages = queue.and_then(|queue| place(queue.messages.as_ref()));
            let bytes = queue.and_then(|queue| place(queue.bytes.as_ref()));
            vec![
                named("queue.messages", typed_or(messages, settings.queue_messages.to_string())),
                named("queue.bytes", typed_or(bytes, format_size(u64::from(settings.queue_kbytes) * 1024))),
            ]
        }
        #[cfg(feature = "nats")]
        (Sink::JetStream(typed), SinkPlan::JetStream(settings)) => {
            let mut budgets = window(typed.window.as_ref(), settings.window);
            budgets.push(waits("ack_timeout", typed.ack_timeout.as_ref(), settings.ack_timeout));
            budgets
        }
        #[cfg(feature = "nats")]
        (Sink::Nats(typed), SinkPlan::Nats(settings)) => window(typed.window.as_ref(), settings.window),
        _ => Vec::new(),
    }
}

#[cfg(feature = "nats")]
fn window(typed: Option<&NatsWindow>, window: portcullis_connector_nats::Window) -> Vec<BudgetDescription> {
    let messages = typed.and_then(|typed| place(typed.messages.as_ref()));
    let bytes = typed.and_then(|typed| place(typed.bytes.as_ref()));
    vec![
        named("window.messages", typed_or(messages, window.messages.to_string())),
        named("window.bytes", typed_or(bytes, format_size(window.bytes as u64))),
    ]
}

#[cfg(feature = "nats")]
fn waits(
    name: &'static str,
    typed: Option<&Located<std::time::Duration>>,
    value: std::time::Duration,
) -> BudgetDescription {
    named(name, typed_or(place(typed), format_duration(value)))
}

fn bound<T>(name: &'static str, limit: Option<&Located<T>>, text: impl Fn(&T) -> String) -> BudgetDescription {
    let (_, origin) = typed_or(place(limit), String::new());
    BudgetDescription { name, value: limit.map(|limit| text(&limit.value)), origin }
}

fn named(name: &'static str, (value, origin): (String, String)) -> BudgetDescription {
    BudgetDescription { name, value: Some(value), origin }
}

/// A value with its origin.
fn typed_or(at: Option<&Location>, value: String) -> (String, String) {
    (value, at.map_or_else(|| DEFAULT.to_owned(), Location::to_string))
}

fn place<T>(typed: Option<&Located<T>>) -> Option<&Location> {
    typed.map(|typed| &typed.at)
}

fn size(bytes: &u64) -> String {
    format_size(*bytes)
}

fn a_second(bytes: &u64) -> String {
    format!("{}/s", format_size(*bytes))
}
