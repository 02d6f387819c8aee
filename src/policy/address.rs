use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::Reason;

/// What an address is for, by the table in this file. "Globally reachable" of the IANA registries is another question: they say
/// yes to ranges that carry an IPv4 address inside and thereby lead anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// A host of the public internet.
    Public,
    /// Reachable with a rule that names a part of this block, and no more than this block.
    Special(Special),
    /// Never reachable, whatever the rules say.
    Hard(Reason),
}

/// Ranges that a rule must name to reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Special {
    /// A cloud's metadata service: it hands out credentials to whoever asks.
    Metadata,
    /// This machine.
    Loopback,
    /// This link.
    LinkLocal,
    /// RFC 1918.
    Private,
    /// RFC 6598.
    Cgnat,
    /// RFC 4193.
    Ula,
    /// Set aside by IANA, or outside the global unicast range.
    Reserved,
    /// For examples in documents.
    Documentation,
    /// For benchmarks of network devices.
    Benchmark,
    /// 100::/64.
    Discard,
}

impl Special {
    /// The reason of a refusal.
    pub const fn reason(self) -> Reason {
        match self {
            Self::Metadata => Reason::AddrMetadata,
            Self::Loopback => Reason::AddrLoopback,
            Self::LinkLocal => Reason::AddrLinkLocal,
            Self::Private => Reason::AddrPrivate,
            Self::Cgnat => Reason::AddrCgnat,
            Self::Ula => Reason::AddrUla,
            Self::Reserved => Reason::AddrReserved,
            Self::Documentation => Reason::AddrDocumentation,
            Self::Benchmark => Reason::AddrBenchmark,
            Self::Discard => Reason::AddrDiscard,
        }
    }

    /// Whether a rule alone is not enough: the operator must have listed the range under `egress.consent`.
    pub const fn needs_consent(self) -> bool {
        matches!(self, Self::Metadata | Self::Loopback | Self::LinkLocal)
    }
}

impl Class {
    /// The reason of a refusal; none for a public address.
    pub const fn reason(self) -> Option<Reason> {
        match self {
            Self::Public => None,
            Self::Special(special) => Some(special.reason()),
            Self::Hard(reason) => Some(reason),
        }
    }
}

/// The class of an address.
pub fn classify(address: IpAddr) -> Class {
    block_of(address).map_or(Class::Public, |block| block.class)
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    v6: bool,
    bits: u128,
    len: u8,
    pub(crate) class: Class,
}

impl Block {
    const fn v4(a: u8, b: u8, c: u8, d: u8, len: u8, class: Class) -> Self {
        Self { v6: false, bits: Ipv4Addr::new(a, b, c, d).to_bits() as u128, len, class }
    }

    /// `high` holds the first four groups.
    const fn v6(high: u64, low: u64, len: u8, class: Class) -> Self {
        Self { v6: true, bits: ((high as u128) << 64) | low as u128, len, class }
    }

    fn contains(&self, bits: u128) -> bool {
        let width: u32 = if self.v6 { 128 } else { 32 };
        (self.bits ^ bits).checked_shr(width - u32::from(self.len)).unwrap_or(0) == 0
    }

    pub(crate) const fn len(&self) -> u8 {
        self.len
    }

    /// Whether a network lies inside this block.
    pub(crate) fn covers(&self, net: &IpNet) -> bool {
        let (v6, bits) = parts(net.network());
        v6 == self.v6 && net.prefix_len() >= self.len && self.contains(bits)
    }
}

fn parts(address: IpAddr) -> (bool, u128) {
    match address {
        IpAddr::V4(address) => (false, u128::from(address.to_bits())),
        IpAddr::V6(address) => (true, address.to_bits()),
    }
}

/// The block that decides about an address; none for a public one.
pub(crate) fn block_of(address: IpAddr) -> Option<&'static Block> {
    let (v6, bits) = parts(address);
    let table = if v6 { V6 } else { V4 };
    table.iter().find(|block| block.contains(bits))
}

