/// SplitMix64: small, fast and the same on every machine and in every release, which the standard library's hashers are
/// not. Nothing secret comes from it.
pub(super) struct Random(u64);

const LETTERS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";

impl Random {
    /// The numbers of one message.
    pub(super) fn new(seed: u64, number: u64) -> Self {
        // The seed goes through a round first: else seed 1 would give the messages of seed 0, moved by one.
        let seed = Self(seed).next();
        Self(seed ^ number.wrapping_mul(0xd1b5_4a32_d192_ed03))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Evenly below a bound; 0 below 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> u64::BITS) as u64
    }

    pub(super) fn letters(&mut self, count: usize) -> Vec<u8> {
        let mut letters = Vec::with_capacity(count);
        while letters.len() < count {
            let mut bits = self.next();
            for _ in 0..10.min(count - letters.len()) {
                letters.push(LETTERS.get((bits & 63) as usize).copied().unwrap_or(b'a'));
                bits >>= 6;
            }
        }
        letters
    }
}
