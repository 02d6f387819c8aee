use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use portcullis_connector_api::conformance::{Exemption, Rule};
use portcullis_connector_api::{
    AckMode, Acknowledgement, AssignmentId, Batch, Budget, Channel, ConnectorError, ErrorKind, Event, Record, Source,
};

use crate::Format;
use crate::line_reader::LineReader;
use crate::position::{Position, PositionFile};

/// What the suite does not ask of a file of JSON lines.
pub const FILE_SOURCE_EXEMPTIONS: &[Exemption] =
    &[Exemption { rule: Rule::RevocationHoldsBack, reason: "a file is assigned once and never taken away" }];

/// What the suite does not ask of a file of raw lines.
pub const LINES_SOURCE_EXEMPTIONS: &[Exemption] = &[
    Exemption { rule: Rule::RevocationHoldsBack, reason: "a file is assigned once and never taken away" },
    Exemption { rule: Rule::BytesKept, reason: "a raw line holds a value without newlines and nothing else" },
    Exemption { rule: Rule::NullIsNotEmpty, reason: "a raw line cannot say null" },
];

const ASSIGNMENT: AssignmentId = AssignmentId(0);
const READ_BYTES: usize = 64 * 1024;

/// A file that is read once from its beginning to its end.
#[derive(Clone, Debug)]
pub struct FileSourceSettings {
    /// A regular file: a pipe would block the thread that must keep the pipeline alive.
    pub path: PathBuf,
    /// What a line is.
    pub format: Format,
    /// The channel of messages that name none.
    pub channel: Channel,
    /// Where the position is kept.
    pub remember: Remember,
    /// A longer line is delivered with a defect and only this much of it.
    pub max_line_bytes: usize,
}

impl FileSourceSettings {
    /// This file as JSON lines; its name is the channel.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let channel = path.file_name().unwrap_or_default().to_string_lossy().into_owned().into();
        let remember = Remember::Beside;
        Self { path, format: Format::JsonLines, channel, remember, max_line_bytes: 16 * 1024 * 1024 }
    }
}

/// Where a file source keeps its position. Without one a restart delivers everything again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Remember {
    /// In `<path>.portcullis-offset`.
    #[default]
    Beside,
    /// In this file.
    In(PathBuf),
    /// Nowhere.
    Not,
}

/// Reads the lines of a file and finishes at its end. The offset of a record is the byte where its line begins, and the
/// position file holds where the first unfinished line begins. Two sources of one file need two position files.
pub struct FileSource {
    settings: FileSourceSettings,
    reader: LineReader<BufReader<File>>,
    /// A second handle for the position file's check sum: the reader's own must not move.
    file: File,
    remembered: Option<PositionFile>,
    position: Position,
    /// Where each line began that was delivered and is not acknowledged; the pipeline's window bounds it.
    open: VecDeque<Position>,
    assigned: bool,
    paused: bool,
    finished: bool,
}

impl FileSource {
    /// Opens the file and goes to the remembered position.
    ///
    /// # Errors
    /// `Configuration` when it is not there, cannot be read or is not a regular file, or its position file is not one.
    pub fn open(settings: FileSourceSettings) -> Result<Self, ConnectorError> {
        let path = &settings.path;
        let failed = |error: std::io::Error| {
            ConnectorError::new(ErrorKind::Configuration, format!("cannot read {}", path.display())).caused_by(error)
        };
        let kind = std::fs::metadata(path).map_err(failed)?.file_type();
        if !kind.is_file() {
            let what = format!("{} is not a regular file; a stream can be read by `stdio`", path.display());
            return Err(ConnectorError::new(ErrorKind::Configuration, what));
        }
        let mut file = File::open(path).map_err(failed)?;
        let beside = match &settings.remember {
            Remember::Beside => Some(beside(path)),
            Remember::In(path) => Some(path.clone()),
            Remember::Not => None,
        };
        let (remembered, position) = match beside {
            Some(beside) => PositionFile::open(beside, &mut file).map(|(file, position)| (Some(file), position))?,
            None => (None, Position::default()),
        };
        let mut lines = File::open(path).map_err(failed)?;
        lines.seek(SeekFrom::Start(position.next_byte)).map_err(failed)?;
        let lines = BufReader::with_capacity(READ_BYTES, lines);
        let reader = LineReader::new(lines, settings.max_line_bytes, position.next_byte, position.lines);
        let open = VecDeque::new();
        let (assigned, paused, finished) = (false, false, false);
        Ok(Self { settings, reader, file, remembered, position, open, assigned, paused, finished })
    }

    /// The first line that is not done: where the oldest unacknowledged one begins, or where the next would.
    fn first_open(&self) -> Position {
        let (next_byte, lines) = self.reader.place();
        self.open.front().copied().unwrap_or(Position { next_byte, lines })
    }

    fn store(&mut self, durable: bool) -> Result<(), ConnectorError> {
        let Some(remembered) = &mut self.remembered else {
            return Ok(());
        };
        remembered.store(self.position, &mut self.file, durable).map_err(|error| {
            let what = format!("cannot store the position of {}", self.settings.path.display());
            // A full disk may pass; until then the messages would come again, which at least once allows.
            ConnectorError::new(ErrorKind::Retriable, what).caused_by(error)
        })
    }
}

impl Source for FileSource {
    fn ack_mode(&self) -> AckMode {
        AckMode::Cumulative
    }

    fn poll(&mut self, budget: Budget, _wait: Duration, batch: &mut Batch) -> Result<(), ConnectorError> {
        if !std::mem::replace(&mut self.assigned, true) {
            let channel = self.settings.channel.clone();
            batch.events.push(Event::Assigned { id: ASSIGNMENT, channel, partition: 0 });
        }
        if self.paused || self.finished {
            return Ok(());
        }
        let (mut messages, mut bytes) = (0, 0);
        while messages < budget.messages && bytes < budget.bytes {
            let raw = self.reader.next_line().map_err(|error| {
                let what = format!("cannot read {}", self.settings.path.display());
                ConnectorError::new(ErrorKind::Fatal, what).caused_by(error)
            })?;
            let Some(raw) = raw else {
                self.finished = true;
                batch.events.push(Event::Finished);
                break;
            };
            let begin = Position { next_byte: raw.start, lines: raw.number.saturating_sub(1) };
            let Some((message, defect)) = self.settings.format.read(&raw, &self.settings.channel) else {
                // A long run of blank lines must not keep the caller from its other duties.
                bytes += raw.bytes.len() + 1;
                continue;
            };
            messages += 1;
            bytes += message.size_bytes();
            self.open.push_back(begin);
            batch.records.push(Record {
                message,
                assignment: ASSIGNMENT,
                offset: i64::try_from(begin.next_byte).unwrap_or(i64::MAX),
                redelivered: 0,
                defect: defect.map(Box::new),
            });
        }
        Ok(())
    }

    fn acknowledge(&mut self, done: &[Acknowledgement], durable: bool) -> Result<(), ConnectorError> {
        let ours = done.iter().filter(|entry| entry.assignment == ASSIGNMENT);
        let Some(offset) = ours.map(|entry| u64::try_from(entry.offset).unwrap_or(0)).max() else {
            return Ok(());
        };
        while self.open.pop_front_if(|begin| begin.next_byte < offset).is_some() {}
        self.position = self.first_open();
        self.store(durable)
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

    fn close(mut self: Box<Self>, _deadline: Duration) -> Result<(), ConnectorError> {
        self.store(true)
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".portcullis-offset");
    name.into()
}

#[cfg(test)]
mod tests;
