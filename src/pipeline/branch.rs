//! One source of a pipeline with its intake and its lanes. Sources of one pipeline share the sinks and nothing else, so
//! that none waits for another.

use std::convert::Infallible;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use portcullis_connector_api::{ConnectorError, ErrorKind};
use portcullis_flow::{Completions, Holdback, LaneQueues};
use portcullis_net::Egress;

use super::Outage;
use super::chain::Chain;
use super::dead_letter::DeadLetters;
use super::handed::Handed;
use super::held::{Held, LaneCopy};
use super::intake::{Intake, Parts, Summary};
use super::lane::Lane;
use super::run::{Blueprint, Inlet, PipelineError, Shared, Sinks, panic_text, retry_while_unreachable};
use super::work::{Completion, Work};
use crate::telemetry::names::Metric;

/// What is left for lanes to end when everything before has taken its time.
const LEAST_WAIT: Duration = Duration::from_secs(1);

pub(super) struct Branch<'a> {
    pub(super) number: u8,
    pub(super) source: &'a Inlet,
    pub(super) completions: Arc<Completions<Completion>>,
    pub(super) held: Arc<Held>,
    pub(super) handed: Arc<Handed>,
    /// When everything of it has to be over; set by the intake when the end begins.
    pub(super) ends_at: Arc<OnceLock<Instant>>,
    pub(super) blueprint: &'a Blueprint,
    pub(super) sinks: &'a Sinks,
    pub(super) egress: &'a [Option<Arc<Egress>>],
    pub(super) shared: &'a Shared,
}

impl Branch<'_> {
    /// Runs to the end; an error ends the other branches too.
    pub(super) fn run(&self) -> Result<usize, PipelineError> {
        let queues = Arc::new(LaneQueues::<Work>::under(
            self.blueprint.lanes,
            self.blueprint.queue,
            self.blueprint.queue_sums.clone(),
        ));
        let mut lanes = Vec::new();
        let (working, all_ended) = mpsc::sync_channel(0);
        // A panic here must not leave the other branches and the lanes behind.
        let run = || self.start_lanes(&queues, &mut lanes, working).and_then(|()| self.take_in(&queues));
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run))
            .unwrap_or_else(|panic| Err(PipelineError::Panicked(panic_text(&*panic))));
        if ended.is_err() {
            self.shared.stop.request();
        }
        queues.close();
        self.join(lanes, &all_ended)?;
        ended.map(|summary| summary.unfinished)
    }

    /// A lane in a guest's call that takes longer than the end may is left to the end of the process: it hands nothing over any
    /// more, and its messages are not acknowledged.
    fn join(&self, lanes: Vec<JoinHandle<()>>, all_ended: &Receiver<Infallible>) -> Result<(), PipelineError> {
        let now = Instant::now();
        let until = self.ends_at.get().copied().unwrap_or(now + self.blueprint.drain).max(now + LEAST_WAIT);
        // Nothing is ever sent: each lane holds a sender, and the channel ends with the last of them.
        let in_time = all_ended.recv_timeout(until.saturating_duration_since(now)) != Err(RecvTimeoutError::Timeout);
        let mut left_behind = 0;
        for lane in lanes {
            if in_time || lane.is_finished() {
                lane.join().map_err(|panic| PipelineError::Panicked(panic_text(&*panic)))?;
            } else {
                left_behind += 1;
            }
        }
        if left_behind > 0 {
            tracing::warn!(pipeline = %self.shared.identity.name, lanes = left_behind, "ended while plugins are in calls; their messages come again");
        }
        Ok(())
    }

    /// The part's name on `/ready`; sources are numbered where there are several.
    fn part(&self) -> String {
        let name = &self.shared.identity.name;
        match self.blueprint.sources.len() {
            1 => format!("pipeline/{name}/source"),
            _ => format!("pipeline/{name}/source/{}", self.number),
        }
    }

    fn take_in(&self, queues: &Arc<LaneQueues<Work>>) -> Result<Summary, PipelineError> {
        let (shared, blueprint) = (self.shared, self.blueprint);
        let part = self.part();
        let Some(source) = retry_while_unreachable(&shared.stop, &shared.readiness, &part, &self.source.open)? else {
            return Ok(Summary::default());
        };
        shared.readiness.report(&part, None);
        let (lanes, plugins) = (blueprint.lanes, blueprint.stages.len());
        tracing::info!(pipeline = %shared.identity.name, source = self.number, lanes, plugins, "running");
        let letters = self.sinks.dead_letter.as_ref();
        let intake = Intake::new(Parts {
            number: self.number,
            source,
            origin: self.source.identity.clone(),
            counts: blueprint.counts.clone(),
            queues: queues.clone(),
            completions: self.completions.clone(),
            held: self.held.clone(),
            handed: self.handed.clone(),
            ends_at: self.ends_at.clone(),
            sink: self.sinks.sink.clone(),
            dead_letters: letters
                .map(|sink| DeadLetters::new(shared.identity.name.clone(), self.source.identity.clone(), sink.clone())),
            order: blueprint.order,
            window: blueprint.window,
            drain: blueprint.drain,
            stop: shared.stop.clone(),
            outage: Outage::new(shared.readiness.clone(), &shared.identity.name, part),
            recorder: shared.recorder.clone(),
            audit_full: shared.audit_full.clone(),
            unfinished: shared.unfinished.get(usize::from(self.number)).cloned().unwrap_or_default(),
            identity: shared.identity.clone(),
            taps: blueprint.taps.clone(),
            is_dry: blueprint.is_dry,
        });
        intake.run()
    }

    fn start_lanes(
        &self,
        queues: &Arc<LaneQueues<Work>>,
        lanes: &mut Vec<JoinHandle<()>>,
        working: SyncSender<Infallible>,
    ) -> Result<(), PipelineError> {
        let (shared, blueprint) = (self.shared, self.blueprint);
        for index in 0..blueprint.lanes {
            let (identity, recorder) = (shared.identity.clone(), shared.recorder.clone());
            let mut chain = Chain::new(identity, &blueprint.stages, self.egress, recorder, &shared.readiness);
            chain.warm_up().map_err(|(plugin, fault)| PipelineError::Plugin { plugin, fault })?;
            let (source, number) = (self.number.to_string(), index.to_string());
            let labels = [("pipeline", &*shared.identity.name), ("source", &*source), ("lane", &*number)];
            let lane = Lane {
                index,
                queues: queues.clone(),
                completions: self.completions.clone(),
                chain,
                sink: self.sinks.sink.clone(),
                source: self.source.identity.clone(),
                holdback: Holdback::new(),
                held: self.held.clone(),
                handed: self.handed.clone(),
                held_copy: LaneCopy::default(),
                audit_full: shared.audit_full.clone(),
                parked: Metric::Parked.gauge(&labels),
                seed: index as u64,
                kept: Vec::new(),
                taps: blueprint.taps.clone(),
                watching: None,
                place: blueprint.place.clone(),
            };
            let name = format!("lane{index}:{}", shared.identity.name);
            let (broken, working) = (self.completions.clone(), working.clone());
            lanes.push(std::thread::Builder::new().name(name).spawn(move || {
                // A lane that dies must not leave the intake waiting for its messages.
                let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| lane.run()));
                if let Err(panic) = caught {
                    let text = format!("lane {index} has panicked: {}", panic_text(&*panic));
                    broken.push(Completion::Broken(Box::new(ConnectorError::new(ErrorKind::Fatal, text))));
                }
                drop(working);
            })?);
        }
        Ok(())
    }
}
