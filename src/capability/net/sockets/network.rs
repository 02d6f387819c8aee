//! `wasi:sockets/network` and `instance-network`: a handle that grants nothing by itself, and the codes that guests are told.

use portcullis_policy::Reason;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::sockets::network::ErrorCode;
use wasmtime_wasi::p2::bindings::sockets::{instance_network, network};
use wasmtime_wasi::p2::{Network, SocketError};

use crate::view::{HasNet, View};

/// The code for a refusal. It says no more than the class of the reason: a rule is no business of the guest.
pub(crate) fn code(reason: Reason) -> ErrorCode {
    match reason {
        Reason::AddrUnspecified
        | Reason::AddrMulticast
        | Reason::AddrV4Mapped
        | Reason::AddrV4Compat
        | Reason::NamePortInvalid
        | Reason::NameInvalid => ErrorCode::InvalidArgument,
        Reason::QuotaSockets | Reason::QuotaConnectRate => ErrorCode::NewSocketLimit,
        _ => ErrorCode::AccessDenied,
    }
}

/// The same as the audit spells it.
pub(crate) fn code_name(reason: Reason) -> &'static str {
    match code(reason) {
        ErrorCode::InvalidArgument => "invalid-argument",
        ErrorCode::NewSocketLimit => "new-socket-limit",
        _ => "access-denied",
    }
}

/// Why a connect that was allowed came to nothing.
pub(crate) fn failure(code: ErrorCode) -> Reason {
    match code {
        ErrorCode::Timeout => Reason::TimeConnect,
        _ => Reason::NetFailed,
    }
}

impl<T: HasNet> network::Host for View<'_, T> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        // Not a call of the guest: the end of one that failed.
        network::Host::convert_error_code(&mut self.uncounted().inner(), error)
    }

    fn network_error_code(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        network::Host::network_error_code(&mut self.enter()?.inner(), error)
    }
}

impl<T: HasNet> network::HostNetwork for View<'_, T> {
    fn drop(&mut self, network: Resource<Network>) -> wasmtime::Result<()> {
        network::HostNetwork::drop(&mut self.enter()?.inner(), network)
    }
}

impl<T: HasNet> instance_network::Host for View<'_, T> {
    fn instance_network(&mut self) -> wasmtime::Result<Resource<Network>> {
        instance_network::Host::instance_network(&mut self.enter()?.inner())
    }
}
