use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::Instant;

use crate::OrderKey;

/// The messages of one lane that wait: those that are to be tried again and, behind them, everything of their order key
/// that came later. Other keys go on.
///
/// Each message has a number that ascends within its key in the order of arrival. It is needed because a slice goes
/// through the chain plugin by plugin: the second of two messages of one key can be parked by the first plugin before the
/// first of them is parked by the second plugin, and must still come out after it.
///
/// The way of a key: [`park`](Self::park) what must be tried again, and [`push_behind`](Self::push_behind) what it
/// [`holds_back`](Self::holds_back); [`due`](Self::due) gives the head, and then exactly one of [`done`](Self::done) and
/// [`again`](Self::again) follows. Bounded by the windows upstream: what waits here holds its assignment's position.
#[derive(Debug)]
pub struct Holdback<T> {
    keys: HashMap<OrderKey, Line<T>>,
    /// Keys whose head waits for its time. An entry that its line no longer agrees with is skipped when it comes up, since
    /// a heap cannot drop it earlier.
    timers: BinaryHeap<Reverse<(Instant, OrderKey)>>,
    /// Keys whose head may go. First come, first served, so that the long line of one key cannot starve another; skipped
    /// like timers.
    ready: VecDeque<OrderKey>,
    waiting: usize,
    /// A moment in the past, for what is due at once.
    created: Instant,
}

#[derive(Debug)]
struct Line<T> {
    /// In ascending order of their numbers.
    waiting: VecDeque<Entry<T>>,
    head: Head,
}

#[derive(Debug)]
struct Entry<T> {
    number: u64,
    /// Not to be tried before; `None` for what only waits for its turn.
    ready_at: Option<Instant>,
    item: T,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Head {
    /// Waits for this time, with an entry in the timers.
    Timed(Instant),
    /// Stands in the queue of those that may go.
    Ready,
    /// The message of this number was given out by `due` and has not come back.
    InWork(u64),
}

impl<T> Holdback<T> {
    /// Nothing waits.
    pub fn new() -> Self {
        Self {
            keys: HashMap::new(),
            timers: BinaryHeap::new(),
            ready: VecDeque::new(),
            waiting: 0,
            created: Instant::now(),
        }
    }

    /// Whether the message of this number must wait, because an earlier one of its key does, or is in work after it did.
    pub fn holds_back(&self, key: OrderKey, number: u64) -> bool {
        self.keys.get(&key).is_some_and(|line| {
            matches!(line.head, Head::InWork(earlier) if earlier < number)
                || line.waiting.front().is_some_and(|earlier| earlier.number < number)
        })
    }

    /// Lets a message wait until `ready_at`, and longer where earlier ones of its key do.
    pub fn park(&mut self, key: OrderKey, number: u64, item: T, ready_at: Instant) {
        self.insert(key, Entry { number, ready_at: Some(ready_at), item });
    }

    /// Lets a message wait for the earlier ones of its key. Where there are none it is due at once.
    pub fn push_behind(&mut self, key: OrderKey, number: u64, item: T) {
        self.insert(key, Entry { number, ready_at: None, item });
    }

    /// The head of a key whose time has come. The key is then in work, until `done`.
    pub fn due(&mut self, now: Instant) -> Option<(OrderKey, T)> {
        while let Some(Reverse((ready_at, key))) = self.timers.peek().copied()
            && ready_at <= now
        {
            self.timers.pop();
            if let Some(line) = self.keys.get_mut(&key)
                && line.head == Head::Timed(ready_at)
            {
                line.head = Head::Ready;
                self.ready.push_back(key);
            }
        }
        while let Some(key) = self.ready.pop_front() {
            if let Some(line) = self.keys.get_mut(&key)
                && line.head == Head::Ready
                && let Some(entry) = line.waiting.pop_front()
            {
                line.head = Head::InWork(entry.number);
                self.waiting -= 1;
                return Some((key, entry.item));
            }
        }
        None
    }

    /// The head that `due` gave out is not in work any more: the first of its key, which is the same message where it was parked
    /// again, may go as soon as its own time has come, or the key is free.
    pub fn done(&mut self, key: OrderKey) {
        let Some(line) = self.keys.get(&key).filter(|line| matches!(line.head, Head::InWork(_))) else {
            return;
        };
        if line.waiting.is_empty() {
            self.keys.remove(&key);
        } else {
            self.schedule(key);
        }
    }

    /// When to ask `due` next: never too late, and too early where a head has changed meanwhile. A moment in the past for
    /// what may go at once; `None` when nothing waits, or only behind heads in work.
    pub fn next_due(&self) -> Option<Instant> {
        if !self.ready.is_empty() {
            return Some(self.created);
        }
        self.timers.peek().map(|Reverse((ready_at, _))| *ready_at)
    }

