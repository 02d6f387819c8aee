use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::full::{Full, QueueLevel};

/// Between the intake and the lanes: one queue a lane, one producer for all, one consumer for each, and one bound over all
/// of them in messages and bytes.
///
/// The producer asks for [`room`](Self::room) before it fetches, and what it fetched then always fits: nothing that was
/// taken from a broker is ever left standing outside. The last message may pass the byte bound, so that one that is larger
/// than the whole bound gets through an empty queue.
#[derive(Debug)]
pub struct LaneQueues<T> {
    lanes: Vec<Lane<T>>,
    bounds: Bounds,
    messages: AtomicUsize,
    bytes: AtomicUsize,
    producer_waits: AtomicBool,
    closed: AtomicBool,
    room_lock: Mutex<()>,
    room_made: Condvar,
    /// What waits in all queues of a tenant, and of the node.
    sums: Vec<Arc<QueueSum>>,
}

/// What an empty queue may always fetch, however full its sums are. The queue of one pipeline that stands still may be as
/// large as a sum: without this it would shut out every other one.
const FIRST_SLICE: Amount = Amount { messages: 64, bytes: 64 * 1024 };

/// What waits in several queues together, and how much may. Each producer looks before it fetches, so all of them can pass
/// the bound by what each fetches at once; and a queue that is empty may fetch a slice of 64 messages or 64 KiB in any case.
#[derive(Debug)]
pub struct QueueSum {
    level: QueueLevel,
    bounds: Bounds,
    messages: AtomicUsize,
    bytes: AtomicUsize,
}

impl QueueSum {
    /// A sum of a level with its bounds; zero counts as one.
    pub fn new(level: QueueLevel, bounds: Bounds) -> Self {
        let bounds = Bounds { messages: bounds.messages.max(1), bytes: bounds.bytes.max(1) };
        Self { level, bounds, messages: AtomicUsize::new(0), bytes: AtomicUsize::new(0) }
    }

    /// What may still come.
    pub fn room(&self) -> Amount {
        Amount {
            messages: self.bounds.messages.saturating_sub(self.messages.load(Ordering::SeqCst)),
            bytes: self.bounds.bytes.saturating_sub(self.bytes.load(Ordering::SeqCst)),
        }
    }

    /// The same for one who gets `first` in any case, as far as the bounds are not smaller.
    fn room_for(&self, first: Amount) -> Amount {
        let room = self.room();
        Amount {
            messages: room.messages.max(first.messages.min(self.bounds.messages)),
            bytes: room.bytes.max(first.bytes.min(self.bounds.bytes)),
        }
    }

    fn add(&self, messages: usize, bytes: usize) {
        self.messages.fetch_add(messages, Ordering::SeqCst);
        self.bytes.fetch_add(bytes, Ordering::SeqCst);
    }

    fn take_off(&self, messages: usize, bytes: usize) {
        self.messages.fetch_sub(messages, Ordering::SeqCst);
        self.bytes.fetch_sub(bytes, Ordering::SeqCst);
    }
}

/// What an item counts for the byte bound.
pub trait SizeBytes {
    /// Its bytes; the same each time that it is asked.
    fn size_bytes(&self) -> usize;
}

/// How much may wait, over all lanes. Zero counts as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Messages.
    pub messages: usize,
    /// Bytes.
    pub bytes: usize,
}

/// Messages and bytes: what waits, or what there is room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Messages.
    pub messages: usize,
    /// Bytes. As room: after that many no further message may follow.
    pub bytes: usize,
}

impl Amount {
    /// Whether not even one message has room: either bound is reached.
    pub fn is_exhausted(self) -> bool {
        self.messages == 0 || self.bytes == 0
    }
}

/// What a [`LaneQueues::take`] brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Taken {
    /// At least one item.
    Items,
    /// Nothing came in time.
    TimedOut,
    /// The queues are closed and this lane is empty: nothing will come any more.
    Closed,
}

/// Why a slice was not taken; it is left with the caller as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushError {
    /// The queues are closed.
    Closed,
    /// There are only this many lanes.
    NoSuchLane {
        /// The lane that was named, from 0.
        lane: usize,
        /// How many there are.
        lanes: usize,
    },
}

/// Alone on its cache lines, so that a lane that takes does not slow the pushes to its neighbour.
#[derive(Debug)]
#[repr(align(128))]
struct Lane<T> {
    state: Mutex<State<T>>,
    arrived: Condvar,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    bytes: usize,
    closed: bool,
    /// Whether the consumer sleeps: only then does a push pay for a wake-up.
    waiting: bool,
}

