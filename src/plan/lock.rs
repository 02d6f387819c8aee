//! `portcullis.lock`: what was linked, so that what runs later is that and nothing else. One file a folder, for the pipelines
//! whose files lie there. `portcullis link` writes it; where it lies beside a pipeline, whatever differs is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use portcullis_config::{Code, Diagnostic, Diagnostics, Location, Pipeline, read_file};
use serde::{Deserialize, Serialize};

use super::locked::{LockedPipeline, LockedPlugin};

/// The name of the file.
pub const LOCK_FILE: &str = "portcullis.lock";
/// The form that this program writes and reads.
const VERSION: u32 = 1;
/// The largest lock, in bytes: a hundred pipelines of ten plugins have a tenth of it.
const MAX_BYTES: u64 = 8 << 20;

/// What is done with a lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LockUse {
    /// Where there is one, what differs is refused.
    #[default]
    Compare,
    /// The same, and a pipeline without one is refused too.
    Require,
    /// What the operator typed may differ, the bytes of a component may not: it is about to be written anew, or a run at a desk
    /// has another surrounding.
    Bytes,
    /// It is about to be written anew, whatever it holds.
    Ignore,
}

/// A lock as it is in its file.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lock {
    lock: u32,
    /// By the name of the pipeline.
    pipelines: BTreeMap<String, LockedPipeline>,
}

impl Default for Lock {
    fn default() -> Self {
        Self { lock: VERSION, pipelines: BTreeMap::new() }
    }
}

/// The locks of the folders that the pipelines of a process lie in.
pub(crate) struct Locks {
    used: LockUse,
    by_folder: BTreeMap<PathBuf, Lock>,
}

impl Locks {
    /// Reads the locks beside these pipelines.
    pub(crate) fn read<'p>(
        pipelines: impl IntoIterator<Item = &'p Pipeline>,
        used: LockUse,
        wrong: &mut Diagnostics,
    ) -> Self {
        let mut by_folder = BTreeMap::new();
        for folder in pipelines.into_iter().map(|pipeline| folder(&pipeline.file)).collect::<BTreeSet<_>>() {
            match read(&folder) {
                Ok(Some(lock)) => drop(by_folder.insert(folder, lock)),
                Ok(None) if used == LockUse::Require => wrong.push(missing(&folder)),
                Ok(None) => {}
                Err(_) if used == LockUse::Ignore => {}
                Err(diagnostic) => wrong.push(diagnostic),
            }
        }
        Self { used, by_folder }
    }

    /// What was locked of a plugin.
    pub(crate) fn plugin(&self, pipeline: &Pipeline, plugin: &str) -> Option<&LockedPlugin> {
        let locked = self.by_folder.get(&folder(&pipeline.file))?.pipelines.get(pipeline.name.as_str())?;
        locked.plugins.iter().find(|locked| locked.name == plugin)
    }

    /// Why bytes of this digest are not those that were locked; none where they are, or where the operator has typed their
    /// digest, which is as plain a word as a new lock.
    pub(crate) fn refuses_digest(
        &self,
        pipeline: &Pipeline,
        plugin: &portcullis_config::Plugin,
        digest: &str,
    ) -> Option<String> {
        let locked = self.plugin(pipeline, plugin.name.as_str()).filter(|locked| locked.digest != digest)?;
        let pinned = plugin.digest.as_ref().is_some_and(|pinned| pinned.value == digest);
        match self.used {
            LockUse::Ignore => None,
            LockUse::Bytes if pinned => None,
            LockUse::Bytes | LockUse::Compare | LockUse::Require => {
                Some(format!("the digest was {}, now it is {digest}", locked.digest))
            }
        }
    }

    /// What differs between the locks and what is there now.
    pub(crate) fn drift(&self, pipeline: &Pipeline, found: &LockedPipeline) -> Vec<Drift> {
        let compared = matches!(self.used, LockUse::Compare | LockUse::Require);
        let Some(lock) = self.by_folder.get(&folder(&pipeline.file)).filter(|_| compared) else { return Vec::new() };
        match lock.pipelines.get(pipeline.name.as_str()) {
            Some(locked) => locked.drift(found),
            None => {
                vec![Drift { plugin: None, what: "pipeline".to_owned(), text: "the pipeline is not in it".to_owned() }]
            }
        }
    }
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Drift {
    /// The plugin, where it is one's.
    pub(crate) plugin: Option<String>,
    /// The key: `digest`, `grants.clock`, `budgets.memory`.
    pub(crate) what: String,
    /// Both sides in words.
    pub(crate) text: String,
}

/// Writes the locks of these pipelines, each beside its files, and tells which files changed. What a lock holds of other files
/// that are still there is kept.
///
/// # Errors
/// A lock that cannot be written.
pub(crate) fn write(pipelines: &[(PathBuf, String, LockedPipeline)]) -> std::io::Result<Vec<(PathBuf, bool)>> {
    let folders: BTreeSet<PathBuf> = pipelines.iter().map(|(file, ..)| folder(file)).collect();
    let mut written = Vec::new();
    for of in folders {
        let mut lock = read(&of).ok().flatten().unwrap_or_default();
        let here: Vec<_> = pipelines.iter().filter(|(file, ..)| folder(file) == of).collect();
        let linked: BTreeSet<&str> = here.iter().map(|(.., locked)| locked.file.as_str()).collect();
        lock.pipelines.retain(|_, old| !linked.contains(old.file.as_str()) && of.join(&old.file).is_file());
        for (_, name, locked) in here {
            lock.pipelines.insert(name.clone(), locked.clone());
        }
        let path = of.join(LOCK_FILE);
        let mut text = serde_json::to_string_pretty(&lock)?;
        text.push('\n');
        let unchanged = read_file(&path, MAX_BYTES).is_ok_and(|old| old == text.as_bytes());
        if !unchanged {
            replace(&path, text.as_bytes())?;
        }
        written.push((path, !unchanged));
    }
    Ok(written)
}

/// Whoever reads it meanwhile reads the old one or the new one.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let partial = path.with_extension("lock.partial");
    let mut file = fs::File::create(&partial)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&partial, path)
}

/// The folder of a pipeline's file; `.` where it was named without one.
pub(crate) fn folder(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn read(folder: &Path) -> Result<Option<Lock>, Diagnostic> {
    let path = folder.join(LOCK_FILE);
    let wrong = |message: String| {
        let diagnostic = Location::of_file(&path).diagnostic(Code::Other("lock.invalid"), message);
        diagnostic.help("`portcullis link --update` writes it anew")
    };
    let bytes = match read_file(&path, MAX_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(wrong(format!("the lock cannot be read: {error}"))),
    };
    let lock: Lock = serde_json::from_slice(&bytes).map_err(|error| wrong(format!("this is no lock: {error}")))?;
    if lock.lock == VERSION {
        return Ok(Some(lock));
    }
    Err(wrong(format!("the lock has form {}, this program knows {VERSION}", lock.lock)))
}

fn missing(folder: &Path) -> Diagnostic {
    let message = format!("there is no {LOCK_FILE}, and `--locked` requires one");
    let at = Location::of_file(&folder.join(LOCK_FILE));
    at.diagnostic(Code::Other("lock.missing"), message).help("`portcullis link FILE` writes it")
}

#[cfg(test)]
mod tests;
