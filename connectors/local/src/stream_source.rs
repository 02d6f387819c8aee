use std::collections::VecDeque;
use std::io::{self, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use portcullis_connector_api::conformance::{Exemption, Rule};
use portcullis_connector_api::{
    AckMode, Acknowledgement, AssignmentId, Batch, Budget, Channel, ConnectorError, ErrorKind, Event, Record, Source,
};

use crate::Format;
use crate::line_reader::{LineReader, RawLine};

/// What the suite does not ask of a stream.
pub const STREAM_SOURCE_EXEMPTIONS: &[Exemption] = &[
    Exemption { rule: Rule::RevocationHoldsBack, reason: "a stream is assigned once and never taken away" },
    Exemption { rule: Rule::UnacknowledgedComesAgain, reason: "what was read from a stream is gone: at most once" },
    Exemption { rule: Rule::AcknowledgedStays, reason: "a stream cannot be opened again" },
    Exemption { rule: Rule::LateAcknowledgementIsHarmless, reason: "a stream has no acknowledgements" },
];

const ASSIGNMENT: AssignmentId = AssignmentId(0);

/// How a stream is read, and how much of it is read ahead.
#[derive(Clone, Debug)]
pub struct StreamSourceSettings {
    /// What a line is.
    pub format: Format,
    /// The channel of messages that name none.
    pub channel: Channel,
    /// A longer line is delivered with a defect and only this much of it.
    pub max_line_bytes: usize,
    /// Lines that are read ahead, at most.
    pub ahead_lines: usize,
    /// Bytes that are read ahead; the line that passes the bound is still read.
    pub ahead_bytes: usize,
}

impl Default for StreamSourceSettings {
    fn default() -> Self {
        Self {
            format: Format::JsonLines,
            channel: Channel::from("stdin"),
            max_line_bytes: 16 * 1024 * 1024,
            ahead_lines: 1024,
            ahead_bytes: 1024 * 1024,
        }
    }
}

/// Reads the lines of a stream and finishes at its end. A thread of its own reads ahead, because a read cannot be
/// interrupted and a poll must return in time. Nothing can be read twice, so it is at most once; the offset of a record is
/// the number of its line.
pub struct StreamSource {
    settings: StreamSourceSettings,
    ahead: Arc<Ahead>,
    assigned: bool,
    paused: bool,
    finished: bool,
}

/// What was read ahead.
struct Ahead {
    state: Mutex<State>,
    /// Either side waits here for the other.
    moved: Condvar,
    max_lines: usize,
    max_bytes: usize,
}

#[derive(Default)]
struct State {
    lines: VecDeque<OwnedLine>,
    bytes: usize,
    end: Option<io::Result<()>>,
    closed: bool,
}

struct OwnedLine {
    bytes: Vec<u8>,
    number: u64,
    cut_from_bytes: Option<u64>,
}

impl StreamSource {
    /// Reads standard input.
    ///
    /// # Errors
    /// `Fatal` when the thread cannot be started.
    pub fn stdin(settings: StreamSourceSettings) -> Result<Self, ConnectorError> {
        Self::new(io::stdin(), settings)
    }

    /// Reads anything.
    ///
    /// # Errors
    /// `Fatal` when the thread cannot be started.
    pub fn new(reader: impl Read + Send + 'static, settings: StreamSourceSettings) -> Result<Self, ConnectorError> {
        let ahead = Arc::new(Ahead {
            state: Mutex::default(),
            moved: Condvar::new(),
            max_lines: settings.ahead_lines.max(1),
            max_bytes: settings.ahead_bytes.max(1),
        });
        let max_line_bytes = settings.max_line_bytes;
        let theirs = Arc::clone(&ahead);
        // Not joined: a read that never returns would keep the process from ending.
        let started = thread::Builder::new().name("stream-source".to_owned()).spawn(move || {
            let mut lines = LineReader::new(BufReader::new(reader), max_line_bytes, 0, 0);
            let end = loop {
                match lines.next_line() {
                    Ok(Some(line)) if theirs.push(&line) => {}
                    Ok(_) => break Ok(()),
                    Err(error) => break Err(error),
                }
            };
            theirs.end(end);
        });
        started.map_err(|error| {
            ConnectorError::new(ErrorKind::Fatal, "cannot start the thread of a stream").caused_by(error)
        })?;
        Ok(Self { settings, ahead, assigned: false, paused: false, finished: false })
    }
}

impl Source for StreamSource {
    fn ack_mode(&self) -> AckMode {
        AckMode::None
    }

    fn poll(&mut self, budget: Budget, wait: Duration, batch: &mut Batch) -> Result<(), ConnectorError> {
        if !std::mem::replace(&mut self.assigned, true) {
            let channel = self.settings.channel.clone();
            batch.events.push(Event::Assigned { id: ASSIGNMENT, channel, partition: 0 });
        }
        if self.paused || self.finished || budget.messages == 0 || budget.bytes == 0 {
            return Ok(());
        }
        let mut state = self.ahead.wait_for_line(wait);
        let (mut messages, mut bytes) = (0, 0);
        while messages < budget.messages && bytes < budget.bytes {
            let Some(line) = state.lines.pop_front() else {
                break;
            };
            state.bytes -= line.bytes.len();
            let raw =
                RawLine { bytes: &line.bytes, start: 0, number: line.number, cut_from_bytes: line.cut_from_bytes };
            let Some((message, defect)) = self.settings.format.read(&raw, &self.settings.channel) else {
                continue;
            };
            messages += 1;
            bytes += message.size_bytes();
            let offset = i64::try_from(line.number).unwrap_or(i64::MAX);
            let defect = defect.map(Box::new);
            batch.records.push(Record { message, assignment: ASSIGNMENT, offset, redelivered: 0, defect });
        }
        self.ahead.moved.notify_all();
        let end = if state.lines.is_empty() { state.end.take() } else { None };
        match end {
            None => Ok(()),
            Some(end) => {
                self.finished = true;
                batch.events.extend(end.is_ok().then_some(Event::Finished));
                end.map_err(|error| {
                    ConnectorError::new(ErrorKind::Fatal, "cannot read the input stream").caused_by(error)
                })
            }
        }
    }

    fn acknowledge(&mut self, _: &[Acknowledgement], _: bool) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn pause(&mut self, assignments: &[AssignmentId]) -> Result<(), ConnectorError> {
        self.paused |= assignments.contains(&ASSIGNMENT);
        Ok(())
    }

    fn resume(&mut self, assignments: &[AssignmentId]) -> Result<(), ConnectorError> {
        self.paused &= !assignments.contains(&ASSIGNMENT);
        Ok(())
    }

    fn release(&mut self, _: &[AssignmentId]) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn close(self: Box<Self>, _: Duration) -> Result<(), ConnectorError> {
        Ok(())
    }
}

impl Drop for StreamSource {
    fn drop(&mut self) {
        self.ahead.lock().closed = true;
        self.ahead.moved.notify_all();
    }
}

impl Ahead {
    /// For the reading thread: false when nobody wants more.
    fn push(&self, line: &RawLine<'_>) -> bool {
        let full =
            |state: &mut State| !state.closed && (state.lines.len() >= self.max_lines || state.bytes >= self.max_bytes);
        let mut state = self.moved.wait_while(self.lock(), full).unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return false;
        }
        let RawLine { bytes, number, cut_from_bytes, .. } = *line;
        state.bytes += bytes.len();
        state.lines.push_back(OwnedLine { bytes: bytes.to_vec(), number, cut_from_bytes });
        self.moved.notify_all();
        true
    }

    fn end(&self, end: io::Result<()>) {
        self.lock().end = Some(end);
        self.moved.notify_all();
    }

    fn wait_for_line(&self, wait: Duration) -> MutexGuard<'_, State> {
        let nothing = |state: &mut State| state.lines.is_empty() && state.end.is_none();
        self.moved.wait_timeout_while(self.lock(), wait, nothing).unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::io::pipe;

    use super::*;

    const ALL: Budget = Budget { messages: 100, bytes: 1 << 20 };
    const WAIT: Duration = Duration::from_secs(10);

    fn lines() -> StreamSourceSettings {
        StreamSourceSettings { format: Format::Lines, ..StreamSourceSettings::default() }
    }

    fn read_all(source: &mut StreamSource) -> Vec<String> {
        let mut values = Vec::new();
        let mut batch = Batch::default();
        while !batch.events.iter().any(|event| matches!(event, Event::Finished)) {
            batch.clear();
            source.poll(ALL, WAIT, &mut batch).unwrap();
            values.extend(
                batch
                    .records
                    .iter()
                    .map(|record| String::from_utf8(record.message.value.clone().unwrap().to_vec()).unwrap()),
            );
        }
        values
    }

    #[test]
    fn a_poll_returns_in_time_while_the_stream_says_nothing() {
        let (reader, mut writer) = pipe().unwrap();
        let mut source = StreamSource::new(reader, lines()).unwrap();
        let mut batch = Batch::default();
        source.poll(ALL, Duration::from_millis(20), &mut batch).unwrap();
        assert!(batch.records.is_empty());
        assert!(matches!(batch.events[..], [Event::Assigned { .. }]));
        writer.write_all(b"one\ntwo").unwrap();
        drop(writer);
        assert_eq!(read_all(&mut source), ["one", "two"]);
    }

    #[test]
    fn what_is_read_ahead_is_bounded_and_nothing_of_the_rest_is_lost() {
        let text: String = (0..1000).map(|number| format!("{number}\n")).collect();
        let settings = StreamSourceSettings { ahead_lines: 7, ..lines() };
        let mut source = StreamSource::new(io::Cursor::new(text.into_bytes()), settings).unwrap();
        drop(source.ahead.wait_for_line(WAIT));
        assert!(source.ahead.lock().lines.len() <= 7);
        assert_eq!(read_all(&mut source), (0..1000).map(|number| number.to_string()).collect::<Vec<_>>());
    }

    #[test]
    fn a_read_that_fails_is_reported_after_what_was_read_before_it() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
        let mut source = StreamSource::new(io::Cursor::new(b"one\n").chain(Broken), lines()).unwrap();
        let mut records = 0;
        let error = loop {
            let mut batch = Batch::default();
            let polled = source.poll(ALL, WAIT, &mut batch);
            records += batch.records.len();
            assert!(batch.events.iter().all(|event| !matches!(event, Event::Finished)));
            if let Err(error) = polled {
                break error;
            }
        };
        assert_eq!((records, error.kind), (1, ErrorKind::Fatal));
    }
}
