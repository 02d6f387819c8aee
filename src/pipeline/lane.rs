//! A lane: one thread that takes what waits for it, runs it through its own plugin instances and hands it to the sink, in
//! order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use portcullis_connector_api::{SendError, Sink, Token};
use portcullis_flow::{Completions, FaultKind, Holdback, LaneQueues, Taken};

use super::chain::{Chain, Tally};
use super::revoked::{Revoked, Seen};
use super::work::{Completion, Failure, Origin, Way, Work};
use crate::plugin::{Outcome, Reason};

/// At most this many messages go through the chain together; a slice is what is waiting, it is never waited for.
const SLICE: usize = 256;
const IDLE_WAIT: Duration = Duration::from_millis(200);
const AUDIT_WAIT: Duration = Duration::from_millis(50);
/// Host calls are written to the audit in windows of this length.
const AUDIT_WINDOW: Duration = Duration::from_secs(1);

pub(super) struct Lane {
    pub(super) index: usize,
    pub(super) queues: Arc<LaneQueues<Work>>,
    pub(super) completions: Arc<Completions<Completion>>,
    pub(super) chain: Chain,
    pub(super) sink: Arc<dyn Sink>,
    pub(super) holdback: Holdback<Work>,
    pub(super) parked: metrics::Gauge,
    pub(super) revoked: Arc<Revoked>,
    pub(super) seen: Seen,
    pub(super) audit_full: Arc<AtomicBool>,
    /// Scatters the pauses before retries.
    pub(super) seed: u64,
    /// Reused from slice to slice.
    pub(super) kept: Vec<Work>,
}

impl Lane {
    /// Runs until the intake closes the queues. What is parked for a retry then stays undone and comes again.
    pub(super) fn run(mut self) {
        let mut slice = Vec::with_capacity(SLICE);
        let mut next_flush = Instant::now() + AUDIT_WINDOW;
        loop {
            let wait = match self.holdback.next_due() {
                Some(due) => due.saturating_duration_since(Instant::now()).min(IDLE_WAIT),
                None => IDLE_WAIT,
            };
            // Each message can become an event; with the audit full there would be no room for it.
            while self.audit_full.load(Ordering::Relaxed) && !self.queues.is_closed() {
                std::thread::park_timeout(AUDIT_WAIT);
            }
            match self.queues.take(self.index, &mut slice, SLICE, wait) {
                // The pipeline has ended without these: they are undone and come again.
                Taken::Items if self.queues.is_closed() => break,
                Taken::Items => self.process(&mut slice),
                Taken::TimedOut => {}
                Taken::Closed => break,
            }
            self.retry_due();
            let now = Instant::now();
            if now >= next_flush {
                next_flush = now + AUDIT_WINDOW;
                self.chain.flush_host_calls();
                self.parked.set(self.holdback.len() as f64);
            }
        }
    }

    /// One slice, plugin by plugin: the code and data of one plugin stay in the cache for all of its messages. A message
    /// whose key waits for a retry waits behind it.
    fn process(&mut self, slice: &mut Vec<Work>) {
        let mut kept = std::mem::take(&mut self.kept);
        if !self.holdback.is_empty() {
            for work in slice.drain(..) {
                self.unless_parked(work, |_, work| kept.push(work));
            }
            std::mem::swap(slice, &mut kept);
        }
        for stage in 0..self.chain.len() {
            let mut tally = Tally::default();
            let started = Instant::now();
            if self.chain.is_concurrent(stage) && slice.len() > 1 {
                self.step_together(stage, slice, &mut kept, &mut tally);
            } else {
                self.step_each(slice, &mut kept, &mut tally);
            }
            std::mem::swap(slice, &mut kept);
            tally.time = started.elapsed();
            self.chain.count(stage, &tally);
        }
        for work in slice.drain(..) {
            self.send(&work);
        }
        self.kept = kept;
    }

    /// One message after the other.
    fn step_each(&mut self, slice: &mut Vec<Work>, kept: &mut Vec<Work>, tally: &mut Tally) {
        for mut work in slice.drain(..) {
            if self.is_over(work.token) {
                continue;
            }
            // An earlier message of this slice may have parked the key at this very stage.
            if self.holdback.holds_back(work.key, work.number) {
                self.holdback.push_behind(work.key, work.number, work);
                continue;
            }
            let outcome = self.step(&mut work);
            tally.add(&outcome);
            match outcome {
                Outcome::Pass => kept.push(work),
                other => self.leave(work, other),
            }
        }
    }

    /// Several messages at once, for a plugin that waits; they leave in their order. A message whose key was parked by an
    /// earlier one while it was in work itself waits behind that one: past this stage when it has passed it, else to be asked
    /// again, since what it did not pass may look different then.
    fn step_together(&mut self, stage: usize, slice: &mut Vec<Work>, kept: &mut Vec<Work>, tally: &mut Tally) {
        let (queues, revoked, seen) = (&self.queues, &self.revoked, &mut self.seen);
        let go_on = |work: &Work| !queues.is_closed() && !seen.is_gone(revoked, work.token);
        let done = self.chain.process_together(stage, slice.drain(..), go_on);
        for (mut work, outcome) in done {
            let Some(outcome) = outcome else { continue };
            tally.add(&outcome);
            if matches!(outcome, Outcome::Pass) {
                work.passed();
            }
            if self.is_over(work.token) {
                continue;
            }
            if self.holdback.holds_back(work.key, work.number) {
                self.holdback.push_behind(work.key, work.number, work);
                continue;
            }
            match outcome {
                Outcome::Pass => kept.push(work),
                other => self.leave(work, other),
            }
        }
    }

