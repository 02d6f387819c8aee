//! What `run` and `dev` share: a plan brought to life, with its audit, its admin endpoint and its end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use portcullis_audit::{Actor, Event, Receipt, Recorder};

use super::words::some;
use crate::audit_store;
use crate::connectors::{SinkPlan, SourcePlan};
use crate::pipeline::{
    self, Blueprint, Bounds, Identity, Inlet, PipelineError, ReadCounts, Running, SourceIdentity, Stop, Taps,
};
use crate::plan::{PipelinePlan, Plan, evidence};
use crate::plugin::take_short_slices;
use crate::telemetry::admin::{self, Admin};
use crate::telemetry::log;
use crate::telemetry::readiness::Readiness;
use crate::telemetry::tap::TapDesk;

/// How long the end waits for the last audit events.
const AUDIT_DRAIN: Duration = Duration::from_secs(10);
/// How long the start waits for the evidence that it has started.
const AUDIT_START: Duration = Duration::from_secs(30);

/// A plan at work.
pub(super) struct Engine {
    pub(super) address: SocketAddr,
    pub(super) stop: Stop,
    pipelines: Vec<Running>,
    /// Whose end is recorded.
    actors: Vec<Actor>,
    recorder: Recorder,
    /// Keeps the watch over the audit alive.
    _audit_full: Arc<AtomicBool>,
    _admin: Admin,
}

impl Engine {
    /// Starts the admin endpoint and the audit, records what was linked, and only then starts the pipelines: no plugin runs
    /// before its grants are on record.
    pub(super) fn start(plan: Plan, audit: &audit_store::Target) -> anyhow::Result<Self> {
        if plan.node.has_several_tenants()
            && let Err(error) = take_short_slices()
        {
            tracing::warn!(%error, "a tenant's plugins that compute may hold up other tenants' messages for some milliseconds");
        }
        let readiness = Readiness::default();
        let stop = Stop::default();
        let desk = Arc::new(TapDesk::new(plan.node.admin.tap.value, plan.pipelines.iter().map(tapped)));
        let admin = admin::serve(plan.node.admin.listen.value, readiness.clone(), desk.clone())?;
        let audit = audit_store::start(audit, plan.node.audit.deadline.value, readiness.clone(), Some(plan.digest()))?;
        let recorder = audit.recorder;
        let actors = record_start(&plan, &recorder, audit.boot)?;
        let mut pipelines = Vec::new();
        for plan in plan.pipelines {
            let (readiness, full) = (readiness.clone(), audit.full.clone());
            let taps = desk.taps(plan.config.name.as_str());
            pipelines.push(pipeline::start(blueprint(plan, taps), &stop, readiness, recorder.clone(), full)?);
        }
        Ok(Self { address: admin.address, stop, pipelines, actors, recorder, _audit_full: audit.full, _admin: admin })
    }

    /// Waits until every pipeline has ended, then ends the audit. Reports each failure as it is met.
    pub(super) fn join(self) -> anyhow::Result<()> {
        let mut failed = Vec::new();
        for pipeline in self.pipelines {
            let name = pipeline.identity.name.clone();
            match pipeline.join() {
                Ok(0) => tracing::info!(pipeline = %name, "ended"),
                Ok(unfinished) => {
                    tracing::warn!(pipeline = %name, unfinished, "ended with messages in work; they come again")
                }
                Err(error) => {
                    let (trace_id, span_id) = log::ids(error.trace());
                    tracing::error!(pipeline = %name, error = %describe(&error), trace_id, span_id, "failed");
                    failed.push(name.to_string());
                }
            }
        }
        record_end(self.actors, &self.recorder)?;
        if !failed.is_empty() {
            bail!("failed: {}", failed.join(", "));
        }
        Ok(())
    }

    /// Tells, whenever it is asked, how many messages of each pipeline are in work.
    pub(super) fn unfinished(&self) -> impl Fn() -> String + Send + Sync + 'static {
        let counts: Vec<_> =
            self.pipelines.iter().map(|pipeline| (pipeline.identity.name.clone(), pipeline.unfinished())).collect();
        move || {
            let of = |(name, counts): &(Arc<str>, Vec<Arc<AtomicUsize>>)| {
                let sum: usize = counts.iter().map(|count| count.load(Ordering::Relaxed)).sum();
                format!("{} of {name}", some(sum, "message"))
            };
            counts.iter().map(of).collect::<Vec<_>>().join(", ")
        }
    }

    /// Whether every pipeline has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.pipelines.iter().all(Running::has_ended)
    }
}

