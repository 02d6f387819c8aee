//! The host functions as a guest calls them, without a guest: real sockets on loopback, the audit in memory.

use std::net::SocketAddr;
use std::time::Duration;

use portcullis_audit::{Mode, Scope};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use wasmtime::component::Linker;
use wasmtime_wasi::p2::bindings::sockets::instance_network::Host as _;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress};
use wasmtime_wasi::p2::bindings::sockets::tcp::HostTcpSocket;
use wasmtime_wasi::p2::bindings::sockets::tcp_create_socket::Host as _;
use wasmtime_wasi::p2::bindings::sockets::udp::HostUdpSocket;
use wasmtime_wasi::p2::bindings::sockets::udp_create_socket::Host as _;
use wasmtime_wasi::p2::{Pollable as _, StreamError};

use crate::instance::{Instance, borrowed, coded, listener, nobody, resolved};
use crate::sockets::lookup_traits::Host as _;
use crate::support::{Bench, NameServer, PATIENCE, code, limits, rule, zone};
use crate::{Budget, BudgetLimits, HasNet, NetGuest, NetLimits};

#[tokio::test]
async fn a_connection_that_is_allowed_carries_bytes_and_is_told_with_them() {
    let (listener, to, allow) = listener().await;
    let bench = Bench::new(&[rule(&allow)], nobody(), limits(), Vec::new());
    let mut instance = Instance::new(&bench);
    let (socket, streams) = instance.connect(to).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    instance.write(&streams.1, b"ping").await.unwrap();
    let mut got = [0; 4];
    server.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"ping");
    server.write_all(b"pong!").await.unwrap();
    assert_eq!(&instance.read(&streams.0).await.unwrap()[..], b"pong!");
    assert_eq!(bench.events(), ["net.connect.allowed"]);
    instance.close(socket, streams);
    drop(instance);
    assert_eq!(bench.events(), ["net.connect.allowed", "net.close"], "once, and not again at the end");
    let traffic = &bench.full()[1]["traffic"];
    assert_eq!((&traffic["bytes_out"], &traffic["bytes_in"]), (&4.into(), &5.into()));
}

#[tokio::test]
async fn the_end_of_an_instance_closes_what_it_left_open_once() {
    let (listener, to, allow) = listener().await;
    let bench = Bench::new(&[rule(&allow)], nobody(), limits(), Vec::new());
    let mut instance = Instance::new(&bench);
    let _open = instance.connect(to).await.unwrap();
    let half_open = instance.tcp();
    instance.start(&half_open, to).unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    drop(instance);
    assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0, "the server sees the end");
    let told = bench.events();
    assert_eq!(told.iter().filter(|event| *event == "net.connect.allowed").count(), 2);
    assert_eq!(told.iter().filter(|event| *event == "net.close").count(), 2, "{told:?}");
    assert!(bench.egress.budgets().slot().is_ok());
}

#[tokio::test]
async fn what_is_refused_reaches_nobody_and_is_told() {
    let (listener, to, _) = listener().await;
    let bench = Bench::new(&[rule("tcp://93.184.216.34:443")], nobody(), limits(), Vec::new());
    let mut instance = Instance::new(&bench);
    let socket = instance.tcp();
    let refused = [
        (to.to_string(), ErrorCode::AccessDenied, "addr.loopback"),
        ("93.184.216.34:80".to_owned(), ErrorCode::AccessDenied, "rule.port"),
        ("93.184.216.34:0".to_owned(), ErrorCode::InvalidArgument, "name.port_invalid"),
        ("0.0.0.0:80".to_owned(), ErrorCode::InvalidArgument, "addr.unspecified"),
        ("224.0.0.1:80".to_owned(), ErrorCode::InvalidArgument, "addr.multicast"),
        ("[::ffff:10.0.0.1]:80".to_owned(), ErrorCode::InvalidArgument, "addr.v4_mapped"),
        ("169.254.169.254:80".to_owned(), ErrorCode::AccessDenied, "addr.metadata"),
    ];
    let mut expected = Vec::new();
    for (to, code, reason) in refused {
        assert_eq!(instance.start(&socket, to.parse().unwrap()), Err(code), "{to}");
        expected.push(format!("net.connect.denied {reason}"));
    }
    assert_eq!(bench.events(), expected);
    assert!(tokio::time::timeout(Duration::from_millis(50), listener.accept()).await.is_err());
}

