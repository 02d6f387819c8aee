//! What happens in the data path, as the events that the audit knows.

use std::sync::Arc;
use std::time::Duration;

use portcullis_audit::{Actor, Budget, DeadLetter, Disabled, Event, Quarantine, Scope, Source, Trap, Window};
use portcullis_flow::{FaultKind, Full, QueueLevel};

use crate::plugin::{Fault, LinkedPlugin, LogCut, TurnsWaited};

/// The kind of waiting for a turn on the processor.
pub(crate) const CPU_SHARE: &str = "cpu.share";

/// The kind of instances that were lost to faults.
pub(crate) const RESTARTS: &str = "restarts";

/// The plugin as an actor.
pub(crate) fn actor(tenant: Option<&Arc<str>>, pipeline: &Arc<str>, plugin: &LinkedPlugin) -> Actor {
    Actor::plugin(tenant.cloned(), pipeline.clone(), plugin.name().into(), Some(plugin.digest().into()))
}

/// A call failed: a budget, or a trap.
pub(crate) fn faulted(actor: Actor, plugin: &LinkedPlugin, fault: &Fault, source: Source) -> Event {
    let limits = plugin.limits();
    let own = match fault.kind {
        FaultKind::Fuel => Some(limits.fuel),
        FaultKind::Deadline => Some(limits.deadline_ms),
        FaultKind::Memory => Some(limits.memory_bytes),
        FaultKind::Output => Some(limits.output_bytes),
        FaultKind::HostCalls => Some(limits.host_calls),
        FaultKind::Handles => Some(u64::from(limits.handles)),
        FaultKind::Stack | FaultKind::Quota => None,
        kind => {
            let trap = Trap { kind: kind.as_str(), detail: fault.detail.clone(), instance: None, discarded: true };
            return Event::plugin_trapped(actor, trap).about(source);
        }
    };
    let (scope, limit) = match (fault.above, fault.kind) {
        (Some((scope, limit)), _) => (scope, Some(limit)),
        (None, FaultKind::Memory | FaultKind::Handles) => (Scope::Instance, own),
        (None, _) => (Scope::Invocation, own),
    };
    let budget =
        Budget { kind: fault.kind.as_str(), limit, used: None, scope, detail: fault.detail.clone(), window: None };
    Event::budget_exceeded(actor, budget).about(source)
}

/// Log lines were cut: the message passes, and what is missing is told.
pub(crate) fn log_cut(actor: Actor, cut: LogCut) -> Event {
    let unit = if cut.scope == Scope::Invocation { "bytes of a call" } else { "bytes a second" };
    let budget = Budget {
        kind: "log.bytes",
        limit: Some(cut.limit_bytes),
        used: None,
        scope: cut.scope,
        detail: format!("log.bytes: {} bytes past {} {unit} were cut", cut.bytes, cut.limit_bytes),
        window: None,
    };
    Event::budget_exceeded(actor, budget)
}

/// Calls of a plugin have waited for their tenant's turns on the processor.
pub(crate) fn turns_waited(actor: Actor, waited: &TurnsWaited, window: Window) -> Event {
    let TurnsWaited { turns, time, share } = waited;
    let budget = Budget {
        kind: CPU_SHARE,
        limit: Some(*share),
        used: None,
        scope: Scope::Tenant,
        detail: format!("cpu.share: {turns} calls waited {} ms in all for one of {share} turns", time.as_millis()),
        window: Some(window),
    };
    Event::budget_exceeded(actor, budget)
}

/// Which limit a full queue has met: its kind, whose it is, and the number.
pub(crate) fn queue_limit(full: Full) -> (&'static str, Scope, u64) {
    let kind = if full.in_bytes { "queue.bytes" } else { "queue.messages" };
    let scope = match full.level {
        QueueLevel::Own => Scope::Pipeline,
        QueueLevel::Tenant => Scope::Tenant,
        QueueLevel::Node => Scope::Node,
    };
    (kind, scope, full.limit as u64)
}

/// The plugins of a tenant or of the node lost too many instances, this one the last.
pub(crate) fn restarts_of_level(actor: Actor, scope: Scope, limit: u64) -> Event {
    let detail = format!("{RESTARTS}: the plugins of the {} lost more than {limit} instances", scope.as_str());
    Event::budget_exceeded(
        actor,
        Budget { kind: RESTARTS, limit: Some(limit), used: None, scope, detail, window: None },
    )
}

/// A plugin lost too many instances.
pub(crate) fn disabled(actor: Actor, fault: &Fault, quarantine: Duration) -> Event {
    let detail = fault.detail.clone();
    let quarantine_ms = u64::try_from(quarantine.as_millis()).ok();
    Event::plugin_disabled(actor, Disabled { kind: fault.kind.as_str(), detail, quarantine_ms })
}

/// What [`quarantined`] tells.
pub(crate) struct Quarantined {
    pub(crate) actor: Actor,
    pub(crate) source: Source,
    pub(crate) channel: String,
    pub(crate) queue: String,
    pub(crate) position: String,
    pub(crate) kind: FaultKind,
    pub(crate) code: String,
    pub(crate) truncated: bool,
    pub(crate) attempts: u32,
}

/// A message is in the dead letter queue.
pub(crate) fn quarantined(what: Quarantined) -> Event {
    let quarantine = Quarantine {
        channel: what.channel,
        dead_letter: Some(DeadLetter { queue: what.queue, position: what.position }),
        kind: what.kind.as_str(),
        code: what.code,
        truncated: what.truncated,
        attempts: what.attempts,
    };
    Event::record_quarantined(what.actor, what.source, quarantine)
}
