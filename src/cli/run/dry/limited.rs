//! A source that gives so many messages and no more, and whose positions nobody moves.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use portcullis_config::format_duration;
use portcullis_connector_api::{
    AckMode, Acknowledgement, AssignmentId, Batch, Budget, ConnectorError, ErrorKind, Event, Source,
};

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
    /// Why it has ended, for the summary.
    ended: Arc<Mutex<Option<String>>>,
}

impl Limited {
    pub(super) fn new(inner: Box<dyn Source>, most: usize, wait: Duration, ended: Arc<Mutex<Option<String>>>) -> Self {
        let now = Instant::now();
        Self { inner, most, left: most, wait, quiet_since: now, last_poll: now, trouble: None, ended }
    }

    fn has_ended(&self) -> bool {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn end(&mut self, why: String, batch: &mut Batch) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
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
        if self.has_ended() || budget.messages == 0 {
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
            self.end(format!("{} messages were taken", self.most), batch);
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
        self.inner.close(deadline)
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
        let ended = Arc::default();
        let mut source = Limited::new(inner, 10, Duration::from_millis(1), Arc::clone(&ended));
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
        let mut source =
            Limited::new(Box::new(Silent(Some(ErrorKind::Retriable))), 10, Duration::from_millis(1), Arc::default());
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
