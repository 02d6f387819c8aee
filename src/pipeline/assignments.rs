//! The partitions that this process has, each with its offset tracker and the messages that are not done yet.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use portcullis_connector_api::{AckMode, Acknowledgement, AssignmentId, Channel, Message, Token, Trace};
use portcullis_flow::{Tracker, Window, channel_hash};

use super::age::Ages;
use super::work::{assignment_of, sequence_of, token};
use crate::telemetry::log;

/// One partition for as long as it is assigned.
pub(super) struct Assignment {
    source: u8,
    pub(super) id: AssignmentId,
    pub(super) channel: Channel,
    /// The same, for messages: each carries one, and the configuration bounds their number.
    pub(super) interned: Channel,
    pub(super) channel_hash: u64,
    pub(super) partition: i32,
    /// Holds every message from its arrival until it is done, as it arrived.
    pub(super) tracker: Tracker<Message>,
    pub(super) paused: bool,
    /// How many sends of it the sink has confirmed.
    pub(super) confirmed: u64,
    ages: Ages,
}

/// Past this the oldest message of an assignment has to be done first: the low bits of a sequence number tell its messages
/// apart, and a message that is retried for days must not meet one of the same bits.
const MOST_SPAN: u64 = 1 << 31;

/// A message that is not done, and where it stood.
pub(super) struct Found<'a> {
    /// The assignment's.
    pub(super) channel: &'a Channel,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) message: &'a Message,
}

/// All of them, in ascending order of their numbers.
#[derive(Default)]
pub(super) struct Assignments {
    source: u8,
    list: VecDeque<Assignment>,
    /// Where the last look-up ended: neighbours in a batch mostly share a partition.
    last: usize,
}

impl Assignments {
    /// Of this source of the pipeline.
    pub(super) fn of(source: u8) -> Self {
        Self { source, ..Self::default() }
    }

    pub(super) fn add(&mut self, mode: AckMode, id: AssignmentId, channel: Channel, partition: i32) {
        let channel_hash = channel_hash(channel.as_bytes());
        let assignment = Assignment {
            source: self.source,
            id,
            interned: Channel::interned(&channel),
            channel,
            channel_hash,
            partition,
            tracker: if mode == AckMode::Cumulative { Tracker::new() } else { Tracker::individual() },
            paused: false,
            confirmed: 0,
            ages: Ages::default(),
        };
        let place = self.list.partition_point(|other| other.id < id);
        self.list.insert(place, assignment);
    }

    /// Forgets assignments and what they still hold; a late completion then names nothing.
    pub(super) fn remove(&mut self, ids: &[AssignmentId]) {
        self.list.retain(|assignment| !ids.contains(&assignment.id));
        self.last = 0;
    }

    pub(super) fn get_mut(&mut self, id: AssignmentId) -> Option<&mut Assignment> {
        if self.list.get(self.last).is_none_or(|assignment| assignment.id != id) {
            self.last = self.list.partition_point(|other| other.id < id);
        }
        self.list.get_mut(self.last).filter(|assignment| assignment.id == id)
    }

    /// What is known of a token, while its message is not done.
    pub(super) fn find(&self, of: Token) -> Option<Found<'_>> {
        let id = assignment_of(of);
        let place = self.list.partition_point(|other| other.id < id);
        let assignment = self.list.get(place).filter(|assignment| assignment.id == id)?;
        let sequence = sequence_of(of, assignment.tracker.oldest_unfinished()?.0);
        let (offset, message) = (assignment.tracker.offset(sequence)?, assignment.tracker.get(sequence)?);
        Some(Found { channel: &assignment.interned, partition: assignment.partition, offset, message })
    }

    /// The message of a token, while it is not done.
    pub(super) fn message(&self, of: Token) -> Option<&Message> {
        self.find(of).map(|found| found.message)
    }

    /// Marks a message as done. `None` where its assignment is gone or it was done before.
    pub(super) fn finish(&mut self, of: Token) -> Option<(Acknowledgement, Message)> {
        let id = assignment_of(of);
        let assignment = self.get_mut(id)?;
        let sequence = sequence_of(of, assignment.tracker.oldest_unfinished()?.0);
        match assignment.tracker.finished(sequence) {
            Ok((offset, message)) => Some((Acknowledgement { assignment: id, offset }, message)),
            Err(error) => {
                tracing::error!(%error, "a message was finished twice");
                None
            }
        }
    }

    /// The sink has said what became of a send of this message.
    pub(super) fn confirmed(&mut self, of: Token) {
        if let Some(assignment) = self.get_mut(assignment_of(of)) {
            assignment.confirmed += 1;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Assignment> {
        self.list.iter()
    }

    pub(super) fn outstanding(&self) -> usize {
        self.list.iter().map(|assignment| assignment.tracker.outstanding()).sum()
    }

    /// How old the oldest message in work is. To be asked once a second.
    pub(super) fn oldest_age(&mut self, now: Instant) -> Duration {
        let age = |assignment: &mut Assignment| {
            let tracker = &assignment.tracker;
            let oldest = tracker.oldest_unfinished().map(|(sequence, _)| sequence);
            let open = oldest.map(|oldest| (oldest, oldest.saturating_add(tracker.span())));
            assignment.ages.look(open, now)
        };
        self.list.iter_mut().map(age).max().unwrap_or_default()
    }

    /// The committable offsets that have moved since the last call.
    pub(super) fn take_commits(&mut self, into: &mut Vec<Acknowledgement>) {
        for assignment in &mut self.list {
            if let Some(offset) = assignment.tracker.take_commit() {
                into.push(Acknowledgement { assignment: assignment.id, offset });
            }
        }
    }

    /// What passed its window since the last call and what may flow again.
    pub(super) fn regulate(&mut self, window: &Window) -> (Vec<AssignmentId>, Vec<AssignmentId>) {
        let (mut pause, mut resume) = (Vec::new(), Vec::new());
        for assignment in &mut self.list {
            let (messages, bytes) = (assignment.tracker.held_messages(), assignment.tracker.held_bytes());
            let is_far = assignment.tracker.span() >= MOST_SPAN;
            if !assignment.paused && (is_far || window.must_pause(messages, bytes)) {
                assignment.paused = true;
                pause.push(assignment.id);
            } else if assignment.paused && !is_far && window.may_resume(messages, bytes) {
                assignment.paused = false;
                resume.push(assignment.id);
            }
        }
        (pause, resume)
    }
}

/// Takes a message in and gives it its token. `None` where the assignment is gone or the offset does not ascend: the
/// source has broken its contract, and the message comes again after a restart.
pub(super) fn receive(
    assignment: &mut Assignment,
    offset: i64,
    message: &Message,
    size_bytes: usize,
) -> Option<(Token, u64)> {
    match assignment.tracker.received(offset, size_bytes, message.clone()) {
        Ok(sequence) => {
            // 2^44 messages of one assignment last half a year at a million a second.
            let number = u64::from(assignment.id.0) << 44 | sequence;
            Some((token(assignment.source, assignment.id, sequence), number))
        }
        Err(error) => {
            let (trace_id, span_id) = log::ids(Trace::of(&message.headers));
            let (channel, partition) = (&assignment.channel, assignment.partition);
            tracing::error!(%error, %channel, partition, trace_id, span_id, "not tracked");
            None
        }
    }
}
