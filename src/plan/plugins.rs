//! Links the plugins of a pipeline and makes each configure itself once, so that a refusal comes before the start.

use std::borrow::Cow;
use std::path::Path;
use std::sync::{Arc, Mutex};

use portcullis_config::{
    Clock, Code, Diagnostic, Diagnostics, Disposition, EgressGrant, EgressMode, Instance, Limits as TypedLimits,
    Location, Pipeline, Plugin, PluginLogLevel, Rate, Setting,
};
use portcullis_flow::Backoff;

use super::admission::Admission;
use super::egress::Networks;
use super::evidence;
use super::levels::Levels;
use super::locked::{LockedPipeline, LockedPlugin};
use super::needed;
use crate::pipeline::{EgressMaker, Life, On, RestartSum, Restarts, Stage, Way};
use crate::plugin::{self, Grants, Level, Limits, LinkError, LinkedPlugin, PluginSpec, Wish};

/// The stages of a pipeline, and what was linked for its lock. A plugin that is refused is missing in both.
pub(super) fn link(
    admission: &mut Admission<'_>,
    pipeline: &Pipeline,
    networks: &Networks<'_>,
    levels: &Levels,
    wrong: &mut Diagnostics,
) -> (Vec<Arc<Stage>>, LockedPipeline) {
    let linked =
        pipeline.plugins.iter().filter_map(|plugin| link_one(admission, pipeline, plugin, networks, levels, wrong));
    let (stages, locked): (Vec<_>, Vec<_>) = linked.unzip();
    let locked = LockedPipeline::new(pipeline, locked);
    // Where a plugin is missing, its refusal has been said, and the rest would only repeat it.
    if stages.len() == pipeline.plugins.len() {
        admission.compare(pipeline, &locked, wrong);
    }
    (stages, locked)
}

/// What is wrong with the plugins of a pipeline that has errors of its own already. Of one whose entry is among them only the
/// component is looked at: the rest would follow from the defaults that stand for what is wrong.
pub(super) fn look(
    admission: &mut Admission<'_>,
    pipeline: &Pipeline,
    networks: &Networks<'_>,
    levels: &Levels,
    wrong: &mut Diagnostics,
) {
    for plugin in &pipeline.plugins {
        if plugin.is_whole {
            drop(link_one(admission, pipeline, plugin, networks, levels, wrong));
        } else {
            admission.look(pipeline, plugin, wrong);
        }
    }
}

fn link_one(
    admission: &mut Admission<'_>,
    pipeline: &Pipeline,
    typed: &Plugin,
    networks: &Networks<'_>,
    levels: &Levels,
    wrong: &mut Diagnostics,
) -> Option<(Arc<Stage>, LockedPlugin)> {
    let admitted = admission.admit(pipeline, typed, wrong)?;
    let left_out = admitted.left_out(&typed.grants);
    let plugin = &without_rules(typed, &left_out);
    let network = match networks.network(pipeline, plugin) {
        Ok(network) => network,
        Err(diagnostics) => {
            wrong.extend(diagnostics);
            return None;
        }
    };
    // The bytes that were looked at are those that are compiled, also where the file is exchanged in between.
    match admission.sandbox.link_file(&admitted.file, spec(pipeline, plugin, levels, left_out)) {
        Ok(linked) => {
            idle_concurrency(plugin, linked.may_wait()).into_iter().for_each(|found| wrong.push(found));
            let files = network.as_ref().map(|network| network.files.clone()).unwrap_or_default();
            let locked = admission.locked(pipeline, typed, &admitted, files);
            let egress = network.map(|network| network.maker(pipeline, &linked));
            let sums = levels.restarts(pipeline.tenant.as_ref().map(|tenant| tenant.as_str()));
            Some((Arc::new(stage(plugin, linked, egress, sums)), locked))
        }
        Err(error) => {
            admission.failed(pipeline, plugin, &admitted, &error, wrong);
            None
        }
    }
}

/// A lane makes one call at a time of a component that waits for nothing outside: more could not be at work in it.
fn idle_concurrency(plugin: &Plugin, may_wait: bool) -> Option<Diagnostic> {
    let concurrency = &plugin.limits.concurrency;
    let at = concurrency.at.as_ref().filter(|_| concurrency.value > 1 && !may_wait)?;
    let message = format!(
        "`concurrency: {}` is not enforced: the component of plugin `{}` imports no network, so it waits for nothing, and each lane makes one call at a time",
        concurrency.value, plugin.name.value
    );
    Some(
        at.diagnostic(Code::LimitNotEnforced, message)
            .help("remove it; `lanes` of the pipeline bounds how many calls run at once"),
    )
}

