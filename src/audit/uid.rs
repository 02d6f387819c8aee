//! Uids of events: made on the caller's thread, because a later event may point at one before the writer has seen it.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

use uuid::{Builder, Uuid};

thread_local! {
    /// A key of this thread alone and how often it was used: no lock and no system call for an event.
    static RANDOM: (RandomState, Cell<u64>) = (RandomState::new(), Cell::new(0));
}

/// A UUID of version 7 of that millisecond. Its random part tells events apart; it is no secret.
pub(crate) fn new_uid(time_ms: u64) -> Uuid {
    let (high, low) = RANDOM.with(|(key, used)| {
        let number = used.get().wrapping_add(1);
        used.set(number);
        (key.hash_one((number, 0_u8)), key.hash_one((number, 1_u8)))
    });
    let [a, b, c, d, e, f, g, h] = high.to_be_bytes();
    let [i, j, ..] = low.to_be_bytes();
    Builder::from_unix_timestamp_millis(time_ms, &[a, b, c, d, e, f, g, h, i, j]).into_uuid()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn uids_of_many_threads_in_one_millisecond_differ() {
        let made = || (0..10_000).map(|_| new_uid(1_700_000_000_123)).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(made)).collect();
        let uids: Vec<Uuid> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(uids.iter().collect::<BTreeSet<_>>().len(), 40_000);
        assert!(uids.iter().all(|uid| uid.get_version_num() == 7 && uid.as_u128() >> 80 == 1_700_000_000_123));
    }
}
