//! Turns on the processor. Atomics and no lock but for a lane that has to wait for its turn.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// How often a lane that waits for a turn looks whether other tenants use theirs.
const LOOK: Duration = Duration::from_millis(10);
/// So many looks without a call of a tenant, and its turns are on offer. Between two calls of a busy one less time passes: its
/// cores are not taken from it in each pause.
const QUIET_LOOKS: u32 = 5;
/// Who has waited for so long is next, whoever comes. Before, a lane that ends one call and begins another may keep its turn:
/// handing it over after each call would cost more than the call.
const PATIENCE: Duration = Duration::from_millis(2);

thread_local! {
    /// How long this thread has waited for turns, since it began.
    static WAITED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// How long this thread has waited for turns, since it began. Each wait holds up all calls that the thread is driving, so a
/// call looks at this and not only at its own waits.
pub(super) fn waited_here() -> Duration {
    WAITED.get()
}

/// How many threads may run guest code of one tenant at once. A tenant whose plugins compute without end keeps its own
/// turns busy and leaves the others' alone; a call that waits for the network holds none.
///
/// What nobody uses is on offer: a tenant without a free turn of its own borrows one from tenants that are quiet. Who comes
/// back has all its turns at once. A call that runs on a borrowed one goes on to its end, at most to its deadline.
#[derive(Debug)]
pub struct Turns {
    /// The tenant's share.
    own: u64,
    free: AtomicU64,
    /// Whether a turn was asked for since the last look of somebody else.
    used: AtomicBool,
    is_on_offer: AtomicBool,
    /// How many are in `queue`.
    waiting: AtomicU64,
    /// Whether the first of them has waited for its [`PATIENCE`].
    is_owed: AtomicBool,
    queue: Mutex<VecDeque<Thread>>,
    processor: Arc<Processor>,
}

/// What the tenants of a process share.
#[derive(Debug)]
struct Processor {
    cores: u64,
    /// Turns of quiet tenants, and those of nobody.
    on_offer: AtomicU64,
    borrowed: AtomicU64,
    looks: Mutex<Looks>,
}

#[derive(Debug, Default)]
struct Looks {
    last: Option<Instant>,
    /// Each with the number of looks since its last call.
    tenants: Vec<(Weak<Turns>, u32)>,
}

impl Turns {
    /// The turns of each tenant by its share of the cores: at least one each, so that nobody is shut out.
    pub fn among(cores: usize, shares: &[u64]) -> Vec<Arc<Self>> {
        let cores = cores as u64;
        let all: u64 = shares.iter().fold(0, |sum, share| sum.saturating_add(*share));
        let own = |share: &u64| (cores.saturating_mul(*share) / all.max(1)).max(1);
        let owned: u64 = shares.iter().map(own).sum();
        let processor = Arc::new(Processor {
            cores,
            on_offer: AtomicU64::new(cores.saturating_sub(owned)),
            borrowed: AtomicU64::new(0),
            looks: Mutex::default(),
        });
        let turns: Vec<Arc<Self>> =
            shares.iter().map(|share| Arc::new(Self::new(own(share), Arc::clone(&processor)))).collect();
        let mut looks = processor.looks.lock().unwrap_or_else(PoisonError::into_inner);
        looks.tenants = turns.iter().map(|turns| (Arc::downgrade(turns), 0)).collect();
        drop(looks);
        turns
    }

    fn new(own: u64, processor: Arc<Processor>) -> Self {
        Self {
            own,
            free: AtomicU64::new(own),
            used: AtomicBool::new(false),
            is_on_offer: AtomicBool::new(false),
            waiting: AtomicU64::new(0),
            is_owed: AtomicBool::new(false),
            queue: Mutex::default(),
            processor,
        }
    }

    /// Waits for a turn; it ends when what is returned is dropped.
    pub(super) fn take(&self) -> Turn<'_> {
        let at_once = if self.is_owed.load(Ordering::SeqCst) { None } else { self.try_take() };
        at_once.unwrap_or_else(|| self.wait())
    }

    /// In the order in which they came.
    fn wait(&self) -> Turn<'_> {
        let begun = Instant::now();
        let me = thread::current();
        self.change_queue(|queue| queue.push_back(me.clone()));
        loop {
            let is_first = self.queue().front().is_some_and(|first| first.id() == me.id());
            // Whoever gives back after this look sees that somebody waits, and wakes the first.
            let turn = if is_first { self.try_take() } else { None };
            if let Some(mut turn) = turn {
                self.is_owed.store(false, Ordering::SeqCst);
                self.change_queue(|queue| drop(queue.pop_front()));
                self.wake_first();
                turn.waited = begun.elapsed();
                WAITED.set(WAITED.get().saturating_add(turn.waited));
                return turn;
            }
            if is_first && begun.elapsed() >= PATIENCE {
                self.is_owed.store(true, Ordering::SeqCst);
            }
            // What others stop using nobody wakes us for.
            thread::park_timeout(if is_first { PATIENCE } else { LOOK });
            self.processor.look(Instant::now());
        }
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<Thread>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change_queue(&self, change: impl FnOnce(&mut VecDeque<Thread>)) {
        let mut queue = self.queue();
        change(&mut queue);
        self.waiting.store(queue.len() as u64, Ordering::SeqCst);
    }

    fn wake_first(&self) {
        if let Some(first) = self.queue().front() {
            first.unpark();
        }
    }

    fn try_take(&self) -> Option<Turn<'_>> {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::SeqCst);
        }
        if self.is_on_offer.load(Ordering::SeqCst) {
            self.end_offer();
        }
        if self.free.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |free| free.checked_sub(1)).is_ok() {
            return Some(Turn { turns: self, is_borrowed: false, waited: Duration::ZERO });
        }
        self.processor.borrow(self.own).then(|| Turn { turns: self, is_borrowed: true, waited: Duration::ZERO })
    }

    fn is_quiet(&self) -> bool {
        !self.used.swap(false, Ordering::SeqCst) && self.free.load(Ordering::SeqCst) == self.own
    }

    fn offer(&self) {
        if self.is_on_offer.load(Ordering::SeqCst) {
            return;
        }
        self.processor.on_offer.fetch_add(self.own, Ordering::SeqCst);
        self.is_on_offer.store(true, Ordering::SeqCst);
        // A call that began meanwhile has either seen the offer and ended it, or is seen here.
        if self.used.load(Ordering::SeqCst) {
            self.end_offer();
        }
    }

    fn end_offer(&self) {
        if self.is_on_offer.swap(false, Ordering::SeqCst) {
            self.processor.on_offer.fetch_sub(self.own, Ordering::SeqCst);
        }
    }
}