/// Records what was linked, and waits until the audit has it.
pub(super) fn record_start(plan: &Plan, recorder: &Recorder, boot: Receipt) -> anyhow::Result<Vec<Actor>> {
    let mut receipts = vec![boot];
    let mut actors = Vec::new();
    for pipeline in &plan.pipelines {
        for stage in &pipeline.stages {
            receipts.push(recorder.record(evidence::linked(pipeline, stage)));
            actors.push(evidence::actor_of(pipeline, stage));
        }
    }
    for receipt in receipts {
        receipt.wait(AUDIT_START).context("the audit does not take the record of the start")?;
    }
    Ok(actors)
}

/// Records the end of these plugins, and ends the audit.
pub(super) fn record_end(actors: Vec<Actor>, recorder: &Recorder) -> anyhow::Result<()> {
    for actor in actors {
        recorder.record(Event::plugin_stopped(actor));
    }
    match recorder.shutdown(AUDIT_DRAIN) {
        Ok(_) => Ok(()),
        Err(error) => bail!("the audit did not take its last events: {error}"),
    }
}

pub(super) fn describe(error: &PipelineError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// The names of a pipeline and of its plugins.
fn tapped(plan: &PipelinePlan) -> (String, Vec<String>) {
    (plan.config.name.value.clone(), plan.stages.iter().map(|stage| stage.plugin.name().to_owned()).collect())
}

pub(super) fn blueprint(plan: PipelinePlan, taps: Arc<Taps>) -> Blueprint {
    let lanes = plan.config.lane_count();
    let identity = Identity {
        name: plan.config.name.as_str().into(),
        tenant: plan.config.tenant.as_ref().map(|tenant| tenant.as_str().into()),
        dead_letter_name: plan.dead_letter.as_ref().map_or_else(String::new, |letters| letters.name()).into(),
    };
    let queue =
        Bounds { messages: plan.config.queue.messages.value as usize, bytes: bytes(plan.config.queue.bytes.value) };
    let window = portcullis_flow::Window {
        max_messages: plan.config.window.messages.value as usize,
        max_bytes: bytes(plan.config.window.bytes.value),
    };
    let order = match plan.config.order.value {
        portcullis_config::Order::Key => portcullis_flow::Order::Key,
        portcullis_config::Order::Partition => portcullis_flow::Order::Partition,
        portcullis_config::Order::None => portcullis_flow::Order::None,
    };
    let counts = counts(&plan);
    let recognised = std::iter::once(&plan.sink).chain(&plan.dead_letter).any(SinkPlan::recognises);
    let inlet = |source: SourcePlan| {
        // A name by content is worked out for each message: only where somebody looks at it.
        let identity = if recognised { source.identity() } else { SourceIdentity::of_this_run() };
        Inlet { identity, open: Box::new(move || source.open()) }
    };
    let place = plan.sink.place_of();
    let open_sink = |sink: SinkPlan| -> pipeline::SinkMaker { Box::new(move |confirm| sink.open(confirm)) };
    Blueprint {
        identity,
        order,
        lanes,
        queue,
        queue_sums: plan.queue_sums,
        window,
        drain: plan.config.drain.value,
        stages: plan.stages,
        sources: plan.sources.into_iter().map(inlet).collect(),
        sink: open_sink(plan.sink),
        dead_letter: plan.dead_letter.map(open_sink),
        counts,
        taps,
        place,
        is_dry: false,
    }
}

fn counts(plan: &PipelinePlan) -> Vec<(String, ReadCounts)> {
    let sources =
        (0..).zip(&plan.sources).map(|(number, source): (usize, _)| (format!("source/{number}"), source.counts()));
    let sinks = std::iter::once(("sink".to_owned(), plan.sink.counts()));
    let letters = plan.dead_letter.iter().map(|letters| ("dead_letter".to_owned(), letters.counts()));
    sources.chain(sinks).chain(letters).filter_map(|(end, counts)| Some((end, counts?))).collect()
}

fn bytes(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
