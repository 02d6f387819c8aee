//! Links the plugins of a pipeline and makes each configure itself once, so that a refusal comes before the start.

use std::sync::Arc;

use portcullis_config::{
    Clock, Code, Diagnostic, Diagnostics, Disposition, Limits as TypedLimits, Location, Pipeline, Plugin,
    PluginLogLevel,
};
use portcullis_flow::Backoff;

use super::{RefusedPlugin, evidence};
use crate::pipeline::{On, Stage, Way};
use crate::plugin::{self, Grants, Level, Limits, LinkError, LinkedPlugin, PluginSpec, Sandbox};

pub(super) fn link(
    sandbox: &Sandbox,
    pipeline: &Pipeline,
    wrong: &mut Diagnostics,
    refused: &mut Vec<RefusedPlugin>,
) -> Vec<Arc<Stage>> {
    let mut stages = Vec::new();
    for plugin in &pipeline.plugins {
        let spec = spec(pipeline, plugin);
        let linked = sandbox.link(spec).and_then(|linked| match linked.instantiate() {
            Ok(_) => Ok(linked),
            Err(fault) => Err(LinkError::Configure { detail: fault.detail }),
        });
        match linked {
            Ok(linked) => {
                warn_of_over_grants(plugin, &linked);
                stages.push(Arc::new(stage(plugin, linked)));
            }
            Err(error) => {
                refused.push(RefusedPlugin {
                    pipeline: pipeline.name.value.clone(),
                    plugin: plugin.name.value.clone(),
                    tenant: pipeline.tenant.as_ref().map(|tenant| tenant.value.clone()),
                    refused: evidence::refused(&error),
                    detail: error.to_string(),
                    digest: match &error {
                        LinkError::Digest { found, .. } => Some(found.clone()),
                        _ => None,
                    },
                });
                wrong.push(diagnostic(plugin, &error));
            }
        }
    }
    stages
}

fn spec(pipeline: &Pipeline, plugin: &Plugin) -> PluginSpec {
    let grants = &plugin.grants;
    PluginSpec {
        name: plugin.name.as_str().into(),
        pipeline: pipeline.name.as_str().into(),
        tenant: pipeline.tenant.as_ref().map_or("", |tenant| tenant.as_str()).into(),
        component: plugin.component.value.clone(),
        digest: plugin.digest.as_ref().map(|digest| digest.value.clone()),
        config_json: plugin.config.as_ref().map_or_else(|| "{}".to_owned(), |config| config.value.to_json()),
        grants: Grants {
            log: grants.log.as_ref().map(|level| match level.value {
                PluginLogLevel::Debug => Level::Debug,
                PluginLogLevel::Info => Level::Info,
                PluginLogLevel::Warn => Level::Warn,
                PluginLogLevel::Error => Level::Error,
            }),
            clock: grants.clock.as_ref().map(|clock| match clock.value {
                Clock::Coarse => plugin::Clock::Coarse,
                Clock::Precise => plugin::Clock::Precise,
            }),
            random: grants.random.is_some(),
        },
        limits: limits(&plugin.limits),
    }
}

fn limits(typed: &TypedLimits) -> Limits {
    Limits {
        deadline_ms: u64::try_from(typed.deadline.as_millis()).unwrap_or(u64::MAX),
        fuel: typed.fuel.value,
        memory_bytes: typed.memory_bytes.value,
        output_bytes: typed.output_bytes.value,
        log_bytes: typed.log_bytes.value,
        host_calls: typed.host_calls.value,
        handles: typed.handles.value,
    }
}

fn stage(plugin: &Plugin, linked: Arc<LinkedPlugin>) -> Stage {
    let way = |disposition| match disposition {
        Disposition::DeadLetter => Way::DeadLetter,
        Disposition::Drop => Way::Drop,
        Disposition::Stop => Way::Stop,
    };
    let on = On {
        reject: way(plugin.on.reject.value),
        fault: way(plugin.on.fault.value),
        drop_allowed: plugin.on.may_drop.value,
        backoff: Backoff {
            min: plugin.on.retry.backoff_min.value,
            max: plugin.on.retry.backoff_max.value,
            attempts: plugin.on.retry.attempts.value,
        },
    };
    {
        let restarts = plugin.limits.restarts.value;
        Stage::new(linked, on, restarts.count, restarts.per)
    }
}

/// A grant that the component never asked for is not an error, but somebody should take it away.
fn warn_of_over_grants(plugin: &Plugin, linked: &LinkedPlugin) {
    let imports = |prefix: &str| linked.imports().iter().any(|import| import.starts_with(prefix));
    let grants = &plugin.grants;
    let unused = [
        ("log", grants.log.as_ref().map(|log| &log.at), "portcullis:plugin/log"),
        ("clock", grants.clock.as_ref().map(|clock| &clock.at), "wasi:clocks/"),
        ("random", grants.random.as_ref(), "wasi:random/"),
    ];
    for (grant, at, prefix) in unused {
        if let Some(at) = at
            && !imports(prefix)
        {
            tracing::warn!(%at, plugin = %plugin.name.value, grant, "over-grant: the component does not import it");
        }
    }
}

/// Where an operator has to look, and what would help.
fn diagnostic(plugin: &Plugin, error: &LinkError) -> Diagnostic {
    let at: &Location = match error {
        LinkError::Digest { .. } | LinkError::DigestForm { .. } => {
            plugin.digest.as_ref().map_or(&plugin.component.at, |digest| &digest.at)
        }
        LinkError::Configure { .. } => plugin.config.as_ref().map_or(&plugin.component.at, |config| &config.at),
        _ => &plugin.component.at,
    };
    let message = format!("plugin `{}` ({}): {error}", plugin.name.value, plugin.component.value.display());
    let diagnostic = at.diagnostic(Code::Other(evidence::refused(error).as_str()), message);
    match error {
        LinkError::ImportNotGranted { yaml, .. } => diagnostic.help(format!("add `{yaml}` to the plugin, if you trust it with that")),
        LinkError::NotFound { .. } => {
            diagnostic.help("paths are relative to the pipeline file; `cargo xtask guests` builds the shipped plugins")
        }
        LinkError::Digest { found, .. } => {
            diagnostic.help(format!("if the new component is the one you want: `digest: {found}`"))
        }
        LinkError::World { .. } => diagnostic.help(
            "a plugin exports portcullis:plugin/validation@0.1.0 (validator) or portcullis:plugin/enrichment@0.1.0 (enricher)",
        ),
        LinkError::Configure { .. } => diagnostic.help("the plugin's `configure` runs in the sandbox with the `config:` of this entry"),
        _ => diagnostic,
    }
}
