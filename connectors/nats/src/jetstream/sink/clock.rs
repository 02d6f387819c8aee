use std::time::{Duration, Instant};

/// How long answers have been missing. A server answers for one stream in order, so a message that another has overtaken was
/// most likely lost on its way, as when a stream's leader moves: others that are answered meanwhile say nothing about it. It is
/// not measured from the sending, because a slow connection may hold a whole window for longer than the limit.
#[derive(Debug)]
pub(super) struct Clock {
    last_answer: Instant,
    /// The last of those that were answered, in the order in which they were sent.
    newest: Option<u64>,
    /// The first without an answer, and since when a later one has one.
    overtaken: Option<(u64, Instant)>,
    /// What `newest` was, and when.
    mark: Option<(u64, Instant)>,
    /// What `newest` was `PATIENCE` ago or longer.
    ripe: Option<u64>,
}

/// Streams answer at different speeds, but an answer that comes so long after a later one is asked about.
const PATIENCE: Duration = Duration::from_millis(250);
/// So long without any answer is asked about too. Longer, because a server that stands still for a moment tells nothing.
const SILENCE: Duration = Duration::from_secs(1);

impl Clock {
    pub(super) fn new() -> Self {
        Self { last_answer: Instant::now(), newest: None, overtaken: None, mark: None, ripe: None }
    }

    /// Nothing was under way before what is sent now.
    pub(super) fn begins(&mut self) {
        self.last_answer = Instant::now();
    }

    pub(super) fn answered(&mut self, number: u64) {
        self.last_answer = Instant::now();
        self.newest = self.newest.max(Some(number));
    }

    /// Messages are sent again, behind later ones.
    pub(super) fn again(&mut self) {
        (self.newest, self.mark, self.ripe) = (None, None, None);
    }

    /// What was sent before this number and has no answer yet may never get one.
    pub(super) fn doubtful(&mut self) -> u64 {
        if self.last_answer.elapsed() > SILENCE {
            return u64::MAX;
        }
        if self.mark.is_none_or(|(_, since)| since.elapsed() >= PATIENCE) {
            self.ripe = self.mark.map(|(number, _)| number);
            self.mark = self.newest.map(|newest| (newest, Instant::now()));
        }
        self.ripe.unwrap_or(0)
    }

    /// The same once the limit of `verdict` is over.
    pub(super) fn given_up(&self, limit: Duration) -> u64 {
        if self.last_answer.elapsed() > limit { u64::MAX } else { self.newest.unwrap_or(u64::MAX) }
    }

    /// Why it has been too long, given the first message without an answer.
    pub(super) fn verdict(&mut self, oldest: Option<u64>, limit: Duration) -> Option<String> {
        let waited = limit.as_millis();
        if oldest.is_some() && self.last_answer.elapsed() > limit {
            return Some(format!("no stream has confirmed a message for {waited} ms"));
        }
        self.overtaken = match (oldest.filter(|oldest| self.newest > Some(*oldest)), self.overtaken) {
            (Some(oldest), Some((number, since))) if number == oldest => Some((number, since)),
            (Some(oldest), _) => Some((oldest, Instant::now())),
            (None, _) => None,
        };
        let lost = self.overtaken.is_some_and(|(_, since)| since.elapsed() > limit);
        lost.then(|| format!("a message was not confirmed within {waited} ms of a later one"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_unanswered_message_has_a_clock_of_its_own_once_it_is_overtaken() {
        let mut clock = Clock::new();
        let (none, hour) = (Duration::ZERO, Duration::from_secs(3600));
        assert_eq!(clock.verdict(None, none), None, "nothing is under way");
        clock.answered(4);
        assert_eq!(clock.verdict(Some(5), hour), None);
        assert_eq!(clock.overtaken, None, "those before it are answered");
        clock.answered(7);
        assert_eq!(clock.verdict(Some(5), hour), None);
        let (_, since) = clock.overtaken.unwrap();
        clock.answered(8);
        assert_eq!(clock.verdict(Some(5), hour), None);
        assert_eq!(clock.overtaken, Some((5, since)), "others say nothing about it");
        clock.overtaken = since.checked_sub(Duration::from_secs(2)).map(|since| (5, since));
        assert!(clock.verdict(Some(5), Duration::from_secs(1)).unwrap().contains("later one"));
        assert_eq!(clock.verdict(Some(6), Duration::from_secs(1)), None, "it was answered");
        clock.again();
        assert_eq!(clock.verdict(Some(6), hour), None);
        assert_eq!(clock.overtaken, None);
    }

    #[test]
    fn what_later_ones_have_overtaken_for_a_while_is_in_doubt_and_so_is_everything_in_silence() {
        let mut clock = Clock::new();
        let back = |since: Instant, by: Duration| since.checked_sub(by).unwrap();
        clock.answered(7);
        assert_eq!(clock.doubtful(), 0, "it may still come");
        clock.mark = clock.mark.map(|(number, since)| (number, back(since, PATIENCE)));
        clock.answered(90);
        assert_eq!(clock.doubtful(), 7, "and not what was overtaken just now");
        assert_eq!(clock.doubtful(), 7);
        clock.again();
        assert_eq!(clock.doubtful(), 0);
        clock.last_answer = back(clock.last_answer, SILENCE);
        assert_eq!(clock.doubtful(), u64::MAX);
        assert_eq!(clock.given_up(Duration::from_secs(3600)), u64::MAX, "nothing was answered since");
        clock.answered(8);
        assert_eq!((clock.doubtful(), clock.given_up(Duration::from_secs(3600))), (0, 8));
    }
}
