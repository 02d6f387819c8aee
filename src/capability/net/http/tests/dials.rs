//! Names with several addresses, and places that idle connections hold.

use std::net::Ipv4Addr;

use portcullis_policy::RuleText;
use tokio::net::{TcpSocket, TcpStream};

use super::server::{Server, text};
use super::*;
use crate::support::{NameServer, rule, zone};

fn named(server: &Server, path: &str) -> Outgoing {
    let mut outgoing = get(server.address, path);
    outgoing.authority = format!("two.test:{}", server.address.port());
    outgoing
}

/// A plugin that may ask `two.test`, which has these addresses, on the port of a server.
async fn asking(server: &Server, addresses: &[&str]) -> (Client, Bench, NameServer) {
    let names = NameServer::start([("two.test", zone(addresses))]).await;
    let allow = format!("http://two.test:{}", server.address.port());
    let rules = [RuleText { addresses: Some(vec!["127.0.0.0/8"]), ..rule(&allow) }];
    let (client, bench) = Client::asking(&rules, names.address, limits());
    (client, bench, names)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nobody_listens_the_next_address_is_asked_and_each_dial_has_its_intent_and_its_end() {
    let server = Server::start(|_| text("ok")).await;
    let (client, bench, _names) = asking(&server, &["127.0.0.2", "127.0.0.1"]).await;
    let answer = client.send(post_to(&server, b"all of it")).await.unwrap();
    assert_eq!(body(answer).await.unwrap(), "ok");
    assert!(server.requests()[0].ends_with("all of it"));
    let told = bench.full();
    let of: Vec<_> = told.iter().filter(|event| crate::support::code(event).starts_with("http.")).collect();
    let seen: Vec<_> =
        of.iter().map(|event| (crate::support::code(event), event["dst_endpoint"]["ip"].as_str().unwrap())).collect();
    let wanted = [
        ("http.allowed", "127.0.0.2"),
        ("http.request", "127.0.0.2"),
        ("http.allowed", "127.0.0.1"),
        ("http.request", "127.0.0.1"),
    ];
    assert_eq!(seen, wanted);
    assert_eq!((&of[1]["status_detail"], &of[3]["http_response"]["code"]), (&"net.failed".into(), &200.into()));
    assert_eq!(of[0]["http_request"]["uid"], of[1]["http_request"]["uid"]);
    assert_ne!(of[0]["http_request"]["uid"], of[2]["http_request"]["uid"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_there_is_used_before_the_address_that_nobody_answers_at_is_asked_again() {
    let server = Server::start(|_| text("ok")).await;
    let (client, bench, _names) = asking(&server, &["127.0.0.2", "127.0.0.1"]).await;
    for _ in 0..3 {
        body(client.send(named(&server, "/")).await.unwrap()).await.unwrap();
    }
    assert_eq!(server.accepted(), 1);
    assert_eq!(bench.events().iter().filter(|event| *event == "http.request net.failed").count(), 1);
}

fn post_to(server: &Server, bytes: &[u8]) -> Outgoing {
    Outgoing { method: "POST".to_owned(), body: Some(full(bytes)), ..named(server, "/in") }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_says_nothing_costs_its_part_of_the_time_and_not_all_of_it() {
    let server = Server::start(|_| text("ok")).await;
    // A queue of connections that nobody takes: once it is full the system does not answer any more.
    let queue = TcpSocket::new_v4().unwrap();
    queue.bind((Ipv4Addr::new(127, 0, 0, 2), server.address.port()).into()).unwrap();
    let silent = queue.listen(1).unwrap();
    let at = silent.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(at)).await {
        waiting.push(stream);
        assert!(waiting.len() < 1000, "the queue has no end");
    }
    let (client, bench, _names) = asking(&server, &["127.0.0.2", "127.0.0.1"]).await;
    let answer = client.send_with(named(&server, "/"), options(2000)).await.unwrap();
    assert_eq!(body(answer).await.unwrap(), "ok");
    assert!(bench.events().contains(&"http.request time.connect".to_owned()), "{:?}", bench.events());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_may_not_be_dialled_is_not_tried_after_one_that_fails() {
    let server = Server::start(|_| text("never")).await;
    let names = NameServer::start([("two.test", zone(&["127.0.0.2", "127.0.0.1"]))]).await;
    let allow = format!("http://two.test:{}", server.address.port());
    let rules = [RuleText { addresses: Some(vec!["127.0.0.2/32"]), ..rule(&allow) }];
    let (client, bench) = Client::asking(&rules, names.address, limits());
    assert_eq!(client.code(named(&server, "/")).await, "connection-refused");
    assert_eq!(server.accepted(), 0);
    assert_eq!(bench.events().iter().filter(|event| *event == "http.allowed").count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_that_changes_the_path_does_not_leave_by_the_rule_of_another_address() {
    let server = Server::start(|_| text("never")).await;
    let names = NameServer::start([("two.test", zone(&["127.0.0.1"]))]).await;
    let allow = format!("http://two.test:{}", server.address.port());
    // The first rule grants the request, the second one its address.
    let free = RuleText { addresses: Some(vec!["127.0.0.2/32"]), ..rule(&allow) };
    let strict = RuleText { addresses: Some(vec!["127.0.0.1/32"]), paths: Some(vec!["/v1/"]), ..rule(&allow) };
    let (client, bench) = Client::asking(&[free, strict], names.address, limits());
    let outgoing = header(named(&server, "/v1/x"), "x-original-url", "/admin");
    assert_eq!(client.code(outgoing).await, "HTTP-request-denied");
    assert_eq!(bench.events().last().unwrap(), "http.denied http.forbidden_header");
    assert_eq!(server.accepted(), 0);
}

/// Two plugins of a tenant with so many sockets together.
fn tenant(servers: &[&Server], sockets: u32) -> (Client, Client, Bench) {
    let budget = BudgetLimits { connections: Some(sockets), ..BudgetLimits::default() };
    let allow: Vec<_> = servers.iter().map(|server| format!("http://{}", server.address)).collect();
    let rules: Vec<_> = allow.iter().map(|allow| rule(allow)).collect();
    let bench = Bench::new(&rules, NO_SERVER.parse().unwrap(), limits(), vec![Budget::new(Scope::Tenant, budget)]);
    let other = with(&bench, |_| ());
    (Client::of(&bench.egress), Client::of(&other), bench)
}

async fn ask(client: &Client, server: &Server) -> Result<String, &'static str> {
    match client.send(get(server.address, "/")).await {
        Ok(answer) => Ok(body(answer).await.unwrap()),
        Err(failure) => Err(failure.code.as_str()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_gives_its_place_to_another_plugin_of_the_tenant() {
    let (one, two) = (Server::start(|_| text("one")).await, Server::start(|_| text("two")).await);
    let (first, second, bench) = tenant(&[&one, &two], 1);
    for _ in 0..3 {
        assert_eq!(ask(&first, &one).await, Ok("one".to_owned()));
        assert_eq!(ask(&second, &two).await, Ok("two".to_owned()));
        assert_eq!(ask(&first, &two).await, Ok("two".to_owned()));
    }
    assert_eq!(first.node.open(), 1);
    assert!(!bench.events().iter().any(|event| event.contains("quota")), "{:?}", bench.events());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_connection_that_waits_longest_makes_room() {
    let start = || Server::start(|_| text("ok"));
    let (one, two, three) = (start().await, start().await, start().await);
    let (first, second, _bench) = tenant(&[&one, &two, &three], 2);
    ask(&first, &two).await.unwrap();
    ask(&second, &one).await.unwrap();
    ask(&first, &two).await.unwrap();
    ask(&first, &three).await.unwrap();
    until("the one that waits longest is closed", || one.gone() == 1).await;
    assert_eq!((two.gone(), three.gone()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_tenant_does_not_give_its_place() {
    let server = Server::start(|_| text("ok")).await;
    let (first, _, bench) = tenant(&[&server], 1);
    let stranger = Client::of(&with(&bench, |settings| settings.tenant = "globex".into()));
    ask(&first, &server).await.unwrap();
    let refused = stranger.send_with(get(server.address, "/"), options(50)).await.unwrap_err();
    assert_eq!(refused.code.as_str(), "connection-limit-reached");
    assert_eq!((server.accepted(), server.gone()), (1, 0));
}
