//! Each connector of this crate against the suite of the contract, and the suite against connectors that break one rule.
#![allow(clippy::unwrap_used, clippy::panic, reason = "in a test, helpers included, a panic is the report")]

mod broken;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use portcullis_connector_api::conformance::{
    Exemption, Report, Rule, SinkFactory, SinkPlace, SourceFactory, SourcePlace, sink, source,
};
use portcullis_connector_api::{AckMode, Channel, Confirm, Message, Sink, Source, Template};
use portcullis_connector_local::{
    FILE_SINK_EXEMPTIONS, FILE_SOURCE_EXEMPTIONS, FileSource, FileSourceSettings, Format, GENERATOR_EXEMPTIONS,
    GeneratedValue, Generator, GeneratorSettings, LINES_SINK_EXEMPTIONS, LINES_SOURCE_EXEMPTIONS, LineSink,
    LineSinkSettings, MEMORY_SINK_EXEMPTIONS, MEMORY_SOURCE_EXEMPTIONS, MemoryBroker, MemorySinkSettings,
    MemorySourceSettings, Pattern, STREAM_SOURCE_EXEMPTIONS, StreamSource, StreamSourceSettings, envelope,
};
use tempfile::TempDir;

/// Every rule is either kept or exempted, and the report says which.
fn is_complete(report: &Report, rules: &[Rule], exemptions: &[Exemption]) {
    assert_eq!(report.exempted, exemptions);
    assert_eq!(report.kept.len() + report.exempted.len(), rules.len());
}

fn check_source<F: SourceFactory>(factory: &F, exemptions: &[Exemption]) {
    match source(factory, exemptions) {
        Ok(report) => is_complete(&report, &Rule::OF_SOURCES, exemptions),
        Err(failure) => panic!("{failure}"),
    }
}

fn check_sink<F: SinkFactory>(factory: &F, exemptions: &[Exemption]) {
    match sink(factory, exemptions) {
        Ok(report) => is_complete(&report, &Rule::OF_SINKS, exemptions),
        Err(failure) => panic!("{failure}"),
    }
}

fn lines(format: Format, messages: &[Message]) -> Vec<u8> {
    let mut text = Vec::new();
    for message in messages {
        match format {
            Format::JsonLines => envelope::print(message, &mut text),
            Format::Lines => text.extend_from_slice(message.value.as_deref().unwrap_or_default()),
        }
        text.push(b'\n');
    }
    text
}

struct Files(Format);

struct File {
    folder: TempDir,
    format: Format,
}

impl File {
    fn path(&self) -> PathBuf {
        self.folder.path().join("messages")
    }
}

impl SourceFactory for Files {
    type Place = File;

    fn place(&self) -> Result<File, String> {
        let file = File { folder: tempfile::tempdir().unwrap(), format: self.0 };
        fs::write(file.path(), "").unwrap();
        Ok(file)
    }
}

impl SourcePlace for File {
    fn feed(&mut self, messages: &[Message]) -> Result<(), String> {
        fs::write(self.path(), lines(self.format, messages)).map_err(|error| error.to_string())
    }

    fn open(&mut self) -> Result<Box<dyn Source>, String> {
        let settings = FileSourceSettings { format: self.format, ..FileSourceSettings::new(self.path()) };
        Ok(Box::new(FileSource::open(settings).map_err(|error| error.to_string())?))
    }

    fn ends(&self) -> bool {
        true
    }
}

#[test]
fn a_file_of_json_lines_is_a_source() {
    check_source(&Files(Format::JsonLines), FILE_SOURCE_EXEMPTIONS);
}

#[test]
fn a_file_of_raw_lines_is_a_source() {
    check_source(&Files(Format::Lines), LINES_SOURCE_EXEMPTIONS);
}

struct FileSinks(Format);

impl SinkFactory for FileSinks {
    type Place = File;

    fn place(&self) -> Result<File, String> {
        Ok(File { folder: tempfile::tempdir().unwrap(), format: self.0 })
    }
}

impl SinkPlace for File {
    fn open(&mut self, confirm: Arc<dyn Confirm>) -> Result<Box<dyn Sink>, String> {
        let settings = LineSinkSettings {
            format: self.format,
            queue_messages: 1000,
            max_line_bytes: 1024 * 1024,
            ..LineSinkSettings::default()
        };
        Ok(Box::new(LineSink::file(&self.path(), settings, confirm).map_err(|error| error.to_string())?))
    }

    fn read(&mut self) -> Result<Vec<Message>, String> {
        let text = fs::read(self.path()).map_err(|error| error.to_string())?;
        let whole = text.strip_suffix(b"\n").ok_or("the last line has no newline")?;
        let channel = Channel::from("read");
        let read = |(number, line): (usize, &[u8])| match self.format {
            Format::JsonLines => envelope::parse(line, number as u64 + 1, &channel).map(|line| line.message),
            Format::Lines => Ok(Message { value: Some(line.to_vec().into()), ..Message::new(channel.clone()) }),
        };
        whole.split(|byte| *byte == b'\n').enumerate().map(read).collect::<Result<_, _>>().map_err(|e| e.to_string())
    }

    fn unacceptable(&self) -> Option<Message> {
        Some(Message { value: Some(vec![b'x'; 1024 * 1024].into()), ..Message::new("large") })
    }

    fn burst(&self) -> usize {
        5000
    }
}

