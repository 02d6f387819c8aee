//! The plugins of one lane: an instance of each, replaced when a fault has cost it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::Counter;
use portcullis_audit::{Counts, Recorder};
use portcullis_connector_api::Message;
use portcullis_flow::{Backoff, FaultKind};

use super::Identity;
use super::breaker::Breaker;
use super::evidence;
use super::work::Way;
use crate::capability::Operation;
use crate::plugin::{Fault, Instance, LinkedPlugin, Outcome};
use crate::telemetry::names::Metric;

/// A plugin's place in the chain with what the operator wrote under `on:`. Shared by all lanes.
#[derive(Debug)]
pub struct Stage {
    /// The linked component.
    pub plugin: Arc<LinkedPlugin>,
    /// What each verdict and fault leads to.
    pub on: On,
    pub(super) breaker: Breaker,
}

/// What the operator wrote under `on:`, defaults filled in.
#[derive(Clone, Debug)]
pub struct On {
    /// For the verdict `reject`.
    pub reject: Way,
    /// For a fault.
    pub fault: Way,
    /// Whether the verdict `drop` is honoured.
    pub drop_allowed: bool,
    /// For the verdict `retry`.
    pub backoff: Backoff,
}

impl Stage {
    /// A stage that allows `restarts` new instances in `per` before the plugin is quarantined.
    pub fn new(plugin: Arc<LinkedPlugin>, on: On, restarts: u32, per: Duration) -> Self {
        Self { plugin, on, breaker: Breaker::new(restarts, per) }
    }
}

/// One lane's own copy of a stage.
struct Slot {
    stage: Arc<Stage>,
    instance: Option<Instance>,
    /// Whether the next instance is a restart.
    had_one: bool,
    counts: Counts,
    meters: SlotMeters,
}

struct SlotMeters {
    pass: Counter,
    drop: Counter,
    reject: Counter,
    retry: Counter,
    fault: Counter,
    time: Counter,
    restarts: Counter,
    log_cut: Counter,
}

/// The stages of one lane, in order.
pub(super) struct Chain {
    identity: Arc<Identity>,
    recorder: Recorder,
    slots: Vec<Slot>,
}

impl Chain {
    pub(super) fn new(identity: Arc<Identity>, stages: &[Arc<Stage>], recorder: Recorder) -> Self {
        let slots = stages.iter().map(|stage| Slot::new(&identity, stage.clone())).collect();
        Self { identity, recorder, slots }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn stage(&self, index: usize) -> Option<&Arc<Stage>> {
        self.slots.get(index).map(|slot| &slot.stage)
    }

    /// Makes every instance, so that the first message does not pay for it.
    pub(super) fn warm_up(&mut self) -> Result<(), (String, Fault)> {
        for slot in &mut self.slots {
            if let Err(fault) = slot.ready() {
                return Err((slot.stage.plugin.name().to_owned(), fault));
            }
        }
        Ok(())
    }

    /// Runs one plugin on one message. `source` gives the message's coordinates, asked for only when there is something to
    /// record.
    pub(super) fn process(&mut self, index: usize, message: &mut Message, source: impl Fn() -> String) -> Outcome {
        let Some(slot) = self.slots.get_mut(index) else {
            return Outcome::Pass;
        };
        if let Some(left) = slot.quarantined() {
            return Outcome::Fault(quarantined(left));
        }
        let outcome = match slot.ready() {
            Ok(instance) => instance.process(message),
            Err(fault) => Outcome::Fault(fault),
        };
        if let Outcome::Fault(fault) = &outcome {
            slot.faulted(fault, &self.identity, &self.recorder, source);
        }
        outcome
    }

    /// Adds what one slice has cost: the counters are touched once for all of its messages.
    pub(super) fn count(&mut self, index: usize, tally: &Tally) {
        if let Some(slot) = self.slots.get_mut(index) {
            slot.meters.add(tally);
        }
    }

    /// Writes the host calls of the last second to the audit, exactly.
    pub(super) fn flush_host_calls(&mut self) {
        for slot in &mut self.slots {
            slot.collect_usage();
            let actor = self.identity.actor(&slot.stage.plugin);
            slot.counts.flush(&self.recorder, &actor);
        }
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        self.flush_host_calls();
    }
}

impl Slot {
    fn new(identity: &Identity, stage: Arc<Stage>) -> Self {
        let counts = Counts::new(Operation::NAMES);
        Self { meters: SlotMeters::new(identity, stage.plugin.name()), counts, stage, instance: None, had_one: false }
    }

    /// How much longer the plugin is left alone; asked only where there is no instance to call.
    fn quarantined(&self) -> Option<Duration> {
        match &self.instance {
            Some(instance) if !instance.is_spent() => None,
            _ => self.stage.breaker.quarantined(Instant::now()),
        }
    }

    /// The instance, made anew where a fault has cost the last one.
    fn ready(&mut self) -> Result<&mut Instance, Fault> {
        if self.instance.as_ref().is_some_and(Instance::is_spent) {
            self.collect_usage();
            self.instance = None;
        }
        match &mut self.instance {
            Some(_) => {}
            empty => {
                *empty = Some(self.stage.plugin.instantiate()?);
                if std::mem::replace(&mut self.had_one, true) {
                    self.meters.restarts.increment(1);
                }
            }
        }
        self.instance.as_mut().ok_or_else(|| Fault::new(FaultKind::Trap, "there is no instance"))
    }

    fn collect_usage(&mut self) {
        if let Some(instance) = &mut self.instance {
            let usage = instance.usage();
            self.counts.add_all(&Operation::NAMES.map(|name| {
                usage.host_calls.iter().filter(|(called, _)| *called == name).map(|(_, calls)| calls).sum()
            }));
            self.meters.log_cut.increment(usage.log_cut_bytes);
        }
    }

    fn faulted(&mut self, fault: &Fault, identity: &Identity, recorder: &Recorder, source: impl Fn() -> String) {
        let actor = identity.actor(&self.stage.plugin);
        recorder.record(evidence::faulted(actor.clone(), &self.stage.plugin, fault, source()));
        let cost_the_instance = self.instance.as_ref().is_none_or(Instance::is_spent);
        if cost_the_instance && self.stage.breaker.strike(Instant::now()) {
            recorder.record(evidence::disabled(actor, fault, self.stage.breaker.window()));
            tracing::error!(
                pipeline = %identity.name, plugin = %self.stage.plugin.name(), kind = %fault.kind,
                "plugin is quarantined: too many restarts"
            );
        }
    }
}

fn quarantined(left: Duration) -> Fault {
    let seconds = left.as_secs() + 1;
    Fault::new(FaultKind::Trap, &format!("the plugin is quarantined for another {seconds} s after too many restarts"))
}

/// What one slice has done at one stage.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) pass: u64,
    pub(super) drop: u64,
    pub(super) reject: u64,
    pub(super) retry: u64,
    pub(super) fault: u64,
    pub(super) time: Duration,
}

impl Tally {
    pub(super) fn add(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Pass => self.pass += 1,
            Outcome::Drop(_) => self.drop += 1,
            Outcome::Reject(_) => self.reject += 1,
            Outcome::Retry(_) => self.retry += 1,
            Outcome::Fault(_) => self.fault += 1,
        }
    }
}

impl SlotMeters {
    fn new(identity: &Identity, plugin: &str) -> Self {
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

    fn add(&self, tally: &Tally) {
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
