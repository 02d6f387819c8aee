//! Reads the file, gives each vector to a worker in a namespace of its own, prints the verdicts in the order of the file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder};
use std::io::{Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use std::{env, thread};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use crate::Arguments;
use crate::bridge::ends_within;
use crate::judge::Verdict;
use crate::namespace::Way;
use crate::vector::Vector;
use crate::worker::Job;

const FILE_MAX: u64 = 64 << 20;
/// What a bridge has for its start, a first compilation and its work, beside the time that the vector itself sleeps.
const LIMIT: u64 = 120;
/// What a worker has besides, to start its servers and to judge.
const BESIDE: u64 = 30;
const VERDICT_MAX: u64 = 1 << 20;

/// One line of the file.
struct Line {
    id: String,
    text: String,
    /// Seconds that its operations sleep.
    sleeps: u64,
    kind: Kind,
}

enum Kind {
    Executable,
    ByHand,
    Unreadable(String),
}

/// Runs the file; true when every vector that can be run is as it must be.
///
/// # Errors
/// When nothing can be run: no file, no bridge, no probe, no namespaces.
pub(crate) fn run(file: &Path, arguments: &Arguments) -> anyhow::Result<bool> {
    let lines = read(file, &arguments.only)?;
    let binary = present(&arguments.binary, "cargo build --workspace")?;
    let probe = present(&arguments.probe, "cargo xtask guests")?;
    let way = Way::find()?;
    let scratch = tempfile::Builder::new().prefix("portcullis-attack-").tempdir()?;
    let cache = scratch.path().join("cache");
    // Only for this user, as the bridge demands of its cache.
    DirBuilder::new().mode(0o700).create(&cache)?;
    let here = env::current_exe().context("this program's own file")?;
    let work = Work {
        way,
        here: &here,
        binary: &binary,
        probe: &probe,
        scratch: scratch.path(),
        cache: &cache,
        printed: Mutex::default(),
    };
    let cores = thread::available_parallelism().map_or(2, usize::from);
    let jobs = arguments.jobs.map_or(cores, usize::from).min(lines.len());
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some((number, line)) = take(&next, &lines) {
                    work.one(number, line);
                }
            });
        }
    });
    let printed = work.printed.into_inner().unwrap_or_else(PoisonError::into_inner);
    let (by_hand, failed) = (printed.by_hand, Vec::from_iter(printed.failed.into_values()));
    let ran = lines.len() - by_hand;
    let ok = failed.is_empty();
    let summary = json!({
        "summary": { "vectors": lines.len(), "run": ran, "passed": ran - failed.len(), "failed": failed, "by_hand": by_hand }
    });
    print(&summary);
    if arguments.keep {
        eprintln!("attack: the folders of the runs are in {}", scratch.keep().display());
    }
    Ok(ok)
}

fn take<'a>(next: &AtomicUsize, lines: &'a [Line]) -> Option<(usize, &'a Line)> {
    let number = next.fetch_add(1, Ordering::Relaxed);
    lines.get(number).map(|line| (number, line))
}

fn read(file: &Path, only: &[String]) -> anyhow::Result<Vec<Line>> {
    let length = fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?.len();
    ensure!(length <= FILE_MAX, "{} has {length} bytes; at most {FILE_MAX} are read", file.display());
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut lines: Vec<Line> = Vec::new();
    for (number, text) in text.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
        lines.push(line(number + 1, text));
    }
    let mut ids = BTreeSet::new();
    for line in &lines {
        ensure!(ids.insert(line.id.clone()), "{}: two vectors are {}", file.display(), line.id);
    }
    if let Some(unknown) = only.iter().find(|id| !ids.contains(*id)) {
        bail!("{} has no vector {unknown}", file.display());
    }
    lines.retain(|line| only.is_empty() || only.contains(&line.id));
    ensure!(!lines.is_empty(), "{} has no vectors", file.display());
    Ok(lines)
}

fn line(number: usize, text: &str) -> Line {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let id = value.get("id").and_then(Value::as_str).map_or_else(|| format!("line {number}"), str::to_owned);
    let kind = match serde_json::from_str::<Vector>(text) {
        Err(error) => Kind::Unreadable(format!("not of the format: {error}")),
        Ok(vector) if vector.run.is_none() && vector.config.is_none() => Kind::ByHand,
        Ok(_) => Kind::Executable,
    };
    let ops = value.pointer("/run/ops").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let sleeps: u64 = ops.iter().filter_map(|op| op.get("ms").and_then(Value::as_u64)).fold(0, u64::saturating_add);
    Line { id, text: text.to_owned(), sleeps: sleeps.div_ceil(1000).min(3600), kind }
}

