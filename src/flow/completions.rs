use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The way back to the intake: lanes and sink threads put finished entries in, the intake takes them all out.
///
/// It has no bound of its own and never makes a producer wait, because a sink's callback must not block. It is bounded by
/// the windows: each entry belongs to a message that a tracker still holds, and the intake takes no more messages in
/// past the window.
#[derive(Debug)]
pub struct Completions<T> {
    state: Mutex<State<T>>,
    arrived: Condvar,
}

#[derive(Debug)]
struct State<T> {
    entries: Vec<T>,
    /// Whether the consumer sleeps: only then does a push pay for a wake-up.
    waiting: bool,
}

impl<T> Completions<T> {
    /// Empty.
    pub fn new() -> Self {
        Self { state: Mutex::new(State { entries: Vec::new(), waiting: false }), arrived: Condvar::new() }
    }

    /// Puts one entry in.
    pub fn push(&self, entry: T) {
        let mut state = self.lock();
        state.entries.push(entry);
        let waiting = mem::take(&mut state.waiting);
        drop(state);
        if waiting {
            self.arrived.notify_one();
        }
    }

    /// Appends everything that is there to `into`. An empty `into` changes places with the inner buffer, so that two
    /// buffers go to and fro and neither is allocated again.
    pub fn drain(&self, into: &mut Vec<T>) {
        let mut state = self.lock();
        if into.is_empty() {
            mem::swap(&mut state.entries, into);
        } else {
            into.append(&mut state.entries);
        }
    }

    /// Waits until there is something, at most for `timeout`; says whether there is. For one consumer.
    pub fn wait(&self, timeout: Duration) -> bool {
        let mut state = self.lock();
        state.waiting = state.entries.is_empty();
        let waited = self.arrived.wait_timeout_while(state, timeout, |state| state.entries.is_empty());
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.waiting = false;
        !state.entries.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No entry is half pushed when a thread panics here, so a poisoned lock still guards whole entries.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Default for Completions<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;
    use std::time::Instant;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn entries_of_many_threads_arrive_once_and_in_the_order_of_each() {
        const THREADS: usize = 4;
        const EACH: usize = 5_000;
        let completions = Arc::new(Completions::new());
        let threads = (0..THREADS).map(|thread| {
            let completions = Arc::clone(&completions);
            thread::spawn(move || {
                for n in 0..EACH {
                    completions.push((thread, n));
                }
            })
        });
        let threads = threads.collect::<Vec<_>>();
        let (mut got, mut seen, deadline) = (Vec::new(), [0; THREADS], Instant::now() + SOON);
        while seen != [EACH; THREADS] && Instant::now() < deadline {
            completions.wait(SOON);
            completions.drain(&mut got);
            for (thread, n) in got.drain(..) {
                assert_eq!(n, seen[thread]);
                seen[thread] += 1;
            }
        }
        assert_eq!(seen, [EACH; THREADS]);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(!completions.wait(Duration::ZERO));
    }

    #[test]
    fn a_push_wakes_the_consumer_that_waits() {
        let completions = Arc::new(Completions::new());
        let consumer = thread::spawn({
            let completions = Arc::clone(&completions);
            move || completions.wait(SOON)
        });
        let deadline = Instant::now() + SOON;
        while !completions.lock().waiting && Instant::now() < deadline {
            thread::yield_now();
        }
        let pushed = Instant::now();
        completions.push(1);
        assert!(consumer.join().unwrap() && pushed.elapsed() < SOON / 2);
        assert!(completions.wait(SOON), "what is there is not waited for");
    }

    #[test]
    fn a_wait_without_entries_ends_at_its_timeout() {
        assert!(!Completions::<()>::new().wait(Duration::from_millis(1)));
    }

    #[test]
    fn draining_to_and_fro_keeps_both_buffers() {
        let completions = Completions::new();
        let mut got = Vec::with_capacity(64);
        let mut capacities = Vec::new();
        for round in 0..4 {
            (0..64).for_each(|n| completions.push(n));
            completions.drain(&mut got);
            assert_eq!(got.len(), 64);
            got.clear();
            capacities.push((round % 2, got.capacity()));
        }
        assert_eq!(capacities[0], capacities[2]);
        assert_eq!(capacities[1], capacities[3]);
        completions.push(1);
        got.push(0);
        completions.drain(&mut got);
        assert_eq!(got, [0, 1]);
    }
}
