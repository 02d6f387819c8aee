use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use portcullis_audit::{Mode, Options};
use portcullis_connector_api::Headers;

use super::*;
use crate::evidence::Wire;
use crate::support::{Bench, PATIENCE, code, limits, rule};
use crate::{Budget, BudgetLimits, NetLimits, Record};

fn nobody() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9))
}

fn connect(to: &str) -> Request<'static> {
    Request::Connect { to: to.parse().unwrap() }
}

fn name(_: Reason) -> &'static str {
    "access-denied"
}

fn record(offset: i64) -> Record {
    Record {
        pipeline: "orders".into(),
        channel: "orders.raw".into(),
        partition: 0,
        offset,
        headers: Headers::default(),
    }
}

#[tokio::test]
async fn a_refusal_is_told_once_in_full_and_then_counted() {
    let bench = Bench::new(&[rule("tcp://93.184.216.34:443")], nobody(), limits(), Vec::new());
    let gate = Gate::new(Some(Arc::clone(&bench.egress)));
    gate.begin(Some(record(7)));
    for _ in 0..1000 {
        let denied = gate.ask_connect(&connect("93.184.216.34:80"), name).unwrap_err();
        assert_eq!(denied.reason, Reason::RulePort);
    }
    drop(gate);
    let events = bench.full();
    assert!(events.iter().all(|event| code(event) == "net.connect.denied"));
    let told: u64 = events.iter().map(|event| event["count"].as_u64().unwrap_or(1)).sum();
    assert_eq!(told, 1000, "{} events", events.len());
    assert!(events.len() < 10);
    assert!(events[0].to_string().contains("orders/orders.raw-0@7"));
    assert_eq!(events[0]["dst_endpoint"]["ip"], "93.184.216.34");
    assert_eq!(events[0]["status_detail"], "rule.port");
}

#[tokio::test]
async fn without_an_egress_everything_is_refused_and_nothing_is_told() {
    let gate = Gate::new(None);
    for request in [connect("93.184.216.34:443"), Request::Lookup { name: "ok.test" }] {
        assert_eq!(gate.decide(&request).unwrap_err().reason, Reason::CapabilityAbsent);
    }
    assert!(gate.ask_connect(&connect("93.184.216.34:443"), name).is_err());
}

#[tokio::test]
async fn connections_are_counted_at_every_level_and_given_back() {
    let own = NetLimits { connections: 3, ..limits() };
    let tenant =
        Budget::new(portcullis_audit::Scope::Tenant, BudgetLimits { connections: Some(2), ..BudgetLimits::default() });
    let bench = Bench::new(&[rule("tcp://93.184.216.34:443")], nobody(), own, vec![Arc::clone(&tenant)]);
    let gate = Gate::new(Some(Arc::clone(&bench.egress)));
    let allowed = connect("93.184.216.34:443");
    let taken: Vec<_> = (0..2).map(|_| gate.ask_connect(&allowed, name).unwrap()).collect();
    assert_eq!(gate.ask_connect(&allowed, name).unwrap_err().reason, Reason::QuotaSockets);
    assert!(gate.ask_connect(&connect("93.184.216.34:80"), name).is_err());
    assert_eq!(tenant.open(), 2, "a refusal takes nothing");
    drop(taken);
    assert_eq!(tenant.open(), 0);
    assert!(gate.ask_connect(&allowed, name).is_ok());
    let told = bench.events();
    let expected =
        ["budget.exceeded quota.sockets", "net.connect.denied quota.sockets", "net.connect.denied rule.port"];
    assert_eq!(told, expected);
    assert_eq!(bench.full()[0]["unmapped"]["budget"]["scope"], "tenant");
}

#[tokio::test]
async fn connects_past_their_rate_are_refused_and_take_no_place() {
    let few = NetLimits { connects: (2, Duration::from_secs(3600)), ..limits() };
    let node = Budget::new(portcullis_audit::Scope::Node, BudgetLimits::default());
    let bench = Bench::new(&[rule("tcp://93.184.216.34:443")], nobody(), few, vec![Arc::clone(&node)]);
    let gate = Gate::new(Some(Arc::clone(&bench.egress)));
    let allowed = connect("93.184.216.34:443");
    for _ in 0..2 {
        drop(gate.ask_connect(&allowed, name).unwrap());
    }
    assert_eq!(gate.ask_connect(&allowed, name).unwrap_err().reason, Reason::QuotaConnectRate);
    assert_eq!(node.open(), 0);
}

fn wire(bench: &Bench, gate: &Gate) -> (Arc<Wire>, Intent) {
    let to = "93.184.216.34:443".parse().unwrap();
    let (granted, slot) = gate.ask_connect(&Request::Connect { to }, name).unwrap();
    Wire::new(bench.egress.evidence().clone(), &granted, to, gate.source(), slot)
}

