//! Who gets which connection.

use super::server::{Server, Step, answer, text};
use super::*;
use crate::support::rule;

async fn ask(client: &Client, server: &Server) -> String {
    body(client.send(get(server.address, "/")).await.unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_serves_one_request_after_the_other_with_an_intent_and_a_result_each() {
    let server = Server::start(|_| text("ok")).await;
    let (client, bench) = Client::to(&server);
    for _ in 0..5 {
        assert_eq!(ask(&client, &server).await, "ok");
    }
    assert_eq!((server.accepted(), client.node.open()), (1, 1));
    assert_eq!(bench.events(), ["http.allowed", "http.request"].repeat(5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_of_a_plugin_share_connections_and_plugins_do_not() {
    let server = Server::start(|_| text("ok")).await;
    let (client, bench) = Client::to(&server);
    assert_eq!(ask(&client, &server).await, "ok");
    assert_eq!(ask(&Client::of(&bench.egress), &server).await, "ok");
    assert_eq!(server.accepted(), 1);
    let other = with(&bench, |_| ());
    assert_eq!(ask(&Client::of(&other), &server).await, "ok");
    assert_eq!(server.accepted(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_of_one_rule_does_not_serve_another() {
    let server = Server::start(|_| text("ok")).await;
    let allow = format!("http://{}", server.address);
    let of = |paths: &'static str| RuleText { paths: Some(vec![paths]), ..rule(&allow) };
    let (client, _bench) = Client::rules(&[of("/a/"), of("/b/")]);
    for path in ["/a/x", "/b/x", "/a/y", "/b/y"] {
        body(client.send(get(server.address, path)).await.unwrap()).await.unwrap();
    }
    assert_eq!(server.accepted(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_the_server_closed_meanwhile_is_not_used_again() {
    let server = Server::start(|_| {
        let mut steps = text("ok");
        steps.push(Step::Close);
        steps
    })
    .await;
    let (client, bench) = Client::to(&server);
    for _ in 0..3 {
        assert_eq!(ask(&client, &server).await, "ok");
        client.no_connection_is_left().await;
    }
    assert_eq!(bench.events(), ["http.allowed", "http.request"].repeat(3));
}

// On one thread, so that the connection's task ends only after the request has been handed to it.
#[tokio::test]
async fn a_request_that_was_never_sent_goes_over_a_fresh_connection_body_and_all() {
    let server = Server::start(|_| text("ok")).await;
    let (client, bench) = Client::to(&server);
    assert_eq!(ask(&client, &server).await, "ok");
    let pool = &bench.egress.http.pool;
    let idle = pool.evict().unwrap();
    idle.task.0.abort();
    pool.put(0, idle);
    let answer = client.send(post(server.address, full(b"all of it"))).await.unwrap();
    assert_eq!(body(answer).await.unwrap(), "ok");
    assert_eq!(server.accepted(), 2);
    assert!(server.requests()[1].ends_with("all of it"));
    assert_eq!(bench.events(), ["http.allowed", "http.request"].repeat(2), "one intent and one result for both tries");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_says_close_is_not_asked_again_on_the_same_connection() {
    let server = Server::start(|_| answer("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok")).await;
    let (client, _bench) = Client::to(&server);
    for _ in 0..3 {
        assert_eq!(ask(&client, &server).await, "ok");
    }
    assert_eq!(server.accepted(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_makes_room_and_a_busy_one_does_not() {
    let idle = Server::start(|_| text("ok")).await;
    let busy = Server::start(|_| vec![Step::Wait]).await;
    let rules = [format!("http://{}", idle.address), format!("http://{}", busy.address)];
    let limits = NetLimits { connections: 1, ..limits() };
    let rules = [rule(&rules[0]), rule(&rules[1])];
    let (client, bench) = Client::asking(&rules, NO_SERVER.parse().unwrap(), limits);
    assert_eq!(ask(&client, &idle).await, "ok");
    let job = client.guest.ask(&client.gate, get(busy.address, "/"), RequestOptions::default()).unwrap();
    let task = tokio::spawn(async move { job.run().await.map(drop) });
    until("the other request is there", || busy.requests().len() == 1).await;
    until("the idle connection is gone", || idle.gone() == 1).await;
    let refused = client.send_with(get(idle.address, "/"), options(50)).await.unwrap_err();
    assert_eq!(refused.code.as_str(), "connection-limit-reached");
    task.abort();
    client.no_connection_is_left().await;
    let events = bench.events();
    assert_eq!(events.iter().filter(|event| *event == "http.denied quota.sockets").count(), 1, "{events:?}");
    assert_eq!(ask(&client, &idle).await, "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connects_a_second_are_bounded_and_reuse_costs_none() {
    let server = Server::start(|_| text("ok")).await;
    let allow = format!("http://{}", server.address);
    let limits = NetLimits { connects: (1, Duration::from_secs(3600)), ..limits() };
    let (client, bench) = Client::asking(&[rule(&allow)], NO_SERVER.parse().unwrap(), limits);
    for _ in 0..3 {
        assert_eq!(ask(&client, &server).await, "ok");
    }
    assert_eq!(server.accepted(), 1);
    assert!(!bench.events().iter().any(|event| event.contains("quota")));
}
