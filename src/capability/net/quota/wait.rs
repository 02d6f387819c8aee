//! How an HTTP request waits for what is used up. A raw socket is refused at once: its calls may not wait.
//!
//! A request takes a turn at every level, its plugin's first. A level has as many turns as connections, and gives them in the
//! order in which they were asked for, so that nobody overtakes and none of its plugins can fill its queue: each has at most
//! its own turns in it. Who has a turn finds a place, unless raw sockets or connections that wait for their next request hold
//! it, and looks again whenever something was given back.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use portcullis_audit::Scope;
use portcullis_flow::clock_ns;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::{Budget, Budgets, Exhausted};

/// Who waits at one level.
#[derive(Debug)]
pub(super) struct Queue {
    /// None where connections have no limit.
    turns: Option<Semaphore>,
    /// Those that look again when something is given back: telling nobody costs one load.
    waiting: AtomicU32,
    freed: Notify,
}

impl Queue {
    pub(super) fn new(connections: Option<u32>) -> Self {
        let turns = |most: u32| Semaphore::new(usize::try_from(most).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS));
        Self { turns: connections.map(turns), waiting: AtomicU32::new(0), freed: Notify::new() }
    }

    /// To be called after something was given back. That, this load, a waiter's count and its look are in one order for all
    /// threads: either the waiter sees what was given back, or it is counted here and woken.
    pub(super) fn tell(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.freed.notify_waiters();
        }
    }
}

/// A request's turn at every level. It is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    budgets: Budgets,
    /// How many levels have given theirs.
    levels: usize,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let given = self.budgets.0.iter().take(self.levels);
        given.filter_map(|budget| budget.queue.turns.as_ref()).for_each(|turns| turns.add_permits(1));
    }
}

/// A connect of every level, perhaps one that is earned only later. It is given back when this is dropped before it is spent,
/// as far as the time has not given it back already.
#[derive(Debug)]
pub(crate) struct Token {
    budgets: Budgets,
    /// Of each level that has given one, when it will have been earned again; none where there is no rate.
    marks: Vec<Option<u64>>,
    /// When the slowest level has earned it; none where all had.
    earned: Option<(Instant, Exhausted)>,
}

impl Token {
    /// The level that has not earned it yet, and when it will have.
    pub(crate) fn late(&self) -> Option<(Instant, Exhausted)> {
        self.earned.filter(|(at, _)| Instant::now() < *at)
    }

    pub(crate) fn spend(mut self) {
        self.marks.clear();
    }

    /// Tells nobody: each of those that wait would ask, meet the same level and tell all the others.
    fn take_back(mut self) {
        self.give_back(clock_ns());
    }

    fn give_back(&mut self, now_ns: u64) -> bool {
        let levels = self.budgets.0.iter().zip(self.marks.drain(..));
        let given = levels.filter_map(|(budget, mark)| Some(budget.connects.as_ref()?.give_back_of(1, mark?, now_ns)));
        given.fold(false, |any, given| any | given)
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        if self.give_back(clock_ns()) {
            self.budgets.tell_freed();
        }
    }
}

/// One that is told when something is given back at its level.
#[derive(Debug)]
pub(crate) struct Waiter<'a>(&'a Budget);

impl<'a> Waiter<'a> {
    pub(crate) fn scope(&self) -> Scope {
        self.0.scope
    }

    /// Ends with the next thing that is given back from this call on, whenever it is awaited.
    pub(crate) fn freed(&self) -> Notified<'a> {
        self.0.queue.freed.notified()
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.queue.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Budgets {
    /// A request's turn at every level. `waits` is told each level that it waits at.
    ///
    /// # Errors
    /// The level that did not give one until then. Nothing is taken then.
    pub(crate) async fn turn(&self, until: Instant, mut waits: impl FnMut(Exhausted)) -> Result<Turn, Exhausted> {
        let mut turn = Turn { budgets: self.clone(), levels: 0 };
        for budget in self.0.iter() {
            if let Some(turns) = &budget.queue.turns {
                // Fails also while others wait: what is given back goes to them first.
                let permit = match turns.try_acquire() {
                    Ok(permit) => permit,
                    Err(_) => {
                        let met = budget.no_place();
                        waits(met);
                        // Never closed, so that an error is the time alone.
                        let waited = timeout_at(until, turns.acquire()).await;
                        waited.ok().and_then(Result::ok).ok_or(met)?
                    }
                };
                permit.forget();
            }
            turn.levels += 1;
        }
        Ok(turn)
    }

    /// A connect that every level has earned within the time. Taken in the order of asking: who asks later gets a later one.
    ///
    /// # Errors
    /// The level that cannot have. Nothing is taken then.
    pub(crate) fn connect_within(&self, time: Duration) -> Result<Token, Exhausted> {
        let (now, now_ns) = (Instant::now(), clock_ns());
        let within_ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let mut token = Token { budgets: self.clone(), marks: Vec::with_capacity(self.0.len()), earned: None };
        for budget in self.0.iter() {
            let Some(rate) = &budget.connects else {
                token.marks.push(None);
                continue;
            };
            let met = Exhausted { scope: budget.scope, limit: rate.count() };
            let Some(mark) = rate.take_within(1, now_ns, within_ns) else {
                token.take_back();
                return Err(met);
            };
            token.marks.push(Some(mark));
            let at = now + Duration::from_nanos((mark - now_ns).saturating_sub(rate.period_ns()));
            if at > token.earned.map_or(now, |(slowest, _)| slowest) {
                token.earned = Some((at, met));
            }
        }
        Ok(token)
    }

    /// One that is told from here on when something is given back at that level; none where there is no such level.
    pub(crate) fn waiter(&self, scope: Scope) -> Option<Waiter<'_>> {
        let budget = self.0.iter().find(|budget| budget.scope == scope)?;
        budget.queue.waiting.fetch_add(1, Ordering::SeqCst);
        Some(Waiter(budget))
    }

