//! The way of every request of an instance: facts, decision, quota, record. Handles of it go into the futures of streams,
//! lookups and HTTP requests, which outlive the host call that began them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use portcullis_audit::{Attempt, Budget as BudgetFact, Denials, Event, Excesses, Source, Telling};
use portcullis_policy::{Denied, Granted, Quota, Reason, Request};

use crate::egress::Egress;
use crate::evidence::{Intent, about};
use crate::guest::Record;
use crate::lookup::Answers;
use crate::pins::Pins;
use crate::quota::{Exhausted, Slot, Throttle};

/// What one instance may do. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Shared>);

struct Shared {
    egress: Option<Arc<Egress>>,
    /// Of this instance alone: no other lane waits for it, and no wait of this one is inside.
    work: Mutex<Work>,
}

/// What changes while an instance works.
#[derive(Default)]
pub(crate) struct Work {
    record: Option<Record>,
    /// What events say of the record, made when the first of them needs it.
    source: Option<Source>,
    pub(crate) pins: Pins,
    pub(crate) answers: Answers,
    pub(crate) cached_lookups: u64,
    denials: Denials,
    excesses: Excesses,
}

impl Gate {
    pub(crate) fn new(egress: Option<Arc<Egress>>) -> Self {
        Self(Arc::new(Shared { egress, work: Mutex::default() }))
    }

    /// None where nothing may be reached and nothing can be recorded: while a plan is made.
    pub(crate) fn egress(&self) -> Option<&Arc<Egress>> {
        self.0.egress.as_ref()
    }

    /// Never held across an await.
    pub(crate) fn work(&self) -> MutexGuard<'_, Work> {
        self.0.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begin(&self, record: Option<Record>) {
        let mut work = self.work();
        work.record = record;
        work.source = None;
    }

    /// The record in work, as events name it.
    pub(crate) fn source(&self) -> Option<Source> {
        let mut work = self.work();
        if work.source.is_none() {
            work.source = work.record.as_ref().map(Record::source);
        }
        work.source.clone()
    }

    /// Decides and neither records nor reserves.
    ///
    /// # Errors
    /// The refusal.
    pub(crate) fn decide(&self, request: &Request<'_>) -> Result<Granted, Denied> {
        self.decide_with(request, None)
    }

    fn decide_with(&self, request: &Request<'_>, exhausted: Option<Quota>) -> Result<Granted, Denied> {
        let Some(egress) = self.egress() else {
            return Err(Denied::of_effect(Reason::CapabilityAbsent, None));
        };
        let work = self.work();
        let pins = match request {
            Request::Connect { to } | Request::Datagram { to } => work.pins.of(to.ip()),
            _ => &[],
        };
        egress.decide(request, pins, exhausted)
    }

    /// Decides, and records a refusal.
    ///
    /// # Errors
    /// The refusal.
    pub(crate) fn ask(
        &self,
        request: &Request<'_>,
        attempt: Attempt,
        code: fn(Reason) -> &'static str,
    ) -> Result<Granted, Denied> {
        self.decide(request).inspect_err(|denied| self.refused(attempt, denied, Some(code(denied.reason))))
    }

    /// Decides a [`Request::Connect`] and takes its place in the budgets. Records no refusal, but the quota that was met.
    ///
    /// # Errors
    /// The refusal. Nothing is taken then.
    fn decide_connect(&self, request: &Request<'_>) -> Result<(Granted, Slot), Denied> {
        let granted = self.decide(request)?;
        let Some(egress) = self.egress() else {
            return Err(Denied::of_effect(Reason::CapabilityAbsent, None));
        };
        let slot = egress.budgets().slot().map_err(|met| self.over(request, Quota::Sockets, met))?;
        egress.budgets().connect().map_err(|met| self.over(request, Quota::Connects, met))?;
        Ok((granted, slot))
    }

    /// As [`Gate::decide_connect`], and records a refusal.
    ///
    /// # Errors
    /// The refusal. Nothing is taken then.
    pub(crate) fn ask_connect(
        &self,
        request: &Request<'_>,
        code: fn(Reason) -> &'static str,
    ) -> Result<(Granted, Slot), Denied> {
        let asked = self.decide_connect(request);
        asked.inspect_err(|denied| self.refused(Attempt::Connect, denied, Some(code(denied.reason))))
    }

