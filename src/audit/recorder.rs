use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use thiserror::Error;

use crate::actor::Actor;
use crate::chain::Chain;
use crate::clock::deadline;
use crate::code::Code;
use crate::detail::Mode;
use crate::event::{Event, Fact};
use crate::ocsf::Context;
use crate::progress::Confirmed;
use crate::queue::{Purpose, Queue, Room};
use crate::store::Store;
use crate::writer::Writer;

/// Takes events from every thread. Cheap to clone. There is no way to make one that records nothing.
#[derive(Clone, Debug)]
pub struct Recorder {
    owner: Arc<Owner>,
}

/// Ends the writer when the last recorder is gone without a shutdown.
#[derive(Debug)]
struct Owner {
    queue: Arc<Queue>,
    deadline: Duration,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.queue.close(deadline(self.deadline), None);
    }
}

/// How events are taken.
#[derive(Clone, Debug)]
pub struct Options {
    /// Events that may wait for the writer; at least 1.
    pub capacity: usize,
    /// How long [`Recorder::record`] waits for room before it counts a loss.
    pub deadline: Duration,
    /// The audit mode that `audit.boot` tells.
    pub mode: Mode,
    /// SHA-256 of the configuration in hexadecimal digits, for `audit.boot`.
    pub config_sha256: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { capacity: 8192, deadline: Duration::from_secs(5), mode: Mode::Buffered, config_sha256: None }
    }
}

/// Why a recorder could not be started.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The system gave no thread.
    #[error("the audit writer's thread cannot be started: {0}")]
    Thread(#[from] io::Error),
}

impl Recorder {
    /// Starts the writer and records `audit.boot`, whose receipt is returned: wait for it where nothing may run before the
    /// store is known to work.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        context: Context,
        options: Options,
        store: impl Store + 'static,
    ) -> Result<(Self, Receipt), StartError> {
        let chain = Chain::new(context);
        let queue = Arc::new(Queue::new(options.capacity.max(1)));
        let boot = Fact::Boot { mode: options.mode, config_sha256: options.config_sha256 };
        let sequence = queue.push(Event::new(Actor::bridge(), boot), Purpose::Told, options.deadline);
        let writer = Writer::new(queue.clone(), chain, Box::new(store), options.mode);
        thread::Builder::new().name("audit".to_owned()).spawn(move || writer.run())?;
        let boot = Receipt { queue: queue.clone(), sequence };
        Ok((Self { owner: Arc::new(Owner { queue, deadline: options.deadline }) }, boot))
    }

    /// Records an event. Waits for room up to the deadline of the options; after that the event is counted as lost, and an
    /// `audit.loss` event says so as soon as there is room again. The receipt may be dropped.
    pub fn record(&self, event: Event) -> Receipt {
        self.push(event, Purpose::Told, self.owner.deadline)
    }

    /// As [`Recorder::record`] and never waits: an event without room is counted as lost at once. For threads that others
    /// share.
    pub fn try_record(&self, event: Event) -> Receipt {
        self.push(event, Purpose::Told, Duration::ZERO)
    }

    /// As [`Recorder::try_record`], for the event of an effect that is about to happen. The last eighth of the capacity is not
    /// for these, so that what belongs to effects that have happened finds room.
    pub fn try_record_intent(&self, event: Event) -> Receipt {
        self.push(event, Purpose::Intent, Duration::ZERO)
    }

    /// As [`Recorder::try_record_intent`], for what tells of a refusal. An event that is not taken is not lost: its owner counts
    /// it and tells the count later.
    #[must_use = "what is not taken must be told later"]
    pub fn try_record_refusal(&self, event: Event) -> bool {
        self.owner.queue.offer(event, Purpose::Refusal)
    }

    /// Records what tells of refusals of an owner that ends: nobody counts them any more, so that without room the event is
    /// lost, and counted as such.
    pub fn try_record_last_refusal(&self, event: Event) {
        self.owner.queue.push(event, Purpose::Refusal, Duration::ZERO);
    }

    /// Resolves when [`Recorder::try_record_intent`] has room, or the audit has ended, on any runtime. Nothing is reserved:
    /// others may come first. There is no deadline in it: whoever waits brings one, [`Recorder::deadline`].
    pub async fn room(&self) {
        Room::new(&self.owner.queue).await;
    }

    /// How long may be waited for room.
    pub fn deadline(&self) -> Duration {
        self.owner.deadline
    }

    /// What was recorded, confirmed and lost until now.
    pub fn status(&self) -> Status {
        self.owner.queue.status()
    }

    /// Records `audit.stop` as the last event and waits until the store has confirmed everything. What is recorded after
    /// this is lost, and counted in [`Status::lost_events`].
    ///
    /// # Errors
    /// When `wait` has passed and the store has not confirmed everything.
    pub fn shutdown(&self, wait: Duration) -> Result<Summary, Unconfirmed> {
        let until = deadline(wait);
        let queue = &self.owner.queue;
        queue.close(until, Some(|events, lost| Event::new(Actor::bridge(), Fact::Stop { events, lost })));
        queue.progress.wait_finished(until);
        let status = queue.status();
        if status.confirmed < status.recorded {
            let detail = status.fault.unwrap_or_else(|| "the store has not confirmed them in time".to_owned());
            return Err(Unconfirmed {
                first: status.confirmed + 1,
                last: status.recorded,
                lost: status.lost_events,
                detail,
            });
        }
        Ok(Summary { events: status.recorded, lost: status.lost_events })
    }

    fn push(&self, event: Event, purpose: Purpose, wait: Duration) -> Receipt {
        let sequence = self.owner.queue.push(event, purpose, wait);
        Receipt { queue: self.owner.queue.clone(), sequence }
    }
}

