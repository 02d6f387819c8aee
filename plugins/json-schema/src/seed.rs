//! The seed of the hash maps inside the JSON Schema crate.
//!
//! They would ask for random bytes, and a validator that imports `wasi:random` for a hash seed would need a grant that it has no use
//! for. The maps hold the names of the operator's schema; members of a message are kept in an ordered map. Where a message's items are
//! hashed (`uniqueItems`), a sender who provokes collisions runs into the fuel limit.

#![allow(unsafe_code)]

/// The backend that getrandom 0.3 calls where it is built with `--cfg getrandom_backend="custom"`.
#[unsafe(no_mangle)]
unsafe extern "Rust" fn __getrandom_v03_custom(destination: *mut u8, length: usize) -> Result<(), getrandom::Error> {
    // SAFETY: getrandom gives a buffer of this length that nothing else refers to during the call.
    unsafe { destination.write_bytes(0x5a, length) };
    Ok(())
}
