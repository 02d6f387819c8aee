use std::net::{IpAddr, SocketAddr};

use crate::{Granted, Name, Reason};

/// A transport below HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A stream.
    Tcp,
    /// Datagrams.
    Udp,
}

/// What a plugin asks for, as it came from the guest: nothing in it has been checked.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Request<'a> {
    /// `tcp-socket.start-connect`.
    Connect {
        /// Where to. A scope id or flow label in it is refused.
        to: SocketAddr,
    },
    /// One datagram, or `udp-socket.stream` with a remote address.
    Datagram {
        /// Where to.
        to: SocketAddr,
    },
    /// `resolve-addresses`: a name, or the text of an address.
    Lookup {
        /// What the guest wrote, in any script.
        name: &'a str,
    },
    /// One address of the answer to a lookup that was granted. What is refused is not shown to the plugin.
    Answer {
        /// The lookup.
        lookup: &'a Granted,
        /// The address.
        address: IpAddr,
    },
    /// `outgoing-handler.handle`.
    Http {
        /// The method, in any case.
        method: &'a str,
        /// `http`, `https` or anything else.
        scheme: &'a str,
        /// Host and port as the guest set them.
        authority: &'a str,
        /// Path with query; empty counts as `/`.
        path: &'a str,
    },
    /// The dial of an HTTP request that was granted, to an address that its lookup gave.
    HttpDial {
        /// The request, as it was granted.
        http: &'a Granted,
        /// The address; of a request to an address literal, that address.
        address: IpAddr,
    },
    /// `start-bind` to a chosen address or port, `start-listen`, `accept`, or a datagram from a stranger.
    Inbound {
        /// Which transport.
        transport: Transport,
        /// The local address asked for, or the sender.
        address: SocketAddr,
    },
    /// The first flight of bytes on a connection whose rule is for TLS or says `sni_pin`.
    ClientHello {
        /// The connect, as it was granted.
        connect: &'a Granted,
        /// What the bytes were.
        hello: Hello<'a>,
    },
}

/// The first bytes that a plugin sent on a raw connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hello<'a> {
    /// Something else than a ClientHello.
    NotTls,
    /// A ClientHello without a server name.
    NoName,
    /// A ClientHello for this server, as it was written.
    Name(&'a str),
}

/// What `decide` needs to know beside the rules. Data only: whoever asks has read the clock and taken the quota before.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Milliseconds of any clock that does not go back.
    pub now_ms: u64,
    /// The pins of the address that the request goes to; expired ones may be among them.
    pub pins: &'a [Pin],
    /// Which quota had no room; none when the reservation was made.
    pub exhausted: Option<Quota>,
}

/// An address that a lookup gave to a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The name that was looked up.
    pub name: Name,
    /// The address.
    pub address: IpAddr,
    /// Until when, on the clock of [`Facts::now_ms`].
    pub expires_ms: u64,
    /// The number of the lookup's audit event, which the caller chose.
    pub lookup: u128,
}

/// A quota that a request reserves from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quota {
    /// Open sockets.
    Sockets,
    /// Connects a second.
    Connects,
    /// Lookups a second.
    Lookups,
}

impl Quota {
    /// The reason of a refusal for want of it.
    pub const fn reason(self) -> Reason {
        match self {
            Self::Sockets => Reason::QuotaSockets,
            Self::Connects => Reason::QuotaConnectRate,
            Self::Lookups => Reason::QuotaDns,
        }
    }
}
