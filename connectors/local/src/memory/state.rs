use std::collections::{BTreeMap, HashMap, VecDeque};

use portcullis_connector_api::{Channel, ConnectorError, ErrorKind, Fate, Message, Receipt, Token};

use super::ConfirmOrder;
use super::fault::Faults;
use super::group::Group;

/// All that the broker holds, under its one lock.
pub(super) struct State {
    channels: BTreeMap<String, Log>,
    faults: HashMap<String, Faults>,
    pub(super) groups: HashMap<String, Group>,
    pub(super) sinks: HashMap<u64, Pending>,
    pub(super) late_acknowledgements: u64,
    held_bytes: usize,
    max_bytes: usize,
    numbers: u32,
}

/// One channel.
struct Log {
    name: Channel,
    partitions: Vec<Vec<Message>>,
    ended: bool,
    /// Whose turn it is among the partitions for a message without a key.
    turn: usize,
}

/// What a sink has taken and not confirmed.
#[derive(Default)]
pub(super) struct Pending {
    /// Taken while the channel is away, in their order.
    pub(super) unsent: VecDeque<(String, Message, Token)>,
    pub(super) fates: VecDeque<(String, Token, Fate)>,
    pub(super) abandoned: bool,
    pub(super) unconfirmed: u64,
    pub(super) closing: bool,
}

impl State {
    pub(super) fn new(max_bytes: usize) -> Self {
        let (channels, faults, groups, sinks) = Default::default();
        Self { channels, faults, groups, sinks, late_acknowledgements: 0, held_bytes: 0, max_bytes, numbers: 0 }
    }

    /// A number that was never given before: for assignments, members and sinks alike.
    pub(super) fn number(&mut self) -> u32 {
        self.numbers += 1;
        self.numbers
    }

    pub(super) fn create(&mut self, channel: &str, partitions: i32) {
        let partitions = usize::try_from(partitions).unwrap_or(1).max(1);
        self.channels.entry(channel.to_owned()).or_insert_with(|| Log {
            name: channel.into(),
            partitions: vec![Vec::new(); partitions],
            ended: false,
            turn: 0,
        });
    }

    pub(super) fn exists(&self, channel: &str) -> Result<(), ConnectorError> {
        if self.channels.contains_key(channel) {
            return Ok(());
        }
        let known: Vec<&str> = self.channels.keys().map(String::as_str).collect();
        let known = known.join(", ");
        Err(ConnectorError::new(
            ErrorKind::Configuration,
            format!("the channel `{channel}` does not exist; there are: {known}"),
        ))
    }

    pub(super) fn store(&mut self, channel: &str, mut message: Message) -> Result<Receipt, ConnectorError> {
        self.exists(channel)?;
        let bytes = message.size_bytes();
        if self.held_bytes.saturating_add(bytes) > self.max_bytes {
            let what = format!("the in-memory broker holds {} of {} bytes", self.held_bytes, self.max_bytes);
            return Err(ConnectorError::new(ErrorKind::Fatal, what));
        }
        self.held_bytes += bytes;
        let Some(log) = self.channels.get_mut(channel) else {
            return Ok(Receipt::default());
        };
        message.channel = log.name.clone();
        let count = log.partitions.len();
        let index = match &message.key {
            Some(key) => hash(key) as usize % count,
            None => {
                log.turn = (log.turn + 1) % count;
                log.turn
            }
        };
        let Some(partition) = log.partitions.get_mut(index) else {
            return Ok(Receipt::default());
        };
        partition.push(message);
        Ok(Receipt { partition: i32::try_from(index).ok(), offset: i64::try_from(partition.len() - 1).ok() })
    }

    pub(super) fn end(&mut self, channel: &str) {
        if let Some(log) = self.channels.get_mut(channel) {
            log.ended = true;
        }
    }

    pub(super) fn has_ended(&self, channel: &str) -> bool {
        self.channels.get(channel).is_some_and(|log| log.ended)
    }

    pub(super) fn stored(&self, channel: &str) -> Vec<Message> {
        self.channels.get(channel).map(|log| log.partitions.concat()).unwrap_or_default()
    }