/// A tenant without any plugin left, or one that never had one in this process, leaves its turns to the others.
impl Drop for Turns {
    fn drop(&mut self) {
        if !*self.is_on_offer.get_mut() {
            self.processor.on_offer.fetch_add(self.own, Ordering::SeqCst);
        }
    }
}

impl Processor {
    /// Takes a turn that is on offer, for a tenant with so many of its own: never more than there are cores in all.
    fn borrow(&self, own: u64) -> bool {
        let most = self.on_offer.load(Ordering::SeqCst).min(self.cores.saturating_sub(own));
        let more = |borrowed: u64| (borrowed < most).then_some(borrowed + 1);
        self.borrowed.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
    }

    /// Puts the turns of those on offer who have been quiet for a while.
    fn look(&self, now: Instant) {
        // One looks for all.
        let Ok(mut looks) = self.looks.try_lock() else { return };
        if looks.last.is_some_and(|last| now.saturating_duration_since(last) < LOOK) {
            return;
        }
        looks.last = Some(now);
        for (turns, quiet) in &mut looks.tenants {
            let Some(turns) = turns.upgrade() else { continue };
            *quiet = if turns.is_quiet() { quiet.saturating_add(1) } else { 0 };
            if *quiet >= QUIET_LOOKS {
                turns.offer();
            }
        }
    }
}

/// How calls of one instance have waited for their turns. The waits of a call are known where its store is borrowed.
#[derive(Debug, Default)]
pub(super) struct Waits {
    /// How long the call in work was held up, in nanoseconds, by its own waits and those of other calls on its thread.
    held_up_ns: Arc<AtomicU64>,
    /// Whether the call in work has waited, and met no tick since.
    has_waited: AtomicBool,
    turns: AtomicU64,
    nanoseconds: AtomicU64,
}

