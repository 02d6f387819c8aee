//! The source's thread: takes messages in, hands them to the lanes, learns what became of them and moves the source's
//! position. It alone owns the source, the trackers and the dead letters, so none of them needs a lock.

mod leave;

pub(crate) use leave::SENDS_WAIT;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use portcullis_audit::{Actor, Excesses, Recorder};
use portcullis_connector_api::{
    AckMode, Acknowledgement, AssignmentId, Batch, Budget, ErrorKind, Event, Message, Receipt, Record, RefusalKind,
    Sink, Source, Token, Trace,
};
use portcullis_flow::{Completions, FaultKind, LaneQueues, Order, OrderKey, Window, lane_of, order_key};

use super::assignments::{Assignments, Found, receive};
use super::dead_letter::{Coordinates, DeadLetters, Pending, coordinates};
use super::evidence::{self, Quarantined};
use super::handed::Handed;
use super::held::Held;
use super::meters::{Meters, ReadCounts, Stored};
use super::origin::{Name, SourceIdentity};
use super::tap::{At, Departure, Position, Seen, Sight, Taps};
use super::warnings::Warnings;
use super::work::{Completion, Failure, FailureCode, Origin, Way, Work};
use super::{Identity, Outage, PipelineError, Stop};

/// Positions are moved this often while messages flow, and always at a revocation and at the end.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// A source is polled at least this often, also when it may deliver nothing: its contract's first rule.
const KEEP_ALIVE: Duration = Duration::from_millis(500);
/// At most this much in one poll: small enough that the lanes start early, large enough to pay a wake-up once.
const POLL_MESSAGES: usize = 1024;
const POLL_BYTES: usize = 1024 * 1024;
const POLL_WAIT: Duration = Duration::from_millis(50);

/// What an intake is made of.
pub(super) struct Parts {
    /// Which of the pipeline's sources.
    pub(super) number: u8,
    pub(super) identity: Arc<Identity>,
    pub(super) source: Box<dyn Source>,
    pub(super) origin: SourceIdentity,
    pub(super) counts: Vec<(String, ReadCounts)>,
    pub(super) queues: Arc<LaneQueues<Work>>,
    pub(super) completions: Arc<Completions<Completion>>,
    pub(super) held: Arc<Held>,
    pub(super) handed: Arc<Handed>,
    /// To be set when the end begins.
    pub(super) ends_at: Arc<OnceLock<Instant>>,
    pub(super) sink: Arc<dyn Sink>,
    pub(super) dead_letters: Option<DeadLetters>,
    pub(super) order: Order,
    pub(super) window: Window,
    pub(super) drain: Duration,
    pub(super) stop: Stop,
    pub(super) outage: Outage,
    pub(super) recorder: Recorder,
    /// Set while the audit takes no more: then nothing is taken in.
    pub(super) audit_full: Arc<AtomicBool>,
    /// How many messages are in work, for others to see.
    pub(super) unfinished: Arc<AtomicUsize>,
    pub(super) taps: Arc<Taps>,
    /// Nothing is stored anywhere, so nothing says that it was.
    pub(super) is_dry: bool,
}

pub(super) struct Intake {
    parts: Parts,
    mode: AckMode,
    meters: Meters,
    warnings: Warnings,
    /// Limits of the queue that were met in this second.
    excesses: Excesses,
    assignments: Assignments,
    /// One staging buffer for each lane; the queue is locked once for all of it.
    staging: Vec<Vec<Work>>,
    staged_bytes: Vec<usize>,
    /// For `order: none`.
    round_robin: u64,
    acknowledgements: Vec<Acknowledgement>,
    /// Dead letters whose event waits for the audit. Bounded by the windows.
    deferred: Vec<Completion>,
    next_commit: Instant,
    last_poll: Instant,
    source_ended: bool,
    /// Assignments that end when nothing of them is in work any more.
    starting_over: Vec<AssignmentId>,
    /// It was given up or has failed: no confirmation is waited for.
    sink_is_over: bool,
}

