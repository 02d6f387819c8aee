//! What never leaves, with its reason, its code and its one event.

use std::collections::VecDeque;

use http::HeaderValue;
use portcullis_policy::RuleText;

use super::server::{Server, text};
use super::*;
use crate::http::{Secret, SecretHeader};
use crate::support::{NameServer, rule, zone};

/// A body of unknown length.
struct Frames(VecDeque<Frame<Bytes>>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

async fn refused(client: &Client, bench: &Bench, outgoing: Outgoing, code: &str, reason: &str) {
    let before = bench.events().len();
    assert_eq!(client.code(outgoing).await, code, "{reason}");
    // Repeats of a kind are counted within a window: each of these is the first of its kind.
    let events = bench.events();
    assert_eq!(events.get(before..).unwrap(), [format!("http.denied {reason}")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_refusal_is_one_event_and_no_packet() {
    let server = Server::start(|_| text("never")).await;
    let at = server.address;
    let allow = format!("http://{at}");
    let rules = [RuleText { methods: Some(vec!["GET", "POST"]), paths: Some(vec!["/v1/"]), ..rule(&allow) }];
    let (client, bench) = Client::rules(&rules);
    let ask = |change: fn(&mut Outgoing)| {
        let mut outgoing = get(at, "/v1/x");
        change(&mut outgoing);
        outgoing
    };
    let denied = "HTTP-request-denied";
    let invalid = "HTTP-request-URI-invalid";
    for (outgoing, code, reason) in [
        (ask(|it| it.scheme = "ftp".into()), denied, "rule.scheme"),
        (ask(|it| it.scheme = "https".into()), denied, "rule.scheme"),
        (ask(|it| it.method = "DELETE".into()), denied, "http.method"),
        (ask(|it| it.method = "CONNECT".into()), denied, "http.method"),
        (ask(|it| it.path = "/admin".into()), denied, "http.path"),
        (ask(|it| it.path = "/v1/%2e%2e/admin".into()), denied, "http.path_noncanonical"),
        (ask(|it| it.authority = String::new()), invalid, "name.invalid"),
        (ask(|it| it.authority.insert_str(0, "user:hunter2@")), invalid, "http.userinfo"),
        (ask(|it| it.authority = "127.1".into()), invalid, "name.numeric"),
        (ask(|it| it.authority = "127.0.0.2".into()), "destination-IP-prohibited", "addr.loopback"),
        (ask(|it| it.authority = "example.com:0443".into()), invalid, "name.port_invalid"),
        (ask(|it| it.authority = "93.184.216.34".into()), denied, "rule.no_match"),
        (header(get(at, "/v1/x"), "host", "evil.test"), denied, "http.forbidden_header"),
        (header(get(at, "/v1/x"), "content-length", "5"), denied, "http.framing"),
        (header(get(at, "/v1/x"), "x", &"y".repeat(40_000)), "HTTP-request-header-section-size", "http.header_limit"),
    ] {
        refused(&client, &bench, outgoing, code, reason).await;
    }
    assert_eq!(server.accepted(), 0);
    assert_eq!(client.node.open(), 0);
    assert!(!format!("{:?}", bench.full()).contains("hunter2"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_that_changes_method_or_path_is_refused_where_the_rule_restricts_either() {
    let server = Server::start(|_| text("ok")).await;
    let allow = format!("http://{}", server.address);
    let outgoing = || header(get(server.address, "/v1/x"), "x-http-method-override", "PUT");
    for rules in [
        RuleText { methods: Some(vec!["GET", "POST"]), ..rule(&allow) },
        RuleText { paths: Some(vec!["/v1/"]), ..rule(&allow) },
    ] {
        let (client, bench) = Client::rules(&[rules]);
        refused(&client, &bench, outgoing(), "HTTP-request-denied", "http.forbidden_header").await;
        // As a trailer it cannot be seen before the request is under way, and then it is cut.
        let mut trailers = HeaderMap::new();
        trailers.append("x-original-url", HeaderValue::from_static("/admin"));
        let body = Frames([Frame::data(Bytes::from_static(b"x")), Frame::trailers(trailers)].into()).boxed_unsync();
        let late = Outgoing { method: "POST".to_owned(), body: Some(body), ..get(server.address, "/v1/x") };
        assert_eq!(client.code(late).await, "HTTP-request-denied");
        assert_eq!(bench.events().last().unwrap(), "http.request http.forbidden_header");
    }
    assert!(server.requests().is_empty());
    let (client, _bench) = Client::rules(&[rule(&allow)]);
    assert_eq!(client.send(outgoing()).await.unwrap().status(), 200);
}

#[tokio::test]
async fn without_an_egress_everything_is_refused() {
    let client = HttpGuest::new(None);
    let asked = client.ask(&Gate::new(None), get("127.0.0.1:80".parse().unwrap(), "/"), RequestOptions::default());
    assert_eq!(asked.err().unwrap().code.as_str(), "HTTP-request-denied");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_whose_answers_may_not_be_dialled_is_one_refusal_with_the_address_reason() {
    let names =
        NameServer::start([("rebind.test", zone(&["10.1.2.3"])), ("meta.test", zone(&["169.254.169.254"]))]).await;
    let rules = [rule("http://rebind.test:80"), rule("http://meta.test:80")];
    let (client, bench) = Client::asking(&rules, names.address, limits());
    for (host, reason) in [("rebind.test", "addr.private"), ("meta.test", "addr.metadata")] {
        let mut outgoing = get("127.0.0.1:80".parse().unwrap(), "/");
        outgoing.authority = host.to_owned();
        assert_eq!(client.code(outgoing).await, "destination-IP-prohibited");
        let events = bench.events();
        let told: Vec<_> = events.iter().filter(|event| event.starts_with("http.")).collect();
        assert_eq!(*told.last().unwrap(), &format!("http.denied {reason}"), "{events:?}");
    }
    assert_eq!(bench.events().iter().filter(|event| event.starts_with("http.")).count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_does_not_exist_is_a_failure_of_the_request() {
    let names = NameServer::start([]).await;
    let (client, bench) = Client::asking(&[rule("http://gone.test:80")], names.address, limits());
    let mut outgoing = get("127.0.0.1:80".parse().unwrap(), "/");
    outgoing.authority = "gone.test".to_owned();
    assert_eq!(client.code(outgoing).await, "DNS-error");
    assert_eq!(bench.events().last().unwrap(), "http.request dns.failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_on_the_wire_and_nowhere_else() {
    let server = Server::start(|_| text("ok")).await;
    let (_, bench) = Client::to(&server);
    let egress = with(&bench, |settings| {
        let secret = Secret::new(b"Bearer hunter2".to_vec());
        settings.secrets = vec![SecretHeader::new(0, "authorization", secret).unwrap()];
    });
    let client = Client::of(&egress);
    assert_eq!(body(client.send(get(server.address, "/v1/x")).await.unwrap()).await.unwrap(), "ok");
    assert!(server.requests()[0].contains("authorization: Bearer hunter2\r\n"));
    let own = header(get(server.address, "/v1/x"), "authorization", "Bearer mine");
    assert_eq!(client.code(own).await, "HTTP-request-denied");
    assert_eq!(server.requests().len(), 1, "what the guest set was not sent");
    assert_eq!(bench.events().last().unwrap(), "http.denied http.forbidden_header");
    let told = format!("{:?}", bench.full());
    assert!(!told.contains("hunter2") && !told.contains("Bearer"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_of_another_rule_is_not_sent() {
    let (one, other) = (Server::start(|_| text("one")).await, Server::start(|_| text("other")).await);
    let (first, second) = (format!("http://{}", one.address), format!("http://{}", other.address));
    let (_, bench) = Client::rules(&[rule(&first), rule(&second)]);
    let egress = with(&bench, |settings| {
        settings.secrets = vec![SecretHeader::new(1, "x-key", Secret::new(b"hunter2".to_vec())).unwrap()];
    });
    let client = Client::of(&egress);
    for server in [&one, &other] {
        client.send(get(server.address, "/")).await.unwrap();
    }
    assert!(!one.requests()[0].contains("hunter2"));
    assert!(other.requests()[0].contains("x-key: hunter2"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_host_header_is_the_canonical_host_whatever_its_spelling() {
    let server = Server::start(|_| text("ok")).await;
    let port = server.address.port();
    let names = NameServer::start([("ok.test", zone(&["127.0.0.1"]))]).await;
    let allow = format!("http://ok.test:{port}");
    let rules = [RuleText { addresses: Some(vec!["127.0.0.0/8"]), ..rule(&allow) }];
    let (client, bench) = Client::asking(&rules, names.address, limits());
    for _ in 0..3 {
        let mut outgoing = get(server.address, "/a/b?q=secret-query");
        outgoing.authority = format!("OK.test:{port}");
        assert_eq!(client.send(outgoing).await.unwrap().status(), 200);
    }
    assert_eq!(names.queries().len(), 2, "one lookup for all of them");
    assert!(server.requests()[0].starts_with("GET /a/b?q=secret-query HTTP/1.1\r\n"));
    let host = HeaderValue::try_from(format!("ok.test:{port}")).unwrap();
    assert!(server.requests()[0].contains(&format!("host: {}\r\n", host.to_str().unwrap())));
    let told = bench.full();
    let request = told.iter().find(|event| crate::support::code(event) == "http.request").unwrap();
    assert_eq!(request["dst_endpoint"]["ip"], "127.0.0.1");
    assert!(!format!("{told:?}").contains("secret-query"));
}
