//! How partitions leave: at a revocation and at the end. Nothing of them may be under way to the sink when they become
//! another process's.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use portcullis_connector_api::{AssignmentId, Batch, Budget, ConnectorError, ErrorKind};

use super::{Intake, KEEP_ALIVE, POLL_WAIT, Stored, Summary};
use crate::pipeline::PipelineError;
use crate::pipeline::work::Completion;

/// What a sink that works needs to confirm what was sent, when `drain` is over. The end takes no longer than this and `drain`
/// together, but for what closes at once.
const SENDS_WAIT: Duration = Duration::from_secs(5);

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
        self.parts.revoked.add(ids);
        if open > 0 {
            tracing::warn!(pipeline = %self.parts.identity.name, unfinished = open, lost, "partitions leave with messages in work; their next owner gets them again");
            self.await_sends(ids, &mut completions)?;
        }
        if !lost {
            self.acknowledge(true)?;
        }
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

    /// What was sent is stored, or given up, before the source is left. Of what else has come back nothing is carried out:
    /// those messages come again.
    fn end_sends(&mut self, completions: &mut Vec<Completion>) {
        let deadline = Instant::now() + SENDS_WAIT;
        loop {
            let mut stored = Stored::default();
            self.parts.completions.drain(completions);
            for completion in completions.drain(..) {
                match completion {
                    Completion::Stored(token) => self.stored(token, &mut stored),
                    Completion::Refused(token, _) => self.assignments.confirmed(token),
                    Completion::Broken(_) => self.sink_is_over = true,
                    _ => {}
                }
            }
            self.meters.delivered(&stored);
            let unconfirmed = self.unconfirmed(|_| true);
            if unconfirmed == 0 {
                return;
            }
            if self.sink_is_over || Instant::now() >= deadline || self.parts.stop.forced() {
                tracing::warn!(pipeline = %self.parts.identity.name, unconfirmed, "the sink is given up with messages that it has not confirmed; they come again");
                return self.parts.sink.abandon();
            }
            self.parts.completions.wait(POLL_WAIT);
        }
    }
}