/// Stands for an event until the store has it.
#[derive(Debug)]
pub struct Receipt {
    queue: Arc<Queue>,
    /// None when the event was lost.
    sequence: Option<u64>,
}

impl Receipt {
    /// Whether there was no room for the event: it will never be confirmed.
    pub fn is_lost(&self) -> bool {
        self.sequence.is_none()
    }

    /// Waits until the store has confirmed the event.
    ///
    /// # Errors
    /// When the event was lost, the store has not confirmed it within `timeout`, or the audit ended before.
    pub fn wait(&self, timeout: Duration) -> Result<(), Unavailable> {
        let Some(sequence) = self.sequence else {
            return Err(Unavailable::Lost);
        };
        match self.queue.progress.wait_confirmed(sequence, deadline(timeout)) {
            Poll::Ready(result) => result,
            Poll::Pending => {
                Err(Unavailable::Unconfirmed { waited_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX) })
            }
        }
    }

    /// Resolves when the store has confirmed the event, on any runtime. There is no deadline in it: whoever waits brings one.
    ///
    /// # Errors
    /// When the event was lost, or the audit ended before the store had confirmed it.
    pub async fn confirmed(&self) -> Result<(), Unavailable> {
        match self.sequence {
            Some(sequence) => Confirmed::new(&self.queue.progress, sequence).await,
            None => Err(Unavailable::Lost),
        }
    }
}

/// Why there is no evidence of an event yet.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// There was no room for the event within the deadline.
    #[error("the audit is full: the event was counted as lost")]
    Lost,
    /// The store has not confirmed it.
    #[error("the audit store has not confirmed the event within {waited_ms} ms")]
    Unconfirmed {
        /// How long was waited, in milliseconds.
        waited_ms: u64,
    },
    /// The audit has ended and the store had not confirmed it.
    #[error("the audit ended before its store had confirmed the event")]
    Ended,
}

/// How the audit is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Events taken: the highest sequence.
    pub recorded: u64,
    /// The highest sequence up to which the store has everything.
    pub confirmed: u64,
    /// Events that could not be taken. Not zero is an incident.
    pub lost_events: u64,
    /// Events taken, by code.
    pub by_code: Vec<(Code, u64)>,
    /// What the store said last, while it does not work.
    pub fault: Option<String>,
}

/// A chain that ended complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Events in the store, `audit.boot` and `audit.stop` included.
    pub events: u64,
    /// Events that were lost before and that `audit.loss` events tell of.
    pub lost: u64,
}

/// A chain that ended before the store had confirmed all of it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("audit events {first} to {last} are not confirmed: {detail}")]
pub struct Unconfirmed {
    /// The first sequence without confirmation.
    pub first: u64,
    /// The last sequence that was recorded.
    pub last: u64,
    /// Events that were lost before.
    pub lost: u64,
    /// What the store said.
    pub detail: String,
}

#[cfg(test)]
mod tests;