#[tokio::test]
async fn a_connect_that_the_network_refuses_failed_once_and_is_not_closed() {
    let (listener, to, allow) = listener().await;
    drop(listener);
    let one = NetLimits { connections: 1, ..limits() };
    let bench = Bench::new(&[rule(&allow)], nobody(), one, Vec::new());
    let mut instance = Instance::new(&bench);
    for _ in 0..3 {
        let socket = instance.tcp();
        instance.start(&socket, to).unwrap();
        assert_eq!(instance.finish(&socket).await.unwrap_err(), ErrorCode::ConnectionRefused);
        HostTcpSocket::drop(&mut instance.host(), socket).unwrap();
    }
    let told = bench.events();
    assert_eq!(told.len(), 6, "{told:?}");
    assert!(told.chunks(2).all(|pair| pair[0] == "net.connect.allowed" && pair[1].starts_with("net.connect.failed")));
}

#[tokio::test]
async fn sockets_past_the_quota_are_refused_until_one_is_closed() {
    let (_listener, to, allow) = listener().await;
    let one = NetLimits { connections: 1, ..limits() };
    let bench = Bench::new(&[rule(&allow)], nobody(), one, Vec::new());
    let mut instance = Instance::new(&bench);
    let (socket, streams) = instance.connect(to).await.unwrap();
    let other = instance.tcp();
    assert_eq!(instance.start(&other, to), Err(ErrorCode::NewSocketLimit));
    let idle = instance.host().create_tcp_socket(IpAddressFamily::Ipv4);
    assert_eq!(coded(idle).unwrap_err(), ErrorCode::NewSocketLimit, "a socket without a connection waits already");
    instance.close(socket, streams);
    assert_eq!(instance.start(&other, to), Ok(()));
}

#[tokio::test]
async fn sockets_that_do_nothing_are_counted_for_all_instances_of_a_tenant() {
    let two = BudgetLimits { connections: Some(2), ..BudgetLimits::default() };
    let tenant = Budget::new(Scope::Tenant, two);
    let bench = Bench::new(&[rule("tcp://93.184.216.34:443")], nobody(), limits(), vec![tenant]);
    let mut instances = [Instance::new(&bench), Instance::new(&bench), Instance::new(&bench)];
    let idle =
        instances.each_mut().map(|instance| coded(instance.host().create_tcp_socket(IpAddressFamily::Ipv4)).ok());
    let [Some(first), Some(_), None] = idle else { panic!("two of three") };
    HostTcpSocket::drop(&mut instances[0].host(), first).unwrap();
    assert!(instances[2].host().create_tcp_socket(IpAddressFamily::Ipv4).is_ok(), "one was given back");
    instances[1].net.flush();
    assert_eq!(bench.events(), ["budget.exceeded quota.sockets"]);
}

#[tokio::test]
async fn only_the_implicit_bind_is_allowed() {
    let bench = Bench::new(&[rule("tcp://93.184.216.34:443")], nobody(), limits(), Vec::new());
    let mut instance = Instance::new(&bench);
    let (socket, datagrams) = (instance.tcp(), instance.host().create_udp_socket(IpAddressFamily::Ipv4).await.unwrap());
    for address in ["127.0.0.1:8080", "0.0.0.0:8080", "127.0.0.1:0"] {
        let address = IpSocketAddress::from(address.parse::<SocketAddr>().unwrap());
        let network = instance.network();
        let refused = HostTcpSocket::start_bind(&mut instance.host(), borrowed(&socket), network, address).await;
        assert_eq!(coded(refused), Err(ErrorCode::AccessDenied));
        let network = instance.network();
        let refused = HostUdpSocket::start_bind(&mut instance.host(), borrowed(&datagrams), network, address).await;
        assert_eq!(coded(refused), Err(ErrorCode::AccessDenied));
    }
    let network = instance.network();
    let any = IpSocketAddress::from(SocketAddr::from(([0, 0, 0, 0], 0)));
    assert!(HostTcpSocket::start_bind(&mut instance.host(), borrowed(&socket), network, any).await.is_ok());
    assert!(HostTcpSocket::finish_bind(&mut instance.host(), borrowed(&socket)).is_ok());
    let refused = instance.host().start_listen(borrowed(&socket)).await;
    assert_eq!(coded(refused), Err(ErrorCode::AccessDenied));
    assert_eq!(coded(instance.host().accept(borrowed(&socket))).unwrap_err(), ErrorCode::AccessDenied);
    drop(instance);
    let told = bench.full();
    let count = |wanted: &str| -> u64 {
        let of = told.iter().filter(|event| code(event) == wanted);
        of.map(|event| event["count"].as_u64().unwrap_or(1)).sum()
    };
    assert_eq!((count("net.bind.denied"), count("net.listen.denied")), (6, 2));
}

