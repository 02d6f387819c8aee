//! The thread between the queue and the store. It keeps each record until the store has confirmed it, so that a store that
//! fails and comes back gets everything again, in order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::chain::Chain;
use crate::detail::Mode;
use crate::event::Event;
use crate::queue::Queue;
use crate::store::{AuditRecord, Store, StoreError};

/// Records that may wait for the store's confirmation. At most [`crate::chain`]'s largest value each, usually 1.5 KiB.
const WINDOW: usize = 1024;
/// Waits between attempts while the store does not work.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// With nothing left to do the writer lets events gather for so long before it asks to be woken. A wake-up is a system call of
/// the thread that records, which is the one that a plugin waits for, and what came together is synchronised together.
const GATHER: Duration = Duration::from_millis(1);
/// More than these in a round, or than this part of the capacity, are a stream that needs no gathering and must not wait for room.
const FEW: usize = 64;
const FEW_PART: usize = 8;

/// The wait for a confirmation begins short, since a broker answers within milliseconds, and grows while nothing comes.
const LONGEST_CONFIRM_WAIT_MS: u64 = 32;

pub(crate) struct Writer {
    queue: Arc<Queue>,
    chain: Chain,
    store: Box<dyn Store>,
    /// Events that were taken from the queue and are not records yet.
    taken: VecDeque<(u64, Event)>,
    /// Unconfirmed records in order.
    window: VecDeque<AuditRecord>,
    /// How many of the window, from its front, the store was given.
    appended: usize,
    pause: Duration,
    confirm_wait_ms: u64,
    /// The most events of a round after which others are let gather; 0 where somebody waits for each.
    few: usize,
}

impl Writer {
    pub(crate) fn new(queue: Arc<Queue>, chain: Chain, store: Box<dyn Store>, mode: Mode) -> Self {
        let (taken, window) = (queue.buffer(), VecDeque::new());
        let few = match mode {
            Mode::Buffered | Mode::BestEffort => FEW.min(queue.capacity() / FEW_PART),
            Mode::Strict | Mode::AckFirst => 0,
        };
        Self { queue, chain, store, taken, window, appended: 0, pause: FIRST_PAUSE, confirm_wait_ms: 1, few }
    }

    pub(crate) fn run(mut self) {
        loop {
            let idle = self.window.is_empty();
            let closing = self.queue.take(&mut self.taken, idle);
            let ended = closing.is_some() && self.taken.is_empty();
            let came = self.taken.len();
            while self.window.len() < WINDOW
                && let Some((sequence, event)) = self.taken.pop_front()
            {
                let link = self.chain.link(sequence, &event);
                if link.substituted {
                    self.queue.count_substituted();
                }
                self.window.push_back(link.record);
            }
            if ended && self.window.is_empty() {
                break;
            }
            if closing.is_some_and(|until| Instant::now() >= until) {
                break;
            }
            match self.exchange() {
                Ok(()) => {
                    self.pause = FIRST_PAUSE;
                    if (1..=self.few).contains(&came) && self.window.is_empty() && closing.is_none() {
                        self.queue.pause(GATHER);
                    }
                }
                Err(error) => self.failed(&error),
            }
        }
        // Before the end is told: whoever waits for it may want to open the store itself.
        let Self { queue, store, .. } = self;
        drop(store);
        queue.progress.finish();
    }

    /// Gives the store what it does not have yet and asks what it has made durable.
    fn exchange(&mut self) -> Result<(), StoreError> {
        while let Some(record) = self.window.get(self.appended) {
            self.store.append(record)?;
            self.appended += 1;
        }
        let confirmed = self.store.confirmed(Duration::from_millis(self.confirm_wait_ms))?;
        let before = self.window.len();
        while self.appended > 0 && self.window.front().is_some_and(|record| record.sequence <= confirmed) {
            self.window.pop_front();
            self.appended -= 1;
        }
        if self.window.len() < before {
            self.confirm_wait_ms = 1;
            self.queue.progress.confirm(confirmed);
        } else {
            self.confirm_wait_ms = (self.confirm_wait_ms * 2).min(LONGEST_CONFIRM_WAIT_MS);
        }
        Ok(())
    }

    fn failed(&mut self, error: &StoreError) {
        self.appended = 0;
        self.queue.progress.set_fault(error.to_string());
        self.queue.pause(self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}
