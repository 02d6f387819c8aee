//! The folder of a vector's run: what is written into it before, and what is found in it after.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context;
use serde_json::{Map, Value, json};

pub(crate) const PIPELINE: &str = "pipeline.yaml";
pub(crate) const NODE: &str = "portcullis.yaml";
const INPUT: &str = "input.jsonl";
const OUTPUT: &str = "out.jsonl";
const DEAD: &str = "dead.jsonl";
const AUDIT: &str = "audit.jsonl";
const ROOTS: &str = "roots.pem";

/// Enough for any vector, so that no bound but the vector's own ends it.
const DEADLINE: &str = "60s";
const FUEL: u64 = 1_000_000_000_000;
/// A file larger than this is not looked at whole.
const FILE_MAX: u64 = 64 << 20;

/// What a pipeline is made of.
pub(crate) struct Setting<'a> {
    pub(crate) probe: &'a Path,
    pub(crate) egress: &'a [Value],
    pub(crate) limits: &'a Map<String, Value>,
    pub(crate) operator_deny: &'a [Value],
    pub(crate) name_server: SocketAddr,
    /// PEM
    pub(crate) roots: &'a str,
}

/// Where the egress list stands in the pipeline's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lines {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

/// Writes the files of a run.
///
/// # Errors
/// When they cannot be written.
pub(crate) fn write(folder: &Path, setting: &Setting<'_>, ops: &[Map<String, Value>]) -> anyhow::Result<Lines> {
    let (pipeline, lines) = pipeline(setting);
    let message = json!({ "key": "vector", "value": json!({ "ops": ops }).to_string() });
    let files = [
        (PIPELINE, pipeline),
        (NODE, node(setting)),
        (INPUT, format!("{message}\n")),
        (ROOTS, setting.roots.to_owned()),
    ];
    for (name, text) in files {
        let file = folder.join(name);
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(lines)
}

/// YAML that is JSON line by line: nothing in a vector can be read as anything but itself.
fn pipeline(setting: &Setting<'_>) -> (String, Lines) {
    let ours = [("deadline", DEADLINE.into()), ("fuel", FUEL.into())];
    let mut limits = Map::from_iter(ours.map(|(name, value): (&str, Value)| (name.to_owned(), value)));
    limits.extend(setting.limits.clone());
    let probe = literal(&Value::from(setting.probe.to_string_lossy()));
    let limits = literal(&limits.into());
    let mut text = format!(
        "pipeline: vector\nsource:\n  file: {{ path: {INPUT}, format: jsonl }}\nplugins:\n  - name: probe\n    \
         component: {probe}\n    limits: {limits}\n    on: {{ fault: dead_letter, reject: dead_letter }}\n    grants:\n      \
         clock: precise\n      random: true\n      egress:"
    );
    let before = u64::try_from(text.lines().count()).unwrap_or_default();
    if setting.egress.is_empty() {
        text.push_str(" []");
    }
    for rule in setting.egress {
        text.push_str("\n        - ");
        text.push_str(&literal(rule));
    }
    text.push_str(&format!(
        "\nsink:\n  file: {{ path: {OUTPUT}, format: jsonl }}\ndead_letter:\n  file: {{ path: {DEAD}, format: jsonl }}\n"
    ));
    let rules = u64::try_from(setting.egress.len()).unwrap_or_default();
    (text, Lines { first: before + u64::from(rules > 0), last: before + rules })
}

fn node(setting: &Setting<'_>) -> String {
    let probe = literal(&Value::from(setting.probe.to_string_lossy()));
    let mut text = format!(
        "pipelines_may_name: {{ files: [{probe}] }}\naudit: {{ file: {AUDIT} }}\nadmin: {{ listen: \"127.0.0.1:0\" }}\n\
         egress:\n  dns: {{ servers: [\"{}\"] }}\n  tls: {{ roots: {ROOTS} }}\n",
        setting.name_server
    );
    if !setting.operator_deny.is_empty() {
        text.push_str(&format!("  deny: {}\n", literal(&Value::Array(setting.operator_deny.to_vec()))));
    }
    text
}

/// A value as JSON, which is YAML; `$` would begin a variable.
fn literal(value: &Value) -> String {
    value.to_string().replace('$', "$$")
}

/// What a run left in its folder.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// The probe's message; `None`: it did not arrive.
    pub(crate) results: Option<Vec<Value>>,
    /// A message that went to the dead letter queue instead, as its headers say why.
    pub(crate) dead: Vec<String>,
    pub(crate) events: Vec<Value>,
    /// Files by name, without those that were written before and without what the message itself held.
    pub(crate) texts: Vec<(String, String)>,
}

