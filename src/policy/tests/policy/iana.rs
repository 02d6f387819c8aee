//! The table of special ranges against the special-purpose address registries of the IANA.

use portcullis_policy::*;

/// The rows of the registries (RFC 6890 and its successors): the block, whether it is globally reachable, and the class of ours.
/// Where we differ from the IANA's "globally reachable", the note says why.
const REGISTRY: &[(&str, bool, &str, &str)] = &[
    ("0.0.0.0/8", false, "addr.unspecified", ""),
    ("0.0.0.0/32", false, "addr.unspecified", ""),
    ("10.0.0.0/8", false, "addr.private", ""),
    ("100.64.0.0/10", false, "addr.cgnat", ""),
    ("127.0.0.0/8", false, "addr.loopback", ""),
    ("169.254.0.0/16", false, "addr.link_local", ""),
    ("172.16.0.0/12", false, "addr.private", ""),
    ("192.0.0.0/24", false, "addr.reserved", ""),
    ("192.0.0.0/29", false, "addr.reserved", ""),
    ("192.0.0.8/32", false, "addr.reserved", ""),
    ("192.0.0.9/32", true, "addr.reserved", "PCP anycast: the next router, which is part of our network"),
    ("192.0.0.10/32", true, "addr.reserved", "TURN anycast: the same"),
    ("192.0.0.170/32", false, "addr.reserved", ""),
    ("192.0.0.171/32", false, "addr.reserved", ""),
    ("192.0.2.0/24", false, "addr.documentation", ""),
    ("192.31.196.0/24", true, "addr.reserved", "AS112 is whichever node is nearest, also one inside"),
    ("192.52.193.0/24", true, "addr.reserved", "AMT relays carry multicast in"),
    ("192.88.99.0/24", false, "addr.reserved", ""),
    ("192.88.99.2/32", false, "addr.reserved", ""),
    ("192.168.0.0/16", false, "addr.private", ""),
    ("192.175.48.0/24", true, "addr.reserved", "AS112, as above"),
    ("198.18.0.0/15", false, "addr.benchmark", ""),
    ("198.51.100.0/24", false, "addr.documentation", ""),
    ("203.0.113.0/24", false, "addr.documentation", ""),
    ("240.0.0.0/4", false, "addr.reserved", ""),
    ("255.255.255.255/32", false, "addr.broadcast", ""),
    ("::1/128", false, "addr.loopback", ""),
    ("::/128", false, "addr.unspecified", ""),
    ("::ffff:0:0/96", false, "addr.v4_mapped", ""),
    ("64:ff9b::/96", true, "addr.nat64", "a translator turns it into any IPv4 address, also private ones"),
    ("64:ff9b:1::/48", false, "addr.nat64", ""),
    ("100::/64", false, "addr.discard", ""),
    ("100:0:0:1::/64", false, "addr.reserved", ""),
    ("2001::/23", false, "addr.reserved", ""),
    ("2001::/32", false, "addr.teredo", ""),
    ("2001:1::1/128", true, "addr.reserved", "PCP anycast: the next router"),
    ("2001:1::2/128", true, "addr.reserved", "TURN anycast: the same"),
    ("2001:1::3/128", true, "addr.reserved", "DNS-SD SRP anycast: a server of the local network"),
    ("2001:2::/48", false, "addr.benchmark", ""),
    ("2001:3::/32", true, "addr.reserved", "AMT, as above"),
    ("2001:4:112::/48", true, "addr.reserved", "AS112, as above"),
    ("2001:10::/28", false, "addr.reserved", ""),
    ("2001:20::/28", true, "addr.reserved", "ORCHIDv2 are identifiers of hosts, not places"),
    ("2001:30::/28", true, "addr.reserved", "drone identifiers, not places"),
    ("2001:db8::/32", false, "addr.documentation", ""),
    ("2002::/16", false, "addr.6to4", ""),
    ("2620:4f:8000::/48", true, "", ""),
    ("3fff::/20", false, "addr.documentation", ""),
    ("5f00::/16", false, "addr.reserved", ""),
    ("fc00::/7", false, "addr.ula", ""),
    ("fe80::/10", false, "addr.link_local", ""),
];

