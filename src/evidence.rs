//! From what happens in the bridge to the events that the audit knows.

use std::sync::Arc;
use std::time::Duration;

use portcullis_audit::{
    Actor, Budget, DeadLetter, Disabled, Event, Linked, Mode, Quarantine, Refused, Rejection, Scope, Trap,
};
use portcullis_flow::FaultKind;
use serde_json::{Map, Value, json};

use crate::capability;
use crate::pipeline::Stage;
use crate::plan::{PipelinePlan, RefusedPlugin};
use crate::plugin::{Clock, Fault, Limits, LinkError, LinkedPlugin};

/// The plugin as an actor.
pub(crate) fn actor(tenant: Option<&Arc<str>>, pipeline: &Arc<str>, plugin: &LinkedPlugin) -> Actor {
    Actor::plugin(tenant.cloned(), pipeline.clone(), plugin.name().into(), Some(plugin.digest().into()))
}

/// The plugin of a stage as an actor.
pub(crate) fn actor_of(pipeline: &PipelinePlan, stage: &Stage) -> Actor {
    let tenant: Option<Arc<str>> = pipeline.config.tenant.as_ref().map(|tenant| tenant.as_str().into());
    actor(tenant.as_ref(), &pipeline.config.name.as_str().into(), &stage.plugin)
}

/// A component was linked: its digest, its imports by function, its grants and its budgets.
pub(crate) fn linked(pipeline: &PipelinePlan, stage: &Stage) -> Event {
    let plugin = &stage.plugin;
    let is_inert = |import: &&String| capability::decide(import) == capability::Need::Inert;
    let fact = Linked {
        version: None,
        world: plugin.world().to_owned(),
        imports: plugin.imports().iter().filter(|import| !is_inert(import)).cloned().collect(),
        inert: plugin.imports().iter().filter(is_inert).cloned().collect(),
        grants: grants(plugin),
        budgets: budgets(&plugin.limits()),
        mode: Mode::Buffered,
    };
    Event::plugin_linked(actor_of(pipeline, stage), fact)
}

/// A component was refused before anything ran.
pub(crate) fn rejected(plugin: &RefusedPlugin) -> Event {
    let actor = Actor::plugin(
        plugin.tenant.as_deref().map(Arc::from),
        plugin.pipeline.as_str().into(),
        plugin.plugin.as_str().into(),
        plugin.digest.as_deref().map(Arc::from),
    );
    Event::plugin_rejected(actor, Rejection { refused: plugin.refused, detail: plugin.detail.clone(), version: None })
}

/// The audit's word for a refusal; `--format json` uses the same.
pub(crate) fn refused(error: &LinkError) -> Refused {
    match error {
        LinkError::NotFound { .. } | LinkError::Read { .. } => Refused::Unreadable,
        LinkError::TooLarge { .. } => Refused::TooLarge,
        LinkError::NotAComponent { .. } => Refused::NotAComponent,
        LinkError::DigestForm { .. } | LinkError::Digest { .. } => Refused::DigestMismatch,
        LinkError::Invalid { .. } => Refused::Invalid,
        LinkError::World { .. } => Refused::WorldMismatch,
        LinkError::ContractVersion { .. } => Refused::ContractVersion,
        LinkError::ImportNotGranted { .. } => Refused::ImportDenied,
        LinkError::ImportNotAvailable { .. } => Refused::ImportNotAvailable,
        LinkError::ImportUnknown { .. } | LinkError::Imports { .. } => Refused::ImportUnknown,
        LinkError::Compile { .. } => Refused::CompileFailed,
        LinkError::Configure { .. } => Refused::ConfigureFailed,
    }
}

/// A call failed: a budget, or a trap. `source` is `pipeline/topic-partition@offset`.
pub(crate) fn faulted(actor: Actor, plugin: &LinkedPlugin, fault: &Fault, source: String) -> Event {
    let limits = plugin.limits();
    let limit = match fault.kind {
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
    let scope = match fault.kind {
        FaultKind::Memory | FaultKind::Handles => Scope::Instance,
        _ => Scope::Invocation,
    };
    let budget = Budget { kind: fault.kind.as_str(), limit, used: None, scope, detail: fault.detail.clone() };
    Event::budget_exceeded(actor, budget).about(source)
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
    pub(crate) source: String,
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

fn grants(plugin: &LinkedPlugin) -> Value {
    let grants = plugin.grants();
    let mut map = Map::new();
    if let Some(level) = grants.log {
        map.insert("log".to_owned(), json!(level.to_string()));
    }
    if let Some(clock) = grants.clock {
        let word = match clock {
            Clock::Coarse => "coarse",
            Clock::Precise => "precise",
        };
        map.insert("clock".to_owned(), json!(word));
    }
    if grants.random {
        map.insert("random".to_owned(), json!(true));
    }
    Value::Object(map)
}

fn budgets(limits: &Limits) -> Vec<(&'static str, u64)> {
    vec![
        ("deadline_ms", limits.deadline_ms),
        ("fuel", limits.fuel),
        ("memory_bytes", limits.memory_bytes),
        ("output_bytes", limits.output_bytes),
        ("log_bytes", limits.log_bytes),
        ("host_calls", limits.host_calls),
        ("handles", u64::from(limits.handles)),
    ]
}
