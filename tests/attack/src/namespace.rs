//! A network of our own: a namespace in which every address there is belongs to the loopback device, so that a packet to any
//! of them is seen and none leaves.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// How a process gets a namespace of its own: as an ordinary user through a user namespace, else as root.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way(&'static [&'static str]);

const WAYS: [Way; 2] = [Way(&["--user", "--map-root-user", "--net"]), Way(&["--net"])];

impl Way {
    /// The first way that works here.
    ///
    /// # Errors
    /// When none does: what each said.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let mut said = Vec::new();
        for way in WAYS {
            let tried = Command::new("unshare").args(way.0).arg("true").stdin(Stdio::null()).output();
            match tried {
                Ok(output) if output.status.success() => return Ok(way),
                Ok(output) => said.push(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
                Err(error) => said.push(format!("unshare (of util-linux): {error}")),
            }
        }
        bail!(
            "no network namespace can be made here: {}. It takes user namespaces (sysctl user.max_user_namespaces, and \
             in a container a seccomp profile that lets unshare through) or root with CAP_SYS_ADMIN",
            said.join("; ")
        )
    }

    /// The program, to be started in a namespace of its own. The process keeps the id that it is spawned with.
    pub(crate) fn command(self, program: &Path) -> Command {
        let mut command = Command::new("unshare");
        let arguments = self.0.iter().map(OsString::from).chain([OsString::from("--"), program.into()]);
        command.args(arguments);
        command
    }
}

const LOOPBACK: i32 = 1;
const LINK_NEW: u16 = 16;
const ROUTE_NEW: u16 = 24;
const ANSWER_ERROR: u16 = 2;
/// Request, acknowledge.
const CHANGE: u16 = 0x5;
/// Request, acknowledge, exclusive, create.
const CREATE: u16 = 0x605;
const ROUTE_OUT: u16 = 4;
const ROUTE_SOURCE: u16 = 7;

/// Brings the loopback device up and makes every address of both families one of its own. Gives false where there is no IPv6.
///
/// # Errors
/// When the namespace is not ours: this refuses to touch one that has another device.
pub(crate) fn prepare() -> anyhow::Result<bool> {
    let devices = std::fs::read_to_string("/proc/net/dev").context("cannot read /proc/net/dev")?;
    let names = devices.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim());
    for name in names {
        // Some kernels put tunnel devices, down and without address, into each new namespace.
        let fallback = ["tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "sit0", "ip6tnl0", "ip6gre0"];
        ensure!(name == "lo" || fallback.contains(&name), "this is not a namespace of its own: it has `{name}`");
    }
    let socket = net::socket(AddressFamily::NETLINK, SocketType::RAW, None).context("netlink")?;
    ask(&socket, LINK_NEW, CHANGE, &link_up()).context("lo cannot be brought up")?;
    ask(&socket, ROUTE_NEW, CREATE, &all_local(AddressFamily::INET)).context("no route for IPv4")?;
    match ask(&socket, ROUTE_NEW, CREATE, &all_local(AddressFamily::INET6)) {
        Ok(()) => Ok(true),
        Err(Errno::AFNOSUPPORT | Errno::OPNOTSUPP | Errno::ACCESS | Errno::NODEV | Errno::INVAL) => Ok(false),
        Err(error) => Err(error).context("no route for IPv6"),
    }
}

fn link_up() -> Vec<u8> {
    let mut body = vec![0, 0, 0, 0];
    body.extend(LOOPBACK.to_ne_bytes());
    // The flag UP, and which flags change: the same one.
    body.extend(1u32.to_ne_bytes());
    body.extend(1u32.to_ne_bytes());
    body
}

/// A route of type `local` for all addresses: they can be bound, and they answer.
fn all_local(family: AddressFamily) -> Vec<u8> {
    let family_byte = family.as_raw().to_le_bytes()[0];
    // Family, no prefix of destination and source, tos, table `local`, protocol `boot`, scope `host`, type `local`.
    let mut body = vec![family_byte, 0, 0, 0, 255, 3, 254, 2];
    body.extend(0u32.to_ne_bytes());
    body.extend(8u16.to_ne_bytes());
    body.extend(ROUTE_OUT.to_ne_bytes());
    body.extend(LOOPBACK.to_ne_bytes());
    if family == AddressFamily::INET {
        // Without it a packet's source is its destination, which the kernel does not send where that is a group.
        body.extend(8u16.to_ne_bytes());
        body.extend(ROUTE_SOURCE.to_ne_bytes());
        body.extend(Ipv4Addr::LOCALHOST.octets());
    }
    body
}

fn ask(socket: &rustix::fd::OwnedFd, kind: u16, flags: u16, body: &[u8]) -> Result<(), Errno> {
    const HEADER: usize = 16;
    let length = u32::try_from(HEADER + body.len()).map_err(|_| Errno::MSGSIZE)?;
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(1u32.to_ne_bytes());
    message.extend(0u32.to_ne_bytes());
    message.extend(body);
    net::sendto(socket, &message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut answer = [0u8; 4096];
    let (length, _) = net::recv(socket, &mut answer, RecvFlags::empty())?;
    let answer = answer.get(..length).unwrap_or_default();
    let two = |at: usize| answer.get(at..at + 2).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    let four = |at: usize| answer.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match (two(4), four(HEADER)) {
        (Some(ANSWER_ERROR), Some(0)) => Ok(()),
        (Some(ANSWER_ERROR), Some(error)) => Err(Errno::from_raw_os_error(error.saturating_neg())),
        _ => Err(Errno::PROTO),
    }
}

/// A socket that may be bound to any address, since every one is local here.
///
/// # Errors
/// Those of the system.
pub(crate) fn bound(address: std::net::SocketAddr, kind: SocketType) -> std::io::Result<rustix::fd::OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    if address.is_ipv6() {
        net::sockopt::set_ipv6_v6only(&socket, true)?;
        // The route makes the address local for packets, not yet for `bind`.
        net::sockopt::set_ipv6_freebind(&socket, true)?;
    }
    if kind == SocketType::STREAM {
        net::sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    net::bind(&socket, &address)?;
    Ok(socket)
}