#[tokio::test]
async fn a_connection_is_told_when_it_may_begin_and_once_when_it_ends() {
    let bench = Bench::new(&[rule("tcp://93.184.216.34:443")], nobody(), limits(), Vec::new());
    let gate = Gate::new(Some(Arc::clone(&bench.egress)));
    let (closed, intent) = wire(&bench, &gate);
    assert!(intent.confirmed().await.is_ok());
    let again = Arc::clone(&closed);
    closed.sent(5);
    again.received(7);
    drop(closed);
    assert_eq!(bench.events(), ["net.connect.allowed"], "one handle is left");
    drop(again);
    let (failed, _) = wire(&bench, &gate);
    failed.failed(Reason::NetFailed);
    failed.failed(Reason::NetFailed);
    drop(failed);
    let told = bench.events();
    assert_eq!(told[..2], ["net.connect.allowed", "net.close"]);
    assert_eq!(told.len(), 4, "{told:?}");
    assert!(told[3].starts_with("net.connect.failed"));
    assert_eq!(bench.full()[1]["traffic"]["bytes_out"], 5);
    assert_eq!(bench.full()[1]["traffic"]["bytes_in"], 7);
}

#[tokio::test]
async fn in_strict_mode_an_effect_waits_for_the_store() {
    let bench = Bench::with(&[rule("tcp://93.184.216.34:443")], nobody(), limits(), Vec::new(), Mode::Strict);
    let gate = Gate::new(Some(Arc::clone(&bench.egress)));
    bench.store.set_withholding(true);
    let (_wire, intent) = wire(&bench, &gate);
    let confirmed = tokio::time::timeout(Duration::from_millis(200), intent.confirmed()).await;
    assert!(confirmed.is_err(), "it is not in the store");
    bench.store.set_withholding(false);
    let confirmed = tokio::time::timeout(PATIENCE, intent.confirmed()).await;
    assert!(confirmed.unwrap().is_ok());
}

#[tokio::test]
async fn refusals_without_end_leave_room_for_the_end_of_a_connection_and_are_told_when_there_is_room() {
    const TIMES: u64 = 5000;
    let small = Options { capacity: 64, ..Options::default() };
    let bench = Bench::audited(&[rule("tcp://93.184.216.34:443")], nobody(), limits(), Vec::new(), small);
    let gate = Gate::new(Some(Arc::clone(&bench.egress)));
    let (open, intent) = wire(&bench, &gate);
    assert!(intent.confirmed().await.is_ok());
    bench.store.set_withholding(true);
    // More than the writer takes in while nothing is confirmed, and the queue besides; each in a window of its own.
    for number in 0..TIMES {
        let to = std::net::SocketAddr::from(([93, 184, (number >> 8) as u8, number as u8], 80));
        gate.ask_connect(&Request::Connect { to }, name).unwrap_err();
        gate.flush();
    }
    let before = bench.recorded();
    drop(open);
    assert_eq!(bench.recorded(), before + 1, "the end of the connection has found room");
    bench.store.set_withholding(false);
    bench.await_event("net.close");
    let mut told = 0;
    let until = std::time::Instant::now() + PATIENCE;
    while told < TIMES {
        assert!(std::time::Instant::now() < until, "{told} of {TIMES} refusals were told");
        gate.flush();
        let events = bench.full();
        let denied = events.iter().filter(|event| code(event) == "net.connect.denied");
        told = denied.map(|event| event["count"].as_u64().unwrap_or(1)).sum();
    }
    assert_eq!(told, TIMES);
    assert_eq!(bench.lost(), 0);
}

#[tokio::test]
async fn a_quota_that_finds_no_room_in_the_audit_is_told_later() {
    let small = Options { capacity: 64, ..Options::default() };
    let bench = Bench::audited(&[], nobody(), limits(), Vec::new(), small);
    let gate = Gate::new(Some(Arc::clone(&bench.egress)));
    bench.fill_audit();
    let lost = bench.lost();
    let met = Exhausted { scope: portcullis_audit::Scope::Plugin, limit: 1 };
    for _ in 0..10 {
        gate.exceeded(Reason::QuotaDns, met);
    }
    gate.flush();
    assert_eq!(bench.lost(), lost);
    let counted: Vec<_> = bench.egress.limits_met().collect();
    assert_eq!(counted, [("quota.dns", portcullis_audit::Scope::Plugin, 10)]);
    bench.free_audit();
    tokio::time::timeout(PATIENCE, gate.room()).await.unwrap();
    gate.flush();
    bench.await_event("quota.dns");
    let events = bench.full();
    let [told] = events.iter().filter(|event| code(event) == "budget.exceeded").collect::<Vec<_>>()[..] else {
        panic!("{events:#?}");
    };
    assert_eq!(told["count"], 10);
}

#[tokio::test]
async fn what_finds_no_room_in_the_audit_was_not_allowed() {
    let small = Options { capacity: 64, ..Options::default() };
    let bench = Bench::audited(&[rule("tcp://93.184.216.34:443")], nobody(), limits(), Vec::new(), small);
    let gate = Gate::new(Some(Arc::clone(&bench.egress)));
    bench.fill_audit();
    let (_, intent) = wire(&bench, &gate);
    assert!(intent.is_lost());
    assert_eq!(bench.egress.decisions(), [0, 0, 0]);
    bench.free_audit();
    tokio::time::timeout(PATIENCE, gate.room()).await.unwrap();
    drop(wire(&bench, &gate));
    assert_eq!(bench.egress.decisions(), [1, 0, 0]);
}
