//! The format of a vector, as it is read. A field that nobody knows is an error: an expectation that is not looked at must
//! not count as met.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::Deserialize;
use serde_json::{Map, Value};

/// One line of the file. Its words (`rules`, `action`, `expect`, `audit`) are for people.
#[derive(Debug, Deserialize)]
pub(crate) struct Vector {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) run: Option<Run>,
    #[serde(default)]
    pub(crate) config: Option<Config>,
}

/// A pipeline that must be refused before anything starts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) egress: Vec<Value>,
    /// Any of these as the code of a diagnostic.
    pub(crate) refused: Vec<String>,
    #[serde(default)]
    pub(crate) operator_deny: Vec<Value>,
    #[serde(default)]
    pub(crate) limits: Map<String, Value>,
}

/// A pipeline that runs, and what must be seen of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Run {
    #[serde(default)]
    pub(crate) egress: Vec<Value>,
    #[serde(default)]
    pub(crate) operator_deny: Vec<Value>,
    #[serde(default)]
    pub(crate) limits: Map<String, Value>,
    #[serde(default)]
    pub(crate) dns: BTreeMap<String, Zone>,
    #[serde(default)]
    pub(crate) listen: Vec<SocketAddr>,
    #[serde(default)]
    pub(crate) tls: Option<TlsFault>,
    pub(crate) ops: Vec<Map<String, Value>>,
    #[serde(default)]
    pub(crate) results: Vec<Expected>,
    /// The only addresses that may see a packet; absent: any but the decoys.
    #[serde(default)]
    pub(crate) packets: Option<Vec<Endpoint>>,
    #[serde(default)]
    pub(crate) queries: Option<BTreeSet<String>>,
    #[serde(default)]
    pub(crate) queries_subset: Option<BTreeSet<String>>,
    #[serde(default)]
    pub(crate) sni: Option<BTreeSet<String>>,
    #[serde(default)]
    pub(crate) events: Vec<Events>,
    #[serde(default)]
    pub(crate) canary: Vec<String>,
}

/// What the name server says of a name.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Zone {
    #[serde(default)]
    pub(crate) addresses: Vec<IpAddr>,
    /// Seconds; 60 when absent.
    #[serde(default)]
    pub(crate) ttl: Option<u32>,
    #[serde(default)]
    pub(crate) cname: Option<String>,
    /// One answer after the other; the last stays.
    #[serde(default)]
    pub(crate) sequence: Vec<Zone>,
    #[serde(default)]
    pub(crate) silent: bool,
}

/// What is wrong with the TLS servers of a vector.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub(crate) enum TlsFault {
    #[serde(rename = "wrong-name")]
    WrongName,
    #[serde(rename = "self-signed")]
    SelfSigned,
    #[serde(rename = "1.0-only")]
    OldOnly,
}

/// What the probe must report for one operation.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expected {
    #[serde(default)]
    pub(crate) ok: bool,
    /// Either outcome will do.
    #[serde(default)]
    pub(crate) any: bool,
    /// Any of these; none named: any at all.
    #[serde(default)]
    pub(crate) codes: Vec<String>,
    #[serde(default)]
    pub(crate) status: Option<u64>,
    #[serde(default)]
    pub(crate) addresses: Option<BTreeSet<IpAddr>>,
    #[serde(default)]
    pub(crate) max_addresses: Option<usize>,
    #[serde(default)]
    pub(crate) opened: Option<u64>,
}

/// Audit events that must be there, counted.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Events {
    pub(crate) code: String,
    /// As `status_detail`; none named: any.
    #[serde(default)]
    pub(crate) reasons: Vec<String>,
    pub(crate) count: u64,
}

/// `1.2.3.4:80`, `[::1]:80`, or an address without a port for all of its ports.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(try_from = "String")]
pub(crate) struct Endpoint {
    pub(crate) address: IpAddr,
    pub(crate) port: Option<u16>,
}

impl Endpoint {
    pub(crate) fn covers(self, seen: SocketAddr) -> bool {
        self.address == seen.ip() && self.port.is_none_or(|port| port == seen.port())
    }
}

impl FromStr for Endpoint {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self { address: address.ip(), port: Some(address.port()) });
        }
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        Ok(Self { address: bare.parse()?, port: None })
    }
}

impl TryFrom<String> for Endpoint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map_err(|error| format!("`{text}` is no address: {error}"))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.address, port).fmt(f),
            None => self.address.fmt(f),
        }
    }
}

/// A name as it is compared: lower case, no dot at the end.
pub(crate) fn canonical(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_committed_file_is_read() {
        let text = include_str!("../egress-vectors.jsonl");
        let vectors: Vec<Vector> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let executable = vectors.iter().filter(|vector| vector.run.is_some() || vector.config.is_some()).count();
        assert_eq!((vectors.len(), executable), (81, 62));
    }

    #[test]
    fn an_expectation_that_nobody_knows_is_an_error() {
        let line = r#"{"id":"X","run":{"ops":[],"no_packets":true}}"#;
        assert!(serde_json::from_str::<Vector>(line).unwrap_err().to_string().contains("no_packets"));
    }

    #[test]
    fn endpoints_have_a_port_or_stand_for_all_ports() {
        let seen: SocketAddr = "[2001:db8::1]:443".parse().unwrap();
        for (text, covers) in
            [("[2001:db8::1]:443", true), ("2001:db8::1", true), ("[2001:db8::1]:80", false), ("1.2.3.4", false)]
        {
            assert_eq!(text.parse::<Endpoint>().unwrap().covers(seen), covers, "{text}");
        }
        assert!("ok.test:80".parse::<Endpoint>().is_err());
    }
}
