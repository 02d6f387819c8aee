//! What a plugin, its tenant and the node may use of the network. Levels above a plugin are shared by threads, so all of it is
//! atomics: nothing here waits for another plugin, but an HTTP request for its turn.

mod wait;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use portcullis_audit::Scope;
use portcullis_flow::{Rate, clock_ns};

use self::wait::Queue;
pub(crate) use self::wait::{Token, Turn, Waiter};
use crate::egress::NetLimits;

/// What a lookup that is answered from memory costs: this part of one that leaves. A guest that asks in a loop is stopped,
/// one that asks before each connect is not.
const CACHED_LOOKUPS: u64 = 20;
/// The least that a stream waits for, in bytes: less would wake a guest for each byte of a narrow rate.
const CHUNK_BYTES: u64 = 4 << 10;

/// One level of budgets: the plugin's, its tenant's or the node's.
#[derive(Debug)]
pub struct Budget {
    scope: Scope,
    connections: Option<u32>,
    open: AtomicU32,
    /// TCP sockets that are not connections yet: each holds a descriptor of the process.
    idle: AtomicU32,
    connects: Option<Rate>,
    lookups: Option<Rate>,
    egress: Option<Rate>,
    ingress: Option<Rate>,
    queue: Queue,
}

/// What one level allows; none is no limit at this level.
#[derive(Clone, Copy, Debug, Default)]
pub struct BudgetLimits {
    /// Open connections and UDP sockets.
    pub connections: Option<u32>,
    /// Connects in a period.
    pub connects: Option<(u32, Duration)>,
    /// Lookups in a period.
    pub lookups: Option<(u32, Duration)>,
    /// Bytes a second that leave.
    pub egress_bytes_s: Option<u64>,
    /// Bytes a second that come in.
    pub ingress_bytes_s: Option<u64>,
}

impl From<NetLimits> for BudgetLimits {
    fn from(limits: NetLimits) -> Self {
        Self {
            connections: Some(limits.connections),
            connects: Some(limits.connects),
            lookups: Some(limits.lookups),
            egress_bytes_s: limits.egress_bytes_s,
            ingress_bytes_s: limits.ingress_bytes_s,
        }
    }
}

impl Budget {
    /// A level with nothing used.
    pub fn new(scope: Scope, limits: BudgetLimits) -> Arc<Self> {
        let second = |bytes: Option<u64>| bytes.map(|bytes| Rate::new(bytes, Duration::from_secs(1)));
        let rate = |rate: Option<(u32, Duration)>, parts: u64| {
            rate.map(|(count, period)| Rate::new(u64::from(count).saturating_mul(parts), period))
        };
        Arc::new(Self {
            scope,
            connections: limits.connections,
            open: AtomicU32::new(0),
            idle: AtomicU32::new(0),
            connects: rate(limits.connects, 1),
            lookups: rate(limits.lookups, CACHED_LOOKUPS),
            egress: second(limits.egress_bytes_s),
            ingress: second(limits.ingress_bytes_s),
            queue: Queue::new(limits.connections),
        })
    }

    /// Connections and UDP sockets that are open now.
    #[cfg(test)]
    pub(crate) fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    fn open_one(&self, of: Count) -> bool {
        let limit = self.connections.unwrap_or(u32::MAX);
        let more = |open: u32| (open < limit).then(|| open + 1);
        of(self).fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
    }

    fn close_one(&self, of: Count) {
        // Never under zero: a slot is made by `open_one` alone and gives back once.
        of(self).fetch_sub(1, Ordering::SeqCst);
    }

    fn no_place(&self) -> Exhausted {
        Exhausted { scope: self.scope, limit: u64::from(self.connections.unwrap_or(u32::MAX)) }
    }
}

/// What a slot is counted in.
type Count = fn(&Budget) -> &AtomicU32;

/// Which level had no room, and what it allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exhausted {
    pub(crate) scope: Scope,
    pub(crate) limit: u64,
}

/// A plugin's budgets from its own to the node's.
#[derive(Clone, Debug)]
pub(crate) struct Budgets(Arc<[Arc<Budget>]>);

