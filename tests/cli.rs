//! The command line: exit codes, positions of mistakes, the end by signals, the admin endpoint, the development command.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use tempfile::TempDir;

use crate::support::process::{Process, portcullis, run};
use crate::support::{guest, root};

const LIMIT: Duration = Duration::from_secs(60);

/// A pipeline that runs until it is stopped.
const ENDLESS: &str = r"
pipeline: endless
source: { generator: { rate: 100/s, value: 'number {{seq}}', channel: made } }
sink: { file: { path: out.jsonl, format: jsonl } }
";

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// `admin=127.0.0.1:PORT` of the line that says that the bridge has started.
fn admin_address(line: &str) -> String {
    let plain: String = line.chars().filter(|c| !c.is_control()).collect();
    let rest = plain.split("admin").nth(1).unwrap();
    rest.chars()
        .skip_while(|c| !c.is_ascii_digit() || rest.contains("[0m=") && *c == '0')
        .collect::<String>()
        .split(|c: char| c != '.' && c != ':' && !c.is_ascii_digit())
        .find(|part| part.contains(':'))
        .unwrap()
        .to_owned()
}

#[test]
fn check_shows_three_mistakes_at_three_positions_and_ends_with_2() {
    let folder = root().join("tests/cases/three-mistakes-have-three-positions");
    let mut command = portcullis(&folder);
    command.args(["check", "pipeline.yaml"]).env("GUESTS", guest("touch").parent().unwrap());
    let ended = Process::start(&mut command).finish(LIMIT);
    assert_eq!(ended.code(), 2, "{ended:?}");
    for position in ["pipeline.yaml:2:1: error", "pipeline.yaml:8:", "pipeline.yaml:10:"] {
        assert!(ended.stderr.contains(position), "{position} is missing in\n{}", ended.stderr);
    }
    assert_eq!(ended.stderr.matches(": error[").count(), 3, "{}", ended.stderr);
    let mut command = portcullis(&folder);
    command.args(["check", "pipeline.yaml", "--format", "json"]).env("GUESTS", guest("touch").parent().unwrap());
    let ended = Process::start(&mut command).finish(LIMIT);
    assert_eq!(ended.code(), 2);
    let diagnostics: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let lines: Vec<_> = diagnostics.as_array().unwrap().iter().map(|one| one["line"].as_u64().unwrap()).collect();
    assert_eq!(lines, [2, 8, 10]);
}

#[test]
fn check_of_a_good_file_shows_digest_world_and_imports_and_ends_with_0() {
    let ended = run(root(), &["check", "pipelines/orders.yaml"], LIMIT);
    assert_eq!(ended.code(), 0, "{ended:?}");
    for piece in [
        "pipeline orders",
        "at least once",
        "sha256:",
        "portcullis:plugin/validat",
        "imports portcullis:plugin/messages@0.1.0",
    ] {
        assert!(ended.stdout.contains(piece), "{piece} is missing in\n{}", ended.stdout);
    }
}

#[test]
fn a_signal_drains_and_ends_with_0_and_the_admin_endpoint_answers_meanwhile() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("endless.yaml"), ENDLESS).unwrap();
    let mut bridge = Process::start(portcullis(folder.path()).args([
        "run",
        "endless.yaml",
        "--admin",
        "127.0.0.1:0",
        "--audit-file",
        "audit.jsonl",
    ]));
    let started = bridge.wait_for_line("started", LIMIT);
    let address = admin_address(&started);
    let out = folder.path().join("out.jsonl");
    bridge
        .wait_until("messages arrive", LIMIT, || fs::read_to_string(&out).is_ok_and(|text| text.lines().count() > 20));
    assert!(get(&address, "/live").starts_with("HTTP/1.1 200"));
    let ready = get(&address, "/ready");
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    let metrics = get(&address, "/metrics");
    for name in ["portcullis_messages_total", "outcome=\"delivered\"", "portcullis_unfinished_messages"] {
        assert!(metrics.contains(name), "{name} is missing in\n{metrics}");
    }
    bridge.signal("TERM");
    let ended = bridge.finish(LIMIT);
    assert_eq!(ended.code(), 0, "{ended:?}");
    let delivered = fs::read_to_string(&out).unwrap();
    for (number, line) in delivered.lines().enumerate() {
        assert!(line.contains(&format!("number {number}\"")), "line {number} is {line}");
    }
}

#[test]
fn several_pipelines_run_in_one_process_and_one_that_fails_stops_alone() {
    let folder = TempDir::new().unwrap();
    let file = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
    file("good.yaml", ENDLESS.replace("rate: 100/s", "count: 500"));
    let bad = ENDLESS.replace("endless", "bad").replace("out.jsonl", "bad.jsonl");
    file("bad.yaml", format!("{bad}plugins: [{{ name: reject, component: {} }}]\n", guest("echo-reason").display()));
    let ended = run(folder.path(), &["run", ".", "--admin", "127.0.0.1:0", "--audit-file", "audit.jsonl"], LIMIT);
    assert_eq!(ended.code(), 1, "{ended:?}");
    assert!(ended.stderr.contains("failed: bad"), "{}", ended.stderr);
    let good = fs::read_to_string(folder.path().join("out.jsonl")).unwrap();
    assert_eq!(good.lines().count(), 500);
}

