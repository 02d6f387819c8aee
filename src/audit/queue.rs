//! Where callers and the writer meet. Numbers are given under the lock that orders the events, so that the order in the
//! topic, the sequence and the receipts agree. Every lane takes that lock for each event, so what is done under it is a
//! number, a counter and a move: no text is made and no memory is asked for.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::actor::Actor;
use crate::code::Code;
use crate::event::{Event, Fact, Loss};
use crate::progress::Progress;
use crate::recorder::Status;

/// Makes the last event from the number of events before it and of those lost.
pub(crate) type MakeStop = fn(u64, u64) -> Event;

/// The most events that memory is kept ready for.
const MAX_READY: usize = 16 * 1024;
/// Tasks that may wait for room. One more is told at once that it need not wait: what it intends is then lost and does not
/// happen.
const MAX_TASKS: usize = 4096;
/// This part of the capacity is no place for intents and refusals, of which a guest makes as many as it likes: what belongs to
/// effects that have happened must find room.
const KEPT_PART: usize = 8;

/// What an event is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It tells of what has happened.
    Told,
    /// It goes before an effect, which does not happen without it.
    Intent,
    /// It tells of what was refused.
    Refusal,
}

/// A bounded queue of events. A channel of the standard library cannot wait for room with a deadline.
#[derive(Debug)]
pub(crate) struct Queue {
    capacity: usize,
    state: Mutex<State>,
    /// For the writer: there is an event, or the end.
    filled: Condvar,
    /// For callers: there is room, or the end.
    room: Condvar,
    /// Whether an intent has room, as of the last change under the lock: each request asks that first, and takes the lock only where
    /// it has none.
    has_room: AtomicBool,
    pub(crate) progress: Progress,
}

#[derive(Debug)]
struct State {
    events: Vec<(u64, Event)>,
    /// Events that the writer has taken and not built yet: they take up room.
    held: usize,
    /// The writer waits for an event. A wake-up is a system call, so it is paid only then.
    idle: bool,
    /// Callers that wait for room.
    waiting: usize,
    /// Tasks that wait for room for an intent, in the order of their coming.
    tasks: BTreeMap<u64, Waker>,
    last_task: u64,
    /// The last number given.
    recorded: u64,
    /// The last event's time: within a chain time never runs backwards, even when the machine's clock does.
    last_ms: u64,
    /// Lost and not yet told of by an event.
    untold: Option<Loss>,
    lost_events: u64,
    /// By the code's place in [`Code::ALL`].
    by_code: [u64; Code::ALL.len()],
    /// Until when the writer may still try.
    closing: Option<Instant>,
}

impl Queue {
    pub(crate) fn new(capacity: usize) -> Self {
        let state = State {
            events: Vec::with_capacity(capacity.min(MAX_READY)),
            held: 0,
            idle: false,
            waiting: 0,
            tasks: BTreeMap::new(),
            last_task: 0,
            recorded: 0,
            last_ms: 0,
            untold: None,
            lost_events: 0,
            by_code: [0; Code::ALL.len()],
            closing: None,
        };
        let progress = Progress::default();
        let (filled, room, has_room) = (Condvar::new(), Condvar::new(), AtomicBool::new(true));
        Self { capacity, state: Mutex::new(state), filled, room, has_room, progress }
    }

    /// Events that have room.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// An empty buffer for [`Self::take`].
    pub(crate) fn buffer(&self) -> VecDeque<(u64, Event)> {
        Vec::with_capacity(self.capacity.min(MAX_READY)).into()
    }

    /// Takes an event and gives its number, or counts it as lost when there is no room within `wait`.
    pub(crate) fn push(&self, event: Event, purpose: Purpose, wait: Duration) -> Option<u64> {
        let full = |state: &mut State| state.used() >= self.limit(purpose) && state.closing.is_none();
        let mut state = self.lock();
        // Without a wait not even the condition variable is touched: who does not wait must not be put to sleep.
        if !wait.is_zero() && full(&mut state) {
            state.waiting += 1;
            let waited = self.room.wait_timeout_while(state, wait, full);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.waiting -= 1;
        }
        if state.closing.is_some() || full(&mut state) {
            state.lose(&event);
            return None;
        }
        Some(self.enqueue(state, event))
    }

    /// As [`Self::push`] without a wait, for whoever tells later what is not taken now: it is not lost. Whether it was taken.
    pub(crate) fn offer(&self, event: Event, purpose: Purpose) -> bool {
        let state = self.lock();
        let is_taken = state.closing.is_none() && state.used() < self.limit(purpose);
        if is_taken {
            self.enqueue(state, event);
        }
        is_taken
    }

    fn enqueue(&self, mut state: MutexGuard<'_, State>, event: Event) -> u64 {
        let sequence = state.enqueue(event);
        self.tell_room(&state);
        let idle = mem::take(&mut state.idle);
        drop(state);
        if idle {
            self.filled.notify_one();
        }
        sequence
    }

