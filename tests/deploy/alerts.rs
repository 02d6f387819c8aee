//! Dashboard and alert rules: they parse, and every metric and label that they use is one that the bridge has.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use portcullis_audit::Code;
use portcullis_flow::FaultKind;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{LIMIT, text, texts, yaml};
use crate::support::process::Process;
use crate::support::root;

/// Labels that Prometheus itself or its scrape configuration adds.
const ADDED: [&str; 3] = ["instance", "job", "le"];
/// Metrics that are not the bridge's: Prometheus' own and the prober's.
const OTHERS: [&str; 2] = ["up", "probe_success"];

/// A metric of docs/metrics.md, which a unit test holds against the code.
pub(super) struct Known {
    pub(super) kind: String,
    pub(super) labels: BTreeSet<String>,
    /// The whole row: it names the values of labels that have a fixed list.
    row: String,
}

pub(super) fn catalogue() -> BTreeMap<String, Known> {
    let page = text("docs/metrics.md");
    let rows = page.lines().filter(|line| line.starts_with("| `portcullis_"));
    let known: BTreeMap<String, Known> = rows.map(row).collect();
    assert!(known.len() >= 20, "docs/metrics.md has {} metrics", known.len());
    known
}

fn row(line: &str) -> (String, Known) {
    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
    let (kind, labels) = cells[2].split_once(';').unwrap_or((cells[2], ""));
    let labels = labels.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    (cells[1].trim_matches('`').to_owned(), Known { kind: kind.trim().to_owned(), labels, row: line.to_owned() })
}

/// Where an expression stands, and the expression.
fn expressions() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&text("deploy/grafana/dashboards/portcullis.json")).unwrap();
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap_or(&Vec::new()) {
            assert_eq!(target["datasource"]["uid"], "prometheus", "{panel:#}");
            found.push((panel["title"].as_str().unwrap().to_owned(), target["expr"].as_str().unwrap().to_owned()));
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let query = variable["definition"].as_str().unwrap();
        let selector = query.strip_prefix("label_values(").and_then(|rest| rest.rsplit_once(',')).unwrap();
        let label = selector.1.trim().trim_end_matches(')');
        found.push((format!("variable {label}"), format!("sum by ({label}) ({})", selector.0)));
    }
    for rule in rules() {
        found.push((rule["alert"].as_str().unwrap().to_owned(), rule["expr"].as_str().unwrap().to_owned()));
    }
    assert!(found.len() >= 35, "{}", found.len());
    found
}

fn rules() -> Vec<Value> {
    let file = yaml("deploy/prometheus/alerts.yml");
    let groups = file["groups"].as_array().unwrap();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

/// A selector of an expression: the metric's name, and its matchers as label, operator and value.
struct Selector {
    metric: String,
    matchers: Vec<(String, String, String)>,
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Every selector. Good for what stands in these files: label values hold no braces.
fn selectors(expr: &str) -> Vec<Selector> {
    let mut found = Vec::new();
    let mut rest = expr;
    while let Some(start) = rest.find(is_name) {
        let name: String = rest[start..].chars().take_while(|c| is_name(*c)).collect();
        rest = &rest[start + name.len()..];
        let matchers = match rest.strip_prefix('{') {
            Some(inside) => {
                let (inside, behind) = inside.split_once('}').unwrap_or_else(|| panic!("an open brace in {expr}"));
                rest = behind;
                matchers(inside)
            }
            None => Vec::new(),
        };
        if name.starts_with("portcullis_") || OTHERS.contains(&name.as_str()) || !matchers.is_empty() {
            found.push(Selector { metric: name, matchers });
        }
    }
    found
}

fn matchers(inside: &str) -> Vec<(String, String, String)> {
    let parts = inside.split("\",").map(|part| part.trim().trim_end_matches('"'));
    let split = parts.map(|part| {
        let (head, value) = part.split_once('"').unwrap_or_else(|| panic!("no value in {part}"));
        let label: String = head.chars().take_while(|c| is_name(*c)).collect();
        let operator = head[label.len()..].trim().to_owned();
        assert!(["=", "!=", "=~", "!~"].contains(&operator.as_str()), "{part}");
        (label, operator, value.to_owned())
    });
    split.collect()
}

/// The labels of every `by (...)`.
fn grouped_by(expr: &str) -> Vec<String> {
    let lists = expr.split("by (").skip(1).map(|rest| rest.split_once(')').unwrap().0);
    lists.flat_map(|list| list.split(',').map(|label| label.trim().to_owned())).collect()
}

/// The metric behind a series of a histogram.
pub(super) fn base<'name>(series: &'name str, known: &BTreeMap<String, Known>) -> &'name str {
    let bases = ["_bucket", "_sum", "_count"].into_iter().filter_map(|end| series.strip_suffix(end));
    bases.into_iter().find(|base| known.get(*base).is_some_and(|known| known.kind == "histogram")).unwrap_or(series)
}

