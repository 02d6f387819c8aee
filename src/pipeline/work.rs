//! What travels between the intake, the lanes and the sinks' confirmations.

use std::sync::Arc;

use portcullis_connector_api::{AssignmentId, ConnectorError, Message, Receipt, Refusal, Token};
use portcullis_flow::{FaultKind, OrderKey, SizeBytes};

use super::origin::Name;
use crate::plugin::LinkedPlugin;

/// A message on its way through a lane.
pub(super) struct Work {
    /// With the edits made so far; what arrived is kept by the intake.
    pub(super) message: Message,
    pub(super) token: Token,
    /// Ascends within a key: the assignment and the whole sequence number.
    pub(super) number: u64,
    /// Messages of one key are processed one after the other.
    pub(super) key: OrderKey,
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// By which a sink knows it again.
    pub(super) name: Name,
    /// The next plugin that gets it.
    pub(super) stage: usize,
    /// How often that plugin has asked for a retry.
    pub(super) attempts: u32,
    /// Bytes as received: what the queue's bound counts.
    pub(super) size_bytes: usize,
}

impl Work {
    /// It goes on to the next plugin, whose retries are counted from zero.
    pub(super) fn passed(&mut self) {
        self.stage += 1;
        self.attempts = 0;
    }
}

impl SizeBytes for Work {
    fn size_bytes(&self) -> usize {
        self.size_bytes
    }
}

/// What the intake learns about a message that it has handed on.
pub(super) enum Completion {
    /// The sink has it.
    Stored(Token),
    /// A plugin that may drop has dropped it.
    Dropped(Token),
    /// It takes its way out of the pipeline.
    Failed(Token, Box<Failure>),
    /// The sink will never take it.
    Refused(Token, Box<Refusal>),
    /// The dead letter queue has it.
    DeadLettered(Token, Receipt),
    /// The dead letter queue will not take it as it is.
    DeadLetterRefused(Token, Box<Refusal>),
    /// A sink as a whole, or a lane, cannot go on.
    Broken(Box<ConnectorError>),
}

/// Why a message leaves the pipeline by another way than the sink, and by which.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) kind: FaultKind,
    pub(super) code: FailureCode,
    /// A sentence for a person; never a payload.
    pub(super) detail: String,
    pub(super) origin: Origin,
    pub(super) attempts: u32,
    pub(super) way: Way,
}

/// The short stable name of a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FailureCode {
    /// The bridge's own, mostly the kind's. There are few, so a metric may have them as a label.
    Own(&'static str),
    /// What the plugin called it.
    Plugins(String),
}

impl FailureCode {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Own(name) => name,
            Self::Plugins(name) => name,
        }
    }
}

/// Which part of the pipeline a failure comes from.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    Source,
    Plugin(Arc<LinkedPlugin>),
    Sink,
}

impl Origin {
    /// The `stage` header of a dead letter.
    pub(super) fn stage(&self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Plugin(_) => "plugin",
            Self::Sink => "sink",
        }
    }
}

/// What the operator wrote under `on:` for this case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the dead letter queue; done when that has confirmed it.
    DeadLetter,
    /// Counted and gone. Only where it is spelled out.
    Drop,
    /// The pipeline ends, with the message undone.
    Stop,
}

/// A token packs the source, the assignment and the low bits of the tracker's sequence number, so that a confirmation finds
/// its message by indices. The high bits are the tracker's own: fewer than 2^32 messages of one assignment are in work at
/// once, so the low bits name one of them. 24 bits of assignment last 16 million assigned partitions in one process.
const SEQUENCE_BITS: u32 = 32;
const SEQUENCE_MASK: u64 = (1 << SEQUENCE_BITS) - 1;
const SOURCE_SHIFT: u32 = 56;
const ASSIGNMENT_MASK: u64 = (1 << (SOURCE_SHIFT - SEQUENCE_BITS)) - 1;

pub(super) fn token(source: u8, assignment: AssignmentId, sequence: u64) -> Token {
    let assignment = u64::from(assignment.0) & ASSIGNMENT_MASK;
    Token(u64::from(source) << SOURCE_SHIFT | assignment << SEQUENCE_BITS | sequence & SEQUENCE_MASK)
}

/// The low bits of the sequence number: the number itself for the first 2^32 messages of an assignment.
pub(super) fn sequence_bits(token: Token) -> u64 {
    token.0 & SEQUENCE_MASK
}

/// Which of the pipeline's sources it came from.
pub(super) fn source_of(token: Token) -> usize {
    (token.0 >> SOURCE_SHIFT) as usize
}

pub(super) fn assignment_of(token: Token) -> AssignmentId {
    AssignmentId((token.0 >> SEQUENCE_BITS & ASSIGNMENT_MASK) as u32)
}

/// The whole sequence number, of an assignment whose oldest message in work has the number `base`.
pub(super) fn sequence_of(token: Token, base: u64) -> u64 {
    base.wrapping_add((token.0 & SEQUENCE_MASK).wrapping_sub(base) & SEQUENCE_MASK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_gives_back_its_parts_also_past_the_bits_of_the_sequence() {
        let past = SEQUENCE_MASK + 5;
        let cases = [
            (0, 0, 0, 0),
            (1, 1, 7, 3),
            (255, 0xFF_FFFF, SEQUENCE_MASK, 9),
            (2, 3, past, past - 4),
            (2, 3, past, past - 7),
        ];
        for (source, assignment, sequence, base) in cases {
            let packed = token(source, AssignmentId(assignment), sequence);
            assert_eq!(source_of(packed), usize::from(source));
            assert_eq!((assignment_of(packed), sequence_of(packed, base)), (AssignmentId(assignment), sequence));
        }
    }
}
