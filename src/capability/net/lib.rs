//! The network of a plugin: WASI sockets, name lookup and HTTP under one policy. In reading order: a host function of
//! [`sockets`] or `http` asks the [`gate`], which brings the facts to `portcullis_policy::decide`, takes quotas and records;
//! what was granted goes as a token to the resolver or the dialer, and nothing else makes either of them send a packet.
#![forbid(unsafe_code)]

mod desk;
mod dialer;
mod egress;
mod evidence;
mod gate;
mod guest;
mod http;
mod lookup;
mod pins;
mod quota;
mod resolver;
mod sockets;
mod tls;
mod view;

#[cfg(test)]
#[path = "tests/full.rs"]
mod full;
#[cfg(test)]
#[path = "tests/instance.rs"]
mod instance;
#[cfg(test)]
#[path = "tests/support.rs"]
mod support;
#[cfg(test)]
#[path = "tests/udp.rs"]
mod udp;
#[cfg(test)]
#[path = "tests/wasi.rs"]
mod wasi;

pub use desk::{Call, guest_code};
pub use egress::{Effects, Egress, NetLimits, Settings};
pub use guest::{NetGuest, Record};
pub use http::{Secret, SecretError, SecretHeader, link as link_http};
pub use quota::{Budget, BudgetLimits};
pub use resolver::{Resolver, ResolverError, ResolverSettings, Servers};
pub use sockets::link as link_sockets;
pub use tls::{RuleTls, TlsError, roots_from_pem, system_roots};
pub use view::{HasNet, NetParts};
