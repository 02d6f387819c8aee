//! A lane: one thread that takes what waits for it, runs it through its own plugin instances and hands it to the sink, in
//! order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use portcullis_connector_api::{SendError, Sink, Token};
use portcullis_flow::{Completions, Holdback, LaneQueues, Taken};

use super::chain::{Chain, Tally};
use super::handed::Handed;
use super::held::{Held, LaneCopy};
use super::judge::{Judgement, Out, Stayed, judge};
use super::origin::{OUTPUT, SourceIdentity};
use super::slot::AUDIT_WINDOW;
use super::tap::{At, PlaceOf, Position, Seen, Sight, Taps, Watching};
use super::work::{Completion, Failure, Origin, Way, Work, assignment_of};
use crate::plugin::Outcome;

/// At most this many messages go through the chain together; a slice is what is waiting, it is never waited for.
const SLICE: usize = 256;
const IDLE_WAIT: Duration = Duration::from_millis(200);
const AUDIT_WAIT: Duration = Duration::from_millis(50);
/// Retries begin calls of one plugin for so long, then it is the turn of what has come meanwhile: however many keys wait for
/// an API that hangs, and however long each call takes, a message of another key waits for one round of calls.
const RETRY_TURN: Duration = Duration::from_millis(100);
/// So many rounds of calls are taken up for a plugin that waits: what is taken up and not begun is put back.
const RETRY_ROUNDS: usize = 4;
const FEWEST_RETRIES: usize = 32;

