//! What does not start: the whole process is refused with the place and the reason, nothing of it has run, and the audit says so.

use std::time::Duration;

use serde_json::{Value, json};

use super::scene::{Ran, Scene, plugin};

/// The process must be refused with this diagnostic, at the component's entry, and with the same in the audit.
fn refuses(guest: &str, more: Value, slug: &str, pieces: &[&str]) -> Ran {
    let ran = Scene::new().bad(plugin(guest, more), &["any"]).refused();
    let error = &ran.finished.stderr;
    assert!(error.contains(&format!("error[{slug}]")) && error.contains("bad.yaml:"), "{error}");
    for piece in pieces {
        assert!(error.contains(piece), "{piece} is missing in\n{error}");
    }
    assert_eq!(ran.count("plugin.linked", ""), 0, "{:#?}", ran.tally());
    assert_eq!(ran.count("plugin.rejected", slug), 1, "{:#?}", ran.tally());
    ran
}

#[test]
fn a_guest_that_fails_before_its_first_message_is_refused_with_its_fault() {
    let fuel = json!({ "limits": { "fuel": 100_000_000_000_u64 } });
    refuses("allocates-in-configure", fuel, "configure.failed", &["memory limit=67108864"]);
    refuses("spins-in-configure", json!({}), "configure.failed", &["fuel limit=50000000"]);
    refuses("traps-in-configure", json!({}), "configure.failed", &["trap"]);
    refuses("fails-in-configure", json!({}), "configure.failed", &["the table of rates is empty"]);
    refuses("fails-in-configure", json!({ "config": { "how": "trap" } }), "configure.failed", &["trap"]);
    let spin = json!({ "config": { "how": "spin" }, "limits": { "fuel": 1_000_000_000_000_u64 } });
    refuses("fails-in-configure", spin, "configure.failed", &["deadline limit="]);
}

#[test]
fn a_gibibyte_in_many_small_memories_is_refused() {
    let ran = refuses("many-memories", json!({}), "configure.failed", &["memory limit=67108864"]);
    assert!(!ran.finished.stderr.contains("panicked"));
    refuses(
        "many-memories",
        json!({ "limits": { "memory": "512MiB" } }),
        "configure.failed",
        &["memory count too high"],
    );
}

#[test]
fn an_import_that_the_manifest_hides_is_refused_even_where_it_is_granted() {
    refuses("lies-in-its-manifest", json!({ "grants": { "clock": "precise" } }), "manifest.import", &["wasi:clocks"]);
}

#[test]
fn an_import_without_a_grant_is_refused() {
    refuses("imports-sockets", json!({}), "import.denied", &["wasi:sockets", "egress"]);
    refuses(
        "asks-the-clock",
        json!({ "grants": { "random": true, "log": "info" } }),
        "import.denied",
        &["clock: coarse"],
    );
}

#[test]
fn two_manifests_are_refused_for_nobody_knows_which_one_was_read() {
    refuses("carries-two-manifests", json!({}), "manifest.invalid", &["manifest"]);
}

#[test]
fn a_component_of_another_kind_or_of_two_kinds_is_refused() {
    refuses("exports-twice", json!({}), "world.mismatch", &["validat", "enrich"]);
    refuses("other-world", json!({}), "world.mismatch", &[]);
    refuses("other-version", json!({}), "contract.version", &["0.2.0", "0.1.0"]);
}

#[test]
fn a_component_inside_a_component_gets_nothing_and_is_never_started() {
    let ran = Scene::new().bad(plugin("smuggles-a-component", json!({})), &["1", "2"]).run();
    ran.assert_nothing_left();
    assert_eq!(ran.values("bad"), ["1", "2"]);
    let linked =
        ran.events("plugin.linked").into_iter().find(|event| event["app"]["name"] == "a/smuggles-a-component").unwrap();
    assert!(!linked["policy"].to_string().contains("wasi:sockets"), "{linked:#}");
}

#[test]
fn a_refusal_does_not_take_long() {
    let begun = std::time::Instant::now();
    refuses(
        "spins-in-configure",
        json!({ "limits": { "fuel": 1_000_000_000_000_u64, "deadline": "1s" } }),
        "configure.failed",
        &["deadline"],
    );
    assert!(begun.elapsed() < Duration::from_secs(20));
}
