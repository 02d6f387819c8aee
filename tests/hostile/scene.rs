//! One process with the plugins of two tenants: what is hostile, and a neighbour who must not notice.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::support::guests;
use crate::support::process::{Finished, Process, portcullis};

/// The neighbour's messages: half a second of them.
const MESSAGES: usize = 100;
const RATE: &str = "200/s";
/// In time: from the first to the last of them, four times what they take alone, because other tests run beside this one. A
/// neighbour that has to wait for an attacker's calls, or whose messages wait for the end of one, takes longer than that. How
/// much later each message is beside an attacker is measured by `cargo xtask bench neighbour`, not here.
const IN_TIME: Duration = Duration::from_secs(2);
/// Until the first of them: the process starts, and compiles what it runs.
const STARTED: Duration = Duration::from_secs(10);
/// The longest that a process may take.
const LIMIT: Duration = Duration::from_secs(40);

/// What runs together. The neighbour is always there.
pub(super) struct Scene {
    folder: TempDir,
    node: Value,
    pipelines: Vec<String>,
    environment: Vec<(String, String)>,
}

/// A process that runs.
pub(super) struct Running {
    pub(super) process: Process,
    folder: TempDir,
    begun: Instant,
}

/// A process that has ended.
pub(super) struct Ran {
    pub(super) finished: Finished,
    pub(super) folder: TempDir,
    pub(super) events: Vec<Value>,
}

/// A message of the dead letter queue.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Letter {
    pub(super) value: String,
    /// `rejected`, or the kind of the fault.
    pub(super) reason: String,
    /// The plugin's own code where it rejected.
    pub(super) code: String,
    pub(super) detail: String,
}

/// A plugin entry: `more` has any of its keys beside name and component.
pub(super) fn plugin(guest: &str, more: Value) -> Value {
    let component = guests().join(format!("{guest}.wasm"));
    let mut plugin = json!({ "name": guest, "component": component });
    merge(&mut plugin, more);
    plugin
}

/// A source of messages at a rate, whose values are their numbers from 0.
pub(super) fn counted(count: usize, rate: &str, key: &str) -> Value {
    json!({ "generator": { "count": count, "rate": rate, "key": key, "value": "{{seq}}" } })
}

/// Puts the members of `more` into `value`, objects into objects.
fn merge(value: &mut Value, more: Value) {
    match (value, more) {
        (Value::Object(value), Value::Object(more)) => {
            for (name, member) in more {
                merge(value.entry(name).or_insert(Value::Null), member);
            }
        }
        (value, more) => *value = more,
    }
}

