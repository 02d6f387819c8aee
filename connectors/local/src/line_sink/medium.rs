use std::fs::File;
use std::io::{self, Write};

/// What lines are written into.
pub trait Medium: Send {
    /// Writes some of the bytes and returns how many.
    ///
    /// # Errors
    /// As [`Write::write`].
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Returns when what was written is as safe as this medium makes it.
    ///
    /// # Errors
    /// When nobody can say what was stored.
    fn sync(&mut self) -> io::Result<()>;

    /// Where the next byte goes, where there is such a place.
    fn next_byte(&self) -> Option<u64> {
        None
    }
}

pub(super) struct FileMedium {
    file: File,
    next_byte: u64,
}

impl FileMedium {
    pub(super) fn new(file: File, length: u64) -> Self {
        Self { file, next_byte: length }
    }
}

impl Medium for FileMedium {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.next_byte += written as u64;
        Ok(written)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn next_byte(&self) -> Option<u64> {
        Some(self.next_byte)
    }
}

pub(super) struct StreamMedium<W>(pub(super) W);

impl<W: Write + Send> Medium for StreamMedium<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