    /// How many messages wait, those in work not counted.
    pub fn len(&self) -> usize {
        self.waiting
    }

    /// Whether no message waits.
    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    fn insert(&mut self, key: OrderKey, entry: Entry<T>) {
        let line = self.keys.entry(key).or_insert_with(Line::new);
        // From the back: but for the case that the numbers are there for, the place is the end.
        let later = line.waiting.iter().rev().take_while(|other| other.number > entry.number).count();
        let place = line.waiting.len() - later;
        line.waiting.insert(place, entry);
        self.waiting += 1;
        if place == 0 && !matches!(line.head, Head::InWork(_)) {
            self.schedule(key);
        }
    }

    /// Gives a key the time of its first message.
    fn schedule(&mut self, key: OrderKey) {
        let Some(line) = self.keys.get_mut(&key) else { return };
        match line.waiting.front().and_then(|front| front.ready_at) {
            Some(ready_at) => {
                line.head = Head::Timed(ready_at);
                self.timers.push(Reverse((ready_at, key)));
            }
            None => {
                line.head = Head::Ready;
                self.ready.push_back(key);
            }
        }
    }
}

impl<T> Line<T> {
    /// Without a message yet; whoever makes it puts one in and gives it its time.
    fn new() -> Self {
        Self { waiting: VecDeque::new(), head: Head::Ready }
    }
}

impl<T> Default for Holdback<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const A: OrderKey = OrderKey(1);
    const B: OrderKey = OrderKey(2);