/// The block that a network lies in as a whole, the narrowest first; none where it reaches outside of every block.
pub(crate) fn block_around(net: &IpNet) -> Option<&'static Block> {
    let table = if net.addr().is_ipv6() { V6 } else { V4 };
    table.iter().find(|block| block.covers(net))
}

/// Whether some address of a network is public. A network that is not part of one block may still lie in several.
pub(crate) fn reaches_public(net: &IpNet) -> bool {
    let public: IpNet = match net {
        IpNet::V4(_) => return block_around(net).is_none() && net.network() != IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)),
        IpNet::V6(_) => match ipnet::Ipv6Net::new(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3) {
            Ok(public) => public.into(),
            Err(_) => return true,
        },
    };
    block_around(net).is_none() && (public.contains(net) || net.contains(&public))
}

/// Whether a network overlaps one of the ranges that carry an IPv4 address inside.
pub(crate) fn embeds(net: &IpNet) -> bool {
    block_around(net).is_some_and(|block| {
        matches!(
            block.class,
            Class::Hard(
                Reason::AddrV4Mapped
                    | Reason::AddrV4Compat
                    | Reason::AddrSiit
                    | Reason::AddrNat64
                    | Reason::Addr6to4
                    | Reason::AddrTeredo
            )
        )
    })
}

const METADATA: Class = Class::Special(Special::Metadata);
const RESERVED: Class = Class::Special(Special::Reserved);
const DOCUMENTATION: Class = Class::Special(Special::Documentation);

// The first row that contains an address decides, so narrow rows stand before the wide ones around them.
#[rustfmt::skip]
const V4: &[Block] = &[
    Block::v4(169, 254, 169, 254, 32, METADATA),                          // AWS, Azure, GCP, OpenStack and most others
    Block::v4(169, 254, 170, 2, 32, METADATA),                            // AWS ECS task credentials
    Block::v4(169, 254, 170, 23, 32, METADATA),                           // AWS EKS pod identity
    Block::v4(168, 63, 129, 16, 32, METADATA),                            // Azure's host agent, in public space
    Block::v4(100, 100, 100, 200, 32, METADATA),                          // Alibaba
    Block::v4(192, 0, 0, 192, 32, METADATA),                              // Oracle
    Block::v4(0, 0, 0, 0, 8, Class::Hard(Reason::AddrUnspecified)),       // Linux connects 0.0.0.0 to this machine
    Block::v4(10, 0, 0, 0, 8, Class::Special(Special::Private)),
    Block::v4(100, 64, 0, 0, 10, Class::Special(Special::Cgnat)),
    Block::v4(127, 0, 0, 0, 8, Class::Special(Special::Loopback)),
    Block::v4(169, 254, 0, 0, 16, Class::Special(Special::LinkLocal)),
    Block::v4(172, 16, 0, 0, 12, Class::Special(Special::Private)),
    Block::v4(192, 0, 0, 0, 24, RESERVED),                                // IETF protocol assignments
    Block::v4(192, 0, 2, 0, 24, DOCUMENTATION),
    Block::v4(192, 31, 196, 0, 24, RESERVED),                             // AS112
    Block::v4(192, 52, 193, 0, 24, RESERVED),                             // AMT
    Block::v4(192, 88, 99, 0, 24, RESERVED),                              // 6to4 relays, withdrawn
    Block::v4(192, 168, 0, 0, 16, Class::Special(Special::Private)),
    Block::v4(192, 175, 48, 0, 24, RESERVED),                             // AS112
    Block::v4(198, 18, 0, 0, 15, Class::Special(Special::Benchmark)),
    Block::v4(198, 51, 100, 0, 24, DOCUMENTATION),
    Block::v4(203, 0, 113, 0, 24, DOCUMENTATION),
    Block::v4(224, 0, 0, 0, 4, Class::Hard(Reason::AddrMulticast)),
    Block::v4(255, 255, 255, 255, 32, Class::Hard(Reason::AddrBroadcast)),
    Block::v4(240, 0, 0, 0, 4, RESERVED),
];

