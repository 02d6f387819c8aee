//! The bridge as a process with some pipelines, and what it says of itself.

use std::fs;
use std::path::Path;

use super::LIMIT;
use crate::nats::ask;
use crate::support::process::{Process, portcullis};

pub(super) struct Bridge {
    pub(super) process: Process,
    /// `host:port` of its admin listener.
    admin: String,
}

impl Bridge {
    /// Runs the pipelines, each in a file of its own.
    pub(super) fn start(folder: &Path, pipelines: &[String]) -> Self {
        let files: Vec<String> = (0..pipelines.len()).map(|number| format!("p{number}.yaml")).collect();
        for (file, pipeline) in files.iter().zip(pipelines) {
            fs::write(folder.join(file), pipeline).unwrap();
        }
        let more = ["--admin", "127.0.0.1:0", "--audit-file", "audit.jsonl"];
        let mut process = Process::start(portcullis(folder).arg("run").args(&files).args(more));
        let line = process.wait_for_line("admin=", LIMIT);
        let admin = line.split("admin=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
        Self { process, admin }
    }

    /// Sources of core NATS are ready when the server has their subscriptions.
    pub(super) fn wait_until_ready(&mut self) {
        let admin = &self.admin;
        self.process.wait_until("it is ready", LIMIT, || ask(admin, "/ready").starts_with("HTTP/1.1 200"));
    }

    pub(super) fn wait_until(&mut self, what: &str, mut condition: impl FnMut(&Events<'_>) -> bool) {
        let events = Events { admin: &self.admin };
        self.process.wait_until(what, LIMIT, || condition(&events));
    }

    pub(super) fn events(&self) -> Events<'_> {
        Events { admin: &self.admin }
    }

    /// Ends it in order.
    pub(super) fn end(self) {
        self.process.signal("TERM");
        self.finish();
    }

    /// Waits for an end that comes by itself.
    pub(super) fn finish(self) {
        let ended = self.process.finish(LIMIT);
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
    }
}

pub(super) struct Events<'a> {
    admin: &'a str,
}

impl Events<'_> {
    /// The sum of a series over everything whose labels contain `labels`.
    pub(super) fn sum(&self, series: &str, labels: &str) -> u64 {
        let text = ask(self.admin, "/metrics");
        let lines = text.lines().filter(|line| line.starts_with(series) && line.contains(labels));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }
}
