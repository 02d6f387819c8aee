use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use portcullis_connector_api::conformance::Exemption;
use portcullis_connector_api::{AckMode, Confirm, ConnectorError, Message, Refusal, Template};

mod fault;
mod group;
mod sink;
mod source;
mod state;

pub use fault::{ConfirmOrder, Fault};
pub use sink::MemorySink;
pub use source::MemorySource;
use state::State;

/// The suite asks everything of a source of the in-memory broker.
pub const MEMORY_SOURCE_EXEMPTIONS: &[Exemption] = &[];
/// The suite asks everything of a sink of the in-memory broker.
pub const MEMORY_SINK_EXEMPTIONS: &[Exemption] = &[];

/// A broker in the process: channels with partitions, consumer groups that remember positions and share partitions among
/// their members, sinks that confirm from a thread of their own. What it holds ends with it.
///
/// It is the double of a real broker in tests of the data path, so each thing that a real one does at the worst moment can
/// be had at will: [`inject`](Self::inject), [`hold_confirmations`](Self::hold_confirmations), [`revoke`](Self::revoke),
/// [`redeliver`](Self::redeliver). A test waits with [`wait_until_stored`](Self::wait_until_stored) and
/// [`wait_until_committed`](Self::wait_until_committed) and never sleeps.
pub struct MemoryBroker {
    state: Mutex<State>,
    /// Notified at every change: sources, confirming threads and tests wait here.
    changed: Condvar,
}

/// What a source of the in-memory broker reads.
#[derive(Clone, Debug)]
pub struct MemorySourceSettings {
    /// Channels that exist.
    pub channels: Vec<String>,
    /// The group whose positions it uses, and whose other members share the partitions with it.
    pub group: String,
    /// [`AckMode::Cumulative`] is like Kafka, [`AckMode::Each`] like JetStream, [`AckMode::None`] like core NATS.
    pub ack_mode: AckMode,
}

impl MemorySourceSettings {
    /// One channel, like Kafka.
    pub fn new(channel: impl Into<String>, group: impl Into<String>) -> Self {
        Self { channels: vec![channel.into()], group: group.into(), ack_mode: AckMode::Cumulative }
    }
}

/// Where a sink of the in-memory broker writes, and how much it takes before it says that it is full.
#[derive(Clone, Debug)]
pub struct MemorySinkSettings {
    /// The channel. It must exist; a key decides the partition, without one they take turns.
    pub destination: Template,
    /// Larger messages are refused as oversize.
    pub max_message_bytes: usize,
    /// Messages that were handed over and are not confirmed, at most.
    pub queue_messages: u64,
}

impl MemorySinkSettings {
    /// This destination, with 1 MiB a message and a queue of 10,000.
    pub fn new(destination: Template) -> Self {
        Self { destination, max_message_bytes: 1024 * 1024, queue_messages: 10_000 }
    }
}

impl MemoryBroker {
    /// A broker that holds at most 1 GiB of messages.
    pub fn new() -> Arc<Self> {
        Self::bounded(1024 * 1024 * 1024)
    }

