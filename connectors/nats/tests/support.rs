//! What the tests share: sinks that remember their confirmations, sources that are polled until something holds, and an
//! independent look at what the server has.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_nats::jetstream;
use portcullis_connector_api::{
    Acknowledgement, AssignmentId, Batch, Budget, Confirm, ConnectorError, ErrorKind, Fate, Message, Origin, Record,
    SendError, Sink, Source, Token,
};
use portcullis_connector_nats::{
    Connection, ConsumerSpec, JetStreamSinkSettings, JetStreamSource, JetStreamSourceSettings, Storage, StreamSpec,
    SubjectRule,
};
use tokio::runtime::Runtime;

pub(crate) const LIMIT: Duration = Duration::from_secs(60);
pub(crate) const ALL: Budget = Budget { messages: 1024, bytes: 8 * 1024 * 1024 };

pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not happen within {} s", LIMIT.as_secs());
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// async-nats as anybody would use it.
pub(crate) struct Other {
    pub(crate) runtime: Runtime,
    pub(crate) client: async_nats::Client,
    pub(crate) streams: jetstream::Context,
}

impl Other {
    pub(crate) fn at(url: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let options = async_nats::ConnectOptions::new().subscription_capacity(1 << 20);
        let client = runtime.block_on(options.connect(url)).unwrap();
        let inside = runtime.enter();
        let streams = jetstream::new(client.clone());
        drop(inside);
        Self { runtime, client, streams }
    }

    pub(crate) fn publish(&self, subject: &str, values: impl IntoIterator<Item = String>) {
        self.runtime.block_on(async {
            for value in values {
                self.client.publish(subject.to_owned(), value.into()).await.unwrap();
            }
            self.round_trip().await;
        });
    }

    /// Everything that was published before is at the server.
    async fn round_trip(&self) {
        use futures_util::StreamExt;
        let inbox = self.client.new_inbox();
        let mut back = self.client.subscribe(inbox.clone()).await.unwrap();
        self.client.publish(inbox, "".into()).await.unwrap();
        back.next().await.unwrap();
    }

    pub(crate) fn count(&self, stream: &str) -> u64 {
        self.runtime
            .block_on(async { self.streams.get_stream(stream).await.unwrap().get_info().await.unwrap() })
            .state
            .messages
    }

    pub(crate) fn delete_stream(&self, stream: &str) {
        self.runtime.block_on(self.streams.delete_stream(stream)).unwrap();
    }

    pub(crate) fn delete_consumer(&self, stream: &str, consumer: &str) {
        let deleted = self
            .runtime
            .block_on(async { self.streams.get_stream(stream).await.unwrap().delete_consumer(consumer).await });
        deleted.unwrap();
    }

    pub(crate) fn purge(&self, stream: &str) {
        self.runtime.block_on(async { self.streams.get_stream(stream).await.unwrap().purge().await.unwrap() });
    }