#[rustfmt::skip]
const V6: &[Block] = &[
    Block::v6(0xfd00_0ec2_0000_0000, 0x254, 128, METADATA),               // AWS
    Block::v6(0xfd00_0ec2_0000_0000, 0x23, 128, METADATA),                // AWS EKS pod identity
    Block::v6(0xfd20_00ce_0000_0000, 0x254, 128, METADATA),               // GCP
    Block::v6(0, 0, 128, Class::Hard(Reason::AddrUnspecified)),
    Block::v6(0, 1, 128, Class::Special(Special::Loopback)),
    Block::v6(0, 0, 96, Class::Hard(Reason::AddrV4Compat)),
    Block::v6(0, 0x0000_ffff_0000_0000, 96, Class::Hard(Reason::AddrV4Mapped)),
    Block::v6(0, 0xffff_0000_0000_0000, 96, Class::Hard(Reason::AddrSiit)),
    Block::v6(0x0064_ff9b_0000_0000, 0, 96, Class::Hard(Reason::AddrNat64)),
    Block::v6(0x0064_ff9b_0001_0000, 0, 48, Class::Hard(Reason::AddrNat64)),
    Block::v6(0x0100_0000_0000_0000, 0, 64, Class::Special(Special::Discard)),
    Block::v6(0x2001_0000_0000_0000, 0, 32, Class::Hard(Reason::AddrTeredo)),
    Block::v6(0x2001_0002_0000_0000, 0, 48, Class::Special(Special::Benchmark)),
    Block::v6(0x2001_0000_0000_0000, 0, 23, RESERVED),                    // IETF protocol assignments
    Block::v6(0x2001_0db8_0000_0000, 0, 32, DOCUMENTATION),
    Block::v6(0x2002_0000_0000_0000, 0, 16, Class::Hard(Reason::Addr6to4)),
    Block::v6(0x3fff_0000_0000_0000, 0, 20, DOCUMENTATION),
    Block::v6(0xfc00_0000_0000_0000, 0, 7, Class::Special(Special::Ula)),
    Block::v6(0xfe80_0000_0000_0000, 0, 10, Class::Special(Special::LinkLocal)),
    Block::v6(0xff00_0000_0000_0000, 0, 8, Class::Hard(Reason::AddrMulticast)),
    // All that is not 2000::/3, in the blocks of the IANA's IPv6 address space.
    Block::v6(0x0000_0000_0000_0000, 0, 8, RESERVED),
    Block::v6(0x0100_0000_0000_0000, 0, 8, RESERVED),
    Block::v6(0x0200_0000_0000_0000, 0, 7, RESERVED),
    Block::v6(0x0400_0000_0000_0000, 0, 6, RESERVED),
    Block::v6(0x0800_0000_0000_0000, 0, 5, RESERVED),
    Block::v6(0x1000_0000_0000_0000, 0, 4, RESERVED),
    Block::v6(0x4000_0000_0000_0000, 0, 3, RESERVED),
    Block::v6(0x6000_0000_0000_0000, 0, 3, RESERVED),
    Block::v6(0x8000_0000_0000_0000, 0, 3, RESERVED),
    Block::v6(0xa000_0000_0000_0000, 0, 3, RESERVED),
    Block::v6(0xc000_0000_0000_0000, 0, 3, RESERVED),
    Block::v6(0xe000_0000_0000_0000, 0, 4, RESERVED),
    Block::v6(0xf000_0000_0000_0000, 0, 5, RESERVED),
    Block::v6(0xf800_0000_0000_0000, 0, 6, RESERVED),
    Block::v6(0xfe00_0000_0000_0000, 0, 9, RESERVED),
    Block::v6(0xfec0_0000_0000_0000, 0, 10, RESERVED),                    // site-local, withdrawn
];
