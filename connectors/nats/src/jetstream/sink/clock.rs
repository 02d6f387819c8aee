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
}

impl Clock {
    pub(super) fn new() -> Self {
        Self { last_answer: Instant::now(), newest: None, overtaken: None }
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
        self.newest = None;
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
}
