//! `portcullis run --dry-run N`: messages of the real sources through the real chain, and nothing of it leaves.

mod limited;
mod preview;
mod report;
mod text;

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use portcullis_audit::{Actor, MemoryStore, Recorder};
use portcullis_config::{format_size, parse_duration, parse_size};
use portcullis_connector_api::{ConnectorError, Source};

use self::limited::{Limited, Turns};
use self::preview::DrySink;
use self::report::{End, Report, Shown, begin, watcher};
use super::{Beside, planned};
use crate::audit_store::{self, Target};
use crate::cli::{DONE, FAILED, Format, NodeArguments, REFUSED, engine, report as refusal, signals};
use crate::connectors::{Preview, SinkPlan};
use crate::pipeline::tap::{MOST_PAYLOAD_BYTES, Watch};
use crate::pipeline::{self, Inlet, Running, SinkMaker, SourceIdentity, Stop, Taps};
use crate::plan::{LockUse, PipelinePlan, Plan};
use crate::telemetry::readiness::Readiness;

#[derive(Args, Clone, Debug)]
pub(super) struct DryArguments {
    /// Takes N messages of each source through the real chain and shows what would go where. Nothing is sent, acknowledged
    /// or committed, no consumer group is joined, and a bridge that runs meanwhile notices nothing.
    #[arg(long = "dry-run", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) messages: Option<u32>,
    /// A source that is quiet for so long ends the dry run.
    #[arg(long, value_name = "TIME", requires = "messages", default_value = "10s", value_parser = parse_duration)]
    wait: Duration,
    /// Carries out what plugins are granted of the network, with the audit that belongs to it. Without it such requests are
    /// withheld, and shown as withheld.
    #[arg(long, requires = "messages")]
    allow_egress: bool,
    /// Shows keys, values and the values of headers.
    #[arg(long, requires = "messages")]
    payload: bool,
    /// So many bytes of the payload of each message, at most 64KiB.
    #[arg(long, value_name = "SIZE", requires = "payload", default_value = "1KiB", value_parser = bytes)]
    bytes: usize,
    /// How a dry run is printed; `json`: one object a line.
    #[arg(long, value_enum, requires = "messages", default_value_t)]
    format: Format,
}

fn bytes(text: &str) -> Result<usize, String> {
    let bytes = parse_size(text).map_err(|error| error.to_string())?;
    let fits = usize::try_from(bytes).ok().filter(|bytes| (1..=MOST_PAYLOAD_BYTES).contains(bytes));
    fits.ok_or_else(|| format!("allowed: 1 to {}", format_size(MOST_PAYLOAD_BYTES as u64)))
}

pub(super) fn run(files: &[PathBuf], node: &NodeArguments, lock: LockUse, dry: &DryArguments, messages: u32) -> u8 {
    let mut node = node.clone();
    // The messages are what is to be seen.
    node.log.get_or_insert_with(|| "warn".to_owned());
    let plan = match planned(files, &node, Beside { lock, ..Beside::default() }) {
        Ok(plan) => plan,
        Err(refused) => return refusal::refused(&refused, dry.format),
    };
    let target = match Target::of(&plan.node) {
        Ok(target) => target,
        Err(diagnostic) => return refusal::refused_by(diagnostic),
    };
    let evidence = match Evidence::of(&plan, &target, dry.allow_egress) {
        Ok(evidence) => evidence,
        Err(error) => {
            eprintln!("portcullis: refused to start: {error:#}");
            return REFUSED;
        }
    };
    match until_the_end(plan, &target, evidence, dry, messages as usize) {
        Ok(true) => DONE,
        Ok(false) => FAILED,
        Err(error) => {
            eprintln!("portcullis: {error:#}");
            FAILED
        }
    }
}

/// Where events go. What has effects leaves evidence; what has none must not: an event would say that something had happened.
struct Evidence {
    recorder: Recorder,
    full: Arc<AtomicBool>,
    /// Of a real audit.
    actors: Option<Vec<Actor>>,
}

impl Evidence {
    fn of(plan: &Plan, target: &Target, has_effects: bool) -> anyhow::Result<Self> {
        if !has_effects {
            let recorder = audit_store::in_memory(MemoryStore::new())?;
            return Ok(Self { recorder, full: Arc::default(), actors: None });
        }
        let deadline = plan.node.audit.deadline.value;
        let audit = audit_store::start(target, deadline, Readiness::default(), Some(plan.digest()))?;
        let actors = engine::record_start(plan, &audit.recorder, audit.boot)?;
        Ok(Self { recorder: audit.recorder, full: audit.full, actors: Some(actors) })
    }
}

