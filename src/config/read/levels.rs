//! What the node and its tenants bound: ceilings of grants, sums of limits, denies.

use std::collections::BTreeMap;

use portcullis_policy::{Deny, Rule};

use super::Context;
use super::fields::Fields;
use super::limits::{bytes_a_second, some_rate};
use super::plugin::{CLOCKS, PLUGIN_LOG_LEVELS};
use super::rules::rules;
use super::values::{boolean, choice, integer_u32, key_is_name, rate, size};
use crate::yaml::{Kind, Node};
use crate::{Ceilings, Code, LevelLimits, Located, QueueLimit, Tenant};

/// Whose bounds they are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Node,
    Tenant,
}

/// `tenants:`, a map of names; a tenant without a value has no bounds of its own.
pub(super) fn tenants(cx: &mut Context<'_>, node: &Node) -> Option<BTreeMap<String, Tenant>> {
    let Kind::Map(entries) = &node.kind else {
        Fields::of(cx, node, "`tenants`")?;
        return None;
    };
    let mut tenants = BTreeMap::new();
    for entry in entries {
        let legal = key_is_name(cx, &entry.key, &entry.key_at);
        let mut tenant = Tenant {
            at: entry.key_at.clone(),
            ceilings: Ceilings::default(),
            limits: LevelLimits::default(),
            deny: Vec::new(),
        };
        if !entry.value.is_null() {
            read(cx, &entry.value, &mut tenant);
        }
        if legal {
            tenants.insert(entry.key.clone(), tenant);
        }
    }
    Some(tenants)
}

fn read(cx: &mut Context<'_>, node: &Node, tenant: &mut Tenant) {
    let Some(mut fields) = Fields::of(cx, node, "a tenant") else { return };
    tenant.ceilings = fields.optional(cx, "ceilings", ceilings).unwrap_or_default();
    tenant.limits = fields.optional(cx, "limits", |cx, node| limits(cx, node, Level::Tenant)).unwrap_or_default();
    tenant.deny = fields.optional(cx, "deny", denies).unwrap_or_default();
    fields.finish(cx);
}

/// A list of texts of rules that nobody's grant lifts.
pub(super) fn denies(cx: &mut Context<'_>, node: &Node) -> Option<Vec<Located<Deny>>> {
    rules(cx, node, Rule::parse_deny)
}

/// `ceilings:` of a level.
pub(super) fn ceilings(cx: &mut Context<'_>, node: &Node) -> Option<Ceilings> {
    let mut fields = Fields::of(cx, node, "`ceilings`")?;
    let egress = fields.optional(cx, "egress", |cx, node| rules(cx, node, Rule::parse_ceiling));
    let clocks = choices(CLOCKS);
    let clock = fields.optional(cx, "clock", |cx, node| choice(cx, node, &clocks));
    let random = fields.optional(cx, "random", boolean);
    let levels = choices(PLUGIN_LOG_LEVELS);
    let log = fields.optional(cx, "log", |cx, node| choice(cx, node, &levels));
    fields.finish(cx);
    Some(Ceilings { egress, clock, random, log })
}

/// What may be granted, with `none` before it.
fn choices<T: Copy, const N: usize>(values: [(&'static str, T); N]) -> Vec<(&'static str, Option<T>)> {
    let values = values.into_iter().map(|(name, value)| (name, Some(value)));
    std::iter::once(("none", None)).chain(values).collect()
}

/// `limits:` of a level.
pub(super) fn limits(cx: &mut Context<'_>, node: &Node, level: Level) -> Option<LevelLimits> {
    const MOST: u32 = 1_000_000;
    let what = if level == Level::Node { "`limits` of the node" } else { "`limits` of a tenant" };
    let mut fields = Fields::of(cx, node, what)?;
    let memory_bytes = fields.optional(cx, "memory", |cx, node| size(cx, node, 64 << 10..=1 << 50));
    let cpu_share = match level {
        Level::Tenant => fields.optional(cx, "cpu_share", |cx, node| integer_u32(cx, node, 1..=1000)),
        Level::Node => {
            let message = "is a share among tenants, and the node has all of it";
            fields.refuse(cx, "cpu_share", Code::KeyConflict, message, "write it into the `limits` of a tenant");
            None
        }
    };
    let limits = LevelLimits {
        memory_bytes,
        cpu_share,
        connections: fields.optional(cx, "connections", |cx, node| integer_u32(cx, node, 1..=MOST)),
        connects: fields.optional(cx, "connects", some_rate),
        lookups: fields.optional(cx, "lookups", some_rate),
        egress_bytes: fields.optional(cx, "egress_bytes", bytes_a_second),
        ingress_bytes: fields.optional(cx, "ingress_bytes", bytes_a_second),
        log_rate_bytes_s: fields.optional(cx, "log_rate", bytes_a_second),
        restarts: fields.optional(cx, "restarts", |cx, node| rate(cx, node, false)),
        queue: fields.optional(cx, "queue", queue).unwrap_or_default(),
    };
    fields.finish(cx);
    Some(limits)
}

fn queue(cx: &mut Context<'_>, node: &Node) -> Option<QueueLimit> {
    let mut fields = Fields::of(cx, node, "`queue`")?;
    let messages = fields.optional(cx, "messages", |cx, node| integer_u32(cx, node, 1..=1_000_000_000));
    let bytes = fields.optional(cx, "bytes", |cx, node| size(cx, node, 1 << 10..=1 << 50));
    fields.finish(cx);
    Some(QueueLimit { messages, bytes })
}
