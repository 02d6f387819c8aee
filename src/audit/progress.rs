//! What the store has confirmed, and who waits for it. A lock of its own: whoever waits for evidence does not stand in the
//! way of those who record.

use std::collections::BTreeMap;
use std::mem;
use std::pin::Pin;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use crate::recorder::Unavailable;

#[derive(Debug, Default)]
pub(crate) struct Progress {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    confirmed: u64,
    /// The writer has ended: what is not confirmed now will not be.
    finished: bool,
    fault: Option<String>,
    /// Threads in a blocking wait. Without one no wake-up is paid.
    blocked: usize,
    /// Tasks that wait, by the sequence that they wait for and a number of their own.
    tasks: BTreeMap<(u64, u64), Waker>,
    last_task: u64,
}

impl Progress {
    pub(crate) fn confirm(&self, sequence: u64) {
        let mut state = self.lock();
        state.confirmed = state.confirmed.max(sequence);
        state.fault = None;
        let after = (state.confirmed.saturating_add(1), 0);
        let later = state.tasks.split_off(&after);
        let due = mem::replace(&mut state.tasks, later);
        self.wake(state, due);
    }

    pub(crate) fn finish(&self) {
        let mut state = self.lock();
        state.finished = true;
        let due = mem::take(&mut state.tasks);
        self.wake(state, due);
    }

    /// Wakes after the lock is free: a waker runs code of the executor.
    fn wake(&self, state: MutexGuard<'_, State>, due: BTreeMap<(u64, u64), Waker>) {
        let blocked = state.blocked > 0;
        drop(state);
        if blocked {
            self.changed.notify_all();
        }
        due.into_values().for_each(Waker::wake);
    }

    pub(crate) fn set_fault(&self, fault: String) {
        self.lock().fault = Some(fault);
    }

    /// The highest sequence up to which the store has everything, and what it said last while it does not work.
    pub(crate) fn get(&self) -> (u64, Option<String>) {
        let state = self.lock();
        (state.confirmed, state.fault.clone())
    }

    pub(crate) fn wait_confirmed(&self, sequence: u64, until: Instant) -> Poll<Result<(), Unavailable>> {
        self.wait(until, |state| state.of(sequence).is_ready()).of(sequence)
    }

    pub(crate) fn wait_finished(&self, until: Instant) {
        drop(self.wait(until, |state| state.finished));
    }

    fn wait(&self, until: Instant, done: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let wait = until.saturating_duration_since(Instant::now());
        let mut state = self.lock();
        state.blocked += 1;
        let waited = self.changed.wait_timeout_while(state, wait, |state| !done(state));
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.blocked -= 1;
        state
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn of(&self, sequence: u64) -> Poll<Result<(), Unavailable>> {
        match (self.confirmed >= sequence, self.finished) {
            (true, _) => Poll::Ready(Ok(())),
            (false, true) => Poll::Ready(Err(Unavailable::Ended)),
            (false, false) => Poll::Pending,
        }
    }
}

/// Resolves when the store has confirmed the sequence, or never will. Needs no runtime of a certain make.
#[derive(Debug)]
pub(crate) struct Confirmed<'a> {
    progress: &'a Progress,
    sequence: u64,
    /// Its place among the tasks, once it was polled in vain.
    task: Option<u64>,
}

impl<'a> Confirmed<'a> {
    pub(crate) fn new(progress: &'a Progress, sequence: u64) -> Self {
        Self { progress, sequence, task: None }
    }
}

impl Future for Confirmed<'_> {
    type Output = Result<(), Unavailable>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // Cloned before the lock and the one before it dropped after it: both run code of the executor.
        let waker = context.waker().clone();
        let mut state = self.progress.lock();
        let result = state.of(self.sequence);
        let before = if result.is_pending() {
            let task = self.task.unwrap_or_else(|| {
                state.last_task += 1;
                state.last_task
            });
            self.task = Some(task);
            state.tasks.insert((self.sequence, task), waker)
        } else {
            Some(waker)
        };
        drop(state);
        drop(before);
        result
    }
}

impl Drop for Confirmed<'_> {
    fn drop(&mut self) {
        if let Some(task) = self.task {
            let waker = self.progress.lock().tasks.remove(&(self.sequence, task));
            drop(waker);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn only_the_tasks_whose_event_is_confirmed_are_woken_and_each_once() {
        let progress = Progress::default();
        let [early, late] = [Arc::new(Count::default()), Arc::new(Count::default())];
        let [first, second] = [&early, &late].map(|count| Waker::from(count.clone()));
        let mut at_3 = pin!(Confirmed::new(&progress, 3));
        let mut at_4 = pin!(Confirmed::new(&progress, 4));
        for _poll in 0..3 {
            assert!(at_3.as_mut().poll(&mut Context::from_waker(&first)).is_pending());
            assert!(at_4.as_mut().poll(&mut Context::from_waker(&second)).is_pending());
        }
        progress.confirm(3);
        let woken = || [&early, &late].map(|count| count.0.load(Ordering::Relaxed));
        assert_eq!(woken(), [1, 0]);
        assert_eq!(at_3.as_mut().poll(&mut Context::from_waker(&first)), Poll::Ready(Ok(())));
        progress.finish();
        assert_eq!(woken(), [1, 1]);
        let ended = Poll::Ready(Err(Unavailable::Ended));
        assert_eq!(at_4.as_mut().poll(&mut Context::from_waker(&second)), ended, "it will never be confirmed");
    }

    #[test]
    fn a_task_that_gave_up_is_forgotten() {
        let progress = Progress::default();
        {
            let mut confirmed = pin!(Confirmed::new(&progress, 1));
            assert!(confirmed.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            assert_eq!(progress.lock().tasks.len(), 1);
        }
        assert!(progress.lock().tasks.is_empty());
    }
}
