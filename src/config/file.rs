use std::fs::{self, File, FileType, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use crate::format_size;

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is not there, or must not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A pipe or a device never ends, or waits for somebody.
    #[error("it is {found}, and only a regular file is read")]
    NotRegular {
        /// With its article.
        found: &'static str,
    },
    /// It holds more.
    #[error("it holds more than {}", format_size(*bytes_max))]
    TooLarge {
        /// What is allowed.
        bytes_max: u64,
    },
}

impl ReadError {
    /// Whether nothing of this name is there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io(error) => error,
            other => io::Error::new(io::ErrorKind::InvalidInput, other.to_string()),
        }
    }
}

/// The bytes of a regular file, at most so many. Whoever names a file in a configuration can name a pipe or a device: neither
/// is opened, and none is waited for.
///
/// # Errors
/// When it cannot be read, is no regular file, or holds more.
pub fn read_file(path: &Path, bytes_max: u64) -> Result<Vec<u8>, ReadError> {
    // Opening alone can have an effect on a device, so that is asked first; and once more of what was opened, which may be
    // another file by then.
    require_regular(fs::metadata(path)?.file_type())?;
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    read_opened(file, bytes_max)
}

fn read_opened(file: File, bytes_max: u64) -> Result<Vec<u8>, ReadError> {
    let metadata = file.metadata()?;
    require_regular(metadata.file_type())?;
    // Files of /proc say that they hold nothing, so the length is believed only where it is too much.
    if metadata.len() > bytes_max {
        return Err(ReadError::TooLarge { bytes_max });
    }
    let mut bytes = Vec::new();
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max { Err(ReadError::TooLarge { bytes_max }) } else { Ok(bytes) }
}

/// What a path leads to where that is there and no regular file. For files that another library opens.
pub(crate) fn irregular(path: &Path) -> Option<ReadError> {
    require_regular(fs::metadata(path).ok()?.file_type()).err()
}

fn require_regular(kind: FileType) -> Result<(), ReadError> {
    let found = match kind {
        kind if kind.is_file() => return Ok(()),
        kind if kind.is_dir() => "a folder",
        kind if kind.is_fifo() => "a pipe",
        kind if kind.is_socket() => "a socket",
        kind if kind.is_char_device() || kind.is_block_device() => "a device",
        _ => "something else",
    };
    Err(ReadError::NotRegular { found })
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// What it says, or that it still waits.
    fn said(path: &Path, bytes_max: u64) -> String {
        let (sender, receiver) = mpsc::sync_channel(1);
        let path = path.to_owned();
        std::thread::spawn(move || sender.send(read_file(&path, bytes_max).map(|bytes| bytes.len())));
        match receiver.recv_timeout(Duration::from_secs(20)) {
            Ok(Ok(length)) => length.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it still waits".to_owned(),
        }
    }

    #[test]
    fn neither_a_pipe_nor_a_device_nor_what_has_no_end_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        let socket = folder.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&pipe, &link).unwrap();
        for (path, found) in [
            (pipe.as_path(), "a pipe"),
            (&link, "a pipe"),
            (&socket, "a socket"),
            (Path::new("/dev/zero"), "a device"),
            (Path::new("/dev/tty"), "a device"),
            (folder.path(), "a folder"),
        ] {
            assert_eq!(said(path, 100), format!("it is {found}, and only a regular file is read"), "{path:?}");
        }
        let opened = OpenOptions::new().read(true).write(true).open("/dev/zero").unwrap();
        assert!(read_opened(opened, 100).is_err(), "also where the file was exchanged before it was opened");
    }

    #[test]
    fn a_file_is_read_up_to_its_bound_and_not_past_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, [b'x'; 100]).unwrap();
        assert_eq!(said(&file, 100), "100");
        assert_eq!(said(&file, 99), "it holds more than 99");
        assert!(said(Path::new("/proc/self/status"), 1 << 20).parse::<usize>().unwrap() > 0);
        assert!(said(Path::new("/proc/self/status"), 10).contains("more than"));
        assert!(read_file(&folder.path().join("none"), 1).unwrap_err().is_not_found());
    }
}
