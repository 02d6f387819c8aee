//! Starts a pipeline from its parts and joins its threads.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use portcullis_audit::Recorder;
use portcullis_connector_api::{Confirm, ConnectorError, ErrorKind, Sink, Source};
use portcullis_flow::{Completions, FaultKind, Holdback, LaneQueues, Order, Window};
use thiserror::Error;

use super::chain::{Chain, Stage};
use super::confirm::{DeadLetterConfirm, SinkConfirm};
use super::dead_letter::DeadLetters;
use super::intake::{Intake, Parts, Summary};
use super::lane::Lane;
use super::work::{Completion, Work};
use super::{Identity, Outage, Stop};
use crate::plugin::Fault;
use crate::telemetry::names::Metric;
use crate::telemetry::readiness::Readiness;

pub use portcullis_flow::Bounds;

/// Opens a source; called again after an error that may pass.
pub type SourceMaker = Box<dyn Fn() -> Result<Box<dyn Source>, ConnectorError> + Send>;
/// Opens a sink that reports to the given place.
pub type SinkMaker = Box<dyn Fn(Arc<dyn Confirm>) -> Result<Arc<dyn Sink>, ConnectorError> + Send>;

/// How long the start waits before it tries an unreachable broker again.
const RETRY_START: Duration = Duration::from_millis(500);
const CHECK_WAIT: Duration = Duration::from_secs(5);

/// Everything that a pipeline is made of; nothing is decided after it.
pub struct Blueprint {
    /// Its names.
    pub identity: Identity,
    /// What must stay in order.
    pub order: Order,
    /// Threads that run plugins.
    pub lanes: usize,
    /// What may wait for the lanes.
    pub queue: Bounds,
    /// What may be unfinished of one partition before it is paused.
    pub window: Window,
    /// How long the end and a revocation wait for what is in work.
    pub drain: Duration,
    /// The plugins, in order.
    pub stages: Vec<Arc<Stage>>,
    /// Where messages come from.
    pub source: SourceMaker,
    /// Where they go.
    pub sink: SinkMaker,
    /// Where those go that failed.
    pub dead_letter: Option<SinkMaker>,
}

