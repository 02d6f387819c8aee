use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use portcullis_audit::{Destination, Mode};

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
    Record { pipeline: "orders".into(), channel: "orders.raw".into(), partition: 0, offset }
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
    let (granted, slot) = gate.ask_connect(&connect("93.184.216.34:443"), name).unwrap();
    Wire::new(bench.egress.evidence().clone(), &granted, Destination::default(), gate.source(), slot)
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