    /// A broker that holds at most so many bytes of messages. It never throws any away: past the bound a sink fails.
    pub fn bounded(max_bytes: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State::new(max_bytes)), changed: Condvar::new() })
    }

    /// Makes a channel with at least one partition. One that exists stays as it is.
    pub fn create(&self, channel: &str, partitions: i32) {
        self.with(|state| state.create(channel, partitions));
    }

    /// Stores messages as another producer would.
    ///
    /// # Errors
    /// `Configuration` when the channel does not exist, `Fatal` when the broker holds all it may.
    pub fn publish(&self, channel: &str, messages: impl IntoIterator<Item = Message>) -> Result<(), ConnectorError> {
        self.with(|state| messages.into_iter().try_for_each(|message| state.store(channel, message).map(drop)))
    }

    /// Says that nothing more will be published to a channel: a source that has delivered all of its channels finishes.
    pub fn end(&self, channel: &str) {
        self.with(|state| state.end(channel));
    }

    /// All that a channel holds, partition after partition, each in its order.
    pub fn stored(&self, channel: &str) -> Vec<Message> {
        self.lock().stored(channel)
    }

    /// How many messages a channel holds.
    pub fn stored_count(&self, channel: &str) -> usize {
        self.lock().stored_count(channel)
    }

    /// A member of a group. It joins with its first poll and leaves, as after a crash, when it is dropped.
    pub fn source(self: &Arc<Self>, settings: MemorySourceSettings) -> MemorySource {
        MemorySource::new(Arc::clone(self), settings)
    }

    /// A sink with a thread of its own that confirms.
    ///
    /// # Errors
    /// `Fatal` when the thread cannot be started.
    pub fn sink(
        self: &Arc<Self>,
        settings: MemorySinkSettings,
        confirm: Arc<dyn Confirm>,
    ) -> Result<MemorySink, ConnectorError> {
        MemorySink::start(Arc::clone(self), settings, confirm)
    }

    /// Makes something go wrong at a channel, for its sinks or its sources. Counts add up.
    pub fn inject(&self, channel: &str, fault: Fault) {
        self.with(|state| state.faults(channel).add(fault));
    }

    /// Refuses the messages for which the function gives a refusal, until [`heal`](Self::heal).
    pub fn refuse_where(&self, channel: &str, refuse: impl Fn(&Message) -> Option<Refusal> + Send + 'static) {
        self.with(|state| state.faults(channel).refuse_where = Some(Box::new(refuse)));
    }

    /// Ends all faults of a channel. Held confirmations stay held.
    pub fn heal(&self, channel: &str) {
        self.with(|state| state.faults(channel).heal());
    }

    /// From now on messages are stored and not confirmed.
    pub fn hold_confirmations(&self, channel: &str) {
        self.with(|state| state.faults(channel).allowance = Some(0));
    }

    /// Lets so many held or coming confirmations of a channel go, in this order.
    pub fn confirm(&self, channel: &str, messages: u64, order: ConfirmOrder) {
        self.with(|state| {
            let faults = state.faults(channel);
            faults.order = order;
            faults.allowance = faults.allowance.map(|allowance| allowance.saturating_add(messages));
        });
    }

    /// Lets all held confirmations of a channel go in this order, and holds no more.
    pub fn release_confirmations(&self, channel: &str, order: ConfirmOrder) {
        self.with(|state| {
            let faults = state.faults(channel);
            faults.order = order;
            faults.allowance = None;
        });
    }

    /// From now on sinks take messages for a channel and keep them, as while a cluster is away, until
    /// [`come_back`](Self::come_back).
    pub fn go_away(&self, channel: &str) {
        self.with(|state| state.faults(channel).away = true);
    }

    /// Stores what sinks have kept for a channel, and what comes.
    pub fn come_back(&self, channel: &str) {
        self.with(|state| state.comes_back(channel));
    }

    /// Takes a partition away from the member that has it, which the member learns at its next poll. With `lost` it is gone
    /// at once, as after an expired session, and may have another owner before the member knows. Whether anybody had it.
    pub fn revoke(&self, group: &str, channel: &str, partition: i32, lost: bool) -> bool {
        self.with(|state| state.revoke(group, channel, partition, lost))
    }

    /// Delivers again what a group with [`AckMode::Each`] has not acknowledged, as after an acknowledgement's time-out.
    pub fn redeliver(&self, group: &str) {
        self.with(|state| state.redeliver(group));
    }

    /// The offset where a group would go on: the lowest that is not acknowledged.
    pub fn committed(&self, group: &str, channel: &str, partition: i32) -> i64 {
        self.lock().committed(group, channel, partition)
    }

    /// How many acknowledgements came for an assignment that was no longer the member's.
    pub fn late_acknowledgements(&self) -> u64 {
        self.lock().late_acknowledgements
    }

    /// Waits until a channel holds so many messages, at most for `patience`; whether it does.
    pub fn wait_until_stored(&self, channel: &str, messages: usize, patience: Duration) -> bool {
        self.wait_until(patience, |state| state.stored_count(channel) >= messages)
    }

    /// Waits until sinks keep so many messages for a channel that is away, at most for `patience`; whether they do.
    pub fn wait_until_kept(&self, channel: &str, messages: usize, patience: Duration) -> bool {
        self.wait_until(patience, |state| state.kept(channel) >= messages)
    }

    /// Waits until a group has this position, at most for `patience`; whether it has.
    pub fn wait_until_committed(
        &self,
        group: &str,
        channel: &str,
        partition: i32,
        offset: i64,
        patience: Duration,
    ) -> bool {
        self.wait_until(patience, |state| state.committed(group, channel, partition) >= offset)
    }

    fn wait_until(&self, patience: Duration, holds: impl Fn(&State) -> bool) -> bool {
        let waited = self.changed.wait_timeout_while(self.lock(), patience, |state| !holds(state));
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Waits for any change, not past the deadline; none when that has passed.
    fn wait_for_change<'a>(&self, state: MutexGuard<'a, State>, deadline: Instant) -> Option<MutexGuard<'a, State>> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        Some(self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0)
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