#[test]
fn the_dashboard_and_the_alerts_use_metrics_and_labels_that_the_bridge_has() {
    let known = catalogue();
    let faults = text("docs/configuration.md");
    let mut used = BTreeSet::new();
    for (place, expr) in expressions() {
        let mut possible: BTreeSet<String> = ADDED.map(str::to_owned).into();
        for selector in selectors(&expr) {
            if OTHERS.contains(&selector.metric.as_str()) {
                continue;
            }
            let name = base(&selector.metric, &known);
            let metric = known.get(name).unwrap_or_else(|| panic!("{place}: there is no metric {}", selector.metric));
            assert_eq!(
                metric.kind == "histogram",
                name != selector.metric,
                "{place}: {} has no such series",
                selector.metric
            );
            for (label, operator, value) in &selector.matchers {
                let has = metric.labels.contains(label) || ADDED.contains(&label.as_str());
                assert!(has, "{place}: {name} has no label {label}");
                let exact = ["=", "!="].contains(&operator.as_str());
                let list = if label == "kind" { &faults } else { &metric.row };
                assert!(!exact || list.contains(&format!("`{value}`")), "{place}: {label} is never {value}");
            }
            possible.extend(metric.labels.iter().cloned());
            used.insert(name.to_owned());
        }
        for label in grouped_by(&expr) {
            assert!(possible.contains(&label), "{place}: nothing in {expr} has the label {label}");
        }
        // A rate of something that goes down, or a level of something that only grows, is no number at all.
        for (name, metric) in &known {
            for function in ["rate(", "increase("] {
                let wrong = metric.kind == "gauge" && expr.contains(&format!("{function}{name}"));
                assert!(!wrong, "{place}: {function}) of the gauge {name}");
            }
        }
    }
    let unused: Vec<&String> = known.keys().filter(|name| !used.contains(*name)).collect();
    assert!(unused.is_empty(), "neither the dashboard nor an alert shows {unused:?}");
}

#[test]
fn every_value_of_the_labels_kind_and_code_is_in_the_manual() {
    let (faults, events) = (text("docs/configuration.md"), text("docs/audit.md"));
    for kind in FaultKind::ALL {
        assert!(faults.contains(&format!("`{}`", kind.as_str())), "docs/configuration.md has no fault {kind}");
    }
    for code in Code::ALL {
        assert!(events.contains(&format!("`{code}`")), "docs/audit.md has no event {code}");
    }
}

#[test]
fn a_dashboard_panel_adds_up_over_what_has_no_bound() {
    // Lanes and partitions are many: a line for each would be a thousand lines.
    for (place, expr) in expressions() {
        let lines = grouped_by(&expr);
        assert!(!lines.iter().any(|label| ["partition", "lane"].contains(&label.as_str())), "{place}");
        let adds = ["sum", "max", "min", "count"]
            .iter()
            .any(|function| expr.contains(&format!("{function} by (")) || expr.contains(&format!("{function}(")));
        let single = selectors(&expr).iter().all(|selector| {
            OTHERS.contains(&selector.metric.as_str())
                || catalogue()[base(&selector.metric, &catalogue())].labels.is_empty()
        });
        assert!(adds || single, "{place}: {expr}");
    }
}

#[test]
fn an_alert_says_how_bad_it_is_and_has_its_lines_in_the_manual() {
    let manual = text("docs/deploy.md").to_lowercase();
    let tests = text("deploy/prometheus/alerts.test.yml");
    let mut names = BTreeSet::new();
    for rule in rules() {
        let name = rule["alert"].as_str().unwrap();
        assert!(names.insert(name.to_owned()), "{name} is there twice");
        let anchor = name.to_lowercase();
        assert_eq!(rule["annotations"]["runbook"], format!("docs/deploy.md#{anchor}"));
        assert!(manual.contains(&format!("### {anchor}\n")), "docs/deploy.md has no part {name}");
        assert!(rule["annotations"]["summary"].as_str().unwrap().contains("{{ $"), "{name} names nothing");
        assert!(["critical", "warning"].contains(&rule["labels"]["severity"].as_str().unwrap()), "{name}");
        assert!(rule["for"].is_null() || is_duration(rule["for"].as_str().unwrap()), "{name}");
        let expr = rule["expr"].as_str().unwrap();
        assert!(is_balanced(expr), "{name}: {expr}");
        assert_eq!(tests.matches(name).count(), 2, "{name}: alerts.test.yml must show it silent and firing");
    }
    assert!(names.len() >= 10);
}

