//! `wasi:sockets/ip-name-lookup` with an own stream of addresses. Nothing leaves for a name that no rule allows: a query is a
//! way out.

use std::net::IpAddr;
use std::sync::Arc;
use std::vec::IntoIter;

use bindings::wasi::sockets::ip_name_lookup::{Host, HostResolveAddressStream};
use portcullis_audit::Attempt;
use portcullis_policy::{Effect, Quota, Reason, Request};
use tokio::sync::watch;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddress};
use wasmtime_wasi::p2::{DynPollable, Network, Pollable, SocketError, SocketResult};

use crate::gate::Gate;
use crate::lookup::{Answer, Begun, Origin, Outcome, Unresolved, landed};
use crate::resolver::Kind;
use crate::view::{HasNet, View};

pub(crate) mod bindings {
    wasmtime::component::bindgen!({
        inline: "
            package wasi:sockets@0.2.12;

            interface network {
                @unstable(feature = network-error-code)
                use wasi:io/error@0.2.12.{error};
                resource network;
                enum error-code {
                    unknown, access-denied, not-supported, invalid-argument, out-of-memory, timeout,
                    concurrency-conflict, not-in-progress, would-block, invalid-state, new-socket-limit,
                    address-not-bindable, address-in-use, remote-unreachable, connection-refused, connection-reset,
                    connection-aborted, datagram-too-large, name-unresolvable, temporary-resolver-failure,
                    permanent-resolver-failure,
                }
                type ipv4-address = tuple<u8, u8, u8, u8>;
                type ipv6-address = tuple<u16, u16, u16, u16, u16, u16, u16, u16>;
                variant ip-address {
                    ipv4(ipv4-address),
                    ipv6(ipv6-address),
                }
                @unstable(feature = network-error-code)
                network-error-code: func(err: borrow<error>) -> option<error-code>;
            }

            interface ip-name-lookup {
                use wasi:io/poll@0.2.12.{pollable};
                use network.{network, error-code, ip-address};
                resource resolve-address-stream {
                    resolve-next-address: func() -> result<option<ip-address>, error-code>;
                    subscribe: func() -> pollable;
                }
                resolve-addresses: func(network: borrow<network>, name: string) -> result<resolve-address-stream, error-code>;
            }

            world lookup {
                import ip-name-lookup;
            }

            package wasi:io@0.2.12 {
                interface error {
                    resource error;
                }
                interface poll {
                    resource pollable;
                }
            }
        ",
        imports: { default: trappable },
        trappable_error_type: { "wasi:sockets/network.error-code" => wasmtime_wasi::p2::SocketError },
        with: {
            "wasi:sockets/network": wasmtime_wasi::p2::bindings::sockets::network,
            "wasi:io/error": wasmtime_wasi_io::bindings::wasi::io::error,
            "wasi:io/poll": wasmtime_wasi_io::bindings::wasi::io::poll,
            "wasi:sockets/ip-name-lookup.resolve-address-stream": super::Addresses,
        },
        require_store_data_send: true,
    });
}

/// The answer of one lookup, or its way here.
#[expect(unreachable_pub, reason = "the bindings name it in public items of a private module")]
pub struct Addresses {
    gate: Gate,
    state: State,
}

enum State {
    Flight(watch::Receiver<Option<Outcome>>),
    Known(IntoIter<IpAddr>),
    Failed(Unresolved),
}

impl Addresses {
    fn land(&mut self, outcome: Outcome) {
        self.state = match outcome {
            Ok(answer) => {
                self.gate.learn(&answer);
                known(&answer)
            }
            Err(unresolved) => State::Failed(unresolved),
        };
    }

    fn next(&mut self) -> SocketResult<Option<IpAddress>> {
        if let State::Flight(flight) = &self.state {
            let outcome = flight.borrow().clone();
            match outcome {
                Some(outcome) => self.land(outcome),
                None if flight.has_changed().is_err() => {
                    self.land(Err(Unresolved { reason: Reason::DnsFailed, kind: Kind::Temporary }));
                }
                None => return Err(ErrorCode::WouldBlock.into()),
            }
        }
        match &mut self.state {
            State::Known(addresses) => Ok(addresses.next().map(IpAddress::from)),
            State::Failed(unresolved) => Err(code(unresolved.kind).into()),
            State::Flight(_) => Err(ErrorCode::WouldBlock.into()),
        }
    }
}

fn known(answer: &Arc<Answer>) -> State {
    State::Known(answer.addresses.clone().into_iter())
}

fn code(kind: Kind) -> ErrorCode {
    match kind {
        Kind::Name => ErrorCode::NameUnresolvable,
        Kind::Temporary => ErrorCode::TemporaryResolverFailure,
        Kind::Permanent => ErrorCode::PermanentResolverFailure,
    }
}

/// The code for a refusal before any query.
fn refusal(reason: Reason) -> ErrorCode {
    match reason {
        Reason::QuotaDns => ErrorCode::TemporaryResolverFailure,
        _ => ErrorCode::PermanentResolverFailure,
    }
}

pub(crate) fn refusal_name(reason: Reason) -> &'static str {
    match refusal(reason) {
        ErrorCode::TemporaryResolverFailure => "temporary-resolver-failure",
        _ => "permanent-resolver-failure",
    }
}

#[async_trait::async_trait]
impl Pollable for Addresses {
    async fn ready(&mut self) {
        if let State::Flight(flight) = &self.state {
            let outcome = landed(&self.gate, flight.clone()).await;
            self.land(outcome);
        }
    }
}

/// Decides a lookup and begins it.
fn resolve(gate: &Gate, name: &str) -> Result<State, ErrorCode> {
    if gate.egress().is_none() {
        return Err(ErrorCode::AccessDenied);
    }
    let request = Request::Lookup { name };
    let granted = gate.ask(&request, Attempt::Lookup, refusal_name).map_err(|denied| refusal(denied.reason))?;
    if let Effect::Literal(address) = granted.effect() {
        return Ok(State::Known(vec![*address].into_iter()));
    }
    match gate.begin_lookup(&granted, Origin::Sockets) {
        Begun::Known(answer) => Ok(known(&answer)),
        Begun::Flight(flight) => Ok(State::Flight(flight)),
        Begun::Over(met) => {
            let denied = gate.over(&request, Quota::Lookups, met);
            gate.refused(Attempt::Lookup, &denied, Some(refusal_name(denied.reason)));
            Err(refusal(denied.reason))
        }
    }
}

impl<T: HasNet> Host for View<'_, T> {
    fn resolve_addresses(&mut self, network: Resource<Network>, name: String) -> SocketResult<Resource<Addresses>> {
        let parts = self.enter().map_err(SocketError::trap)?;
        parts.table.get(&network)?;
        let gate = parts.guest.gate.clone();
        let state = resolve(&gate, &name)?;
        Ok(parts.table.push(Addresses { gate, state })?)
    }
}

impl<T: HasNet> HostResolveAddressStream for View<'_, T> {
    fn resolve_next_address(&mut self, stream: Resource<Addresses>) -> SocketResult<Option<IpAddress>> {
        self.enter().map_err(SocketError::trap)?.table.get_mut(&stream)?.next()
    }

    fn subscribe(&mut self, stream: Resource<Addresses>) -> wasmtime::Result<Resource<DynPollable>> {
        wasmtime_wasi::p2::subscribe(self.enter()?.table, stream)
    }

    fn drop(&mut self, stream: Resource<Addresses>) -> wasmtime::Result<()> {
        self.enter()?.table.delete(stream)?;
        Ok(())
    }
}