#[test]
fn dev_shows_what_became_of_each_message_of_the_quickstart_and_ends_with_0() {
    let ended = run(root(), &["dev", "pipelines/orders.yaml", "--format", "json"], LIMIT);
    assert_eq!(ended.code(), 0, "{ended:?}");
    let summary = ended.json();
    assert_eq!(summary["in"], 16, "{summary:#}");
    assert_eq!(summary["passed"], 9, "{summary:#}");
    assert_eq!(summary["dropped"], 0, "{summary:#}");
    let dead: u64 = summary["dead_letters"].as_array().unwrap().iter().map(|one| one["count"].as_u64().unwrap()).sum();
    assert_eq!(dead, 7, "{summary:#}");
    // The plugin `rates` was granted three paths of one host; one order asks for a fourth.
    assert_eq!(summary["audit_events"]["http.denied"], 1, "{summary:#}");
    let calls = summary["audit_events"]["http.allowed"].as_u64();
    assert!(
        calls.is_some_and(|calls| calls > 0) && calls == summary["audit_events"]["http.request"].as_u64(),
        "{summary:#}"
    );
    for code in ["audit.boot", "plugin.linked", "record.quarantined", "audit.stop"] {
        assert!(summary["audit_events"][code].as_u64().is_some_and(|count| count > 0), "{code}: {summary:#}");
    }
}

#[test]
fn dev_writes_the_audit_to_the_file_that_it_was_given_and_counts_what_is_in_it() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("audit.jsonl");
    let dev = ["dev", "pipelines/orders.yaml", "--audit-file", file.to_str().unwrap()];
    let count = |code: &str| fs::read_to_string(&file).unwrap().matches(&format!("\"event_code\":\"{code}\"")).count();
    for runs in [1, 2] {
        let ended = run(root(), &[&dev[..], &["--format", "json"]].concat(), LIMIT);
        assert_eq!(ended.code(), 0, "{ended:?}");
        let summary = ended.json();
        assert_eq!(summary["audit_events"]["http.denied"], 1, "of this run alone: {summary:#}");
        assert_eq!(summary["audit_events"]["audit.stop"], 1, "{summary:#}");
        assert_eq!(["audit.boot", "http.denied", "audit.stop"].map(count), [runs; 3]);
    }
    let ended = run(root(), &dev, LIMIT);
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert!(ended.stdout.contains(&format!("audit in {}", file.display())), "{}", ended.stdout);
}

#[test]
fn dev_leaves_the_evidence_of_what_it_refuses_in_the_file_too() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("p.yaml"), "pipeline: p\nsource: { kafka: { brokers: \"b:1\", topics: [t] } }\n")
        .unwrap();
    let ended = run(folder.path(), &["dev", "p.yaml", "--audit-file", "audit.jsonl"], LIMIT);
    assert_eq!(ended.code(), 2, "{ended:?}");
    let audit = fs::read_to_string(folder.path().join("audit.jsonl")).unwrap();
    assert!(audit.contains("config.rejected"), "{audit}");
}

#[test]
fn what_is_wrong_on_the_command_line_is_told_without_what_is_right() {
    let folder = TempDir::new().unwrap();
    let ended = run(folder.path(), &["run", "p.yaml", "--locked", "--payload"], LIMIT);
    assert_eq!(ended.code(), 2, "{ended:?}");
    let usage = ended.stderr.split("Usage:").nth(1).unwrap();
    assert!(ended.stderr.contains("--dry-run <N>") && usage.contains("portcullis run [OPTIONS] <FILE>"), "{ended:?}");
    assert!(!usage.contains("--locked") && !usage.contains("--payload"), "{usage}");
    for wrong in ["my plugin", "a&payload=true"] {
        let ended = run(folder.path(), &["tap", "p.yaml", "--at", wrong], LIMIT);
        assert!(ended.code() == 2 && ended.stderr.contains("allowed: `source`, `sink`"), "{ended:?}");
    }
    fs::write(folder.path().join("p.yaml"), ENDLESS).unwrap();
    let mut command = portcullis(folder.path());
    command.args(["check", "p.yaml"]).env("PORTCULLIS_MODE", "hunter2");
    let ended = Process::start(&mut command).finish(LIMIT);
    assert!(ended.code() == 2 && ended.stderr.contains("`${PORTCULLIS_MODE}` is not allowed here"), "{ended:?}");
    assert!(!ended.stderr.contains("hunter2"), "{ended:?}");
}

#[test]
fn dev_ends_with_1_when_an_expectation_of_the_input_does_not_hold() {
    let folder = TempDir::new().unwrap();
    let input = fs::read_to_string(root().join("pipelines/orders.input.jsonl")).unwrap();
    let wrong = input.replacen(r#""expect":{"outcome":"pass"}"#, r#""expect":{"outcome":"reject"}"#, 1);
    assert_ne!(wrong, input);
    let file = folder.path().join("input.jsonl");
    fs::write(&file, wrong).unwrap();
    let ended = run(root(), &["dev", "pipelines/orders.yaml", "--input", file.to_str().unwrap()], LIMIT);
    assert_eq!(ended.code(), 1, "{ended:?}");
    assert!(ended.stdout.contains("input line 1"), "{}", ended.stdout);
}

#[test]
fn a_sink_that_feeds_its_own_source_is_refused_and_a_mirror_to_another_cluster_is_not() {
    let folder = TempDir::new().unwrap();
    let check = |sink_brokers: &str| {
        let pipeline = format!(
            "pipeline: mirror\nsource: {{ kafka: {{ brokers: \"a:9092\", topics: [orders] }} }}\n\
             sink: {{ kafka: {{ brokers: \"{sink_brokers}\", topic: orders }} }}\n"
        );
        fs::write(folder.path().join("mirror.yaml"), pipeline).unwrap();
        run(folder.path(), &["check", "mirror.yaml"], LIMIT)
    };
    let round = check("a:9092");
    assert_eq!(round.code(), 2, "{round:?}");
    assert!(round.stderr.contains("mirror.yaml:3:"), "{}", round.stderr);
    let mirror = check("b:9092");
    assert_eq!(mirror.code(), 0, "{mirror:?}");
}
