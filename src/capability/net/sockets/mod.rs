//! WASI sockets: wasmtime's own implementation behind a decision, a quota and a record of each effect. What wasmtime refuses
//! by itself is decided first all the same, so that there is evidence of it.

pub(crate) mod doors;
mod hello;
mod name_lookup;
mod network;
mod sniff;
mod streams;
mod tcp;
mod udp;
mod udp_socket;

use wasmtime::component::Linker;
use wasmtime_wasi::p2::bindings::sockets;

use crate::view::{HasNet, HasView, View};

#[cfg(test)]
pub(crate) use name_lookup::Addresses;
#[cfg(test)]
pub(crate) use name_lookup::bindings::wasi::sockets::ip_name_lookup as lookup_traits;
pub(crate) use name_lookup::refusal_name;
pub(crate) use network::code_name;
pub(crate) use tcp::Tcps;
pub(crate) use udp::Udps;

/// The most that a guest may ask of the system's buffers, in bytes.
pub(crate) const MAX_BUFFER_BYTES: u64 = 256 << 10;

/// Links `wasi:sockets`: network, instance-network, tcp, tcp-create-socket, udp, udp-create-socket and ip-name-lookup.
///
/// # Errors
/// When one of them is linked already.
pub fn link<T: HasNet>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    let options = sockets::network::LinkOptions::default();
    sockets::network::add_to_linker::<T, HasView<T>>(linker, &options, View::of)?;
    sockets::instance_network::add_to_linker::<T, HasView<T>>(linker, View::of)?;
    sockets::tcp_create_socket::add_to_linker::<T, HasView<T>>(linker, View::of)?;
    sockets::tcp::add_to_linker::<T, HasView<T>>(linker, View::of)?;
    sockets::udp_create_socket::add_to_linker::<T, HasView<T>>(linker, View::of)?;
    sockets::udp::add_to_linker::<T, HasView<T>>(linker, View::of)?;
    name_lookup::bindings::wasi::sockets::ip_name_lookup::add_to_linker::<T, HasView<T>>(linker, View::of)
}