impl Scene {
    pub(super) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let scene = Self {
            node: json!({
                "admin": { "listen": "127.0.0.1:0" },
                "audit": { "file": "audit.jsonl" },
                "egress": { "consent": ["127.0.0.0/8"] },
                "tenants": { "a": {}, "b": {} },
                "pipelines_may_name": { "files": [guests().join("**"), folder.path().join("**")] },
            }),
            pipelines: Vec::new(),
            environment: Vec::new(),
            folder,
        };
        let source = counted(MESSAGES, RATE, "k");
        scene.pipeline_from("neighbour", "b", source, json!({}), plugin("touch-edit", json!({ "name": "neighbour" })))
    }

    /// Changes the node's file.
    pub(super) fn node(mut self, more: Value) -> Self {
        merge(&mut self.node, more);
        self
    }

    /// A variable of the process.
    pub(super) fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// The pipeline `bad` of tenant `a` with one lane and these messages, each with a key of its own.
    pub(super) fn bad(self, plugin: Value, messages: &[&str]) -> Self {
        self.pipeline_of("bad", "a", json!({ "lanes": 1 }), plugin, messages)
    }

    /// A pipeline over a file of messages; `more` has its other keys.
    pub(super) fn pipeline_of(self, name: &str, tenant: &str, more: Value, plugin: Value, messages: &[&str]) -> Self {
        let lines = messages
            .iter()
            .enumerate()
            .map(|(number, value)| json!({ "key": number.to_string(), "value": value }).to_string() + "\n");
        fs::write(self.file(&format!("{name}-in.jsonl")), lines.collect::<String>()).unwrap();
        let source = json!({ "file": { "path": format!("{name}-in.jsonl"), "format": "jsonl" } });
        self.pipeline_from(name, tenant, source, more, plugin)
    }

    /// A pipeline over any source; `more` has its other keys.
    pub(super) fn pipeline_from(mut self, name: &str, tenant: &str, source: Value, more: Value, plugin: Value) -> Self {
        let file = |end: &str| json!({ "file": { "path": format!("{name}-{end}.jsonl"), "format": "jsonl" } });
        let mut pipeline = json!({
            "pipeline": name, "tenant": tenant, "source": source, "plugins": [plugin], "sink": file("out"),
            "dead_letter": file("dead"),
        });
        merge(&mut pipeline, more);
        fs::write(self.file(&format!("{name}.yaml")), pipeline.to_string()).unwrap();
        self.pipelines.push(format!("{name}.yaml"));
        self
    }

    /// A file beside the pipelines.
    pub(super) fn write(self, name: &str, text: &str) -> Self {
        fs::write(self.file(name), text).unwrap();
        self
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn start(self) -> Running {
        fs::write(self.file("portcullis.yaml"), self.node.to_string()).unwrap();
        let mut command = portcullis(self.folder.path());
        command.arg("run").args(&self.pipelines).env("NO_COLOR", "1").envs(self.environment);
        let begun = Instant::now();
        Running { process: Process::start(&mut command), folder: self.folder, begun }
    }

    /// Runs it to its end, which must be a good one, and the neighbour must not have noticed.
    pub(super) fn run(self) -> Ran {
        let mut running = self.start();
        running.neighbour();
        let ran = running.end();
        assert_eq!(ran.finished.code(), 0, "{:?}", ran.finished);
        ran
    }

    /// Tries to run it. It must be refused, and nothing of it may have run.
    pub(super) fn refused(self) -> Ran {
        let ran = self.start().end();
        assert_eq!(ran.finished.code(), 2, "{:?}", ran.finished);
        assert!(ran.finished.stderr.contains("nothing was started"), "{}", ran.finished.stderr);
        assert!(ran.out("neighbour").is_empty() && ran.out("bad").is_empty(), "something has run");
        ran
    }
}

impl Running {
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// What `/ready` says.
    pub(super) fn ready(&mut self) -> String {
        let address = self.admin();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(b"GET /ready HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The most memory that the process has had, in bytes.
    pub(super) fn peak_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    /// The slices of the processor, in milliseconds, of its threads whose names begin so; none where the system does not tell.
    pub(super) fn slices_ms(&self, name: &str) -> Vec<f64> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process.pid())).unwrap();
        let is_named =
            |task: &std::path::PathBuf| fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.starts_with(name));
        let slice = |task: std::path::PathBuf| {
            let text = fs::read_to_string(task.join("sched")).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix("se.slice"))?;
            Some(line.trim_start_matches([' ', ':']).parse::<f64>().unwrap() / 1e6)
        };
        tasks.map(|task| task.unwrap().path()).filter(is_named).filter_map(slice).collect()
    }

    /// Where `/ready` and `/metrics` are.
    pub(super) fn admin(&mut self) -> String {
        let line = self.process.wait_for_line("started admin=", LIMIT);
        line.split("admin=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned()
    }

    /// Waits for the neighbour's messages: all of them, in time and in order.
    pub(super) fn neighbour(&mut self) {
        let file = self.folder.path().join("neighbour-out.jsonl");
        let arrived = || fs::read_to_string(&file).map_or(0, |text| text.matches('\n').count());
        self.process.wait_until("the neighbour's first message has arrived", STARTED, || arrived() > 0);
        let first = Instant::now();
        self.process
            .wait_until("all of the neighbour's messages have arrived in time", IN_TIME, || arrived() >= MESSAGES);
        println!("the neighbour's messages began after {:?} and took {:?}", first - self.begun, first.elapsed());
        let values: Vec<_> =
            lines(&file).into_iter().map(|line| (line["value"].clone(), line["headers"][0][0].clone())).collect();
        let wanted: Vec<_> = (0..MESSAGES).map(|number| (json!(number.to_string()), json!("touched"))).collect();
        assert_eq!(values, wanted);
    }

    pub(super) fn end(self) -> Ran {
        let finished = self.process.finish(LIMIT);
        let events = lines(&self.folder.path().join("audit.jsonl"));
        for event in &events {
            let faults = portcullis_audit::schema::faults_of(event);
            assert!(faults.is_empty(), "{}\n{event:#}", faults.join("\n"));
        }
        Ran { finished, folder: self.folder, events }
    }
}

