//! How often a plugin may lose its instance before it is left alone for a while.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use portcullis_audit::Scope;
use portcullis_flow::FaultKind;

/// How many instances a plugin may lose.
#[derive(Debug)]
pub struct Restarts {
    /// So many in the window, and the next one begins a quarantine.
    pub most: u32,
    /// Over how long they are counted, and how long a quarantine lasts at least.
    pub window: Duration,
    /// What they are counted for beside.
    pub sums: Vec<Arc<RestartSum>>,
}

/// Lost instances of all plugins of a tenant or of the node. Where they are too many, each further plugin that loses one is
/// quarantined; those that lose none run on.
#[derive(Debug)]
pub struct RestartSum {
    scope: Scope,
    losses: Mutex<Losses>,
}

impl RestartSum {
    /// So many in the window.
    pub fn new(scope: Scope, most: u32, window: Duration) -> Self {
        Self { scope, losses: Mutex::new(Losses::new(most, window)) }
    }

    /// The limit, where another loss is one too many.
    fn count(&self, now: Instant) -> Option<Limit> {
        let mut losses = self.losses.lock().unwrap_or_else(PoisonError::into_inner);
        losses.count(now).then_some(Limit { scope: self.scope, most: losses.most as u64, window: losses.window })
    }
}

/// Whose limit of restarts was met, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) scope: Scope,
    pub(super) most: u64,
    /// Over how long losses are counted, and how long the quarantine lasts that it began.
    pub(super) window: Duration,
}

/// When instances were lost, the oldest first.
#[derive(Debug)]
struct Losses {
    most: usize,
    window: Duration,
    at: VecDeque<Instant>,
}

impl Losses {
    fn new(most: u32, window: Duration) -> Self {
        Self { most: most as usize, window, at: VecDeque::new() }
    }

    /// Counts another. True when it is one too many.
    fn count(&mut self, now: Instant) -> bool {
        while self.at.front().is_some_and(|first| now.saturating_duration_since(*first) >= self.window) {
            self.at.pop_front();
        }
        self.at.push_back(now);
        let is_over = self.at.len() > self.most;
        if is_over {
            // The newest decide about the next; so this has a bound.
            self.at.pop_front();
        }
        is_over
    }
}

/// Counts lost instances over a window. A plugin that traps on every message costs a hundred times a call's price, and would
/// take a lane from its neighbours; in quarantine its messages take their `on.fault` way without a call. When the quarantine
/// is over, one message is let through as a probe: it ends the quarantine, or begins it anew. The lock is touched only when an
/// instance is lost, and while the plugin is in quarantine.
#[derive(Debug)]
pub(super) struct Breaker {
    most: u32,
    window: Duration,
    sums: Vec<Arc<RestartSum>>,
    /// Whether there is a quarantine or its probe: all that a call in good times looks at.
    tripped: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: State,
    /// How many probes there were: the number of the last.
    probes: u64,
}

#[derive(Debug)]
enum State {
    Closed(Losses),
    Open(Quarantine),
    /// One probe is under way, until this time at most: whoever made it may have died with it.
    HalfOpen(Quarantine),
}

#[derive(Clone, Copy, Debug)]
struct Quarantine {
    until: Instant,
    window: Duration,
    /// What the last instance was lost to.
    kind: FaultKind,
}

/// The right to decide whether the quarantine is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Probe(u64);

/// Whether a message may be given to the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// As always.
    Call,
    /// As the one that decides whether the quarantine is over: its outcome must be told.
    Probe(Probe),
    /// Not for another while, after a loss of this kind.
    Refused(Duration, FaultKind),
}

impl Breaker {
    pub(super) fn new(Restarts { most, window, sums }: Restarts) -> Self {
        let inner = Inner { state: State::Closed(Losses::new(most, window)), probes: 0 };
        Self { most, window, sums, tripped: AtomicBool::new(false), inner: Mutex::new(inner) }
    }

    /// Over how long lost instances are counted, and how long a quarantine lasts.
    pub(super) fn window(&self) -> Duration {
        self.window
    }

    /// Whether [`admit`](Self::admit) has to be asked: all that a call in good times costs. A look at the clock would be a
    /// tenth of the call.
    pub(super) fn is_tripped(&self) -> bool {
        self.tripped.load(Ordering::Relaxed)
    }

