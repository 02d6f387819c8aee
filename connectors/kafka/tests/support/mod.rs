//! What the tests share: a sink that remembers its confirmations, and a source that is polled until something holds.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use portcullis_connector_api::{
    Acknowledgement, AssignmentId, Batch, Budget, Confirm, ConnectorError, ErrorKind, Event, Fate, Message, Receipt,
    Record, SendError, Sink, Source, Token,
};
use portcullis_connector_kafka::{Connection, KafkaSink, KafkaSource, SinkSettings, SourceSettings, TopicRule};

/// Long enough for a busy machine; every wait ends as soon as its condition holds.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
pub(crate) const ALL: Budget = Budget { messages: 1024, bytes: 1024 * 1024 };

pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not happen within {} s", LIMIT.as_secs());
        std::thread::yield_now();
    }
}

/// For rdkafka's administration, which the connector does not use for itself.
pub(crate) fn block_on<F: Future>(future: F, limit: Duration) -> F::Output {
    let deadline = Instant::now() + limit;
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return output;
        }
        assert!(Instant::now() < deadline, "no answer within {} s", limit.as_secs());
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[derive(Default)]
pub(crate) struct Fates(Mutex<Vec<(Token, Fate)>>);

impl Confirm for Fates {
    fn confirm(&self, token: Token, fate: Fate) {
        self.0.lock().unwrap().push((token, fate));
    }
}

impl Fates {
    pub(crate) fn take(&self) -> Vec<(Token, Fate)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

pub(crate) struct Writer {
    pub(crate) sink: KafkaSink,
    pub(crate) fates: Arc<Fates>,
    next: u64,
}

impl Writer {
    pub(crate) fn to(connection: &Connection, topic: &str) -> Self {
        Self::with(SinkSettings::new(connection.clone(), TopicRule::Fixed(topic.into())))
    }

    pub(crate) fn with(settings: SinkSettings) -> Self {
        let fates = Arc::new(Fates::default());
        let sink = KafkaSink::new(settings, Arc::clone(&fates) as Arc<dyn Confirm>).unwrap();
        Self { sink, fates, next: 0 }
    }