impl Ran {
    /// The messages that came out of a pipeline.
    pub(super) fn out(&self, pipeline: &str) -> Vec<Value> {
        lines(&self.folder.path().join(format!("{pipeline}-out.jsonl")))
    }

    /// The values that came out of a pipeline.
    pub(super) fn values(&self, pipeline: &str) -> Vec<String> {
        self.out(pipeline).iter().map(|line| line["value"].as_str().unwrap().to_owned()).collect()
    }

    /// The results of the probe, one list a message.
    pub(super) fn results(&self, pipeline: &str) -> Vec<Vec<Value>> {
        let result = |value: &String| {
            let value: Value = serde_json::from_str(value).unwrap();
            value["results"].as_array().unwrap_or_else(|| panic!("no results: {value}")).clone()
        };
        let values = self.values(pipeline);
        assert!(!values.is_empty(), "{:#?}", self.letters(pipeline));
        values.iter().map(result).collect()
    }

    /// The dead letters of a pipeline.
    pub(super) fn letters(&self, pipeline: &str) -> Vec<Letter> {
        let letter = |line: &Value| {
            let headers: BTreeMap<&str, &str> = line["headers"]
                .as_array()
                .unwrap()
                .iter()
                .filter_map(|header| Some((header[0].as_str()?, header[1].as_str()?)))
                .collect();
            let of = |name: &str| {
                headers.get(format!("__portcullis.errors.{name}").as_str()).copied().unwrap_or_default().to_owned()
            };
            let value = line["value"].as_str().unwrap_or_default().to_owned();
            Letter { value, reason: of("reason"), code: of("code"), detail: of("message") }
        };
        lines(&self.folder.path().join(format!("{pipeline}-dead.jsonl"))).iter().map(letter).collect()
    }

    /// The events of a code.
    pub(super) fn events(&self, code: &str) -> Vec<&Value> {
        self.events.iter().filter(|event| event["metadata"]["event_code"] == code).collect()
    }

    /// Events of limits that were met, but for turns on the processor: whether a call waits for one says how busy this machine is.
    pub(super) fn budgets(&self) -> Vec<&Value> {
        let mut events = self.events("budget.exceeded");
        events.retain(|event| event["status_code"] != "cpu.share");
        events
    }

    /// How often something was recorded, repeats in one event counted: events of this code whose `status_detail` or
    /// `status_code` is `why`; an empty `why` is any.
    pub(super) fn count(&self, code: &str, why: &str) -> u64 {
        let is = |event: &&&Value| why.is_empty() || event["status_detail"] == why || event["status_code"] == why;
        self.events(code).iter().filter(is).map(|event| event["count"].as_u64().unwrap_or(1)).sum()
    }

    /// What was recorded of what a plugin did or met, by code and reason, with its exact number. For a message.
    pub(super) fn tally(&self) -> BTreeMap<String, u64> {
        let mut tally = BTreeMap::new();
        for event in &self.events {
            let of = |name: &str| event[name].as_str().unwrap_or_default();
            let key = format!(
                "{} {} {}",
                event["metadata"]["event_code"].as_str().unwrap(),
                of("status_code"),
                of("status_detail")
            );
            *tally.entry(key).or_default() += event["count"].as_u64().unwrap_or(1);
        }
        tally
    }

    /// Nothing left the process: no connect, datagram, lookup or request was allowed.
    pub(super) fn assert_nothing_left(&self) {
        for code in
            ["net.connect.allowed", "net.udp.allowed", "dns.allowed", "dns.lookup", "http.allowed", "http.request"]
        {
            assert_eq!(self.count(code, ""), 0, "{code}: {:#?}", self.tally());
        }
    }
}

/// The lines of a file; none where there is no file.
pub(super) fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// The members of an event that say which budget was met.
pub(super) fn budget(event: &Value) -> Map<String, Value> {
    event["unmapped"]["budget"].as_object().cloned().unwrap_or_default()
}
