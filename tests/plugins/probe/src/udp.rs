//! UDP, step by step.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use portcullis_plugin::bindings::convert;
use portcullis_plugin::bindings::net::wasi::sockets::instance_network::instance_network;
use portcullis_plugin::bindings::net::wasi::sockets::network::ErrorCode;
use portcullis_plugin::bindings::net::wasi::sockets::udp::{OutgoingDatagram, UdpSocket};
use portcullis_plugin::bindings::net::wasi::sockets::udp_create_socket::create_udp_socket;
use serde_json::{Map, json};

use crate::op::Udp;
use crate::outcome::{Failure, Outcome, detail};
use crate::run::first;
use crate::tcp::at;
use crate::wait::{REPLY_MS, until};

pub(crate) fn bind(to: SocketAddr) -> Result<UdpSocket, Failure> {
    let socket = create_udp_socket(convert::family(to)).map_err(at("create-udp-socket"))?;
    socket.start_bind(&instance_network(), convert::socket_address(to)).map_err(at("start-bind"))?;
    let ready = socket.subscribe();
    loop {
        match socket.finish_bind() {
            Ok(()) => break,
            Err(ErrorCode::WouldBlock) => until(&ready, Some(REPLY_MS), "finish-bind")?,
            Err(code) => return Err(at("finish-bind")(code)),
        }
    }
    drop(ready);
    Ok(socket)
}

pub(crate) fn send(op: &Udp) -> Outcome {
    let to = match (op.to, &op.name, op.port) {
        (Some(to), None, None) => to,
        (None, Some(name), Some(port)) => (first(name)?, port).into(),
        _ => return Err(Failure::new("bad-op", "probe")),
    };
    // WASI wants a socket to be bound before it sends: to any address, at a port of the host's choice.
    let any = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = bind(SocketAddr::new(any, 0))?;
    let remote = convert::socket_address(to);
    let (incoming, outgoing) = socket.stream(op.connected.then_some(remote)).map_err(at("stream"))?;
    let mut members = Map::new();
    if let Some(text) = &op.talk.send {
        let datagram =
            OutgoingDatagram { data: text.clone().into_bytes(), remote_address: (!op.connected).then_some(remote) };
        let ready = outgoing.subscribe();
        while outgoing.check_send().map_err(at("check-send"))? == 0 {
            until(&ready, Some(REPLY_MS), "check-send")?;
        }
        let sent = outgoing.send(&[datagram]).map_err(at("send"))?;
        members = detail(json!({"sent": sent}));
    }
    if op.talk.read.is_some() {
        let ready = incoming.subscribe();
        let datagrams = loop {
            let datagrams = incoming.receive(1).map_err(at("receive"))?;
            if !datagrams.is_empty() {
                break datagrams;
            }
            until(&ready, Some(op.talk.wait_ms.unwrap_or(REPLY_MS)), "receive")?;
        };
        let text = datagrams.first().map(|datagram| String::from_utf8_lossy(&datagram.data).into_owned());
        members = detail(json!({"read": text}));
    }
    Ok(members)
}
