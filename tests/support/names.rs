//! A name server on loopback: answers over UDP with the addresses of a zone, and remembers what it was asked.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};

use super::servers::Mailbox;

const A: u16 = 1;
const NO_SUCH_NAME: u8 = 3;
/// What every answer says of its life, in seconds.
const TTL_S: u32 = 60;

/// Ends with the value.
pub(crate) struct NameServer {
    mailbox: Mailbox,
    asked: Arc<Mutex<Vec<String>>>,
}

impl NameServer {
    /// `zone` gives the addresses of a name, in lower case, and how often it was asked for before; `None`: there is no such
    /// name. There are no IPv6 addresses.
    pub(crate) fn start(zone: impl Fn(&str, usize) -> Option<Vec<Ipv4Addr>> + Send + 'static) -> Self {
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let own = Arc::clone(&asked);
        let mailbox = Mailbox::start(move |from, query, socket: &UdpSocket| {
            let Some((name, kind, end)) = question(query) else { return };
            let before = {
                let mut asked = own.lock().unwrap();
                let before = asked.iter().filter(|other| **other == format!("{name}/{kind}")).count();
                asked.push(format!("{name}/{kind}"));
                before
            };
            let found = zone(&name, before);
            let addresses = if kind == A { found.clone().unwrap_or_default() } else { Vec::new() };
            let reply = reply(&query[..end], found.is_some(), &addresses);
            // A client that has gone is answered all the same.
            drop(socket.send_to(&reply, from));
        });
        Self { mailbox, asked }
    }

    /// `ok.test` is 127.0.0.1, and there is nothing else.
    pub(crate) fn ok_test() -> Self {
        Self::start(|name, _| (name == "ok.test").then(|| vec![Ipv4Addr::LOCALHOST]))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.mailbox.address
    }

    /// The names that it was asked for, without repeats, in the order of the first query.
    pub(crate) fn asked(&self) -> Vec<String> {
        let mut names = Vec::new();
        for query in self.asked.lock().unwrap().iter() {
            let name = query.split('/').next().unwrap().to_owned();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// How many queries reached it.
    pub(crate) fn queries(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

/// The name, the type and where the question ends.
fn question(query: &[u8]) -> Option<(String, u16, usize)> {
    let mut at = 12;
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_ascii_lowercase());
        at += length;
    }
    let kind = u16::from_be_bytes([*query.get(at)?, *query.get(at + 1)?]);
    query.get(at + 3)?;
    Some((labels.join("."), kind, at + 4))
}

fn reply(question: &[u8], exists: bool, addresses: &[Ipv4Addr]) -> Vec<u8> {
    let code = if exists { 0 } else { NO_SUCH_NAME };
    let count = u8::try_from(addresses.len()).unwrap();
    let mut reply = question.to_vec();
    reply[2..12].copy_from_slice(&[0x85, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0]);
    for address in addresses {
        reply.extend([0xc0, 12, 0, 1, 0, 1]);
        reply.extend(TTL_S.to_be_bytes());
        reply.extend([0, 4]);
        reply.extend(address.octets());
    }
    reply
}
