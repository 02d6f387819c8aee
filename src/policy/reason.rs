use std::fmt;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Why a request was refused. The words (`status_detail` of an audit event) are a stable interface.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The word.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

reasons! {
    /// No rule names the host.
    RuleNoMatch = "rule.no_match",
    /// A rule names the host, with other ports.
    RulePort = "rule.port",
    /// A rule names host and port, for another transport.
    RuleProto = "rule.proto",
    /// A rule names the host, for another scheme.
    RuleScheme = "rule.scheme",
    /// The operator or the tenant denies it; deny beats allow.
    RuleOperatorDeny = "rule.operator_deny",
    /// A rule matches and does not say `dns_port: true` for port 53.
    RuleDnsPort = "rule.dns_port",
    /// Above what the tenant or the node allows any of its plugins.
    RuleCeiling = "rule.ceiling",
    /// The text is no host name.
    NameInvalid = "name.invalid",
    /// The text is a number that some parser would read as an address.
    NameNumeric = "name.numeric",
    /// A name that means this machine or no host of the DNS (`localhost`, `.local`, `.onion`, `.invalid`).
    NameSpecial = "name.special",
    /// The port is 0, missing or no number.
    NamePortInvalid = "name.port_invalid",
    /// The host's own endpoint: a broker, the admin listener, an interface.
    AddrSelf = "addr.self",
    /// A cloud's metadata service.
    AddrMetadata = "addr.metadata",
    /// Loopback.
    AddrLoopback = "addr.loopback",
    /// RFC 1918.
    AddrPrivate = "addr.private",
    /// RFC 6598.
    AddrCgnat = "addr.cgnat",
    /// Link-local.
    AddrLinkLocal = "addr.link_local",
    /// RFC 4193.
    AddrUla = "addr.ula",
    /// 0.0.0.0/8 or `::`.
    AddrUnspecified = "addr.unspecified",
    /// Multicast.
    AddrMulticast = "addr.multicast",
    /// 255.255.255.255.
    AddrBroadcast = "addr.broadcast",
    /// Reserved, or outside the global unicast range.
    AddrReserved = "addr.reserved",
    /// For documentation.
    AddrDocumentation = "addr.documentation",
    /// For benchmarks.
    AddrBenchmark = "addr.benchmark",
    /// 100::/64.
    AddrDiscard = "addr.discard",
    /// ::ffff:0:0/96.
    AddrV4Mapped = "addr.v4_mapped",
    /// ::/96.
    AddrV4Compat = "addr.v4_compat",
    /// ::ffff:0:0:0/96.
    AddrSiit = "addr.siit",
    /// 64:ff9b::/96 and 64:ff9b:1::/48.
    AddrNat64 = "addr.nat64",
    /// 2002::/16.
    Addr6to4 = "addr.6to4",
    /// 2001::/32.
    AddrTeredo = "addr.teredo",
    /// The address is not in the rule's `addresses`.
    AddrOutsideRule = "addr.outside_rule",
    /// An address that the plugin did not get from a lookup of a name with a rule.
    DnsUnpinned = "dns.unpinned",
    /// The lookup is too long ago.
    DnsPinExpired = "dns.pin_expired",
    /// The name server did not answer in time.
    DnsTimeout = "dns.timeout",
    /// Too many aliases one after the other.
    DnsCnameDepth = "dns.cname_depth",
    /// The name does not exist, or the name server failed.
    DnsFailed = "dns.failed",
    /// The rule does not name the method.
    HttpMethod = "http.method",
    /// The rule does not name the path.
    HttpPath = "http.path",
    /// A path that servers read in different ways.
    HttpPathNoncanonical = "http.path_noncanonical",
    /// A user or password in the authority.
    HttpUserinfo = "http.userinfo",
    /// A header that only the host may set.
    HttpForbiddenHeader = "http.forbidden_header",
    /// A message whose end two servers would see in different places.
    HttpFraming = "http.framing",
    /// Too many or too large headers.
    HttpHeaderLimit = "http.header_limit",
    /// The first bytes are no TLS ClientHello, and the rule is for TLS.
    TlsNotTls = "tls.not_tls",
    /// The ClientHello names no server.
    TlsNoSni = "tls.no_sni",
    /// The ClientHello names another server than the rule.
    TlsSniMismatch = "tls.sni_mismatch",
    /// The certificate is another host's.
    TlsNameMismatch = "tls.name_mismatch",
    /// The certificate's issuer is not trusted, or its time is over.
    TlsUntrusted = "tls.untrusted",
    /// No version of TLS in common.
    TlsVersion = "tls.version",
    /// Too many sockets.
    QuotaSockets = "quota.sockets",
    /// Too many connects a second.
    QuotaConnectRate = "quota.connect_rate",
    /// Too many bytes out.
    QuotaBytesOut = "quota.bytes_out",
    /// Too many bytes in.
    QuotaBytesIn = "quota.bytes_in",
    /// Too many lookups a second.
    QuotaDns = "quota.dns",
    /// Connecting took too long.
    TimeConnect = "time.connect",
    /// The first byte of the answer came too late.
    TimeFirstByte = "time.first_byte",
    /// The answer stopped in the middle.
    TimeBetweenBytes = "time.between_bytes",
    /// The exchange took too long.
    TimeTotal = "time.total",
    /// The plugin did not end its request in time.
    TimeRequestBody = "time.request_body",
    /// A listener, or a bind to a chosen address.
    CapabilityAbsent = "capability.absent",
    /// The destination refused or reset the connection.
    NetFailed = "net.failed",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
