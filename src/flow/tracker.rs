use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::fmt;

/// The messages of one assignment (a partition for as long as it is ours) from their arrival until they are done, and the
/// offset that may be committed. Owned by the intake's thread: no lock, and an index instead of a look-up.
///
/// Each message gets a dense sequence number, because offsets have natural gaps (compaction, transaction markers) and an
/// index into the ring does not. Bounded by the [`Window`](crate::Window) that the caller asks before it takes more in.
#[derive(Debug)]
pub struct Tracker<T> {
    /// Up to the newest received; the front is never a finished one.
    ring: VecDeque<Slot<T>>,
    /// The sequence number of the ring's front.
    base: u64,
    /// Unfinished ones from before the ring. Of an individual tracker alone: one message that is retried for days must not
    /// hold the room of all that were done meanwhile.
    left_behind: BTreeMap<u64, Slot<T>>,
    unfinished: usize,
    held_bytes: usize,
    last: Option<i64>,
    taken: Option<i64>,
    cumulative: bool,
}

/// So much of the ring may be done in any case: to move a message out of it costs more than to let it stand. Few under test,
/// so that a short run of random steps goes past it.
const SPARE_SLOTS: usize = if cfg!(test) { 8 } else { 1024 };

#[derive(Debug)]
struct Slot<T> {
    offset: i64,
    bytes: usize,
    /// `None` once it is done.
    item: Option<T>,
}

impl<T> Tracker<T> {
    /// For a source that remembers one position for each assignment: offsets ascend.
    pub fn new() -> Self {
        Self {
            ring: VecDeque::new(),
            base: 0,
            left_behind: BTreeMap::new(),
            unfinished: 0,
            held_bytes: 0,
            last: None,
            taken: None,
            cumulative: true,
        }
    }

    /// For a source whose messages are acknowledged one by one or not at all: an offset may come again (a redelivery), and
    /// there is nothing to commit. What is done is held for nobody, so only the unfinished count.
    pub fn individual() -> Self {
        Self { cumulative: false, ..Self::new() }
    }

    /// Takes a message in and returns its sequence number: 0, 1, 2 and so on.
    ///
    /// # Errors
    /// [`TrackerError::NotAscending`] when the offset is not above the last one. The message is not tracked then: to commit
    /// past it would be to guess.
    pub fn received(&mut self, offset: i64, bytes: usize, item: T) -> Result<u64, TrackerError> {
        if let Some(last) = self.last
            && self.cumulative
            && offset <= last
        {
            return Err(TrackerError::NotAscending { offset, last });
        }
        self.last = Some(offset);
        let sequence = self.next();
        self.ring.push_back(Slot { offset, bytes, item: Some(item) });
        self.unfinished += 1;
        self.held_bytes = self.held_bytes.saturating_add(bytes);
        Ok(sequence)
    }

    /// Marks a message as done and gives it back with its offset, which a caller that acknowledges one by one needs.
    ///
    /// # Errors
    /// [`TrackerError::FinishedBefore`] and [`TrackerError::NeverReceived`]; neither changes anything.
    pub fn finished(&mut self, sequence: u64) -> Result<(i64, T), TrackerError> {
        let Some(index) = sequence.checked_sub(self.base) else {
            let slot = self.left_behind.remove(&sequence).ok_or(TrackerError::FinishedBefore { sequence })?;
            let item = slot.item.ok_or(TrackerError::FinishedBefore { sequence })?;
            self.unfinished = self.unfinished.saturating_sub(1);
            self.held_bytes = self.held_bytes.saturating_sub(slot.bytes);
            self.shrink();
            return Ok((slot.offset, item));
        };
        let slot = usize::try_from(index).ok().and_then(|index| self.ring.get_mut(index));
        let slot = slot.ok_or(TrackerError::NeverReceived { sequence })?;
        let item = slot.item.take().ok_or(TrackerError::FinishedBefore { sequence })?;
        let offset = slot.offset;
        self.unfinished = self.unfinished.saturating_sub(1);
        if !self.cumulative {
            self.held_bytes = self.held_bytes.saturating_sub(slot.bytes);
        }
        self.shrink();
        Ok((offset, item))
    }

    /// Lets go of what is done at the front, and in an individual tracker of what is done behind a few that are not.
    fn shrink(&mut self) {
        self.let_go();
        let most = SPARE_SLOTS.saturating_add(self.unfinished.saturating_mul(4));
        while !self.cumulative && self.ring.len() > most {
            let Some(unfinished) = self.ring.pop_front() else { return };
            self.left_behind.insert(self.base, unfinished);
            self.base += 1;
            // What was done behind it would stand in front now, and be taken for the oldest unfinished.
            self.let_go();
        }
    }