/// Why a pipeline has ended before its time.
#[derive(Debug, Error)]
pub enum PipelineError {
    /// A source or sink cannot go on.
    #[error(transparent)]
    Connector(#[from] ConnectorError),
    /// A message has nowhere to go: `on:` says `stop`, or nothing is declared.
    #[error("message {at} stops the pipeline: {kind}: {code}: {detail}")]
    Message {
        /// Its source coordinates.
        at: String,
        /// The kind of fault.
        kind: FaultKind,
        /// The plugin's code.
        code: String,
        /// The plugin's sentence.
        detail: String,
    },
    /// A plugin cannot be instantiated.
    #[error("plugin {plugin} cannot start: {}", .fault.detail)]
    Plugin {
        /// Its name.
        plugin: String,
        /// What happened.
        fault: Fault,
    },
    /// A thread of the pipeline has panicked; the message in work is undone and comes again.
    #[error("a thread of the pipeline has panicked: {0}")]
    Panicked(String),
    /// The operating system gave no thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// A pipeline at work.
pub struct Running {
    /// Its names.
    pub identity: Arc<Identity>,
    thread: JoinHandle<Result<usize, PipelineError>>,
}

impl Running {
    /// Waits for its end and returns how many messages were left unfinished.
    ///
    /// # Errors
    /// What has ended the pipeline before its time.
    pub fn join(self) -> Result<usize, PipelineError> {
        self.thread.join().unwrap_or_else(|panic| Err(PipelineError::Panicked(panic_text(&*panic))))
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }
}

/// Starts a pipeline on threads of its own. While `audit_full` is set it takes nothing more in: an event that finds no room
/// would be lost.
///
/// # Errors
/// When the operating system gives no thread. What goes wrong later comes from [`Running::join`].
pub fn start(
    blueprint: Blueprint,
    stop: Stop,
    readiness: Readiness,
    recorder: Recorder,
    audit_full: Arc<AtomicBool>,
) -> Result<Running, PipelineError> {
    let identity = Arc::new(blueprint.identity.clone());
    let name = identity.clone();
    let thread = std::thread::Builder::new().name(format!("in:{}", name.name)).spawn(move || {
        let part = format!("pipeline/{}", identity.name);
        readiness.expect(&part, "starting");
        let ended = run(blueprint, identity, stop, &readiness, Audit { recorder, full: audit_full });
        match &ended {
            Ok(_) => readiness.expect(&part, "ended"),
            Err(error) => readiness.report(&part, Some(format!("failed: {error}"))),
        }
        ended
    })?;
    Ok(Running { identity: name, thread })
}

struct Audit {
    recorder: Recorder,
    full: Arc<AtomicBool>,
}

fn run(
    blueprint: Blueprint,
    identity: Arc<Identity>,
    stop: Stop,
    readiness: &Readiness,
    audit: Audit,
) -> Result<usize, PipelineError> {
    let part = format!("pipeline/{}", identity.name);
    let completions = Arc::new(Completions::<Completion>::new());
    let Some((sink, dead_letter)) = open_sinks(&blueprint, &completions, &stop, readiness, &part)? else {
        return Ok(0);
    };
    let queues = Arc::new(LaneQueues::<Work>::new(blueprint.lanes, blueprint.queue));
    let lanes = start_lanes(&blueprint, &identity, &queues, &completions, &sink, &audit.recorder)?;
    let source = retry_while_unreachable(&stop, readiness, &part, || (blueprint.source)())?;
    let ended = match source {
        Some(source) => {
            readiness.report(&part, None);
            tracing::info!(pipeline = %identity.name, lanes = blueprint.lanes, plugins = blueprint.stages.len(), "running");
            let intake = Intake::new(Parts {
                source,
                queues: queues.clone(),
                completions,
                sink: sink.clone(),
                dead_letters: dead_letter.as_ref().map(|sink| DeadLetters::new(identity.name.clone(), sink.clone())),
                order: blueprint.order,
                window: blueprint.window,
                drain: blueprint.drain,
                stop,
                outage: Outage::new(readiness.clone(), &identity.name),
                recorder: audit.recorder,
                audit_full: audit.full,
                identity,
            });
            intake.run()
        }
        None => Ok(Summary::default()),
    };
    queues.close();
    join_lanes(lanes)?;
    sink.drain(CHECK_WAIT);
    if let Some(dead_letter) = dead_letter {
        dead_letter.drain(CHECK_WAIT);
    }
    ended.map(|summary| summary.unfinished)
}

type Sinks = (Arc<dyn Sink>, Option<Arc<dyn Sink>>);

fn open_sinks(
    blueprint: &Blueprint,
    completions: &Arc<Completions<Completion>>,
    stop: &Stop,
    readiness: &Readiness,
    part: &str,
) -> Result<Option<Sinks>, PipelineError> {
    let open = |maker: &SinkMaker, confirm: Arc<dyn Confirm>| {
        let sink = maker(confirm)?;
        retry_while_unreachable(stop, readiness, part, || sink.check(CHECK_WAIT)).map(|checked| checked.map(|()| sink))
    };
    let Some(sink) = open(&blueprint.sink, Arc::new(SinkConfirm(completions.clone())))? else { return Ok(None) };
    let Some(maker) = &blueprint.dead_letter else { return Ok(Some((sink, None))) };
    let dead_letter = open(maker, Arc::new(DeadLetterConfirm(completions.clone())))?;
    Ok(dead_letter.map(|dead_letter| (sink, Some(dead_letter))))
}

/// Tries until it works, reporting why not; `None` when the process is asked to stop first.
fn retry_while_unreachable<T>(
    stop: &Stop,
    readiness: &Readiness,
    part: &str,
    attempt: impl Fn() -> Result<T, ConnectorError>,
) -> Result<Option<T>, ConnectorError> {
    while !stop.requested() {
        match attempt() {
            Ok(value) => return Ok(Some(value)),
            Err(error) if error.kind == ErrorKind::Retriable => readiness.report(part, Some(error.to_string())),
            Err(error) => return Err(error),
        }
        let again = Instant::now() + RETRY_START;
        while Instant::now() < again && !stop.requested() {
            std::thread::park_timeout(RETRY_START / 5);
        }
    }
    Ok(None)
}

fn start_lanes(
    blueprint: &Blueprint,
    identity: &Arc<Identity>,
    queues: &Arc<LaneQueues<Work>>,
    completions: &Arc<Completions<Completion>>,
    sink: &Arc<dyn Sink>,
    recorder: &Recorder,
) -> Result<Vec<JoinHandle<()>>, PipelineError> {
    let mut lanes = Vec::new();
    for index in 0..blueprint.lanes {
        let mut chain = Chain::new(identity.clone(), &blueprint.stages, recorder.clone());
        if let Err((plugin, fault)) = chain.warm_up() {
            queues.close();
            join_lanes(lanes)?;
            return Err(PipelineError::Plugin { plugin, fault });
        }
        let number = index.to_string();
        let lane = Lane {
            index,
            identity: identity.clone(),
            queues: queues.clone(),
            completions: completions.clone(),
            chain,
            sink: sink.clone(),
            holdback: Holdback::new(),
            parked: Metric::Parked.gauge(&[("pipeline", &identity.name), ("lane", &number)]),
            seed: index as u64,
            kept: Vec::new(),
        };
        let name = format!("lane{index}:{}", identity.name);
        let broken = completions.clone();
        lanes.push(std::thread::Builder::new().name(name).spawn(move || {
            // A lane that dies must not leave the intake waiting for its messages.
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| lane.run()));
            if let Err(panic) = caught {
                let text = format!("lane {index} has panicked: {}", panic_text(&*panic));
                broken.push(Completion::Broken(Box::new(ConnectorError::new(ErrorKind::Fatal, text))));
            }
        })?);
    }
    Ok(lanes)
}

fn join_lanes(lanes: Vec<JoinHandle<()>>) -> Result<(), PipelineError> {
    for lane in lanes {
        lane.join().map_err(|panic| PipelineError::Panicked(panic_text(&*panic)))?;
    }
    Ok(())
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "unknown panic".to_owned())
}
