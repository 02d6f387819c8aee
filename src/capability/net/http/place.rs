//! How a request comes by a connection: its turn, then one that waits for its next request, or a place for a new one. What is
//! used up is waited for as long as the request may take to connect, and only then refused.

use std::sync::Arc;

use portcullis_policy::{Denied, Quota, Reason, Request};
use tokio::sync::futures::Notified;
use tokio::time::{Instant, timeout_at};

use super::dial::Dial;
use super::failure::Failure;
use super::pool::{self, Idle};
use super::sender::Way;
use crate::gate::Gate;
use crate::quota::{Exhausted, Slot, Token, Turn, Waiter};

/// Idle connections that are closed for one that is needed. More than one only when others take the place that it left.
const EVICTIONS: usize = 4;

/// One address's try, within a request's turn.
pub(super) struct Try {
    pub(super) turn: Arc<Turn>,
    /// When the request must be connected, whatever it waited for.
    pub(super) until: Instant,
    /// Addresses that are left, with this one: they share the time.
    pub(super) addresses: u32,
}

/// What a request goes over.
pub(super) enum Found {
    Idle(Idle),
    Place(Slot),
}

/// What a place still lacks.
struct Lack {
    quota: Quota,
    met: Exhausted,
    /// When it is worth a look even if nothing is given back.
    look: Instant,
}

/// Tells the quota that a request waited for when it was let go: a call that ends in a wait would otherwise leave no trace.
struct Unmet<'a> {
    gate: &'a Gate,
    met: Option<(Reason, Exhausted)>,
}

impl Drop for Unmet<'_> {
    fn drop(&mut self) {
        if let Some((reason, met)) = self.met {
            self.gate.exceeded(reason, met);
        }
    }
}

impl Way {
    /// The request's turn among all that want a connection.
    ///
    /// # Errors
    /// The refusal, which is recorded.
    pub(super) async fn turn(&self, dial: &Dial, until: Instant) -> Result<Turn, Failure> {
        let mut unmet = Unmet { gate: &self.gate, met: None };
        let turn = self.egress.budgets().turn(until, |met| unmet.met = Some((Reason::QuotaSockets, met))).await;
        unmet.met = None;
        turn.map_err(|met| self.refused(&self.over(dial, Quota::Sockets, met)))
    }

    /// A connection that waits, if one may be reused, or a place for a new one. Another destination's makes room for it.
    ///
    /// # Errors
    /// The quota that was still met in the end.
    pub(super) async fn reserve(&self, dial: &Dial, reuse: bool, until: Instant) -> Result<Found, Denied> {
        let mut unmet = Unmet { gate: &self.gate, met: None };
        let mut token = None;
        let mut waits: Option<(Waiter<'_>, Notified<'_>)> = None;
        loop {
            let lack = match self.look(&mut token, dial, reuse, until).await {
                Ok(found) => return Ok(found),
                Err(lack) => lack,
            };
            if Instant::now() >= until {
                return Err(self.over(dial, lack.quota, lack.met));
            }
            let told = waits.take().filter(|(waiter, _)| waiter.scope() == lack.met.scope);
            let Some((_waiter, freed)) = told else {
                // What was given back since the look has woken nobody: looked once more with somebody to wake.
                let Some(waiter) = self.egress.budgets().waiter(lack.met.scope) else {
                    return Err(self.over(dial, lack.quota, lack.met));
                };
                let freed = waiter.freed();
                waits = Some((waiter, freed));
                continue;
            };
            unmet.met = Some((lack.quota.reason(), lack.met));
            // Whether it was told or the time has come: the next look says.
            timeout_at(lack.look.min(until), freed).await.unwrap_or(());
            unmet.met = None;
        }
    }

    /// One look. The token is kept for the next one.
    async fn look(&self, token: &mut Option<Token>, dial: &Dial, reuse: bool, until: Instant) -> Result<Found, Lack> {
        if reuse && let Some(idle) = self.http.pool.take(self.home, &dial.key) {
            return Ok(Found::Idle(idle));
        }
        // Before the place: nobody's idle connection is closed, and no place held, for a connect that may not happen yet.
        let earned = match token.take() {
            Some(earned) => earned,
            None => {
                let time = until.saturating_duration_since(Instant::now());
                let asked = self.egress.budgets().connect_within(time);
                asked.map_err(|met| Lack { quota: Quota::Connects, met, look: until })?
            }
        };
        if let Some((look, met)) = earned.late() {
            *token = Some(earned);
            return Err(Lack { quota: Quota::Connects, met, look });
        }
        match self.slot().await {
            Ok(slot) => {
                earned.spend();
                Ok(Found::Place(slot))
            }
            Err(met) => {
                *token = Some(earned);
                Err(Lack { quota: Quota::Sockets, met, look: until })
            }
        }
    }

    /// A place; a connection that waits for another destination is closed for it.
    async fn slot(&self) -> Result<Slot, Exhausted> {
        let budgets = self.egress.budgets();
        let mut slot = budgets.slot();
        for _ in 0..EVICTIONS {
            let Err(met) = slot else { break };
            let Some(oldest) = pool::evict(&self.http, met.scope) else { break };
            oldest.task.end().await;
            slot = budgets.slot();
        }
        slot
    }

    fn over(&self, dial: &Dial, quota: Quota, met: Exhausted) -> Denied {
        self.gate.over(&Request::HttpDial { http: &self.granted, address: dial.address }, quota, met)
    }
}
