use std::net::IpAddr;

use ipnet::IpNet;

use crate::hash::Map;

/// Something for each of many networks, found by an address with one look for each prefix length in use.
#[derive(Clone, Debug)]
pub(crate) struct Nets<T> {
    v4: Lengths<T>,
    v6: Lengths<T>,
}

/// By prefix length in ascending order, then by the network's bits.
type Lengths<T> = Vec<(u8, Map<u128, T>)>;

impl<T> Default for Nets<T> {
    fn default() -> Self {
        Self { v4: Vec::new(), v6: Vec::new() }
    }
}

impl<T: Default> Nets<T> {
    /// Changes what a network has, from the default where it has nothing yet.
    pub(crate) fn update(&mut self, net: &IpNet, change: impl FnOnce(&mut T)) {
        let len = net.prefix_len();
        let lengths = if net.addr().is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        let at = match lengths.binary_search_by_key(&len, |(len, _)| *len) {
            Ok(at) => at,
            Err(at) => {
                lengths.insert(at, (len, Map::default()));
                at
            }
        };
        if let Some((_, nets)) = lengths.get_mut(at) {
            change(nets.entry(key(net.network(), len)).or_default());
        }
    }
}

impl<T> Nets<T> {
    /// What the networks around an address have, the widest first, but for those with a shorter prefix.
    pub(crate) fn around(&self, address: IpAddr, shortest: u8) -> impl Iterator<Item = &T> {
        let lengths = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        let lengths = lengths.iter().filter(move |(len, _)| *len >= shortest);
        lengths.filter_map(move |(len, nets)| nets.get(&key(address, *len)))
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.v4.iter_mut().chain(&mut self.v6).flat_map(|(_, nets)| nets.values_mut())
    }
}

/// The first bits of an address.
fn key(address: IpAddr, len: u8) -> u128 {
    let bits = match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    };
    bits.checked_shr(128 - u32::from(len)).unwrap_or(0)
}