/// Turns that were waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TurnsWaited {
    /// How many.
    pub turns: u64,
    /// How long, in all.
    pub time: Duration,
    /// How many turns their tenant has.
    pub share: u64,
}

impl Waits {
    /// A call begins.
    pub(super) fn begin(&self) {
        self.held_up_ns.store(0, Ordering::Relaxed);
        self.has_waited.store(false, Ordering::Relaxed);
    }

    pub(super) fn held_up(&self, time: Duration) {
        self.held_up_ns.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn held_up_ns(&self) -> &Arc<AtomicU64> {
        &self.held_up_ns
    }

    /// How long the call in work was held up.
    pub(super) fn held_up_for(&self) -> Duration {
        Duration::from_nanos(self.held_up_ns.load(Ordering::Relaxed))
    }

    /// The call in work waits.
    pub(super) fn wait(&self) {
        self.has_waited.store(true, Ordering::Relaxed);
    }

    pub(super) fn take_waited(&self) -> bool {
        self.has_waited.swap(false, Ordering::Relaxed)
    }

    pub(super) fn add(&self, waited: Duration) {
        if !waited.is_zero() {
            self.turns.fetch_add(1, Ordering::Relaxed);
            self.nanoseconds.fetch_add(u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// What came since the last time.
    pub(super) fn take(&self, turns: Option<&Turns>) -> TurnsWaited {
        let [turns_waited, nanoseconds] = [&self.turns, &self.nanoseconds].map(|sum| sum.swap(0, Ordering::Relaxed));
        let time = Duration::from_nanos(nanoseconds);
        TurnsWaited { turns: turns_waited, time, share: turns.map_or(0, |turns| turns.own) }
    }
}

/// The right to run guest code now.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    is_borrowed: bool,
    /// How long it was waited for: nobody's call has used that time.
    pub(super) waited: Duration,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let turns = self.turns;
        if self.is_borrowed {
            turns.processor.borrowed.fetch_sub(1, Ordering::SeqCst);
        } else {
            turns.free.fetch_add(1, Ordering::SeqCst);
        }
        if turns.waiting.load(Ordering::SeqCst) > 0 {
            turns.wake_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;

    use super::*;

    fn pair(cores: usize) -> (Arc<Turns>, Arc<Turns>) {
        let mut turns = Turns::among(cores, &[1, 1]).into_iter();
        (turns.next().unwrap(), turns.next().unwrap())
    }

    /// Looks until everybody who is quiet is on offer.
    fn look(processor: &Processor, begin: Instant) -> Instant {
        (0..=QUIET_LOOKS).fold(begin, |now, _| {
            processor.look(now);
            now + LOOK
        })
    }

    #[test]
    fn never_more_threads_than_turns_run_at_once_and_all_get_theirs() {
        let turns = &Turns::among(2, &[1])[0];
        let (running, most, done) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let _turn = turns.take();
                        let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(now, Ordering::SeqCst);
                        running.fetch_sub(1, Ordering::SeqCst);
                        done.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(most.load(Ordering::SeqCst) <= 2);
        assert_eq!(done.load(Ordering::SeqCst), 16_000);
    }

    #[test]
    fn a_call_that_has_not_waited_is_not_taken_for_one_that_has() {
        let waits = Waits::default();
        waits.begin();
        assert!(!waits.take_waited());
        waits.wait();
        assert!(waits.take_waited() && !waits.take_waited(), "until the next tick");
        waits.wait();
        waits.begin();
        assert!(!waits.take_waited(), "of the call before");
    }

    #[test]
    fn a_share_is_rounded_down_and_never_to_nothing() {
        let own = |cores, shares: &[u64]| Turns::among(cores, shares)[0].own;
        assert_eq!((own(2, &[1, 1]), own(2, &[1, 99]), own(8, &[3, 1]), own(4, &[1])), (1, 1, 6, 4));
    }

    #[test]
    fn a_tenant_whose_neighbours_are_quiet_has_every_core_and_gives_it_back() {
        let (busy, quiet) = pair(4);
        let (took, taken) = mpsc::sync_channel(4);
        let held = std::thread::scope(|scope| {
            for _ in 0..4 {
                let took = took.clone();
                let busy = &busy;
                scope.spawn(move || took.send(busy.take()).unwrap());
            }
            (0..4).map(|_| taken.recv_timeout(Duration::from_secs(30)).unwrap()).collect::<Vec<_>>()
        });
        assert!(busy.try_take().is_none(), "there are four cores");
        let back: Vec<_> = (0..2).map(|_| quiet.try_take().expect("its own turns are there at once")).collect();
        drop(held);
        let again: Vec<_> = (0..3).map_while(|_| busy.try_take()).collect();
        assert_eq!((again.len(), back.len()), (2, 2), "what is used is not lent any longer");
    }

    #[test]
    fn what_a_tenant_uses_now_and_then_is_not_lent() {
        let (busy, other) = pair(2);
        let _own = busy.try_take().unwrap();
        let mut now = Instant::now();
        for _ in 0..100 {
            drop(other.try_take().unwrap());
            for _ in 0..QUIET_LOOKS {
                busy.processor.look(now);
                now += LOOK;
            }
            assert!(busy.try_take().is_none());
        }
        // A call that takes long is not a quiet tenant.
        let held = other.try_take().unwrap();
        now = look(&busy.processor, now);
        assert!(busy.try_take().is_none());
        drop(held);
        look(&busy.processor, now);
        assert!(busy.try_take().is_some());
    }

    #[test]
    fn who_waits_is_served_though_another_takes_its_turn_again_and_again() {
        let turns = &Turns::among(1, &[1])[0];
        let (rounds, served) = (AtomicUsize::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !served.load(Ordering::SeqCst) && rounds.load(Ordering::SeqCst) < 5_000 {
                    let _turn = turns.take();
                    rounds.fetch_add(1, Ordering::SeqCst);
                    let begun = Instant::now();
                    while begun.elapsed() < Duration::from_millis(1) {
                        std::hint::spin_loop();
                    }
                }
            });
            while rounds.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            let before = rounds.load(Ordering::SeqCst);
            for _ in 0..10 {
                let turn = turns.take();
                assert!(turn.waited < Duration::from_secs(5));
            }
            served.store(true, Ordering::SeqCst);
            let took = rounds.load(Ordering::SeqCst) - before;
            assert!(took < 1_000, "{took} calls of the other while ten waited");
        });
        assert!(turns.queue().is_empty() && turns.waiting.load(Ordering::SeqCst) == 0);
    }

    #[test]
    fn a_tenant_without_plugins_in_this_process_leaves_its_turns_to_the_others() {
        let busy = Turns::among(4, &[1, 1]).swap_remove(0);
        assert_eq!((0..5).map_while(|_| busy.try_take()).collect::<Vec<_>>().len(), 4);
        let (busy, other) = pair(2);
        look(&busy.processor, Instant::now());
        drop(other);
        assert_eq!((0..3).map_while(|_| busy.try_take()).collect::<Vec<_>>().len(), 2, "lent once");
    }

    #[test]
    fn cores_of_nobody_are_lent_and_never_more_than_there_are() {
        let thirds = Turns::among(4, &[1, 1, 1]);
        let first: Vec<_> = (0..5).map_while(|_| thirds[0].try_take()).collect();
        assert_eq!(first.len(), 2, "its own and the fourth");
        assert!(thirds[1].try_take().is_some());
        drop(first);
        let many = Turns::among(2, &[1; 50]);
        look(&many[0].processor, Instant::now());
        assert_eq!((0..50).map_while(|_| many[0].try_take()).collect::<Vec<_>>().len(), 2);
    }

    #[test]
    fn offers_that_begin_and_end_at_the_same_time_are_counted_once() {
        let (busy, other) = pair(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let begin = Instant::now();
                for number in 0..20_000 {
                    busy.processor.look(begin + LOOK * number);
                }
            });
            scope.spawn(|| {
                for _ in 0..200_000 {
                    drop(other.try_take());
                }
            });
        });
        drop((other.try_take(), busy.try_take()));
        assert_eq!(busy.processor.on_offer.load(Ordering::SeqCst), 0);
    }
}