#[test]
fn a_file_of_json_lines_is_a_sink() {
    check_sink(&FileSinks(Format::JsonLines), FILE_SINK_EXEMPTIONS);
}

#[test]
fn a_file_of_raw_lines_is_a_sink() {
    check_sink(&FileSinks(Format::Lines), LINES_SINK_EXEMPTIONS);
}

struct Streams;

#[derive(Default)]
struct Stream(Vec<u8>);

impl SourceFactory for Streams {
    type Place = Stream;

    fn place(&self) -> Result<Stream, String> {
        Ok(Stream::default())
    }
}

impl SourcePlace for Stream {
    fn feed(&mut self, messages: &[Message]) -> Result<(), String> {
        self.0.extend(lines(Format::JsonLines, messages));
        Ok(())
    }

    fn open(&mut self) -> Result<Box<dyn Source>, String> {
        let reader = std::io::Cursor::new(std::mem::take(&mut self.0));
        let settings = StreamSourceSettings { ahead_lines: 10, ..StreamSourceSettings::default() };
        Ok(Box::new(StreamSource::new(reader, settings).map_err(|error| error.to_string())?))
    }

    fn ends(&self) -> bool {
        true
    }
}

#[test]
fn a_stream_is_a_source() {
    check_source(&Streams, STREAM_SOURCE_EXEMPTIONS);
}

struct Generators;

struct Generated(GeneratorSettings);

impl SourceFactory for Generators {
    type Place = Generated;

    fn place(&self) -> Result<Generated, String> {
        let value = GeneratedValue::Pattern(Pattern::parse("order-{{seq}}").unwrap());
        Ok(Generated(GeneratorSettings { count: Some(0), value, ..GeneratorSettings::default() }))
    }
}

impl SourcePlace for Generated {
    fn feed(&mut self, messages: &[Message]) -> Result<(), String> {
        self.0.count = Some(messages.len() as u64);
        Ok(())
    }

    fn open(&mut self) -> Result<Box<dyn Source>, String> {
        Ok(Box::new(Generator::new(self.0.clone()).map_err(|error| error.to_string())?))
    }

    fn ends(&self) -> bool {
        true
    }

    fn expected(&self, fed: &[Message]) -> Vec<Message> {
        (0..fed.len() as u64).map(|number| Generator::message(&self.0, number)).collect()
    }
}

#[test]
fn a_generator_is_a_source() {
    check_source(&Generators, GENERATOR_EXEMPTIONS);
}

struct Brokers {
    ack_mode: AckMode,
    ends: bool,
}

struct Broker {
    broker: Arc<MemoryBroker>,
    ack_mode: AckMode,
    ends: bool,
}

impl SourceFactory for Brokers {
    type Place = Broker;

    fn place(&self) -> Result<Broker, String> {
        let broker = MemoryBroker::new();
        broker.create("in", 1);
        Ok(Broker { broker, ack_mode: self.ack_mode, ends: self.ends })
    }
}

impl SourcePlace for Broker {
    fn feed(&mut self, messages: &[Message]) -> Result<(), String> {
        self.broker.publish("in", messages.iter().cloned()).map_err(|error| error.to_string())?;
        if self.ends {
            self.broker.end("in");
        }
        Ok(())
    }

    fn open(&mut self) -> Result<Box<dyn Source>, String> {
        let settings = MemorySourceSettings { ack_mode: self.ack_mode, ..MemorySourceSettings::new("in", "group") };
        Ok(Box::new(self.broker.source(settings)))
    }

    fn ends(&self) -> bool {
        self.ends
    }

    fn revoke(&mut self) -> Result<bool, String> {
        Ok(self.broker.revoke("group", "in", 0, false))
    }
}

#[test]
fn the_memory_broker_is_a_source_with_either_kind_of_acknowledgement() {
    for ack_mode in [AckMode::Cumulative, AckMode::Each] {
        check_source(&Brokers { ack_mode, ends: false }, MEMORY_SOURCE_EXEMPTIONS);
    }
}

struct BrokerSinks;

impl SinkFactory for BrokerSinks {
    type Place = Broker;

    fn place(&self) -> Result<Broker, String> {
        let broker = MemoryBroker::new();
        broker.create("out", 3);
        Ok(Broker { broker, ack_mode: AckMode::Cumulative, ends: false })
    }
}

impl SinkPlace for Broker {
    fn open(&mut self, confirm: Arc<dyn Confirm>) -> Result<Box<dyn Sink>, String> {
        let settings = MemorySinkSettings::new(Template::parse("out", &[]).unwrap());
        let settings = MemorySinkSettings { queue_messages: 50, ..settings };
        Ok(Box::new(self.broker.sink(settings, confirm).map_err(|error| error.to_string())?))
    }

    fn read(&mut self) -> Result<Vec<Message>, String> {
        Ok(self.broker.stored("out"))
    }

    fn unacceptable(&self) -> Option<Message> {
        Some(Message { value: Some(vec![b'x'; 1024 * 1024 + 1].into()), ..Message::new("large") })
    }

    fn hold(&mut self) -> Result<bool, String> {
        self.broker.go_away("out");
        Ok(true)
    }

    fn let_through(&mut self) -> Result<(), String> {
        self.broker.come_back("out");
        Ok(())
    }

    fn burst(&self) -> usize {
        5000
    }
}

#[test]
fn the_memory_broker_is_a_sink() {
    check_sink(&BrokerSinks, MEMORY_SINK_EXEMPTIONS);
}
