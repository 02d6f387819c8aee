use std::net::SocketAddr;

use portcullis_policy::RuleText;

use super::*;
use crate::NetLimits;
use crate::support::{Bench, NameServer, Zone, limits, rule, zone};

const P1: &str = "93.184.216.34";

fn gate(bench: &Bench) -> Gate {
    Gate::new(Some(Arc::clone(&bench.egress)))
}

async fn resolve(gate: &Gate, name: &str) -> Outcome {
    let granted = gate.decide(&Request::Lookup { name }).unwrap();
    gate.resolve(&granted, Origin::Sockets).await
}

fn to(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

#[tokio::test]
async fn a_lookup_is_told_before_and_after_and_its_answer_opens_the_way() {
    let server = NameServer::start([("ok.test", zone(&[P1]))]).await;
    let bench = Bench::new(&[rule("tcp://ok.test:443")], server.address, limits(), Vec::new());
    let gate = gate(&bench);
    let connect = Request::Connect { to: to("93.184.216.34:443") };
    assert_eq!(gate.decide(&connect).unwrap_err().reason, Reason::DnsUnpinned);
    let answer = resolve(&gate, "OK.test.").await.unwrap();
    assert_eq!(answer.addresses, [P1.parse::<IpAddr>().unwrap()]);
    let granted = gate.decide(&connect).unwrap();
    assert_eq!(granted.pin().map(|(lookup, name)| (lookup, name.as_str())), Some((answer.lookup.as_u128(), "ok.test")));
    assert_eq!(bench.events(), ["dns.allowed", "dns.lookup"]);
    let told = &bench.full()[1];
    assert_eq!(told["metadata"]["uid"], answer.lookup.to_string());
    assert_eq!(told["query"]["hostname"], "ok.test");
    assert_eq!(server.queries(), ["ok.test 1", "ok.test 28"]);
}

#[tokio::test]
async fn instances_share_answers_and_not_pins() {
    let server = NameServer::start([("ok.test", zone(&[P1]))]).await;
    let bench = Bench::new(&[rule("tcp://ok.test:443")], server.address, limits(), Vec::new());
    let (first, second) = (gate(&bench), gate(&bench));
    let answer = resolve(&first, "ok.test").await.unwrap();
    let connect = Request::Connect { to: to("93.184.216.34:443") };
    assert!(second.decide(&connect).is_err(), "an address that another instance looked up");
    assert_eq!(resolve(&second, "ok.test").await.unwrap(), answer);
    assert!(second.decide(&connect).is_ok());
    resolve(&first, "ok.test").await.unwrap();
    assert_eq!((first.work().cached_lookups, second.work().cached_lookups), (1, 1));
    assert_eq!(server.queries().len(), 2);
    assert_eq!(bench.events(), ["dns.allowed", "dns.lookup"]);
}

#[tokio::test]
async fn many_lookups_of_a_name_at_the_same_time_are_one() {
    let server = NameServer::start([("ok.test", zone(&[P1]))]).await;
    let bench = Bench::new(&[rule("tcp://ok.test:443")], server.address, limits(), Vec::new());
    let gates: Vec<Gate> = (0..10).map(|_| gate(&bench)).collect();
    let begun: Vec<Begun> = gates
        .iter()
        .map(|gate| gate.begin_lookup(&gate.decide(&Request::Lookup { name: "ok.test" }).unwrap(), Origin::Sockets))
        .collect();
    for (gate, begun) in gates.iter().zip(begun) {
        let Begun::Flight(flight) = begun else { panic!("nothing is known yet") };
        assert!(landed(gate, flight).await.is_ok());
        assert!(gate.decide(&Request::Connect { to: to("93.184.216.34:443") }).is_ok(), "each has its pins");
    }
    assert_eq!(server.queries().len(), 2);
    assert!(bench.egress.answers().flights.is_empty());
}

#[tokio::test]
async fn a_lookup_that_nobody_waits_for_is_told_all_the_same() {
    let server = NameServer::start([("ok.test", zone(&[P1]))]).await;
    let bench = Bench::new(&[rule("tcp://ok.test:443")], server.address, limits(), Vec::new());
    let gate = gate(&bench);
    let granted = gate.decide(&Request::Lookup { name: "ok.test" }).unwrap();
    drop(gate.begin_lookup(&granted, Origin::Sockets));
    drop(gate);
    let store = bench.store.clone();
    let told = tokio::task::spawn_blocking(move || {
        store.wait_until(crate::support::PATIENCE, |records| {
            records.iter().any(|record| String::from_utf8_lossy(&record.value).contains("dns.lookup"))
        })
    });
    assert!(told.await.unwrap());
}

#[tokio::test]
async fn addresses_inside_are_not_shown_and_a_name_with_nothing_else_has_none() {
    let zones = [("mixed.test", zone(&["10.1.2.3", P1, "127.0.0.1"])), ("priv.test", zone(&["10.1.2.3"]))];
    let server = NameServer::start(zones).await;
    let rules = [rule("tcp://mixed.test:443"), rule("tcp://priv.test:443")];
    let bench = Bench::new(&rules, server.address, limits(), Vec::new());
    let gate = gate(&bench);
    assert_eq!(resolve(&gate, "mixed.test").await.unwrap().addresses, [P1.parse::<IpAddr>().unwrap()]);
    assert!(gate.decide(&Request::Connect { to: to("10.1.2.3:443") }).is_err());
    let expected = Unresolved { reason: Reason::AddrPrivate, kind: Kind::Name };
    assert_eq!(resolve(&gate, "priv.test").await, Err(expected));
    assert_eq!(resolve(&gate, "priv.test").await, Err(expected), "what was refused is not kept");
    let events = bench.events();
    assert_eq!(events.iter().filter(|event| *event == "dns.lookup addr.private").count(), 2, "{events:?}");
}

#[tokio::test]
async fn at_most_sixteen_addresses_are_shown() {
    let many: Vec<String> = (1..=40).map(|last| format!("93.184.216.{last}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let server = NameServer::start([("big.test", zone(&many))]).await;
    let bench = Bench::new(&[rule("tcp://big.test:443")], server.address, limits(), Vec::new());
    let answer = resolve(&gate(&bench), "big.test").await.unwrap();
    assert_eq!(answer.addresses.len(), MAX_ADDRESSES);
}

#[tokio::test]
async fn the_time_to_live_is_held_within_bounds_and_the_rule_narrows_them() {
    let zones = [
        ("short.test", Zone { ttl_s: 0, ..zone(&[P1]) }),
        ("long.test", Zone { ttl_s: 86_400, ..zone(&[P1]) }),
        ("narrow.test", Zone { ttl_s: 86_400, ..zone(&[P1]) }),
    ];
    let server = NameServer::start(zones).await;
    let mut narrow = rule("tcp://narrow.test:443");
    narrow.ttl = Some((Duration::from_secs(5), Duration::from_secs(30)));
    let rules = [rule("tcp://short.test:443"), rule("tcp://long.test:443"), narrow];
    let bench = Bench::new(&rules, server.address, limits(), Vec::new());
    let gate = gate(&bench);
    for (name, seconds) in [("short.test", 5), ("long.test", 300), ("narrow.test", 30)] {
        let before = clock_ms();
        let holds = resolve(&gate, name).await.unwrap().expires_ms - before;
        let took = clock_ms() - before;
        assert!((seconds * 1000..=seconds * 1000 + took).contains(&holds), "{name} holds {holds} ms");
    }
}

#[tokio::test]
async fn the_shortest_time_to_live_of_a_name_holds_whichever_rule_asks_first() {
    let zones = ["a.test", "b.test"].map(|name| (name, Zone { ttl_s: 86_400, ..zone(&[P1]) }));
    let server = NameServer::start(zones).await;
    let seconds = |least, most| Some((Duration::from_secs(least), Duration::from_secs(most)));
    let rules = [
        rule("https://a.test"),
        rule("https://b.test"),
        RuleText { ttl: seconds(5, 10), ..rule("tcp://a.test:5432") },
        RuleText { ttl: seconds(5, 10), ..rule("tcp://b.test:5432") },
        RuleText { ttl: seconds(30, 60), ..rule("tcp://b.test:443") },
    ];
    for first in 0..rules.len() {
        let mut rules = rules.clone();
        rules.rotate_left(first);
        let bench = Bench::new(&rules, server.address, limits(), Vec::new());
        let gate = gate(&bench);
        for name in ["a.test", "b.test"] {
            let (before, https) = (clock_ms(), format!("{name}:443"));
            let http = Request::Http { method: "GET", scheme: "https", authority: &https, path: "/" };
            let granted = gate.decide(&http).unwrap();
            let holds = gate.resolve(&granted, Origin::Http).await.unwrap().expires_ms - before;
            let took = clock_ms() - before;
            assert!((10_000..=10_000 + took).contains(&holds), "{name}, {first}: {holds} ms");
        }
    }
}

#[tokio::test]
async fn lookups_past_the_quota_do_not_leave() {
    let server = NameServer::start([("a.test", zone(&[P1])), ("b.test", zone(&[P1])), ("c.test", zone(&[P1]))]).await;
    let rules = [rule("tcp://a.test:443"), rule("tcp://b.test:443"), rule("tcp://c.test:443")];
    let few = NetLimits { lookups: (2, Duration::from_secs(3600)), ..limits() };
    let bench = Bench::new(&rules, server.address, few, Vec::new());
    let gate = gate(&bench);
    assert!(resolve(&gate, "a.test").await.is_ok() && resolve(&gate, "b.test").await.is_ok());
    let over = Err(Unresolved { reason: Reason::QuotaDns, kind: Kind::Temporary });
    assert_eq!(resolve(&gate, "c.test").await, over);
    assert_eq!(resolve(&gate, "c.test").await, over);
    assert_eq!(server.queries().len(), 4);
    assert_eq!(bench.events().last().unwrap(), "budget.exceeded quota.dns");
    gate.flush();
    let events = bench.full();
    assert_eq!(events.iter().filter(|event| crate::support::code(event) == "budget.exceeded").count(), 2);
}

#[tokio::test]
async fn a_silent_name_server_is_a_failure_that_is_told() {
    let server = NameServer::start([("slow.test", Zone { silent: true, ..Zone::default() })]).await;
    let bench = Bench::new(&[rule("tcp://slow.test:443")], server.address, limits(), Vec::new());
    let expected = Unresolved { reason: Reason::DnsTimeout, kind: Kind::Temporary };
    assert_eq!(resolve(&gate(&bench), "slow.test").await, Err(expected));
    assert_eq!(bench.events(), ["dns.allowed", "dns.lookup dns.timeout"]);
}

#[tokio::test]
async fn a_lookup_that_joins_one_on_its_way_is_charged_and_counted() {
    let server = NameServer::start([("slow.test", Zone { silent: true, ..Zone::default() })]).await;
    for (of_an_hour, joined) in [(1, 0), (2, 20)] {
        let few = NetLimits { lookups: (of_an_hour, Duration::from_secs(3600)), ..limits() };
        let bench =
            Bench::new(&[rule("tcp://slow.test:443"), rule("https://slow.test")], server.address, few, Vec::new());
        let gate = gate(&bench);
        let granted = gate.decide(&Request::Lookup { name: "slow.test" }).unwrap();
        assert!(matches!(gate.begin_lookup(&granted, Origin::Sockets), Begun::Flight(_)));
        let begun = (0..100).map(|_| gate.begin_lookup(&granted, Origin::Sockets));
        let (free, over): (Vec<_>, Vec<_>) = begun.partition(|begun| matches!(begun, Begun::Flight(_)));
        assert_eq!((free.len(), over.len()), (joined, 100 - joined));
        assert!(over.iter().all(|over| matches!(over, Begun::Over(met) if met.limit == u64::from(of_an_hour))));
        assert_eq!(gate.work().cached_lookups, joined as u64, "each that was given one and no other");
        assert!(matches!(gate.begin_lookup(&granted, Origin::Http), Begun::Flight(_)), "free for HTTP");
        assert_eq!(gate.work().cached_lookups, joined as u64 + 1);
    }
}

#[tokio::test]
async fn an_answer_from_memory_pins_again_what_has_made_room_for_others() {
    let address = |name: usize, last: usize| format!("93.184.{name}.{last}");
    let names: Vec<String> = (0..70).map(|name| format!("n{name}.ok.test")).collect();
    let all: Vec<Vec<String>> = (0..70).map(|name| (1..=16).map(|last| address(name, last)).collect()).collect();
    let zones = names.iter().zip(&all).map(|(name, all)| {
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        (name.as_str(), zone(&all))
    });
    let server = NameServer::start(zones).await;
    let bench = Bench::new(&[rule("tcp://*.ok.test:443")], server.address, limits(), Vec::new());
    let gate = gate(&bench);
    for name in &names {
        resolve(&gate, name).await.unwrap();
    }
    let first: Vec<Request<'_>> =
        (1..=16).map(|last| Request::Connect { to: to(&format!("{}:443", address(0, last))) }).collect();
    assert!(first.iter().any(|connect| gate.decide(connect).is_err()), "1120 addresses are more than are pinned");
    resolve(&gate, &names[0]).await.unwrap();
    assert_eq!(gate.work().cached_lookups, 1);
    for connect in &first {
        assert!(gate.decide(connect).is_ok(), "{connect:?}");
    }
}