fn is_duration(text: &str) -> bool {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    unit.len() < text.len() && ["s", "m", "h"].contains(&unit)
}

fn is_balanced(expr: &str) -> bool {
    let mut open = Vec::new();
    for (index, piece) in expr.split('"').enumerate() {
        // Every second piece stands between quotation marks.
        for c in piece.chars().filter(|_| index % 2 == 0) {
            match c {
                '(' => open.push(')'),
                '[' => open.push(']'),
                '{' => open.push('}'),
                ')' | ']' | '}' if open.pop() != Some(c) => return false,
                _ => {}
            }
        }
    }
    open.is_empty() && expr.matches('"').count().is_multiple_of(2)
}

/// What `cargo xtask test` names or has built, else what is on the path.
fn promtool() -> Option<PathBuf> {
    let named = std::env::var_os("BRIDGE_TEST_PROMTOOL").map(PathBuf::from);
    let places = named.into_iter().chain([root().join("target/prometheus/promtool"), "promtool".into()]);
    places.into_iter().find(|program| Command::new(program).arg("--version").output().is_ok())
}

#[test]
fn promtool_accepts_the_configuration_the_rules_and_every_expression_of_the_dashboard_where_there_is_one() {
    let Some(promtool) = promtool() else {
        eprintln!("there is no promtool: the rules were checked for their form, their metrics and their labels only");
        return;
    };
    // promtool reads no dashboard: each of its expressions as a rule is one to it.
    let recorded = expressions().into_iter().enumerate().map(|(number, (place, expr))| {
        // Grafana puts a time and a name there before it asks.
        let expr = expr.replace("$__rate_interval", "1m");
        assert!(!expr.contains("$__"), "{place}: {expr}");
        json!({ "record": format!("panel:{number}"), "expr": expr })
    });
    let rules = json!({ "groups": [{ "name": "dashboard", "rules": recorded.collect::<Vec<_>>() }] });
    let copy = TempDir::new().unwrap();
    // JSON is YAML.
    fs::write(copy.path().join("rules.yml"), rules.to_string()).unwrap();
    // The container has the rules elsewhere than the repository.
    let config = text("deploy/prometheus/prometheus.yml").replace("/etc/prometheus/", "");
    fs::write(copy.path().join("prometheus.yml"), &config).unwrap();
    fs::write(copy.path().join("alerts.yml"), text("deploy/prometheus/alerts.yml")).unwrap();
    fs::write(copy.path().join("alerts.test.yml"), text("deploy/prometheus/alerts.test.yml")).unwrap();
    fs::write(copy.path().join("mistyped.yml"), config.replace("scrape_interval", "scrape_intervall")).unwrap();
    for (arguments, code) in [
        (["check", "config", "prometheus.yml"], 0),
        (["check", "config", "mistyped.yml"], 1),
        (["check", "rules", "alerts.yml"], 0),
        (["test", "rules", "alerts.test.yml"], 0),
        (["check", "rules", "rules.yml"], 0),
    ] {
        let ended = Process::start(Command::new(&promtool).current_dir(copy.path()).args(arguments)).finish(LIMIT);
        assert_eq!(ended.code(), code, "{arguments:?}: {ended:?}");
    }
}

#[test]
fn the_provisioned_dashboard_finds_its_data() {
    let source = &yaml("deploy/grafana/provisioning/datasources/prometheus.yml")["datasources"][0];
    assert_eq!(source["uid"], "prometheus");
    let compose = yaml("docker-compose.yml");
    let folder =
        yaml("deploy/grafana/provisioning/dashboards/portcullis.yml")["providers"][0]["options"]["path"].clone();
    let mounts = texts(&compose["services"]["grafana"]["volumes"]).join(" ");
    assert!(mounts.contains(&format!("./deploy/grafana/dashboards:{}:ro", folder.as_str().unwrap())), "{mounts}");
    let dashboard: Value = serde_json::from_str(&text("deploy/grafana/dashboards/portcullis.json")).unwrap();
    let ids: BTreeSet<u64> =
        dashboard["panels"].as_array().unwrap().iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), dashboard["panels"].as_array().unwrap().len(), "two panels have one id");
    for title in ["Throughput", "Latency", "Lag and unfinished messages", "Plugins", "Egress and audit"] {
        assert!(
            dashboard["panels"]
                .as_array()
                .unwrap()
                .iter()
                .any(|panel| panel["type"] == "row" && panel["title"] == title)
        );
    }
}
