//! What a call may use up: time, instructions, memory, stack, output, handles, host calls. A message that goes too far is dead
//! lettered with the kind of the fault, the next one gets a fresh instance.

use serde_json::{Value, json};

use super::scene::{Ran, Scene, budget, plugin};

/// Runs a guest on a good message, a bad one and a good one; the bad one must end with this fault, and that must be known.
fn faults(guest: &str, more: Value, kind: &str) -> Ran {
    faults_on(guest, more, "bad", kind)
}

fn faults_on(guest: &str, more: Value, bad: &str, kind: &str) -> Ran {
    let ran = Scene::new().bad(plugin(guest, more), &["ok first", bad, "ok last"]).run();
    let letters = ran.letters("bad");
    assert_eq!(letters.len(), 1, "{letters:#?}");
    assert_eq!((letters[0].value.as_str(), letters[0].reason.as_str()), (bad, kind), "{letters:#?}");
    assert_eq!(ran.values("bad"), ["ok first", "ok last"]);
    let code = if kind == "trap" { "plugin.trapped" } else { "budget.exceeded" };
    assert_eq!(ran.count(code, kind), 1, "{:#?}", ran.tally());
    assert_eq!(ran.count("record.quarantined", kind), 1, "{:#?}", ran.tally());
    for event in ran.events(code).into_iter().filter(|event| event["status_code"] == kind) {
        assert_eq!(event["actor"]["app_name"], format!("a/{guest}"), "{event:#}");
        assert!(event["metadata"]["correlation_uid"].as_str().unwrap().starts_with("bad/bad-in.jsonl-0@"), "{event:#}");
    }
    ran
}

#[test]
fn a_spinning_guest_runs_out_of_fuel_or_meets_its_deadline() {
    faults("spins-forever", json!({}), "fuel");
    faults("spins-forever", json!({ "limits": { "fuel": 1_000_000_000_000_u64 } }), "deadline");
}

#[test]
fn a_guest_that_sleeps_on_a_clock_meets_its_deadline_although_no_instruction_runs() {
    faults("sleeps-on-a-clock", json!({ "grants": { "clock": "coarse" } }), "deadline");
}

#[test]
fn memory_is_bounded_at_once_and_by_steps() {
    faults("allocates-without-end", json!({ "limits": { "deadline": "10s", "fuel": 100_000_000_000_u64 } }), "memory");
    let grows = plugin("grows-memory-by-steps", json!({ "limits": { "memory": "8MiB" } }));
    let ran = Scene::new().bad(grows, &["grow"; 12]).run();
    let letters = ran.letters("bad");
    assert!(!letters.is_empty() && letters.iter().all(|letter| letter.reason == "memory"), "{letters:#?}");
    assert_eq!(letters.len() + ran.values("bad").len(), 12);
    assert_eq!(ran.count("budget.exceeded", "memory"), letters.len() as u64);
    let event = ran.budgets()[0];
    assert_eq!((&budget(event)["limit"], &budget(event)["scope"]), (&json!(8 << 20), &json!("instance")), "{event:#}");
}

#[test]
fn what_a_call_writes_into_its_message_is_bounded() {
    faults("returns-too-much", json!({}), "output");
    faults("bombs-output", json!({ "limits": { "deadline": "10s", "fuel": 100_000_000_000_u64 } }), "output");
}

#[test]
fn host_calls_are_bounded() {
    faults(
        "calls-host-without-end",
        json!({ "limits": { "deadline": "10s", "fuel": 100_000_000_000_u64 } }),
        "host_calls",
    );
}

#[test]
fn calls_of_wasi_are_refused_one_by_one_at_the_limit() {
    const WAYS: [&str; 8] =
        ["environment", "stdout", "stderr and its end", "terminal-stdin", "folders", "ready", "poll", "check-write"];
    let calls = plugin(
        "calls-wasi-without-end",
        json!({ "limits": { "host_calls": 1000, "deadline": "10s", "fuel": 100_000_000_000_u64, "restarts": "1000/s" } }),
    );
    let ran = Scene::new().bad(calls, &[&["ok first"], &WAYS[..], &["ok last"]].concat()).run();
    let letters = ran.letters("bad");
    let told: Vec<(&str, &str)> =
        letters.iter().map(|letter| (letter.value.as_str(), letter.reason.as_str())).collect();
    assert_eq!(told, WAYS.map(|way| (way, "host_calls")));
    assert_eq!(ran.values("bad"), ["ok first", "ok last"]);
    assert_eq!(ran.count("host.call", ""), 1001 * WAYS.len() as u64, "none behind the refused one: {:#?}", ran.tally());
}

