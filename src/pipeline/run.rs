//! Starts a pipeline from its parts and joins its threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use portcullis_audit::Recorder;
use portcullis_connector_api::{Confirm, ConnectorError, ErrorKind, Sink, Source, Trace};
use portcullis_flow::{Completions, FaultKind, Order, QueueSum, Window};
use thiserror::Error;

use super::branch::Branch;
use super::chain::Stage;
use super::confirm::{DeadLetterConfirm, SinkConfirm};
use super::handed::Handed;
use super::work::Completion;
use super::{Identity, PlaceOf, ReadCounts, SourceIdentity, Stop, Taps};
use crate::plugin::Fault;
use crate::telemetry::readiness::Readiness;

pub use portcullis_flow::Bounds;

/// Opens a source; called again after an error that may pass.
pub type SourceMaker = Box<dyn Fn() -> Result<Box<dyn Source>, ConnectorError> + Send + Sync>;
/// Opens a sink that reports to the given place.
pub type SinkMaker = Box<dyn Fn(Arc<dyn Confirm>) -> Result<Arc<dyn Sink>, ConnectorError> + Send + Sync>;

/// How long the start waits before it tries an unreachable broker again.
const RETRY_START: Duration = Duration::from_millis(500);
const CHECK_WAIT: Duration = Duration::from_secs(5);
/// What is left for a sink at the end when everything before has taken its time.
const LAST_WAIT: Duration = Duration::from_secs(1);

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
    /// What the queues of the tenant and of the node hold together.
    pub queue_sums: Vec<Arc<QueueSum>>,
    /// What may be unfinished of one partition before it is paused.
    pub window: Window,
    /// How long the end and a revocation wait for what is in work.
    pub drain: Duration,
    /// The plugins, in order.
    pub stages: Vec<Arc<Stage>>,
    /// Where messages come from; at least one, at most 256.
    pub sources: Vec<Inlet>,
    /// Where they go.
    pub sink: SinkMaker,
    /// Where those go that failed.
    pub dead_letter: Option<SinkMaker>,
    /// What sources and sinks count beside messages, each with its name in the metric.
    pub counts: Vec<(String, ReadCounts)>,
    /// Who looks at messages as they pass.
    pub taps: Arc<Taps>,
    /// Names the destination of a message for whoever looks.
    pub place: PlaceOf,
    /// Nothing is stored anywhere: no event says that it was.
    pub is_dry: bool,
}

/// Where messages come from.
pub struct Inlet {
    /// Opens it.
    pub open: SourceMaker,
    /// What names its messages.
    pub identity: SourceIdentity,
}