    fn unless_parked(&mut self, work: Work, then: impl FnOnce(&mut Self, Work)) {
        if self.holdback.holds_back(work.key, work.number) {
            self.holdback.push_behind(work.key, work.number, work);
        } else {
            then(self, work);
        }
    }

    /// Gives the message to its next plugin.
    fn step(&mut self, work: &mut Work) -> Outcome {
        let outcome = self.chain.process(work.stage, work);
        if matches!(outcome, Outcome::Pass) {
            work.passed();
        }
        outcome
    }

    /// Messages whose pause is over, each followed by those that waited behind it.
    fn retry_due(&mut self) {
        while let Some((key, mut work)) = self.holdback.due(Instant::now()) {
            if self.is_over(work.token) {
                self.holdback.done(key);
                continue;
            }
            let outcome = loop {
                if work.stage >= self.chain.len() {
                    break Outcome::Pass;
                }
                let stage = work.stage;
                let mut tally = Tally::default();
                let started = Instant::now();
                let outcome = self.step(&mut work);
                tally.add(&outcome);
                tally.time = started.elapsed();
                self.chain.count(stage, &tally);
                if !matches!(outcome, Outcome::Pass) {
                    break outcome;
                }
            };
            match outcome {
                Outcome::Pass => self.send(&work),
                other => match self.judge(&mut work, other) {
                    Judgement::Again(at) => {
                        self.holdback.again(key, work, at);
                        continue;
                    }
                    judgement => self.take_out(&work, judgement),
                },
            }
            self.holdback.done(key);
        }
    }

    /// A message that did not pass: parked, dropped or on its way out.
    fn leave(&mut self, mut work: Work, outcome: Outcome) {
        match self.judge(&mut work, outcome) {
            Judgement::Again(at) => self.holdback.park(work.key, work.number, work, at),
            judgement => self.take_out(&work, judgement),
        }
    }

    fn take_out(&mut self, work: &Work, judgement: Judgement) {
        let (kind, reason, way) = match judgement {
            Judgement::Out(kind, reason, way) => (kind, reason, way),
            Judgement::Dropped | Judgement::Again(_) => return self.completions.push(Completion::Dropped(work.token)),
        };
        let Some(stage) = self.chain.stage(work.stage) else { return };
        let origin = Origin::Plugin(stage.plugin.clone());
        let attempts = work.attempts + 1;
        let code = stable(reason.code, kind);
        let failure = Failure { kind, code, detail: reason.detail, origin, attempts, way };
        self.completions.push(Completion::Failed(work.token, Box::new(failure)));
        if way == Way::Stop {
            // Nothing of its key may leave after it, and the intake learns of it only at its next turn.
            self.queues.close();
        }
    }

    /// Whether nothing of this message may happen any more: the pipeline has ended, or its partition is another's.
    fn is_over(&mut self, token: Token) -> bool {
        self.queues.is_closed() || self.seen.is_gone(&self.revoked, token)
    }

    /// What the operator's `on:` makes of an outcome.
    fn judge(&mut self, work: &mut Work, outcome: Outcome) -> Judgement {
        let Some(stage) = self.chain.stage(work.stage) else { return Judgement::Dropped };
        let on = &stage.on;
        match outcome {
            // A pass never comes here; a drop that is allowed ends the message.
            Outcome::Pass => Judgement::Dropped,
            Outcome::Drop(_) if on.drop_allowed => Judgement::Dropped,
            Outcome::Drop(reason) => Judgement::Out(
                FaultKind::CapabilityDenied,
                Reason {
                    code: "drop_not_allowed".to_owned(),
                    detail: format!("the plugin may not drop (on: {{ drop: allow }} is not set): {}", reason.detail),
                },
                on.fault,
            ),
            Outcome::Reject(reason) => Judgement::Out(FaultKind::Rejected, reason, on.reject),
            Outcome::Retry(reason) => {
                // A linear congruential step is enough to keep lanes from retrying in step.
                self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                match on.backoff.delay(work.attempts + 1, self.seed) {
                    Some(delay) => {
                        work.attempts += 1;
                        Judgement::Again(Instant::now() + delay)
                    }
                    None => Judgement::Out(FaultKind::RetriesExhausted, reason, on.fault),
                }
            }
            Outcome::Fault(fault) => {
                let code = fault.kind.as_str().to_owned();
                Judgement::Out(fault.kind, Reason { code, detail: fault.detail }, on.fault)
            }
        }
    }

    /// Hands a message to the sink; a full sink holds the lane, which fills the queue, which stops the intake.
    fn send(&mut self, work: &Work) {
        while !self.is_over(work.token) {
            match self.sink.send(&work.message, work.token) {
                Ok(()) => return,
                Err(SendError::Full) => self.sink.wait_for_room(IDLE_WAIT),
                Err(SendError::Refused(refusal)) => {
                    return self.completions.push(Completion::Refused(work.token, Box::new(refusal)));
                }
                Err(SendError::Fatal(error)) => return self.completions.push(Completion::Broken(Box::new(error))),
            }
        }
    }
}

/// The plugin's code where it is the short stable name that it should be. It goes into logs, headers and the audit, where
/// nobody expects a sentence, a payload or another tool's syntax.
fn stable(code: String, kind: FaultKind) -> String {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    match code.as_str() {
        "" => kind.as_str().to_owned(),
        text if text.chars().all(is_name) => code,
        _ => "invalid_code".to_owned(),
    }
}

enum Judgement {
    /// To the same plugin again, at this time.
    Again(Instant),
    /// Done.
    Dropped,
    /// By this way, for this reason.
    Out(FaultKind, Reason, Way),
}
