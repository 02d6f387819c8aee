//! This machine: versions, clock, cache folder, audit file.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::time::SystemTime;

use portcullis_config::{Node, ProcessEnvironment, format_size};
use rustix::fs::{Access, access, statvfs};

use super::finding::Report;
use crate::plan;
use crate::plugin::{CONTRACT_VERSION, try_cache};

/// A component of a megabyte compiles to a few.
const LEAST_FREE_BYTES: u64 = 16 << 20;
const FEW_FREE_BYTES: u64 = 256 << 20;

pub(super) fn versions(report: &mut Report) {
    let wasmtime = env!("WASMTIME_VERSION");
    #[cfg_attr(not(feature = "kafka"), expect(unused_mut))]
    let mut found = format!("wasmtime {wasmtime}, plugin contract {CONTRACT_VERSION}");
    #[cfg(feature = "kafka")]
    found.push_str(&format!(", librdkafka {}", portcullis_connector_kafka::inspect::librdkafka_version()));
    report.ok("version", format!("portcullis {}", env!("CARGO_PKG_VERSION")), found);
}

/// Kafka tells nobody its time, so the only bound that always holds is this program's own file.
pub(super) fn clock(report: &mut Report) {
    let what = "clock";
    let written = std::env::current_exe().and_then(fs::metadata).and_then(|file| file.modified());
    let now = SystemTime::now();
    match written.map(|written| written.duration_since(now)) {
        Ok(Err(_)) => {
            let found = "is past the time at which this program's file was written; Kafka does not tell its own, so none was compared with it";
            report.ok("clock", what, found);
        }
        Ok(Ok(behind)) if behind.is_zero() => report.ok("clock", what, "is at the time of this program's file"),
        Ok(Ok(behind)) => {
            let found = format!("is {} s before the time at which this program's file was written", behind.as_secs());
            report.fail("clock", what, found, "set it by NTP");
        }
        Err(error) => report.skip("clock", what, format!("this program's file cannot be looked at: {error}")),
    }
}

/// What opening the cache does at every start, and the room that it has.
pub(super) fn cache(node: &Node, no_cache: bool, report: &mut Report) {
    if no_cache || !node.cache.enabled.value {
        return report.ok("cache", "cache", "is switched off: components are compiled at each start");
    }
    let Some(folder) = plan::cache_folder(node, &ProcessEnvironment) else {
        let found = "there is no folder for it: components are compiled at each start";
        return report.warn("cache", "cache", found, "set `cache: { dir: ... }` in the node's file, or `HOME`");
    };
    let what = format!("cache {}", folder.display());
    if let Err(error) = try_cache(&folder) {
        let found = format!("is not used: {error}");
        let advice =
            "give it to this user alone (`chmod 700`, `chown`), or set `cache: { dir: ... }` to a folder that is";
        return report.fail("cache", what, found, advice);
    }
    match statvfs(&folder) {
        Ok(found) => {
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            // In whole MiB: nobody reads the rest.
            let said = format!("belongs to this user alone and can be written; {} free", format_size(free >> 20 << 20));
            if free < LEAST_FREE_BYTES {
                report.fail("cache", what, said, "free some room: what is compiled cannot be kept");
            } else if free < FEW_FREE_BYTES {
                report.warn("cache", what, said, "free some room: large components compile to many megabytes");
            } else {
                report.ok("cache", what, said);
            }
        }
        Err(error) => {
            let said = format!("belongs to this user alone and can be written; its free room is not known: {error}");
            report.warn("cache", what, said, "look at the file system");
        }
    }
}

/// Opened as at a start where it is there; nothing is written.
pub(super) fn audit_file(path: &Path, report: &mut Report) {
    let what = format!("audit file {}", path.display());
    let advice = "let this user write it, or name another: `audit: { file: ... }`";
    if path.exists() {
        return match OpenOptions::new().append(true).open(path) {
            Ok(_) => report.ok("audit.file", what, "is there and can be written"),
            Err(error) => report.fail("audit.file", what, format!("cannot be written: {error}"), advice),
        };
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match access(folder, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => report.ok("audit.file", what, "is not there; its folder can be written"),
        Err(error) => {
            report.fail("audit.file", what, format!("cannot be made in {}: {error}", folder.display()), advice);
        }
    }
}
