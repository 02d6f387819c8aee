//! What was linked and what was refused, as the events that the audit knows.

use std::sync::Arc;

use portcullis_audit::{Actor, Event, Linked, Mode, Refused, Rejection};
use serde_json::{Map, Value, json};

use super::{PipelinePlan, RefusedPlugin};
use crate::capability;
use crate::pipeline::{Stage, actor};
use crate::plugin::{Clock, Limits, LinkError, LinkedPlugin};

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
    // What a plugin says of its configuration may quote it, secrets among it: that is for the operator's eyes.
    let detail = match plugin.refused {
        Refused::ConfigureFailed => "the plugin refused its configuration".to_owned(),
        _ => plugin.detail.clone(),
    };
    Event::plugin_rejected(actor, Rejection { refused: plugin.refused, detail, version: None })
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
        LinkError::Function { .. } => Refused::WorldMismatch,
        LinkError::Manifest { .. } | LinkError::ManifestMissing => Refused::ManifestInvalid,
        LinkError::ImportOutsideManifest { .. } => Refused::ManifestMissingImport,
        LinkError::GrantMissing { .. } => Refused::GrantMissing,
        LinkError::GrantAboveCeiling { .. } => Refused::GrantAboveCeiling,
        LinkError::Drift { .. } => Refused::LockDrift,
        LinkError::NameConflict { .. } => Refused::NameConflict,
        LinkError::Changed { .. } => Refused::DigestMismatch,
        LinkError::ImportNotGranted { .. } => Refused::ImportDenied,
        LinkError::ImportNotAvailable { .. } => Refused::ImportNotAvailable,
        LinkError::ImportUnknown { .. } | LinkError::Imports { .. } => Refused::ImportUnknown,
        LinkError::Compile { .. } => Refused::CompileFailed,
        LinkError::Configure { .. } => Refused::ConfigureFailed,
    }
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
