//! Datagrams as a guest sends and receives them.

use std::net::SocketAddr;
use std::time::Duration;

use portcullis_audit::{Mode, Options};
use portcullis_policy::RuleText;
use tokio::net::UdpSocket as Peer;
use wasmtime_wasi::p2::bindings::sockets::network::ErrorCode;
use wasmtime_wasi::p2::bindings::sockets::udp::{
    HostIncomingDatagramStream, HostOutgoingDatagramStream, HostUdpSocket, OutgoingDatagram,
};

use crate::NetLimits;
use crate::instance::{Instance, borrowed, came, nobody, peer, received};
use crate::support::{Bench, PATIENCE, code, limits, rule};

#[tokio::test]
async fn of_a_batch_goes_what_is_before_the_first_refused_one_and_the_guest_is_told() {
    let ((friend, to), (stranger, other)) = (peer().await, peer().await);
    let bench = Bench::new(&[rule(&format!("udp://{to}"))], nobody(), limits(), Vec::new());
    let mut instance = Instance::new(&bench);
    let udp = instance.udp(None).await.unwrap();
    assert_eq!(instance.send(&udp, &[to, to, other, to]), Ok(2));
    came(&friend).await;
    came(&friend).await;
    assert_eq!(instance.send(&udp, &[to]), Err(ErrorCode::AccessDenied), "owed for the third");
    assert_eq!(instance.send(&udp, &[other]), Err(ErrorCode::AccessDenied), "its own");
    assert_eq!(instance.send(&udp, &[to]), Ok(1));
    came(&friend).await;
    assert!(tokio::time::timeout(Duration::from_millis(50), stranger.recv(&mut [0; 8])).await.is_err());
    instance.net.flush();
    let told = bench.full();
    let codes: Vec<&str> = told.iter().map(code).collect();
    assert_eq!(codes, ["net.udp.allowed", "net.udp.denied", "net.udp.traffic", "net.udp.denied"]);
    assert_eq!(told[2]["traffic"]["packets_out"], 3);
    assert_eq!(told[2]["traffic"]["bytes_out"], 9);
}

#[tokio::test]
async fn a_datagram_of_a_stranger_is_not_seen_and_is_told() {
    let ((friend, to), (stranger, _)) = (peer().await, peer().await);
    let bench = Bench::new(&[rule(&format!("udp://{to}"))], nobody(), limits(), Vec::new());
    let mut instance = Instance::new(&bench);
    let udp = instance.udp(None).await.unwrap();
    let here = SocketAddr::from(([127, 0, 0, 1], udp.port));
    friend.send_to(&[1; 5], here).await.unwrap();
    assert_eq!(received(&mut instance, &udp).await, 0, "not even a friend before it was sent to");
    assert_eq!(instance.send(&udp, &[to]), Ok(1));
    assert_eq!(came(&friend).await.port(), udp.port);
    stranger.send_to(&[9; 5], here).await.unwrap();
    assert_eq!(received(&mut instance, &udp).await, 0);
    friend.send_to(&[1; 5], here).await.unwrap();
    assert_eq!(received(&mut instance, &udp).await, 1);
    HostIncomingDatagramStream::drop(&mut instance.host(), udp.incoming).unwrap();
    HostOutgoingDatagramStream::drop(&mut instance.host(), udp.outgoing).await.unwrap();
    HostUdpSocket::drop(&mut instance.host(), udp.socket).unwrap();
    drop(instance);
    let told = bench.full();
    let inbound = told.iter().filter(|event| code(event) == "net.udp.denied");
    assert_eq!(inbound.map(|event| event["count"].as_u64().unwrap_or(1)).sum::<u64>(), 2);
    let traffic = told.iter().find(|event| code(event) == "net.udp.traffic").unwrap();
    assert_eq!((&traffic["traffic"]["packets_in"], &traffic["traffic"]["bytes_in"]), (&1.into(), &5.into()));
}

#[tokio::test]
async fn a_udp_socket_is_tied_only_to_a_peer_that_is_allowed() {
    let ((friend, to), (_stranger, other)) = (peer().await, peer().await);
    let bench = Bench::new(&[rule(&format!("udp://{to}"))], nobody(), limits(), Vec::new());
    let mut instance = Instance::new(&bench);
    assert_eq!(instance.udp(Some(other)).await.err(), Some(ErrorCode::AccessDenied));
    let udp = instance.udp(Some(to)).await.unwrap();
    assert_eq!(bench.events(), ["net.udp.denied rule.port"], "nothing was sent yet");
    assert_eq!(instance.send(&udp, &[to]), Ok(1));
    came(&friend).await;
    assert_eq!(bench.events()[1..], ["net.udp.allowed"]);
    drop(instance);
    assert_eq!(bench.events()[2..], ["net.udp.traffic"], "the end of the instance tells what was counted");
}

async fn nothing_came(peer: &Peer) -> bool {
    tokio::time::timeout(Duration::from_millis(50), peer.recv(&mut [0; 8])).await.is_err()
}

