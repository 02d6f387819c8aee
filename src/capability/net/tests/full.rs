//! What the network does while the audit is full: nothing new, at once, and nobody else is held up.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use portcullis_audit::{Attempt, Options};
use portcullis_policy::Request;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wasmtime_wasi::p2::bindings::sockets::network::ErrorCode;
use wasmtime_wasi::p2::bindings::sockets::tcp::HostTcpSocket;

use crate::gate::Gate;
use crate::instance::{Instance, listener, nobody, resolved};
use crate::support::{Bench, NameServer, PATIENCE, limits, rule, zone};

/// Whoever waits for room on a thread that others share is seen by this.
const DEADLINE: Duration = Duration::from_secs(600);

fn small() -> Options {
    Options { capacity: 512, deadline: DEADLINE, ..Options::default() }
}

#[tokio::test]
async fn while_the_audit_is_full_a_connect_is_refused_at_once_and_others_go_on() {
    let (listener, to, allow) = listener().await;
    let bench = Bench::audited(&[rule(&allow)], nobody(), limits(), Vec::new(), small());
    let (mut working, mut other) = (Instance::new(&bench), Instance::new(&bench));
    let (socket, streams) = working.connect(to).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    bench.fill_audit();

    let begun = Instant::now();
    for _ in 0..3 {
        let refused = other.tcp();
        other.start(&refused, to).unwrap();
        assert_eq!(other.finish(&refused).await.unwrap_err(), ErrorCode::AccessDenied);
        HostTcpSocket::drop(&mut other.host(), refused).unwrap();
    }
    let nobody_came = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(nobody_came.is_err(), "nothing reaches the listener");
    working.write(&streams.1, b"ping").await.unwrap();
    let mut got = [0; 4];
    server.read_exact(&mut got).await.unwrap();
    server.write_all(b"pong").await.unwrap();
    assert_eq!(&working.read(&streams.0).await.unwrap()[..], b"pong");
    working.close(socket, streams);
    drop(other);
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());

    bench.free_audit();
    tokio::time::timeout(PATIENCE, working.net.gate.room()).await.unwrap();
    assert!(working.connect(to).await.is_ok(), "and it works again");
    bench.await_event("audit.loss");
}

#[tokio::test]
async fn what_is_refused_or_over_a_quota_waits_for_no_room_and_holds_no_lock() {
    let bench = Bench::audited(&[rule("tcp://93.184.216.34:443")], nobody(), limits(), Vec::new(), small());
    let gate = Gate::new(Some(Arc::clone(&bench.egress)));
    bench.fill_audit();
    let begun = Instant::now();
    let request = Request::Connect { to: "93.184.216.34:80".parse().unwrap() };
    for _ in 0..100 {
        gate.ask(&request, Attempt::Connect, |_| "access-denied").unwrap_err();
    }
    gate.flush();
    drop(gate);
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn room_is_waited_for_until_the_store_works_again_and_no_longer_than_the_audits_deadline() {
    let bench = Bench::audited(&[], nobody(), limits(), Vec::new(), small());
    let gate = Gate::new(Some(Arc::clone(&bench.egress)));
    tokio::time::timeout(PATIENCE, gate.room()).await.unwrap();
    bench.fill_audit();
    {
        let mut room = pin!(gate.room());
        assert!(room.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        bench.free_audit();
        tokio::time::timeout(PATIENCE, room).await.unwrap();
    }

    let short = Options { deadline: Duration::from_millis(20), ..small() };
    let bench = Bench::audited(&[], nobody(), limits(), Vec::new(), short);
    let gate = Gate::new(Some(Arc::clone(&bench.egress)));
    bench.fill_audit();
    tokio::time::timeout(PATIENCE, gate.room()).await.expect("the deadline ends it");
    tokio::time::timeout(PATIENCE, Gate::new(None).room()).await.expect("nothing can be recorded");
}

#[tokio::test]
async fn a_lookup_waits_for_room_and_no_query_leaves_before() {
    let server = NameServer::start([("ok.test", zone(&["93.184.216.34"]))]).await;
    let bench = Bench::audited(&[rule("tcp://ok.test:443")], server.address, limits(), Vec::new(), small());
    let mut instance = Instance::new(&bench);
    bench.fill_audit();
    let waited = tokio::time::timeout(Duration::from_millis(100), resolved(&mut instance, "ok.test")).await;
    assert!(waited.is_err(), "its event has no room");
    assert!(server.queries().is_empty());
    bench.free_audit();
    let answer = tokio::time::timeout(PATIENCE, resolved(&mut instance, "ok.test")).await.unwrap();
    assert_eq!(answer.unwrap().len(), 1);
}