/// A network that is left out is one without a rule: it refuses each call and records it.
fn without_rules<'a>(plugin: &'a Plugin, left_out: &[Wish]) -> Cow<'a, Plugin> {
    if !left_out.contains(&Wish::Egress) {
        return Cow::Borrowed(plugin);
    }
    let mut plugin = plugin.clone();
    let mode = Setting::default_of(EgressMode::Enforce);
    plugin.grants.egress = Some(EgressGrant { at: plugin.component.at.clone(), rules: Vec::new(), mode });
    Cow::Owned(plugin)
}

fn spec(pipeline: &Pipeline, plugin: &Plugin, levels: &Levels, left_out: Vec<Wish>) -> PluginSpec {
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
            egress: grants.egress.is_some(),
        },
        left_out,
        limits: limits(&plugin.limits),
        sums: levels.sums(pipeline.tenant.as_ref().map(|tenant| tenant.as_str()), plugin.limits.log_rate_bytes_s.value),
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

fn stage(plugin: &Plugin, linked: Arc<LinkedPlugin>, egress: Option<EgressMaker>, sums: Vec<Arc<RestartSum>>) -> Stage {
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
    let Rate { count, per } = plugin.limits.restarts.value;
    let mut stage = Stage::new(linked, on, Restarts { most: count, window: per, sums });
    stage.concurrency = plugin.limits.concurrency.value as usize;
    stage.life = match plugin.instance.value {
        Instance::Batch => Life::Batch,
        Instance::Message => Life::Message,
        Instance::Lane => Life::Lane,
    };
    stage.egress = Mutex::new(egress);
    stage
}

/// Whether a file is called as a plugin of this repository is.
fn is_shipped(component: &Path) -> bool {
    let shipped = ["json-schema.wasm", "stamp.wasm", "http-enrich.wasm", "redact.wasm"];
    component.file_name().is_some_and(|name| shipped.iter().any(|shipped| name == *shipped))
}

/// How an operator accepts what a lock refuses.
pub(super) const DRIFT_HELP: &str =
    "`portcullis link FILE` shows what differs and locks it anew; other bytes of a component need `--update` too";

/// Where an operator has to look, and what would help. The error may know a place that is more exact than its kind's.
pub(super) fn diagnostic(plugin: &Plugin, at: Option<&Location>, error: &LinkError) -> Diagnostic {
    let at = at.unwrap_or(match error {
        LinkError::Digest { .. } | LinkError::DigestForm { .. } => {
            plugin.digest.as_ref().map_or(&plugin.component.at, |digest| &digest.at)
        }
        // A plugin mostly says which key it is; the plugin chose the text, so it can do no more than choose a line of its own.
        LinkError::Configure { detail } => {
            plugin.config.as_ref().map_or(&plugin.component.at, |config| config.place_in(detail).unwrap_or(&config.at))
        }
        _ => &plugin.component.at,
    });
    diagnostic_at(at, &plugin.name.value, &plugin.component.value, error)
}

/// The same where only names are known.
pub(super) fn diagnostic_at(at: &Location, plugin: &str, component: &Path, error: &LinkError) -> Diagnostic {
    let message = format!("plugin `{plugin}` ({}): {error}", component.display());
    let diagnostic = at.diagnostic(Code::Other(evidence::refused(error).as_str()), message);
    match error {
        LinkError::ImportNotGranted { yaml, .. } | LinkError::GrantMissing { yaml, .. } => {
            let fill_in = needed::to_fill_in(yaml).map(|what| format!("; {what}")).unwrap_or_default();
            diagnostic.help(format!("add `{yaml}` to the plugin, if you trust it with that{fill_in}"))
        }
        LinkError::NotFound { .. } => diagnostic.help(match is_shipped(component) {
            true => "paths are relative to the pipeline file; `cargo xtask guests` builds the shipped plugins",
            false => "paths are relative to the pipeline file; `portcullis plugin build` in the folder of a plugin's crate builds it",
        }),
        LinkError::Digest { found, .. } => {
            diagnostic.help(format!("if the new component is the one you want: `digest: {found}`"))
        }
        LinkError::World { .. } => diagnostic.help(
            "a plugin exports portcullis:plugin/validation@0.1.0 (validator) or portcullis:plugin/enrichment@0.1.0 (enricher)",
        ),
        LinkError::ImportOutsideManifest { .. } => {
            diagnostic.help("its author has to put it into the manifest with a reason; a grant alone does not replace that")
        }
        LinkError::GrantAboveCeiling { .. } => diagnostic.help("take it away, or raise the ceiling in the node's file"),
        LinkError::ManifestMissing => {
            diagnostic.help("a file `<component>.manifest.yaml` beside the component holds one; docs/linking.md has its form")
        }
        LinkError::Drift { .. } => diagnostic.help(DRIFT_HELP),
        LinkError::NameConflict { .. } => {
            diagnostic.help("a name with a version means one component; another build has another version")
        }
        LinkError::Configure { .. } => diagnostic.help("the plugin's `configure` runs in the sandbox with the `config:` of this entry"),
        _ => diagnostic,
    }
}
