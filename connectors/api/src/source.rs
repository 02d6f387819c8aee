use std::time::Duration;

use crate::{Channel, ConnectorError, Message};

/// One assignment of one partition to this process. A source gives each assignment a new number, so that a late
/// acknowledgement of an earlier one names nothing and can do no harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AssignmentId(pub u32);

/// Where messages come from.
///
/// The pipeline owns a source on one thread of its own and calls nothing of it from elsewhere. The contract:
///
/// 1. [`poll`](Source::poll) is called at least once a second, also when nothing may be delivered: then with
///    [`Budget::NOTHING`]. A source uses those calls to stay alive (heartbeats, in-progress signals for what was
///    delivered and not acknowledged).
/// 2. Within one assignment, records come in ascending offset order. Gaps are natural (compaction, filters). An offset may
///    come again only where [`AckMode::Each`] redelivers.
/// 3. [`Event::Assigned`] comes before the first record of its assignment. After [`Event::Revoking`] or
///    [`Event::StartsOver`] comes no record of it, and the broker does not give the partition away before
///    [`release`](Source::release) (unless it was lost). A `poll` returns as soon as it has met a revocation, so that it is
///    the last thing in its batch.
/// 4. A position moves only by [`acknowledge`](Source::acknowledge). What was not acknowledged comes again after a
///    restart. [`AckMode::None`] is for sources that cannot do that and makes the pipeline at most once.
/// 5. Nothing is dropped silently: what cannot be read as a message is delivered with its [`Defect`].
/// 6. Errors: [`Retriable`](crate::ErrorKind::Retriable) when the next call may succeed; the caller keeps calling and
///    reports the source as not ready. Anything else ends the pipeline.
pub trait Source: Send {
    /// How this source remembers what is done.
    fn ack_mode(&self) -> AckMode;

    /// Fills `batch` with what is there, within `budget`; waits for the first record at most for `wait`.
    ///
    /// # Errors
    /// As the contract says under 6. What was put into `batch` before the error counts.
    fn poll(&mut self, budget: Budget, wait: Duration, batch: &mut Batch) -> Result<(), ConnectorError>;

    /// Records that messages are done. In [`AckMode::Cumulative`] each entry's offset is the lowest that is *not* done; in
    /// [`AckMode::Each`] it is the message's own. `durable` asks to return only when the broker has it.
    ///
    /// # Errors
    /// Retriable when a rebalance or an outage stands in the way: the messages may come again, here or elsewhere.
    fn acknowledge(&mut self, done: &[Acknowledgement], durable: bool) -> Result<(), ConnectorError>;

    /// Stops delivery of these assignments without giving them away.
    ///
    /// # Errors
    /// As `poll`.
    fn pause(&mut self, assignments: &[AssignmentId]) -> Result<(), ConnectorError>;

    /// Undoes `pause`.
    ///
    /// # Errors
    /// As `poll`.
    fn resume(&mut self, assignments: &[AssignmentId]) -> Result<(), ConnectorError>;

    /// Lets revoked assignments go, after their work has been acknowledged or given up.
    ///
    /// # Errors
    /// As `poll`.
    fn release(&mut self, assignments: &[AssignmentId]) -> Result<(), ConnectorError>;

    /// How many messages wait at the broker, where the source knows; for the lag metric. In the order of assignment.
    fn lag(&self) -> Vec<(AssignmentId, u64)> {
        Vec::new()
    }

    /// What is worse than it should be while messages still come, such as some that are lost; for `/ready`, which stays
    /// ready. What stops them is an error of `poll`.
    fn degraded(&self) -> Option<String> {
        None
    }

    /// Leaves the broker within `deadline`.
    ///
    /// # Errors
    /// When it could not leave in time: what it still holds stays with the process until exit.
    fn close(self: Box<Self>, deadline: Duration) -> Result<(), ConnectorError>;
}

/// How a source remembers what is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckMode {
    /// One position for each assignment (Kafka, files).
    Cumulative,
    /// Each message by itself, in any order (JetStream).
    Each,
    /// Not at all (core NATS, standard input).
    None,
}

/// How much a `poll` may deliver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Messages at most.
    pub messages: usize,
    /// Bytes after which no further message is added; the one that passes the bound is still delivered.
    pub bytes: usize,
}

impl Budget {
    /// Only stay alive.
    pub const NOTHING: Self = Self { messages: 0, bytes: 0 };
}

/// What one `poll` brought. Reused from call to call: clearing keeps the allocations.
#[derive(Debug, Default)]
pub struct Batch {
    /// In the order of delivery.
    pub records: Vec<Record>,
    /// Assignments first, what ends assignments last; see the contract under 3.
    pub events: Vec<Event>,
}

impl Batch {
    /// Empties it for the next call.
    pub fn clear(&mut self) {
        self.records.clear();
        self.events.clear();
    }
}

/// One message with where it stood.
#[derive(Debug)]
pub struct Record {
    /// The message.
    pub message: Message,
    /// Which assignment it came through.
    pub assignment: AssignmentId,
    /// Where in it: a Kafka offset, a stream sequence, a line's byte offset.
    pub offset: i64,
    /// How often it was delivered before, where the source counts.
    pub redelivered: u32,
    /// What cannot be read as a message; it goes to the dead letter queue as fault `decode`, with the bytes as they are.
    pub defect: Option<Box<Defect>>,
}

/// What is wrong with a record that a source could not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defect {
    /// For the dead letter header; never a payload.
    pub detail: String,
}

/// What happened beside messages.
#[derive(Debug)]
pub enum Event {
    /// A partition came.
    Assigned {
        /// Its number from now on.
        id: AssignmentId,
        /// The topic, subject filter or file.
        channel: Channel,
        /// The partition, 0 where there are none.
        partition: i32,
    },
    /// Partitions go.
    Revoking {
        /// Which.
        assignments: Vec<AssignmentId>,
        /// Whether they are gone already (session expired): then nothing can be acknowledged any more.
        lost: bool,
    },
    /// Assignments end, and their partitions start again elsewhere when they are [released](Source::release): their position
    /// is not at the broker any more. As with a revocation no record of them comes after this, and nothing can be acknowledged;
    /// but the partitions are still ours, so what is in work may be finished first, however long it takes.
    StartsOver {
        /// Which.
        assignments: Vec<AssignmentId>,
    },
    /// The source has come to its end and will deliver nothing more (a file, a generator with a count).
    Finished,
}

/// One entry of an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    /// Which assignment.
    pub assignment: AssignmentId,
    /// As the source's [`AckMode`] says.
    pub offset: i64,
}
