//! The name server: answers from a vector's map over UDP and TCP, and remembers every name that reached it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::net::SocketType;

use crate::namespace::bound;
use crate::vector::{Zone, canonical};

const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;
const OPT: u16 = 41;
const ANY: u16 = 255;

const RESPONSE: u16 = 0x8000;
const AUTHORITATIVE: u16 = 0x0400;
const TRUNCATED: u16 = 0x0200;
const RECURSION: u16 = 0x0180;
const NO_SUCH_NAME: u16 = 3;

const TTL: u32 = 60;
/// Aliases that one answer follows; a loop ends with it.
const CHAIN_MAX: usize = 16;
/// Without an OPT record a datagram holds this much.
const DATAGRAM: usize = 512;
const STREAM_WAIT: Duration = Duration::from_secs(30);

/// What the server knows and what it was asked. Queries that cannot be read count too, under a name of their own.
#[derive(Debug, Default)]
pub(crate) struct Names {
    zones: BTreeMap<String, Zone>,
    asked: Mutex<Asked>,
}

#[derive(Debug, Default)]
struct Asked {
    names: BTreeSet<String>,
    /// How often a name was asked for a type: which answer of its sequence is due. The two types of one lookup count apart,
    /// so both get the same one.
    times: BTreeMap<(String, u16), usize>,
}

impl Names {
    pub(crate) fn new(zones: &BTreeMap<String, Zone>) -> Arc<Self> {
        let zones = zones.iter().map(|(name, zone)| (canonical(name), zone.clone())).collect();
        Arc::new(Self { zones, asked: Mutex::default() })
    }

    /// The names that reached the server, in lower case.
    pub(crate) fn asked(&self) -> BTreeSet<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).names.clone()
    }

    /// The answer to a message, at most `limit` bytes long or truncated; `None`: silence.
    fn answer(&self, message: &[u8], limit: Option<usize>) -> Option<Vec<u8>> {
        let Some(question) = Question::parse(message) else {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.names.insert("(not a query)".to_owned());
            return None;
        };
        let records = self.look_up(&question);
        let records = match records {
            Found::Silent => return None,
            Found::Nothing => return Some(question.reply(NO_SUCH_NAME, &[])),
            Found::Records(records) => records,
        };
        let whole = question.reply(0, &records);
        match limit {
            Some(limit) if whole.len() > limit.max(usize::from(question.datagram)) => {
                Some(question.reply(TRUNCATED, &[]))
            }
            _ => Some(whole),
        }
    }

    fn look_up(&self, question: &Question) -> Found {
        let name = canonical(&question.name);
        let time = {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.names.insert(name.clone());
            let times = asked.times.entry((name.clone(), question.kind)).or_default();
            *times += 1;
            *times - 1
        };
        let mut owner = name;
        let mut records = Vec::new();
        for _ in 0..CHAIN_MAX {
            let Some(zone) = self.zones.get(&owner).or_else(|| self.zones.get("*")) else {
                return if records.is_empty() { Found::Nothing } else { Found::Records(records) };
            };
            let zone = zone.sequence.get(time).or(zone.sequence.last()).unwrap_or(zone);
            if zone.silent {
                return Found::Silent;
            }
            let ttl = zone.ttl.unwrap_or(TTL);
            let Some(alias) = &zone.cname else {
                let wanted = |address: &&IpAddr| match question.kind {
                    A => address.is_ipv4(),
                    AAAA => address.is_ipv6(),
                    kind => kind == ANY,
                };
                let data = zone.addresses.iter().filter(wanted).map(|address| Data::Address(*address));
                records.extend(data.map(|data| Record { owner: owner.clone(), ttl, data }));
                return Found::Records(records);
            };
            let alias = canonical(alias);
            let data = Data::Alias(alias.clone());
            let record = Record { owner: owner.clone(), ttl, data };
            if records.contains(&record) {
                break;
            }
            records.push(record);
            owner = alias;
        }
        Found::Records(records)
    }
}

enum Found {
    Silent,
    Nothing,
    Records(Vec<Record>),
}

#[derive(PartialEq, Eq)]
struct Record {
    owner: String,
    ttl: u32,
    data: Data,
}

#[derive(PartialEq, Eq)]
enum Data {
    Address(IpAddr),
    Alias(String),
}

