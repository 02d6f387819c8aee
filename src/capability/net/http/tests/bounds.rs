//! Servers and guests that send too much, too slowly or the wrong thing.

use wasmtime_wasi_http::Error;

use super::server::{Server, Step, answer, text};
use super::*;
use crate::support::rule;

fn failed(bench: &Bench) -> String {
    bench.events().into_iter().rfind(|event| event.starts_with("http.request")).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_is_an_answer_like_any_other() {
    let target = Server::start(|_| text("secret")).await;
    let location = format!("HTTP/1.1 302 Found\r\nlocation: http://{}/\r\ncontent-length: 0\r\n\r\n", target.address);
    let server = Server::start(move |_| answer(&location)).await;
    let (client, bench) = Client::to(&server);
    let found = client.send(get(server.address, "/")).await.unwrap();
    assert_eq!(found.status(), 302);
    assert!(found.headers().contains_key("location"));
    assert_eq!((server.requests().len(), target.accepted()), (1, 0));
    assert_eq!(bench.events(), ["http.allowed", "http.request"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_protocol_is_not_switched_to() {
    let server =
        Server::start(|_| answer("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"))
            .await;
    let (client, bench) = Client::to(&server);
    assert_eq!(client.code(get(server.address, "/")).await, "HTTP-upgrade-failed");
    assert_eq!(failed(&bench), "http.request http.framing");
    client.no_connection_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_headers_ends_the_request() {
    for flood in [format!("x: {}\r\n", "y".repeat(40_000)), "x: y\r\n".repeat(200)] {
        let head = format!("HTTP/1.1 200 OK\r\n{flood}\r\n");
        let server = Server::start(move |_| answer(&head)).await;
        let (client, bench) = Client::to(&server);
        assert_eq!(client.code(get(server.address, "/")).await, "HTTP-response-header-section-size");
        assert_eq!(failed(&bench), "http.request http.header_limit");
        client.no_connection_is_left().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_without_end_is_cut_at_its_bound() {
    let server = Server::start(|_| vec![Step::Write(vec![b'x'; 4 << 20])]).await;
    let (client, _bench) = Client::to(&server);
    let code = client.code(get(server.address, "/")).await;
    assert!(["HTTP-protocol-error", "HTTP-response-header-section-size"].contains(&code), "{code}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_says_it_is_too_large_is_not_read() {
    let server = Server::start(|_| answer("HTTP/1.1 200 OK\r\ncontent-length: 8388609\r\n\r\n")).await;
    let (client, bench) = Client::to(&server);
    assert_eq!(client.code(get(server.address, "/")).await, "HTTP-response-body-size");
    assert_eq!(failed(&bench), "http.request quota.bytes_in");
    client.no_connection_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_does_not_say_so_is_cut() {
    let mut bytes = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    bytes.resize(9 << 20, b'x');
    let server = Server::start(move |_| vec![Step::Write(bytes.clone()), Step::Close]).await;
    let (client, bench) = Client::to(&server);
    let cut = body(client.send(get(server.address, "/")).await.unwrap()).await;
    assert!(matches!(cut, Err(Error::HttpResponseBodySize(_))), "{cut:?}");
    assert!(bench.events().contains(&"http.request quota.bytes_in".to_owned()));
    client.no_connection_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_ends_too_soon_is_incomplete() {
    for head in ["content-length: 10", "transfer-encoding: chunked"] {
        let cut = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n5\r\nab");
        let server = Server::start(move |_| vec![Step::Write(cut.clone().into_bytes()), Step::Close]).await;
        let (client, bench) = Client::to(&server);
        let cut = body(client.send(get(server.address, "/")).await.unwrap()).await;
        assert!(matches!(cut, Err(Error::HttpResponseIncomplete)), "{cut:?}");
        assert_eq!(failed(&bench), "http.request net.failed");
        client.no_connection_is_left().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_http_is_a_protocol_error() {
    let server = Server::start(|_| answer("SSH-2.0-OpenSSH_9.9\r\n\r\n")).await;
    let (client, bench) = Client::to(&server);
    assert_eq!(client.code(get(server.address, "/")).await, "HTTP-protocol-error");
    assert_eq!(failed(&bench), "http.request http.framing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_answer_is_waited_for_only_as_long_as_was_said() {
    let server = Server::start(|_| vec![Step::Wait]).await;
    let (client, bench) = Client::to(&server);
    let late = client.send_with(get(server.address, "/"), options(50)).await.unwrap_err();
    assert_eq!(late.code.as_str(), "HTTP-response-timeout");
    assert_eq!(failed(&bench), "http.request time.first_byte");
    client.no_connection_is_left().await;
    until("the server sees the end", || server.gone() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_stops_in_the_middle_is_given_up() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc".to_vec();
    let server = Server::start(move |_| vec![Step::Write(head.clone()), Step::Wait]).await;
    let (client, bench) = Client::to(&server);
    let slow = client.send_with(get(server.address, "/"), options(50)).await.unwrap();
    let slow = body(slow).await;
    assert!(matches!(slow, Err(Error::ConnectionReadTimeout)), "{slow:?}");
    assert_eq!(failed(&bench), "http.request time.between_bytes");
    client.no_connection_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_the_guest_never_ends_is_cut_with_its_call() {
    let server = Server::start(|_| text("never")).await;
    let (mut client, bench) = Client::to(&server);
    client.guest.call_ends = Some(std::time::Instant::now() + Duration::from_millis(100));
    assert_eq!(client.code(post(server.address, Never.boxed_unsync())).await, "HTTP-response-timeout");
    client.no_connection_is_left().await;
    let told = bench.full();
    let codes: Vec<_> = told.iter().map(crate::support::code).collect();
    assert_eq!(codes, ["http.allowed", "http.request", "budget.exceeded"]);
    assert_eq!(told[1]["status_detail"], "time.request_body");
    assert_eq!(told[2]["status_code"], "time.request_body");
    assert!(server.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_the_guest_past_its_bound_is_cut() {
    let server = Server::start(|_| text("never")).await;
    let (client, bench) = Client::to(&server);
    let large = full(&vec![b'x'; (8 << 20) + 1]);
    assert_eq!(client.code(post(server.address, large)).await, "HTTP-request-body-size");
    assert!(bench.events().contains(&"http.request quota.bytes_out".to_owned()));
    assert!(server.requests().is_empty());
    client.no_connection_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_listening_is_a_refused_connection() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let allow = format!("http://{gone}");
    let (client, bench) = Client::rules(&[rule(&allow)]);
    assert_eq!(client.code(get(gone, "/")).await, "connection-refused");
    assert_eq!(bench.events(), ["http.allowed", "http.request net.failed"]);
    client.no_connection_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_are_held_to_the_rate_of_the_plugin() {
    let server = Server::start(|_| text(&"x".repeat(150_000))).await;
    let allow = format!("http://{}", server.address);
    let limits = NetLimits { ingress_bytes_s: Some(100_000), ..limits() };
    let (client, bench) = Client::asking(&[rule(&allow)], NO_SERVER.parse().unwrap(), limits);
    let begun = std::time::Instant::now();
    let answer = client.send(get(server.address, "/")).await.unwrap();
    assert_eq!(body(answer).await.unwrap().len(), 150_000);
    assert!(begun.elapsed() >= Duration::from_millis(400), "{:?}", begun.elapsed());
    let told: Vec<_> =
        bench.full().into_iter().filter(|event| crate::support::code(event) == "budget.exceeded").collect();
    assert_eq!(told.len(), 1, "the first wait is told, its repeats are counted");
    assert_eq!(told[0]["status_code"], "quota.bytes_in");
    assert_eq!(told[0]["unmapped"]["budget"]["scope"], "plugin");
    client.gate.flush();
    let waits = bench.full().iter().filter_map(|event| event["count"].as_u64()).sum::<u64>();
    assert!(waits < 50, "{waits}: waits are counted, not looks");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_both_ways_and_the_status_are_recorded() {
    let server = Server::start(|_| answer("HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\ngone")).await;
    let (client, bench) = Client::to(&server);
    for _ in 0..2 {
        let answer = client.send(post(server.address, full(b"twelve bytes"))).await.unwrap();
        assert_eq!(body(answer).await.unwrap(), "gone");
    }
    let sent = server.requests()[0].len();
    for told in bench.full().iter().filter(|event| crate::support::code(event) == "http.request") {
        assert_eq!(told["http_response"]["code"], 404, "{told}");
        assert_eq!(told["traffic"]["bytes_out"], sent, "{told}");
        assert_eq!(told["traffic"]["bytes_in"], 49, "{told}");
    }
}