    /// Asked before each call while it is tripped.
    pub(super) fn admit(&self, now: Instant) -> Admission {
        let mut inner = self.lock();
        let over = match inner.state {
            State::Closed(_) => return Admission::Call,
            State::Open(quarantine) | State::HalfOpen(quarantine) if now < quarantine.until => {
                return Admission::Refused(quarantine.until - now, quarantine.kind);
            }
            State::Open(over) | State::HalfOpen(over) => over,
        };
        inner.state = State::HalfOpen(Quarantine { until: now + self.window, ..over });
        inner.probes += 1;
        Admission::Probe(Probe(inner.probes))
    }

    /// An instance was lost. The limit that this was too much for, when it begins a quarantine.
    pub(super) fn strike(&self, now: Instant, kind: FaultKind) -> Option<Limit> {
        // Each sum counts each loss, whatever becomes of the plugin.
        let above = self.sums.iter().fold(None, |met, sum| {
            let over = sum.count(now);
            met.or(over)
        });
        let own = Limit { scope: Scope::Plugin, most: u64::from(self.most), window: self.window };
        let mut inner = self.lock();
        let met = match &mut inner.state {
            State::Closed(losses) => {
                let is_over = losses.count(now);
                above.or(is_over.then_some(own))
            }
            State::HalfOpen(_) => above.or(Some(own)),
            // Another lane's instance, begun before.
            State::Open(_) => None,
        };
        // As long as the sum counts: else plugins with short windows would lose an instance in each of theirs.
        let met = met.map(|limit| Limit { window: limit.window.max(self.window), ..limit });
        if let Some(limit) = met {
            inner.state = State::Open(Quarantine { until: now + limit.window, window: limit.window, kind });
            self.tripped.store(true, Ordering::Relaxed);
        }
        met
    }

    /// The probe has come back without a loss. True when that ends the quarantine. It does not when another lane's older call
    /// has begun a new one meanwhile, which the audit has told, or when the next probe was let through for this one's delay.
    pub(super) fn recovered(&self, probe: Probe) -> bool {
        let mut inner = self.lock();
        let ends = matches!(inner.state, State::HalfOpen(_)) && probe == Probe(inner.probes);
        if ends {
            inner.state = State::Closed(Losses::new(self.most, self.window));
            // Under the lock: a loss in another lane may begin a quarantine at this very moment.
            self.tripped.store(false, Ordering::Relaxed);
        }
        ends
    }

