//! One component in the sandbox of a real plan: linked against real grants, under real budgets, its evidence kept in memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use portcullis_audit::{MemoryStore, Recorder};
use portcullis_config::{Flags, NoEnvironment, ProcessEnvironment, load_node, load_pipeline};
use portcullis_connector_local::envelope::Line;
use portcullis_net::Egress;
use serde_json::Value;

use crate::audit_store;
use crate::cli::input;
use crate::pipeline::Stage;
use crate::plan::{LockUse, Options, Plan, Refusal, Typed};
use crate::plugin::Instance;

/// How long the end waits for the events of a trial.
const EVENTS_WAIT: Duration = Duration::from_secs(10);

/// What both `test` and `bench` take.
#[derive(Args, Clone, Debug)]
pub(super) struct TrialArguments {
    /// The component file.
    #[arg(value_name = "COMPONENT")]
    pub(super) component: PathBuf,
    /// Messages as JSON Lines: `{"key":..,"value":..,"headers":[[..,..]]}`, as the file connector reads them.
    #[arg(long, value_name = "FILE")]
    pub(super) input: PathBuf,
    /// The plugin's configuration, YAML or JSON: what stands under `config:` of a pipeline.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The plugin's grants, YAML: what stands under `grants:` of a pipeline. Without it nothing is granted.
    #[arg(long, value_name = "FILE")]
    grants: Option<PathBuf>,
    /// The plugin's limits, YAML: what stands under `limits:` of a pipeline.
    #[arg(long, value_name = "FILE")]
    limits: Option<PathBuf>,
}

/// A component that is linked and configured.
pub(super) struct Trial {
    pub(super) stage: Arc<Stage>,
    egress: Option<Arc<Egress>>,
    recorder: Recorder,
    store: MemoryStore,
    _plan: Plan,
}

impl Trial {
    /// Links and configures the component.
    ///
    /// # Errors
    /// The refusal of a pipeline that had such a plugin.
    pub(super) fn link(arguments: &TrialArguments) -> Result<Self, Refusal> {
        let text = arguments.pipeline().map_err(|error| refused(&error))?;
        // Positions in errors are those of this text, which the caret shows.
        let pipeline = load_pipeline(Path::new("plugin-test.yaml"), text.as_bytes(), &ProcessEnvironment)?;
        // The variables of whoever tests are not those of a node.
        let node = load_node(None, &NoEnvironment, &Flags::new())?;
        let options = Options {
            environment: &NoEnvironment,
            node_file: None,
            flags: Flags::new(),
            instead: None,
            no_cache: false,
            lock: LockUse::Ignore,
            consent: Vec::new(),
        };
        let plan = Typed::of(node, vec![pipeline]).resolve(&options)?;
        let stage = plan.pipelines.iter().flat_map(|pipeline| &pipeline.stages).next().cloned();
        let Some(stage) = stage else { return Err(refused(&anyhow::anyhow!("the plan has no plugin"))) };
        let store = MemoryStore::new();
        let recorder = audit_store::in_memory(store.clone()).map_err(|error| refused(&error))?;
        let egress = stage.open_egress(&recorder);
        Ok(Self { stage, egress, recorder, store, _plan: plan })
    }

    /// An instance, configured.
    ///
    /// # Errors
    /// The fault of `configure`.
    pub(super) fn instance(&self) -> anyhow::Result<Instance> {
        self.stage.plugin.instantiate(self.egress.as_ref()).map_err(|fault| anyhow::anyhow!("{fault}"))
    }

    /// How many events of each code the trial has left. The instances must be gone: each records what it counted at its end.
    ///
    /// # Errors
    /// When the writer does not end.
    pub(super) fn events(self) -> anyhow::Result<BTreeMap<String, u64>> {
        drop(self.egress);
        self.recorder.shutdown(EVENTS_WAIT)?;
        let mut counts = BTreeMap::new();
        for event in self.store.events() {
            let code = event.pointer("/metadata/event_code").and_then(Value::as_str).unwrap_or_default();
            if !code.starts_with("audit.") {
                *counts.entry(code.to_owned()).or_default() += event.get("count").and_then(Value::as_u64).unwrap_or(1);
            }
        }
        Ok(counts)
    }
}

impl TrialArguments {
    /// The smallest pipeline that has the plugin.
    fn pipeline(&self) -> anyhow::Result<String> {
        let mut text = format!(
            "pipeline: plugin-test\nsource: {{ stdio: {{ format: jsonl }} }}\nsink: {{ stdio: {{ format: jsonl }} }}\nplugins:\n  - name: plugin\n    component: {}\n",
            quoted(&self.component)?
        );
        if let Some(config) = &self.config {
            text.push_str(&format!("    config: {{ $file: {} }}\n", quoted(config)?));
        }
        for (key, file) in [("grants", &self.grants), ("limits", &self.limits)] {
            let Some(file) = file else { continue };
            let block = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            text.push_str(&format!("    {key}:\n"));
            block.lines().for_each(|line| text.push_str(&format!("      {line}\n")));
        }
        Ok(text)
    }

    /// The messages of the input file.
    ///
    /// # Errors
    /// A line that is none, with its place.
    pub(super) fn messages(&self) -> anyhow::Result<Vec<Line>> {
        Ok(input::read(&self.input, "test")?.into_iter().map(|(_, line)| line).collect())
    }
}

/// As YAML takes it: every JSON string is one.
fn quoted(path: &Path) -> anyhow::Result<String> {
    let path = path.canonicalize().with_context(|| format!("cannot read {}", path.display()))?;
    let Some(text) = path.to_str() else { bail!("the path {} is not UTF-8", path.display()) };
    // A `$` begins a variable in the values of a pipeline.
    Ok(serde_json::Value::from(text.replace('$', "$$")).to_string())
}

fn refused(error: &anyhow::Error) -> Refusal {
    let at = portcullis_config::Location::of("plugin");
    let diagnostic = at.diagnostic(portcullis_config::Code::FileUnreadable, format!("{error:#}"));
    portcullis_config::Diagnostics::from(diagnostic).into()
}