impl<T: SizeBytes> LaneQueues<T> {
    /// `lanes` queues under one bound. What waits counts for these sums too.
    pub fn under(lanes: usize, bounds: Bounds, sums: Vec<Arc<QueueSum>>) -> Self {
        let lane = || Lane {
            state: Mutex::new(State { items: VecDeque::new(), bytes: 0, closed: false, waiting: false }),
            arrived: Condvar::new(),
        };
        Self {
            lanes: (0..lanes).map(|_| lane()).collect(),
            bounds: Bounds { messages: bounds.messages.max(1), bytes: bounds.bytes.max(1) },
            messages: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            producer_waits: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            room_lock: Mutex::new(()),
            room_made: Condvar::new(),
            sums,
        }
    }

    /// How many lanes there are.
    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// What waits, over all lanes.
    pub fn depth(&self) -> Amount {
        Amount { messages: self.messages.load(Ordering::SeqCst), bytes: self.bytes.load(Ordering::SeqCst) }
    }

    /// What may be fetched and pushed. Lanes can only make it more, so of these queues it holds until the producer's next
    /// push.
    pub fn room(&self) -> Amount {
        let (own, first) = self.own_room();
        self.sums.iter().map(|sum| sum.room_for(first)).fold(own, |least, room| Amount {
            messages: least.messages.min(room.messages),
            bytes: least.bytes.min(room.bytes),
        })
    }

    /// The bound that leaves no [`room`](Self::room), the narrowest level first; none where there is some, perhaps only since it
    /// was asked.
    pub fn full(&self) -> Option<Full> {
        let (own, first) = self.own_room();
        let of_sum = |sum: &Arc<QueueSum>| Full::of(sum.room_for(first), sum.level, sum.bounds);
        Full::of(own, QueueLevel::Own, self.bounds).or_else(|| self.sums.iter().find_map(of_sum))
    }

    /// What its own bound leaves, and what the sums leave in any case.
    fn own_room(&self) -> (Amount, Amount) {
        let depth = self.depth();
        let own = Amount {
            messages: self.bounds.messages.saturating_sub(depth.messages),
            bytes: self.bounds.bytes.saturating_sub(depth.bytes),
        };
        (own, if depth.messages == 0 { FIRST_SLICE } else { Amount::default() })
    }

    /// Waits until there is room, the queues are closed or `timeout` is over; says whether there is room. Room that another
    /// queue of the same sum makes is seen when the time is over.
    pub fn wait_for_room(&self, timeout: Duration) -> bool {
        let guard = self.room_lock.lock().unwrap_or_else(PoisonError::into_inner);
        // A lane counts down and then reads this flag; we set the flag and then read the count. In the one order that all
        // of these have, one side sees the other, so no wake-up is lost.
        self.producer_waits.store(true, Ordering::SeqCst);
        let full = |_: &mut ()| self.room().is_exhausted() && !self.is_closed();
        let waited = self.room_made.wait_timeout_while(guard, timeout, full);
        self.producer_waits.store(false, Ordering::SeqCst);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        !self.room().is_exhausted()
    }

    /// Puts a slice at the end of a lane, with one lock and at most one wake-up, and leaves `slice` empty with its
    /// allocation. `bytes` is the sum of the sizes. Never waits: the slice was fetched within [`room`](Self::room).
    ///
    /// # Errors
    /// [`PushError`]; `slice` is then as it was.
    pub fn push_slice(&self, lane: usize, slice: &mut Vec<T>, bytes: usize) -> Result<(), PushError> {
        debug_assert_eq!(bytes, slice.iter().map(T::size_bytes).sum::<usize>(), "the sum of the sizes");
        let found = self.lanes.get(lane).ok_or(PushError::NoSuchLane { lane, lanes: self.lanes.len() })?;
        let mut state = found.lock();
        if state.closed {
            return Err(PushError::Closed);
        }
        // Counted before the lock is given back: a lane could otherwise count down first, and below zero.
        self.messages.fetch_add(slice.len(), Ordering::SeqCst);
        self.bytes.fetch_add(bytes, Ordering::SeqCst);
        self.sums.iter().for_each(|sum| sum.add(slice.len(), bytes));
        state.bytes += bytes;
        state.items.extend(slice.drain(..));
        let wake = !state.items.is_empty() && mem::take(&mut state.waiting);
        drop(state);
        if wake {
            found.arrived.notify_one();
        }
        Ok(())
    }