    pub(super) fn stored_count(&self, channel: &str) -> usize {
        self.channels.get(channel).map_or(0, |log| log.partitions.iter().map(Vec::len).sum())
    }

    pub(super) fn partitions(&self, channel: &str) -> i32 {
        self.channels.get(channel).map_or(0, |log| i32::try_from(log.partitions.len()).unwrap_or(i32::MAX))
    }

    /// The name and the messages of a partition.
    pub(super) fn partition(&self, channel: &str, partition: i32) -> Option<(&Channel, &[Message])> {
        let log = self.channels.get(channel)?;
        let messages = log.partitions.get(usize::try_from(partition).ok()?)?;
        Some((&log.name, messages))
    }

    pub(super) fn faults(&mut self, channel: &str) -> &mut Faults {
        self.faults.entry(channel.to_owned()).or_default()
    }

    pub(super) fn not_ready(&self, channel: &str) -> Option<String> {
        self.faults.get(channel).and_then(Faults::not_ready)
    }

    /// How many messages sinks keep for a channel.
    pub(super) fn kept(&self, channel: &str) -> usize {
        let kept = |pending: &Pending| pending.unsent.iter().filter(|(other, ..)| other == channel).count();
        self.sinks.values().map(kept).sum()
    }

    /// The channel is there again: it gets what sinks have kept for it.
    pub(super) fn comes_back(&mut self, channel: &str) {
        self.faults(channel).away = false;
        let mut kept = Vec::new();
        for (sink, pending) in &mut self.sinks {
            let (ours, others) = pending.unsent.drain(..).partition(|(other, ..)| other == channel);
            let ours: VecDeque<_> = ours;
            pending.unsent = others;
            kept.extend(ours.into_iter().map(|(_, message, token)| (*sink, message, token)));
        }
        for (sink, message, token) in kept {
            let fate = self.store(channel, message).map_or_else(Fate::Failed, Fate::Stored);
            if let Some(pending) = self.sinks.get_mut(&sink) {
                pending.fates.push_back((channel.to_owned(), token, fate));
            }
        }
    }

    /// Takes what this sink may confirm now out of what it owes. A channel whose confirmations are held keeps its own back
    /// and not those of others.
    pub(super) fn confirmable(&mut self, sink: u64) -> Vec<(Token, Fate)> {
        let Some(pending) = self.sinks.get_mut(&sink) else {
            return Vec::new();
        };
        if pending.closing {
            pending.fail_unsent();
        }
        let mut ready = Vec::new();
        let mut channels: Vec<String> = pending.fates.iter().map(|(channel, ..)| channel.clone()).collect();
        channels.sort_unstable();
        channels.dedup();
        for channel in channels {
            let faults = self.faults.entry(channel.clone()).or_default();
            let (ours, others): (VecDeque<_>, VecDeque<_>) =
                pending.fates.drain(..).partition(|(other, ..)| *other == channel);
            pending.fates = others;
            let mut ours = ours;
            // A sink that closes or was given up owes its confirmations at once.
            while pending.closing || pending.abandoned || faults.allowance != Some(0) {
                let next = match faults.order {
                    ConfirmOrder::AsSent => ours.pop_front(),
                    ConfirmOrder::Reversed => ours.pop_back(),
                };
                let Some((_, token, fate)) = next else {
                    break;
                };
                faults.allowance = faults.allowance.map(|allowance| allowance.saturating_sub(1));
                ready.push((token, fate));
            }
            pending.fates.extend(ours);
        }
        ready
    }
}

impl Pending {
    /// Ends what was taken and will not be stored.
    pub(super) fn fail_unsent(&mut self) {
        let failed = || ConnectorError::new(ErrorKind::Retriable, "closed before the message was stored");
        let unsent = self.unsent.drain(..).map(|(channel, _, token)| (channel, token, Fate::Failed(failed())));
        self.fates.extend(unsent);
    }
}

/// FNV-1a: the same key goes to the same partition in every run, so that a test may count on it.
fn hash(key: &[u8]) -> u64 {
    key.iter().fold(0xcbf2_9ce4_8422_2325, |sum: u64, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