impl Intake {
    pub(super) fn new(parts: Parts) -> Self {
        let lanes = parts.queues.lanes();
        Self {
            mode: parts.source.ack_mode(),
            meters: Meters::new(&parts.identity, parts.number, &parts.counts),
            warnings: Warnings::default(),
            excesses: Excesses::default(),
            assignments: Assignments::of(parts.number),
            staging: (0..lanes).map(|_| Vec::new()).collect(),
            staged_bytes: vec![0; lanes],
            round_robin: 0,
            acknowledgements: Vec::new(),
            deferred: Vec::new(),
            next_commit: Instant::now() + COMMIT_INTERVAL,
            last_poll: Instant::now(),
            source_ended: false,
            starting_over: Vec::new(),
            sink_is_over: false,
            parts,
        }
    }

    /// Runs until the source ends, the process is asked to stop, or the pipeline cannot go on. What was in work is then
    /// drained, but for the last case, and what is done is acknowledged.
    pub(super) fn run(mut self) -> Result<Summary, PipelineError> {
        let mut batch = Batch::default();
        let mut completions = Vec::new();
        let ended = loop {
            match self.turn(&mut batch, &mut completions) {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.tell_excesses();
        self.finish(ended, &mut completions)
    }

    /// One round. False when there is nothing more to do.
    fn turn(&mut self, batch: &mut Batch, completions: &mut Vec<Completion>) -> Result<bool, PipelineError> {
        self.settle(completions)?;
        self.start_over()?;
        self.acknowledge_when_due()?;
        if self.parts.stop.requested() || self.source_ended && self.assignments.outstanding() == 0 {
            return Ok(false);
        }
        let letters_full = self.parts.dead_letters.as_ref().is_some_and(DeadLetters::is_full);
        let room = self.parts.queues.room();
        let budget = Budget { messages: room.messages.min(POLL_MESSAGES), bytes: room.bytes.min(POLL_BYTES) };
        let audit_full = self.parts.audit_full.load(Ordering::Relaxed);
        if self.source_ended || audit_full || letters_full || room.is_exhausted() {
            if self.source_ended || audit_full || letters_full {
                self.parts.completions.wait(POLL_WAIT);
            } else {
                self.queue_full();
                self.parts.queues.wait_for_room(POLL_WAIT);
            }
            if self.last_poll.elapsed() >= KEEP_ALIVE {
                self.poll(Budget::NOTHING, Duration::ZERO, batch)?;
            }
            return Ok(true);
        }
        let wait = if self.assignments.outstanding() == 0 { POLL_WAIT * 2 } else { POLL_WAIT / 5 };
        self.poll(budget, wait, batch)?;
        Ok(true)
    }

    /// Counts that the source waits for room, and tells it: the first time of a second at once.
    fn queue_full(&mut self) {
        // The lanes may have made room meanwhile.
        let Some(full) = self.parts.queues.full() else { return };
        let (kind, scope, limit) = evidence::queue_limit(full);
        self.meters.queue_full(kind, scope);
        if let Some(told) = self.excesses.add(kind, scope, limit) {
            self.record_excess(told);
        }
    }

    fn record_excess(&self, budget: portcullis_audit::Budget) {
        let identity = &self.parts.identity;
        let actor = Actor::pipeline(identity.tenant.clone(), identity.name.clone());
        self.parts.recorder.record(portcullis_audit::Event::budget_exceeded(actor, budget));
    }

    fn tell_excesses(&mut self) {
        self.excesses.flush().into_iter().for_each(|told| self.record_excess(told));
    }

    fn poll(&mut self, budget: Budget, wait: Duration, batch: &mut Batch) -> Result<(), PipelineError> {
        batch.clear();
        let polled = self.parts.source.poll(budget, wait, batch);
        self.last_poll = Instant::now();
        for event in &batch.events {
            if let Event::Assigned { id, channel, partition } = event {
                tracing::info!(pipeline = %self.parts.identity.name, %channel, partition, "assigned");
                self.parts.held.assigned(*id);
                self.assignments.add(self.mode, *id, channel.clone(), *partition);
            }
        }
        if !batch.records.is_empty() {
            self.parts.outage.source_works();
            self.route(&mut batch.records);
            let (pause, resume) = self.assignments.regulate(&self.parts.window);
            self.regulate(&pause, &resume)?;
        }
        for event in batch.events.drain(..) {
            match event {
                Event::Assigned { .. } => {}
                Event::Revoking { assignments, lost } => self.revoke(&assignments, lost)?,
                Event::StartsOver { assignments } => self.starting_over.extend(assignments),
                Event::Finished => self.source_ended = true,
            }
        }
        match polled {
            Err(error) if error.kind == ErrorKind::Retriable => {
                self.parts.outage.source_fails(&error);
                // An error that comes back at once must not spin.
                self.parts.completions.wait(POLL_WAIT);
                Ok(())
            }
            other => Ok(other?),
        }
    }

    fn route(&mut self, records: &mut Vec<Record>) {
        let lanes = self.staging.len();
        let order = self.parts.order;
        let (mut messages, mut bytes) = (0_u64, 0_u64);
        let watching = self.parts.taps.watching();
        for record in records.drain(..) {
            let size_bytes = record.message.size_bytes();
            let Some(assignment) = self.assignments.get_mut(record.assignment) else {
                continue;
            };
            let Some((token, number)) = receive(assignment, record.offset, &record.message, size_bytes) else {
                continue;
            };
            messages += 1;
            bytes += size_bytes as u64;
            if let Some(watching) = watching.as_ref().filter(|watching| watching.wants(At::Source, token)) {
                let (channel, partition) = (&assignment.interned, assignment.partition);
                let position = Some(Position { channel, partition, offset: record.offset });
                let defect = record.defect.as_ref().map(|defect| defect.detail.as_str());
                let sight = Sight::Arrived { message: &record.message, redelivered: record.redelivered, defect };
                watching.tell(At::Source, &Seen { token, position, sight });
            }
            if let Some(defect) = record.defect {
                self.parts.completions.push(Completion::Failed(token, Box::new(self.decode_failure(defect.detail))));
                continue;
            }
            let key = match order {
                Order::None => {
                    self.round_robin = self.round_robin.wrapping_add(1);
                    OrderKey::alone(self.round_robin)
                }
                _ => {
                    let key = record.message.key.as_deref();
                    order_key(order, assignment.channel_hash, assignment.partition, key)
                }
            };
            let lane = lane_of(key, lanes);
            let work = Work {
                name: Name { channel: assignment.interned.clone(), stamp: self.parts.origin.stamp(&record.message) },
                message: record.message,
                token,
                number,
                key,
                partition: assignment.partition,
                offset: record.offset,
                stage: 0,
                attempts: 0,
                size_bytes,
            };
            if let (Some(staging), Some(staged)) = (self.staging.get_mut(lane), self.staged_bytes.get_mut(lane)) {
                staging.push(work);
                *staged += size_bytes;
            }
        }
        for (lane, (staging, staged)) in self.staging.iter_mut().zip(&mut self.staged_bytes).enumerate() {
            if staging.is_empty() {
                continue;
            }
            if let Err(error) = self.parts.queues.push_slice(lane, staging, std::mem::take(staged)) {
                tracing::error!(?error, lane, "a slice was not queued; its messages come again");
                staging.clear();
            }
        }
        self.meters.received(messages, bytes);
    }

    fn decode_failure(&self, detail: String) -> Failure {
        Failure {
            kind: FaultKind::Decode,
            code: FailureCode::Own(FaultKind::Decode.as_str()),
            detail,
            origin: Origin::Source,
            attempts: 1,
            way: self.default_way(),
        }
    }

    /// Where a message goes that no plugin's `on:` speaks of.
    fn default_way(&self) -> Way {
        if self.parts.dead_letters.is_some() { Way::DeadLetter } else { Way::Stop }
    }

    fn settle(&mut self, completions: &mut Vec<Completion>) -> Result<(), PipelineError> {
        self.parts.completions.drain(completions);
        completions.append(&mut self.deferred);
        let audit_full = self.parts.audit_full.load(Ordering::Relaxed);
        let mut stored = Stored::default();
        let mut settled = Ok(());
        for completion in completions.drain(..) {
            match completion {
                Completion::Stored(token) => self.stored(token, &mut stored),
                // Its event would have to wait for room, and everything else with it.
                Completion::DeadLettered(..) if audit_full => self.deferred.push(completion),
                // Behind an error nothing more is begun. What was answered counts all the same: the end would wait for it,
                // give a sink up that works, and the messages would come again.
                Completion::Failed(..) if settled.is_err() => {}
                Completion::DeadLetterRefused(token, _) if settled.is_err() => self.letter_over(token),
                Completion::Refused(token, _) if settled.is_err() => self.assignments.confirmed(token),
                other => settled = settled.and(self.settle_one(other)),
            }
        }
        self.meters.delivered(&stored);
        settled?;
        if let Some(dead_letters) = &mut self.parts.dead_letters {
            dead_letters.send_waiting(|token| self.assignments.message(token))?;
        }
        Ok(())
    }

    fn settle_one(&mut self, completion: Completion) -> Result<(), PipelineError> {
        match completion {
            Completion::Stored(token) => self.stored(token, &mut Stored::default()),
            Completion::Dropped(token) => {
                self.show(token, Sight::Dropped);
                self.done(token);
                self.meters.dropped();
            }
            Completion::Failed(token, failure) => self.fail(token, *failure)?,
            Completion::Refused(token, refusal) => {
                self.assignments.confirmed(token);
                let kind = match refusal.kind {
                    RefusalKind::Oversize => FaultKind::Oversize,
                    RefusalKind::Rejected => FaultKind::SinkRejected,
                };
                let failure = Failure {
                    kind,
                    code: FailureCode::Own(kind.as_str()),
                    detail: refusal.detail,
                    origin: Origin::Sink,
                    attempts: 1,
                    way: self.default_way(),
                };
                self.fail(token, failure)?;
            }
            Completion::DeadLettered(token, receipt) => self.lettered(token, receipt),
            Completion::DeadLetterRefused(token, refusal) => {
                if let Some(letters) = &mut self.parts.dead_letters {
                    match self.assignments.message(token) {
                        Some(message) => letters.refused(token, message, &refusal)?,
                        None => drop(letters.confirmed(token)),
                    }
                }
            }
            Completion::Broken(error) => {
                self.sink_is_over = true;
                return Err(PipelineError::Connector(*error));
            }
        }
        Ok(())
    }

    /// The dead letter queue has it.
    fn lettered(&mut self, token: Token, receipt: Receipt) {
        self.show(token, Sight::Lettered(receipt));
        let pending = self.parts.dead_letters.as_mut().and_then(|letters| letters.confirmed(token));
        if let Some(pending) = pending.filter(|_| !self.parts.is_dry) {
            self.record_quarantine(pending, receipt);
        }
        self.done(token);
        self.meters.dead_lettered();
    }

    /// Shows what became of a message to whoever looks at the end of the way.
    fn show(&self, token: Token, sight: Sight<'_>) {
        if let Some(watching) = self.parts.taps.watching().filter(|watching| watching.wants(At::Sink, token)) {
            let found = self.assignments.find(token);
            watching.tell(At::Sink, &Seen { token, position: found.as_ref().map(Position::found), sight });
        }
    }

    /// Also for a message whose partition has gone meanwhile: the record is in the queue.
    fn record_quarantine(&self, pending: Pending, receipt: Receipt) {
        let identity = &self.parts.identity;
        let queue = identity.dead_letter_name.to_string();
        let actor = match &pending.failure.origin {
            Origin::Plugin(plugin) => identity.actor(plugin),
            Origin::Source | Origin::Sink => Actor::pipeline(identity.tenant.clone(), identity.name.clone()),
        };
        self.parts.recorder.record(evidence::quarantined(Quarantined {
            actor,
            source: identity.source(&pending.at.channel, (pending.at.partition, pending.at.offset), pending.at.trace),
            channel: pending.at.channel.to_string(),
            position: coordinates(&queue, receipt),
            queue,
            kind: pending.failure.kind,
            code: pending.failure.code.as_str().to_owned(),
            truncated: pending.truncated,
            attempts: pending.failure.attempts,
        }));
    }

    /// The sink has it.
    fn stored(&mut self, token: Token, stored: &mut Stored) {
        self.assignments.confirmed(token);
        stored.messages += 1;
        if let Some(message) = self.done(token) {
            stored.bytes += message.size_bytes() as u64;
            stored.oldest_ms = stored.oldest_ms.min(message.timestamp.millis().unwrap_or(i64::MAX));
        }
    }

    /// A message is done: its slot is free and its position may move. Gives it back as it arrived.
    fn done(&mut self, token: Token) -> Option<Message> {
        let (acknowledgement, message) = self.assignments.finish(token)?;
        if self.mode == AckMode::Each {
            self.acknowledgements.push(acknowledgement);
        }
        Some(message)
    }

    fn fail(&mut self, token: Token, failure: Failure) -> Result<(), PipelineError> {
        self.meters.fault(&failure);
        self.show(token, Sight::Left(Departure::of(&failure)));
        let found = self.assignments.find(token);
        self.warnings.failure(&self.parts.identity.name, &failure, found.as_ref().map(|found| found.message));
        let Some(Found { channel, partition, offset, message }) = found else {
            // Its partition is another's now; but a lane that was told to stop has stopped.
            return match failure.way {
                Way::Stop => Err(PipelineError::Message {
                    at: "of a revoked partition".to_owned(),
                    kind: failure.kind,
                    code: failure.code.as_str().to_owned(),
                    trace: None,
                }),
                _ => Ok(()),
            };
        };
        if failure.way == Way::Drop {
            self.done(token);
            self.meters.dropped();
            return Ok(());
        }
        if failure.way == Way::DeadLetter
            && let Some(letters) = &mut self.parts.dead_letters
        {
            return Ok(letters.send(
                token,
                message,
                Coordinates {
                    channel: message.channel.clone(),
                    partition,
                    offset,
                    name: Name { channel: channel.clone(), stamp: self.parts.origin.stamp(message) },
                    trace: Trace::of(&message.headers),
                },
                failure,
            )?);
        }
        Err(PipelineError::Message {
            at: self.parts.identity.source_coordinates(&message.channel, partition, offset),
            kind: failure.kind,
            code: failure.code.as_str().to_owned(),
            trace: Trace::of(&message.headers),
        })
    }

    fn acknowledge_when_due(&mut self) -> Result<(), PipelineError> {
        if self.mode == AckMode::Each && !self.acknowledgements.is_empty() {
            self.acknowledge(false)?;
        }
        let now = Instant::now();
        if now < self.next_commit {
            return Ok(());
        }
        self.next_commit = now + COMMIT_INTERVAL;
        let (pause, resume) = self.assignments.regulate(&self.parts.window);
        self.regulate(&pause, &resume)?;
        self.meters.gauges(&self.parts, &mut self.assignments);
        self.warnings.flush(&self.parts.identity.name);
        self.tell_excesses();
        let letters = self.parts.dead_letters.as_ref().map(|letters| &**letters.sink());
        self.parts.outage.refresh(&*self.parts.source, &*self.parts.sink, letters);
        self.acknowledge(false)
    }

    fn acknowledge(&mut self, durable: bool) -> Result<(), PipelineError> {
        if self.mode == AckMode::Cumulative {
            self.assignments.take_commits(&mut self.acknowledgements);
        }
        if self.acknowledgements.is_empty() {
            return Ok(());
        }
        let acknowledged = self.parts.source.acknowledge(&self.acknowledgements, durable);
        match acknowledged {
            Err(error) if error.kind == ErrorKind::Retriable => {
                tracing::warn!(pipeline = %self.parts.identity.name, %error, "positions were not moved; trying again");
                // Kept: a later entry of the same assignment is the higher one, and the source takes the last.
                Ok(())
            }
            other => {
                self.acknowledgements.clear();
                Ok(other?)
            }
        }
    }

    fn regulate(&mut self, pause: &[AssignmentId], resume: &[AssignmentId]) -> Result<(), PipelineError> {
        if !pause.is_empty() {
            tracing::warn!(pipeline = %self.parts.identity.name, partitions = pause.len(), "paused: window of unfinished messages is full");
            self.parts.source.pause(pause)?;
        }
        if !resume.is_empty() {
            self.parts.source.resume(resume)?;
        }
        Ok(())
    }
}

/// How an intake ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Summary {
    /// Messages taken in and not done: they come again.
    pub(super) unfinished: usize,
}