    /// Up to the first that is not done.
    fn let_go(&mut self) {
        while let Some(done) = self.ring.pop_front_if(|front| front.item.is_none()) {
            self.base += 1;
            if self.cumulative {
                self.held_bytes = self.held_bytes.saturating_sub(done.bytes);
            }
        }
    }

    /// The message of this sequence number, while it is not done.
    pub fn get(&self, sequence: u64) -> Option<&T> {
        self.slot(sequence)?.item.as_ref()
    }

    /// The offset of this sequence number, while it is not done.
    pub fn offset(&self, sequence: u64) -> Option<i64> {
        self.slot(sequence).filter(|slot| slot.item.is_some()).map(|slot| slot.offset)
    }

    /// The lowest offset that is not done: what may be committed, in Kafka's sense of "the next to read". `None` before the
    /// first message, and always for an individual tracker.
    pub fn committable(&self) -> Option<i64> {
        let next = match self.ring.front() {
            Some(front) => Some(front.offset),
            None => self.last.map(|last| last.saturating_add(1)),
        };
        next.filter(|_| self.cumulative)
    }

    /// The committable offset, if it has moved since the last call.
    ///
    /// The first call after the first message gives that message's offset although nothing is done. It is worth a commit: a
    /// group that starts at the latest offset and crashes before it has committed anything would start behind what it had
    /// in work.
    pub fn take_commit(&mut self) -> Option<i64> {
        let committable = self.committable()?;
        let moved = self.taken.replace(committable) != Some(committable);
        moved.then_some(committable)
    }

    /// How many messages are not done.
    pub fn outstanding(&self) -> usize {
        self.unfinished
    }

    /// What the window bounds. Of a position, messages from the oldest unfinished to the newest received, the done ones
    /// between them counted: what a restart repeats at most. Of an individual tracker, the unfinished.
    pub fn held_messages(&self) -> usize {
        if self.cumulative { self.ring.len() } else { self.unfinished }
    }

    /// The bytes of the same, as given to [`received`](Self::received).
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// How far the newest received is from the oldest unfinished, whatever lies between them; zero where all are done.
    pub fn span(&self) -> u64 {
        self.oldest_unfinished().map_or(0, |(oldest, _)| self.next().saturating_sub(oldest))
    }

    /// Sequence number and offset of the oldest message that is not done: what holds a position back.
    pub fn oldest_unfinished(&self) -> Option<(u64, i64)> {
        let left_behind = self.left_behind.first_key_value().map(|(sequence, slot)| (*sequence, slot.offset));
        left_behind.or_else(|| self.ring.front().map(|front| (self.base, front.offset)))
    }

    /// The sequence number of the next message.
    fn next(&self) -> u64 {
        self.base.saturating_add(self.ring.len() as u64)
    }

    fn slot(&self, sequence: u64) -> Option<&Slot<T>> {
        let Some(index) = sequence.checked_sub(self.base) else {
            return self.left_behind.get(&sequence);
        };
        self.ring.get(usize::try_from(index).ok()?)
    }
}

impl<T> Default for Tracker<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// What a [`Tracker`] cannot do. Each is a broken promise of the caller and none changes the tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrackerError {
    /// A message came at or below the last offset.
    NotAscending {
        /// Its offset.
        offset: i64,
        /// The highest offset before it.
        last: i64,
    },
    /// The message was finished before.
    FinishedBefore {
        /// Its number.
        sequence: u64,
    },
    /// No message has this number yet.
    NeverReceived {
        /// The number.
        sequence: u64,
    },
}

impl fmt::Display for TrackerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAscending { offset, last } => {
                write!(f, "offset {offset} came after {last}, offsets of one assignment must ascend")
            }
            Self::FinishedBefore { sequence } => write!(f, "message number {sequence} was finished before"),
            Self::NeverReceived { sequence } => write!(f, "message number {sequence} was never received"),
        }
    }
}

impl Error for TrackerError {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn tracker_of(offsets: impl IntoIterator<Item = i64>) -> Tracker<i64> {
        let mut tracker = Tracker::new();
        for offset in offsets {
            tracker.received(offset, 10, offset).unwrap();
        }
        tracker
    }

    #[test]
    fn a_rejected_message_holds_the_position_while_later_ones_are_delivered() {
        let mut tracker = tracker_of(5..=10);
        for sequence in 1..=5 {
            tracker.finished(sequence).unwrap();
        }
        assert_eq!(tracker.committable(), Some(5));
        assert_eq!(tracker.oldest_unfinished(), Some((0, 5)));
        assert_eq!((tracker.outstanding(), tracker.held_messages(), tracker.held_bytes()), (1, 6, 60));
        assert_eq!(tracker.finished(0), Ok((5, 5)));
        assert_eq!(tracker.committable(), Some(11));
        assert_eq!((tracker.outstanding(), tracker.held_messages(), tracker.held_bytes()), (0, 0, 0));
    }

