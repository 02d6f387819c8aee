//! Each reason in a sentence. The words of the policy are for programs.

use portcullis_policy::Reason;

/// Why a request is refused, as a half sentence behind the reason's own word.
pub(super) fn sentence(reason: Reason) -> &'static str {
    address(reason).or_else(|| rule(reason)).or_else(|| name(reason)).or_else(|| exchange(reason)).unwrap_or("")
}

fn rule(reason: Reason) -> Option<&'static str> {
    Some(match reason {
        Reason::RuleNoMatch => "no rule names this host",
        Reason::RulePort => "a rule names this host, for other ports",
        Reason::RuleProto => "a rule names this host and port, for another transport",
        Reason::RuleScheme => "a rule names this host, for another scheme",
        Reason::RuleOperatorDeny => "the node or the tenant denies it, and a deny beats every rule",
        Reason::RuleDnsPort => "port 53 needs `dns_port: true` in the rule, since a name server carries data out",
        Reason::RuleCeiling => "the tenant or the node allows none of its plugins that much",
        Reason::HttpMethod => "the rule does not name this method",
        Reason::HttpPath => "the rule does not name this path",
        Reason::CapabilityAbsent => "the plugin was not granted this, or no plugin has it",
        _ => return None,
    })
}

fn name(reason: Reason) -> Option<&'static str> {
    Some(match reason {
        Reason::NameInvalid => "the text is no name of a host",
        Reason::NameNumeric => {
            "the text is a number that some programs read as an address (`0x7f.1`, `2130706433`); an address has one spelling here"
        }
        Reason::NameSpecial => {
            "the name means this machine or no host of the DNS (`localhost`, `.local`, `.onion`, `.invalid`)"
        }
        Reason::NamePortInvalid => "the port is missing, 0 or no number up to 65535",
        Reason::DnsUnpinned => "the plugin did not get this address from a lookup of a name with a rule",
        Reason::DnsPinExpired => "the lookup that gave this address is too long ago",
        Reason::DnsTimeout => "the name server did not answer in time",
        Reason::DnsCnameDepth => "the name leads over too many aliases",
        Reason::DnsFailed => "the name does not exist, or the name server failed",
        _ => return None,
    })
}

fn address(reason: Reason) -> Option<&'static str> {
    Some(match reason {
        Reason::AddrSelf => "it is an endpoint of the bridge itself, which no plugin reaches",
        Reason::AddrMetadata => "it is the metadata service of a cloud, which gives credentials to whoever asks",
        Reason::AddrLoopback => {
            "it is this machine, which needs a rule for the address and `egress.consent` of the node"
        }
        Reason::AddrPrivate => {
            "it is a private address (10/8, 172.16/12, 192.168/16), which needs a rule that names its network"
        }
        Reason::AddrCgnat => {
            "it is shared address space of a provider (100.64/10), which needs a rule that names its network"
        }
        Reason::AddrLinkLocal => {
            "it is link-local, which needs a rule for the address and `egress.consent` of the node"
        }
        Reason::AddrUla => "it is a private IPv6 address (fc00::/7), which needs a rule that names its network",
        Reason::AddrUnspecified => "it is the unspecified address, which means this machine to some programs",
        Reason::AddrMulticast => "it is a multicast address, which no rule can name",
        Reason::AddrBroadcast => "it is the broadcast address, which no rule can name",
        Reason::AddrReserved => "it is reserved, or outside of what is routed",
        Reason::AddrDocumentation => "it is for documentation, and nobody has it",
        Reason::AddrBenchmark => "it is for benchmarks of networks, and nobody has it",
        Reason::AddrDiscard => "it is the discard prefix, where everything is thrown away",
        Reason::AddrV4Mapped => {
            "it is an IPv4 address inside of an IPv6 one (::ffff:0:0/96); name the IPv4 address itself"
        }
        Reason::AddrV4Compat => "it is an IPv4 address inside of an IPv6 one (::/96); name the IPv4 address itself",
        Reason::AddrSiit => {
            "it is an IPv4 address inside of an IPv6 one (::ffff:0:0:0/96); name the IPv4 address itself"
        }
        Reason::AddrNat64 => "it leads to an IPv4 address over NAT64; name the IPv4 address itself",
        Reason::Addr6to4 => "it leads to an IPv4 address over 6to4; name the IPv4 address itself",
        Reason::AddrTeredo => "it leads to an IPv4 address over Teredo; name the IPv4 address itself",
        Reason::AddrOutsideRule => "the rule has `addresses`, and this one is not among them",
        _ => return None,
    })
}

fn exchange(reason: Reason) -> Option<&'static str> {
    Some(match reason {
        Reason::HttpPathNoncanonical => {
            "servers read this path in different ways (`..`, `//`, escapes); write it plainly"
        }
        Reason::HttpUserinfo => "a user or password stands in the address; credentials belong in `secrets` of the rule",
        Reason::HttpForbiddenHeader => "only the bridge sets this header",
        Reason::HttpFraming => "two servers would see the end of this message in different places",
        Reason::HttpHeaderLimit => "there are too many headers, or they are too large",
        Reason::TlsNotTls => "the first bytes are no TLS ClientHello, and the rule is for TLS",
        Reason::TlsNoSni => "the ClientHello names no server",
        Reason::TlsSniMismatch => "the ClientHello names another server than the rule",
        Reason::TlsNameMismatch => "the certificate is another host's",
        Reason::TlsUntrusted => "the certificate's issuer is not trusted, or its time is over",
        Reason::TlsVersion => "there is no version of TLS in common",
        Reason::QuotaSockets => "the plugin has as many sockets as `connections` allows",
        Reason::QuotaConnectRate => "the plugin connects more often than `connects` allows",
        Reason::QuotaBytesOut => "the plugin sends more than `egress_bytes` allows",
        Reason::QuotaBytesIn => "the plugin receives more than `ingress_bytes` allows",
        Reason::QuotaDns => "the plugin looks up more names than `lookups` allows",
        Reason::TimeConnect => "connecting took too long",
        Reason::TimeFirstByte => "the first byte of the answer came too late",
        Reason::TimeBetweenBytes => "the answer stopped in the middle",
        Reason::TimeTotal => "the exchange took too long",
        Reason::TimeRequestBody => "the plugin did not end its request in time",
        Reason::NetFailed => "the destination refused or reset the connection",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_sentence_of_its_own() {
        let mut sentences: Vec<&str> = Reason::ALL.iter().map(|reason| sentence(*reason)).collect();
        for (reason, sentence) in Reason::ALL.iter().zip(&sentences) {
            assert!(!sentence.is_empty(), "{reason} has none");
        }
        sentences.sort_unstable();
        sentences.dedup();
        assert_eq!(sentences.len(), Reason::ALL.len());
    }
}
