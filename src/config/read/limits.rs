use std::time::Duration;

use super::Context;
use super::fields::Fields;
use super::values::{duration, integer, integer_u32, rate, shown, size};
use crate::yaml::{Kind, Node};
use crate::{Code, Limits, Located, Rate, Setting, parse_size};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// What bounds the network of a plugin, and nothing where it has none.
const NETWORK: [&str; 5] = ["connections", "connects", "lookups", "egress_bytes", "ingress_bytes"];

/// The `limits:` of a plugin. `egress` says whether it has a network, which some defaults depend on.
pub(super) fn limits(cx: &mut Context<'_>, node: Option<&Node>, egress: bool) -> Limits {
    let mut limits = defaults(egress);
    let Some(mut fields) = node.and_then(|node| Fields::of(cx, node, "`limits` of a plugin")) else { return limits };
    let deadlines = Duration::from_millis(1)..=10 * MINUTE;
    let deadline = fields.optional(cx, "deadline", |cx, node| duration(cx, node, deadlines));
    limits.deadline = Setting::or(deadline, limits.deadline.value);
    let fuel = fields.optional(cx, "fuel", |cx, node| integer(cx, node, 1000..=1_000_000_000_000_000));
    limits.fuel = Setting::or(fuel, limits.fuel.value);
    let memory = fields.optional(cx, "memory", |cx, node| size(cx, node, 64 * KIB..=4 * GIB));
    limits.memory_bytes = Setting::or(memory, limits.memory_bytes.value);
    let output = fields.optional(cx, "output", |cx, node| size(cx, node, 1..=GIB));
    limits.output_bytes = Setting::or(output, limits.output_bytes.value);
    let log = fields.optional(cx, "log", |cx, node| size(cx, node, 0..=64 * MIB));
    limits.log_bytes = Setting::or(log, limits.log_bytes.value);
    let log_rate = fields.optional(cx, "log_rate", bytes_a_second);
    limits.log_rate_bytes_s = Setting::or(log_rate, limits.log_rate_bytes_s.value);
    let calls = fields.optional(cx, "host_calls", |cx, node| integer(cx, node, 1..=1_000_000_000));
    limits.host_calls = Setting::or(calls, limits.host_calls.value);
    let handles = fields.optional(cx, "handles", |cx, node| integer_u32(cx, node, 1..=1_000_000));
    limits.handles = Setting::or(handles, limits.handles.value);
    let restarts = fields.optional(cx, "restarts", |cx, node| rate(cx, node, false));
    limits.restarts = Setting::or(restarts, limits.restarts.value);
    let concurrency = fields.optional(cx, "concurrency", |cx, node| integer_u32(cx, node, 1..=256));
    limits.concurrency = Setting::or(concurrency, limits.concurrency.value);
    network(cx, &mut fields, &mut limits, egress);
    let help = "it is a setting of the pipeline: `queue: { messages: 10000, bytes: 16MiB }`";
    fields.refuse(cx, "queue", Code::LimitNotEnforced, "is not a limit of one plugin", help);
    let message = "is not enforced: a plugin has as many instances as its lanes and its `concurrency` need";
    fields.refuse(cx, "instances", Code::LimitNotEnforced, message, "remove it; `concurrency` bounds calls at once");
    fields.finish(cx);
    limits
}

fn defaults(egress: bool) -> Limits {
    Limits {
        deadline: Setting::default_of(if egress { Duration::from_secs(2) } else { Duration::from_millis(250) }),
        fuel: Setting::default_of(50_000_000),
        memory_bytes: Setting::default_of(64 * MIB),
        output_bytes: Setting::default_of(MIB),
        log_bytes: Setting::default_of(64 * KIB),
        log_rate_bytes_s: Setting::default_of(16 * KIB),
        host_calls: Setting::default_of(100_000),
        handles: Setting::default_of(4096),
        restarts: Setting::default_of(Rate { count: 5, per: MINUTE }),
        concurrency: Setting::default_of(if egress { 8 } else { 1 }),
        connections: Setting::default_of(8),
        connects: Setting::default_of(Rate { count: 10, per: SECOND }),
        lookups: Setting::default_of(Rate { count: 5, per: SECOND }),
        egress_bytes: None,
        ingress_bytes: None,
    }
}

fn network(cx: &mut Context<'_>, fields: &mut Fields<'_>, limits: &mut Limits, egress: bool) {
    if !egress {
        for key in NETWORK {
            let message = "has no effect without `grants.egress`: a plugin without it has no network";
            fields.refuse(cx, key, Code::KeyConflict, message, "remove it, or grant egress");
        }
        return;
    }
    let connections = fields.optional(cx, "connections", |cx, node| integer_u32(cx, node, 1..=1024));
    limits.connections = Setting::or(connections, limits.connections.value);
    let connects = fields.optional(cx, "connects", some_rate);
    limits.connects = Setting::or(connects, limits.connects.value);
    let lookups = fields.optional(cx, "lookups", some_rate);
    limits.lookups = Setting::or(lookups, limits.lookups.value);
    limits.egress_bytes = fields.optional(cx, "egress_bytes", bytes_a_second);
    limits.ingress_bytes = fields.optional(cx, "ingress_bytes", bytes_a_second);
}

/// A rate that lets something through; a number alone is a second's.
pub(super) fn some_rate(cx: &mut Context<'_>, node: &Node) -> Option<Located<Rate>> {
    let rate = rate(cx, node, true)?;
    if rate.count == 0 {
        let message = format!("`{}` lets nothing through, ever", shown(node));
        cx.say(
            &rate.at,
            Code::ValueInvalid,
            message,
            "allowed: from 1; what must not happen is left out of the grants",
        );
        return None;
    }
    Some(rate)
}

/// `1MiB/s`, or the size alone.
pub(super) fn bytes_a_second(cx: &mut Context<'_>, node: &Node) -> Option<Located<u64>> {
    const MOST: u64 = 1 << 40;
    let scalar = match &node.kind {
        Kind::Scalar(scalar) if !node.is_null() => scalar,
        Kind::Broken => return None,
        _ => {
            let message = format!("expected bytes a second, found {}", node.describe());
            cx.say(&node.at, Code::TypeWrong, message, "such as 1MiB/s");
            return None;
        }
    };
    let size = scalar.text.strip_suffix("/s").unwrap_or(&scalar.text);
    match parse_size(size) {
        Ok(bytes) if (1..=MOST).contains(&bytes) => Some(Located::new(bytes, node.at.clone())),
        _ => {
            let message = format!("`{}` is no number of bytes a second", scalar.shown());
            cx.say(&node.at, Code::ValueInvalid, message, "allowed: 1/s to 1024GiB/s, such as 64KiB/s or 1MiB/s");
            None
        }
    }
}