#[tokio::test]
async fn without_an_egress_nothing_can_be_made() {
    let mut instance = Instance::of(NetGuest::new(None));
    let socket = instance.host().create_tcp_socket(IpAddressFamily::Ipv4);
    assert_eq!(coded(socket).unwrap_err(), ErrorCode::AccessDenied);
    let socket = instance.host().create_udp_socket(IpAddressFamily::Ipv4).await;
    assert_eq!(coded(socket).unwrap_err(), ErrorCode::AccessDenied);
    let network = instance.network();
    let lookup = instance.host().resolve_addresses(network, "ok.test".to_owned());
    assert_eq!(coded(lookup).unwrap_err(), ErrorCode::AccessDenied);
}

#[tokio::test]
async fn a_dial_past_the_gate_ends_at_the_second_line() {
    let (listener, to, allow) = listener().await;
    let bench = Bench::new(&[rule(&allow)], nobody(), limits(), Vec::new());
    let mut instance = Instance::new(&bench);
    let (socket, network) = (instance.tcp(), instance.network());
    let mut parts = instance.net();
    parts.inner().start_connect(borrowed(&socket), network, to.into()).unwrap();
    parts.table.get_mut(&socket).unwrap().ready().await;
    assert_eq!(coded(parts.inner().finish_connect(borrowed(&socket))).unwrap_err(), ErrorCode::AccessDenied);
    assert!(tokio::time::timeout(Duration::from_millis(50), listener.accept()).await.is_err());
}

#[tokio::test]
async fn a_socket_that_is_dropped_or_failed_leaves_no_door_open() {
    let (listener, to, allow) = listener().await;
    let bench = Bench::new(&[rule(&allow)], nobody(), limits(), Vec::new());
    let mut instance = Instance::new(&bench);
    let dropped = instance.tcp();
    instance.start(&dropped, to).unwrap();
    HostTcpSocket::drop(&mut instance.host(), dropped).unwrap();
    // Of another family than the socket: it fails before the second line is asked.
    let failed = instance.host().create_tcp_socket(IpAddressFamily::Ipv6).unwrap();
    assert_eq!(instance.start(&failed, to), Err(ErrorCode::InvalidArgument));
    let waiting = instance.tcp();
    instance.start(&waiting, to).unwrap();

    let (past, network) = (instance.tcp(), instance.network());
    let mut parts = instance.net();
    parts.inner().start_connect(borrowed(&past), network, to.into()).unwrap();
    assert_eq!(instance.finish(&past).await.unwrap_err(), ErrorCode::AccessDenied, "not by the door of another socket");
    assert!(tokio::time::timeout(Duration::from_millis(50), listener.accept()).await.is_err());
    assert!(instance.finish(&waiting).await.is_ok(), "which has still its own");
}

#[tokio::test]
async fn in_strict_mode_no_packet_leaves_before_its_event_is_stored() {
    let (listener, to, allow) = listener().await;
    let bench = Bench::with(&[rule(&allow)], nobody(), limits(), Vec::new(), Mode::Strict);
    bench.store.set_withholding(true);
    let mut instance = Instance::new(&bench);
    let socket = instance.tcp();
    instance.start(&socket, to).unwrap();
    let waited = tokio::time::timeout(Duration::from_millis(200), instance.finish(&socket)).await;
    assert!(waited.is_err(), "the store has not confirmed it");
    assert!(tokio::time::timeout(Duration::from_millis(50), listener.accept()).await.is_err());
    bench.store.set_withholding(false);
    let connected = tokio::time::timeout(PATIENCE, instance.finish(&socket)).await;
    assert!(connected.unwrap().is_ok());
}

