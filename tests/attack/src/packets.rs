//! What goes over the wire: a raw socket on the namespace's only device. It has each packet at the moment it is sent, so
//! when the bridge has ended nothing is still on its way.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SocketFlags, SocketType};

/// Different packets that are kept; past it something is very wrong, and the vector fails.
const SEEN_MAX: usize = 4096;
const BUFFER: usize = 32 << 20;

/// A packet that opens something: the first of a TCP connection, or a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Packet {
    pub(crate) transport: Transport,
    pub(crate) to: SocketAddr,
    pub(crate) from: SocketAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.transport {
            Transport::Tcp => write!(f, "SYN to {}", self.to),
            Transport::Udp => write!(f, "datagram to {}", self.to),
        }
    }
}

/// Watches from the moment it is made. Its thread ends with the process.
#[derive(Debug)]
pub(crate) struct Watcher {
    socket: Arc<OwnedFd>,
    seen: Arc<Mutex<BTreeSet<Packet>>>,
}

impl Watcher {
    /// # Errors
    /// When the raw socket cannot be had: it takes CAP_NET_RAW in the namespace.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let socket = net::socket_with(AddressFamily::PACKET, SocketType::DGRAM, flags, Some(net::eth::ALL))
            .context("no raw socket (CAP_NET_RAW)")?;
        // As much as the system allows: what does not fit would be missed.
        if net::sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER).is_err() {
            net::sockopt::set_socket_recv_buffer_size(&socket, BUFFER).context("no buffer for the raw socket")?;
        }
        net::sockopt::set_socket_timeout(&socket, net::sockopt::Timeout::Recv, Some(Duration::from_millis(200)))?;
        let watcher = Self { socket: Arc::new(socket), seen: Arc::default() };
        let (socket, seen) = (Arc::clone(&watcher.socket), Arc::clone(&watcher.seen));
        std::thread::Builder::new().name("watcher".into()).spawn(move || {
            while Arc::strong_count(&socket) > 1 {
                take(&socket, &seen, RecvFlags::empty());
            }
        })?;
        Ok(watcher)
    }

    /// Everything that was sent until now.
    pub(crate) fn seen(&self) -> BTreeSet<Packet> {
        // The thread may hold the last one that it received for a moment, so this asks after the queue is empty; its lock
        // is taken around both steps there.
        while take(&self.socket, &self.seen, RecvFlags::DONTWAIT) {}
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Takes one packet off the queue; false when there is none.
fn take(socket: &OwnedFd, seen: &Mutex<BTreeSet<Packet>>, flags: RecvFlags) -> bool {
    let mut buffer = [0u8; 256];
    if flags.is_empty() {
        // Waits without the lock, takes with it: so nobody finds the queue empty while a packet is between queue and set.
        let mut first = [0u8; 1];
        if net::recv(socket, &mut first, RecvFlags::PEEK).is_err() {
            return false;
        }
    }
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    match net::recv(socket, &mut buffer, flags | RecvFlags::DONTWAIT) {
        Ok((length, _)) => {
            if let Some(packet) = buffer.get(..length).and_then(parse)
                && seen.len() < SEEN_MAX
            {
                seen.insert(packet);
            }
            true
        }
        Err(Errno::INTR) => true,
        Err(_) => false,
    }
}

const TCP: u8 = 6;
const UDP: u8 = 17;

/// The packet that starts with its IP header, where it is one that opens something.
fn parse(bytes: &[u8]) -> Option<Packet> {
    let (from, to, protocol, rest) = match bytes.first()? >> 4 {
        4 => ipv4(bytes)?,
        6 => ipv6(bytes)?,
        _ => return None,
    };
    let port = |at: usize| Some(u16::from_be_bytes(rest.get(at..at + 2)?.try_into().ok()?));
    let (from, to) = (SocketAddr::new(from, port(0)?), SocketAddr::new(to, port(2)?));
    let transport = match protocol {
        UDP => Transport::Udp,
        // SYN without ACK: a client's first.
        TCP if rest.get(13)? & 0x12 == 0x02 => Transport::Tcp,
        _ => return None,
    };
    Some(Packet { transport, to, from })
}

fn ipv4(bytes: &[u8]) -> Option<(IpAddr, IpAddr, u8, &[u8])> {
    let address = |at: usize| {
        let bytes: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(IpAddr::V4(Ipv4Addr::from(bytes)))
    };
    let header = usize::from(bytes.first()? & 0x0f) * 4;
    let fragment = u16::from_be_bytes(bytes.get(6..8)?.try_into().ok()?) & 0x1fff;
    // Only the first fragment has the ports.
    if fragment != 0 {
        return None;
    }
    Some((address(12)?, address(16)?, *bytes.get(9)?, bytes.get(header..)?))
}

fn ipv6(bytes: &[u8]) -> Option<(IpAddr, IpAddr, u8, &[u8])> {
    const EXTENSIONS: [u8; 4] = [0, 43, 44, 60];
    const FRAGMENT: u8 = 44;
    let address = |at: usize| {
        let bytes: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
        Some(IpAddr::V6(Ipv6Addr::from(bytes)))
    };
    let mut next = *bytes.get(6)?;
    let mut rest = bytes.get(40..)?;
    while EXTENSIONS.contains(&next) {
        let length = if next == FRAGMENT { 8 } else { usize::from(*rest.get(1)?) * 8 + 8 };
        if next == FRAGMENT && u16::from_be_bytes(rest.get(2..4)?.try_into().ok()?) & 0xfff8 != 0 {
            return None;
        }
        next = *rest.first()?;
        rest = rest.get(length..)?;
    }
    Some((address(8)?, address(24)?, next, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet_v4(protocol: u8, flags: u8) -> Vec<u8> {
        let mut bytes = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 93, 184, 216, 34];
        bytes.extend([0x80, 0, 0x01, 0xbb, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags, 0, 0]);
        bytes
    }

    #[test]
    fn the_first_packet_of_a_connection_and_each_datagram_count() {
        let syn = parse(&packet_v4(TCP, 0x02)).unwrap();
        assert_eq!((syn.transport, syn.to.to_string()), (Transport::Tcp, "93.184.216.34:443".to_owned()));
        assert_eq!(parse(&packet_v4(UDP, 0)).unwrap().transport, Transport::Udp);
        // The answer to a SYN, data, a reset, ICMP.
        for (protocol, flags) in [(TCP, 0x12), (TCP, 0x18), (TCP, 0x14), (1, 0)] {
            assert_eq!(parse(&packet_v4(protocol, flags)), None);
        }
    }

    #[test]
    fn extension_headers_do_not_hide_a_datagram() {
        let mut bytes = vec![0x60, 0, 0, 0, 0, 16, 60, 64];
        bytes.extend(Ipv6Addr::LOCALHOST.octets());
        bytes.extend(Ipv6Addr::LOCALHOST.octets());
        bytes.extend([UDP, 0, 1, 4, 0, 0, 0, 0]);
        bytes.extend([0x80, 0, 0, 53, 0, 8, 0, 0]);
        let datagram = parse(&bytes).unwrap();
        assert_eq!((datagram.transport, datagram.to.to_string()), (Transport::Udp, "[::1]:53".to_owned()));
    }

    #[test]
    fn what_is_cut_off_is_no_packet() {
        let whole = packet_v4(TCP, 0x02);
        for length in 0..33 {
            assert_eq!(parse(&whole[..length]), None, "{length} bytes");
        }
        assert!(parse(&whole[..34]).is_some());
    }
}
