//! Servers as they are typed: two spellings of one are one.

use std::net::{IpAddr, Ipv6Addr};

/// What a Kafka client takes where no port was typed.
pub(super) const KAFKA_PORT: &str = "9092";
/// What a NATS client takes where no port was typed.
pub(super) const NATS_PORT: &str = "4222";

/// Host and port. With TLS or without, it is one server; so is this machine by each of its loopback addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    host: String,
    port: String,
}

/// Whether two lists of servers name one cluster. A list names a part of it, so one entry in common is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Near {
    Same,
    /// One machine by different ports: two clusters, or two listeners of one.
    OneHost,
    Other,
}

impl Endpoint {
    pub(super) fn of(text: &str, default_port: &str) -> Self {
        let text = text.trim();
        let address = text.split_once("://").map_or(text, |(_, address)| address);
        let (host, port) = match address.rsplit_once(':') {
            // The last group of an IPv6 address without brackets is no port.
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port.trim_start_matches('0')),
            _ => (address, default_port),
        };
        Self { host: canonical(host), port: port.to_owned() }
    }
}

pub(super) fn near(one: &[Endpoint], other: &[Endpoint]) -> Near {
    let any = |same: fn(&Endpoint, &Endpoint) -> bool| one.iter().any(|one| other.iter().any(|other| same(one, other)));
    if any(|one, other| one == other) {
        Near::Same
    } else if any(|one, other| one.host == other.host) {
        Near::OneHost
    } else {
        Near::Other
    }
}

fn canonical(host: &str) -> String {
    let bare = host.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
    let is_local = bare == "localhost" || bare.ends_with(".localhost");
    match bare.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(address) if address.is_loopback() => "localhost".to_owned(),
        Ok(IpAddr::V6(address)) => Ipv6Addr::to_string(&address),
        Ok(address) => address.to_string(),
        Err(_) if is_local => "localhost".to_owned(),
        Err(_) => bare,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_is_one_however_it_is_spelled() {
        let near = |one: &str, other: &str| {
            near(&[Endpoint::of(one, KAFKA_PORT)], &[Endpoint::of("x", KAFKA_PORT), Endpoint::of(other, KAFKA_PORT)])
        };
        for (one, other) in [
            ("a", "A:9092"),
            ("a.example.com.", "a.example.com:9092"),
            ("localhost", "127.0.0.1:9092"),
            ("localhost:9093", "[::1]:9093"),
            ("127.0.0.1", "::1"),
            ("[::ffff:127.0.0.1]:9092", "kafka.localhost"),
            ("[2001:db8:0::1]:9093", "[2001:db8::1]:9093"),
            ("SSL://a:9092", "a"),
            (" a:09092", "a "),
        ] {
            assert_eq!(near(one, other), Near::Same, "{one} {other}");
        }
        assert_eq!(near("a", "a:9093"), Near::OneHost);
        assert_eq!(near("localhost:1", "127.0.0.1:2"), Near::OneHost);
        assert_eq!(near("a", "b"), Near::Other);
    }
}