/// A connection or UDP socket in the budgets, or a TCP socket that waits to become one. It is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    budgets: Budgets,
    of: Count,
    /// Whether somebody may wait for its place: nobody does for that of a socket that is not connected yet.
    is_open: bool,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.budgets.0.iter().for_each(|budget| budget.close_one(self.of));
        if self.is_open {
            self.budgets.tell_freed();
        }
    }
}

impl Budgets {
    pub(crate) fn new(own: Arc<Budget>, parents: &[Arc<Budget>]) -> Self {
        Self(std::iter::once(own).chain(parents.iter().map(Arc::clone)).collect())
    }

    /// Takes a connection of every level, or of none.
    pub(crate) fn slot(&self) -> Result<Slot, Exhausted> {
        self.take_slot(|budget| &budget.open, true)
    }

    /// As [`Budgets::slot`], for a TCP socket before its connect. There may be as many of these as of connections, and they
    /// are counted beside them, so that a connect that is refused is told with its destination.
    pub(crate) fn idle_slot(&self) -> Result<Slot, Exhausted> {
        self.take_slot(|budget| &budget.idle, false)
    }

    fn take_slot(&self, of: Count, is_open: bool) -> Result<Slot, Exhausted> {
        for (taken, budget) in self.0.iter().enumerate() {
            if !budget.open_one(of) {
                self.0.iter().take(taken).for_each(|budget| budget.close_one(of));
                return Err(budget.no_place());
            }
        }
        Ok(Slot { budgets: self.clone(), of, is_open })
    }

    pub(crate) fn connect(&self) -> Result<(), Exhausted> {
        self.take(1, 1, |budget| budget.connects.as_ref())
    }

    /// A lookup that leaves.
    pub(crate) fn lookup(&self) -> Result<(), Exhausted> {
        self.take(CACHED_LOOKUPS, CACHED_LOOKUPS, |budget| budget.lookups.as_ref())
    }

    /// A lookup that is answered from memory.
    pub(crate) fn cached_lookup(&self) -> Result<(), Exhausted> {
        self.take(1, CACHED_LOOKUPS, |budget| budget.lookups.as_ref())
    }

    fn take(&self, units: u64, parts: u64, of: impl Fn(&Budget) -> Option<&Rate>) -> Result<(), Exhausted> {
        let rates = || self.0.iter().filter_map(|budget| Some((budget.scope, of(budget)?)));
        Rate::take_of_all(rates().map(|(_, rate)| rate), units).map_err(|at| {
            let (scope, limit) =
                rates().nth(at).map_or((Scope::Plugin, 0), |(scope, rate)| (scope, rate.count() / parts));
            Exhausted { scope, limit }
        })
    }

    pub(crate) fn bytes_out(&self) -> Throttle {
        Throttle { budgets: self.clone(), of: |budget| budget.egress.as_ref() }
    }

    pub(crate) fn bytes_in(&self) -> Throttle {
        Throttle { budgets: self.clone(), of: |budget| budget.ingress.as_ref() }
    }
}

/// Bytes of one direction, through every level that limits them.
#[derive(Clone)]
pub(crate) struct Throttle {
    budgets: Budgets,
    of: fn(&Budget) -> Option<&Rate>,
}

impl Throttle {
    fn rates(&self) -> impl Iterator<Item = (Scope, &Rate)> {
        self.budgets.0.iter().filter_map(|budget| (self.of)(budget).map(|rate| (budget.scope, rate)))
    }

    /// Bytes that may go now, or the level that holds them back. One look: of two, the second may find what has been earned
    /// since the first.
    pub(crate) fn room(&self) -> Result<usize, Exhausted> {
        let rates = self.rates().map(|(scope, rate)| (rate.available(), scope, rate));
        match rates.min_by_key(|(available, ..)| *available) {
            Some((0, scope, rate)) => Err(Exhausted { scope, limit: rate.count() }),
            Some((available, ..)) => Ok(usize::try_from(available).unwrap_or(usize::MAX)),
            None => Ok(usize::MAX),
        }
    }

