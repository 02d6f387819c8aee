//! One lane's own copy of a stage: its instances, replaced when a fault has cost one, and what they have used.

use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis_audit::{Counts, Recorder, Scope, Window, now_ms};
use portcullis_connector_api::Trace;
use portcullis_flow::FaultKind;
use portcullis_net::Egress;

use super::Identity;
use super::breaker::{Admission, Probe};
use super::chain::{Life, QUARANTINED, Stage, Tally, quarantined};
use super::evidence;
use super::slot_meters::SlotMeters;
use super::work::Work;
use crate::capability::Operation;
use crate::plugin::{Fault, Instance, LogCut, Outcome, TurnsWaited};
use crate::telemetry::readiness::Readiness;

/// Host calls are written to the audit in windows of this length.
pub(super) const AUDIT_WINDOW: Duration = Duration::from_secs(1);

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
    /// Log lines that were cut since the last time this was recorded, one for each limit that cut some.
    log_cuts: Vec<LogCut>,
    /// Turns on the processor that were waited for since the last time this was recorded.
    turns_waited: TurnsWaited,
    /// When the window of the audit began, in milliseconds since 1970.
    window_start_ms: u64,
    /// The place whose call decides whether the quarantine is over.
    probe: Option<(usize, Probe)>,
    /// When the window of the audit ends.
    next_flush: Instant,
    /// Places whose instance was in work when the last window ended.
    owed: Vec<bool>,
    /// What the last instance that ended had used in its last call, until that is told.
    ended_fuel: Option<u64>,
    /// What this slot has added to the plugin's memory gauge, in bytes.
    told_memory_bytes: u64,
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
            log_cuts: Vec::new(),
            turns_waited: TurnsWaited::default(),
            window_start_ms: now_ms(),
            probe: None,
            next_flush: Instant::now() + AUDIT_WINDOW,
            owed: vec![false; places],
            ended_fuel: None,
            told_memory_bytes: 0,
            readiness,
        }
    }

    /// Asked before each call: what its message meets instead while the plugin is left alone.
    pub(super) fn quarantined(&mut self, place: usize) -> Option<Fault> {
        if !self.stage.breaker.is_tripped() {
            return None;
        }
        match self.stage.breaker.admit(Instant::now()) {
            Admission::Call => None,
            Admission::Probe(probe) => {
                self.probe = Some((place, probe));
                None
            }
            Admission::Refused(left, kind) => Some(quarantined(left, kind)),
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

    /// Puts an instance back. Where a window has ended during its call, what it has counted is taken now: at the end of the
    /// next one it may be in work again.
    pub(super) fn put(&mut self, place: usize, mut instance: Instance) {
        if self.owed.get_mut(place).is_some_and(std::mem::take) {
            self.collect(&mut instance);
        }
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
        let probe = self.probe.take_if(|(at, _)| *at == place);
        if let Outcome::Fault(fault) = outcome {
            self.faulted(place, fault, work, identity, recorder);
        } else {
            if probe.is_some_and(|(_, probe)| self.stage.breaker.recovered(probe)) {
                self.tell_quarantine();
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
            self.ended_fuel = Some(instance.fuel());
            self.collect(&mut instance);
            instance.end();
        }
    }

    /// Fuel of the call that has just ended; none where there was no call.
    pub(super) fn last_fuel(&self, outcome: &Outcome) -> u64 {
        if matches!(outcome, Outcome::Fault(fault) if fault.code == Some(QUARANTINED)) {
            return 0;
        }
        let instance = self.places.first().and_then(Option::as_ref);
        instance.map(Instance::fuel).or(self.ended_fuel).unwrap_or(0)
    }

    /// Requests of the plugin that were refused only because the run has no effects.
    pub(super) fn withheld(&self) -> u64 {
        self.egress.as_ref().map_or(0, |egress| egress.withheld())
    }

    /// Tells what a slice has cost. Of its fuel one call is told, which stands for all: asking after each would cost more.
    pub(super) fn count(&mut self, tally: &Tally) {
        self.meters.add(tally);
        let ended = self.ended_fuel.take();
        let fuel = self.places.first().and_then(Option::as_ref).map(Instance::fuel).or(ended);
        if let Some(fuel) = fuel {
            self.meters.fuel.record(fuel as f64);
        }
    }

    /// Brings this slot's part of the plugin's memory up to date. To be asked when no instance is in work.
    pub(super) fn tell_memory(&mut self) {
        let bytes = self.places.iter().flatten().map(Instance::memory_bytes).sum();
        let before = std::mem::replace(&mut self.told_memory_bytes, bytes);
        // The gauge is all lanes': each adds and takes away what is its own.
        self.meters.memory.increment(bytes as f64 - before as f64);
    }

    /// Tells on `/ready` and in the metrics whether the plugin is in quarantine. When its window is over it is not any more,
    /// also while no message comes to be the probe.
    fn tell_quarantine(&self) {
        self.stage.breaker.tell(Instant::now(), |quarantine| {
            self.meters.quarantined.set(if quarantine.is_some() { 1.0 } else { 0.0 });
            let text = quarantine.map(|(window, kind)| format!("quarantined for {} s: {kind}", window.as_secs()));
            self.readiness.report(&self.part, text);
        });
    }

    /// The lane ends: nothing of it is told any more.
    pub(super) fn end(&mut self) {
        (0..self.places.len()).for_each(|place| self.retire(place));
        self.tell_memory();
        if self.stage.breaker.is_tripped() {
            self.meters.quarantined.set(0.0);
            self.readiness.report(&self.part, None);
        }
    }

    fn collect_usage(&mut self) {
        for place in 0..self.places.len() {
            if let Some(mut instance) = self.take(place) {
                self.collect(&mut instance);
                // Not owed: it was in its place.
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
        let waited = usage.turns_waited;
        if waited.turns > 0 {
            self.meters.limit(evidence::CPU_SHARE, Scope::Tenant).increment(waited.turns);
            self.meters.turn_wait.increment(u64::try_from(waited.time.as_nanos()).unwrap_or(u64::MAX));
            let (turns, time) = (self.turns_waited.turns + waited.turns, self.turns_waited.time + waited.time);
            self.turns_waited = TurnsWaited { turns, time, share: waited.share };
        }
        for cut in usage.log_cuts {
            self.meters.log_cut.increment(cut.bytes);
            match self.log_cuts.iter_mut().find(|other| other.scope == cut.scope) {
                Some(other) => other.bytes += cut.bytes,
                None => self.log_cuts.push(cut),
            }
        }
    }

    /// How long the window of the audit lasts yet.
    pub(super) fn until_flush(&self) -> Duration {
        self.next_flush.saturating_duration_since(Instant::now())
    }

    /// As [`flush`](Self::flush), once the window is over: for calls that take long, within a slice.
    pub(super) fn flush_when_due(&mut self, identity: &Identity, recorder: &Recorder) {
        if Instant::now() >= self.next_flush {
            self.flush(identity, recorder);
        }
    }

    /// Ends the window: writes what was counted to the audit, exactly. What an instance in work has counted is written with the
    /// window in which its call ends.
    pub(super) fn flush(&mut self, identity: &Identity, recorder: &Recorder) {
        self.next_flush = Instant::now() + AUDIT_WINDOW;
        if self.stage.breaker.is_tripped() {
            self.tell_quarantine();
        }
        for (owed, place) in self.owed.iter_mut().zip(&self.places) {
            *owed = place.is_none();
        }
        self.collect_usage();
        if let Some(egress) = &self.egress {
            self.meters.tell_egress(egress.decisions());
            // The plugin's own numbers, over all lanes.
            egress.limits_met().for_each(|(kind, scope, count)| self.meters.limit(kind, scope).absolute(count));
        }
        let (end_ms, waited) = (now_ms(), std::mem::take(&mut self.turns_waited));
        let start_ms = std::mem::replace(&mut self.window_start_ms, end_ms);
        let actor = identity.actor(&self.stage.plugin);
        self.counts.flush(recorder, &actor);
        if waited.turns > 0 {
            let window = Window { count: waited.turns, start_ms, end_ms };
            recorder.record(evidence::turns_waited(actor.clone(), &waited, window));
        }
        for cut in self.log_cuts.drain(..) {
            recorder.record(evidence::log_cut(actor.clone(), cut));
        }
    }

    fn faulted(&mut self, place: usize, fault: &Fault, work: &Work, identity: &Identity, recorder: &Recorder) {
        let actor = identity.actor(&self.stage.plugin);
        let trace = Trace::of(&work.message.headers);
        let source = identity.source(&work.message.channel, (work.partition, work.offset), trace);
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
        if let Some(limit) = self.stage.breaker.strike(Instant::now(), fault.kind) {
            self.tell_quarantine();
            if limit.scope != Scope::Plugin {
                self.meters.limit(evidence::RESTARTS, limit.scope).increment(1);
                recorder.record(evidence::restarts_of_level(actor.clone(), limit.scope, limit.most));
            }
            recorder.record(evidence::disabled(actor, fault, limit.window));
            tracing::error!(
                pipeline = %identity.name, plugin = %self.stage.plugin.name(), kind = %fault.kind,
                limit = limit.most, scope = limit.scope.as_str(), "plugin is quarantined: too many restarts"
            );
        }
    }
}