    /// Appends what waits in a lane to `into`, at most `max` items (at least one), and makes their room free. Waits for the
    /// first at most for `timeout`, and never to get more.
    pub fn take(&self, lane: usize, into: &mut Vec<T>, max: usize, timeout: Duration) -> Taken {
        let Some(found) = self.lanes.get(lane) else {
            return Taken::Closed;
        };
        let mut state = found.lock();
        if state.items.is_empty() && !state.closed {
            state.waiting = true;
            let waited = found.arrived.wait_timeout_while(state, timeout, |s| s.items.is_empty() && !s.closed);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.waiting = false;
        }
        if state.items.is_empty() {
            return if state.closed { Taken::Closed } else { Taken::TimedOut };
        }
        let messages = state.items.len().min(max.max(1));
        let bytes = if messages == state.items.len() {
            state.bytes
        } else {
            state.items.iter().take(messages).map(T::size_bytes).sum::<usize>().min(state.bytes)
        };
        state.bytes -= bytes;
        into.extend(state.items.drain(..messages));
        drop(state);
        self.make_room(messages, bytes);
        Taken::Items
    }

    /// Takes no more in. The lanes still get what waits, then [`Taken::Closed`].
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        for lane in &self.lanes {
            lane.lock().closed = true;
            lane.arrived.notify_all();
        }
        self.wake_producer();
    }

    /// Whether [`close`](Self::close) was called.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    fn make_room(&self, messages: usize, bytes: usize) {
        self.messages.fetch_sub(messages, Ordering::SeqCst);
        self.bytes.fetch_sub(bytes, Ordering::SeqCst);
        self.sums.iter().for_each(|sum| sum.take_off(messages, bytes));
        if self.producer_waits.load(Ordering::SeqCst) {
            self.wake_producer();
        }
    }

    fn wake_producer(&self) {
        // Through the lock: a producer that has looked and not yet gone to sleep would miss the call.
        drop(self.room_lock.lock().unwrap_or_else(PoisonError::into_inner));
        self.room_made.notify_all();
    }
}

impl<T> Drop for LaneQueues<T> {
    /// What was left behind counts for nobody any more.
    fn drop(&mut self) {
        let (messages, bytes) = (*self.messages.get_mut(), *self.bytes.get_mut());
        self.sums.iter().for_each(|sum| sum.take_off(messages, bytes));
    }
}

impl<T> Lane<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => write!(f, "the queue is closed"),
            Self::NoSuchLane { lane, lanes } => write!(f, "there is no lane {lane}, there are {lanes} from 0"),
        }
    }
}

