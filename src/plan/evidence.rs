//! What was linked and what was refused, as the events that the audit knows.

use std::sync::Arc;

use portcullis_audit::{Actor, ConfigFault, Event, Linked, Mode, Refused, Rejection};
use portcullis_config::{Diagnostic, EgressMode, EgressRule, Grants, Plugin, Rate};
use serde_json::{Map, Value, json};

use super::{PipelinePlan, RefusedPlugin};
use crate::capability;
use crate::pipeline::{Stage, actor};
use crate::plugin::{Limits, LinkError};

/// The plugin of a stage as an actor.
pub(crate) fn actor_of(pipeline: &PipelinePlan, stage: &Stage) -> Actor {
    let tenant: Option<Arc<str>> = pipeline.config.tenant.as_ref().map(|tenant| tenant.as_str().into());
    actor(tenant.as_ref(), &pipeline.config.name.as_str().into(), &stage.plugin)
}

/// A component was linked: its digest, its imports by function, its grants and its budgets.
pub(crate) fn linked(pipeline: &PipelinePlan, stage: &Stage) -> Event {
    let plugin = &stage.plugin;
    let typed = pipeline.config.plugins.iter().find(|typed| typed.name.as_str() == plugin.name());
    let is_inert = |import: &&String| capability::decide(import) == capability::Need::Inert;
    let locked = pipeline.locked.plugins.iter().find(|locked| locked.name == plugin.name());
    let manifest = locked.and_then(|locked| locked.manifest.as_ref());
    let fact = Linked {
        version: manifest.map(|manifest| manifest.version.clone()),
        world: plugin.world().to_owned(),
        imports: plugin.imports().iter().filter(|import| !is_inert(import)).cloned().collect(),
        inert: plugin.imports().iter().filter(is_inert).cloned().collect(),
        grants: typed.map(|typed| grants(&typed.grants)).unwrap_or_default(),
        budgets: budgets(&plugin.limits(), typed),
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

/// Something of the files that was refused, and no component.
pub(crate) fn config_rejected(diagnostic: &Diagnostic) -> Event {
    let fault = ConfigFault {
        slug: diagnostic.code.as_str().to_owned(),
        at: diagnostic.at.to_string(),
        detail: diagnostic.message.clone(),
    };
    Event::config_rejected(Actor::bridge(), fault)
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
        LinkError::ImportNotGranted { .. } => Refused::ImportDenied,
        LinkError::ImportNotAvailable { .. } => Refused::ImportNotAvailable,
        LinkError::ImportUnknown { .. } | LinkError::Imports { .. } => Refused::ImportUnknown,
        LinkError::Compile { .. } => Refused::CompileFailed,
        LinkError::Configure { .. } => Refused::ConfigureFailed,
    }
}

/// As they are typed, with the rules in their canonical form; of secrets the names alone.
fn grants(grants: &Grants) -> Value {
    let mut map = Map::new();
    if let Some(level) = &grants.log {
        map.insert("log".to_owned(), json!(level.value.as_str()));
    }
    if let Some(clock) = &grants.clock {
        map.insert("clock".to_owned(), json!(clock.value.as_str()));
    }
    if grants.random.is_some() {
        map.insert("random".to_owned(), json!(true));
    }
    if let Some(egress) = &grants.egress {
        let rule = |rule: &EgressRule| {
            let secrets = rule.secrets.iter().map(|secret| format!(" secret={}", secret.name.as_str()));
            let flags = [(rule.ca.is_some(), " ca"), (rule.client_cert.is_some(), " client_cert")];
            let flags = flags.into_iter().filter(|(set, _)| *set).map(|(_, word)| word.to_owned());
            json!(rule.rule.canonical() + &secrets.chain(flags).collect::<String>())
        };
        map.insert("egress".to_owned(), Value::Array(egress.rules.iter().map(rule).collect()));
        if egress.mode.value == EgressMode::Observe {
            map.insert("egress_mode".to_owned(), json!("observe"));
        }
    }
    Value::Object(map)
}

fn budgets(limits: &Limits, typed: Option<&Plugin>) -> Vec<(&'static str, u64)> {
    let mut budgets = vec![
        ("deadline_ms", limits.deadline_ms),
        ("fuel", limits.fuel),
        ("memory_bytes", limits.memory_bytes),
        ("output_bytes", limits.output_bytes),
        ("log_bytes", limits.log_bytes),
        ("host_calls", limits.host_calls),
        ("handles", u64::from(limits.handles)),
    ];
    budgets.extend(typed.map(|typed| ("log_bytes_per_second", typed.limits.log_rate_bytes_s.value)));
    let Some(typed) = typed.filter(|typed| typed.grants.egress.is_some()) else { return budgets };
    let limits = &typed.limits;
    let per_minute = |rate: &Rate| {
        let milliseconds = u64::try_from(rate.per.as_millis()).unwrap_or(u64::MAX).max(1);
        u64::from(rate.count).saturating_mul(60_000) / milliseconds
    };
    budgets.extend([
        ("concurrency", u64::from(limits.concurrency.value)),
        ("connections", u64::from(limits.connections.value)),
        ("connects_per_minute", per_minute(&limits.connects.value)),
        ("lookups_per_minute", per_minute(&limits.lookups.value)),
    ]);
    budgets.extend(limits.egress_bytes.as_ref().map(|bytes| ("egress_bytes_per_second", bytes.value)));
    budgets.extend(limits.ingress_bytes.as_ref().map(|bytes| ("ingress_bytes_per_second", bytes.value)));
    budgets
}