pub(super) struct Lane {
    pub(super) index: usize,
    pub(super) queues: Arc<LaneQueues<Work>>,
    pub(super) completions: Arc<Completions<Completion>>,
    pub(super) chain: Chain,
    pub(super) sink: Arc<dyn Sink>,
    pub(super) source: SourceIdentity,
    pub(super) holdback: Holdback<Work>,
    pub(super) parked: metrics::Gauge,
    pub(super) held: Arc<Held>,
    pub(super) handed: Arc<Handed>,
    pub(super) held_copy: LaneCopy,
    pub(super) audit_full: Arc<AtomicBool>,
    /// Scatters the pauses before retries.
    pub(super) seed: u64,
    /// Reused from slice to slice.
    pub(super) kept: Vec<Work>,
    pub(super) taps: Arc<Taps>,
    /// Who looks at the slice in work.
    pub(super) watching: Option<Watching>,
    pub(super) place: PlaceOf,
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
                std::thread::sleep(AUDIT_WAIT);
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
            kept.extend(slice.drain(..).filter_map(|work| self.unless_held_back(work)));
            std::mem::swap(slice, &mut kept);
        }
        self.kept = kept;
        self.run_chain(slice, None);
    }

    /// Runs the chain from where each message stands, and sends what has passed. Messages of one key are in their order, and
    /// all of them go before those of the key that wait. Past its `turn` a stage begins no call; what is left is due at once.
    fn run_chain(&mut self, slice: &mut Vec<Work>, turn: Option<Duration>) {
        let mut kept = std::mem::take(&mut self.kept);
        self.watching = self.taps.watching();
        for stage in 0..self.chain.len() {
            if !slice.iter().any(|work| work.stage == stage) {
                continue;
            }
            let mut tally = Tally::default();
            let started = Instant::now();
            let step = Step { stage, until: turn.map(|turn| started + turn) };
            if self.chain.is_concurrent(stage) && slice.len() > 1 {
                self.step_together(step, slice, &mut kept, &mut tally);
            } else {
                self.step_each(step, slice, &mut kept, &mut tally);
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
    fn step_each(&mut self, step: Step, slice: &mut Vec<Work>, kept: &mut Vec<Work>, tally: &mut Tally) {
        for work in slice.drain(..) {
            if self.is_over(work.token) {
                continue;
            }
            // An earlier message of this slice may have parked the key at this very stage.
            let Some(mut work) = self.unless_held_back(work) else { continue };
            if work.stage != step.stage {
                kept.push(work);
                continue;
            }
            if step.is_over() {
                self.holdback.push_behind(work.key, work.number, work);
                continue;
            }
            let outcome = self.step(&mut work);
            tally.add(&outcome);
            match Stayed::of(outcome) {
                None => kept.push(work),
                Some(stayed) => self.leave(work, stayed),
            }
        }
    }

    /// Several messages at once, for a plugin that waits; they leave in their order. A message whose key was parked by an
    /// earlier one while it was in work itself waits behind that one: past this stage when it has passed it, else to be asked
    /// again, since what it did not pass may look different then.
    fn step_together(&mut self, step: Step, slice: &mut Vec<Work>, kept: &mut Vec<Work>, tally: &mut Tally) {
        let (queues, held, copy) = (&self.queues, &self.held, &mut self.held_copy);
        let go_on = |work: &Work| {
            work.stage == step.stage && !queues.is_closed() && !copy.is_gone(held, work.token) && !step.is_over()
        };
        let done = self.chain.process_together(step.stage, slice.drain(..), go_on, self.watching.as_ref());
        for (mut work, outcome) in done {
            if let Some(outcome) = &outcome {
                tally.add(outcome);
            }
            let has_passed = work.stage != step.stage || matches!(outcome, Some(Outcome::Pass));
            if work.stage == step.stage && has_passed {
                work.passed();
            }
            if self.is_over(work.token) {
                continue;
            }
            let Some(work) = self.unless_held_back(work) else { continue };
            match outcome.and_then(Stayed::of) {
                _ if has_passed => kept.push(work),
                Some(stayed) => self.leave(work, stayed),
                None => self.holdback.push_behind(work.key, work.number, work),
            }
        }
    }

    /// Lets the message wait where an earlier one of its key does.
    fn unless_held_back(&mut self, work: Work) -> Option<Work> {
        if self.holdback.holds_back(work.key, work.number) {
            self.holdback.push_behind(work.key, work.number, work);
            return None;
        }
        Some(work)
    }

    /// Gives the message to its next plugin.
    fn step(&mut self, work: &mut Work) -> Outcome {
        let outcome = self.chain.process(work.stage, work, self.watching.as_ref());
        if matches!(outcome, Outcome::Pass) {
            work.passed();
        }
        outcome
    }

    /// Messages whose pause is over, and those that waited behind one that has passed. A message that was refused itself goes
    /// before all others of its key, alone: an API that just said "later" is not asked for each of them too.
    fn retry_due(&mut self) {
        if self.holdback.is_empty() {
            return;
        }
        let now = Instant::now();
        let rounds = |width: usize| (width * RETRY_ROUNDS).clamp(FEWEST_RETRIES, SLICE);
        let most = self.chain.most_waiting().map_or(SLICE, rounds);
        let (mut slice, mut alone) = (Vec::new(), Vec::new());
        loop {
            while slice.len() < most
                && let Some((key, work)) = self.holdback.due(now)
            {
                if work.attempts > 0 {
                    alone.push(key);
                } else {
                    // The next one of the key is due now, into the same slice.
                    self.holdback.done(key);
                }
                slice.push(work);
            }
            if slice.is_empty() {
                return;
            }
            self.run_chain(&mut slice, Some(RETRY_TURN));
            // Those that have to wait again are the first of their keys again by now.
            alone.drain(..).for_each(|key| self.holdback.done(key));
            if now.elapsed() >= RETRY_TURN || self.audit_full.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    /// A message that did not pass: parked, dropped or on its way out.
    fn leave(&mut self, mut work: Work, stayed: Stayed) {
        let Some(stage) = self.chain.stage(work.stage) else { return };
        match judge(&stage.on, &mut work, stayed, &mut self.seed) {
            Judgement::Again(at) => self.holdback.park(work.key, work.number, work, at),
            Judgement::Dropped => self.completions.push(Completion::Dropped(work.token)),
            Judgement::Out(out) => self.take_out(&work, out),
        }
    }

    fn take_out(&mut self, work: &Work, Out { kind, code, detail, way }: Out) {
        let Some(stage) = self.chain.stage(work.stage) else { return };
        let origin = Origin::Plugin(stage.plugin.clone());
        let attempts = work.attempts + 1;
        let failure = Failure { kind, code, detail, origin, attempts, way };
        self.completions.push(Completion::Failed(work.token, Box::new(failure)));
        if way == Way::Stop {
            // Nothing of its key may leave after it, and the intake learns of it only at its next turn.
            self.queues.close();
        }
    }

    /// Whether nothing of this message may happen any more: the pipeline has ended, or its partition is another's.
    fn is_over(&mut self, token: Token) -> bool {
        self.queues.is_closed() || self.held_copy.is_gone(&self.held, token)
    }

    /// Before it is handed over: the sink may confirm at once, on its own thread.
    fn show(&self, work: &Work) {
        if let Some(watching) = self.watching.as_ref().filter(|watching| watching.wants(At::Sink, work.token)) {
            let sight = Sight::Sent { message: &work.message, place: (self.place)(&work.message) };
            watching.tell(At::Sink, &Seen { token: work.token, position: Some(Position::of(work)), sight });
        }
    }

    /// Hands a message to the sink; a full sink holds the lane, which fills the queue, which stops the intake.
    fn send(&mut self, work: &Work) {
        let origin = work.name.origin(&self.source, (work.partition, work.offset), OUTPUT);
        let mut is_shown = false;
        loop {
            let Some(mut handed) = self.handed.of(self.index) else { return };
            if self.queues.is_closed() || self.held_copy.is_gone(&self.held, work.token) {
                return;
            }
            if !std::mem::replace(&mut is_shown, true) {
                self.show(work);
            }
            let sent = self.sink.send_from(&work.message, origin, work.token);
            if matches!(sent, Ok(()) | Err(SendError::Refused(_))) {
                handed.add(assignment_of(work.token));
            }
            drop(handed);
            match sent {
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

/// One stage's turn.
#[derive(Clone, Copy)]
struct Step {
    stage: usize,
    /// No call begins after this.
    until: Option<Instant>,
}

impl Step {
    fn is_over(self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }
}