/// What is ours beyond those registries: multicast (a registry of its own), deprecated embeddings, and metadata services.
const OURS: &[(&str, &str)] = &[
    ("224.0.0.0/4", "addr.multicast"),
    ("ff00::/8", "addr.multicast"),
    ("::/96", "addr.v4_compat"),
    ("::ffff:0:0:0/96", "addr.siit"),
    ("169.254.169.254/32", "addr.metadata"),
    ("169.254.170.2/32", "addr.metadata"),
    ("169.254.170.23/32", "addr.metadata"),
    ("168.63.129.16/32", "addr.metadata"),
    ("100.100.100.200/32", "addr.metadata"),
    ("192.0.0.192/32", "addr.metadata"),
    ("fd00:ec2::254/128", "addr.metadata"),
    ("fd00:ec2::23/128", "addr.metadata"),
    ("fd20:ce::254/128", "addr.metadata"),
];

fn class(address: std::net::IpAddr) -> &'static str {
    classify(address).reason().map_or("", Reason::as_str)
}

/// All blocks with their class, the narrowest first.
fn table() -> Vec<(IpNet, &'static str)> {
    let registry = REGISTRY.iter().map(|(net, _, class, _)| (*net, *class));
    let mut table: Vec<(IpNet, &str)> =
        registry.chain(OURS.iter().copied()).map(|(net, class)| (net.parse().unwrap(), class)).collect();
    table.sort_by_key(|(net, _)| std::cmp::Reverse(net.prefix_len()));
    table
}

/// The class by the tables of this test alone.
pub(crate) fn by_registry(address: std::net::IpAddr) -> &'static str {
    let global: IpNet = "2000::/3".parse().unwrap();
    let unlisted = if address.is_ipv4() || global.contains(&address) { "" } else { "addr.reserved" };
    table().into_iter().find(|(net, _)| net.contains(&address)).map_or(unlisted, |(_, class)| class)
}

#[test]
fn the_ends_of_each_registered_block_have_the_class_of_the_registry() {
    for (net, ..) in table() {
        for address in [net.network(), net.broadcast()] {
            assert_eq!(class(address), by_registry(address), "{address} of {net}");
        }
    }
}

#[test]
fn nothing_that_the_registry_calls_unreachable_is_public_and_each_other_difference_is_explained() {
    for (net, global, class, note) in REGISTRY {
        let public = class.is_empty();
        assert!(!public || *global, "{net}");
        assert_eq!(public == *global, note.is_empty(), "{net}");
    }
}

#[test]
fn the_neighbours_of_each_block_are_classified_by_what_they_are_in() {
    for (net, _) in table() {
        let neighbours = match net {
            IpNet::V4(net) => [
                u32::from(net.network()).checked_sub(1).map(|bits| std::net::Ipv4Addr::from(bits).into()),
                u32::from(net.broadcast()).checked_add(1).map(|bits| std::net::Ipv4Addr::from(bits).into()),
            ],
            IpNet::V6(net) => [
                u128::from(net.network()).checked_sub(1).map(|bits| std::net::Ipv6Addr::from(bits).into()),
                u128::from(net.broadcast()).checked_add(1).map(|bits| std::net::Ipv6Addr::from(bits).into()),
            ],
        };
        for address in neighbours.into_iter().flatten() {
            assert_eq!(class(address), by_registry(address), "{address} beside {net}");
        }
    }
}

#[test]
fn public_addresses_are_public() {
    for text in ["1.1.1.1", "8.8.8.8", "93.184.216.34", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0"]
    {
        assert_eq!(classify(text.parse().unwrap()), Class::Public, "{text}");
    }
    for text in ["2606:2800:220:1:248:1893:25c8:1946", "2a00::1", "2001:200::1", "2001:4860:4860::8888"] {
        assert_eq!(classify(text.parse().unwrap()), Class::Public, "{text}");
    }
}
