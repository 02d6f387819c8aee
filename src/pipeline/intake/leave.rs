//! How partitions leave: at a revocation and at the end. Nothing of them may be under way to the sink when they become
//! another process's.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use portcullis_connector_api::{AssignmentId, Batch, Budget, ConnectorError, ErrorKind, Token};

use super::{Intake, KEEP_ALIVE, POLL_WAIT, Stored, Summary};
use crate::pipeline::PipelineError;
use crate::pipeline::dead_letter::DeadLetters;
use crate::pipeline::work::Completion;

/// What a sink that works needs to confirm what was sent, when `drain` is over. The end takes no longer than this and `drain`
/// together, but for what closes at once.
pub(crate) const SENDS_WAIT: Duration = Duration::from_secs(5);

impl Intake {
    /// Waits until the revoked partitions have nothing in work, or for the deadline; moves their positions as far as they
    /// are done, and lets them go. What is not done then is the next owner's.
    pub(super) fn revoke(&mut self, ids: &[AssignmentId], lost: bool) -> Result<(), PipelineError> {
        let deadline = Instant::now() + if lost { Duration::ZERO } else { self.parts.drain };
        let mut completions = Vec::new();
        let open = loop {
            self.settle(&mut completions)?;
            let open: usize = (self.assignments.iter())
                .filter(|assignment| ids.contains(&assignment.id))
                .map(|assignment| assignment.tracker.outstanding())
                .sum();
            if open == 0 || Instant::now() >= deadline || self.parts.stop.forced() {
                break open;
            }
            self.parts.completions.wait(POLL_WAIT);
        };
        // From here on the lanes send nothing of them.
        self.parts.held.revoked(ids);
        if open > 0 {
            tracing::warn!(pipeline = %self.parts.identity.name, unfinished = open, lost, "partitions leave with messages in work; their next owner gets them again");
            self.await_sends(ids, &mut completions)?;
        }
        if !lost {
            self.acknowledge(true)?;
        }
        self.let_go(ids)
    }

    /// Ends assignments whose partitions start again elsewhere, as soon as nothing of them is in work. They are nobody else's,
    /// so that may take as long as the sink is away; meanwhile nothing more of them comes.
    pub(super) fn start_over(&mut self) -> Result<(), PipelineError> {
        if self.starting_over.is_empty() {
            return Ok(());
        }
        let open = |id: &AssignmentId| {
            let mut of = self.assignments.iter().filter(|assignment| assignment.id == *id);
            of.any(|assignment| assignment.tracker.outstanding() > 0)
        };
        let done: Vec<_> = self.starting_over.iter().copied().filter(|id| !open(id)).collect();
        if done.is_empty() {
            return Ok(());
        }
        self.parts.held.revoked(&done);
        self.let_go(&done)
    }

    fn let_go(&mut self, ids: &[AssignmentId]) -> Result<(), PipelineError> {
        self.starting_over.retain(|id| !ids.contains(id));
        self.acknowledgements.retain(|entry| !ids.contains(&entry.assignment));
        self.meters.forget_lag(&self.assignments, ids);
        self.assignments.remove(ids);
        self.parts.handed.forget(ids);
        Ok(self.parts.source.release(ids)?)
    }

    /// Waits until the sink has confirmed what was sent of partitions that leave. A sink that does not is given up, and the
    /// pipeline with it: it would send when it can again, after what their next owner has sent by then.
    fn await_sends(&mut self, ids: &[AssignmentId], completions: &mut Vec<Completion>) -> Result<(), PipelineError> {
        let deadline = Instant::now() + SENDS_WAIT;
        loop {
            self.settle(completions)?;
            let unconfirmed = self.unconfirmed(|id| ids.contains(&id));
            if unconfirmed == 0 {
                return Ok(());
            }
            if Instant::now() >= deadline || self.parts.stop.forced() {
                self.parts.sink.abandon();
                self.sink_is_over = true;
                let waited = SENDS_WAIT.as_secs();
                return Err(PipelineError::Connector(ConnectorError::new(
                    ErrorKind::Fatal,
                    format!(
                        "partitions leave while the sink has not confirmed {unconfirmed} of their messages, {waited} s after \
                         `drain`; the sink was given up so that they cannot arrive after what the next owner sends"
                    ),
                )));
            }
            self.parts.completions.wait(POLL_WAIT);
        }
    }

