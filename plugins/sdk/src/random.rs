//! Random bytes, by the import `wasi:random/random`. Needs the grant `random`.

/// `length` bytes that nobody can guess.
///
/// Under `cargo test` they come from the standard library's hasher seed: different in each run, and good for nothing else.
pub fn bytes(length: usize) -> Vec<u8> {
    host::bytes(length)
}

#[cfg(target_arch = "wasm32")]
mod host {
    pub(super) fn bytes(length: usize) -> Vec<u8> {
        // usize is 32 bits wide here.
        crate::bindings::host::wasi::random::random::get_random_bytes(length as u64)
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod host {
    use std::hash::{BuildHasher, RandomState};

    pub(super) fn bytes(length: usize) -> Vec<u8> {
        let seed = RandomState::new();
        (0..length.div_ceil(8)).flat_map(|block| seed.hash_one(block).to_le_bytes()).take(length).collect()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_length_is_the_one_asked_for() {
        assert_eq!(super::bytes(13).len(), 13);
        assert_ne!(super::bytes(16), super::bytes(16));
    }
}
