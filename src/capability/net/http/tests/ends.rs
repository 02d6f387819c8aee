//! Requests that end because nobody wants them any more.

use std::sync::atomic::Ordering;

use super::server::{Server, Step, answer, text};
use super::*;
use crate::support::rule;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_let_go_ends_is_recorded_and_gives_its_place_back() {
    let server = Server::start(|_| vec![Step::Wait]).await;
    let (client, bench) = Client::to(&server);
    let job = client.guest.ask(&client.gate, get(server.address, "/"), RequestOptions::default()).unwrap();
    let task = tokio::spawn(async move { job.run().await.map(drop) });
    until("the request is there", || server.requests().len() == 1).await;
    assert_eq!(client.node.open(), 1);
    task.abort();
    client.no_connection_is_left().await;
    until("the server sees the end", || server.gone() == 1).await;
    bench.await_event("time.total");
    assert_eq!(bench.events(), ["http.allowed", "http.request time.total"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_the_guest_has_seen_enough_of_is_no_failure_and_its_connection_is_closed() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\nabc".to_vec();
    let server = Server::start(move |_| vec![Step::Write(head.clone()), Step::Wait]).await;
    let (client, bench) = Client::to(&server);
    let answer = client.send(get(server.address, "/")).await.unwrap();
    client.guest.by_guest.store(true, Ordering::Relaxed);
    drop(answer);
    client.guest.by_guest.store(false, Ordering::Relaxed);
    client.no_connection_is_left().await;
    assert_eq!(bench.events(), ["http.allowed", "http.request"]);

    drop(client.send(get(server.address, "/")).await.unwrap());
    client.no_connection_is_left().await;
    assert_eq!(bench.events().last().unwrap(), "http.request time.total", "the end of the instance is one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_has_the_time_in_which_its_call_was_held_up() {
    let server = Server::start(|_| vec![Step::Wait]).await;
    let (mut client, _bench) = Client::to(&server);
    // Its deadline has come; but it stood still for longer than that.
    client.guest.call_ends = Some(std::time::Instant::now());
    assert_eq!(client.code(get(server.address, "/")).await, "HTTP-response-timeout");
    client.guest.held_up_ns.store(60_000_000_000, Ordering::Relaxed);
    let waits = tokio::time::timeout(Duration::from_millis(300), client.send(get(server.address, "/")));
    assert!(waits.await.is_err(), "it has a minute");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_nobody_reads_ends_with_its_call() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\nabc".to_vec();
    let server = Server::start(move |asked| match asked.contains("/whole") {
        true => text("ok"),
        false => vec![Step::Write(head.clone()), Step::Wait],
    });
    let server = server.await;
    let (mut client, other, bench) = two_on_one_place(&server);
    client.guest.call_ends = Some(std::time::Instant::now() + Duration::from_millis(100));
    let answer = client.send(get(server.address, "/")).await.unwrap();
    client.no_connection_is_left().await;
    bench.await_event("time.total");
    let whole = other.send(get(server.address, "/whole")).await.unwrap();
    assert_eq!(body(whole).await.unwrap(), "ok", "while the answer is held, its turn is another plugin's");
    let events = bench.events();
    assert_eq!(events[..2], ["http.allowed", "http.request time.total"]);
    assert!(matches!(body(answer).await, Err(Error::HttpResponseTimeout)));
    drop((client, other));
    assert_eq!(bench.events(), events, "told once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_nobody_reads_keeps_no_turn_once_its_connection_is_closed() {
    let permits = Arc::new(tokio::sync::Semaphore::new(0));
    let of_server = Arc::clone(&permits);
    let server = Server::start(move |asked| match asked.contains("/whole") {
        true => text("ok"),
        false => {
            let head = b"HTTP/1.1 200 OK\r\n\r\nabc".to_vec();
            vec![Step::Write(head), Step::Permit(Arc::clone(&of_server)), Step::Close]
        }
    });
    let server = server.await;
    let (client, other, bench) = two_on_one_place(&server);
    let mut answer = client.send(get(server.address, "/")).await.unwrap().into_body();
    let begin = answer.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(begin, "abc");
    permits.add_permits(1);
    let whole = other.send(get(server.address, "/whole")).await.unwrap();
    assert_eq!(body(whole).await.unwrap(), "ok");
    assert!(answer.frame().await.is_none(), "its end may be read until the deadline");
    assert_eq!(bench.events().iter().filter(|event| *event == "http.request").count(), 2);
}

/// Two plugins of a node that has one place.
fn two_on_one_place(server: &Server) -> (Client, Client, Bench) {
    let node = Budget::new(Scope::Node, BudgetLimits { connections: Some(1), ..BudgetLimits::default() });
    let allow = format!("http://{}", server.address);
    let limits = NetLimits { connections: 1, ..limits() };
    let bench = Bench::new(&[rule(&allow)], NO_SERVER.parse().unwrap(), limits, vec![node]);
    (Client::of(&bench.egress), Client::of(&with(&bench, |_| {})), bench)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_before_the_end_of_the_request_leaves_no_connection_to_reuse() {
    let server = Server::start(|head| {
        if head.starts_with("post") {
            answer("EARLYHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        } else {
            text("ok")
        }
    })
    .await;
    let (client, _bench) = Client::to(&server);
    let early = client.send(post(server.address, Never.boxed_unsync())).await.unwrap();
    assert_eq!(body(early).await.unwrap(), "ok");
    client.no_connection_is_left().await;
    assert_eq!(body(client.send(get(server.address, "/")).await.unwrap()).await.unwrap(), "ok");
    assert_eq!(server.accepted(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connecting_ends_in_its_time() {
    // Takes connections and never begins TLS.
    let server = Server::raw(b"").await;
    let allow = format!("https://{}", server.address);
    let (client, bench) = Client::rules(&[rule(&allow)]);
    let outgoing = Outgoing { scheme: "https".to_owned(), ..get(server.address, "/") };
    let late = client.send_with(outgoing, options(50)).await.unwrap_err();
    assert_eq!(late.code.as_str(), "connection-timeout");
    assert_eq!(bench.events(), ["http.allowed", "http.request time.connect"]);
    client.no_connection_is_left().await;
}