struct Question {
    id: [u8; 2],
    /// The question as it came, since some clients compare the letters' case.
    bytes: Vec<u8>,
    name: String,
    kind: u16,
    /// The datagram that the client takes.
    datagram: u16,
}

impl Question {
    fn parse(message: &[u8]) -> Option<Self> {
        let two = |at: usize| Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?));
        if two(2)? & RESPONSE != 0 || two(4)? != 1 {
            return None;
        }
        let mut at = 12;
        let mut labels = Vec::new();
        loop {
            let length = usize::from(*message.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            // A pointer has no place in the first name, and a name has at most 255 bytes.
            if length > 63 || at > 12 + 255 {
                return None;
            }
            labels.push(message.get(at..at + length)?.escape_ascii().to_string());
            at += length;
        }
        let (kind, bytes) = (two(at)?, message.get(12..at + 4)?.to_vec());
        let at = at + 4;
        // The root's name, then the type: an OPT record whose class is the size of the client's buffer.
        let datagram = if message.get(at) == Some(&0) && two(at + 1) == Some(OPT) { two(at + 3)? } else { 0 };
        let id = message.get(..2)?.try_into().ok()?;
        Some(Self { id, bytes, name: labels.join("."), kind, datagram })
    }

    fn reply(&self, flags: u16, records: &[Record]) -> Vec<u8> {
        let mut message = self.id.to_vec();
        message.extend((RESPONSE | AUTHORITATIVE | RECURSION | flags).to_be_bytes());
        message.extend(1u16.to_be_bytes());
        message.extend(u16::try_from(records.len()).unwrap_or(u16::MAX).to_be_bytes());
        message.extend([0; 4]);
        message.extend(&self.bytes);
        for record in records {
            write_name(&mut message, &record.owner);
            let (kind, data) = match &record.data {
                Data::Address(IpAddr::V4(address)) => (A, address.octets().to_vec()),
                Data::Address(IpAddr::V6(address)) => (AAAA, address.octets().to_vec()),
                Data::Alias(name) => {
                    let mut data = Vec::new();
                    write_name(&mut data, name);
                    (CNAME, data)
                }
            };
            message.extend(kind.to_be_bytes());
            message.extend(1u16.to_be_bytes());
            message.extend(record.ttl.to_be_bytes());
            message.extend(u16::try_from(data.len()).unwrap_or_default().to_be_bytes());
            message.extend(data);
        }
        message
    }
}

fn write_name(message: &mut Vec<u8>, name: &str) {
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let label = label.as_bytes().get(..63).unwrap_or(label.as_bytes());
        message.push(u8::try_from(label.len()).unwrap_or_default());
        message.extend(label);
    }
    message.push(0);
}

/// Answers at this address until the process ends.
///
/// # Errors
/// When the address cannot be had.
pub(crate) fn serve(names: &Arc<Names>, address: SocketAddr) -> std::io::Result<()> {
    let datagrams = UdpSocket::from(bound(address, SocketType::DGRAM)?);
    let stream = bound(address, SocketType::STREAM)?;
    rustix::net::listen(&stream, 64)?;
    let streams = TcpListener::from(stream);
    let shared = Arc::clone(names);
    std::thread::Builder::new().name("dns-udp".into()).spawn(move || serve_datagrams(&shared, &datagrams))?;
    let shared = Arc::clone(names);
    std::thread::Builder::new().name("dns-tcp".into()).spawn(move || {
        // One connection after the other: there is one client.
        for connection in streams.incoming().flatten() {
            drop(serve_stream(&shared, connection));
        }
    })?;
    Ok(())
}

fn serve_datagrams(names: &Names, socket: &UdpSocket) {
    let mut buffer = vec![0; 65_536];
    loop {
        // An error here is an ICMP answer to an earlier reply: that client has left.
        let Ok((length, client)) = socket.recv_from(&mut buffer) else { continue };
        if let Some(answer) = buffer.get(..length).and_then(|message| names.answer(message, Some(DATAGRAM))) {
            drop(socket.send_to(&answer, client));
        }
    }
}