#[test]
fn handles_are_bounded_in_a_call_and_over_calls() {
    faults_on(
        "uses-wasi",
        json!({ "grants": { "clock": "coarse" }, "limits": { "deadline": "10s" } }),
        "hoard",
        "handles",
    );
    let leaks = plugin("leaks-handles", json!({ "grants": { "clock": "coarse" }, "limits": { "handles": 500 } }));
    let ran = Scene::new().bad(leaks, &["leak"; 12]).run();
    let letters = ran.letters("bad");
    assert!((2..=4).contains(&letters.len()), "{letters:#?}");
    assert!(letters.iter().all(|letter| letter.reason == "handles"), "{letters:#?}");
}

#[test]
fn random_numbers_are_bounded_in_one_call() {
    faults("floods-random", json!({ "grants": { "random": true } }), "quota");
    let many = json!({ "grants": { "random": true }, "config": { "bytes": 16 }, "limits": { "host_calls": 1000, "deadline": "10s" } });
    faults("floods-random", many, "host_calls");
}

#[test]
fn a_guest_that_traps_costs_its_own_message() {
    faults("traps", json!({}), "trap");
    faults("exits", json!({}), "trap");
    faults("speaks-no-utf8", json!({}), "trap");
}

#[test]
fn a_guest_that_was_good_for_a_while_is_caught_when_it_is_not() {
    let ran = Scene::new().bad(plugin("traps-after-n", json!({})), &["1", "2", "3", "4", "5", "6", "7"]).run();
    assert_eq!(ran.values("bad"), ["1", "2", "3", "5", "6", "7"]);
    assert_eq!(ran.letters("bad")[0].reason, "trap");
    assert_eq!(ran.count("plugin.trapped", "trap"), 1, "{:#?}", ran.tally());
}

#[test]
fn a_handle_that_was_made_up_or_kept_answers_for_no_other_message() {
    let ran = Scene::new().bad(plugin("forges-handles", json!({})), &["ok first", "forge", "ok last"]).run();
    let letters = ran.letters("bad");
    assert!(letters.iter().all(|letter| letter.code != "forged"), "{letters:#?}");
    assert_eq!(letters.iter().map(|letter| letter.reason.as_str()).collect::<Vec<_>>(), ["trap"], "{letters:#?}");

    let ran = Scene::new().bad(plugin("keeps-a-handle", json!({})), &["1", "2", "3", "4"]).run();
    let letters = ran.letters("bad");
    assert!(letters.iter().all(|letter| letter.code != "kept"), "{letters:#?}");
    assert_eq!(letters.len() + ran.values("bad").len(), 4);
}

#[test]
fn a_granted_clock_is_no_finer_than_its_grant() {
    let probes = plugin("probes-the-clock", json!({ "grants": { "clock": "coarse" }, "limits": { "deadline": "2s" } }));
    let ran = Scene::new().bad(probes, &["probe"]).run();
    let out = ran.out("bad");
    assert_eq!(out.len(), 1, "{:#?}", ran.letters("bad"));
    for name in ["monotonic-step-ns", "wall-step-ns"] {
        let header = out[0]["headers"].as_array().unwrap().iter().find(|header| header[0] == name).unwrap();
        let step = header[1].as_str().unwrap();
        assert!(step == "none" || step.parse::<u64>().unwrap() >= 1_000_000, "{name} {step}");
    }
    assert_eq!(ran.count("host.call", ""), 20_002, "each reading is counted: {:#?}", ran.tally());
}

#[test]
fn there_is_no_environment_and_no_folder_to_be_found() {
    let scene = Scene::new().env("CANARY", "canary-of-the-process");
    let ran = scene
        .bad(plugin("reads-the-environment", json!({})), &["look"])
        .pipeline_of("folders", "a", json!({}), plugin("probes-preopens", json!({})), &["look"])
        .run();
    assert_eq!((ran.values("bad"), ran.values("folders")), (vec!["look".to_owned()], vec!["look".to_owned()]));
    let everything = format!("{:?}{:?}{:?}", ran.finished, ran.events, ran.out("bad"));
    assert!(!everything.contains("canary-of-the-process"));
}