#[tokio::test]
async fn a_new_peer_costs_as_much_as_a_connect_and_a_known_one_nothing() {
    let peers = [peer().await, peer().await, peer().await];
    let [first, second, third] = peers.each_ref().map(|(_, address)| *address);
    let few = NetLimits { connects: (2, Duration::from_secs(3600)), ..limits() };
    let any = RuleText { dangerous: true, ..rule("udp://127.0.0.1:*") };
    let bench = Bench::new(&[any], nobody(), few, Vec::new());
    let mut instance = Instance::new(&bench);
    let udp = instance.udp(None).await.unwrap();
    assert_eq!(instance.send(&udp, &[first, second, third, first]), Ok(2));
    assert_eq!(instance.send(&udp, &[first]), Err(ErrorCode::NewSocketLimit), "owed for the third");
    assert_eq!(instance.send(&udp, &[third]), Err(ErrorCode::NewSocketLimit));
    assert_eq!(instance.send(&udp, &[first, second]), Ok(2));
    for known in &peers[..2] {
        came(&known.0).await;
        came(&known.0).await;
    }
    assert!(nothing_came(&peers[2].0).await);
    drop(instance);
    let told = bench.full();
    let count = |wanted: &str, detail: &str| -> u64 {
        let of = told.iter().filter(|event| code(event) == wanted && event.to_string().contains(detail));
        of.map(|event| event["count"].as_u64().unwrap_or(1)).sum()
    };
    assert_eq!(count("net.udp.allowed", ""), 2);
    assert_eq!(count("net.udp.denied", "quota.connect_rate"), 2);
    assert!(count("budget.exceeded", "quota.connect_rate") >= 1, "{told:#?}");
}

#[tokio::test]
async fn a_batch_that_is_longer_than_was_permitted_traps_and_nothing_of_it_leaves() {
    let (friend, to) = peer().await;
    let bench = Bench::new(&[rule(&format!("udp://{to}"))], nobody(), limits(), Vec::new());
    let mut instance = Instance::new(&bench);
    let udp = instance.udp(None).await.unwrap();
    let mut host = instance.host();
    assert_eq!(host.check_send(borrowed(&udp.outgoing)).unwrap(), 16);
    let datagrams = (0..17).map(|_| OutgoingDatagram { data: vec![7; 3], remote_address: Some(to.into()) });
    let trap = host.send(borrowed(&udp.outgoing), datagrams.collect()).unwrap_err();
    assert!(trap.downcast().is_err(), "a trap and no code");
    assert!(nothing_came(&friend).await);
    assert!(bench.events().is_empty());
}

#[tokio::test]
async fn in_strict_mode_a_socket_does_not_send_with_the_evidence_of_another() {
    let (friend, to) = peer().await;
    let bench = Bench::with(&[rule(&format!("udp://{to}"))], nobody(), limits(), Vec::new(), Mode::Strict);
    let mut instance = Instance::new(&bench);
    let (proven, unproven) = (instance.udp(None).await.unwrap(), instance.udp(None).await.unwrap());
    assert_eq!(instance.send(&proven, &[to]), Ok(1));
    assert_eq!(came(&friend).await.port(), proven.port);
    bench.store.set_withholding(true);
    assert_eq!(instance.send(&unproven, &[to]), Ok(1), "it waits for its evidence");
    assert!(nothing_came(&friend).await);
    assert_eq!(instance.send(&proven, &[to]), Ok(1));
    assert_eq!(came(&friend).await.port(), proven.port, "and holds nobody else up");
    bench.store.set_withholding(false);
    assert_eq!(came(&friend).await.port(), unproven.port);
}

#[tokio::test]
async fn a_socket_whose_evidence_was_lost_does_not_send_with_that_of_another() {
    let (friend, to) = peer().await;
    let small = Options { capacity: 512, deadline: Duration::from_secs(600), ..Options::default() };
    let bench = Bench::audited(&[rule(&format!("udp://{to}"))], nobody(), limits(), Vec::new(), small);
    let mut instance = Instance::new(&bench);
    let (unproven, proven) = (instance.udp(None).await.unwrap(), instance.udp(None).await.unwrap());
    bench.fill_audit();
    assert_eq!(instance.send(&unproven, &[to]), Err(ErrorCode::AccessDenied));
    assert!(nothing_came(&friend).await);
    bench.free_audit();
    tokio::time::timeout(PATIENCE, instance.net.gate.room()).await.unwrap();
    bench.await_empty_audit();
    assert_eq!(instance.send(&proven, &[to]), Ok(1));
    assert_eq!(came(&friend).await.port(), proven.port);
    assert_eq!(instance.send(&unproven, &[to]), Ok(1));
    assert_eq!(came(&friend).await.port(), unproven.port);
    let allowed = bench.events().iter().filter(|event| *event == "net.udp.allowed").count();
    assert_eq!(allowed, 2, "each with its own");
}