fn present(file: &Path, command: &str) -> anyhow::Result<PathBuf> {
    fs::canonicalize(file).with_context(|| format!("{} is missing; type: {command}", file.display()))
}

struct Work<'a> {
    way: Way,
    here: &'a Path,
    binary: &'a Path,
    probe: &'a Path,
    scratch: &'a Path,
    cache: &'a Path,
    printed: Mutex<Printed>,
}

/// Verdicts that wait for one before them, and what was printed.
#[derive(Default)]
struct Printed {
    waiting: BTreeMap<usize, Value>,
    next: usize,
    by_hand: usize,
    failed: BTreeMap<usize, String>,
}

impl Work<'_> {
    fn one(&self, number: usize, line: &Line) {
        let verdict = match &line.kind {
            Kind::ByHand => None,
            Kind::Unreadable(why) => Some(Verdict::failed(&line.id, why.as_str())),
            Kind::Executable => {
                let verdict = self.attack(number, line);
                Some(verdict.unwrap_or_else(|error| Verdict::failed(&line.id, format!("{error:#}"))))
            }
        };
        let shown = match &verdict {
            Some(verdict) => json!(verdict),
            None => json!({ "id": line.id, "skipped": true, "why": "tested by hand: a test named after the vector" }),
        };
        let mut printed = self.printed.lock().unwrap_or_else(PoisonError::into_inner);
        match verdict {
            None => printed.by_hand += 1,
            Some(verdict) if !verdict.ok => drop(printed.failed.insert(number, verdict.id)),
            Some(_) => {}
        }
        printed.waiting.insert(number, shown);
        let mut next = printed.next;
        while let Some(shown) = printed.waiting.remove(&next) {
            print(&shown);
            next += 1;
        }
        printed.next = next;
    }

    fn attack(&self, number: usize, line: &Line) -> anyhow::Result<Verdict> {
        let plain: String = line.id.chars().filter(char::is_ascii_alphanumeric).take(40).collect();
        let folder = self.scratch.join(format!("{number:04}-{plain}"));
        fs::create_dir(&folder)?;
        let limit = LIMIT + line.sleeps;
        let job = Job {
            vector: line.text.clone(),
            binary: self.binary.to_owned(),
            probe: self.probe.to_owned(),
            folder,
            cache: self.cache.to_owned(),
            limit,
        };
        let mut worker = self
            .way
            .command(self.here)
            .arg("--worker")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start unshare")?;
        let outcome = converse(&mut worker, &job, Duration::from_secs(limit + BESIDE));
        if outcome.is_err() {
            // Its end of the pipe is closed too, which ends the bridge; this ends the rest.
            drop(worker.stdin.take());
            if !ends_within(&worker, Duration::from_secs(5)).unwrap_or_default() {
                drop(worker.kill());
            }
        }
        let status = worker.wait()?;
        outcome.with_context(|| format!("the worker: {status}"))
    }
}

/// Gives the job and takes the verdict.
fn converse(worker: &mut Child, job: &Job, limit: Duration) -> anyhow::Result<Verdict> {
    let mut input = worker.stdin.as_ref().context("no pipe")?;
    let mut line = serde_json::to_vec(job)?;
    line.push(b'\n');
    input.write_all(&line).context("the job was not taken")?;
    // A verdict is shorter than a pipe's buffer, so the worker ends without a reader.
    ensure!(ends_within(worker, limit)?, "it did not end in {} s", limit.as_secs());
    let mut answer = String::new();
    worker.stdout.as_mut().context("no pipe")?.take(VERDICT_MAX).read_to_string(&mut answer)?;
    serde_json::from_str(answer.trim()).context("no verdict")
}

/// A reader that left early gets no more; that is no reason to stop.
fn print(line: &Value) {
    drop(writeln!(std::io::stdout(), "{line}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_of_three_kinds_and_sleeps_prolong_the_limit() {
        let run = line(1, r#"{"id":"D10","run":{"ops":[{"op":"sleep","ms":6500},{"op":"sleep","ms":1}]}}"#);
        assert!(matches!(run.kind, Kind::Executable));
        assert_eq!((run.id.as_str(), run.sleeps), ("D10", 7));
        assert!(matches!(line(1, r#"{"id":"A25","rules":"x"}"#).kind, Kind::ByHand));
        let wrong = line(3, r#"{"id":"X","run":{"ops":[],"other":1}}"#);
        assert!(matches!(&wrong.kind, Kind::Unreadable(why) if why.contains("other")));
        assert_eq!(line(3, "not json").id, "line 3");
    }
}