fn serve_stream(names: &Names, mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(STREAM_WAIT))?;
    stream.set_write_timeout(Some(STREAM_WAIT))?;
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut message)?;
        if let Some(answer) = names.answer(&message, None) {
            let mut framed = u16::try_from(answer.len()).unwrap_or(u16::MAX).to_be_bytes().to_vec();
            framed.extend(answer);
            stream.write_all(&framed)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(zones: &str) -> Arc<Names> {
        Names::new(&serde_json::from_str(zones).unwrap())
    }

    fn query(name: &str, kind: u16, datagram: Option<u16>) -> Vec<u8> {
        let mut message = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(datagram.is_some())];
        write_name(&mut message, name);
        message.extend([kind.to_be_bytes(), 1u16.to_be_bytes()].concat());
        if let Some(size) = datagram {
            message.extend([&[0][..], &OPT.to_be_bytes(), &size.to_be_bytes(), &[0; 6]].concat());
        }
        message
    }

    /// The code, whether it is cut, how many records, and the last four bytes.
    fn asked(names: &Names, name: &str, kind: u16) -> Option<(u8, bool, u8, Vec<u8>)> {
        let answer = names.answer(&query(name, kind, None), Some(DATAGRAM))?;
        assert_eq!(answer[..2], [0xab, 0xcd]);
        Some((answer[3] & 15, answer[2] & 2 != 0, answer[7], answer[answer.len() - 4..].to_vec()))
    }

    #[test]
    fn each_family_has_its_answers_and_an_unknown_name_is_none() {
        let names = names(r#"{"OK.test.":{"addresses":["1.2.3.4","::1"],"ttl":5}}"#);
        assert_eq!(asked(&names, "ok.TEST", A), Some((0, false, 1, vec![1, 2, 3, 4])));
        assert_eq!(asked(&names, "ok.test", AAAA).unwrap().2, 1);
        assert_eq!(asked(&names, "ok.test", 16).unwrap().2, 0);
        assert_eq!(asked(&names, "www.ok.test", A).unwrap().0, 3);
        assert_eq!(names.asked(), ["ok.test", "www.ok.test"].map(str::to_owned).into());
    }

    #[test]
    fn a_sequence_goes_on_with_each_lookup_and_its_last_answer_stays() {
        let names = names(r#"{"flip.test":{"sequence":[{"addresses":["1.1.1.1"]},{"addresses":["2.2.2.2","::2"]}]}}"#);
        for (a, aaaa) in [(1, 0), (2, 1), (2, 1)] {
            assert_eq!(asked(&names, "flip.test", A).unwrap().3, vec![a; 4]);
            assert_eq!(asked(&names, "flip.test", AAAA).unwrap().2, aaaa);
        }
    }

    #[test]
    fn aliases_are_followed_and_a_loop_ends() {
        let names = names(
            r#"{"a.test":{"cname":"b.test"},"b.test":{"addresses":["1.2.3.4"]},"x.test":{"cname":"y.test"},"y.test":{"cname":"x.test"}}"#,
        );
        assert_eq!(asked(&names, "a.test", A), Some((0, false, 2, vec![1, 2, 3, 4])));
        assert_eq!(asked(&names, "x.test", A).unwrap().2, 2);
    }

    #[test]
    fn the_star_is_every_name_and_a_silent_one_gets_no_answer() {
        let names = names(r#"{"*":{"addresses":["1.2.3.4"]},"slow.test":{"silent":true}}"#);
        assert_eq!(asked(&names, "any.thing", A).unwrap().3, vec![1, 2, 3, 4]);
        assert_eq!(asked(&names, "slow.test", A), None);
        assert!(names.asked().contains("slow.test"));
    }

    #[test]
    fn an_answer_that_does_not_fit_is_cut_and_whole_over_tcp() {
        let addresses: Vec<String> = (0..100).map(|last| format!("\"1.2.3.{last}\"")).collect();
        let names = names(&format!(r#"{{"big.test":{{"addresses":[{}]}}}}"#, addresses.join(",")));
        let cut = asked(&names, "big.test", A).unwrap();
        assert_eq!((cut.1, cut.2), (true, 0));
        assert_eq!(names.answer(&query("big.test", A, Some(4096)), Some(DATAGRAM)).unwrap()[7], 100);
        assert_eq!(names.answer(&query("big.test", A, None), None).unwrap()[7], 100);
    }

    #[test]
    fn what_is_no_query_is_remembered_and_not_answered() {
        let names = names("{}");
        for message in [&b"x"[..], &[0; 12], &query("ok.test", A, None)[..15]] {
            assert_eq!(names.answer(message, None), None);
        }
        assert_eq!(names.asked(), ["(not a query)".to_owned()].into());
    }
}