    /// Messages that are with the sink, of these assignments.
    fn unconfirmed(&self, which: impl Fn(AssignmentId) -> bool) -> u64 {
        let of = |id, confirmed: u64| self.parts.handed.sum(id).saturating_sub(confirmed);
        let leaving = self.assignments.iter().filter(|assignment| which(assignment.id));
        leaving.map(|assignment| of(assignment.id, assignment.confirmed)).sum()
    }

    /// The end: nothing more is taken in; what is in work is finished within the deadline; positions are moved durably.
    pub(super) fn finish(
        mut self,
        mut ended: Result<(), PipelineError>,
        completions: &mut Vec<Completion>,
    ) -> Result<Summary, PipelineError> {
        let deadline = Instant::now() + self.parts.drain;
        let ends_at = *self.parts.ends_at.get_or_init(|| deadline + SENDS_WAIT);
        let mut batch = Batch::default();
        // After an error nothing that is in work is waited for: it may be what cannot be finished.
        while ended.is_ok() && self.assignments.outstanding() > 0 {
            if Instant::now() >= deadline || self.parts.stop.forced() {
                break;
            }
            self.parts.unfinished.store(self.assignments.outstanding(), Ordering::Relaxed);
            self.parts.completions.wait(POLL_WAIT);
            ended = self.settle(completions);
            if self.last_poll.elapsed() >= KEEP_ALIVE
                && let Err(error) = self.poll(Budget::NOTHING, Duration::ZERO, &mut batch)
            {
                ended = ended.and(Err(error));
            }
        }
        // From here on the lanes send nothing.
        self.parts.queues.close();
        self.end_sends(completions);
        let unfinished = self.assignments.outstanding();
        let acknowledged = self.acknowledge(true);
        self.meters.gauges(&self.parts, &mut self.assignments);
        let left = ends_at.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
        let closed = self.parts.source.close(left);
        ended?;
        acknowledged?;
        closed?;
        Ok(Summary { unfinished })
    }

    /// What was sent is stored, or given up, before the source is left: by the sink and by the dead letter queue. Of what else
    /// has come back nothing is carried out: those messages come again.
    fn end_sends(&mut self, completions: &mut Vec<Completion>) {
        let deadline = Instant::now() + SENDS_WAIT;
        let mut given_up = false;
        loop {
            let is_late = Instant::now() >= deadline || self.parts.stop.forced();
            self.settle_sends(completions, is_late);
            let (unconfirmed, letters) = (self.unconfirmed(|_| true), self.letters_under_way());
            if unconfirmed > 0 && !given_up && (self.sink_is_over || is_late) {
                tracing::warn!(pipeline = %self.parts.identity.name, unconfirmed, "the sink is given up with messages that it has not confirmed; they come again");
                self.parts.sink.abandon();
                given_up = true;
            }
            if (unconfirmed == 0 || given_up) && (letters == 0 || is_late) {
                return self.give_letters_up(letters);
            }
            self.parts.completions.wait(POLL_WAIT);
        }
    }

    fn settle_sends(&mut self, completions: &mut Vec<Completion>, is_late: bool) {
        let mut stored = Stored::default();
        self.parts.completions.drain(completions);
        completions.append(&mut self.deferred);
        let audit_full = self.parts.audit_full.load(Ordering::Relaxed);
        for completion in completions.drain(..) {
            match completion {
                Completion::Stored(token) => self.stored(token, &mut stored),
                Completion::Refused(token, _) => self.assignments.confirmed(token),
                Completion::DeadLettered(..) if audit_full && !is_late => self.deferred.push(completion),
                // The record is in the queue, so its event is written too.
                Completion::DeadLettered(token, receipt) => self.lettered(token, receipt),
                Completion::DeadLetterRefused(token, _) => self.letter_over(token),
                Completion::Broken(_) => self.sink_is_over = true,
                Completion::Dropped(_) | Completion::Failed(..) => {}
            }
        }
        self.meters.delivered(&stored);
    }

    fn letters_under_way(&self) -> usize {
        self.parts.dead_letters.as_ref().map_or(0, DeadLetters::under_way)
    }

    /// What is stored after this has no event, so nothing may be.
    fn give_letters_up(&self, letters: usize) {
        if let Some(dead_letters) = self.parts.dead_letters.as_ref().filter(|_| letters > 0) {
            tracing::warn!(pipeline = %self.parts.identity.name, letters, "the dead letter queue is given up with records that it has not confirmed; their messages come again");
            dead_letters.sink().abandon();
        }
    }

    /// The queue has refused a dead letter that is not sent again.
    pub(super) fn letter_over(&mut self, token: Token) {
        if let Some(letters) = &mut self.parts.dead_letters {
            drop(letters.confirmed(token));
        }
    }
}