    pub(crate) fn consumer(&self, stream: &str, consumer: &str) -> jetstream::consumer::Info {
        self.runtime
            .block_on(async { self.streams.get_stream(stream).await.unwrap().consumer_info(consumer).await.unwrap() })
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

/// Hands over, waiting for room like a lane.
pub(crate) fn send(sink: &dyn Sink, message: &Message, origin: Option<Origin<'_>>, token: u64) {
    let deadline = Instant::now() + LIMIT;
    loop {
        let sent = match origin {
            Some(origin) => sink.send_from(message, origin, Token(token)),
            None => sink.send(message, Token(token)),
        };
        match sent {
            Ok(()) => return,
            Err(SendError::Full) if Instant::now() < deadline => sink.wait_for_room(Duration::from_millis(100)),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Sends so many, as the partition 0 of the topic `in`, and waits for their confirmation.
pub(crate) fn store(sink: &dyn Sink, fates: &Fates, numbers: std::ops::Range<i64>) {
    let count = numbers.clone().count();
    for number in numbers {
        send(sink, &numbered(number), Some(origin(number)), number as u64);
    }
    assert_eq!(sink.drain(LIMIT), 0, "{:?}", sink.not_ready());
    let fates = fates.take();
    assert_eq!(fates.len(), count);
    assert!(fates.iter().all(|(_, fate)| matches!(fate, Fate::Stored(_))), "{:?}", fates.first());
}

pub(crate) fn numbered(number: i64) -> Message {
    Message { key: Some("k".into()), value: Some(number.to_string().into()), ..Message::new("in") }
}

pub(crate) fn origin(number: i64) -> Origin<'static> {
    Origin { source: "c1", channel: "in", partition: 0, offset: number, stamp: 0, output: 0 }
}

pub(crate) fn spec(subjects: &[&str]) -> StreamSpec {
    let mut spec = StreamSpec::new(subjects.iter().map(|subject| (*subject).to_owned()).collect());
    spec.storage = Storage::Memory;
    spec
}

/// A sink of the subject `s` into a stream `S`, which it makes.
pub(crate) fn sink_settings(connection: Connection) -> JetStreamSinkSettings {
    let mut settings = JetStreamSinkSettings::new(connection, SubjectRule::Fixed("s".into()), "test");
    settings.stream = Some("S".into());
    settings.create_stream = Some(spec(&["s", "s.>"]));
    settings
}

/// A source of the stream `S` as the consumer `C`, which it makes.
pub(crate) fn source_settings(connection: Connection) -> JetStreamSourceSettings {
    let mut settings = JetStreamSourceSettings::new(connection, "S", "C");
    settings.create_stream = Some(spec(&["s", "s.>"]));
    settings.create_consumer = Some(ConsumerSpec::default());
    settings.heartbeat = Duration::from_millis(500);
    settings
}

/// A source with what it brought.
pub(crate) struct Reader {
    pub(crate) source: Box<dyn Source>,
    pub(crate) records: Vec<Record>,
    pub(crate) troubles: Vec<String>,
    /// Acknowledges what comes as it comes.
    pub(crate) acknowledges: bool,
    batch: Batch,
}

impl Reader {
    pub(crate) fn new(source: impl Source + 'static) -> Self {
        Self {
            source: Box::new(source),
            records: Vec::new(),
            troubles: Vec::new(),
            acknowledges: false,
            batch: Batch::default(),
        }
    }

    pub(crate) fn of(settings: JetStreamSourceSettings) -> Self {
        Self::new(JetStreamSource::new(settings).unwrap())
    }

    pub(crate) fn poll(&mut self, budget: Budget) -> Result<(), ConnectorError> {
        self.batch.clear();
        let polled = self.source.poll(budget, Duration::from_millis(20), &mut self.batch);
        let before = self.records.len();
        self.records.append(&mut self.batch.records);
        if self.acknowledges {
            self.acknowledge(before..self.records.len(), false);
        }
        polled
    }

    pub(crate) fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !holds(self) {
            let (read, troubles) = (self.records.len(), &self.troubles);
            assert!(Instant::now() < deadline, "{what} did not happen; {read} read, {troubles:?}");
            self.try_poll();
        }
    }

    fn try_poll(&mut self) {
        match self.poll(ALL) {
            Ok(()) => {}
            Err(error) if error.kind == ErrorKind::Retriable => {
                if self.troubles.last() != Some(&error.context) {
                    self.troubles.push(error.context);
                }
            }
            Err(error) => panic!("{error}"),
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
            assert!(Instant::now() < deadline, "no error within {} s: {:?}", LIMIT.as_secs(), self.troubles);
            match self.poll(ALL) {
                Err(error) if error.kind != ErrorKind::Retriable => return error,
                Err(error) => self.troubles.push(error.context),
                Ok(()) => {}
            }
        }
    }

    pub(crate) fn acknowledge(&mut self, which: std::ops::Range<usize>, durable: bool) {
        let done: Vec<_> = self.records[which].iter().map(|record| record.offset).collect();
        let done: Vec<_> =
            done.into_iter().map(|offset| Acknowledgement { assignment: AssignmentId(0), offset }).collect();
        self.source.acknowledge(&done, durable).unwrap();
    }

    pub(crate) fn values(&self) -> Vec<String> {
        let text =
            |record: &Record| String::from_utf8_lossy(record.message.value.as_deref().unwrap_or_default()).into();
        self.records.iter().map(text).collect()
    }

    pub(crate) fn close(self) {
        self.source.close(Duration::from_secs(20)).unwrap();
    }
}

pub(crate) fn numbers(range: std::ops::Range<i64>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// A sink with its confirmations.
pub(crate) fn fates() -> (Arc<Fates>, Arc<dyn Confirm>) {
    let fates = Arc::new(Fates::default());
    (Arc::clone(&fates), fates)
}