/// One pipeline at work.
struct Trial {
    running: Running,
    report: Arc<Report>,
    ended: Vec<Arc<Mutex<Option<String>>>>,
    _watch: Watch,
}

/// Whether every pipeline has come to its end.
fn until_the_end(
    plan: Plan,
    target: &Target,
    evidence: Evidence,
    dry: &DryArguments,
    messages: usize,
) -> anyhow::Result<bool> {
    let shown = Shown { format: dry.format, payload_bytes: dry.payload.then_some(dry.bytes) };
    let stop = Stop::default();
    signals::listen(stop.clone(), Arc::new(|| "a dry run, which leaves nothing behind".to_owned()))?;
    begin(shown, dry.allow_egress, &target.name());
    let mut trials = Vec::new();
    for pipeline in plan.pipelines {
        trials.push(start(pipeline, &stop, &evidence, dry, (shown, messages))?);
    }
    let mut is_good = true;
    for trial in trials {
        let error = trial.running.join().err().map(|error| engine::describe(&error));
        is_good &= error.is_none();
        let why = |ended: &Arc<Mutex<Option<String>>>| ended.lock().unwrap_or_else(PoisonError::into_inner).clone();
        trial.report.end(&trial.ended.iter().filter_map(why).collect::<Vec<_>>(), error.as_deref());
    }
    if let Some(actors) = evidence.actors {
        engine::record_end(actors, &evidence.recorder)?;
    }
    Ok(is_good)
}

fn start(
    mut plan: PipelinePlan,
    stop: &Stop,
    evidence: &Evidence,
    dry: &DryArguments,
    (shown, messages): (Shown, usize),
) -> anyhow::Result<Trial> {
    let name = plan.config.name.value.clone();
    for stage in &mut plan.stages {
        let Some(stage) = Arc::get_mut(stage) else {
            bail!("the plugin {} is in use elsewhere, and its network cannot be withheld", stage.plugin.name());
        };
        // One call at a time, also over all sources: what was withheld belongs to the message in work.
        stage.concurrency = 1;
        if !dry.allow_egress {
            stage.withhold_egress();
        }
    }
    let report = Arc::new(Report::new(&name, shown, stop.clone()));
    let taps = Arc::new(Taps::default());
    let watch = taps.add(watcher(&report));
    let (sources, sink, letters) = (plan.sources.clone(), plan.sink.clone(), plan.dead_letter.clone());
    let mut blueprint = engine::blueprint(plan, taps);
    let mut ended = Vec::new();
    let turns = Arc::new(Turns::default());
    let inlets = sources.into_iter().enumerate().map(|(number, source)| {
        let why = Arc::<Mutex<Option<String>>>::default();
        ended.push(why.clone());
        let (wait, turns) = (dry.wait, turns.clone());
        let open = move || -> Result<Box<dyn Source>, ConnectorError> {
            let inner = source.open_aside()?;
            Ok(Box::new(Limited::new(inner, messages, wait, turns.of(number, why.clone()))))
        };
        Inlet { identity: SourceIdentity::of_this_run(), open: Box::new(open) }
    });
    blueprint.sources = inlets.collect();
    blueprint.sink = maker(sink, End::Sink, &report);
    blueprint.dead_letter = letters.map(|letters| maker(letters, End::DeadLetter, &report));
    blueprint.counts = Vec::new();
    // In the order of arrival, as far as the pipeline keeps one.
    blueprint.lanes = 1;
    blueprint.is_dry = true;
    let (recorder, full) = (evidence.recorder.clone(), evidence.full.clone());
    let running = pipeline::start(blueprint, stop, Readiness::default(), recorder, full)?;
    Ok(Trial { running, report, ended, _watch: watch })
}

fn maker(sink: SinkPlan, end: End, report: &Arc<Report>) -> SinkMaker {
    let report = report.clone();
    Box::new(move |confirm| {
        let preview: Preview = sink.preview()?;
        Ok(Arc::new(DrySink::new(preview, end, report.clone(), confirm)))
    })
}
