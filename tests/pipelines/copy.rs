//! A copy of pipelines/ to run in: what runs write stays out of the repository.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::kafka::Kafka;
use crate::support::process::{Finished, Process, portcullis};
use crate::support::{guests, python, root};

pub(super) const LIMIT: Duration = Duration::from_secs(120);
/// Those of the plugins of a pipeline are more than that.
const MIN_AUDIT_EVENTS: usize = 2;

/// The pipelines and the plugins beside them, as in the repository, with the variables of a run.
pub(super) struct Copy {
    folder: TempDir,
    variables: Vec<(&'static str, String)>,
}

impl Copy {
    pub(super) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        copy(&root().join("pipelines"), &folder.path().join("pipelines"));
        std::os::unix::fs::symlink(guests(), folder.path().join("plugins")).unwrap();
        let brokers = ("KAFKA_BROKERS", Kafka::shared().brokers().to_owned());
        Self { folder, variables: vec![brokers] }
    }

    pub(super) fn with(mut self, variable: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((variable, value.into()));
        self
    }

    /// Lets plugins reach this machine, where servers of the test stand in for somebody's API.
    pub(super) fn with_loopback(self) -> Self {
        self.with("PORTCULLIS_EGRESS__CONSENT", "[\"127.0.0.1/32\"]")
    }

    /// A file of the copy, by its name in pipelines/.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("pipelines").join(name)
    }

    /// A command about a file or folder of pipelines/, to its end.
    pub(super) fn ended(&self, command: &str, name: &str, more: &[&str]) -> Finished {
        Process::start(self.command(command, name).args(more)).finish(LIMIT)
    }

    fn command(&self, command: &str, name: &str) -> Command {
        let mut portcullis = portcullis(self.folder.path());
        portcullis.arg(command).arg(format!("pipelines/{name}"));
        portcullis.args(["--admin", "127.0.0.1:0", "--audit-file", "audit.jsonl"]);
        portcullis.envs(self.variables.iter().map(|(name, value)| (*name, value)));
        portcullis
    }

    /// Checks, plans and links it, then runs what was linked and nothing else.
    pub(super) fn run(&self, name: &str) -> Process {
        for command in ["check", "plan", "link"] {
            let ended = self.ended(command, name, &[]);
            assert_eq!(ended.code(), 0, "{command} {name}: {ended:?}");
        }
        Process::start(self.command("run", name).arg("--locked"))
    }

    /// Ends a run in order. Its log and its audit, for what must not stand there.
    pub(super) fn end(&self, bridge: Process) -> String {
        bridge.signal("TERM");
        let ended = bridge.finish(LIMIT);
        assert_eq!(ended.code(), 0, "{ended:?}");
        let audit = fs::read_to_string(self.folder.path().join("audit.jsonl")).unwrap();
        assert!(audit.lines().count() >= MIN_AUDIT_EVENTS, "{audit}");
        format!("{}{}{audit}", ended.stdout, ended.stderr)
    }

    /// Sends the messages of an input file to the topics that they name; they are returned.
    pub(super) fn send(&self, input: &str) -> Vec<Value> {
        let path = self.path(input);
        let file = path.to_str().unwrap();
        let sent = python::client("send.py", &["--brokers", Kafka::shared().brokers(), "--file", file], LIMIT);
        assert_eq!(sent.code(), 0, "{sent:?}");
        let text = fs::read_to_string(&path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).unwrap();
        }
    }
}

/// Topics with their partitions.
pub(super) fn topics(names: &[&str], partitions: i32) {
    for name in names {
        Kafka::shared().create_topic(name, partitions, &[]);
    }
}

/// A record as kafka-python has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) partition: i64,
    pub(super) timestamp_ms: i64,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) headers: Vec<(String, Option<Vec<u8>>)>,
}

/// All records of a topic, which are so many.
pub(super) fn records(topic: &str, count: usize) -> Vec<Record> {
    let records: Vec<Record> =
        python::read(Kafka::shared().brokers(), topic, count, LIMIT).iter().map(Record::of).collect();
    assert_eq!(records.len(), count, "{topic}: {records:#?}");
    records
}

impl Record {
    fn of(line: &Value) -> Self {
        let header = |header: &Value| (header[0].as_str().unwrap().to_owned(), bytes(&header[1]));
        Self {
            partition: line["partition"].as_i64().unwrap(),
            timestamp_ms: line["timestamp_ms"].as_i64().unwrap(),
            key: bytes(&line["key_b64"]),
            value: bytes(&line["value_b64"]),
            headers: line["headers"].as_array().unwrap().iter().map(header).collect(),
        }
    }

    /// The last header of a name, as text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().rfind(|(own, _)| own == name)?;
        value.as_deref().map(|value| std::str::from_utf8(value).unwrap())
    }

    /// A header of a dead letter: `reason`, `code`, `attempts` and so on.
    pub(super) fn error(&self, name: &str) -> &str {
        let full = format!("__portcullis.errors.{name}");
        self.header(&full).unwrap_or_else(|| panic!("no {full} in {self:#?}"))
    }

    pub(super) fn key_text(&self) -> &str {
        std::str::from_utf8(self.key.as_deref().unwrap()).unwrap()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(self.value.as_deref().unwrap()).unwrap()
    }
}

/// Base64, or null.
pub(super) fn bytes(text: &Value) -> Option<Vec<u8>> {
    text.as_str().map(|text| STANDARD.decode(text).unwrap())
}

/// Key or value of a line of an input file.
pub(super) fn part(line: &Value, name: &str) -> Option<Vec<u8>> {
    bytes(&line[format!("{name}_b64")]).or_else(|| line[name].as_str().map(|text| text.as_bytes().to_vec()))
}

/// The lines that are expected to pass.
pub(super) fn passing(sent: &[Value]) -> Vec<&Value> {
    sent.iter().filter(|line| line["expect"]["outcome"] == "pass").collect()
}

/// Every other line is a dead letter as it came, with the reason that the input expects; in any order.
pub(super) fn assert_dead_letters(topic: &str, sent: &[Value]) -> Vec<Record> {
    let expected: Vec<&Value> = sent.iter().filter(|line| line["expect"]["outcome"] != "pass").collect();
    let letters = records(topic, expected.len());
    for line in expected {
        let (key, value) = (part(line, "key"), part(line, "value"));
        let letter = letters.iter().find(|letter| letter.key == key && letter.value == value);
        let letter = letter.unwrap_or_else(|| panic!("no dead letter of {line} among {letters:#?}"));
        let name = if line["expect"]["outcome"] == "reject" { "code" } else { "reason" };
        assert_eq!(letter.error(name), line["expect"]["reason"], "{letter:#?}");
        assert_eq!(letter.error("topic"), line["channel"], "{letter:#?}");
    }
    letters
}