impl Error for PushError {}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Instant;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(1);

    /// The n-th message of a lane.
    #[derive(Debug, PartialEq, Eq)]
    struct Item {
        n: usize,
        bytes: usize,
    }

    impl SizeBytes for Item {
        fn size_bytes(&self) -> usize {
            self.bytes
        }
    }

    fn queues(lanes: usize, messages: usize, bytes: usize) -> Arc<LaneQueues<Item>> {
        Arc::new(LaneQueues::under(lanes, Bounds { messages, bytes }, Vec::new()))
    }

    fn push(queues: &LaneQueues<Item>, lane: usize, items: impl IntoIterator<Item = (usize, usize)>) {
        let mut slice = items.into_iter().map(|(n, bytes)| Item { n, bytes }).collect::<Vec<_>>();
        let bytes = slice.iter().map(|item| item.bytes).sum();
        queues.push_slice(lane, &mut slice, bytes).unwrap();
        assert!(slice.is_empty());
    }

    fn until(condition: impl Fn() -> bool) {
        let deadline = Instant::now() + SOON;
        while !condition() {
            assert!(Instant::now() < deadline, "the condition did not come true");
            thread::yield_now();
        }
    }

    #[test]
    fn a_lane_takes_what_waits_up_to_its_maximum_and_gives_the_room_back() {
        let queues = queues(2, 10, 100);
        push(&queues, 1, [(0, 10), (1, 20), (2, 30)]);
        assert_eq!(queues.room(), Amount { messages: 7, bytes: 40 });
        let mut got = Vec::new();
        assert_eq!(queues.take(0, &mut got, 9, SHORT), Taken::TimedOut);
        assert_eq!(queues.take(1, &mut got, 2, SOON), Taken::Items);
        assert_eq!((got.len(), queues.depth()), (2, Amount { messages: 1, bytes: 30 }));
        assert_eq!(queues.take(1, &mut got, 2, SOON), Taken::Items);
        assert_eq!(got.iter().map(|item| item.n).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!((queues.depth(), queues.room()), (Amount::default(), Amount { messages: 10, bytes: 100 }));
    }

    #[test]
    fn a_message_larger_than_the_bound_passes_an_empty_queue_and_stops_the_next() {
        let queues = queues(1, 10, 100);
        assert!(!queues.room().is_exhausted());
        push(&queues, 0, [(0, 1_000_000)]);
        assert!(queues.room().is_exhausted() && !queues.wait_for_room(SHORT));
        assert_eq!(queues.full(), Some(Full { level: QueueLevel::Own, in_bytes: true, limit: 100 }));
        let mut got = Vec::new();
        assert_eq!(queues.take(0, &mut got, 1, SHORT), Taken::Items);
        assert!(queues.wait_for_room(SHORT));
    }

    #[test]
    fn bounds_of_zero_let_one_message_through_at_a_time() {
        let queues = queues(1, 0, 0);
        assert!(!queues.room().is_exhausted());
        push(&queues, 0, [(0, 1)]);
        assert!(queues.room().is_exhausted());
    }

    #[test]
    fn closing_lets_the_lanes_drain_what_is_left_and_refuses_more() {
        let queues = queues(2, 10, 100);
        push(&queues, 0, [(0, 1), (1, 1)]);
        queues.close();
        let mut slice = vec![Item { n: 2, bytes: 1 }];
        assert_eq!(queues.push_slice(0, &mut slice, 1), Err(PushError::Closed));
        assert_eq!((slice.len(), queues.depth().messages), (1, 2), "what is refused stays with the caller");
        let mut got = Vec::new();
        assert_eq!(queues.take(0, &mut got, 1, SOON), Taken::Items);
        assert_eq!(queues.take(0, &mut got, 1, SOON), Taken::Items);
        assert_eq!(queues.take(0, &mut got, 1, SOON), Taken::Closed);
        assert_eq!(queues.take(1, &mut got, 1, SOON), Taken::Closed);
        assert!(queues.is_closed() && got.len() == 2);
    }

    #[test]
    fn a_lane_that_does_not_exist_is_named() {
        let queues = queues(2, 10, 100);
        let refused = queues.push_slice(2, &mut vec![], 0).unwrap_err();
        assert_eq!(refused.to_string(), "there is no lane 2, there are 2 from 0");
        assert_eq!(queues.take(2, &mut vec![], 1, SOON), Taken::Closed);
    }

    #[test]
    fn a_push_wakes_the_lane_and_a_take_wakes_the_producer_that_sleep() {
        let queues = queues(1, 1, 1);
        let lane = thread::spawn({
            let queues = Arc::clone(&queues);
            move || queues.take(0, &mut vec![], 1, SOON)
        });
        until(|| queues.lanes[0].lock().waiting);
        let woken = Instant::now();
        push(&queues, 0, [(0, 1)]);
        assert_eq!(lane.join().unwrap(), Taken::Items);

        push(&queues, 0, [(1, 1)]);
        let producer = thread::spawn({
            let queues = Arc::clone(&queues);
            move || queues.wait_for_room(SOON)
        });
        until(|| queues.producer_waits.load(Ordering::SeqCst));
        assert_eq!(queues.take(0, &mut vec![], 1, SOON), Taken::Items);
        assert!(producer.join().unwrap() && woken.elapsed() < SOON / 2);
    }

    #[test]
    fn closing_wakes_the_lane_and_the_producer_that_sleep() {
        let queues = queues(1, 1, 1);
        push(&queues, 0, [(0, 1)]);
        let producer = thread::spawn({
            let queues = Arc::clone(&queues);
            move || queues.wait_for_room(SOON)
        });
        until(|| queues.producer_waits.load(Ordering::SeqCst));
        queues.close();
        assert!(!producer.join().unwrap(), "closed, and still no room");

        let queues = self::queues(1, 1, 1);
        let lane = thread::spawn({
            let queues = Arc::clone(&queues);
            move || queues.take(0, &mut vec![], 1, SOON)
        });
        until(|| queues.lanes[0].lock().waiting);
        queues.close();
        assert_eq!(lane.join().unwrap(), Taken::Closed);
    }

    /// Takes all of a lane until it is closed, in slices of changing size, and checks the order.
    fn consume(queues: &LaneQueues<Item>, lane: usize) -> usize {
        let (mut got, mut next) = (Vec::new(), 0);
        loop {
            match queues.take(lane, &mut got, 1 + next % 37, SOON) {
                Taken::Items => {
                    for item in got.drain(..) {
                        assert_eq!(item.n, next, "lane {lane} out of order");
                        next += 1;
                    }
                }
                Taken::TimedOut => panic!("lane {lane} starved"),
                Taken::Closed => return next,
            }
        }
    }

    #[test]
    fn under_threads_nothing_is_lost_doubled_or_disordered_and_the_bound_holds() {
        const LANES: usize = 3;
        const MESSAGES: usize = 60_000;
        const LARGEST: usize = 300;
        let (bounds, queues) = (Bounds { messages: 50, bytes: 2_000 }, queues(LANES, 50, 2_000));
        let consumers = (0..LANES).map(|lane| {
            let queues = Arc::clone(&queues);
            thread::spawn(move || consume(&queues, lane))
        });
        let consumers = consumers.collect::<Vec<_>>();
        let mut sent = [0; LANES];
        let mut random = 1_u64;
        while sent.iter().sum::<usize>() < MESSAGES {
            assert!(queues.wait_for_room(SOON), "the lanes must make room");
            let room = queues.room();
            let mut slices = [const { Vec::new() }; LANES];
            let (mut messages, mut bytes) = (0, 0);
            while messages < room.messages && bytes < room.bytes {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let (lane, size) = ((random >> 33) as usize % LANES, (random >> 40) as usize % LARGEST);
                slices[lane].push((sent[lane], size));
                sent[lane] += 1;
                messages += 1;
                bytes += size;
            }
            for (lane, slice) in slices.into_iter().enumerate() {
                push(&queues, lane, slice);
            }
            let depth = queues.depth();
            assert!(depth.messages <= bounds.messages && depth.bytes < bounds.bytes + LARGEST, "{depth:?}");
        }
        queues.close();
        let got = consumers.into_iter().map(|consumer| consumer.join().unwrap()).collect::<Vec<_>>();
        assert_eq!(got, sent);
        assert_eq!(queues.depth(), Amount::default());
    }

    #[test]
    fn queues_of_one_tenant_share_its_sum_and_what_is_left_behind_is_given_back() {
        let sum = Arc::new(QueueSum::new(QueueLevel::Tenant, Bounds { messages: 10, bytes: 1000 }));
        let bounds = Bounds { messages: 100, bytes: 10_000 };
        let one = LaneQueues::under(1, bounds, vec![sum.clone()]);
        let other = LaneQueues::<Item>::under(1, bounds, vec![sum.clone()]);
        let mut slice: Vec<Item> = (0..9).map(|n| Item { n, bytes: 50 }).collect();
        push(&other, 0, [(0, 0)]);
        assert_eq!(other.room(), Amount { messages: 9, bytes: 1000 });
        slice.truncate(8);
        one.push_slice(0, &mut slice, 400).unwrap();
        assert_eq!(other.room(), Amount { messages: 1, bytes: 600 });
        let mut taken = Vec::new();
        assert_eq!(one.take(0, &mut taken, 4, Duration::ZERO), Taken::Items);
        assert_eq!(other.room(), Amount { messages: 5, bytes: 800 });
        drop(one);
        assert_eq!(other.room(), Amount { messages: 9, bytes: 1000 });
    }

    #[test]
    fn a_queue_that_fills_its_sum_does_not_shut_out_one_that_is_empty() {
        let sum = Arc::new(QueueSum::new(QueueLevel::Node, Bounds { messages: 10, bytes: 100 }));
        let bounds = Bounds { messages: 1000, bytes: 1_000_000 };
        let stands = LaneQueues::under(1, bounds, vec![sum.clone()]);
        let other = LaneQueues::<Item>::under(1, bounds, vec![sum.clone()]);
        push(&stands, 0, (0..10).map(|n| (n, 10)));
        assert!(stands.room().is_exhausted());
        assert_eq!(stands.full(), Some(Full { level: QueueLevel::Node, in_bytes: false, limit: 10 }));
        assert_eq!(other.full(), None);
        for _ in 0..3 {
            assert_eq!(other.room(), Amount { messages: 10, bytes: 100 }, "no larger than the sum may be");
            assert!(other.wait_for_room(Duration::ZERO));
            push(&other, 0, [(0, 10)]);
            assert!(other.room().is_exhausted(), "a slice, and not one after the other");
            assert_eq!(other.take(0, &mut vec![], 1, SOON), Taken::Items);
        }
        let small = LaneQueues::<Item>::under(1, Bounds { messages: 3, bytes: 30 }, vec![sum]);
        assert_eq!(small.room(), Amount { messages: 3, bytes: 30 }, "its own bound holds");
    }
}
