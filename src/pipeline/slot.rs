//! One lane's own copy of a stage: its instances, replaced when a fault has cost one, and what they have used.

use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::Counter;
use portcullis_audit::{Counts, Recorder};
use portcullis_flow::FaultKind;
use portcullis_net::Egress;

use super::Identity;
use super::breaker::Admission;
use super::chain::{Life, Stage, Tally};
use super::evidence;
use super::work::Work;
use crate::capability::Operation;
use crate::plugin::{Fault, Instance, Outcome};
use crate::telemetry::names::Metric;
use crate::telemetry::readiness::Readiness;

pub(super) struct Slot {
    pub(super) stage: Arc<Stage>,
    /// The open network of the plugin, shared by all lanes.
    pub(super) egress: Option<Arc<Egress>>,
    /// One for each message that may be in work at once; an instance is made when its place is first needed.
    pub(super) places: Vec<Option<Instance>>,
    pub(super) counts: Counts,
    pub(super) meters: SlotMeters,
    /// Instances lost to faults and not replaced yet.
    lost: u64,
    /// Bytes of log lines that were cut since the last time this was recorded.
    log_cut_bytes: u64,
    /// The place whose call decides whether the quarantine is over.
    probe: Option<usize>,
    /// Where a quarantine is told, as this part.
    readiness: Readiness,
    part: String,
}

impl Slot {
    pub(super) fn new(
        identity: &Identity,
        stage: Arc<Stage>,
        egress: Option<Arc<Egress>>,
        readiness: Readiness,
    ) -> Self {
        let places = if stage.plugin.may_wait() { stage.concurrency.max(1) } else { 1 };
        Self {
            meters: SlotMeters::new(identity, stage.plugin.name()),
            counts: Counts::new(Operation::NAMES),
            part: format!("pipeline/{}/plugin/{}", identity.name, stage.plugin.name()),
            stage,
            egress,
            places: std::iter::repeat_with(|| None).take(places).collect(),
            lost: 0,
            log_cut_bytes: 0,
            probe: None,
            readiness,
        }
    }

    /// Asked before each call: how much longer the plugin is left alone, if it is.
    pub(super) fn quarantined(&mut self, place: usize) -> Option<Duration> {
        if !self.stage.breaker.is_tripped() {
            return None;
        }
        match self.stage.breaker.admit(Instant::now()) {
            Admission::Call => None,
            Admission::Probe => {
                self.probe = Some(place);
                None
            }
            Admission::Refused(left) => Some(left),
        }
    }

    /// The first instance, made anew where a fault has cost the last one.
    pub(super) fn ready(&mut self) -> Result<&mut Instance, Fault> {
        if self.places.first().is_some_and(Option::is_none) {
            let made = self.stage.plugin.instantiate(self.egress.as_ref())?;
            self.replaced();
            self.put(0, made);
        }
        let first = self.places.first_mut().and_then(Option::as_mut);
        first.ok_or_else(|| Fault::new(FaultKind::Trap, "there is no instance"))
    }

    /// Takes the instance of a place out, to be put back after its call; none where one has to be made.
    pub(super) fn take(&mut self, place: usize) -> Option<Instance> {
        self.places.get_mut(place).and_then(Option::take)
    }

    /// Puts an instance back.
    pub(super) fn put(&mut self, place: usize, instance: Instance) {
        if let Some(empty) = self.places.get_mut(place) {
            *empty = Some(instance);
        }
    }

    /// Counts a restart, where the instance that was made replaces one that a fault has cost.
    pub(super) fn replaced(&mut self) {
        if self.lost > 0 {
            self.lost -= 1;
            self.meters.restarts.increment(1);
        }
    }

    /// What follows from a call: a fault is recorded and its instance dropped, and so is one that serves a single message.
    pub(super) fn after(
        &mut self,
        place: usize,
        outcome: &Outcome,
        work: &Work,
        identity: &Identity,
        recorder: &Recorder,
    ) {
        let was_probe = self.probe.take_if(|probe| *probe == place).is_some();
        if let Outcome::Fault(fault) = outcome {
            self.faulted(place, fault, work, identity, recorder);
        } else {
            if was_probe {
                self.stage.breaker.recovered();
                self.readiness.report(&self.part, None);
                tracing::info!(pipeline = %identity.name, plugin = %self.stage.plugin.name(), "plugin is back from quarantine");
            }
            if self.stage.life == Life::Message {
                self.retire(place);
            }
        }
    }

