use std::sync::atomic::{AtomicU64, Ordering};

/// What a connector counts beside what the pipeline sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Connections made, the first one among them.
    Connects,
    /// Connections lost.
    Disconnects,
    /// Servers that announced that they will shut down.
    LameDuck,
    /// Core source: messages that arrived while the window was full, and are lost.
    Dropped,
    /// Core sink: messages that were under way when a connection broke.
    InDoubt,
    /// Messages sent again, because a connection broke or the server could not take them at first.
    Resent,
    /// JetStream sink: confirmations that say that the stream has the message already.
    Duplicates,
    /// JetStream source: deliveries that were not the first.
    Redelivered,
    /// JetStream source: redeliveries of messages that are in work, which are not handed out twice.
    RedeliveredInWork,
    /// JetStream source: in-progress signals.
    ProgressSignals,
    /// JetStream source: times that the server was silent for too long.
    MissedHeartbeats,
    /// JetStream: questions or messages that nobody answered.
    NoResponders,
    /// Consumers and streams that were deleted while they were used.
    Gone,
    /// Sinks: messages that were too large for the server or the stream.
    Oversize,
    /// Sinks: messages with a part that NATS cannot hold as it is, carried by the rule.
    Encoded,
    /// Sources: headers written by the rule that cannot be read.
    Undecodable,
}

impl Count {
    /// All of them, in the order of [`Counters::read`].
    pub const ALL: [Self; 16] = [
        Self::Connects,
        Self::Disconnects,
        Self::LameDuck,
        Self::Dropped,
        Self::InDoubt,
        Self::Resent,
        Self::Duplicates,
        Self::Redelivered,
        Self::RedeliveredInWork,
        Self::ProgressSignals,
        Self::MissedHeartbeats,
        Self::NoResponders,
        Self::Gone,
        Self::Oversize,
        Self::Encoded,
        Self::Undecodable,
    ];

    /// The label of a metric.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connects => "connects",
            Self::Disconnects => "disconnects",
            Self::LameDuck => "lame_duck",
            Self::Dropped => "dropped",
            Self::InDoubt => "in_doubt",
            Self::Resent => "resent",
            Self::Duplicates => "duplicates",
            Self::Redelivered => "redelivered",
            Self::RedeliveredInWork => "redelivered_in_work",
            Self::ProgressSignals => "progress_signals",
            Self::MissedHeartbeats => "missed_heartbeats",
            Self::NoResponders => "no_responders",
            Self::Gone => "gone",
            Self::Oversize => "oversize",
            Self::Encoded => "encoded",
            Self::Undecodable => "undecodable",
        }
    }
}

/// Counts of one source or sink. Shared with whoever publishes metrics: settings that are cloned share them.
#[derive(Debug, Default)]
pub struct Counters([AtomicU64; Count::ALL.len()]);

impl Counters {
    /// So far.
    pub fn of(&self, count: Count) -> u64 {
        self.0.get(count as usize).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// All of them.
    pub fn read(&self) -> impl Iterator<Item = (Count, u64)> + '_ {
        Count::ALL.into_iter().map(|count| (count, self.of(count)))
    }

    pub(crate) fn add(&self, count: Count, more: u64) {
        if more > 0
            && let Some(counter) = self.0.get(count as usize)
        {
            counter.fetch_add(more, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_count_has_a_place_and_a_name_of_its_own() {
        let counters = Counters::default();
        for (more, count) in (1..).zip(Count::ALL) {
            counters.add(count, more);
        }
        let read: Vec<_> = counters.read().map(|(_, value)| value).collect();
        assert_eq!(read, (1..=Count::ALL.len() as u64).collect::<Vec<_>>());
        let mut names: Vec<_> = Count::ALL.map(Count::as_str).into();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Count::ALL.len());
    }
}