#[tokio::test]
async fn each_call_is_charged_and_none_is_let_through_past_the_budget() {
    let bench = Bench::new(&[], nobody(), limits(), Vec::new());
    let mut instance = Instance::new(&bench);
    let socket = instance.tcp();
    let before = instance.calls;
    HostTcpSocket::local_address(&mut instance.host(), borrowed(&socket)).unwrap_err();
    instance.host().is_listening(borrowed(&socket)).unwrap();
    assert_eq!(instance.calls, before + 2);
    instance.most_calls = instance.calls;
    let refused = instance.host().create_tcp_socket(IpAddressFamily::Ipv4).unwrap_err();
    assert!(refused.downcast().is_err(), "a trap and no code");
}

#[tokio::test]
async fn a_rate_of_bytes_holds_a_stream_back_and_is_told_once() {
    let (listener, to, allow) = listener().await;
    let narrow = NetLimits { egress_bytes_s: Some(40_000), ingress_bytes_s: Some(1000), ..limits() };
    let bench = Bench::new(&[rule(&allow)], nobody(), narrow, Vec::new());
    let mut instance = Instance::new(&bench);
    let (_socket, (input, output)) = instance.connect(to).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    let begun = std::time::Instant::now();
    for _ in 0..15 {
        instance.write(&output, &[0; 4000]).await.unwrap();
    }
    assert!(begun.elapsed() > Duration::from_millis(300), "60 kB at 40 kB a second: {:?}", begun.elapsed());
    server.write_all(&[1; 1500]).await.unwrap();
    assert_eq!(instance.read(&input).await.unwrap().len(), 1000, "no more than a second's worth at once");
    let begun = std::time::Instant::now();
    let mut rest = 0;
    while rest < 500 {
        rest += instance.read(&input).await.unwrap().len();
    }
    assert!(begun.elapsed() > Duration::from_millis(300), "{:?}", begun.elapsed());
    let told = bench.events();
    assert_eq!(told.iter().filter(|event| *event == "budget.exceeded quota.bytes_out").count(), 1, "{told:?}");
}

/// A name whose only address is the listener's, by a rule for TLS.
async fn tls_bench(port: u16) -> (NameServer, String) {
    let server = NameServer::start([("ok.test", zone(&["127.0.0.1"]))]).await;
    (server, format!("tls://ok.test:{port}"))
}

