use std::sync::Arc;

use crate::actor::Actor;
use crate::clock::now_ms;
use crate::detail::HostCall;
use crate::event::Event;
use crate::recorder::Recorder;

/// Exact numbers of host calls of one plugin instance, owned by its lane: a call costs an addition, no lock and no
/// allocation. Whoever owns it flushes it at the end of each window and when the instance ends.
#[derive(Debug)]
pub struct Counts {
    operations: Vec<Arc<str>>,
    counts: Vec<u64>,
    /// Calls of an operation that the list does not have. A mistake of the host, and still evidence.
    unlisted: u64,
    window_start_ms: u64,
}

impl Counts {
    /// Counts for these operations; an operation's index is its place in the list.
    pub fn new(operations: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let operations: Vec<Arc<str>> = operations.into_iter().map(|name| Arc::from(name.as_ref())).collect();
        Self { counts: vec![0; operations.len()], operations, unlisted: 0, window_start_ms: now_ms() }
    }

    /// Counts one call.
    pub fn add(&mut self, operation: usize) {
        *self.counts.get_mut(operation).unwrap_or(&mut self.unlisted) += 1;
    }

    /// Adds calls counted elsewhere, in the order of the operations.
    pub fn add_all(&mut self, calls: &[u64]) {
        for (operation, calls) in calls.iter().enumerate() {
            *self.counts.get_mut(operation).unwrap_or(&mut self.unlisted) += calls;
        }
    }

    /// Ends the window: records one event for each operation that was called, and begins the next.
    pub fn flush(&mut self, recorder: &Recorder, plugin: &Actor) {
        // A clock that was set back must not turn a window around.
        let end_ms = now_ms().max(self.window_start_ms);
        let start_ms = std::mem::replace(&mut self.window_start_ms, end_ms);
        let record = |operation: Arc<str>, count| {
            if count > 0 {
                let calls = HostCall { operation, count, start_ms, end_ms };
                recorder.record(Event::host_call(plugin.clone(), calls));
            }
        };
        for (operation, count) in self.operations.iter().zip(&mut self.counts) {
            record(operation.clone(), std::mem::take(count));
        }
        record(Arc::from("unlisted"), std::mem::take(&mut self.unlisted));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::samples::{context, plugin};
    use crate::{MemoryStore, Options};

    #[test]
    fn the_counts_of_all_windows_sum_to_the_calls() {
        let store = MemoryStore::new();
        let (recorder, _) = Recorder::start(context(), Options::default(), store.clone()).unwrap();
        let mut counts = Counts::new(["wasi:clocks/wall-clock.now", "wasi:random/random.get-random-u64"]);
        for call in 0..10_000_usize {
            counts.add(call % 3);
            if call % 997 == 0 {
                counts.flush(&recorder, &plugin());
            }
        }
        counts.add_all(&[5, 7, 9]);
        counts.flush(&recorder, &plugin());
        counts.flush(&recorder, &plugin());
        recorder.shutdown(Duration::from_secs(10)).unwrap();

        let sum = |operation: &str| -> u64 {
            let events = store.events();
            let of = events.iter().filter(|event| event["api"]["operation"] == operation);
            of.map(|event| event["count"].as_u64().unwrap()).sum()
        };
        assert_eq!(sum("wasi:clocks/wall-clock.now"), 3334 + 5);
        assert_eq!(sum("wasi:random/random.get-random-u64"), 3333 + 7);
        assert_eq!(sum("unlisted"), 3333 + 9);
    }

    #[test]
    fn a_window_without_calls_records_nothing() {
        let store = MemoryStore::new();
        let (recorder, _) = Recorder::start(context(), Options::default(), store.clone()).unwrap();
        Counts::new(["a.b"]).flush(&recorder, &plugin());
        let summary = recorder.shutdown(Duration::from_secs(10)).unwrap();
        assert_eq!(summary.events, 2, "boot and stop only");
    }
}
