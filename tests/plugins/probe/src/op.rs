//! What can be asked for.

use std::net::SocketAddr;

use serde::Deserialize;
use serde_json::Value;

use crate::outcome::Failure;

#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub(crate) enum Op {
    Tcp {
        to: SocketAddr,
        #[serde(flatten)]
        talk: Talk,
    },
    TcpName {
        name: String,
        port: u16,
        #[serde(flatten)]
        talk: Talk,
    },
    OpenSockets {
        count: u32,
        to: Option<SocketAddr>,
    },
    Udp(Udp),
    Bind {
        proto: Proto,
        to: SocketAddr,
    },
    Listen {
        to: Option<SocketAddr>,
        #[serde(default)]
        accept: bool,
    },
    Resolve {
        name: String,
        #[serde(default = "most_addresses")]
        max_addresses: usize,
    },
    Http(Http),
    Now,
    Random {
        len: u64,
    },
    Sleep {
        ms: u64,
    },
}

/// What is done with an open connection.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Talk {
    pub(crate) send: Option<String>,
    pub(crate) read: Option<u32>,
    pub(crate) wait_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Udp {
    pub(crate) to: Option<SocketAddr>,
    pub(crate) name: Option<String>,
    pub(crate) port: Option<u16>,
    #[serde(default)]
    pub(crate) connected: bool,
    #[serde(flatten)]
    pub(crate) talk: Talk,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Proto {
    Tcp,
    Udp,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Http {
    pub(crate) method: Option<String>,
    pub(crate) scheme: Option<String>,
    pub(crate) authority: Option<String>,
    pub(crate) path: Option<String>,
    #[serde(default)]
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Option<String>,
    pub(crate) read: Option<u32>,
    pub(crate) wait_ms: Option<u64>,
}

/// Enough for any answer, and a bound for one that does not end.
fn most_addresses() -> usize {
    1024
}

pub(crate) fn parse(op: &Value) -> Result<Op, Failure> {
    Op::deserialize(op).map_err(|error| Failure::new("bad-op", "probe").with_detail(error.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_ops_are_read_as_they_are_written_down() {
        let ops = [
            json!({"op": "tcp", "to": "1.2.3.4:80", "send": "text", "read": 3}),
            json!({"op": "tcp", "to": "[2001:db8::1]:0"}),
            json!({"op": "tcp-name", "name": "ok.test", "port": 443}),
            json!({"op": "resolve", "name": "ok.test"}),
            json!({"op": "udp", "to": "1.2.3.4:53", "send": "x", "connected": true}),
            json!({"op": "udp", "name": "ok.test", "port": 53, "send": "x"}),
            json!({"op": "bind", "proto": "tcp", "to": "0.0.0.0:8080"}),
            json!({"op": "listen"}),
            json!({"op": "open-sockets", "count": 20, "to": "1.2.3.4:80"}),
            json!({"op": "http", "method": "GET", "scheme": "https", "authority": "a", "path": "/", "headers": [["a", "b"]], "body": "x"}),
            json!({"op": "now"}),
            json!({"op": "random", "len": 8}),
            json!({"op": "sleep", "ms": 5}),
        ];
        for op in ops {
            assert!(parse(&op).is_ok(), "{op}");
        }
        let Ok(Op::Tcp { talk, .. }) = parse(&json!({"op": "tcp", "to": "1.2.3.4:80", "send": "text", "read": 3}))
        else {
            panic!("not a tcp op")
        };
        assert_eq!((talk.send.as_deref(), talk.read), (Some("text"), Some(3)));
    }

    #[test]
    fn what_makes_no_sense_is_a_bad_op() {
        for op in [json!({"op": "tcp"}), json!({"op": "bind", "proto": "sctp", "to": "1.2.3.4:1"}), json!(null)] {
            assert_eq!(parse(&op).unwrap_err().code(), "bad-op", "{op}");
        }
    }
}