fn hello(name: &'static str) -> &'static [u8] {
    let config = rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from(name).unwrap();
    let mut client = rustls::ClientConnection::new(config.into(), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes.leak()
}

#[tokio::test]
async fn a_rule_for_tls_lets_bytes_go_when_they_ask_for_its_server() {
    let (listener, to, _) = listener().await;
    let (server, allow) = tls_bench(to.port()).await;
    let mut text = rule(&allow);
    text.addresses = Some(vec!["127.0.0.0/8"]);
    let bench = Bench::new(&[text], server.address, limits(), Vec::new());
    let mut instance = Instance::new(&bench);
    assert_eq!(resolved(&mut instance, "ok.test").await.unwrap(), [to.ip()]);

    let (socket, streams) = instance.connect(to).await.unwrap();
    let (mut peer, _) = listener.accept().await.unwrap();
    let bytes = hello("ok.test");
    let (first, rest) = bytes.split_at(40);
    instance.write(&streams.1, first).await.unwrap();
    assert!(nothing_came(&mut peer).await, "half a ClientHello is kept");
    instance.write(&streams.1, rest).await.unwrap();
    let mut got = vec![0; bytes.len()];
    peer.read_exact(&mut got).await.unwrap();
    assert_eq!(got, bytes);
    instance.close(socket, streams);

    for (wrong, reason) in [(hello("other.test"), "tls.sni_mismatch"), (&b"GET / HTTP/1.1\r\n"[..], "tls.not_tls")] {
        let (socket, streams) = instance.connect(to).await.unwrap();
        let (mut peer, _) = listener.accept().await.unwrap();
        assert!(matches!(instance.write(&streams.1, wrong).await, Err(StreamError::LastOperationFailed(_))));
        assert!(instance.write(&streams.1, b"more").await.is_err());
        assert!(instance.table.get_mut(&streams.0).unwrap().read(10).is_err());
        assert!(nothing_came(&mut peer).await);
        instance.close(socket, streams);
        bench.await_event(reason);
        assert_eq!(peer.read(&mut [0; 8]).await.unwrap(), 0, "nothing but the end");
    }
}

async fn nothing_came(peer: &mut TcpStream) -> bool {
    tokio::time::timeout(Duration::from_millis(50), peer.read(&mut [0; 8])).await.is_err()
}

#[tokio::test]
async fn a_lookup_that_no_rule_names_does_not_leave() {
    let server = NameServer::start([("ok.test", zone(&["93.184.216.34"]))]).await;
    let bench = Bench::new(&[rule("tcp://ok.test:443")], server.address, limits(), Vec::new());
    let mut instance = Instance::new(&bench);
    for name in ["mzxw6ytboi5dcmrt.ok.test", "localhost", "0x7f.1", "", "\u{435}xample.com", "127.0.0.1"] {
        assert_eq!(resolved(&mut instance, name).await, Err(ErrorCode::PermanentResolverFailure), "{name}");
    }
    assert!(server.queries().is_empty());
    assert_eq!(bench.full().iter().filter(|event| code(event) == "dns.denied").count(), 6);
    assert_eq!(resolved(&mut instance, "ok.test").await.unwrap().len(), 1);
    server.set("ok.test", crate::support::Zone::default());
    assert_eq!(resolved(&mut instance, "ok.test").await.unwrap().len(), 1, "from memory");
}

#[tokio::test]
async fn a_guest_that_resolves_in_a_loop_is_stopped_though_nothing_leaves() {
    let server = NameServer::start([("ok.test", zone(&["93.184.216.34"]))]).await;
    let few = NetLimits { lookups: (5, Duration::from_secs(3600)), ..limits() };
    let bench = Bench::new(&[rule("tcp://ok.test:443")], server.address, few, Vec::new());
    let mut instance = Instance::new(&bench);
    let mut codes = Vec::new();
    for _ in 0..200 {
        codes.push(resolved(&mut instance, "ok.test").await.err());
    }
    assert_eq!(codes.iter().filter(|code| code.is_none()).count(), 81, "one that left and eighty from memory");
    assert_eq!(codes.last().unwrap(), &Some(ErrorCode::TemporaryResolverFailure));
    assert_eq!(server.queries().len(), 2);
    drop(instance);
    let told = bench.full();
    let denied = told.iter().filter(|event| code(event) == "dns.denied");
    assert_eq!(denied.map(|event| event["count"].as_u64().unwrap_or(1)).sum::<u64>(), 119);
    assert!(told.iter().any(|event| code(event) == "budget.exceeded"));
}

#[tokio::test]
async fn the_text_of_an_address_is_answered_without_a_query_where_a_rule_covers_it() {
    let server = NameServer::start([]).await;
    let bench = Bench::new(&[rule("tcp://93.184.216.34:443")], server.address, limits(), Vec::new());
    let mut instance = Instance::new(&bench);
    let answer = resolved(&mut instance, "93.184.216.34").await.unwrap();
    assert_eq!(answer, ["93.184.216.34".parse::<std::net::IpAddr>().unwrap()]);
    assert!(server.queries().is_empty() && bench.events().is_empty());
}

#[tokio::test]
async fn handles_past_the_limit_are_a_trap() {
    let few = NetLimits { handles: 4, ..limits() };
    let bench = Bench::new(&[rule("tcp://93.184.216.34:443")], nobody(), few, Vec::new());
    let mut instance = Instance::new(&bench);
    let made = (0..10).map_while(|_| instance.host().instance_network().ok()).count();
    assert_eq!(made, 4);
}

#[test]
fn all_of_it_links() {
    let engine = wasmtime::Engine::default();
    let mut linker = Linker::<Instance>::new(&engine);
    crate::link_sockets(&mut linker).unwrap();
    crate::link_http(&mut linker).unwrap();
    assert!(crate::link_sockets(&mut linker).is_err(), "once");
}
