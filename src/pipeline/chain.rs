//! The plugins of one lane: an instance of each, replaced when a fault has cost it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use portcullis_audit::Recorder;
use portcullis_connector_api::Channel;
use portcullis_flow::{Backoff, FaultKind};
use portcullis_net::{Effects, Egress, Record};

use super::Identity;
use super::breaker::{Breaker, Restarts};
use super::slot::Slot;
use super::tap::{Look, Watching};
use super::together;
use super::work::{Way, Work};
use crate::plugin::{Fault, LinkedPlugin, Outcome, waiting_handle};
use crate::telemetry::readiness::Readiness;

/// A plugin's place in the chain with what the operator wrote under `on:`. Shared by all lanes.
pub struct Stage {
    /// The linked component.
    pub plugin: Arc<LinkedPlugin>,
    /// What each verdict and fault leads to.
    pub on: On,
    /// When an instance is thrown away.
    pub life: Life,
    /// Instances of one lane that work at once; more than one only for a plugin that may wait.
    pub concurrency: usize,
    /// Opens the plugin's network once its evidence has a place to go; none without the grant, or when it was opened.
    pub egress: Mutex<Option<EgressMaker>>,
    /// What its network opens with.
    effects: Effects,
    pub(super) breaker: Breaker,
}

/// Opens the network of a plugin.
pub type EgressMaker = Box<dyn FnOnce(&Recorder, Effects) -> Arc<Egress> + Send>;

/// How long an instance of a plugin lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// As long as its lane, until a fault.
    Lane,
    /// As long as what was waiting when it began.
    Batch,
    /// One message: nothing of one is there for the next.
    Message,
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
    /// A stage whose plugin is quarantined when it loses more instances than `restarts` allows.
    pub fn new(plugin: Arc<LinkedPlugin>, on: On, restarts: Restarts) -> Self {
        Self {
            plugin,
            on,
            life: Life::Lane,
            concurrency: 1,
            egress: Mutex::new(None),
            effects: Effects::Real,
            breaker: Breaker::new(restarts),
        }
    }
}

impl Stage {
    /// Opens the plugin's network, where it has one. A pipeline starts once.
    pub(crate) fn open_egress(&self, recorder: &Recorder) -> Option<Arc<Egress>> {
        let maker = self.egress.lock().unwrap_or_else(PoisonError::into_inner).take();
        maker.map(|open| open(recorder, self.effects))
    }

    /// For a run without effects: requests are withheld, and what a plugin loses over that must not put it into quarantine.
    pub(crate) fn withhold_egress(&mut self) {
        self.effects = Effects::Withheld;
        if self.egress.get_mut().unwrap_or_else(PoisonError::into_inner).is_some() {
            self.breaker = Breaker::new(Restarts { most: u32::MAX, window: self.breaker.window(), sums: Vec::new() });
        }
    }
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage").field("plugin", &self.plugin.name()).field("on", &self.on).finish_non_exhaustive()
    }
}

/// The stages of one lane, in order.
pub(super) struct Chain {
    identity: Arc<Identity>,
    recorder: Recorder,
    slots: Vec<Slot>,
}