    /// Ends an instance; what it has used is kept.
    pub(super) fn retire(&mut self, place: usize) {
        if let Some(mut instance) = self.take(place) {
            self.collect(&mut instance);
        }
    }

    pub(super) fn collect_usage(&mut self) {
        for place in 0..self.places.len() {
            if let Some(mut instance) = self.take(place) {
                self.collect(&mut instance);
                self.put(place, instance);
            }
        }
    }

    fn collect(&mut self, instance: &mut Instance) {
        let usage = instance.usage();
        self.counts.add_all(
            &Operation::NAMES.map(|name| {
                usage.host_calls.iter().filter(|(called, _)| *called == name).map(|(_, calls)| calls).sum()
            }),
        );
        self.meters.log_cut.increment(usage.log_cut_bytes);
        self.log_cut_bytes += usage.log_cut_bytes;
    }

    /// Writes what was counted to the audit, exactly.
    pub(super) fn flush(&mut self, identity: &Identity, recorder: &Recorder) {
        self.collect_usage();
        let actor = identity.actor(&self.stage.plugin);
        self.counts.flush(recorder, &actor);
        let cut_bytes = std::mem::take(&mut self.log_cut_bytes);
        if cut_bytes > 0 {
            recorder.record(evidence::log_cut(actor, &self.stage.plugin, cut_bytes));
        }
    }

    fn faulted(&mut self, place: usize, fault: &Fault, work: &Work, identity: &Identity, recorder: &Recorder) {
        let actor = identity.actor(&self.stage.plugin);
        let source = identity.source_coordinates(&work.message.channel, work.partition, work.offset);
        recorder.record(evidence::faulted(actor.clone(), &self.stage.plugin, fault, source));
        let cost_the_instance = match self.places.get(place) {
            Some(Some(instance)) => instance.is_spent(),
            _ => true,
        };
        if !cost_the_instance {
            return;
        }
        self.retire(place);
        self.lost += 1;
        if self.stage.breaker.strike(Instant::now()) {
            let quarantine = format!("quarantined for {} s: {}", self.stage.breaker.window().as_secs(), fault.kind);
            self.readiness.report(&self.part, Some(quarantine));
            recorder.record(evidence::disabled(actor, fault, self.stage.breaker.window()));
            tracing::error!(
                pipeline = %identity.name, plugin = %self.stage.plugin.name(), kind = %fault.kind,
                "plugin is quarantined: too many restarts"
            );
        }
    }
}

pub(super) struct SlotMeters {
    pass: Counter,
    drop: Counter,
    reject: Counter,
    retry: Counter,
    fault: Counter,
    time: Counter,
    pub(super) restarts: Counter,
    log_cut: Counter,
}

impl SlotMeters {
    pub(super) fn new(identity: &Identity, plugin: &str) -> Self {
        let labels = [("pipeline", &*identity.name), ("plugin", plugin)];
        let calls = |verdict| Metric::PluginCalls.counter(&[labels[0], labels[1], ("verdict", verdict)]);
        Self {
            pass: calls("pass"),
            drop: calls("drop"),
            reject: calls("reject"),
            retry: calls("retry"),
            fault: calls("fault"),
            time: Metric::PluginTime.counter(&labels),
            restarts: Metric::PluginRestarts.counter(&labels),
            log_cut: Metric::PluginLogCut.counter(&labels),
        }
    }

    pub(super) fn add(&self, tally: &Tally) {
        let counters = [
            (&self.pass, tally.pass),
            (&self.drop, tally.drop),
            (&self.reject, tally.reject),
            (&self.retry, tally.retry),
            (&self.fault, tally.fault),
            (&self.time, u64::try_from(tally.time.as_nanos()).unwrap_or(u64::MAX)),
        ];
        for (counter, amount) in counters {
            if amount > 0 {
                counter.increment(amount);
            }
        }
    }
}
