//! Requests that find everything in use.

use portcullis_policy::RuleText;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::server::{Server, Step, text};
use super::*;
use crate::support::rule;

const BUSY: Duration = Duration::from_millis(50);

/// Answers a request for each permit.
async fn slow() -> (Server, Arc<Semaphore>) {
    let permits = Arc::new(Semaphore::new(0));
    let of_server = Arc::clone(&permits);
    let server = Server::start(move |_| {
        let mut steps = vec![Step::Permit(Arc::clone(&of_server))];
        steps.extend(text("ok"));
        steps
    });
    (server.await, permits)
}

fn asking(servers: &[&Server], limits: NetLimits) -> (Client, Bench) {
    let allow: Vec<_> = servers.iter().map(|server| format!("http://{}", server.address)).collect();
    let rules: Vec<RuleText<'_>> = allow.iter().map(|allow| rule(allow)).collect();
    Client::asking(&rules, NO_SERVER.parse().unwrap(), limits)
}

fn spawn(running: &mut JoinSet<Result<String, &'static str>>, client: &Client, server: &Server) {
    let job = client.guest.ask(&client.gate, get(server.address, "/"), RequestOptions::default()).unwrap();
    running.spawn(async move {
        match job.run().await {
            Ok(answer) => Ok(body(answer).await.unwrap()),
            Err(failure) => Err(failure.code.as_str()),
        }
    });
}

fn none_was_refused(bench: &Bench) {
    let events = bench.events();
    let refused: Vec<_> = events.iter().filter(|event| event.contains("quota") || event.contains("denied")).collect();
    assert!(refused.is_empty(), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_past_the_connections_wait_and_none_is_refused() {
    let (server, permits) = slow().await;
    let (client, bench) = asking(&[&server], NetLimits { connections: 2, ..limits() });
    let (mut running, mut begun) = (JoinSet::new(), 0);
    for answered in 0..60 {
        while begun < 60 && running.len() < 16 {
            spawn(&mut running, &client, &server);
            begun += 1;
        }
        until("a request is there", || server.requests().len() > answered).await;
        permits.add_permits(1);
        assert_eq!(running.join_next().await.unwrap().unwrap(), Ok("ok".to_owned()), "request {answered}");
    }
    assert_eq!((server.accepted(), server.requests().len()), (2, 60), "each connection serves one after the other");
    none_was_refused(&bench);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_finds_no_place_in_its_connect_time_is_refused_and_one_that_is_let_go_is_told() {
    let (server, permits) = slow().await;
    let (client, bench) = asking(&[&server], NetLimits { connections: 1, ..limits() });
    let mut running = JoinSet::new();
    spawn(&mut running, &client, &server);
    until("the first request is there", || server.requests().len() == 1).await;
    let begun = Instant::now();
    let refused = client.send_with(get(server.address, "/"), options(50)).await.unwrap_err();
    assert_eq!(refused.code.as_str(), "connection-limit-reached");
    assert!(begun.elapsed() >= BUSY, "{:?}", begun.elapsed());
    let told = ["http.allowed", "budget.exceeded quota.sockets", "http.denied quota.sockets"];
    assert_eq!(bench.events(), told);

    // As when the call of the guest ends first. An instance of its own, whose first excess is told at once.
    let other = Client::of(&bench.egress);
    assert!(tokio::time::timeout(BUSY, other.send(get(server.address, "/"))).await.is_err());
    assert_eq!(bench.events().last().unwrap(), "budget.exceeded quota.sockets");
    assert_eq!(bench.events().len(), 4);
    permits.add_permits(1);
    assert_eq!(running.join_next().await.unwrap().unwrap(), Ok("ok".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_a_raw_socket_gives_back_is_taken() {
    let (server, permits) = slow().await;
    permits.add_permits(1);
    let (client, bench) = asking(&[&server], NetLimits { connections: 1, ..limits() });
    let raw = bench.egress.budgets().slot().unwrap();
    let mut running = JoinSet::new();
    spawn(&mut running, &client, &server);
    assert!(tokio::time::timeout(BUSY, running.join_next()).await.is_err());
    assert_eq!(server.accepted(), 0);
    drop(raw);
    assert_eq!(running.join_next().await.unwrap().unwrap(), Ok("ok".to_owned()));
    none_was_refused(&bench);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_waits_for_the_connection_of_another_of_its_tenant_and_gets_its_place() {
    let (server, permits) = slow().await;
    let allow = format!("http://{}", server.address);
    let one = BudgetLimits { connections: Some(1), ..BudgetLimits::default() };
    let tenant = Budget::new(Scope::Tenant, one);
    let bench = Bench::new(&[rule(&allow)], NO_SERVER.parse().unwrap(), limits(), vec![tenant]);
    let (first, second) = (Client::of(&bench.egress), Client::of(&with(&bench, |_| ())));
    let mut running = JoinSet::new();
    for (answered, client) in [&first, &second, &first, &second].into_iter().enumerate() {
        spawn(&mut running, client, &server);
        if answered == 0 {
            until("the first request is there", || server.requests().len() == 1).await;
        }
    }
    for answered in 0..4 {
        until("a request is there", || server.requests().len() > answered).await;
        permits.add_permits(1);
        assert_eq!(running.join_next().await.unwrap().unwrap(), Ok("ok".to_owned()));
    }
    assert_eq!(first.node.open(), 1);
    none_was_refused(&bench);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connect_waits_until_its_rate_has_earned_it() {
    let (one, two) = (Server::start(|_| text("one")).await, Server::start(|_| text("two")).await);
    let rate = |period| NetLimits { connects: (1, period), ..limits() };
    let (client, bench) = asking(&[&one, &two], rate(4 * BUSY));
    let begun = Instant::now();
    for (server, said) in [(&one, "one"), (&two, "two")] {
        assert_eq!(body(client.send(get(server.address, "/")).await.unwrap()).await.unwrap(), said);
    }
    assert!(begun.elapsed() >= 3 * BUSY, "{:?}", begun.elapsed());
    none_was_refused(&bench);

    let (client, bench) = asking(&[&one, &two], rate(Duration::from_secs(3600)));
    body(client.send(get(one.address, "/")).await.unwrap()).await.unwrap();
    let refused = client.send_with(get(two.address, "/"), options(50)).await.unwrap_err();
    assert_eq!(refused.code.as_str(), "connection-limit-reached");
    let told = bench.events();
    assert_eq!(told[2..], ["budget.exceeded quota.connect_rate", "http.denied quota.connect_rate"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_waits_for_its_rate_takes_the_connection_that_is_free_first() {
    let (server, permits) = slow().await;
    let limits = NetLimits { connects: (1, Duration::from_secs(3600)), ..limits() };
    let (client, bench) = asking(&[&server], limits);
    let mut running = JoinSet::new();
    for _ in 0..4 {
        spawn(&mut running, &client, &server);
    }
    permits.add_permits(4);
    while let Some(answer) = running.join_next().await {
        assert_eq!(answer.unwrap(), Ok("ok".to_owned()));
    }
    assert_eq!(server.accepted(), 1);
    none_was_refused(&bench);
}
