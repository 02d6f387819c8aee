/// Which messages must leave in the order in which they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Those of one key of one partition; those without a key, by their partition.
    Key,
    /// Those of one partition.
    Partition,
    /// None.
    None,
}

/// What messages that must stay in order have in common. Two keys may share a number by chance: they then wait for each
/// other, which costs time and never order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OrderKey(pub u64);

impl OrderKey {
    /// For [`Order::None`]: a number of its own, from a counter of the caller, so that the message waits for no other.
    /// [`lane_of`] takes such numbers round robin.
    pub fn alone(counter: u64) -> Self {
        Self(counter)
    }
}

/// The part of an order key that a topic or subject gives, computed once for each assignment.
pub fn channel_hash(channel: &[u8]) -> u64 {
    hash(0, channel)
}

/// The order key of a message. Under [`Order::None`] it is the partition's; see [`OrderKey::alone`] for the finer one. A
/// null key is not an empty one: it stands for its partition.
pub fn order_key(order: Order, channel_hash: u64, partition: i32, key: Option<&[u8]>) -> OrderKey {
    let partition_hash = fold(channel_hash ^ u64::from(partition.cast_unsigned()), SECRETS.0);
    OrderKey(match (order, key) {
        (Order::Key, Some(key)) => hash(partition_hash, key),
        _ => partition_hash,
    })
}

/// The lane of an order key, from 0 to `lanes` - 1.
pub fn lane_of(key: OrderKey, lanes: usize) -> usize {
    // The remainder is below `lanes`, so the cast keeps it.
    key.0.checked_rem(lanes as u64).unwrap_or(0) as usize
}

/// Odd, with half of their bits set: the fractional parts of the square roots of 2 and 3 and of the golden ratio.
const SECRETS: (u64, u64, u64) = (0x6A09_E667_F3BC_C909, 0xBB67_AE85_84CA_A73B, 0x9E37_79B9_7F4A_7C15);

/// Sixteen bytes a step, multiplied to 128 bits and folded to 64 again, where FNV takes one multiplication a byte. The same
/// within a process; nothing is stored by it, so it may change with a release.
///
/// It resists no attacker. One who chooses keys can aim them all at one lane, but can do that under any hash by sending
/// one key.
fn hash(seed: u64, bytes: &[u8]) -> u64 {
    // The length goes in first: the words at the end overlap, and alone would not tell "aa" from "aaa".
    let mut state = seed ^ (bytes.len() as u64).wrapping_mul(SECRETS.2);
    let mut mix = |low: u64, high: u64| state = fold(low ^ SECRETS.0, high ^ state);
    let (blocks, rest) = bytes.as_chunks::<16>();
    for block in blocks {
        let block = u128::from_le_bytes(*block);
        mix(block as u64, (block >> u64::BITS) as u64);
    }
    let word = |eight: &[u8; 8]| u64::from_le_bytes(*eight);
    let half = |four: &[u8; 4]| u64::from(u32::from_le_bytes(*four));
    let byte = |place: usize| rest.get(place).copied().map_or(0, u64::from);
    // The first and the last few bytes of the rest cover it without a loop.
    match (rest.first_chunk().zip(rest.last_chunk()), rest.first_chunk().zip(rest.last_chunk())) {
        (Some((first, last)), _) => mix(word(first), word(last)),
        (None, Some((first, last))) => mix(half(first), half(last)),
        (None, None) => mix(byte(0), byte(1) << 8 | byte(2)),
    }
    fold(state ^ SECRETS.1, SECRETS.2)
}

fn fold(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right);
    (product as u64) ^ (product >> u64::BITS) as u64
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn key_of(partition: i32, key: Option<&[u8]>) -> OrderKey {
        order_key(Order::Key, channel_hash(b"orders"), partition, key)
    }

    #[test]
    fn equal_messages_share_a_key_and_each_part_of_it_counts() {
        let orders = channel_hash(b"orders");
        let keys = [
            key_of(0, Some(b"a")),
            key_of(1, Some(b"a")),
            key_of(0, Some(b"b")),
            key_of(0, Some(b"a\0")),
            key_of(0, Some(b"")),
            key_of(0, None),
            key_of(1, None),
            order_key(Order::Key, channel_hash(b"orders2"), 0, Some(b"a")),
        ];
        assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len());
        assert_eq!(keys[0], order_key(Order::Key, orders, 0, Some(b"a")));
        assert_eq!(order_key(Order::Partition, orders, 1, Some(b"a")), keys[6]);
    }

    #[test]
    fn every_byte_of_a_key_of_every_length_counts() {
        for length in 0..70 {
            let key = vec![b'k'; length];
            let whole = key_of(0, Some(&key));
            assert_ne!(whole, key_of(0, Some(&vec![b'k'; length + 1])), "length {length}");
            for place in 0..length {
                let mut other = key.clone();
                other[place] ^= 1;
                assert_ne!(whole, key_of(0, Some(&other)), "byte {place} of {length}");
            }
        }
    }

    #[test]
    fn common_kinds_of_keys_spread_over_any_number_of_lanes_within_a_tenth() {
        const KEYS: usize = 40_000;
        let kinds: [fn(usize) -> Vec<u8>; 4] = [
            |n| n.to_string().into_bytes(),
            |n| (n as u64).to_be_bytes().to_vec(),
            |n| (n as u64 * 4096).to_le_bytes().to_vec(),
            |n| format!("customer-{n:08}-0000-4000-8000").into_bytes(),
        ];
        for (kind, make) in kinds.into_iter().enumerate() {
            let keys = (0..KEYS).map(|n| key_of(3, Some(&make(n)))).collect::<Vec<_>>();
            assert_eq!(keys.iter().collect::<HashSet<_>>().len(), KEYS, "collisions in kind {kind}");
            for lanes in [2, 3, 4, 7, 8, 16] {
                let mut counts = vec![0_usize; lanes];
                keys.iter().for_each(|key| counts[lane_of(*key, lanes)] += 1);
                let even = KEYS / lanes;
                assert!(counts.iter().all(|count| count.abs_diff(even) < even / 10), "kind {kind}: {counts:?}");
            }
        }
    }

    #[test]
    fn partitions_without_keys_use_every_lane() {
        let used = (0..64).map(|partition| lane_of(key_of(partition, None), 4)).collect::<HashSet<_>>();
        assert_eq!(used.len(), 4);
    }

    #[test]
    fn messages_without_order_go_round_robin() {
        let lanes = (5..11).map(|counter| lane_of(OrderKey::alone(counter), 3)).collect::<Vec<_>>();
        assert_eq!(lanes, [2, 0, 1, 2, 0, 1]);
        assert_eq!(lane_of(OrderKey(7), 0), 0);
    }
}
