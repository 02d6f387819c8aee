//! Files that a pipeline reads while it writes them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file, however its path is written.
#[derive(Clone, Debug)]
pub(super) struct File {
    path: PathBuf,
    /// Device and inode, where it exists: a link to it is no other file.
    inode: Option<(u64, u64)>,
}

impl File {
    pub(super) fn of(path: &Path) -> Self {
        let metadata = fs::metadata(path).ok();
        Self { path: canonical(path), inode: metadata.map(|found| (found.dev(), found.ino())) }
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        self.path == other.path || self.inode.is_some() && self.inode == other.inode
    }
}

/// A file that is to be made has no canonical path, but its folder has.
fn canonical(path: &Path) -> PathBuf {
    let absolute = || std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    fs::canonicalize(path).unwrap_or_else(|_| match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) => {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            fs::canonicalize(folder).map_or_else(|_| absolute(), |folder| folder.join(name))
        }
        _ => absolute(),
    })
}
