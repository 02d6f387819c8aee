//! The ops, one by one.

use std::net::IpAddr;

use portcullis_plugin::bindings::convert;
use portcullis_plugin::bindings::host::wasi::clocks::wall_clock;
use portcullis_plugin::bindings::host::wasi::random::random::get_random_bytes;
use portcullis_plugin::bindings::io::wasi::clocks::monotonic_clock;
use portcullis_plugin::bindings::net::wasi::sockets::instance_network::instance_network;
use portcullis_plugin::bindings::net::wasi::sockets::ip_name_lookup::resolve_addresses;
use portcullis_plugin::bindings::net::wasi::sockets::network::ErrorCode;
use serde_json::{Map, Value, json};

use crate::op::{Op, Proto};
use crate::outcome::{Failure, Outcome, detail};
use crate::{http, tcp, udp};

/// The sockets that stay open until the last op of the message.
#[derive(Default)]
pub(crate) struct Run {
    open: Vec<tcp::Open>,
}

impl Run {
    pub(crate) fn one(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Tcp { to, talk } => tcp::talk(*to, talk),
            Op::TcpName { name, port, talk } => tcp::talk((first(name)?, *port).into(), talk),
            Op::OpenSockets { count, to } => self.open_sockets(*count, *to),
            Op::Udp(op) => udp::send(op),
            Op::Bind { proto: Proto::Tcp, to } => tcp::bind(*to).map(|_| Map::new()),
            Op::Bind { proto: Proto::Udp, to } => udp::bind(*to).map(|_| Map::new()),
            Op::Listen { to, accept } => tcp::listen(*to, *accept),
            Op::Resolve { name, max_addresses } => {
                let addresses = resolve(name, *max_addresses)?;
                let addresses: Vec<Value> = addresses.iter().map(|address| address.to_string().into()).collect();
                Ok(Map::from_iter([("addresses".to_owned(), Value::from(addresses))]))
            }
            Op::Http(op) => http::send(op),
            Op::Now => Ok(detail(now())),
            Op::Random { len } => {
                let hex: String = get_random_bytes(*len).iter().map(|byte| format!("{byte:02x}")).collect();
                Ok(detail(hex.into()))
            }
            Op::Sleep { ms } => {
                monotonic_clock::subscribe_duration(ms.saturating_mul(1_000_000)).block();
                Ok(Map::new())
            }
        }
    }

    fn open_sockets(&mut self, count: u32, to: Option<std::net::SocketAddr>) -> Outcome {
        let mut opened: u32 = 0;
        let mut failure = None;
        while opened < count {
            match tcp::Open::new(to) {
                Ok(open) => self.open.push(open),
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
            opened = opened.saturating_add(1);
        }
        let mut members = Map::from_iter([("opened".to_owned(), opened.into())]);
        match failure {
            Some(failure) if opened == 0 => return Err(failure),
            Some(failure) => {
                members.insert("code".to_owned(), failure.code().into());
                members.insert("at".to_owned(), failure.at().into());
            }
            None => {}
        }
        Ok(members)
    }
}

fn now() -> Value {
    let wall = wall_clock::now();
    json!({"wall_s": wall.seconds, "wall_ns": wall.nanoseconds, "monotonic_ns": monotonic_clock::now()})
}

/// The first address of a name.
pub(crate) fn first(name: &str) -> Result<IpAddr, Failure> {
    let addresses = resolve(name, 1)?;
    addresses.first().copied().ok_or(Failure::new("name-unresolvable", "resolve-next-address"))
}

fn resolve(name: &str, most: usize) -> Result<Vec<IpAddr>, Failure> {
    let stream =
        resolve_addresses(&instance_network(), name).map_err(|code| Failure::new(code.name(), "resolve-addresses"))?;
    let ready = stream.subscribe();
    let mut addresses = Vec::new();
    while addresses.len() < most {
        match stream.resolve_next_address() {
            Ok(Some(address)) => addresses.push(convert::address(address)),
            Ok(None) => break,
            Err(ErrorCode::WouldBlock) => ready.block(),
            Err(code) => return Err(Failure::new(code.name(), "resolve-next-address")),
        }
    }
    Ok(addresses)
}
