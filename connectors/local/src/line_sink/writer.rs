use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use portcullis_connector_api::{Confirm, ConnectorError, ErrorKind, Fate, Receipt};

use super::medium::Medium;
use super::queue::{Lines, Queue};

/// How often a full disk is tried again.
const TROUBLE_WAIT: Duration = Duration::from_millis(200);

pub(super) fn start(
    name: String,
    medium: Box<dyn Medium>,
    torn: bool,
    queue: Arc<Queue>,
    confirm: Arc<dyn Confirm>,
) -> Result<(), ConnectorError> {
    let writer = Writer { name, medium, torn, queue, confirm };
    let started = thread::Builder::new().name("line-sink".to_owned()).spawn(move || writer.run());
    started
        .map(drop)
        .map_err(|error| ConnectorError::new(ErrorKind::Fatal, "cannot start the thread of a sink").caused_by(error))
}

struct Writer {
    name: String,
    medium: Box<dyn Medium>,
    /// The medium ends in the middle of a line.
    torn: bool,
    queue: Arc<Queue>,
    confirm: Arc<dyn Confirm>,
}

impl Writer {
    fn run(mut self) {
        let mut lines = Lines::default();
        let mut failure: Option<String> = None;
        while self.queue.take(&mut lines) {
            if failure.is_none()
                && let Err(error) = self.store(&lines)
            {
                let what = format!("cannot write {}: {error}", self.name);
                self.queue.fail(&what);
                failure = Some(what);
            }
            if let Some(failure) = &failure {
                for (token, _) in &lines.ends {
                    let error = ConnectorError::new(ErrorKind::Fatal, failure.as_str());
                    self.confirm.confirm(*token, Fate::Failed(error));
                }
            }
            self.queue.confirmed(lines.ends.len() as u64);
        }
        drop(self.medium);
        self.queue.end();
    }

    /// Writes all lines, makes them safe and confirms them.
    fn store(&mut self, lines: &Lines) -> io::Result<()> {
        if self.torn {
            self.write(b"\n")?;
            self.torn = false;
        }
        let begin = self.medium.next_byte();
        self.write(&lines.bytes)?;
        // Not tried again when it fails: the kernel may have thrown the pages away, and a second call would say that all is
        // well.
        self.medium.sync()?;
        let mut line = 0;
        for (token, end) in &lines.ends {
            self.confirm.confirm(*token, Fate::Stored(receipt(begin, line)));
            line = *end;
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut left = bytes;
        let mut in_trouble = false;
        while !left.is_empty() {
            match self.medium.write(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                // A part may be written: going on behind it keeps the line whole.
                Ok(written) => left = left.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if passes(error.kind()) => {
                    in_trouble = true;
                    if !self.queue.wait_in_trouble(error.to_string(), TROUBLE_WAIT) {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        if in_trouble {
            self.queue.works_again();
        }
        Ok(())
    }
}

fn passes(kind: io::ErrorKind) -> bool {
    use io::ErrorKind as K;
    matches!(kind, K::StorageFull | K::QuotaExceeded | K::WouldBlock | K::TimedOut)
}

fn receipt(begin: Option<u64>, line: usize) -> Receipt {
    let offset = begin.and_then(|begin| i64::try_from(begin + line as u64).ok());
    Receipt { partition: None, offset }
}
