use std::time::Duration;

use super::Context;
use super::fields::Fields;
use super::values::{duration, integer, integer_u32, rate, size};
use crate::yaml::Node;
use crate::{Code, Limits, Rate, Setting};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

const MINUTE: Duration = Duration::from_secs(60);

/// Limits of the design that nothing enforces in this version. One that did nothing would be a promise broken.
const NOT_ENFORCED: [&str; 7] =
    ["instances", "concurrency", "connections", "connects", "lookups", "egress_bytes", "ingress_bytes"];

/// The `limits:` of a plugin.
pub(super) fn limits(cx: &mut Context<'_>, node: Option<&Node>) -> Limits {
    let mut limits = Limits {
        deadline: Setting::default_of(Duration::from_millis(250)),
        fuel: Setting::default_of(50_000_000),
        memory_bytes: Setting::default_of(64 * MIB),
        output_bytes: Setting::default_of(MIB),
        log_bytes: Setting::default_of(64 * KIB),
        host_calls: Setting::default_of(100_000),
        handles: Setting::default_of(4096),
        restarts: Setting::default_of(Rate { count: 5, per: MINUTE }),
    };
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
    let calls = fields.optional(cx, "host_calls", |cx, node| integer(cx, node, 1..=1_000_000_000));
    limits.host_calls = Setting::or(calls, limits.host_calls.value);
    let handles = fields.optional(cx, "handles", |cx, node| integer_u32(cx, node, 1..=1_000_000));
    limits.handles = Setting::or(handles, limits.handles.value);
    let restarts = fields.optional(cx, "restarts", |cx, node| rate(cx, node, false));
    limits.restarts = Setting::or(restarts, limits.restarts.value);
    let help = "it is a setting of the pipeline: `queue: { messages: 10000, bytes: 16MiB }`";
    fields.refuse(cx, "queue", Code::LimitNotEnforced, "is not a limit of one plugin", help);
    for key in NOT_ENFORCED {
        let message = "is not enforced in this version, and a limit that is not enforced is refused";
        fields.refuse(cx, key, Code::LimitNotEnforced, message, "remove it; it comes with egress");
    }
    fields.finish(cx);
    limits
}
