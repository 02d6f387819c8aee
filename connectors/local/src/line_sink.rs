use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use portcullis_connector_api::conformance::{Exemption, Rule};
use portcullis_connector_api::{
    Confirm, ConnectorError, ErrorKind, Message, Refusal, RefusalKind, SendError, Sink, Token,
};

use crate::Format;
use crate::position::sync_folder_of;

mod medium;
mod queue;
mod writer;

pub use medium::Medium;
use medium::{FileMedium, StreamMedium};
use queue::Queue;

/// The suite asks everything of a file of JSON lines.
pub const FILE_SINK_EXEMPTIONS: &[Exemption] = &[];

/// What the suite does not ask of a file of raw lines.
pub const LINES_SINK_EXEMPTIONS: &[Exemption] = &[
    Exemption { rule: Rule::BytesKept, reason: "a raw line holds a value without newlines and nothing else" },
    Exemption { rule: Rule::NullIsNotEmpty, reason: "a raw line cannot say null: such a message is refused" },
];

/// How a sink of lines writes, and how much it takes before it says that it is full.
#[derive(Clone, Debug)]
pub struct LineSinkSettings {
    /// What a line is.
    pub format: Format,
    /// A longer line, with its newline, is refused as oversize.
    pub max_line_bytes: usize,
    /// Messages that were handed over and are not confirmed, at most.
    pub queue_messages: u64,
    /// Bytes of lines that wait to be written; the one that passes the bound is still taken.
    pub queue_bytes: usize,
}

impl Default for LineSinkSettings {
    fn default() -> Self {
        Self {
            format: Format::JsonLines,
            max_line_bytes: 32 * 1024 * 1024,
            queue_messages: 10_000,
            queue_bytes: 16 * 1024 * 1024,
        }
    }
}

/// Appends each message as a line. A thread of its own takes all that waits, writes it at once and confirms it together;
/// into a file it confirms after `fdatasync`, so that what was confirmed outlives a power failure; into a stream it
/// confirms when the kernel has taken it.
///
/// A full disk is waited for: the sink is not ready and fills up, and goes on by itself. Dropping the sink writes what it
/// still holds, for at most five seconds.
pub struct LineSink {
    settings: LineSinkSettings,
    queue: Arc<Queue>,
    name: String,
}

impl LineSink {
    /// Appends to a file, which is created where it is missing. The file is locked against a second writer.
    ///
    /// # Errors
    /// `Configuration` when it cannot be written, or another sink holds it.
    pub fn file(path: &Path, settings: LineSinkSettings, confirm: Arc<dyn Confirm>) -> Result<Self, ConnectorError> {
        let name = path.display().to_string();
        let configuration = |what: String| ConnectorError::new(ErrorKind::Configuration, what);
        let failed = |error: io::Error| configuration(format!("cannot write {name}")).caused_by(error);
        let is_new = !path.exists();
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(configuration(format!("{name} is being written by another sink")));
            }
            // Some network file systems have no locks. The operator who chose one keeps the second writer away.
            Err(std::fs::TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(std::fs::TryLockError::Error(error)) => return Err(failed(error)),
        }
        if is_new {
            sync_folder_of(path).map_err(failed)?;
        }
        let length = file.metadata().map_err(failed)?.len();
        let torn = ends_torn(&mut file, length).map_err(failed)?;
        let medium = FileMedium::new(file, length);
        Self::start(name, Box::new(medium), torn, settings, confirm)
    }

    /// Writes to standard output.
    ///
    /// # Errors
    /// `Configuration` when it is closed, `Fatal` when the thread cannot be started.
    pub fn stdout(settings: LineSinkSettings, confirm: Arc<dyn Confirm>) -> Result<Self, ConnectorError> {
        // A handle of its own and not `io::stdout()`, which keeps the end of what was written in a buffer: an error would
        // come back for bytes that were reported as written.
        let handle = io::stdout().as_fd().try_clone_to_owned().map_err(|error| {
            ConnectorError::new(ErrorKind::Configuration, "cannot write standard output").caused_by(error)
        })?;
        let medium = StreamMedium(File::from(handle));
        Self::start("standard output".to_owned(), Box::new(medium), false, settings, confirm)
    }

    /// Writes to anything else.
    ///
    /// # Errors
    /// `Fatal` when the thread cannot be started.
    pub fn to(
        name: impl Into<String>,
        medium: Box<dyn Medium>,
        settings: LineSinkSettings,
        confirm: Arc<dyn Confirm>,
    ) -> Result<Self, ConnectorError> {
        Self::start(name.into(), medium, false, settings, confirm)
    }

    fn start(
        name: String,
        medium: Box<dyn Medium>,
        torn: bool,
        settings: LineSinkSettings,
        confirm: Arc<dyn Confirm>,
    ) -> Result<Self, ConnectorError> {
        let queue = Arc::new(Queue::new(settings.queue_messages, settings.queue_bytes));
        writer::start(name.clone(), medium, torn, Arc::clone(&queue), confirm)?;
        Ok(Self { settings, queue, name })
    }
}

impl Sink for LineSink {
    fn send(&self, message: &Message, token: Token) -> Result<(), SendError> {
        // Asked before the line is made: a caller that tries again and again shall not pay for it each time.
        self.queue.has_room()?;
        let mut line = Vec::with_capacity(message.size_bytes() + 64);
        self.settings.format.write(message, &mut line).map_err(SendError::Refused)?;
        if line.len() > self.settings.max_line_bytes {
            let (found, allowed) = (line.len(), self.settings.max_line_bytes);
            let detail = format!("the line is {found} bytes long; at most {allowed} are allowed");
            return Err(SendError::Refused(Refusal { kind: RefusalKind::Oversize, detail }));
        }
        self.queue.push(&line, token)
    }

    fn wait_for_room(&self, wait: Duration) {
        self.queue.wait_for_room(wait);
    }

    fn unconfirmed(&self) -> u64 {
        self.queue.unconfirmed()
    }

    fn not_ready(&self) -> Option<String> {
        self.queue.trouble().map(|trouble| format!("cannot write {}: {trouble}", self.name))
    }

    fn drain(&self, wait: Duration) -> u64 {
        self.queue.drain(wait)
    }

    fn check(&self, _wait: Duration) -> Result<(), ConnectorError> {
        // Opening it was the check.
        self.queue.failure().map_or(Ok(()), Err)
    }
}

impl Drop for LineSink {
    fn drop(&mut self) {
        self.queue.close(Duration::from_secs(5));
    }
}

/// Whether the last line lacks its newline. A crash tears at most what was never confirmed; the rest of such a line stays
/// where it is, since it may as well be somebody else's, and the next message begins on a line of its own.
fn ends_torn(file: &mut File, length: u64) -> io::Result<bool> {
    if length == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != [b'\n'])
}

#[cfg(test)]
mod tests;
