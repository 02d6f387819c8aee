//! `portcullis check` and `portcullis plan`: what they say of several files, of grants, and of what is weak.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::process::{Finished, run};
use crate::support::{guest, guests};

const LIMIT: Duration = Duration::from_secs(60);

/// A pipeline of files with these plugins.
fn pipeline(name: &str, plugins: &str) -> String {
    format!(
        "pipeline: {name}\nsource: {{ file: {{ path: {name}.in }} }}\nplugins:\n{plugins}sink: {{ file: {{ path: {name}.out }} }}\n"
    )
}

fn plugin(name: &str, component: &str, more: &str) -> String {
    format!("  - name: {name}\n    component: {}\n{more}", guest(component).display())
}

fn folder(files: &[(&str, String)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

/// Lets pipelines name the components of the tests, which lie elsewhere.
fn naming_guests(node: &str) -> String {
    format!("pipelines_may_name: {{ files: [\"{}/**\"] }}\n{node}", guests().display())
}

fn check(folder: &Path, arguments: &[&str]) -> Finished {
    let arguments: Vec<&str> = ["check"].iter().chain(arguments).copied().collect();
    run(folder, &arguments, LIMIT)
}

#[track_caller]
fn holds(text: &str, pieces: &[&str]) {
    for piece in pieces {
        assert!(text.contains(piece), "{piece} is missing in\n{text}");
    }
}

#[test]
fn a_mistake_of_one_plugin_or_file_does_not_hide_what_is_wrong_with_the_others() {
    let missing = "  - name: gone\n    component: gone.wasm\n";
    let bad_file = plugin("schema", "json-schema", "    config: { schema: { $file: nope.json } }\n");
    let bad_config = plugin("redact", "redact", "    config: { json: { hash: [a] } }\n");
    let wrong_digest =
        plugin("touch", "touch", &format!("    config: {{ a: \"${{NO_SUCH}}\" }}\n    digest: sha256:{:064}\n", 0));
    let source = pipeline("source", &bad_config).replace("source.in", "\"${NO_SUCH}\"");
    let folder = folder(&[
        ("all.yaml", pipeline("all", &format!("{bad_file}{missing}{bad_config}{wrong_digest}"))),
        ("good.yaml", pipeline("good", &plugin("touch", "touch", ""))),
        ("source.yaml", source),
    ]);
    let ended = check(folder.path(), &["."]);
    assert_eq!(ended.code(), 2, "{ended:?}");
    holds(
        &ended.stderr,
        &[
            "nope.json",
            "error[component.unreadable]",
            "gone.wasm",
            "error[digest.mismatch]",
            "`NO_SUCH` is not set",
            "hash_key: missing",
        ],
    );
    assert_eq!(
        ended.stderr.matches("error[configure.failed]").count(),
        2,
        "of `redact` in both files, and of no plugin whose configuration was not read:\n{}",
        ended.stderr
    );
    let verdicts: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(verdicts, ["./all.yaml: 5 errors", "./good.yaml: ok", "./source.yaml: 2 errors"], "{ended:?}");
}

#[test]
fn the_node_file_of_a_later_folder_is_not_ignored_without_a_word() {
    let of = |name: &str| pipeline(name, &plugin("touch", "touch", ""));
    let folder = folder(&[
        ("first/a.yaml", of("a")),
        ("second/b.yaml", of("b")),
        ("second/portcullis.yaml", naming_guests("ceilings: { egress: [], clock: none }\n")),
    ]);
    let none = check(folder.path(), &["first", "second"]);
    assert_eq!(none.code(), 2, "{none:?}");
    holds(
        &none.stderr,
        &["second/portcullis.yaml: error[node.unread]", "second/b.yaml", "none beside the first pipeline"],
    );
    fs::write(folder.path().join("first/portcullis.yaml"), naming_guests("log: { level: info }\n")).unwrap();
    let both = check(folder.path(), &["first", "second"]);
    assert_eq!((both.code(), both.stderr.matches("error[").count()), (2, 1), "{both:?}");
    holds(&both.stderr, &["second/portcullis.yaml: error[node.unread]", "first/portcullis.yaml"]);
    for arguments in [
        &["first", "second", "--node", "second/portcullis.yaml"][..],
        &["second"],
        &["first"],
        &["first/a.yaml", "first"][..1],
    ] {
        let ended = check(folder.path(), arguments);
        assert_eq!(ended.code(), 0, "{arguments:?}: {ended:?}");
    }
}

#[test]
fn what_passes_is_said_in_a_line_for_each_plugin_with_its_grants_and_what_is_granted_for_nothing() {
    let grants = "    grants: { clock: coarse, log: info, random: true }\n";
    let folder = folder(&[(
        "p.yaml",
        pipeline(
            "p",
            &(plugin("clock", "asks-the-clock", grants) + &plugin("touch", "touch", "    grants: { clock: coarse }\n")),
        ),
    )]);
    let ended = check(folder.path(), &["p.yaml"]);
    assert_eq!(ended.code(), 0, "{ended:?}");
    holds(
        &ended.stdout,
        &[
            "p.yaml: ok: pipeline p, at least once, 2 plugins",
            "  clock sha256:",
            "grants clock coarse, log info, random true",
            "warning: over-grant: the component does not import `clock`",
        ],
    );
    let of_touch: Vec<&str> = ended.stdout.lines().filter(|line| line.contains("touch")).collect();
    assert!(matches!(&of_touch[..], [line] if line.contains("grants clock coarse")), "{}", ended.stdout);
    assert!(!ended.stdout.contains("[method]") && !ended.stderr.contains("over-grant"), "{ended:?}");
    let json = check(folder.path(), &["p.yaml", "--format", "json"]).json();
    let clock = &json["pipelines"][0]["plugins"][0];
    assert_eq!(clock["grants"]["clock"], "coarse", "{json:#}");
    let touch = &json["pipelines"][0]["plugins"][1];
    assert!(
        touch["warnings"].as_array().unwrap().iter().any(|one| one.as_str().unwrap().contains("over-grant")),
        "{json:#}"
    );
}

/// A plugin that asks an API, with these grants.
fn enriching(url: &str, grants: &str) -> String {
    let config = format!("    config: {{ url: \"{url}\", take: {{ /rate: /rate }}, on_error: reject }}\n");
    pipeline("rates", &plugin("rates", "http-enrich", &(config + grants)))
}

/// The grants of a help text.
fn suggested(stderr: &str) -> String {
    let (_, rest) = stderr.split_once("add `grants: ").unwrap_or_else(|| panic!("{stderr}"));
    format!("    grants: {}\n", rest.split_once('`').unwrap().0)
}

#[test]
fn the_suggested_grant_lets_the_plugin_reach_what_its_configuration_names() {
    let url = "https://rates.example.com/v1/{{/currency}}";
    let folder = folder(&[("p.yaml", enriching(url, ""))]);
    let write = |text: String| fs::write(folder.path().join("p.yaml"), text).unwrap();
    let refused = check(folder.path(), &["p.yaml"]);
    assert_eq!(refused.code(), 2, "{refused:?}");
    let grants = suggested(&refused.stderr);
    holds(&grants, &["egress: [{ allow: \"https://rates.example.com\" }]"]);
    write(enriching(url, &grants));
    let taken = check(folder.path(), &["p.yaml"]);
    assert_eq!(taken.code(), 0, "{taken:?}");
    assert!(!taken.stdout.contains("every call"), "{}", taken.stdout);
    let decided = [
        "explain",
        "p.yaml",
        "--plugin",
        "rates",
        "--expect",
        "allow",
        "--request",
        "GET https://rates.example.com/v1/EUR",
    ];
    assert_eq!(run(folder.path(), &decided, LIMIT).code(), 0);

    write(enriching(url, &grants.replace("[{ allow: \"https://rates.example.com\" }]", "[]")));
    let empty = check(folder.path(), &["p.yaml"]);
    assert_eq!(empty.code(), 0, "{empty:?}");
    holds(&empty.stdout, &["warning: every call to the network will be refused", "https://rates.example.com"]);
    let plan = run(folder.path(), &["plan", "p.yaml", "--format", "json"], LIMIT).json();
    assert!(remarks(&plan).contains("plugin rates: every call to the network will be refused"), "{plan:#}");
}

#[test]
fn where_nothing_names_a_host_the_suggestion_has_a_place_to_fill_in_that_is_refused_as_it_is() {
    let folder = folder(&[("p.yaml", pipeline("p", &plugin("sockets", "imports-sockets", "")))]);
    let refused = check(folder.path(), &["p.yaml"]);
    holds(&refused.stderr, &["tcp://<host>:<port>", "stands for a host", "every call is refused"]);
    fs::write(
        folder.path().join("p.yaml"),
        pipeline("p", &plugin("sockets", "imports-sockets", &suggested(&refused.stderr))),
    )
    .unwrap();
    let pasted = check(folder.path(), &["p.yaml"]);
    assert_eq!((pasted.code(), pasted.stderr.contains("import.denied")), (2, false), "{pasted:?}");
    holds(&pasted.stderr, &["p.yaml:6:", "  help: "]);
    let component = guest("imports-sockets");
    let inspected = run(folder.path(), &["inspect", component.to_str().unwrap()], LIMIT);
    holds(&inspected.stdout, &["tcp://<host>:<port>", "# `<host>` stands for"]);
}

fn remarks(plan: &Value) -> String {
    let remarks = plan["pipelines"][0]["remarks"].as_array().unwrap();
    remarks.iter().map(|remark| format!("{}\n", remark.as_str().unwrap())).collect()
}

#[test]
fn a_plan_resolves_profiles_and_files_gives_the_origin_of_retries_and_remarks_on_rules_that_are_wide() {
    let grants = "    grants:\n      log: info\n      egress:\n        - \"https://a.example.com\"\n        - { allow: \"tcp://db.example.com:1-65535\", dangerous: true }\n    on: { retry: { attempts: 3 } }\n";
    let sockets = plugin("sockets", "imports-sockets", grants)
        + &plugin("schema", "json-schema", "    config: { schema: { $file: any.json } }\n");
    let text = pipeline("p", &sockets)
        .replace("source: { file: { path: p.in } }", "source: { kafka: { profile: main, topics: t } }")
        .replace("sink: { file: { path: p.out } }", "sink: { nats: { profile: hub, subject: s } }");
    let node =
        "brokers:\n  main: { kafka: { brokers: \"k1:9092,k2:9092\" } }\n  hub: { nats: { servers: nats://n1 } }\n";
    let folder = folder(&[("p.yaml", text), ("portcullis.yaml", naming_guests(node)), ("any.json", "true".to_owned())]);
    let ended = run(folder.path(), &["plan", "p.yaml", "--format", "json"], LIMIT);
    assert_eq!(ended.code(), 0, "{ended:?}");
    let plan = ended.json();
    let pipeline = &plan["pipelines"][0];
    assert_eq!(
        pipeline["sources"][0]["settings"][0][1], "k1:9092,k2:9092 by profile main (portcullis.yaml:3:3)",
        "{pipeline:#}"
    );
    assert_eq!(pipeline["sink"]["settings"][0][1], "nats://n1 by profile hub (portcullis.yaml:4:3)", "{pipeline:#}");
    let ways = pipeline["plugins"][0]["dispositions"].as_array().unwrap();
    let retry = ways.iter().find(|way| way[0] == "retry").unwrap()[1].as_str().unwrap();
    assert!(retry.starts_with("3 attempts (p.yaml:") && retry.ends_with("100ms..10s (default)"), "{retry}");
    let config = &pipeline["plugins"][1]["config"];
    assert!(config["digest"].as_str().unwrap().starts_with("sha256:"), "{config}");
    assert!(config["files"][0].as_str().unwrap().ends_with("any.json"), "{config}");
    holds(
        &remarks(&plan),
        &[
            "`https://a.example.com`: every method and every path is allowed",
            "is `dangerous`",
            "over-grant: the component does not import `log`",
        ],
    );
}

#[test]
fn a_configuration_that_a_plugin_refuses_is_shown_at_the_key_that_it_names() {
    let config = "    config:\n      json: { hash: [a] }\n      hash_key: short\n";
    let folder = folder(&[("p.yaml", pipeline("p", &plugin("redact", "redact", config)))]);
    let ended = check(folder.path(), &["p.yaml"]);
    holds(&ended.stderr, &["p.yaml:8:7: error[configure.failed]"]);
    fs::write(
        folder.path().join("p.yaml"),
        pipeline("p", &plugin("redact", "redact", &config.replace("      hash_key: short\n", ""))),
    )
    .unwrap();
    let missing = check(folder.path(), &["p.yaml"]);
    holds(&missing.stderr, &["p.yaml:6:5: error[configure.failed]"]);
}

#[test]
fn a_rule_that_is_refused_says_what_to_write() {
    let rules = "    grants: { egress: [\"*\", \"https://*.com\", \"tcp://db.example.com\"] }\n";
    let folder = folder(&[("p.yaml", pipeline("p", &plugin("touch", "touch", rules)))]);
    let ended = check(folder.path(), &["p.yaml"]);
    holds(&ended.stderr, &["error[match_all]", "error[public_suffix]", "error[port_missing]"]);
    assert_eq!(ended.stderr.matches("  help: write ").count(), 3, "{}", ended.stderr);
}

#[test]
fn a_topic_that_would_go_round_is_refused_with_what_it_is_and_one_of_the_audit_with_that() {
    let kafka = |sink: &str, letters: &str| {
        format!(
            "pipeline: p\nsource: {{ kafka: {{ brokers: \"localhost:9092\", topics: a }} }}\nsink: {{ kafka: {{ brokers: \"127.0.0.1\", {sink} }} }}\ndead_letter: {{ kafka: {{ topic: {letters} }} }}\n"
        )
    };
    let folder = folder(&[("portcullis.yaml", "audit: { topic: evidence, brokers: k }\n".to_owned())]);
    for (sink, letters, pieces) in [
        ("topic: a", "d", &["p.yaml:3:", "`a` come back to the source at p.yaml:2:", "help: name another topic"][..]),
        ("topic: b", "a", &["p.yaml:4:", "`a` come back to the source at p.yaml:2:"]),
        ("topic: '{{channel}}', allow: ['*']", "d", &["p.yaml:3:", "`a` come back"]),
        ("topic: d", "d", &["p.yaml:3:", "`d` is the pipeline's dead letter queue (p.yaml:4:", "help: "]),
        ("topic: evidence", "d", &["p.yaml:3:", "`evidence` is the audit topic (portcullis.yaml:1:"]),
    ] {
        fs::write(folder.path().join("p.yaml"), kafka(sink, letters)).unwrap();
        let ended = check(folder.path(), &["p.yaml"]);
        assert_eq!((ended.code(), ended.stderr.matches("error[").count()), (2, 1), "{sink} {letters}: {ended:?}");
        holds(&ended.stderr, pieces);
    }
    fs::write(folder.path().join("p.yaml"), kafka("topic: '{{key}}', allow: ['*']", "d")).unwrap();
    let may = check(folder.path(), &["p.yaml"]);
    assert_eq!(may.code(), 0, "{may:?}");
    holds(&may.stdout, &["warning: p.yaml:3:", "`a`, which the source at p.yaml:2:"]);
}