    /// Takes what has gone. Two streams that looked at the same time may go into debt by one write each; the next waits longer.
    pub(crate) fn take(&self, bytes: usize) {
        self.rates().for_each(|(_, rate)| rate.take(u64::try_from(bytes).unwrap_or(u64::MAX)));
    }

    /// The level that holds bytes back; none while some may go.
    pub(crate) fn exhausted(&self) -> Option<Exhausted> {
        self.room().err()
    }

    /// Waits until a useful number of bytes may go.
    pub(crate) async fn ready(&self) {
        loop {
            let wait = self.rates().map(|(_, rate)| rate.wait_for(CHUNK_BYTES)).max().unwrap_or_default();
            if wait.is_zero() {
                return;
            }
            tokio::time::sleep(wait).await;
        }
    }
}

/// Milliseconds of the rates' clock: what pins and decisions are measured by.
pub(crate) fn clock_ms() -> u64 {
    clock_ns() / 1_000_000
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn budget(scope: Scope, connections: u32) -> Arc<Budget> {
        Budget::new(scope, BudgetLimits { connections: Some(connections), ..BudgetLimits::default() })
    }

    #[test]
    fn a_slot_is_taken_of_every_level_or_of_none_and_given_back_once() {
        let (own, tenant) = (budget(Scope::Plugin, 3), budget(Scope::Tenant, 2));
        let budgets = Budgets::new(Arc::clone(&own), &[Arc::clone(&tenant)]);
        let first = budgets.slot().unwrap();
        let second = budgets.slot().unwrap();
        assert_eq!(budgets.slot().unwrap_err(), Exhausted { scope: Scope::Tenant, limit: 2 });
        assert_eq!((own.open(), tenant.open()), (2, 2), "the refused one left nothing behind");
        drop(first);
        assert_eq!((own.open(), tenant.open()), (1, 1));
        let _third = budgets.slot().unwrap();
        drop(second);
        assert_eq!((own.open(), tenant.open()), (1, 1));
    }

    #[test]
    fn a_rate_above_that_refuses_gives_back_what_was_taken_below() {
        let limits = |connects| BudgetLimits {
            connects: Some((connects, Duration::from_secs(3600))),
            ..BudgetLimits::default()
        };
        let (own, node) = (Budget::new(Scope::Plugin, limits(5)), Budget::new(Scope::Node, limits(2)));
        let budgets = Budgets::new(Arc::clone(&own), &[node]);
        assert!(budgets.connect().is_ok() && budgets.connect().is_ok());
        assert_eq!(budgets.connect(), Err(Exhausted { scope: Scope::Node, limit: 2 }));
        assert_eq!(own.connects.as_ref().unwrap().available(), 3);
    }

    #[test]
    fn a_lookup_from_memory_costs_a_twentieth() {
        let limits = BudgetLimits { lookups: Some((2, Duration::from_secs(3600))), ..BudgetLimits::default() };
        let budgets = Budgets::new(Budget::new(Scope::Plugin, limits), &[]);
        assert!(budgets.lookup().is_ok());
        assert!((0..20).all(|_| budgets.cached_lookup().is_ok()));
        assert_eq!(budgets.lookup(), Err(Exhausted { scope: Scope::Plugin, limit: 2 }));
    }

    #[tokio::test]
    async fn a_throttle_without_limits_never_waits() {
        let budgets = Budgets::new(Budget::new(Scope::Plugin, BudgetLimits::default()), &[]);
        let out = budgets.bytes_out();
        out.take(1 << 30);
        out.ready().await;
        assert_eq!(out.room(), Ok(usize::MAX));
    }

    #[tokio::test]
    async fn a_throttle_waits_for_its_refill() {
        let limits = BudgetLimits { egress_bytes_s: Some(100_000), ..BudgetLimits::default() };
        let budgets = Budgets::new(Budget::new(Scope::Plugin, limits), &[]);
        let out = budgets.bytes_out();
        out.take(100_000);
        assert_eq!(out.exhausted(), Some(Exhausted { scope: Scope::Plugin, limit: 100_000 }));
        let begun = Instant::now();
        out.ready().await;
        assert!(out.room().is_ok_and(|room| room >= 4096));
        assert!(begun.elapsed() >= Duration::from_millis(30));
    }
}