    #[test]
    fn gaps_between_offsets_are_natural() {
        let mut tracker = tracker_of([3, 900, 901]);
        tracker.finished(0).unwrap();
        assert_eq!(tracker.committable(), Some(900));
        assert_eq!((tracker.get(1), tracker.offset(2), tracker.get(0)), (Some(&900), Some(901), None));
    }

    #[test]
    fn a_commit_is_taken_once_for_each_move() {
        let mut tracker = Tracker::new();
        assert_eq!(tracker.take_commit(), None);
        for offset in 7..9 {
            tracker.received(offset, 1, ()).unwrap();
        }
        assert_eq!((tracker.take_commit(), tracker.take_commit()), (Some(7), None));
        tracker.finished(1).unwrap();
        assert_eq!(tracker.take_commit(), None);
        tracker.finished(0).unwrap();
        assert_eq!((tracker.take_commit(), tracker.take_commit()), (Some(9), None));
    }

    #[test]
    fn a_second_finish_and_an_unknown_number_are_errors_that_change_nothing() {
        let mut tracker = tracker_of(0..3);
        tracker.finished(0).unwrap();
        tracker.finished(2).unwrap();
        for sequence in [0, 2] {
            assert_eq!(tracker.finished(sequence), Err(TrackerError::FinishedBefore { sequence }));
        }
        assert_eq!(tracker.finished(3), Err(TrackerError::NeverReceived { sequence: 3 }));
        assert_eq!(tracker.finished(u64::MAX), Err(TrackerError::NeverReceived { sequence: u64::MAX }));
        assert_eq!((tracker.outstanding(), tracker.committable()), (1, Some(1)));
    }

    #[test]
    fn an_offset_that_does_not_ascend_is_refused_and_not_tracked() {
        let mut tracker = tracker_of([4]);
        for offset in [4, 3] {
            assert_eq!(tracker.received(offset, 1, 0), Err(TrackerError::NotAscending { offset, last: 4 }));
        }
        assert_eq!((tracker.held_messages(), tracker.received(5, 1, 5)), (1, Ok(1)));
    }

    #[test]
    fn an_individual_tracker_takes_redeliveries_and_commits_nothing() {
        let mut tracker = Tracker::individual();
        for offset in [8, 9, 8] {
            tracker.received(offset, 1, offset).unwrap();
        }
        assert_eq!((tracker.finished(2), tracker.finished(0)), (Ok((8, 8)), Ok((8, 8))));
        assert_eq!((tracker.committable(), tracker.take_commit(), tracker.outstanding()), (None, None, 1));
    }

    #[test]
    fn one_message_that_is_never_done_counts_for_itself_alone_where_nothing_is_committed() {
        let mut tracker = Tracker::individual();
        tracker.received(0, 10, 0).unwrap();
        for offset in 1..=100_000 {
            let sequence = tracker.received(offset, 10, offset).unwrap();
            assert_eq!(tracker.finished(sequence), Ok((offset, offset)));
        }
        assert_eq!((tracker.outstanding(), tracker.held_messages(), tracker.held_bytes()), (1, 1, 10));
        assert_eq!((tracker.oldest_unfinished(), tracker.span()), (Some((0, 0)), 100_001));
        assert!(tracker.ring.len() <= SPARE_SLOTS + 4, "{} slots for one message", tracker.ring.len());
        assert_eq!((tracker.get(0), tracker.offset(0)), (Some(&0), Some(0)));
        for sequence in [1, 50_000, 100_000] {
            assert_eq!(tracker.finished(sequence), Err(TrackerError::FinishedBefore { sequence }));
        }
        assert_eq!(tracker.finished(0), Ok((0, 0)));
        assert_eq!((tracker.held_messages(), tracker.held_bytes(), tracker.span()), (0, 0, 0));
        assert_eq!(tracker.finished(0), Err(TrackerError::FinishedBefore { sequence: 0 }));
    }

    #[test]
    fn the_last_one_that_was_left_behind_leaves_nothing_that_looks_unfinished() {
        let mut tracker = Tracker::individual();
        let last = SPARE_SLOTS as u64 + 4;
        for sequence in 0..=last {
            assert_eq!(tracker.received(7, 1, ()), Ok(sequence));
        }
        for sequence in 1..=last {
            tracker.finished(sequence).unwrap();
        }
        assert_eq!((tracker.oldest_unfinished(), tracker.left_behind.len()), (Some((0, 7)), 1));
        tracker.finished(0).unwrap();
        assert_eq!((tracker.oldest_unfinished(), tracker.span(), tracker.ring.len()), (None, 0, 0));
    }