/// Why a pipeline has ended before its time.
#[derive(Debug, Error)]
pub enum PipelineError {
    /// A source or sink cannot go on.
    #[error(transparent)]
    Connector(#[from] ConnectorError),
    /// A message has nowhere to go: `on:` says `stop`, or nothing is declared.
    #[error("message {at} stops the pipeline: {kind}: {code}")]
    Message {
        /// Its source coordinates.
        at: String,
        /// The kind of fault.
        kind: FaultKind,
        /// The plugin's code. Its sentence may quote the value and is not in an error.
        code: String,
        /// The trace that it is part of.
        trace: Option<Trace>,
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

impl PipelineError {
    /// The trace of the message that it is about.
    pub fn trace(&self) -> Option<Trace> {
        match self {
            Self::Message { trace, .. } => *trace,
            _ => None,
        }
    }
}

/// A pipeline at work.
pub struct Running {
    /// Its names.
    pub identity: Arc<Identity>,
    unfinished: Vec<Arc<AtomicUsize>>,
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

    /// How many messages are in work, for somebody who may have to leave them; brought up to date once a second, and at
    /// each look while the pipeline ends.
    pub fn unfinished(&self) -> Vec<Arc<AtomicUsize>> {
        self.unfinished.clone()
    }
}

/// Starts a pipeline on threads of its own. While `audit_full` is set it takes nothing more in: an event that finds no room
/// would be lost.
///
/// # Errors
/// When the operating system gives no thread. What goes wrong later comes from [`Running::join`].
pub fn start(
    blueprint: Blueprint,
    stop: &Stop,
    readiness: Readiness,
    recorder: Recorder,
    audit_full: Arc<AtomicBool>,
) -> Result<Running, PipelineError> {
    let identity = Arc::new(blueprint.identity.clone());
    let unfinished: Vec<_> = blueprint.sources.iter().map(|_| Arc::new(AtomicUsize::new(0))).collect();
    let shared = Shared {
        identity: identity.clone(),
        // Its own, so that one source that fails ends the others of the pipeline and nothing else.
        stop: stop.child(),
        readiness,
        recorder,
        audit_full,
        unfinished: unfinished.clone(),
    };
    let thread = std::thread::Builder::new().name(format!("pipe:{}", identity.name)).spawn(move || {
        let part = format!("pipeline/{}", shared.identity.name);
        shared.readiness.expect(&part, "starting");
        let ended = run(blueprint, &shared, &part);
        match &ended {
            Ok(_) => shared.readiness.expect(&part, "ended"),
            Err(error) => shared.readiness.report(&part, Some(format!("failed: {error}"))),
        }
        ended
    })?;
    Ok(Running { identity, unfinished, thread })
}

/// What all branches of a pipeline share.
pub(super) struct Shared {
    pub(super) identity: Arc<Identity>,
    pub(super) stop: Stop,
    pub(super) readiness: Readiness,
    pub(super) recorder: Recorder,
    pub(super) audit_full: Arc<AtomicBool>,
    pub(super) unfinished: Vec<Arc<AtomicUsize>>,
}

/// Opens the sinks, which all sources share, and runs a branch for each source.
fn run(blueprint: Blueprint, shared: &Shared, part: &str) -> Result<usize, PipelineError> {
    let ways: Vec<Arc<Completions<Completion>>> =
        blueprint.sources.iter().map(|_| Arc::new(Completions::new())).collect();
    let Some(sinks) = open_sinks(&blueprint, &ways, shared, part)? else { return Ok(0) };
    shared.readiness.report(part, None);
    // Once for all sources and lanes: quotas are a plugin's, not a lane's.
    let egress: Vec<_> = blueprint.stages.iter().map(|stage| stage.open_egress(&shared.recorder)).collect();
    let branches: Vec<Branch<'_>> = (0..)
        .zip(&blueprint.sources)
        .zip(ways)
        .map(|((number, source), completions)| Branch {
            number,
            source,
            completions,
            held: Arc::default(),
            handed: Arc::new(Handed::by(blueprint.lanes)),
            ends_at: Arc::default(),
            blueprint: &blueprint,
            sinks: &sinks,
            egress: &egress,
            shared,
        })
        .collect();
    let ended: Vec<Result<usize, PipelineError>> = std::thread::scope(|scope| {
        let threads: Vec<_> = branches
            .iter()
            .map(|branch| {
                let name = format!("in{}:{}", branch.number, shared.identity.name);
                std::thread::Builder::new().name(name).spawn_scoped(scope, || branch.run())
            })
            .collect();
        if threads.iter().any(Result::is_err) {
            shared.stop.request();
        }
        let join = |thread: std::io::Result<std::thread::ScopedJoinHandle<'_, _>>| {
            thread?.join().unwrap_or_else(|panic| Err(PipelineError::Panicked(panic_text(&*panic))))
        };
        threads.into_iter().map(join).collect()
    });
    // One deadline through all steps. What was sent of partitions is confirmed or given up by now.
    let ends_at = branches.iter().filter_map(|branch| branch.ends_at.get().copied()).max();
    let left = || ends_at.map_or(LAST_WAIT, |at| at.saturating_duration_since(Instant::now()).max(LAST_WAIT));
    sinks.sink.drain(left());
    if let Some(dead_letter) = &sinks.dead_letter {
        dead_letter.drain(left());
    }
    ended.into_iter().sum()
}

/// Where messages leave.
pub(super) struct Sinks {
    pub(super) sink: Arc<dyn Sink>,
    pub(super) dead_letter: Option<Arc<dyn Sink>>,
}

fn open_sinks(
    blueprint: &Blueprint,
    ways: &[Arc<Completions<Completion>>],
    shared: &Shared,
    part: &str,
) -> Result<Option<Sinks>, PipelineError> {
    let open = |maker: &SinkMaker, confirm: Arc<dyn Confirm>| {
        let sink = maker(confirm)?;
        let checked = retry_while_unreachable(&shared.stop, &shared.readiness, part, || sink.check(CHECK_WAIT));
        checked.map(|checked| checked.map(|()| sink))
    };
    let confirm = SinkConfirm { ways: ways.to_vec(), taps: blueprint.taps.clone() };
    let Some(sink) = open(&blueprint.sink, Arc::new(confirm))? else { return Ok(None) };
    let Some(maker) = &blueprint.dead_letter else { return Ok(Some(Sinks { sink, dead_letter: None })) };
    let dead_letter = open(maker, Arc::new(DeadLetterConfirm(ways.to_vec())))?;
    Ok(dead_letter.map(|dead_letter| Sinks { sink, dead_letter: Some(dead_letter) }))
}

/// Tries until it works, reporting why not; `None` when the process is asked to stop first.
pub(super) fn retry_while_unreachable<T>(
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
            std::thread::sleep(RETRY_START / 5);
        }
    }
    Ok(None)
}

pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "unknown panic".to_owned())
}