    /// Hands over, waiting for room like a lane.
    pub(crate) fn send(&mut self, message: &Message) -> Token {
        let token = Token(self.next);
        self.next += 1;
        loop {
            match self.sink.send(message, token) {
                Ok(()) => return token,
                Err(SendError::Full) => self.sink.wait_for_room(Duration::from_secs(1)),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Sends all and waits until each is stored.
    pub(crate) fn store(&mut self, messages: &[Message]) -> Vec<Receipt> {
        let first = self.next;
        for message in messages {
            self.send(message);
        }
        assert_eq!(self.sink.drain(LIMIT), 0);
        let mut receipts: Vec<_> = self
            .fates
            .take()
            .into_iter()
            .map(|(token, fate)| match fate {
                Fate::Stored(receipt) => (token, receipt),
                other => panic!("{other:?}"),
            })
            .collect();
        receipts.sort_by_key(|(token, _)| *token);
        assert_eq!(receipts.len(), messages.len());
        assert_eq!(receipts.first().map_or(first, |(token, _)| token.0), first);
        receipts.into_iter().map(|(_, receipt)| receipt).collect()
    }
}

pub(crate) fn message(topic: &str, key: &str, value: impl AsRef<[u8]>) -> Message {
    let mut message = Message::new(topic);
    message.key = Some(key.as_bytes().to_vec().into());
    message.value = Some(value.as_ref().to_vec().into());
    message
}

pub(crate) fn numbered(topic: &str, count: usize) -> Vec<Message> {
    (0..count).map(|number| message(topic, &format!("key-{}", number % 17), number.to_string())).collect()
}

pub(crate) fn settings(connection: &Connection, group: &str, topic: &str) -> SourceSettings {
    let mut settings = SourceSettings::new(connection.clone(), group, vec![topic.into()]);
    // The least that a broker takes: the test broker waits so long for members that have left.
    settings.session_timeout = Some(Duration::from_secs(6));
    settings
}

/// A source with what it brought.
pub(crate) struct Reader {
    pub(crate) source: Box<KafkaSource>,
    pub(crate) records: Vec<Record>,
    /// Partitions that are ours, by assignment.
    pub(crate) assigned: HashMap<AssignmentId, (String, i32)>,
    /// Revocations that were not released.
    pub(crate) revoking: Vec<(Vec<AssignmentId>, bool)>,
    pub(crate) starting_over: Vec<AssignmentId>,
    pub(crate) troubles: Vec<ConnectorError>,
    batch: Batch,
}

impl Reader {
    pub(crate) fn of(connection: &Connection, group: &str, topic: &str) -> Self {
        Self::with(settings(connection, group, topic))
    }

    pub(crate) fn with(settings: SourceSettings) -> Self {
        Self {
            source: Box::new(KafkaSource::new(settings).unwrap()),
            records: Vec::new(),
            assigned: HashMap::new(),
            revoking: Vec::new(),
            starting_over: Vec::new(),
            troubles: Vec::new(),
            batch: Batch::default(),
        }
    }

    /// One poll. Checks the contract on the way.
    pub(crate) fn poll(&mut self, budget: Budget) -> Result<(), ConnectorError> {
        self.batch.clear();
        let result = self.source.poll(budget, Duration::from_millis(20), &mut self.batch);
        let mut events = self.batch.events.drain(..).peekable();
        while let Some(Event::Assigned { .. }) = events.peek() {
            if let Some(Event::Assigned { id, channel, partition }) = events.next() {
                assert!(self.assigned.insert(id, (channel.to_string(), partition)).is_none(), "a new number each time");
            }
        }
        for record in self.batch.records.drain(..) {
            let (topic, _) = self.assigned.get(&record.assignment).expect("assigned before its first record");
            assert_eq!(topic, &*record.message.channel);
            assert!(
                !self.revoking.iter().any(|(ids, _)| ids.contains(&record.assignment))
                    && !self.starting_over.contains(&record.assignment),
                "nothing after a revocation"
            );
            self.records.push(record);
        }
        for event in events {
            match event {
                Event::Revoking { assignments, lost } => self.revoking.push((assignments, lost)),
                Event::StartsOver { assignments } => self.starting_over.extend(assignments),
                other => panic!("{other:?} after a revocation"),
            }
        }
        result
    }

    /// Polls until it holds. Errors that may pass are kept, others are the test's end.
    pub(crate) fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !holds(self) {
            assert!(Instant::now() < deadline, "{what} did not happen within {} s", LIMIT.as_secs());
            match self.poll(ALL) {
                Ok(()) => {}
                Err(error) if error.kind == ErrorKind::Retriable => self.troubles.push(error),
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub(crate) fn until_count(&mut self, count: usize) {
        self.until(&format!("reading {count} messages"), |reader| reader.records.len() >= count);
        assert_eq!(self.records.len(), count);
    }

    /// The error that ends it.
    pub(crate) fn failure(&mut self) -> ConnectorError {
        let deadline = Instant::now() + LIMIT;
        loop {
            assert!(Instant::now() < deadline, "no error within {} s", LIMIT.as_secs());
            match self.poll(ALL) {
                Err(error) if error.kind != ErrorKind::Retriable => return error,
                _ => {}
            }
        }
    }

    /// What is done when all records so far are done.
    pub(crate) fn done(&self) -> Vec<Acknowledgement> {
        let mut next: HashMap<AssignmentId, i64> = HashMap::new();
        for record in &self.records {
            next.insert(record.assignment, record.offset + 1);
        }
        next.into_iter().map(|(assignment, offset)| Acknowledgement { assignment, offset }).collect()
    }

    pub(crate) fn acknowledge_all(&mut self) {
        let done = self.done();
        // While members come and go the group takes no positions, and the caller asks again.
        let deadline = Instant::now() + LIMIT;
        while let Err(error) = self.source.acknowledge(&done, true) {
            assert!(error.kind == ErrorKind::Retriable && Instant::now() < deadline, "{error}");
        }
    }

    pub(crate) fn release(&mut self) {
        let starting_over = std::mem::take(&mut self.starting_over);
        let revoking = std::mem::take(&mut self.revoking).into_iter().map(|(ids, _)| ids);
        for ids in revoking.chain([starting_over]) {
            self.source.release(&ids).unwrap();
            for id in ids {
                self.assigned.remove(&id);
            }
        }
    }

    pub(crate) fn close(self) {
        self.source.close(Duration::from_secs(20)).unwrap();
    }

    pub(crate) fn values(&self) -> Vec<String> {
        let text =
            |record: &Record| String::from_utf8_lossy(record.message.value.as_deref().unwrap_or_default()).into();
        self.records.iter().map(text).collect()
    }

    /// (partition, offset) of each record.
    pub(crate) fn coordinates(&self) -> Vec<(i32, i64)> {
        self.records.iter().map(|record| (self.assigned[&record.assignment].1, record.offset)).collect()
    }
}