    fn tell_room(&self, state: &State) {
        self.has_room.store(state.has_room(self.limit(Purpose::Intent)), Ordering::Release);
    }

    /// Events of that purpose that may wait.
    fn limit(&self, purpose: Purpose) -> usize {
        match purpose {
            Purpose::Told => self.capacity,
            Purpose::Intent | Purpose::Refusal => self.capacity - self.capacity / KEPT_PART,
        }
    }

    /// Wakes as many tasks as there is room for, and all when nothing is left to be taken: a task that was woken and gave up
    /// leads to no further round of the writer then. Outside of the lock, since a waker runs code of the executor.
    fn wake_tasks<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        if state.tasks.is_empty() {
            return state;
        }
        let (used, limit) = (state.used(), self.limit(Purpose::Intent));
        let room = if used == 0 || state.closing.is_some() { usize::MAX } else { limit.saturating_sub(used) };
        let due: Vec<Waker> =
            std::iter::from_fn(|| state.tasks.pop_first()).take(room).map(|(_, waker)| waker).collect();
        drop(state);
        due.into_iter().for_each(Waker::wake);
        self.lock()
    }

    /// Tells how many of the events in `taken` the writer has not built yet; when there is none, gives it all that wait, by
    /// an exchange of the buffers. Waits for the first one when `idle`. The answer is until when the writer may still try,
    /// once there will be no more events.
    pub(crate) fn take(&self, taken: &mut VecDeque<(u64, Event)>, idle: bool) -> Option<Instant> {
        let mut state = self.lock();
        state.held = taken.len();
        self.tell_room(&state);
        // Before the wait: callers may wait for the room of the last events that were built, and then nothing comes.
        if state.waiting > 0 {
            self.room.notify_all();
        }
        state = self.wake_tasks(state);
        if taken.is_empty() {
            if idle {
                let nothing = |state: &mut State| {
                    state.idle = state.events.is_empty() && state.closing.is_none();
                    state.idle
                };
                state = self.filled.wait_while(state, nothing).unwrap_or_else(PoisonError::into_inner);
            }
            let empty = mem::take(taken).into();
            *taken = mem::replace(&mut state.events, empty).into();
            state.held = taken.len();
            if !taken.is_empty() && state.closing.is_none() {
                state.tell_loss();
            }
            self.tell_room(&state);
        }
        state.closing
    }

    /// Takes no more events. The writer may try to store the rest until `until`. Only the first call counts.
    pub(crate) fn close(&self, until: Instant, stop: Option<MakeStop>) {
        let mut state = self.lock();
        if state.closing.is_none() {
            state.tell_loss();
            if let Some(stop) = stop {
                let event = stop(state.recorded, state.lost_events);
                state.enqueue(event);
            }
            state.closing = Some(until);
            self.tell_room(&state);
        }
        drop(self.wake_tasks(state));
        self.filled.notify_all();
        self.room.notify_all();
    }

    /// Lets the writer wait, after the store has failed or for events to gather: none of them wakes it. Ends early when the queue
    /// is closed meanwhile.
    pub(crate) fn pause(&self, wait: Duration) {
        let state = self.lock();
        let closed = state.closing.is_some();
        let unchanged = |state: &mut State| state.closing.is_some() == closed;
        drop(self.filled.wait_timeout_while(state, wait, unchanged));
    }

    /// An event was taken and its record tells of its loss instead.
    pub(crate) fn count_substituted(&self) {
        self.lock().lost_events += 1;
    }

    pub(crate) fn status(&self) -> Status {
        // First, so that what is confirmed is never more than what is recorded.
        let (confirmed, fault) = self.progress.get();
        let state = self.lock();
        let (recorded, lost_events, counts) = (state.recorded, state.lost_events, state.by_code);
        drop(state);
        let by_code = Code::ALL.into_iter().zip(counts).filter(|(_, count)| *count > 0).collect();
        Status { recorded, confirmed, lost_events, by_code, fault }
    }

    /// The state is consistent after each statement, so a panic elsewhere must not end the audit.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Places that are taken.
    fn used(&self) -> usize {
        self.events.len() + self.held
    }

    /// Whether there is room within a limit, or nothing will ever be taken again.
    fn has_room(&self, limit: usize) -> bool {
        self.closing.is_some() || self.used() < limit
    }

    fn enqueue(&mut self, mut event: Event) -> u64 {
        self.recorded += 1;
        self.last_ms = self.last_ms.max(event.time_ms);
        event.time_ms = self.last_ms;
        if let Some(count) = self.by_code.get_mut(event.code().index()) {
            *count += 1;
        }
        self.events.push((self.recorded, event));
        self.recorded
    }

    fn lose(&mut self, event: &Event) {
        self.lost_events += 1;
        let time_ms = event.time_ms;
        let loss =
            self.untold.get_or_insert_with(|| Loss { reason: "queue.full", first_ms: time_ms, ..Loss::default() });
        loss.add(event);
    }

    fn tell_loss(&mut self) {
        if let Some(loss) = self.untold.take() {
            self.enqueue(Event::new(Actor::bridge(), Fact::Loss(loss)));
        }
    }
}

