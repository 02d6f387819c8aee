//! `portcullis run`.

mod dry;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use ipnet::IpNet;
use portcullis_config::{Code, Diagnostics, Environment, Location, ProcessEnvironment};

use super::engine::Engine;
use super::{DONE, FAILED, Format, NodeArguments, REFUSED, report, signals};
use crate::audit_store::{self, Target};
use crate::connectors::Instead;
use crate::plan::{self, LockUse, Options, Plan, evidence};
use crate::telemetry::log;
use crate::telemetry::readiness::Readiness;

/// How long a start that was refused waits for its evidence.
const REFUSAL_WAIT: Duration = Duration::from_secs(10);

// What is missing is said above it; a usage made of every option that was typed hides that.
#[derive(Args, Clone, Debug)]
#[command(
    override_usage = "portcullis run [OPTIONS] <FILE>...\n       portcullis run --dry-run <N> [OPTIONS] <FILE>..."
)]
pub(super) struct RunArguments {
    /// Pipeline files, or folders of them.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Refuses pipelines without a `portcullis.lock` beside them. Where there is one, what differs from it is refused anyway.
    #[arg(long)]
    locked: bool,
    #[command(flatten)]
    dry: dry::DryArguments,
    #[command(flatten)]
    node: NodeArguments,
}

pub(super) fn run(arguments: &RunArguments) -> u8 {
    let lock = if arguments.locked { LockUse::Require } else { LockUse::Compare };
    if let Some(messages) = arguments.dry.messages {
        return dry::run(&arguments.files, &arguments.node, lock, &arguments.dry, messages);
    }
    let plan = match planned(&arguments.files, &arguments.node, Beside { lock, ..Beside::default() }) {
        Ok(plan) => plan,
        Err(refusal) => {
            // Said first: an audit that cannot be reached must not keep the answer from a person.
            let code = report::refused(&refusal, Format::Text);
            record_in_node(&refusal);
            return code;
        }
    };
    let target = match Target::of(&plan.node) {
        Ok(target) => target,
        Err(diagnostic) => return report::refused_by(diagnostic),
    };
    let engine = match Engine::start(plan, &target) {
        Ok(engine) => engine,
        Err(error) => {
            eprintln!("portcullis: refused to start: {error:#}");
            return REFUSED;
        }
    };
    match until_the_end(engine, &target) {
        Ok(()) => DONE,
        Err(error) => {
            eprintln!("portcullis: {error:#}");
            FAILED
        }
    }
}

fn until_the_end(engine: Engine, target: &Target) -> anyhow::Result<()> {
    signals::listen(engine.stop.clone(), Arc::new(engine.unfinished()))?;
    tracing::info!(admin = %engine.address, audit = %target.name(), "started");
    engine.join()
}

/// What a subcommand puts beside the files.
#[derive(Default)]
pub(super) struct Beside {
    /// Where every Kafka connection goes instead.
    pub(super) instead: Option<Instead>,
    /// Addresses that rules may name although they are special.
    pub(super) consent: Vec<IpNet>,
    /// A variable with its value.
    pub(super) variable: Option<(String, String)>,
    /// What is done with the locks beside the files.
    pub(super) lock: LockUse,
}

/// The process's environment with one variable more. The process itself is not changed: threads read its environment.
struct WithVariable {
    variable: Option<(String, String)>,
}

impl Environment for WithVariable {
    fn var(&self, name: &str) -> Option<String> {
        let own = self.variable.as_ref().filter(|(own, _)| own == name).map(|(_, value)| value.clone());
        own.or_else(|| ProcessEnvironment.var(name))
    }

    fn with_prefix(&self, prefix: &str) -> Vec<(String, String)> {
        ProcessEnvironment.with_prefix(prefix)
    }

    fn is_given(&self, name: &str) -> bool {
        self.variable.as_ref().is_some_and(|(given, _)| given == name)
    }
}

/// Reads and resolves what a subcommand was given, and sets up the log in between.
pub(super) fn planned(files: &[PathBuf], node: &NodeArguments, beside: Beside) -> Result<Plan, plan::Refusal> {
    let Beside { instead, consent, variable, lock } = beside;
    let environment = WithVariable { variable };
    let options = Options {
        environment: &environment,
        node_file: node.node.as_deref(),
        flags: node.flags(),
        instead,
        no_cache: node.no_cache,
        consent,
        lock,
    };
    let typed = plan::read(files, &options)?;
    let format = match typed.node.log.format.value {
        portcullis_config::LogFormat::Text => log::Format::Text,
        portcullis_config::LogFormat::Json => log::Format::Json,
    };
    let level = node.log.clone().unwrap_or_else(|| typed.node.log.level.as_str().to_owned());
    if let Err(error) = log::install(format, &level) {
        let mut wrong = Diagnostics::new();
        wrong.push(Location::of("--log").diagnostic(Code::ValueInvalid, format!("{error:#}")));
        return Err(wrong.into());
    }
    typed.resolve(&options)
}

/// Where the node's settings could not be read it is not known where its audit is.
fn record_in_node(refusal: &plan::Refusal) {
    let Some(node) = &refusal.node else { return };
    let target = Target::of(node).map_err(|diagnostic| anyhow::anyhow!("{}", diagnostic.message));
    record_refusal(refusal, target);
}

/// What was refused leaves evidence, also when nothing else runs: components, and whatever else is wrong with the files.
pub(super) fn record_refusal(refusal: &plan::Refusal, target: anyhow::Result<Target>) {
    let of_plugins: Vec<&str> = refusal.plugins.iter().map(|plugin| plugin.refused.as_str()).collect();
    let deadline = refusal.node.as_ref().map_or(REFUSAL_WAIT, |node| node.audit.deadline.value);
    let recorded = target.and_then(|target| {
        let audit = audit_store::start(&target, deadline, Readiness::default(), None)?;
        for plugin in &refusal.plugins {
            audit.recorder.record(evidence::rejected(plugin));
        }
        for diagnostic in refusal.diagnostics.iter().filter(|one| !of_plugins.contains(&one.code.as_str())) {
            audit.recorder.record(evidence::config_rejected(diagnostic));
        }
        Ok(audit.recorder.shutdown(REFUSAL_WAIT)?)
    });
    if let Err(error) = recorded {
        tracing::error!(error = %format!("{error:#}"), "what was refused could not be recorded in the audit");
    }
}
