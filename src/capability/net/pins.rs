//! Addresses that lookups gave to one instance. A connect by a name's rule must hit one: an address that was written into the
//! plugin, or that another plugin got, is none.

use std::collections::HashMap;
use std::net::IpAddr;

use portcullis_policy::{Name, Pin};
use uuid::Uuid;

use crate::lookup::Answer;

/// Addresses that may be pinned at once. The ones that end first make room, those of other names before those of the one that
/// needs it: an answer must not make room for itself.
const MAX_ADDRESSES: usize = 1024;
/// Names that may share an address.
const MAX_NAMES: usize = 32;

#[derive(Debug, Default)]
pub(crate) struct Pins(HashMap<IpAddr, Vec<Pin>>);

impl Pins {
    /// The pins of an address, expired ones among them: they make the reason of a refusal exact.
    pub(crate) fn of(&self, address: IpAddr) -> &[Pin] {
        self.0.get(&address).map_or(&[], Vec::as_slice)
    }

    /// Whether every address of an answer is pinned for as long as it holds.
    pub(crate) fn has(&self, answer: &Answer) -> bool {
        let holds = |pin: &Pin| pin.name == answer.name && pin.expires_ms >= answer.expires_ms;
        answer.addresses.iter().all(|address| self.of(*address).iter().any(holds))
    }

    /// Notes that the lookup gave the address. The later end counts where the name had it already.
    pub(crate) fn add(&mut self, name: &Name, address: IpAddr, expires_ms: u64, lookup: Uuid, now_ms: u64) {
        if !self.0.contains_key(&address) && self.0.len() >= MAX_ADDRESSES {
            self.make_room(name, now_ms);
        }
        let pins = self.0.entry(address).or_default();
        if let Some(pin) = pins.iter_mut().find(|pin| pin.name == *name) {
            if expires_ms >= pin.expires_ms {
                (pin.expires_ms, pin.lookup) = (expires_ms, lookup.as_u128());
            }
            return;
        }
        if pins.len() >= MAX_NAMES
            && let Some(first) = (0..pins.len()).min_by_key(|index| pins.get(*index).map(|pin| pin.expires_ms))
        {
            pins.swap_remove(first);
        }
        pins.push(Pin { name: name.clone(), address, expires_ms, lookup: lookup.as_u128() });
    }

    fn make_room(&mut self, needed_by: &Name, now_ms: u64) {
        self.0.retain(|_, pins| pins.iter().any(|pin| pin.expires_ms > now_ms));
        let is_own = |pins: &[Pin]| pins.iter().any(|pin| pin.name == *needed_by);
        let end = |pins: &[Pin]| (is_own(pins), pins.iter().map(|pin| pin.expires_ms).max());
        while self.0.len() >= MAX_ADDRESSES {
            let Some(first) = self.0.iter().min_by_key(|(_, pins)| end(pins)).map(|(address, _)| *address) else {
                return;
            };
            self.0.remove(&first);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use portcullis_policy::{Host, parse_host};

    use super::*;

    fn name(text: &str) -> Name {
        match parse_host(text).unwrap() {
            Host::Name(name) => name,
            Host::Address(address) => panic!("{address} is no name"),
        }
    }

    fn address(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    #[test]
    fn two_names_share_an_address_and_each_keeps_its_own_end() {
        let mut pins = Pins::default();
        let (first, second) = (Uuid::from_u128(1), Uuid::from_u128(2));
        pins.add(&name("a.example"), address(7), 100, first, 0);
        pins.add(&name("b.example"), address(7), 200, second, 0);
        let of = pins.of(address(7));
        assert_eq!(
            of.iter().map(|pin| (pin.name.as_str(), pin.expires_ms)).collect::<Vec<_>>(),
            [("a.example", 100), ("b.example", 200)]
        );
        assert!(pins.of(address(8)).is_empty());
    }

    #[test]
    fn a_later_lookup_lengthens_a_pin_and_an_earlier_end_does_not_shorten_it() {
        let mut pins = Pins::default();
        pins.add(&name("a.example"), address(7), 100, Uuid::from_u128(1), 0);
        pins.add(&name("a.example"), address(7), 300, Uuid::from_u128(2), 0);
        pins.add(&name("a.example"), address(7), 200, Uuid::from_u128(3), 0);
        let [pin] = pins.of(address(7)) else { panic!("one pin") };
        assert_eq!((pin.expires_ms, pin.lookup), (300, 2));
    }

    #[test]
    fn pins_without_end_make_room_and_the_first_to_expire_go_first() {
        let mut pins = Pins::default();
        for number in 0..5000_u32 {
            pins.add(&name("a.example"), address(number), 1000 + u64::from(number), Uuid::nil(), 0);
        }
        assert_eq!(pins.0.len(), MAX_ADDRESSES);
        assert!(pins.of(address(0)).is_empty() && !pins.of(address(4999)).is_empty());
        for number in 0..100 {
            pins.add(&name(&format!("n{number}.example")), address(4999), 1000 + number, Uuid::nil(), 0);
        }
        assert_eq!(pins.of(address(4999)).len(), MAX_NAMES);
    }
}