    /// Gives `tell` for how long and for a loss of which kind the plugin is in quarantine at this time, if it is. Under the
    /// lock: who tells later tells what is newer, whatever other lanes do meanwhile.
    pub(super) fn tell(&self, now: Instant, tell: impl FnOnce(Option<(Duration, FaultKind)>)) {
        let inner = self.lock();
        tell(match inner.state {
            State::Open(Quarantine { until, window, kind }) if now < until => Some((window, kind)),
            _ => None,
        });
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const TRAP: FaultKind = FaultKind::Trap;

    fn breaker(most: u32, sums: &[&Arc<RestartSum>]) -> Breaker {
        Breaker::new(Restarts { most, window: MINUTE, sums: sums.iter().copied().cloned().collect() })
    }

    fn tripped() -> (Breaker, impl Fn(u64) -> Instant) {
        let breaker = breaker(2, &[]);
        let start = Instant::now();
        let at = move |seconds| start + Duration::from_secs(seconds);
        assert_eq!(breaker.strike(at(0), FaultKind::Memory), None);
        assert_eq!(breaker.strike(at(10), FaultKind::Memory), None);
        assert_eq!(breaker.admit(at(10)), Admission::Call);
        assert_eq!(breaker.strike(at(20), TRAP), Some(Limit { scope: Scope::Plugin, most: 2, window: MINUTE }));
        (breaker, at)
    }

    fn probe(breaker: &Breaker, now: Instant) -> Probe {
        let Admission::Probe(probe) = breaker.admit(now) else { panic!("no probe") };
        probe
    }

    fn told(breaker: &Breaker, now: Instant) -> Option<FaultKind> {
        let mut told = None;
        breaker.tell(now, |quarantine| told = quarantine.map(|(_, kind)| kind));
        told
    }

    #[test]
    fn the_loss_past_the_limit_quarantines_for_the_window_and_is_reported_once() {
        let (breaker, at) = tripped();
        assert_eq!(breaker.admit(at(20)), Admission::Refused(MINUTE, TRAP));
        assert_eq!(breaker.strike(at(21), FaultKind::Fuel), None, "another lane's instance, begun before");
        assert_eq!(breaker.admit(at(79)), Admission::Refused(Duration::from_secs(1), TRAP));
    }

    #[test]
    fn one_probe_decides_whether_the_quarantine_is_over() {
        let (breaker, at) = tripped();
        probe(&breaker, at(80));
        assert_eq!(breaker.admit(at(81)), Admission::Refused(Duration::from_secs(59), TRAP), "one at a time");
        assert!(breaker.strike(at(82), FaultKind::Fuel).is_some(), "the probe failed: a new quarantine");
        assert_eq!(breaker.admit(at(100)), Admission::Refused(Duration::from_secs(42), FaultKind::Fuel));
        let good = probe(&breaker, at(142));
        assert!(breaker.recovered(good));
        assert_eq!(breaker.admit(at(143)), Admission::Call);
        assert_eq!(breaker.strike(at(144), TRAP), None, "counted from zero again");
    }

    #[test]
    fn a_probe_that_never_comes_back_makes_room_for_the_next() {
        let (breaker, at) = tripped();
        probe(&breaker, at(80));
        probe(&breaker, at(140));
    }

    #[test]
    fn a_probe_that_passes_does_not_end_a_quarantine_that_began_after_it() {
        let (breaker, at) = tripped();
        let good = probe(&breaker, at(80));
        assert!(
            breaker.strike(at(81), TRAP).is_some(),
            "an older call of another lane, and the audit tells a new quarantine"
        );
        assert!(!breaker.recovered(good), "nothing would tell its end");
        assert!(breaker.is_tripped());
        assert_eq!(breaker.admit(at(82)), Admission::Refused(Duration::from_secs(59), TRAP));
    }

    #[test]
    fn a_probe_that_comes_back_late_does_not_speak_for_the_next() {
        let (breaker, at) = tripped();
        let late = probe(&breaker, at(80));
        let next = probe(&breaker, at(140));
        assert!(!breaker.recovered(late));
        assert_eq!(breaker.admit(at(141)), Admission::Refused(Duration::from_secs(59), TRAP));
        assert!(breaker.recovered(next));
    }

    #[test]
    fn the_end_of_the_window_is_told_without_a_message() {
        let (breaker, at) = tripped();
        assert_eq!((told(&breaker, at(79)), told(&breaker, at(80))), (Some(TRAP), None));
        probe(&breaker, at(90));
        assert_eq!(told(&breaker, at(91)), None, "half open is open for traffic");
        assert!(breaker.strike(at(92), TRAP).is_some());
        assert_eq!(told(&breaker, at(93)), Some(TRAP));
    }

    #[test]
    fn losses_far_apart_never_quarantine() {
        let breaker = breaker(1, &[]);
        let start = Instant::now();
        assert!((0..10).all(|n| breaker.strike(start + MINUTE * n, TRAP).is_none()));
    }

    #[test]
    fn losses_of_many_plugins_quarantine_who_goes_past_their_sum_and_nobody_else() {
        let tenant = Arc::new(RestartSum::new(Scope::Tenant, 2, MINUTE));
        let node = Arc::new(RestartSum::new(Scope::Node, 3, 2 * MINUTE));
        let [one, two, three] = [0; 3].map(|_| breaker(100, &[&tenant, &node]));
        let other = breaker(100, &[&node]);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(one.strike(at(0), TRAP), None);
        assert_eq!(two.strike(at(1), TRAP), None);
        assert_eq!(three.strike(at(2), TRAP), Some(Limit { scope: Scope::Tenant, most: 2, window: MINUTE }));
        assert!(three.is_tripped() && !one.is_tripped() && !two.is_tripped());
        assert_eq!(
            other.strike(at(3), TRAP),
            Some(Limit { scope: Scope::Node, most: 3, window: 2 * MINUTE }),
            "each sum counts each loss"
        );
        assert_eq!(other.admit(at(62)), Admission::Refused(Duration::from_secs(61), TRAP), "as long as the sum counts");
        // What an instance of the quarantined plugin in another lane loses counts, too.
        assert_eq!(three.strike(at(50), TRAP), None);
        assert_eq!(
            one.strike(at(61), TRAP),
            Some(Limit { scope: Scope::Tenant, most: 2, window: MINUTE }),
            "those of 2 and 50 s"
        );
        assert_eq!(two.strike(at(170), TRAP), None, "the window is over");
    }
}
