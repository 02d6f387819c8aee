//! A source that gives so many messages and no more, and whose positions nobody moves.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use portcullis_config::format_duration;
use portcullis_connector_api::{
    AckMode, Acknowledgement, AssignmentId, Batch, Budget, ConnectorError, ErrorKind, Event, Source,
};

use crate::cli::words::some;

/// A pause between two polls that is the pipeline's and not the source's: it was busy, and the source was not asked.
const BUSY: Duration = Duration::from_secs(1);

pub(super) struct Limited {
    inner: Box<dyn Source>,
    most: usize,
    left: usize,
    wait: Duration,
    /// When the last message came, or the source was opened.
    quiet_since: Instant,
    last_poll: Instant,
    /// What the source said the last time that it was asked, where that was no message.
    trouble: Option<String>,
    /// With the place where it says why it has ended, for the summary.
    turn: Turn,
}

/// The sources of one pipeline are taken from one after the other: what their plugins were kept from is counted for all of
/// them together, and belongs to a message only while no other one is in work.
#[derive(Default)]
pub(super) struct Turns {
    /// How many are over.
    over: Mutex<usize>,
    next: Condvar,
}

impl Turns {
    /// The turn of the source of this number, from 0. `ended` is where it will say why it has ended.
    pub(super) fn of(self: &Arc<Self>, number: usize, ended: Arc<Mutex<Option<String>>>) -> Turn {
        Turn { turns: self.clone(), number, ended }
    }
}

/// When a source may give its messages.
pub(super) struct Turn {
    turns: Arc<Turns>,
    number: usize,
    ended: Arc<Mutex<Option<String>>>,
}