    /// Something that others may wait for is free now: a place, or a connection that waits for its next request.
    pub(crate) fn tell_freed(&self) {
        self.0.iter().for_each(|budget| budget.queue.tell());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::BudgetLimits;
    use super::*;

    fn budget(scope: Scope, connections: u32) -> Arc<Budget> {
        Budget::new(scope, BudgetLimits { connections: Some(connections), ..BudgetLimits::default() })
    }

    fn at_once() -> Instant {
        Instant::now()
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[tokio::test]
    async fn turns_are_given_in_the_order_of_asking_and_nobody_overtakes() {
        let own = budget(Scope::Plugin, 1);
        let budgets = Budgets::new(Arc::clone(&own), &[]);
        let first = budgets.turn(at_once(), |_| panic!("there is one")).await.unwrap();
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for number in 0..4 {
            let (budgets, order) = (budgets.clone(), Arc::clone(&order));
            let (tell, told) = tokio::sync::oneshot::channel();
            let mut tell = Some(tell);
            tasks.push(tokio::spawn(async move {
                let turn = budgets.turn(later(), |_| tell.take().unwrap().send(()).unwrap()).await.unwrap();
                order.lock().unwrap().push(number);
                drop(turn);
            }));
            told.await.unwrap();
            // On one thread: the task goes on to wait before this one does.
            tokio::task::yield_now().await;
        }
        drop(first);
        assert!(own.queue.turns.as_ref().unwrap().try_acquire().is_err(), "what was given back is the first one's");
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3]);
        assert!(budgets.turn(at_once(), |_| ()).await.is_ok());
    }

    #[tokio::test]
    async fn a_level_above_that_gives_no_turn_leaves_none_taken_below() {
        let (own, tenant) = (budget(Scope::Plugin, 2), budget(Scope::Tenant, 1));
        let budgets = Budgets::new(Arc::clone(&own), &[tenant]);
        let first = budgets.turn(at_once(), |_| ()).await.unwrap();
        let mut waited = Vec::new();
        assert!(budgets.turn(at_once(), |met| waited.push(met.scope)).await.is_err());
        assert_eq!(waited, [Scope::Tenant]);
        assert_eq!(own.queue.turns.as_ref().unwrap().available_permits(), 1);
        drop(first);
        assert_eq!(own.queue.turns.as_ref().unwrap().available_permits(), 2);
    }

    #[tokio::test]
    async fn a_connect_is_earned_in_the_order_of_asking_and_given_back_unless_it_is_spent() {
        let limits = BudgetLimits { connects: Some((1, Duration::from_secs(100))), ..BudgetLimits::default() };
        let budgets = Budgets::new(Budget::new(Scope::Plugin, limits), &[]);
        let day = Duration::from_secs(86_400);
        let now = budgets.connect_within(Duration::ZERO).unwrap();
        assert!(now.late().is_none());
        let met = Exhausted { scope: Scope::Plugin, limit: 1 };
        assert_eq!(budgets.connect_within(Duration::from_secs(99)).unwrap_err(), met);
        let (second, third) = (budgets.connect_within(day).unwrap(), budgets.connect_within(day).unwrap());
        assert!(second.late().unwrap().0 < third.late().unwrap().0);
        drop((third, second, now));
        budgets.connect_within(Duration::ZERO).unwrap().spend();
        assert!(budgets.connect().is_err(), "a spent one is not given back");
    }

    #[tokio::test]
    async fn a_waiter_is_told_of_what_is_given_back_before_it_waits() {
        let budgets = Budgets::new(budget(Scope::Plugin, 1), &[]);
        let slot = budgets.slot().unwrap();
        let waiter = budgets.waiter(Scope::Plugin).unwrap();
        let freed = waiter.freed();
        drop(slot);
        assert!(timeout_at(later(), freed).await.is_ok());
        assert!(budgets.waiter(Scope::Node).is_none());
    }

    #[tokio::test]
    async fn who_waits_for_a_connect_is_told_when_one_is_given_back_and_not_when_none_was_had() {
        let limits = |count| {
            let connects = Some((count, Duration::from_secs(3600)));
            BudgetLimits { connects, ..BudgetLimits::default() }
        };
        let parents = [Budget::new(Scope::Node, limits(1))];
        let budgets = Budgets::new(Budget::new(Scope::Plugin, limits(2)), &parents);
        let token = budgets.connect_within(Duration::ZERO).unwrap();
        let waiter = budgets.waiter(Scope::Node).unwrap();
        let freed = waiter.freed();
        let met = Exhausted { scope: Scope::Node, limit: 1 };
        assert_eq!(budgets.connect_within(Duration::ZERO).unwrap_err(), met);
        tokio::pin!(freed);
        assert!(timeout_at(at_once(), &mut freed).await.is_err(), "it would wake all that meet the same");
        drop(token);
        assert!(timeout_at(later(), freed).await.is_ok());
        budgets.connect_within(Duration::ZERO).unwrap().spend();
    }
}