    /// One step of a source and its sink: a message with a gap before it, or the end of the n-th unfinished one.
    #[derive(Clone, Debug)]
    enum Step {
        Receive { gap: i64, bytes: usize },
        Finish { nth: usize },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let receive = (1..5_i64, 0..100_usize).prop_map(|(gap, bytes)| Step::Receive { gap, bytes });
        let finish = (0..64_usize).prop_map(|nth| Step::Finish { nth });
        prop::collection::vec(prop_oneof![receive, finish], 0..300)
    }

    proptest! {
        #[test]
        fn the_tracker_agrees_with_a_map_of_everything_that_was_ever_received(steps in steps()) {
            let mut tracker = Tracker::new();
            // Offset -> (sequence number, bytes, done), and nothing is ever removed.
            let mut model = BTreeMap::<i64, (u64, usize, bool)>::new();
            for step in steps {
                match step {
                    Step::Receive { gap, bytes } => {
                        let offset = model.last_key_value().map_or(0, |(last, _)| *last) + gap;
                        prop_assert_eq!(tracker.received(offset, bytes, offset), Ok(model.len() as u64));
                        model.insert(offset, (model.len() as u64, bytes, false));
                    }
                    Step::Finish { nth } => {
                        let open = model.iter().filter(|(_, entry)| !entry.2).map(|(offset, _)| *offset);
                        let open = open.collect::<Vec<_>>();
                        if let Some(offset) = open.get(nth % open.len().max(1)) {
                            let entry = model.get_mut(offset).unwrap();
                            entry.2 = true;
                            prop_assert_eq!(tracker.finished(entry.0), Ok((*offset, *offset)));
                            let again = TrackerError::FinishedBefore { sequence: entry.0 };
                            prop_assert_eq!(tracker.finished(entry.0), Err(again));
                        }
                    }
                }
                let lowest = model.iter().find(|(_, entry)| !entry.2).map(|(offset, entry)| (entry.0, *offset));
                let end = model.last_key_value().map(|(last, _)| last + 1);
                prop_assert_eq!(tracker.oldest_unfinished(), lowest);
                prop_assert_eq!(tracker.committable(), lowest.map(|(_, offset)| offset).or(end));
                prop_assert_eq!(tracker.outstanding(), model.values().filter(|entry| !entry.2).count());
                let held = model.iter().filter(|(offset, _)| lowest.is_some_and(|(_, from)| **offset >= from));
                let (messages, bytes) = held.fold((0, 0), |sum, (_, entry)| (sum.0 + 1, sum.1 + entry.1));
                prop_assert_eq!((tracker.held_messages(), tracker.held_bytes()), (messages, bytes));
                for (offset, (sequence, _, done)) in &model {
                    prop_assert_eq!(tracker.get(*sequence), Some(offset).filter(|_| !done));
                    prop_assert_eq!(tracker.offset(*sequence), Some(*offset).filter(|_| !done));
                }
            }
        }

        #[test]
        fn an_individual_tracker_holds_what_is_unfinished_and_little_else(
            finishes in prop::collection::vec((0..8_usize, 0..64_usize), 0..1_000),
        ) {
            let (mut tracker, mut open, mut next) = (Tracker::individual(), Vec::new(), 0);
            for (bytes, finish) in finishes {
                let sequence = tracker.received(7, bytes, bytes).unwrap();
                open.push((sequence, bytes));
                next = sequence + 1;
                // One in 64 stays, so the ring is far longer than what is open, and old ones are finished out of it too.
                if finish > 0 {
                    let (sequence, bytes) = open.remove(finish % open.len());
                    prop_assert_eq!(tracker.finished(sequence), Ok((7, bytes)));
                }
                agrees(&tracker, &open, next)?;
            }
            while let Some((sequence, bytes)) = open.pop() {
                prop_assert_eq!(tracker.finished(sequence), Ok((7, bytes)));
                agrees(&tracker, &open, next)?;
            }
        }
    }

    /// That an individual tracker is as it must be with these open, whose next number is this.
    fn agrees(tracker: &Tracker<usize>, open: &[(u64, usize)], next: u64) -> Result<(), TestCaseError> {
        let oldest = open.first().map(|(oldest, _)| *oldest);
        prop_assert_eq!(tracker.held_messages(), open.len());
        prop_assert_eq!(tracker.held_bytes(), open.iter().map(|(_, bytes)| bytes).sum::<usize>());
        prop_assert_eq!(tracker.oldest_unfinished().map(|(oldest, _)| oldest), oldest);
        prop_assert_eq!(tracker.span(), oldest.map_or(0, |oldest| next - oldest));
        prop_assert!(tracker.ring.len() <= SPARE_SLOTS + 4 * (open.len() + 1));
        prop_assert!(tracker.ring.front().is_none_or(|front| front.item.is_some()));
        prop_assert!(open.iter().all(|(sequence, bytes)| tracker.get(*sequence) == Some(bytes)));
        Ok(())
    }
}
