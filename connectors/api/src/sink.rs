use std::time::Duration;

use thiserror::Error;

use crate::{ConnectorError, Message, Refusal};

/// What the caller wants back with the confirmation: its own number for the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u64);

/// Which output of which source message a message is: the same however often and by whichever process it is sent. A sink
/// whose destination can drop what comes twice (JetStream) names the message after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    /// What tells the cluster, server or file from every other: a topic of the same name elsewhere is another topic.
    pub source: &'a str,
    /// The topic, stream or file that the source message came from. Not a subject within it: an offset is the stream's.
    pub channel: &'a str,
    /// Its partition, 0 where there are none.
    pub partition: i32,
    /// Where it stood there.
    pub offset: i64,
    /// What tells it from another message that stood there before: a topic is made anew, a file is written anew.
    pub stamp: u64,
    /// Which of the messages that were made of it, from 0.
    pub output: u32,
}

/// Where messages go. Shared by all lanes of a pipeline. The contract:
///
/// 1. [`send`](Sink::send) hands a message over and never waits. `Ok` means that exactly one
///    [`Confirm::confirm`] for its token will follow, unless the process ends first.
/// 2. A confirmation that is `Ok` means that the destination has stored the message as durably as it promises (`acks=all`,
///    a publish acknowledgement, a flushed write).
/// 3. Messages that one thread hands over for one destination partition are stored in that order. What may pass by itself
///    (an outage, a moved leader) the sink retries inside, in order and for as long as it takes; the bound is the caller's
///    window. Only what will never succeed comes back, as a [`Refusal`].
/// 4. Key, value, headers and timestamp are stored as they are, or by the connector's documented rule where the
///    destination cannot hold them.
pub trait Sink: Send + Sync {
    /// Hands a message over.
    ///
    /// # Errors
    /// [`SendError::Full`]: try again after [`wait_for_room`](Sink::wait_for_room). [`SendError::Refused`]: this message
    /// will never be taken. [`SendError::Fatal`]: no message will be taken any more.
    fn send(&self, message: &Message, token: Token) -> Result<(), SendError>;

    /// The same for a message whose origin is known. What `send` promises holds here too.
    ///
    /// # Errors
    /// As `send`.
    fn send_from(&self, message: &Message, origin: Origin<'_>, token: Token) -> Result<(), SendError> {
        let _ = origin;
        self.send(message, token)
    }

    /// Waits until something was confirmed or for `wait`.
    fn wait_for_room(&self, wait: Duration);

    /// Messages that were handed over and are not confirmed.
    fn unconfirmed(&self) -> u64;

    /// Why the sink cannot deliver at the moment, for `/ready`; `None` when it can.
    fn not_ready(&self) -> Option<String> {
        None
    }

    /// What is worse than it should be while the sink delivers, such as messages that are refused; for `/ready`, which stays
    /// ready.
    fn degraded(&self) -> Option<String> {
        None
    }

    /// Waits until everything is confirmed or for `wait`, and returns how many are not.
    fn drain(&self, wait: Duration) -> u64;

    /// Gives up for good what was handed over and is not confirmed: when this returns, nothing of it is sent any more, each
    /// of its tokens is confirmed as [`Fate::Failed`] soon, and no message is taken any more. For the moment before
    /// partitions become another process's while their messages are still here: sent later, they would come after what the
    /// next owner has sent. What has left the process already may still arrive.
    ///
    /// Without an implementation of its own nothing happens, which is right for a sink that sends nothing later by itself.
    fn abandon(&self) {}

    /// Checks before the first message that the destinations exist and can be written.
    ///
    /// # Errors
    /// `Configuration` for what will not heal (an unknown topic, wrong credentials), `Retriable` when the broker cannot be
    /// reached.
    fn check(&self, wait: Duration) -> Result<(), ConnectorError>;
}

/// Where a sink reports. Called from the sink's own thread, once for each message: it must not block.
pub trait Confirm: Send + Sync {
    /// The fate of the message of this token.
    fn confirm(&self, token: Token, fate: Fate);
}

/// What became of a message that was handed over.
#[derive(Debug)]
pub enum Fate {
    /// The destination has it.
    Stored(Receipt),
    /// The destination will never take this message.
    Refused(Refusal),
    /// The sink as a whole has failed, or was closed with this message unsent: it is not known to be stored.
    Failed(ConnectorError),
}

/// Where the destination stored a message, as far as it says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// The partition, where there are partitions.
    pub partition: Option<i32>,
    /// The offset or sequence.
    pub offset: Option<i64>,
}

/// Why a message was not handed over.
#[derive(Debug, Error)]
pub enum SendError {
    /// The sink's own queue is full: back-pressure, not an error.
    #[error("the sink's queue is full")]
    Full,
    /// This message, never.
    #[error(transparent)]
    Refused(Refusal),
    /// No message any more.
    #[error(transparent)]
    Fatal(ConnectorError),
}
