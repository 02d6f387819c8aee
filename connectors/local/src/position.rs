use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use portcullis_connector_api::{ConnectorError, ErrorKind};

/// So much of the file's beginning tells it from another that has taken its name.
const HEAD_BYTES: u64 = 1024;

/// How far a file has been acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    /// Where the first line begins that is not done.
    pub(crate) next_byte: u64,
    /// Lines before it.
    pub(crate) lines: u64,
}

/// The file that remembers a [`Position`] from one run to the next. Replaced as a whole by a rename, so that a crash leaves
/// the old one or the new one.
pub(crate) struct PositionFile {
    path: PathBuf,
    stored: Position,
    /// Whether what was stored last outlives a power failure.
    settled: bool,
    head: Option<Head>,
}

/// A sum over the beginning of the file that is read.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Head {
    bytes: u64,
    sum: u64,
}

impl PositionFile {
    /// Reads what an earlier run has left. A file that is shorter than the position or begins in another way is not the one
    /// that was read: it is read from its beginning, which can repeat messages and lose none.
    pub(crate) fn open(path: PathBuf, file: &mut File) -> Result<(Self, Position), ConnectorError> {
        let text = match fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(cannot("read", &path).caused_by(error)),
        };
        let remembered = match text.as_deref().map(parse) {
            None => None,
            Some(Some(remembered)) => Some(remembered),
            Some(None) => {
                let what = "is not a position file; allowed is one that this program has written, or none";
                return Err(ConnectorError::new(ErrorKind::Configuration, format!("{} {what}", path.display())));
            }
        };
        let mut position = Position::default();
        if let Some((stored, head)) = remembered {
            let length = file.metadata().map_err(|error| cannot("read", &path).caused_by(error))?.len();
            let same = length >= stored.next_byte
                && head_of(file, head.bytes).map_err(|error| cannot("read", &path).caused_by(error))? == head;
            if same {
                position = stored;
            }
        }
        Ok((Self { path, stored: position, settled: true, head: None }, position))
    }

    /// Remembers a position. `durable` outlives a power failure, otherwise it outlives this process.
    pub(crate) fn store(&mut self, position: Position, file: &mut File, durable: bool) -> io::Result<()> {
        if position == self.stored && (self.settled || !durable) {
            return Ok(());
        }
        let head_bytes = position.next_byte.min(HEAD_BYTES);
        let head = match self.head {
            Some(head) if head.bytes == head_bytes => head,
            _ => head_of(file, head_bytes)?,
        };
        self.head = Some(head);
        let mut temporary = OsString::from(&self.path);
        temporary.push(".new");
        let mut new = File::create(&temporary)?;
        let Position { next_byte, lines } = position;
        writeln!(new, "portcullis-position 1 {next_byte} {lines} {} {:016x}", head.bytes, head.sum)?;
        if durable {
            new.sync_all()?;
        }
        fs::rename(&temporary, &self.path)?;
        if durable {
            sync_folder_of(&self.path)?;
        }
        self.stored = position;
        self.settled = durable;
        Ok(())
    }
}

/// Makes a new name in a folder outlive a power failure.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn parse(text: &str) -> Option<(Position, Head)> {
    let mut words = text.strip_suffix('\n')?.split(' ');
    if (words.next()?, words.next()?) != ("portcullis-position", "1") {
        return None;
    }
    let mut number = || words.next()?.parse().ok();
    let (next_byte, lines, bytes) = (number()?, number()?, number()?);
    let sum = u64::from_str_radix(words.next()?, 16).ok()?;
    words.next().is_none().then_some((Position { next_byte, lines }, Head { bytes, sum }))
}

/// FNV-1a: no secret is kept by it, two different files are told apart. Leaves the file's own position where it was.
fn head_of(file: &mut File, bytes: u64) -> io::Result<Head> {
    let before = file.stream_position()?;
    file.seek(SeekFrom::Start(0))?;
    let mut head = Vec::new();
    let read = Read::by_ref(file).take(bytes.min(HEAD_BYTES)).read_to_end(&mut head);
    file.seek(SeekFrom::Start(before))?;
    read?;
    let sum = head
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum: u64, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    Ok(Head { bytes: head.len() as u64, sum })
}

fn cannot(what: &str, path: &Path) -> ConnectorError {
    ConnectorError::new(ErrorKind::Configuration, format!("cannot {what} {}", path.display()))
}