/// Resolves when there is room for an intent, or none will come. Needs no runtime of a certain make.
#[derive(Debug)]
pub(crate) struct Room<'a> {
    queue: &'a Queue,
    /// Its place among the tasks, once it was polled in vain.
    task: Option<u64>,
}

impl<'a> Room<'a> {
    pub(crate) fn new(queue: &'a Queue) -> Self {
        Self { queue, task: None }
    }
}

impl Future for Room<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.task.is_none() && self.queue.has_room.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        // Cloned before the lock and the one before it dropped after it: both run code of the executor.
        let waker = context.waker().clone();
        let mut state = self.queue.lock();
        let is_new = self.task.is_none_or(|task| !state.tasks.contains_key(&task));
        let done = state.has_room(self.queue.limit(Purpose::Intent)) || (is_new && state.tasks.len() >= MAX_TASKS);
        let before = if done {
            Some(waker)
        } else {
            let task = self.task.unwrap_or_else(|| {
                state.last_task += 1;
                state.last_task
            });
            self.task = Some(task);
            state.tasks.insert(task, waker)
        };
        drop(state);
        drop(before);
        if done { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        if let Some(task) = self.task {
            let waker = self.queue.lock().tasks.remove(&task);
            drop(waker);
        }
    }
}

impl Loss {
    pub(crate) fn add(&mut self, event: &Event) {
        self.events += 1;
        self.first_ms = self.first_ms.min(event.time_ms);
        self.last_ms = self.last_ms.max(event.time_ms);
        let code = event.code();
        match self.by_code.iter_mut().find(|(known, _)| *known == code) {
            Some((_, weight)) => *weight += event.weight(),
            None => self.by_code.push((code, event.weight())),
        }
    }
}

#[cfg(test)]
mod tests {
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

    fn full(capacity: usize) -> Queue {
        let queue = Queue::new(capacity);
        for _ in 0..capacity {
            assert!(queue.push(Event::plugin_stopped(Actor::bridge()), Purpose::Told, Duration::ZERO).is_some());
        }
        queue
    }

    #[test]
    fn refusals_without_end_leave_room_for_what_has_happened_and_none_is_lost() {
        let queue = Queue::new(16);
        let refused = || Event::plugin_stopped(Actor::bridge());
        let taken = (0..1000).filter(|_| queue.offer(refused(), Purpose::Refusal)).count();
        assert_eq!(taken, 14);
        assert!(queue.push(refused(), Purpose::Intent, Duration::ZERO).is_none());
        assert_eq!(queue.push(refused(), Purpose::Told, Duration::ZERO), Some(15));
        assert_eq!(queue.status().lost_events, 1, "the intent alone");
    }

    fn poll(room: &mut Pin<Box<Room<'_>>>, waker: &Waker) -> Poll<()> {
        room.as_mut().poll(&mut Context::from_waker(waker))
    }

    #[test]
    fn as_many_are_woken_as_there_is_room_for_in_the_order_of_their_coming() {
        let queue = full(16);
        let mut taken = queue.buffer();
        queue.take(&mut taken, false);
        let counts: Vec<Arc<Count>> = (0..5).map(|_| Arc::default()).collect();
        let mut rooms: Vec<_> = counts.iter().map(|_| Box::pin(Room::new(&queue))).collect();
        for (room, count) in rooms.iter_mut().zip(&counts) {
            assert!(poll(room, &Waker::from(count.clone())).is_pending());
        }
        let woken = || counts.iter().map(|count| count.0.load(Ordering::Relaxed)).collect::<Vec<_>>();
        let mut build = |events: usize| {
            taken.drain(..events);
            queue.take(&mut taken, false);
        };
        build(2);
        assert_eq!(woken(), [0, 0, 0, 0, 0], "the last eighth is free and not for intents");
        build(2);
        assert_eq!(woken(), [1, 1, 0, 0, 0]);
        assert!(poll(&mut rooms[1], Waker::noop()).is_ready());
        build(12);
        assert_eq!(woken(), [1, 1, 1, 1, 1], "nothing is left that could lead to another round");
    }

    #[test]
    fn a_task_that_gave_up_is_forgotten_and_more_than_can_be_kept_do_not_wait() {
        let queue = full(1);
        let mut rooms: Vec<_> = (0..MAX_TASKS).map(|_| Box::pin(Room::new(&queue))).collect();
        for room in &mut rooms {
            assert!(poll(room, Waker::noop()).is_pending());
            assert!(poll(room, Waker::noop()).is_pending(), "polled again it takes no second place");
        }
        assert!(poll(&mut Box::pin(Room::new(&queue)), Waker::noop()).is_ready());
        rooms.pop();
        assert!(poll(&mut Box::pin(Room::new(&queue)), Waker::noop()).is_pending());
        drop(rooms);
        assert!(queue.lock().tasks.is_empty());
    }
}