    fn after(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn later_messages_of_a_key_wait_behind_its_retry_and_other_keys_do_not() {
        let (mut holdback, start) = (Holdback::new(), Instant::now());
        holdback.park(A, 1, "a1", after(start, 10));
        assert!(holdback.holds_back(A, 2) && !holdback.holds_back(A, 1) && !holdback.holds_back(B, 2));
        holdback.push_behind(A, 2, "a2");
        assert_eq!((holdback.due(after(start, 9)), holdback.next_due()), (None, Some(after(start, 10))));
        assert_eq!(holdback.due(after(start, 10)), Some((A, "a1")));
        assert_eq!((holdback.due(after(start, 99)), holdback.next_due(), holdback.len()), (None, None, 1));
        holdback.park(A, 1, "a1", after(start, 30));
        holdback.done(A);
        assert_eq!((holdback.due(after(start, 29)), holdback.len()), (None, 2));
        assert_eq!(holdback.due(after(start, 30)), Some((A, "a1")));
        holdback.done(A);
        assert!(holdback.next_due().unwrap() <= start, "the next of the key is due at once");
        assert_eq!(holdback.due(start), Some((A, "a2")));
        assert!(holdback.holds_back(A, 3) && holdback.is_empty());
        holdback.done(A);
        assert!(!holdback.holds_back(A, 3));
    }

    #[test]
    fn a_message_that_a_later_plugin_parks_goes_before_the_later_message_of_an_earlier_plugin() {
        let (mut holdback, start) = (Holdback::new(), Instant::now());
        holdback.park(A, 3, "a3", after(start, 40));
        holdback.push_behind(A, 4, "a4");
        assert!(!holdback.holds_back(A, 1), "it was there before, and goes on to the next plugin");
        holdback.park(A, 1, "a1", after(start, 10));
        holdback.push_behind(A, 2, "a2");
        let mut got = Vec::new();
        for ms in [9, 10, 11, 39, 40, 41] {
            if let Some((key, item)) = holdback.due(after(start, ms)) {
                got.push((ms, item));
                holdback.done(key);
            }
        }
        assert_eq!(got, [(10, "a1"), (11, "a2"), (40, "a3"), (41, "a4")]);
        assert_eq!((holdback.next_due(), holdback.holds_back(A, 5)), (None, false));
    }

    #[test]
    fn a_new_head_with_a_later_time_holds_back_one_whose_time_has_come() {
        let (mut holdback, start) = (Holdback::new(), Instant::now());
        holdback.park(A, 2, "a2", after(start, 5));
        holdback.park(A, 1, "a1", after(start, 50));
        assert_eq!(holdback.due(after(start, 49)), None);
        holdback.push_behind(B, 2, "b2");
        holdback.park(B, 1, "b1", after(start, 50));
        assert_eq!(holdback.due(after(start, 49)), None);
        let both = [holdback.due(after(start, 50)), holdback.due(after(start, 50))];
        assert_eq!(both, [Some((A, "a1")), Some((B, "b1"))]);
    }

    #[test]
    fn a_long_line_of_one_key_does_not_starve_another() {
        let (mut holdback, start) = (Holdback::new(), Instant::now());
        holdback.park(A, 0, 0, start);
        (1..10).for_each(|n| holdback.push_behind(A, n, n));
        holdback.park(B, 0, 100, after(start, 5));
        assert_eq!(holdback.due(start), Some((A, 0)));
        holdback.done(A);
        let next = [holdback.due(after(start, 5)), holdback.due(after(start, 5))];
        assert_eq!(next, [Some((A, 1)), Some((B, 100))]);
    }

    #[test]
    fn a_call_out_of_turn_neither_loses_nor_doubles_a_message() {
        let (mut holdback, start) = (Holdback::new(), Instant::now());
        holdback.done(A);
        holdback.push_behind(A, 1, "a1");
        holdback.done(A);
        holdback.park(A, 0, "a0", start);
        holdback.park(B, 1, "b1", start);
        holdback.park(B, 2, "b2", start);
        let mut got = Vec::new();
        while let Some((key, item)) = holdback.due(start) {
            got.push(item);
            holdback.done(key);
        }
        got.sort_unstable();
        assert_eq!(got, ["a0", "a1", "b1", "b2"]);
    }

    const KEYS: usize = 4;
    const PLUGINS: usize = 3;

    /// A message of the model: its key, its number within the key, the plugin that gets it next and, while it is parked, the
    /// time before which it must not come back.
    #[derive(Clone, Copy, Debug)]
    struct Message {
        key: OrderKey,
        number: u64,
        plugin: usize,
        ready_at: Instant,
    }

    /// A lane as it uses the holdback: slices go through the plugins one after the other.
    struct Model {
        holdback: Holdback<Message>,
        now: Instant,
        arrived: [u64; KEYS],
        left: [u64; KEYS],
        /// What each call of a plugin says next: a wait in milliseconds, or to pass.
        verdicts: Vec<Option<u64>>,
    }

    impl Model {
        fn verdict(&mut self, message: &mut Message) -> bool {
            let wait = self.verdicts.pop().flatten();
            match wait {
                Some(ms) => message.ready_at = after(self.now, ms),
                None => message.plugin += 1,
            }
            wait.is_none()
        }

        fn leave(&mut self, message: Message) {
            let next = &mut self.left[message.key.0 as usize];
            assert_eq!(message.number, *next, "out of order");
            *next += 1;
        }

        fn slice(&mut self, keys: &[usize]) {
            let mut slice = Vec::new();
            for key in keys {
                let (number, key_number) = (self.arrived[*key], OrderKey(*key as u64));
                self.arrived[*key] += 1;
                slice.push(Message { key: key_number, number, plugin: 0, ready_at: self.now });
            }
            for _ in 0..PLUGINS {
                for mut message in std::mem::take(&mut slice) {
                    let (key, number) = (message.key, message.number);
                    if self.holdback.holds_back(key, number) {
                        self.holdback.push_behind(key, number, message);
                    } else if self.verdict(&mut message) {
                        slice.push(message);
                    } else {
                        self.holdback.park(key, number, message, message.ready_at);
                    }
                }
            }
            slice.into_iter().for_each(|message| self.leave(message));
        }

        fn retry(&mut self) {
            let Some((key, mut message)) = self.holdback.due(self.now) else { return };
            assert!(message.ready_at <= self.now, "too early");
            while message.plugin < PLUGINS {
                if !self.verdict(&mut message) {
                    self.holdback.park(key, message.number, message, message.ready_at);
                    return self.holdback.done(key);
                }
            }
            self.leave(message);
            self.holdback.done(key);
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Slice(Vec<usize>),
        Pass { ms: u64, retries: usize },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let slice = prop::collection::vec(0..KEYS, 1..12).prop_map(Step::Slice);
        let pass = (0..30_u64, 0..6_usize).prop_map(|(ms, retries)| Step::Pass { ms, retries });
        prop::collection::vec(prop_oneof![slice, pass], 0..60)
    }

    proptest! {
        #[test]
        fn each_key_leaves_a_lane_of_three_plugins_in_order_and_nothing_is_lost(
            steps in steps(), verdicts in prop::collection::vec(prop::option::weighted(0.3, 0..50_u64), 0..600),
        ) {
            let (holdback, now) = (Holdback::new(), Instant::now());
            let mut model = Model { holdback, now, arrived: [0; KEYS], left: [0; KEYS], verdicts };
            for step in steps {
                match step {
                    Step::Slice(keys) => model.slice(&keys),
                    Step::Pass { ms, retries } => {
                        model.now = after(model.now, ms);
                        (0..retries).for_each(|_| model.retry());
                    }
                }
                let parked = model.holdback.len() as u64;
                prop_assert_eq!(model.left.iter().sum::<u64>() + parked, model.arrived.iter().sum::<u64>());
            }
            while let Some(next) = model.holdback.next_due() {
                model.now = model.now.max(next);
                model.retry();
            }
            prop_assert_eq!(model.left, model.arrived);
            prop_assert!(model.holdback.is_empty() && model.holdback.keys.is_empty());
        }
    }
}
