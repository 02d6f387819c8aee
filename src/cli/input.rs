//! A file of messages that somebody wrote by hand: JSON Lines, with what is expected of each.

use std::path::Path;

use anyhow::{Context, bail};
use portcullis_connector_api::Channel;
use portcullis_connector_local::envelope::{self, Line};

/// The lines with their numbers, empty ones left out. `channel` is that of messages that name none.
///
/// # Errors
/// A line that is no message, with its place; a file without any.
pub(super) fn read(path: &Path, channel: &str) -> anyhow::Result<Vec<(u64, Line)>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read the input {}", path.display()))?;
    let channel = Channel::from(channel);
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let line = envelope::parse(line, number, &channel)
            .map_err(|error| anyhow::anyhow!("{}:{}:{}: {}", path.display(), error.line, error.column, error.what))?;
        lines.push((number, line));
    }
    if lines.is_empty() {
        bail!("the input {} holds no message", path.display());
    }
    Ok(lines)
}
