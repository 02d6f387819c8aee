//! The sandbox with real components. The hostile ones are named after what they do wrong.

mod corpus;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use portcullis_connector_api::{Header, Message, Timestamp};
use portcullis_flow::FaultKind;

use super::*;

/// A component that `cargo xtask guests` has built.
pub(crate) fn guest(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("target/guests/{name}.wasm"));
    assert!(path.exists(), "{} is missing: run `cargo xtask guests`", path.display());
    path
}

/// One for all tests, as in a process. Without a cache on disk: what is tested is what was compiled here.
fn sandbox() -> &'static Sandbox {
    static SANDBOX: OnceLock<Arc<Sandbox>> = OnceLock::new();
    SANDBOX.get_or_init(|| Sandbox::new(SandboxOptions::default()).unwrap())
}

fn spec(component: PathBuf) -> PluginSpec {
    PluginSpec {
        name: "tested".into(),
        pipeline: "tests".into(),
        tenant: "tests".into(),
        component,
        digest: None,
        config_json: "{}".to_owned(),
        grants: Grants::default(),
        left_out: Vec::new(),
        // A busy machine must not turn another fault into this one; the tests of the deadline set their own.
        limits: Limits { deadline_ms: 60_000, ..Limits::default() },
        sums: Sums::default(),
    }
}

fn link_with(name: &str, change: impl FnOnce(&mut PluginSpec)) -> Result<Arc<LinkedPlugin>, LinkError> {
    let mut spec = spec(guest(name));
    change(&mut spec);
    sandbox().link(spec)
}

fn instance_with(name: &str, change: impl FnOnce(&mut PluginSpec)) -> Instance {
    link_with(name, change).unwrap().instantiate(None).unwrap()
}

fn instance(name: &str) -> Instance {
    instance_with(name, |_| {})
}

fn cut_bytes(usage: &Usage) -> u64 {
    usage.log_cuts.iter().map(|cut| cut.bytes).sum()
}

