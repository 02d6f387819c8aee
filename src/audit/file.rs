use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::store::{AuditRecord, Store, StoreError};

/// Events as JSON lines in a local file. A record is confirmed when the file was synchronised with the disk; all records
/// that wait are synchronised at once. Headers are not kept: the event holds everything that they say.
#[derive(Debug)]
pub struct FileStore {
    file: File,
    /// Bytes of whole lines that are in the file.
    whole_bytes: u64,
    /// Lines that are not in the file yet.
    waiting: Vec<u8>,
    /// Whether a write failed half-way and what it left is still there.
    torn: bool,
    /// Sequence of the last line in `waiting`.
    last: u64,
    /// Sequence of the last line on the disk.
    durable: u64,
}

/// Why an audit file cannot be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FileStoreError {
    /// The file system refused.
    #[error("audit file {path} cannot be opened: {source}")]
    Open {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process writes to it: two chains would be woven into one file.
    #[error("audit file {path} is in use by another process")]
    InUse {
        /// Which file.
        path: PathBuf,
    },
}

impl FileStore {
    /// Opens the file, or makes it, and appends to it. What a crash left behind the last whole line was never confirmed and
    /// is cut off.
    ///
    /// # Errors
    /// When the file cannot be opened, or another process writes to it.
    pub fn open(path: &Path) -> Result<Self, FileStoreError> {
        let failed = |source| FileStoreError::Open { path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o640);
        let mut file = options.open(path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(FileStoreError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let whole_bytes = whole_lines(&mut file).map_err(failed)?;
        let mut store = Self { file, whole_bytes, torn: true, waiting: Vec::new(), last: 0, durable: 0 };
        store.cut_torn().map_err(failed)?;
        Ok(store)
    }

    fn write_waiting(&mut self) -> io::Result<()> {
        self.cut_torn()?;
        self.torn = true;
        self.file.write_all(&self.waiting)?;
        self.file.sync_data()?;
        self.torn = false;
        Ok(())
    }

    /// A full disk takes half a line, and so does a crash; the writer appends the whole of it again.
    fn cut_torn(&mut self) -> io::Result<()> {
        if self.torn && self.file.metadata()?.len() > self.whole_bytes {
            self.file.set_len(self.whole_bytes)?;
        }
        self.torn = false;
        Ok(())
    }
}

impl Store for FileStore {
    fn append(&mut self, record: &AuditRecord) -> Result<(), StoreError> {
        self.waiting.extend_from_slice(&record.value);
        self.waiting.push(b'\n');
        self.last = record.sequence;
        Ok(())
    }

    fn confirmed(&mut self, _wait: Duration) -> Result<u64, StoreError> {
        if !self.waiting.is_empty() {
            let written = self.write_waiting();
            let bytes = u64::try_from(self.waiting.len()).unwrap_or(u64::MAX);
            self.waiting.clear();
            written?;
            self.whole_bytes += bytes;
            self.durable = self.last;
        }
        Ok(self.durable)
    }
}

/// Length of the file up to and with its last line end.
fn whole_lines(file: &mut File) -> io::Result<u64> {
    const STEP: u64 = 64 * 1024;
    let mut end = file.seek(SeekFrom::End(0))?;
    while end > 0 {
        let start = end.saturating_sub(STEP);
        file.seek(SeekFrom::Start(start))?;
        let mut piece = Vec::new();
        Read::by_ref(file).take(end - start).read_to_end(&mut piece)?;
        if let Some(position) = piece.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + u64::try_from(position).unwrap_or_default() + 1);
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn record(sequence: u64, value: &str) -> AuditRecord {
        AuditRecord { sequence, key: "chain".into(), value: value.into(), headers: Vec::new() }
    }

    #[test]
    fn nothing_is_confirmed_before_it_is_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let mut store = FileStore::open(&path).unwrap();
        assert_eq!(store.confirmed(Duration::ZERO).unwrap(), 0);
        store.append(&record(1, "{}")).unwrap();
        store.append(&record(2, "[]")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
        assert_eq!(store.confirmed(Duration::ZERO).unwrap(), 2);
        assert_eq!(fs::read_to_string(&path).unwrap(), "{}\n[]\n");
    }

    #[test]
    fn half_a_line_of_a_crash_is_cut_off_and_whole_lines_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let long = "x".repeat(200_000);
        for (before, kept) in
            [("", ""), ("{\"a\":", ""), ("{}\n{\"a\"", "{}\n"), ("{}\n", "{}\n"), (&format!("{{}}\n{long}"), "{}\n")]
        {
            fs::write(&path, before).unwrap();
            let mut store = FileStore::open(&path).unwrap();
            store.append(&record(1, "[1]")).unwrap();
            store.confirmed(Duration::ZERO).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), format!("{kept}[1]\n"));
        }
    }

    #[test]
    fn a_file_that_somebody_writes_to_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let first = FileStore::open(&path).unwrap();
        assert!(matches!(FileStore::open(&path), Err(FileStoreError::InUse { .. })));
        drop(first);
        FileStore::open(&path).unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_confirms_nothing_and_says_so() {
        // A file that takes no byte, as a full disk does.
        let file = OpenOptions::new().append(true).open("/dev/full").unwrap();
        let mut store = FileStore { file, whole_bytes: 0, torn: false, waiting: Vec::new(), last: 0, durable: 0 };
        store.append(&record(1, "{}")).unwrap();
        assert!(matches!(store.confirmed(Duration::ZERO), Err(StoreError::Io(_))));
        assert_eq!(store.confirmed(Duration::ZERO).unwrap(), 0);
    }
}
