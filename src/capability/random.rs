//! `wasi:random`: random bytes from the system, by the grant `random`. The insecure interfaces get the same bytes: they
//! promise less, and a second generator would be one more thing to review.

use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

use super::Operation;
use crate::plugin::{Guest, HostFault};

/// Bytes that one call may ask for.
const MAX_BYTES: u64 = 64 << 10;

/// What this file serves.
pub(super) fn serves(interface: &str) -> bool {
    matches!(interface, "wasi:random/random" | "wasi:random/insecure" | "wasi:random/insecure-seed")
}

type Context<'a> = StoreContextMut<'a, Guest>;

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    for (interface, bytes, number, operation) in [
        ("wasi:random/random@0.2.12", "get-random-bytes", "get-random-u64", Operation::Random),
        (
            "wasi:random/insecure@0.2.12",
            "get-insecure-random-bytes",
            "get-insecure-random-u64",
            Operation::RandomInsecure,
        ),
    ] {
        let mut random = linker.instance(interface)?;
        random.func_wrap(bytes, move |mut store: Context<'_>, (wanted,): (u64,)| {
            store.data_mut().count(operation)?;
            Ok((bytes_of(wanted)?,))
        })?;
        random.func_wrap(number, move |mut store: Context<'_>, (): ()| {
            store.data_mut().count(operation)?;
            Ok((number_of()?,))
        })?;
    }
    linker.instance("wasi:random/insecure-seed@0.2.12")?.func_wrap("insecure-seed", |mut store: Context<'_>, (): ()| {
        store.data_mut().count(Operation::RandomInsecureSeed)?;
        Ok(((number_of()?, number_of()?),))
    })
}

fn bytes_of(wanted: u64) -> Result<Vec<u8>, HostFault> {
    let too_many = HostFault::RandomBytes { limit: MAX_BYTES, wanted };
    let length = usize::try_from(wanted).ok().filter(|_| wanted <= MAX_BYTES).ok_or(too_many)?;
    let mut bytes = vec![0; length];
    getrandom::fill(&mut bytes).map_err(|_| HostFault::NoRandomBytes)?;
    Ok(bytes)
}

fn number_of() -> Result<u64, HostFault> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|_| HostFault::NoRandomBytes)?;
    Ok(u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_call_gives_at_most_its_limit() {
        assert_eq!(bytes_of(MAX_BYTES).unwrap().len(), 64 << 10);
        let refused = HostFault::RandomBytes { limit: MAX_BYTES, wanted: MAX_BYTES + 1 };
        assert_eq!(bytes_of(MAX_BYTES + 1), Err(refused));
    }
}
