//! All four against the suite of the contract, on a real server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use portcullis_connector_api::conformance::{
    Exemption, Report, Rule, SinkFactory, SinkPlace, SourceFactory, SourcePlace, sink, source,
};
use portcullis_connector_api::{Confirm, Message, Sink, Source};
use portcullis_connector_nats::{
    CORE_SINK_EXEMPTIONS, CORE_SOURCE_EXEMPTIONS, Connection, ConsumerSpec, CoreSink, CoreSinkSettings, CoreSource,
    CoreSourceSettings, JETSTREAM_SINK_EXEMPTIONS, JETSTREAM_SOURCE_EXEMPTIONS, JetStreamSink, JetStreamSinkSettings,
    JetStreamSource, JetStreamSourceSettings, SubjectRule, Window,
};

use crate::server::Server;
use crate::support::{LIMIT, Other, Reader, fates, send, spec};
use crate::way::Way;

/// Of the sinks that are tried: far less than a burst.
const WINDOW: Window = Window { messages: 200, bytes: 16 * 1024 * 1024 };

fn fresh() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("P{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A stream, or a subject, of its own for each rule.
struct Place {
    connection: Connection,
    url: String,
    name: String,
    /// Core NATS: what waits for a source to be there, or the reader of what a sink publishes.
    waiting: Vec<Message>,
    reader: Option<Reader>,
    /// What the sink that is tried goes through.
    way: Way,
}

impl Place {
    fn new(server: &Server) -> Self {
        let (waiting, reader) = Default::default();
        let (connection, way) = (server.connection(), Way::to(server));
        Self { connection, url: server.url(), name: fresh(), waiting, reader, way }
    }

    fn stream_sink(&self) -> JetStreamSinkSettings {
        let rule = SubjectRule::Fixed(self.name.clone());
        let mut settings = JetStreamSinkSettings::new(self.connection.clone(), rule, "conformance");
        settings.stream = Some(self.name.clone());
        settings.create_stream = Some(spec(&[&self.name]));
        settings.window = WINDOW;
        settings
    }

    fn stream_source(&self, consumer: &str) -> JetStreamSourceSettings {
        let mut settings = JetStreamSourceSettings::new(self.connection.clone(), &self.name, consumer);
        settings.create_stream = Some(spec(&[&self.name]));
        settings.create_consumer = Some(ConsumerSpec::default());
        settings
    }

    fn core_source(&self) -> CoreSource {
        let settings = CoreSourceSettings::new(self.connection.clone(), vec![self.name.clone()]);
        let source = CoreSource::new(settings).unwrap();
        source.wait_until_subscribed(LIMIT).unwrap();
        source
    }

    fn hold(&self) -> Result<bool, String> {
        self.way.hold();
        Ok(true)
    }

    fn let_through(&self) -> Result<(), String> {
        self.way
            .let_through()
            .then_some(())
            .ok_or_else(|| "the connection of a sink that was given up stays".to_owned())
    }

    fn core_sink(&self) -> CoreSinkSettings {
        let mut settings = CoreSinkSettings::new(self.connection.clone(), SubjectRule::Fixed(self.name.clone()));
        settings.window = WINDOW;
        settings
    }
}

fn write(sink: &dyn Sink, messages: &[Message]) {
    for (token, message) in (0..).zip(messages) {
        send(sink, message, None, token);
    }
    assert_eq!(sink.drain(LIMIT), 0);
}

struct Streams(Place);
struct Subjects(Place);

impl SourcePlace for Streams {
    fn feed(&mut self, messages: &[Message]) -> Result<(), String> {
        let sink = JetStreamSink::new(self.0.stream_sink(), fates().1).map_err(|error| error.to_string())?;
        write(&sink, messages);
        Ok(())
    }

    fn open(&mut self) -> Result<Box<dyn Source>, String> {
        let source = JetStreamSource::new(self.0.stream_source("C")).map_err(|error| error.to_string())?;
        Ok(Box::new(source))
    }

    fn ends(&self) -> bool {
        false
    }
}

impl SourcePlace for Subjects {
    fn feed(&mut self, messages: &[Message]) -> Result<(), String> {
        self.0.waiting.extend_from_slice(messages);
        Ok(())
    }

    fn open(&mut self) -> Result<Box<dyn Source>, String> {
        let source = self.0.core_source();
        let sink = CoreSink::new(self.0.core_sink(), fates().1).map_err(|error| error.to_string())?;
        write(&sink, &std::mem::take(&mut self.0.waiting));
        Ok(Box::new(source))
    }

    fn ends(&self) -> bool {
        false
    }
}

impl SinkPlace for Streams {
    fn open(&mut self, confirm: Arc<dyn Confirm>) -> Result<Box<dyn Sink>, String> {
        let mut settings = self.0.stream_sink();
        settings.connection.servers = vec![self.0.way.url()];
        Ok(Box::new(JetStreamSink::new(settings, confirm).map_err(|error| error.to_string())?))
    }

    fn read(&mut self) -> Result<Vec<Message>, String> {
        let count = Other::at(&self.0.url).count(&self.0.name);
        let mut reader = Reader::of(self.0.stream_source(&fresh()));
        reader.acknowledges = true;
        reader.until_count(count as usize);
        let messages = std::mem::take(&mut reader.records).into_iter().map(|record| record.message).collect();
        reader.close();
        Ok(messages)
    }

    fn unacceptable(&self) -> Option<Message> {
        too_large()
    }

    fn hold(&mut self) -> Result<bool, String> {
        self.0.hold()
    }

    fn let_through(&mut self) -> Result<(), String> {
        self.0.let_through()
    }
}

impl SinkPlace for Subjects {
    fn open(&mut self, confirm: Arc<dyn Confirm>) -> Result<Box<dyn Sink>, String> {
        // What a second sink of the place publishes comes behind what the first one did.
        if self.0.reader.is_none() {
            self.0.reader = Some(Reader::new(self.0.core_source()));
        }
        let mut settings = self.0.core_sink();
        settings.connection.servers = vec![self.0.way.url()];
        Ok(Box::new(CoreSink::new(settings, confirm).map_err(|error| error.to_string())?))
    }

    fn read(&mut self) -> Result<Vec<Message>, String> {
        // What was confirmed is at the server, so the mark comes behind it.
        const MARK: &str = "the mark";
        Other::at(&self.0.url).publish(&self.0.name, [MARK.to_owned()]);
        let reader = self.0.reader.as_mut().ok_or("no reader")?;
        let is_mark = |message: &Message| message.value.as_deref() == Some(MARK.as_bytes());
        reader.until("the mark came", |reader| reader.records.last().is_some_and(|record| is_mark(&record.message)));
        reader.records.pop();
        Ok(reader.records.iter().map(|record| record.message.clone()).collect())
    }

    fn unacceptable(&self) -> Option<Message> {
        too_large()
    }

    fn hold(&mut self) -> Result<bool, String> {
        self.0.hold()
    }

    fn let_through(&mut self) -> Result<(), String> {
        self.0.let_through()
    }
}

fn too_large() -> Option<Message> {
    Some(Message { value: Some(vec![b'x'; 1024 * 1024].into()), ..Message::new("large") })
}

struct OfStreams(Server);
struct OfSubjects(Server);

impl SourceFactory for OfStreams {
    type Place = Streams;
    fn place(&self) -> Result<Streams, String> {
        Ok(Streams(Place::new(&self.0)))
    }
}

impl SinkFactory for OfStreams {
    type Place = Streams;
    fn place(&self) -> Result<Streams, String> {
        Ok(Streams(Place::new(&self.0)))
    }
}

impl SourceFactory for OfSubjects {
    type Place = Subjects;
    fn place(&self) -> Result<Subjects, String> {
        Ok(Subjects(Place::new(&self.0)))
    }
}

impl SinkFactory for OfSubjects {
    type Place = Subjects;
    fn place(&self) -> Result<Subjects, String> {
        Ok(Subjects(Place::new(&self.0)))
    }
}

/// Every rule is kept or exempted, and the report says which.
fn is_complete(report: &Report, rules: &[Rule], exempted: &[Exemption]) {
    assert_eq!(report.exempted, exempted);
    assert_eq!(report.kept.len() + exempted.len(), rules.len());
}

#[test]
fn a_stream_is_a_source() {
    match source(&OfStreams(Server::start()), JETSTREAM_SOURCE_EXEMPTIONS) {
        Ok(report) => is_complete(&report, &Rule::OF_SOURCES, JETSTREAM_SOURCE_EXEMPTIONS),
        Err(failure) => panic!("{failure}"),
    }
}

#[test]
fn a_stream_is_a_sink() {
    match sink(&OfStreams(Server::start()), JETSTREAM_SINK_EXEMPTIONS) {
        Ok(report) => is_complete(&report, &Rule::OF_SINKS, JETSTREAM_SINK_EXEMPTIONS),
        Err(failure) => panic!("{failure}"),
    }
}

#[test]
fn a_subject_is_a_source() {
    match source(&OfSubjects(Server::with("")), CORE_SOURCE_EXEMPTIONS) {
        Ok(report) => is_complete(&report, &Rule::OF_SOURCES, CORE_SOURCE_EXEMPTIONS),
        Err(failure) => panic!("{failure}"),
    }
}

#[test]
fn a_subject_is_a_sink() {
    match sink(&OfSubjects(Server::with("")), CORE_SINK_EXEMPTIONS) {
        Ok(report) => is_complete(&report, &Rule::OF_SINKS, CORE_SINK_EXEMPTIONS),
        Err(failure) => panic!("{failure}"),
    }
}