    /// The refusal of a request that all rules allow, for want of room.
    pub(crate) fn over(&self, request: &Request<'_>, quota: Quota, met: Exhausted) -> Denied {
        let reason = quota.reason();
        self.exceeded(reason, met);
        // Asked again, so that this refusal is a decision as every other one.
        self.decide_with(request, Some(quota)).err().unwrap_or_else(|| Denied::of_effect(reason, None))
    }

    /// Records that a quota was met: the first time at once, then a count for each window.
    pub(crate) fn exceeded(&self, reason: Reason, exhausted: Exhausted) {
        let Some(egress) = self.egress() else { return };
        let evidence = egress.evidence();
        evidence.met(reason, exhausted.scope);
        let source = self.source();
        let told = self.work().excesses.add(reason.as_str(), exhausted.scope, exhausted.limit);
        if let Some(told) = told
            && !evidence.refuse(about(evidence.exceeded(told.clone()), source.as_ref()))
        {
            self.work().excesses.untold(&told);
        }
    }

    /// Records a refusal. Repeats within a second are counted and become one event.
    pub(crate) fn refused(&self, attempt: Attempt, denied: &Denied, guest_code: Option<&'static str>) {
        self.refused_from(attempt, denied, guest_code, false);
    }

    /// Records that something from outside was kept from the plugin.
    pub(crate) fn refused_inbound(&self, attempt: Attempt, denied: &Denied) {
        self.refused_from(attempt, denied, None, true);
    }

    fn refused_from(&self, attempt: Attempt, denied: &Denied, guest_code: Option<&'static str>, inbound: bool) {
        let Some(egress) = self.egress() else { return };
        let source = self.source();
        let mut denial = egress.evidence().denial(attempt, denied, guest_code);
        denial.inbound = inbound;
        // Recorded when the lock is free: other handles of the instance must not wait for the audit's.
        let told = self.work().denials.add(source.as_ref(), denial);
        self.tell(egress, told);
    }

    /// Records refusals. Without room they are counted on: however many a guest makes, they take no place of results, and each
    /// is told once.
    fn tell(&self, egress: &Egress, told: Vec<Telling>) {
        let evidence = egress.evidence();
        for telling in told {
            if !evidence.refuse(telling.event(evidence.actor())) {
                self.work().denials.untold(telling);
            }
        }
    }

    /// Waits until an effect's event may find room in the audit, at most as long as the audit's deadline. To be awaited before
    /// an effect is decided: recording itself never waits, since the thread may be that of other guests too.
    pub(crate) async fn room(&self) {
        if let Some(egress) = self.egress() {
            egress.evidence().room().await;
        }
    }

    /// Records what came of an effect.
    pub(crate) fn record(&self, event: Event) {
        if let Some(egress) = self.egress() {
            egress.evidence().record(event);
        }
    }

    /// Records the event of an effect that is about to happen; none where nothing can be recorded.
    pub(crate) fn intend(&self, event: Event) -> Option<Intent> {
        self.egress().map(|egress| egress.evidence().intend(event))
    }

    pub(crate) fn bytes_out(&self) -> Option<Throttle> {
        self.egress().map(|egress| egress.budgets().bytes_out())
    }

    pub(crate) fn bytes_in(&self) -> Option<Throttle> {
        self.egress().map(|egress| egress.budgets().bytes_in())
    }

    /// Ends a window of what is counted.
    pub(crate) fn flush(&self) {
        let Some(egress) = self.egress() else { return };
        let (told, exceeded) = self.work().flush();
        self.tell(egress, told);
        let evidence = egress.evidence();
        for told in exceeded {
            if !evidence.refuse(evidence.exceeded(told.clone())) {
                self.work().excesses.untold(&told);
            }
        }
    }
}

impl Work {
    /// What was counted since the last time, to be recorded when the lock is free.
    fn flush(&mut self) -> (Vec<Telling>, Vec<BudgetFact>) {
        (self.denials.flush(), self.excesses.flush())
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let work = self.work.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(egress) = &self.egress {
            let (told, exceeded) = work.flush();
            let evidence = egress.evidence();
            told.iter().for_each(|telling| evidence.refuse_last(telling.event(evidence.actor())));
            exceeded.into_iter().for_each(|told| evidence.refuse_last(evidence.exceeded(told)));
        }
    }
}

#[cfg(test)]
#[path = "tests/gate.rs"]
mod tests;
