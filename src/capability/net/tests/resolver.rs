use std::time::Instant;

use portcullis_policy::{Decision, Facts, Request, decide};

use super::*;
use crate::support::{NameServer, Zone, alias, policy, rule, zone};

fn granted(allow: &str, request: &Request<'_>) -> Granted {
    match decide(&policy(&[rule(allow)]), request, &Facts { now_ms: 0, pins: &[], exhausted: None }) {
        Decision::Allow(granted) => granted,
        Decision::Deny(denied) => panic!("{denied:?}"),
    }
}

fn name(name: &str) -> Granted {
    granted(&format!("tcp://{name}:443"), &Request::Lookup { name })
}

fn resolver(server: SocketAddr, timeout: Duration) -> Arc<Resolver> {
    let settings = ResolverSettings { servers: Servers::Given(vec![server]), timeout };
    Resolver::new(settings, Handle::current()).unwrap()
}

async fn lookup(zones: &[(&'static str, Zone)], asked: &str) -> (Result<Found, NotFound>, Vec<String>) {
    let server = NameServer::start(zones.iter().cloned()).await;
    let found = resolver(server.address, Duration::from_secs(2)).lookup(&name(asked)).await;
    (found, server.queries())
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[tokio::test]
async fn both_families_are_asked_once_and_ipv4_comes_first() {
    let zones = [("ok.test", zone(&["2606:2800:220:1::1", "93.184.216.34", "93.184.216.35"]))];
    let (found, queries) = lookup(&zones, "ok.test").await;
    let expected = addresses(&["93.184.216.34", "93.184.216.35", "2606:2800:220:1::1"]);
    assert_eq!(found.unwrap(), Found { addresses: expected, ttl_s: 60 });
    assert_eq!(queries, ["ok.test 1", "ok.test 28"]);
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_asked_for_as_it_is_and_without_a_search_list() {
    let (found, queries) = lookup(&[], "nothing.test").await;
    assert_eq!(found.unwrap_err(), NotFound { reason: Reason::DnsFailed, kind: Kind::Name, rcode: Some(3) });
    assert_eq!(queries, ["nothing.test 1", "nothing.test 28"]);
}

#[tokio::test]
async fn a_name_without_addresses_has_none() {
    let (found, _) = lookup(&[("empty.test", zone(&[]))], "empty.test").await;
    assert_eq!(found.unwrap_err(), NotFound { reason: Reason::DnsFailed, kind: Kind::Name, rcode: Some(0) });
}

#[tokio::test]
async fn aliases_are_followed_with_the_least_time_to_live() {
    let zones = [("a.test", alias("b.test")), ("b.test", alias("c.test")), ("c.test", zone(&["93.184.216.34"]))];
    let (found, queries) = lookup(&zones, "a.test").await;
    assert_eq!(found.unwrap(), Found { addresses: addresses(&["93.184.216.34"]), ttl_s: 40 });
    assert_eq!(queries.len(), 6);
}

#[tokio::test]
async fn eight_aliases_are_followed_and_a_ninth_is_not() {
    let names = ["n0.test", "n1.test", "n2.test", "n3.test", "n4.test", "n5.test", "n6.test", "n7.test", "n8.test"];
    let mut zones: Vec<_> = names.windows(2).map(|pair| (pair[0], alias(pair[1]))).collect();
    zones.push(("n8.test", zone(&["93.184.216.34"])));
    zones.push(("before.test", alias("n0.test")));
    let (found, _) = lookup(&zones, "n0.test").await;
    assert_eq!(found.unwrap().addresses, addresses(&["93.184.216.34"]));
    let (found, _) = lookup(&zones, "before.test").await;
    assert_eq!(found.unwrap_err().reason, Reason::DnsCnameDepth);
}

#[tokio::test]
async fn a_circle_of_aliases_ends() {
    let zones = [("loopcname.test", alias("b.test")), ("b.test", alias("loopcname.test"))];
    let (found, queries) = lookup(&zones, "loopcname.test").await;
    let expected = NotFound { reason: Reason::DnsCnameDepth, kind: Kind::Permanent, rcode: Some(0) };
    assert_eq!(found.unwrap_err(), expected);
    assert!(queries.len() <= 2 * (MAX_ALIASES + 1), "{queries:?}");
}

#[tokio::test]
async fn an_alias_to_nothing_is_a_name_without_addresses() {
    let (found, _) = lookup(&[("a.test", alias("gone.test"))], "a.test").await;
    assert_eq!(found.unwrap_err().kind, Kind::Name);
}

#[tokio::test]
async fn records_of_other_names_count_for_nothing() {
    let stranger = Some(("other.test".to_owned(), "93.184.216.35".parse().unwrap()));
    let (found, _) =
        lookup(&[("ok.test", Zone { stranger: stranger.clone(), ..zone(&["93.184.216.34"]) })], "ok.test").await;
    assert_eq!(found.unwrap().addresses, addresses(&["93.184.216.34"]));
    let (found, _) = lookup(&[("ok.test", Zone { stranger, ..zone(&[]) })], "ok.test").await;
    assert_eq!(found.unwrap_err().kind, Kind::Name);
}

#[tokio::test]
async fn a_name_server_that_fails_is_a_failure_that_may_pass() {
    let (found, _) = lookup(&[("sick.test", Zone { rcode: 2, ..Zone::default() })], "sick.test").await;
    assert_eq!(found.unwrap_err(), NotFound { reason: Reason::DnsFailed, kind: Kind::Temporary, rcode: Some(2) });
}

#[tokio::test]
async fn a_silent_name_server_costs_no_more_than_the_time_out() {
    let server = NameServer::start([("slow.test", Zone { silent: true, ..Zone::default() })]).await;
    let begun = Instant::now();
    let found = resolver(server.address, Duration::from_millis(300)).lookup(&name("slow.test")).await;
    assert_eq!(found.unwrap_err(), TIMED_OUT);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn the_token_of_another_effect_sends_no_query() {
    let server = NameServer::start([("ok.test", zone(&["93.184.216.34"]))]).await;
    let resolver = resolver(server.address, Duration::from_secs(2));
    let to = "93.184.216.34:443".parse().unwrap();
    let connect = granted("tcp://93.184.216.34:443", &Request::Connect { to });
    let literal = granted("tcp://93.184.216.34:443", &Request::Lookup { name: "93.184.216.34" });
    for token in [connect, literal] {
        let refused = resolver.lookup(&token).await.unwrap_err();
        assert_eq!(refused, NotFound { reason: Reason::DnsFailed, kind: Kind::Permanent, rcode: None });
    }
    assert!(server.queries().is_empty());
    let http = Request::Http { method: "GET", scheme: "https", authority: "ok.test", path: "/" };
    assert!(resolver.lookup(&granted("https://ok.test", &http)).await.is_ok());
}

#[tokio::test]
async fn a_resolver_without_name_servers_is_refused() {
    let settings = ResolverSettings { servers: Servers::Given(Vec::new()), timeout: Duration::from_secs(1) };
    assert!(matches!(Resolver::new(settings, Handle::current()), Err(ResolverError::NoServer)));
}