/// Reads it.
///
/// # Errors
/// When a file cannot be read or is not what it should be.
pub(crate) fn read(folder: &Path) -> anyhow::Result<Left> {
    let mut left = Left::default();
    for letter in lines(folder, DEAD)? {
        let headers = letter.get("headers").map(Value::to_string).unwrap_or_default();
        left.texts.push((DEAD.to_owned(), headers.clone()));
        left.dead.push(headers);
    }
    for message in lines(folder, OUTPUT)? {
        let value = message.get("value").and_then(Value::as_str).unwrap_or_default();
        let value: Value = serde_json::from_str(value).context("the probe's message is not JSON")?;
        let results = value.get("results").cloned().unwrap_or_default();
        // The message repeats its operations; the rest of it is what the guest learnt.
        left.texts.push((OUTPUT.to_owned(), results.to_string()));
        left.results = results.as_array().cloned();
    }
    left.events = lines(folder, AUDIT)?;
    let ours = [PIPELINE, NODE, INPUT, ROOTS, OUTPUT, DEAD];
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_file() && !ours.contains(&name.as_str()) {
            left.texts.push((name, String::from_utf8_lossy(&bytes(&entry.path())?).into_owned()));
        }
    }
    Ok(left)
}

/// Whether anything was started: a refusal leaves neither messages nor evidence.
pub(crate) fn started(left: &Left) -> bool {
    left.results.is_some() || !left.dead.is_empty()
}

fn bytes(file: &Path) -> anyhow::Result<Vec<u8>> {
    let length = fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?.len();
    anyhow::ensure!(length <= FILE_MAX, "{} has {length} bytes", file.display());
    Ok(fs::read(file)?)
}

fn lines(folder: &Path, name: &str) -> anyhow::Result<Vec<Value>> {
    let file = folder.join(name);
    if !file.exists() {
        return Ok(Vec::new());
    }
    let text = String::from_utf8(bytes(&file)?).with_context(|| format!("{name} is not UTF-8"))?;
    let parsed = text.lines().map(|line| serde_json::from_str(line).with_context(|| format!("{name}: {line}")));
    parsed.collect()
}

/// The ports that the rules name for a web server, beside the usual two.
pub(crate) fn web_ports(egress: &[Value]) -> BTreeSet<u16> {
    let mut ports = BTreeSet::from([80, 443]);
    for rule in egress {
        let text = rule.get("allow").unwrap_or(rule).as_str().unwrap_or_default();
        if text.starts_with("http://") || text.starts_with("https://") {
            ports.extend(
                text.rsplit(':').next().unwrap_or_default().split(',').filter_map(|port| port.parse::<u16>().ok()),
            );
        }
    }
    ports
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting<'a>(egress: &'a [Value], limits: &'a Map<String, Value>, deny: &'a [Value]) -> Setting<'a> {
        Setting {
            probe: Path::new("/guests/probe.wasm"),
            egress,
            limits,
            operator_deny: deny,
            name_server: "192.0.2.53:53".parse().unwrap(),
            roots: "",
        }
    }

    #[test]
    fn each_rule_has_a_line_of_its_own_and_its_number_is_known() {
        let egress = [json!({"allow": "https://ok.test:443", "dangerous": true}), json!("tcp://a.test:${HOME}")];
        let limits = json!({"connects": "2/s"}).as_object().unwrap().clone();
        let (text, lines) = pipeline(&setting(&egress, &limits, &[]));
        let shown: Vec<&str> = text.lines().collect();
        assert_eq!(shown[usize::try_from(lines.first).unwrap() - 2].trim(), "egress:");
        assert!(shown[usize::try_from(lines.first).unwrap() - 1].contains(r#"- {"allow":"https://ok.test:443""#));
        assert!(shown[usize::try_from(lines.last).unwrap() - 1].contains(r#"- "tcp://a.test:$${HOME}""#));
        assert!(text.contains(r#""connects":"2/s","deadline":"60s","fuel":1000000000000}"#));
    }

    #[test]
    fn an_empty_list_is_there_and_empty() {
        let (text, lines) = pipeline(&setting(&[], &Map::new(), &[]));
        let line = text.lines().nth(usize::try_from(lines.first).unwrap() - 1).unwrap();
        assert_eq!((line.trim(), lines.first), ("egress: []", lines.last));
    }

    #[test]
    fn denies_of_the_operator_are_in_the_nodes_file() {
        let deny = [json!("10.0.0.0/8")];
        assert!(node(&setting(&[], &Map::new(), &deny)).contains(r#"deny: ["10.0.0.0/8"]"#));
    }

    #[test]
    fn web_servers_stand_at_the_ports_of_web_rules() {
        let rules =
            [json!({"allow": "https://ok.test:8443,9443"}), json!("tcp://ok.test:5432"), json!("http://*.test")];
        assert_eq!(web_ports(&rules), BTreeSet::from([80, 443, 8443, 9443]));
    }

    #[test]
    fn what_the_guest_learnt_is_a_text_and_its_own_operations_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let value = json!({"ops": [{"op": "secret-op"}], "results": [{"ok": false, "code": "denied"}]}).to_string();
        fs::write(folder.path().join(OUTPUT), format!("{}\n", json!({ "value": value }))).unwrap();
        fs::write(folder.path().join("stderr"), "a line").unwrap();
        let left = read(folder.path()).unwrap();
        assert_eq!(left.results.as_ref().unwrap().len(), 1);
        assert!(started(&left));
        let all: String = left.texts.iter().map(|(_, text)| text.as_str()).collect();
        assert!(all.contains("denied") && all.contains("a line") && !all.contains("secret-op"));
    }
}