fn message() -> Message {
    let mut message = Message::new("orders.raw");
    message.key = Some("key".into());
    message.value = Some(r#"{"id": 7}"#.into());
    message.headers = [Header::new("trace", Some("abc")), Header::new("trace", None::<&str>)].into_iter().collect();
    message.timestamp = Timestamp::Created(1_700_000_000_123);
    message
}

/// Runs a plugin that fails, and checks what holds for every failure: the message is as it came, the instance is spent,
/// and the plugin goes on with a new one.
fn fault_of(mut instance: Instance) -> Fault {
    let mut message = message();
    let Outcome::Fault(fault) = instance.process(&mut message) else { panic!("the plugin did not fail") };
    assert_eq!(message, self::message(), "a fault leaves the message as it came");
    assert!(instance.is_spent());
    assert!(matches!(instance.process(&mut message), Outcome::Fault(_)), "a spent instance runs nothing");
    assert!(!instance.plugin().instantiate(None).unwrap().is_spent());
    fault
}

#[test]
fn a_validator_reads_a_message_and_leaves_it_as_it_is() {
    let mut instance = instance("touch");
    for value in [Some("text"), Some(""), None] {
        let mut message = message();
        message.value = value.map(Into::into);
        let before = message.clone();
        assert_eq!(instance.process(&mut message), Outcome::Pass);
        assert_eq!(message, before);
    }
    let usage = instance.usage();
    assert!(usage.fuel > 0 && usage.memory_bytes > 0 && usage.host_calls.is_empty(), "{usage:?}");
}

#[test]
fn what_was_linked_can_be_asked() {
    let plugin = link_with("touch", |_| {}).unwrap();
    assert_eq!((plugin.kind(), plugin.world()), (Kind::Validator, "portcullis:plugin/validator@0.1.0"));
    assert!(plugin.digest().starts_with("sha256:"));
    let pinned = link_with("touch", |spec| spec.digest = Some(plugin.digest().to_owned())).unwrap();
    assert_eq!(pinned.digest(), plugin.digest());
}

#[test]
fn every_kind_of_edit_is_in_the_message_when_the_verdict_is_pass() {
    let mut instance = instance("edits-all");
    let mut edited = message();
    edited.headers.append(Header::new("remove-me", Some("1")));
    assert_eq!(instance.process(&mut edited), Outcome::Pass);
    assert_eq!(edited.value.as_deref(), Some(&br#"edited:{"id": 7}"#[..]));
    assert_eq!(edited.key.as_deref(), Some(&b"edited-key"[..]));
    let expected = [
        ("trace", Some("abc")),
        ("trace", None),
        ("set-me", Some("new")),
        ("null", None),
        ("double", Some("1")),
        ("double", Some("")),
        ("removed", Some("1")),
        ("read-back", Some("new")),
    ];
    let expected: Vec<Header> = expected.into_iter().map(|(name, value)| Header::new(name, value)).collect();
    assert_eq!(edited.headers.as_slice(), expected);
    assert_eq!((edited.timestamp, edited.channel), (message().timestamp, message().channel));
}

#[test]
fn edits_are_forgotten_when_the_verdict_is_not_pass() {
    let mut instance = instance("edits-all");
    for value in ["reject", "pass", "reject"] {
        let mut message = message();
        message.value = Some(value.into());
        let before = message.clone();
        let outcome = instance.process(&mut message);
        assert_eq!(matches!(outcome, Outcome::Reject(_)), value == "reject", "{outcome:?}");
        assert_eq!(message == before, value == "reject", "{message:?}");
    }
}

#[test]
fn an_edit_is_not_seen_by_another_holder_of_the_message() {
    let mut instance = instance("touch-edit");
    let (mut edited, other) = (message(), message());
    let mut shared = edited.clone();
    assert_eq!(instance.process(&mut edited), Outcome::Pass);
    assert_eq!(edited.headers.len(), other.headers.len() + 1);
    assert_eq!(shared, other);
    assert_eq!(instance.process(&mut shared), Outcome::Pass);
    assert_eq!(shared, edited);
}

#[test]
fn each_verdict_has_its_outcome_and_a_reason_of_its_own_call() {
    let mut drops = instance("drops");
    let mut message = message();
    message.value = Some("drop".into());
    let Outcome::Drop(reason) = drops.process(&mut message) else { panic!("it was not dropped") };
    assert_eq!(reason.code, "asked");
    let mut retries = instance("retries-twice");
    for attempt in 1..=2 {
        let outcome = retries.process(&mut message);
        assert!(
            matches!(&outcome, Outcome::Retry(reason) if reason.detail == format!("attempt {attempt}")),
            "{outcome:?}"
        );
    }
    assert_eq!(retries.process(&mut message), Outcome::Pass);
}

#[test]
fn a_reason_is_escaped_and_cut_at_a_character() {
    let mut instance = instance("echo-reason");
    let mut message = message();
    message.value = Some(format!("code\n{} {}\u{1b}[31m", "ö".repeat(100), "ä".repeat(1000)).into());
    let Outcome::Reject(reason) = instance.process(&mut message) else { panic!("it was not rejected") };
    assert_eq!(reason.code, format!("code\\n{}", "ö".repeat(29)));
    assert_eq!(reason.detail, "ä".repeat(512));
}

#[test]
fn a_value_of_a_mebibyte_and_a_thousand_headers_pass() {
    let mut instance = instance("touch");
    let mut message = message();
    message.value = Some(vec![7; 1 << 20].into());
    message.headers = (0..1000).map(|_| Header::new("name", Some("value"))).collect();
    assert_eq!(instance.process(&mut message), Outcome::Pass);
    assert_eq!((message.value.map(|value| value.len()), message.headers.len()), (Some(1 << 20), 1000));
}

#[test]
fn a_trap_is_a_fault_of_its_message_alone() {
    assert_eq!(fault_of(instance("traps")).kind, FaultKind::Trap);
}

/// Alone, and on a processor that is shared, where it lets others go first in each millisecond.
#[test]
fn a_plugin_that_spins_ends_at_its_deadline_and_not_before() {
    for turns in [None, Some(Turns::among(2, &[1, 1]).swap_remove(0))] {
        let is_shared = turns.is_some();
        let mut instance = instance_with("spins-forever", |spec| {
            (spec.limits.fuel, spec.limits.deadline_ms) = (u64::MAX / 100, 100);
            spec.sums.turns = turns;
        });
        let (started, slept) = (Instant::now(), times_slept());
        let outcome = instance.process(&mut message());
        let (took, slept) = (started.elapsed(), times_slept() - slept);
        let Outcome::Fault(fault) = outcome else { panic!("{outcome:?}") };
        assert_eq!((fault.kind, fault.detail.as_str()), (FaultKind::Deadline, "limit=100ms"));
        assert!((Duration::from_millis(100)..Duration::from_secs(10)).contains(&took), "{took:?}");
        // On a busy machine ticks are late and few, but not all of them.
        assert_eq!(slept >= 5, is_shared, "slept {slept} times");
    }
}

/// How often this thread has given its core away of its own accord.
fn times_slept() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
    line.trim().parse().unwrap()
}

#[test]
fn a_plugin_that_spins_ends_when_its_fuel_is_used_up() {
    let fault = fault_of(instance_with("spins-forever", |spec| {
        (spec.limits.fuel, spec.limits.deadline_ms) = (1_000_000, 60_000);
    }));
    assert_eq!((fault.kind, fault.detail.as_str()), (FaultKind::Fuel, "limit=1000000"));
}

#[test]
fn a_plugin_that_allocates_without_end_meets_its_memory_limit() {
    let fault = fault_of(instance_with("allocates-without-end", |spec| spec.limits.memory_bytes = 8 << 20));
    assert_eq!(fault.kind, FaultKind::Memory);
    assert!(fault.detail.starts_with("limit=8388608 "), "{fault}");
}

#[test]
fn a_plugin_that_recurses_without_end_meets_its_stack_limit() {
    assert_eq!(fault_of(instance("recurses-without-end")).kind, FaultKind::Stack);
}

#[test]
fn an_output_past_its_limit_is_a_fault_before_it_is_copied() {
    let fault = fault_of(instance("returns-too-much"));
    assert_eq!(
        (fault.kind, fault.detail.starts_with("limit=1048576 wanted=2097")),
        (FaultKind::Output, true),
        "{fault}"
    );
    let fault = fault_of(instance_with("returns-too-much", |spec| spec.config_json = r#"{"bytes": 20000000}"#.into()));
    assert_eq!(fault.kind, FaultKind::Output, "{fault}");
    let mut allowed = instance_with("returns-too-much", |spec| {
        (spec.config_json, spec.limits.output_bytes) = (r#"{"bytes": 20000000}"#.into(), 32 << 20);
    });
    assert_eq!(allowed.process(&mut message()), Outcome::Pass, "a limit that the operator raised is the limit");
}

#[test]
fn a_plugin_that_calls_the_host_without_end_meets_its_limit() {
    let fault = fault_of(instance_with("calls-host-without-end", |spec| {
        (spec.limits.fuel, spec.limits.deadline_ms, spec.limits.host_calls) = (u64::MAX / 100, 60_000, 1000);
    }));
    assert_eq!((fault.kind, fault.detail.as_str()), (FaultKind::HostCalls, "limit=1000"));
}

#[test]
fn log_lines_past_their_limit_are_cut_and_counted_and_the_message_passes() {
    let mut instance = instance_with("logs-without-end", |spec| {
        (spec.grants.log, spec.limits.log_bytes) = (Some(Level::Debug), 1000);
    });
    assert_eq!(instance.process(&mut message()), Outcome::Pass);
    let usage = instance.usage();
    assert_ne!(usage.log_cuts, [], "{usage:?}");
    assert_eq!(usage.host_calls[0].0, "portcullis:plugin/log.write");
    assert_eq!(instance.usage().log_cuts, [], "counted once");
}

#[test]
fn a_configuration_that_the_plugin_refuses_is_shown_in_its_own_words() {
    let Err(LinkError::Configure { detail }) = link_with("fails-in-configure", |_| {}) else { panic!("it was linked") };
    assert!(!detail.is_empty());
}

#[test]
fn an_import_that_is_not_granted_is_named_with_the_line_to_add() {
    let error = link_with("asks-the-clock", |spec| spec.grants = Grants { clock: None, ..all_grants() }).unwrap_err();
    assert!(
        matches!(&error, LinkError::ImportNotGranted { capabilities, .. } if capabilities.contains(&"clock")),
        "{error}"
    );
    let text = error.to_string();
    assert!(text.contains("wasi:clocks/") && text.contains("grants: { clock: coarse }"), "{text}");
}

#[test]
fn a_granted_clock_is_linked_and_its_use_is_counted() {
    let plugin = link_with("asks-the-clock", |spec| spec.grants = all_grants()).unwrap();
    assert!(plugin.imports().iter().any(|import| import.starts_with("wasi:clocks/")), "{:?}", plugin.imports());
    let mut instance = plugin.instantiate(None).unwrap();
    instance.usage();
    assert_eq!(instance.process(&mut message()), Outcome::Pass);
    let usage = instance.usage();
    assert!(usage.host_calls.iter().any(|(name, count)| name.starts_with("wasi:clocks/") && *count > 0), "{usage:?}");
}

#[test]
fn what_is_optional_and_was_not_granted_is_linked_and_each_call_of_it_is_refused() {
    let without = |left_out: Wish| {
        instance_with("asks-the-clock", |spec| {
            spec.left_out = vec![left_out];
            spec.grants = match left_out {
                Wish::Clock => Grants { clock: None, ..all_grants() },
                Wish::Log => Grants { log: None, ..all_grants() },
                _ => Grants { random: false, ..all_grants() },
            };
        })
    };
    for wish in [Wish::Clock, Wish::Random] {
        let fault = fault_of(without(wish));
        assert_eq!(fault.kind, FaultKind::CapabilityDenied, "{fault}");
        assert!(fault.detail.contains(wish.as_str()), "{fault}");
    }
    let mut silent = without(Wish::Log);
    assert_eq!(silent.process(&mut message()), Outcome::Pass, "a line that nobody keeps is no fault");
    assert_ne!(silent.usage().log_cuts, []);
}

#[test]
fn sockets_are_linked_by_the_grant_and_by_nothing_else() {
    let error = link_with("imports-sockets", |spec| spec.grants = all_grants()).unwrap_err();
    assert!(matches!(&error, LinkError::ImportNotGranted { yaml, .. } if yaml.contains("egress: []")), "{error}");
    let granted = link_with("imports-sockets", |spec| spec.grants = Grants { egress: true, ..all_grants() });
    assert!(granted.unwrap().may_wait(), "a call of the network is never made where a time-out cannot end it");
}

fn all_grants() -> Grants {
    Grants { log: Some(Level::Debug), clock: Some(Clock::Precise), random: true, egress: false }
}

#[test]
fn a_component_of_another_world_or_another_version_is_refused() {
    let error = link_with("other-world", |_| {}).unwrap_err();
    assert!(matches!(error, LinkError::World { .. }), "{error}");
    let error = link_with("other-version", |_| {}).unwrap_err();
    assert!(matches!(error, LinkError::ContractVersion { .. }), "{error}");
}

#[test]
fn a_file_that_is_missing_or_no_component_or_not_the_pinned_one_is_refused() {
    let missing = sandbox().link(spec("no/such/file.wasm".into())).unwrap_err();
    assert!(matches!(missing, LinkError::NotFound { .. }), "{missing}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plugin.wasm");
    for (bytes, found) in [(&b"(component)"[..], FoundFile::Text), (b"\0asm\x01\0\0\0", FoundFile::CoreModule)] {
        std::fs::write(&file, bytes).unwrap();
        let error = sandbox().link(spec(file.clone())).unwrap_err();
        assert!(matches!(error, LinkError::NotAComponent { found: what } if what == found), "{error}");
    }
    let other = format!("sha256:{}", "0".repeat(64));
    let error = link_with("touch", |spec| spec.digest = Some(other)).unwrap_err();
    assert!(matches!(error, LinkError::Digest { .. }), "{error}");
}

#[test]
fn a_component_is_taken_from_the_cache_of_another_process() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Some(folder.path().join("cache"));
    for _ in 0..2 {
        let sandbox = Sandbox::new(SandboxOptions { cache: cache.clone(), compiler: None }).unwrap();
        let plugin = sandbox.link(spec(guest("touch"))).unwrap();
        assert_eq!(plugin.instantiate(None).unwrap().process(&mut message()), Outcome::Pass);
    }
    let entries = std::fs::read_dir(folder.path().join("cache")).unwrap().count();
    assert_eq!(entries, 2, "the key and one entry");
}

fn uses_wasi(deadline_ms: u64) -> Instance {
    instance_with("uses-wasi", |spec| {
        spec.grants = Grants { clock: Some(Clock::Coarse), ..Grants::default() };
        (spec.limits.fuel, spec.limits.deadline_ms) = (u64::MAX / 100, deadline_ms);
    })
}

fn of_value(value: &str) -> Message {
    let mut message = message();
    message.value = Some(value.to_owned().into());
    message
}

#[test]
fn standard_output_is_log_text_under_the_log_grant_and_its_limit() {
    let text = "line\n".repeat(800);
    let mut granted = instance_with("uses-wasi", |spec| {
        spec.grants = all_grants();
        spec.limits.log_bytes = 1000;
    });
    assert_eq!(granted.process(&mut of_value(&text)), Outcome::Pass);
    let usage = granted.usage();
    // A line costs 128 bytes beside its text: eight of 800 fit.
    assert_eq!(cut_bytes(&usage), 3200 - 8 * 4, "{usage:?}");
    assert!(
        usage.host_calls.contains(&("wasi:cli/stdio", 1)) && usage.host_calls.contains(&("wasi:cli/environment", 2))
    );
    let mut silent = instance_with("uses-wasi", |spec| spec.grants.clock = Some(Clock::Coarse));
    assert_eq!(silent.process(&mut of_value(&text)), Outcome::Pass);
    assert_eq!(cut_bytes(&silent.usage()), 3200);
}

#[test]
fn a_plugin_that_waits_goes_on_and_one_that_waits_without_end_meets_its_deadline() {
    assert_eq!(uses_wasi(60_000).process(&mut of_value("wait")), Outcome::Pass);
    for value in ["wait forever", "wait and spin"] {
        let mut instance = uses_wasi(50);
        let started = Instant::now();
        let mut message = of_value(value);
        let outcome = instance.process(&mut message);
        let took = started.elapsed();
        assert!(matches!(&outcome, Outcome::Fault(fault) if fault.kind == FaultKind::Deadline), "{value}: {outcome:?}");
        assert!((Duration::from_millis(50)..Duration::from_secs(10)).contains(&took), "{value}: {took:?}");
        assert_eq!(message, of_value(value));
        assert!(instance.is_spent());
    }
}

/// A tenant with one turn, whose other plugin computes: what waits for the turn beside a call holds up the call's thread.
#[test]
fn a_call_does_not_pay_for_the_time_in_which_a_neighbour_on_its_thread_waits_for_a_turn() {
    const HELD: Duration = Duration::from_millis(200);
    const ROUNDS: u32 = 8;
    let turns = Turns::among(1, &[1]).swap_remove(0);
    let mut instance = instance_with("uses-wasi", |spec| {
        spec.grants = Grants { clock: Some(Clock::Coarse), ..Grants::default() };
        spec.limits.deadline_ms = 800;
        spec.sums.turns = Some(Arc::clone(&turns));
    });
    let (asks, asked) = std::sync::mpsc::sync_channel(1);
    let (took, taken) = std::sync::mpsc::sync_channel(1);
    let (never, nothing) = std::sync::mpsc::sync_channel::<()>(1);
    let (outcome, held_up) = std::thread::scope(|scope| {
        let turns = &turns;
        scope.spawn(move || {
            while let Ok(()) = asked.recv() {
                let _turn = turns.take();
                took.send(()).unwrap();
                assert!(nothing.recv_timeout(HELD).is_err());
            }
        });
        let mut message = of_value("wait");
        // Its first part runs at once; when its millisecond is over, its thread is held up.
        let call = instance.process_waiting(&mut message);
        let neighbour = async {
            let begun = Instant::now();
            for _ in 0..ROUNDS {
                asks.send(()).unwrap();
                taken.recv().unwrap();
                drop(turns.take());
            }
            drop(asks);
            begun.elapsed()
        };
        waiting::handle().unwrap().block_on(futures_util::future::join(call, neighbour))
    });
    drop(never);
    assert!(held_up >= HELD * (ROUNDS - 1), "{held_up:?}");
    assert_eq!(outcome, Outcome::Pass);
}

#[test]
fn a_plugin_that_hoards_handles_meets_its_limit() {
    let outcome = uses_wasi(60_000).process(&mut of_value("hoard"));
    assert!(matches!(&outcome, Outcome::Fault(fault) if fault.kind == FaultKind::Handles), "{outcome:?}");
}

/// What the guest `calls-wasi-without-end` can call. None of it needs a grant.
const WASI_CALLS: [&str; 24] = [
    "environment",
    "arguments",
    "cwd",
    "stdin",
    "stdout",
    "stderr and its end",
    "terminal-stdin",
    "terminal-stdout",
    "terminal-stderr",
    "folders",
    "ready",
    "block",
    "poll",
    "read",
    "blocking-read",
    "skip",
    "subscribe and its end",
    "check-write",
    "write",
    "blocking-write-and-flush",
    "flush",
    "blocking-flush",
    "write-zeroes",
    "splice",
];

#[test]
fn a_call_of_wasi_ends_at_the_very_call_that_crosses_the_budget() {
    let plugin = link_with("calls-wasi-without-end", |spec| spec.limits.host_calls = 100).unwrap();
    for way in WASI_CALLS {
        let mut instance = plugin.instantiate(None).unwrap();
        instance.usage();
        let outcome = instance.process(&mut of_value(way));
        assert!(matches!(&outcome, Outcome::Fault(fault) if fault.kind == FaultKind::HostCalls), "{way}: {outcome:?}");
        let calls: u64 = instance.usage().host_calls.iter().map(|(_, calls)| calls).sum();
        assert_eq!(calls, 101, "{way}: the last one was refused, and there is none behind it");
    }
}

#[test]
fn what_was_examined_is_linked_whatever_happens_to_its_file_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plugin.wasm");
    std::fs::copy(guest("touch"), &path).unwrap();
    let file = ComponentFile::read(&path).unwrap();
    let examined = sandbox().examine(&file).unwrap();
    std::fs::copy(guest("traps-in-configure"), &path).unwrap();
    let linked = sandbox().link_file(&file, spec(path.clone())).unwrap();
    assert_eq!((linked.digest(), linked.kind()), (examined.digest.as_str(), examined.kind));
    std::fs::remove_file(&path).unwrap();
    assert!(sandbox().link_file(&file, spec(path)).is_ok(), "nothing is read a second time");
}