impl Turn {
    /// Whether it has come, after no more than `wait`.
    fn has_come(&self, wait: Duration) -> bool {
        let over = self.turns.over.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.turns.next.wait_timeout_while(over, wait, |over| *over < self.number);
        let (over, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *over >= self.number
    }

    fn has_ended(&self) -> bool {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

/// A source goes when all of its messages are done. One that fails passes nothing on: its pipeline ends.
impl Drop for Turn {
    fn drop(&mut self) {
        if self.has_ended() {
            *self.turns.over.lock().unwrap_or_else(PoisonError::into_inner) += 1;
            self.turns.next.notify_all();
        }
    }
}

impl Limited {
    pub(super) fn new(inner: Box<dyn Source>, most: usize, wait: Duration, turn: Turn) -> Self {
        let now = Instant::now();
        Self { inner, most, left: most, wait, quiet_since: now, last_poll: now, trouble: None, turn }
    }

    fn end(&mut self, why: String, batch: &mut Batch) {
        *self.turn.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
        if !batch.events.iter().any(|event| matches!(event, Event::Finished)) {
            batch.events.push(Event::Finished);
        }
    }
}

impl Source for Limited {
    fn ack_mode(&self) -> AckMode {
        self.inner.ack_mode()
    }

    fn poll(&mut self, budget: Budget, wait: Duration, batch: &mut Batch) -> Result<(), ConnectorError> {
        if self.turn.has_ended() || budget.messages == 0 {
            return self.inner.poll(Budget::NOTHING, Duration::ZERO, batch);
        }
        if !self.turn.has_come(wait) {
            self.last_poll = Instant::now();
            self.quiet_since = self.last_poll;
            return self.inner.poll(Budget::NOTHING, Duration::ZERO, batch);
        }
        let pause = self.last_poll.elapsed();
        if pause > BUSY {
            self.quiet_since += pause;
        }
        let budget = Budget { messages: budget.messages.min(self.left), bytes: budget.bytes };
        let polled = self.inner.poll(budget, wait.min(self.wait), batch);
        self.last_poll = Instant::now();
        if !batch.records.is_empty() {
            self.left = self.left.saturating_sub(batch.records.len());
            self.quiet_since = self.last_poll;
        }
        match polled {
            Ok(()) => self.trouble = None,
            Err(error) if error.kind == ErrorKind::Retriable => self.trouble = Some(error.context),
            Err(error) => return Err(error),
        }
        if batch.events.iter().any(|event| matches!(event, Event::Finished)) {
            self.end("the source has ended".to_owned(), batch);
        } else if self.left == 0 {
            let were = if self.most == 1 { "was" } else { "were" };
            self.end(format!("{} {were} taken", some(self.most, "message")), batch);
        } else if self.quiet_since.elapsed() >= self.wait {
            if let Some(trouble) = self.trouble.take() {
                return Err(ConnectorError::new(ErrorKind::Fatal, trouble));
            }
            self.end(format!("the source was quiet for {}", format_duration(self.wait)), batch);
        }
        Ok(())
    }

    /// Nothing is done: the next run meets the same messages.
    fn acknowledge(&mut self, _: &[Acknowledgement], _: bool) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn pause(&mut self, assignments: &[AssignmentId]) -> Result<(), ConnectorError> {
        self.inner.pause(assignments)
    }

    fn resume(&mut self, assignments: &[AssignmentId]) -> Result<(), ConnectorError> {
        self.inner.resume(assignments)
    }

    fn release(&mut self, assignments: &[AssignmentId]) -> Result<(), ConnectorError> {
        self.inner.release(assignments)
    }

    fn close(self: Box<Self>, deadline: Duration) -> Result<(), ConnectorError> {
        let Self { inner, turn, .. } = *self;
        let closed = inner.close(deadline);
        drop(turn);
        closed
    }
}

#[cfg(test)]
mod tests {
    use portcullis_connector_local::{GeneratedValue, Generator, GeneratorSettings};

    use super::*;

    fn generator(count: u64) -> Box<dyn Source> {
        let settings = GeneratorSettings {
            count: Some(count),
            rate: None,
            seed: 1,
            key: None,
            value: GeneratedValue::Bytes(1),
            headers: Vec::new(),
            channel: "t".into(),
        };
        Box::new(Generator::new(settings).unwrap())
    }

    fn taken(inner: Box<dyn Source>) -> (usize, String) {
        let ended = Arc::<Mutex<Option<String>>>::default();
        let turn = Arc::<Turns>::default().of(0, ended.clone());
        let mut source = Limited::new(inner, 10, Duration::from_millis(1), turn);
        let (mut count, mut batch) = (0, Batch::default());
        while !batch.events.iter().any(|event| matches!(event, Event::Finished)) {
            batch.clear();
            source.poll(Budget { messages: 4, bytes: 1 << 20 }, Duration::from_millis(1), &mut batch).unwrap();
            count += batch.records.len();
        }
        batch.clear();
        source.poll(Budget { messages: 4, bytes: 1 << 20 }, Duration::ZERO, &mut batch).unwrap();
        assert!(batch.records.is_empty() && batch.events.is_empty(), "it has ended");
        (count, ended.lock().unwrap().clone().unwrap())
    }

    #[test]
    fn no_more_messages_are_taken_than_were_asked_for() {
        assert_eq!(taken(generator(100)), (10, "10 messages were taken".to_owned()));
        assert_eq!(taken(generator(3)), (3, "the source has ended".to_owned()));
    }

    #[test]
    fn a_source_gives_nothing_before_the_one_before_it_is_done_with_all_of_its_messages() {
        let turns = Arc::<Turns>::default();
        let source = |number| {
            let turn = turns.of(number, Arc::default());
            Box::new(Limited::new(generator(2), 10, Duration::from_secs(60), turn))
        };
        let (mut first, mut second) = (source(0), source(1));
        let budget = Budget { messages: 4, bytes: 1 << 20 };
        let polled = |source: &mut Limited| {
            let mut batch = Batch::default();
            source.poll(budget, Duration::ZERO, &mut batch).unwrap();
            batch.records.len()
        };
        assert_eq!(polled(&mut second), 0);
        while !first.turn.has_ended() {
            polled(&mut first);
        }
        assert_eq!(polled(&mut second), 0, "messages of the first may be in work");
        first.close(Duration::ZERO).unwrap();
        assert_eq!(polled(&mut second), 2);
    }

    /// Says always the same.
    struct Silent(Option<ErrorKind>);

    impl Source for Silent {
        fn ack_mode(&self) -> AckMode {
            AckMode::None
        }

        fn poll(&mut self, _: Budget, _: Duration, _: &mut Batch) -> Result<(), ConnectorError> {
            self.0.map_or(Ok(()), |kind| Err(ConnectorError::new(kind, "no broker can be reached")))
        }

        fn acknowledge(&mut self, _: &[Acknowledgement], _: bool) -> Result<(), ConnectorError> {
            panic!("a dry run acknowledges nothing")
        }

        fn pause(&mut self, _: &[AssignmentId]) -> Result<(), ConnectorError> {
            Ok(())
        }

        fn resume(&mut self, _: &[AssignmentId]) -> Result<(), ConnectorError> {
            Ok(())
        }

        fn release(&mut self, _: &[AssignmentId]) -> Result<(), ConnectorError> {
            Ok(())
        }

        fn close(self: Box<Self>, _: Duration) -> Result<(), ConnectorError> {
            Ok(())
        }
    }

    #[test]
    fn a_quiet_source_ends_in_order_and_one_that_cannot_be_reached_does_not() {
        assert_eq!(taken(Box::new(Silent(None))), (0, "the source was quiet for 1ms".to_owned()));
        let turn = Arc::<Turns>::default().of(0, Arc::default());
        let mut source = Limited::new(Box::new(Silent(Some(ErrorKind::Retriable))), 10, Duration::from_millis(1), turn);
        source.acknowledge(&[], true).unwrap();
        let mut batch = Batch::default();
        let error = loop {
            if let Err(error) = source.poll(Budget { messages: 1, bytes: 1 }, Duration::ZERO, &mut batch) {
                break error;
            }
        };
        assert!(error.kind == ErrorKind::Fatal && error.context.contains("no broker"), "{error}");
    }
}
