//! How old the oldest unfinished message of a partition is, without a look at the clock for each message.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Past this the newest mark stands for everything that came after it too: an hour in which nothing is done is told well
/// enough, and no partition holds more.
const MAX_MARKS: usize = 3600;

/// Once a second it is marked how far messages had come. The age is that of the first mark past the oldest message: at most
/// the time between two looks too low.
#[derive(Debug, Default)]
pub(super) struct Ages {
    marks: VecDeque<Mark>,
}

/// At this time all messages before this sequence number had come.
#[derive(Debug)]
struct Mark {
    before: u64,
    at: Instant,
}

impl Ages {
    /// The age, of messages whose oldest unfinished and next to come have these sequence numbers; none where all are done.
    pub(super) fn look(&mut self, open: Option<(u64, u64)>, now: Instant) -> Duration {
        let Some((oldest, next)) = open else {
            self.marks.clear();
            return Duration::ZERO;
        };
        while self.marks.front().is_some_and(|mark| mark.before <= oldest) {
            self.marks.pop_front();
        }
        if self.marks.back().is_none_or(|mark| mark.before < next) {
            let is_full = self.marks.len() >= MAX_MARKS;
            match self.marks.back_mut().filter(|_| is_full) {
                Some(last) => last.before = next,
                None => self.marks.push_back(Mark { before: next, at: now }),
            }
        }
        self.marks.front().map_or(Duration::ZERO, |mark| now.saturating_duration_since(mark.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_is_that_of_the_oldest_message_and_not_of_the_last_movement() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut ages = Ages::default();
        let mut look = |oldest, next, seconds| ages.look(Some((oldest, next)), at(seconds)).as_secs();
        assert_eq!(look(0, 10, 0), 0);
        assert_eq!(look(0, 25, 1), 1);
        assert_eq!(look(0, 25, 60), 60);
        assert_eq!(look(9, 30, 61), 61, "the last one of the first look");
        assert_eq!(look(10, 30, 62), 61, "it came between the first and the second look");
        assert_eq!(look(26, 30, 63), 2);
        assert_eq!(look(30, 31, 64), 0);
        assert_eq!(ages.look(None, at(65)), Duration::ZERO);
        assert_eq!(ages.look(Some((31, 32)), at(70)), Duration::ZERO, "what is new is new");
    }

    #[test]
    fn a_partition_that_stands_still_for_days_holds_an_hour_of_marks() {
        let start = Instant::now();
        let mut ages = Ages::default();
        let age = (0..100_000).map(|n| ages.look(Some((0, n + 1)), start + Duration::from_secs(n))).last();
        assert_eq!((age, ages.marks.len()), (Some(Duration::from_secs(99_999)), MAX_MARKS));
        let still = ages.look(Some((90_000, 100_000)), start + Duration::from_secs(100_000));
        assert!(still >= Duration::from_secs(10_000), "{still:?}: never younger than it is");
    }
}