impl Chain {
    /// `egress` has the open network of each stage that has one.
    pub(super) fn new(
        identity: Arc<Identity>,
        stages: &[Arc<Stage>],
        egress: &[Option<Arc<Egress>>],
        recorder: Recorder,
        readiness: &Readiness,
    ) -> Self {
        let networks = egress.iter().cloned().chain(std::iter::repeat(None));
        let slot = |(stage, egress): (&Arc<Stage>, _)| Slot::new(&identity, stage.clone(), egress, readiness.clone());
        let slots = stages.iter().zip(networks).map(slot).collect();
        Self { slots, identity, recorder }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn stage(&self, index: usize) -> Option<&Arc<Stage>> {
        self.slots.get(index).map(|slot| &slot.stage)
    }

    /// Whether several messages are worked on at once at this stage.
    pub(super) fn is_concurrent(&self, index: usize) -> bool {
        self.slots.get(index).is_some_and(|slot| slot.places.len() > 1)
    }

    /// Makes an instance of each, so that the first message does not pay for it.
    pub(super) fn warm_up(&mut self) -> Result<(), (String, Fault)> {
        for slot in &mut self.slots {
            if let Err(fault) = slot.ready() {
                return Err((slot.stage.plugin.name().to_owned(), fault));
            }
        }
        Ok(())
    }

    /// Runs one plugin on one message.
    pub(super) fn process(&mut self, index: usize, work: &mut Work, watching: Option<&Watching>) -> Outcome {
        let Some(stage) = watching.and_then(|_| self.stage(index)).cloned() else {
            return self.call(index, work);
        };
        let withheld = |slots: &[Slot]| slots.get(index).map_or(0, Slot::withheld);
        let look = Look::begin(watching, stage.plugin.name(), work, withheld(&self.slots));
        let outcome = self.call(index, work);
        if let Some(look) = look {
            let fuel = self.slots.get(index).map_or(0, |slot| slot.last_fuel(&outcome));
            look.end(stage.plugin.name(), work, &outcome, fuel, withheld(&self.slots));
        }
        outcome
    }

    fn call(&mut self, index: usize, work: &mut Work) -> Outcome {
        let Some(slot) = self.slots.get_mut(index) else {
            return Outcome::Pass;
        };
        if let Some(fault) = slot.quarantined(0) {
            return Outcome::Fault(fault);
        }
        let channel = slot.egress.is_some().then(|| work.message.channel.clone());
        let outcome = match slot.ready() {
            Ok(instance) => {
                if let Some(channel) = channel {
                    instance.about(|| record(&self.identity, channel, work));
                }
                instance.process(&mut work.message)
            }
            Err(fault) => Outcome::Fault(fault),
        };
        slot.after(0, &outcome, work, &self.identity, &self.recorder);
        // One that never waits is done with a slice long before a window ends.
        if slot.stage.plugin.may_wait() {
            slot.flush_when_due(&self.identity, &self.recorder);
        }
        outcome
    }

    /// Runs one plugin on several messages at once, each in an instance of its own, and gives them back in their order. A
    /// message has no outcome when `go_on` refused to begin it.
    pub(super) fn process_together(
        &mut self,
        index: usize,
        slice: impl ExactSizeIterator<Item = Work>,
        go_on: impl FnMut(&Work) -> bool,
        watching: Option<&Watching>,
    ) -> Vec<(Work, Option<Outcome>)> {
        let (identity, recorder) = (&self.identity, &self.recorder);
        match (self.slots.get_mut(index), waiting_handle()) {
            (Some(slot), Ok(handle)) => {
                handle.block_on(together::run(slot, slice, go_on, (identity, recorder, watching)))
            }
            // There is a runtime, or its instances could not have been made.
            _ => slice.map(|work| (work, None)).collect(),
        }
    }

    /// Adds what one slice has cost: the counters are touched once for all of its messages.
    pub(super) fn count(&mut self, index: usize, tally: &Tally) {
        if let Some(slot) = self.slots.get_mut(index) {
            slot.count(tally);
            if slot.stage.life == Life::Batch {
                (0..slot.places.len()).for_each(|place| slot.retire(place));
            }
        }
    }

    /// Writes the host calls of the last second to the audit, exactly, and tells how the plugins are.
    pub(super) fn flush_host_calls(&mut self) {
        for slot in &mut self.slots {
            slot.flush(&self.identity, &self.recorder);
            slot.tell_memory();
        }
    }

    /// The most messages that are worked on at once at a stage that may wait; none where no stage may.
    pub(super) fn most_waiting(&self) -> Option<usize> {
        let waits = self.slots.iter().filter(|slot| slot.stage.plugin.may_wait());
        waits.map(|slot| slot.places.len()).max()
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        self.flush_host_calls();
        self.slots.iter_mut().for_each(Slot::end);
    }
}

/// Where a message came from, for the events of what a plugin does with the network.
pub(super) fn record(identity: &Identity, channel: Channel, work: &Work) -> Record {
    let (pipeline, headers) = (identity.name.clone(), work.message.headers.clone());
    Record { pipeline, channel, partition: work.partition, offset: work.offset, headers }
}

/// The code of a message that was not given to its plugin.
pub(super) const QUARANTINED: &str = "quarantined";

/// What a message meets while its plugin is left alone. Its kind is that of the loss which began the quarantine; its code says
/// that this message was never given to the plugin.
pub(super) fn quarantined(left: Duration, kind: FaultKind) -> Fault {
    let seconds = left.as_secs() + 1;
    let detail = format!("the plugin is quarantined for another {seconds} s after too many lost instances");
    Fault { code: Some(QUARANTINED), ..Fault::new(kind, &detail) }
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
            // No call.
            Outcome::Fault(fault) if fault.code == Some(QUARANTINED) => {}
            Outcome::Fault(_) => self.fault += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_a_quarantine_kept_from_the_plugin_is_no_call_and_says_so() {
        let fault = quarantined(Duration::from_secs(3), FaultKind::Deadline);
        assert_eq!((fault.kind, fault.code), (FaultKind::Deadline, Some("quarantined")));
        let mut tally = Tally::default();
        tally.add(&Outcome::Fault(fault));
        assert_eq!(tally.fault, 0);
        tally.add(&Outcome::Fault(Fault::new(FaultKind::Deadline, "limit=250ms")));
        assert_eq!(tally.fault, 1);
    }
}
