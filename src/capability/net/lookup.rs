//! From a name that was granted to addresses that may be shown: memory, one query at a time for each name of a plugin, the
//! policy's word on each answer, pins.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use portcullis_audit::{Destination, Event, Lookup as LookupFact, Source, Uuid};
use portcullis_policy::{Effect, Granted, Host, MAX_TTL, MIN_TTL, Name, Reason, Request};
use tokio::sync::watch;

use crate::egress::Egress;
use crate::evidence::{Intent, about};
use crate::gate::Gate;
use crate::quota::{Exhausted, clock_ms};
use crate::resolver::{Kind, NotFound};

/// Addresses of a name that are shown and pinned.
const MAX_ADDRESSES: usize = 16;
/// Names that are kept.
const MAX_NAMES: usize = 256;

/// What a lookup gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) name: Name,
    /// Only those that the plugin may see; never empty.
    pub(crate) addresses: Vec<IpAddr>,
    /// On the clock of [`clock_ms`].
    pub(crate) expires_ms: u64,
    /// The `dns.lookup` event.
    pub(crate) lookup: Uuid,
}

/// Why a lookup gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unresolved {
    pub(crate) reason: Reason,
    pub(crate) kind: Kind,
}

pub(crate) type Outcome = Result<Arc<Answer>, Unresolved>;

/// Who asks. An answer from memory, or of a query that is on its way already, is free for HTTP, whose requests have no other bound on lookups than being answered from
/// memory; a guest that resolves in a loop by itself pays a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Sockets,
    Http,
}

/// A lookup that was begun.
pub(crate) enum Begun {
    Known(Arc<Answer>),
    /// Ends with an outcome, or without one where its task was lost.
    Flight(watch::Receiver<Option<Outcome>>),
    /// A quota was met, and nothing of it is recorded yet.
    Over(Exhausted),
}

/// Answers by name, bounded.
#[derive(Debug, Default)]
pub(crate) struct Answers(HashMap<Name, Arc<Answer>>);

/// What all instances of a plugin share. Locked for a look, never for a wait.
#[derive(Default)]
pub(crate) struct PluginAnswers {
    known: Answers,
    flights: HashMap<Name, watch::Receiver<Option<Outcome>>>,
}

impl Answers {
    fn get(&self, name: &Name, now_ms: u64) -> Option<&Arc<Answer>> {
        self.0.get(name).filter(|answer| answer.expires_ms > now_ms)
    }

    fn put(&mut self, answer: Arc<Answer>, now_ms: u64) {
        if self.0.len() >= MAX_NAMES && !self.0.contains_key(&answer.name) {
            self.0.retain(|_, answer| answer.expires_ms > now_ms);
        }
        while self.0.len() >= MAX_NAMES && !self.0.contains_key(&answer.name) {
            let first = self.0.values().min_by_key(|answer| answer.expires_ms).map(|answer| answer.name.clone());
            let Some(first) = first else { break };
            self.0.remove(&first);
        }
        self.0.insert(answer.name.clone(), answer);
    }
}

impl Gate {
    /// The addresses of the name of a request that was granted, pinned for this instance.
    ///
    /// # Errors
    /// Why there is none. What left and what came back is recorded, a quota that was met as `budget.exceeded`.
    pub(crate) async fn resolve(&self, granted: &Granted, origin: Origin) -> Outcome {
        match self.begin_lookup(granted, origin) {
            Begun::Known(answer) => Ok(answer),
            Begun::Flight(flight) => landed(self, flight).await,
            Begun::Over(met) => {
                self.exceeded(Reason::QuotaDns, met);
                Err(Unresolved { reason: Reason::QuotaDns, kind: Kind::Temporary })
            }
        }
    }

    /// Looks into memory and begins a query where nothing is there.
    pub(crate) fn begin_lookup(&self, granted: &Granted, origin: Origin) -> Begun {
        let failed = || Begun::Flight(watch::channel(None).1);
        let (Some(egress), Some(name)) = (self.egress(), name_of(granted)) else {
            return failed();
        };
        if let Some(answer) = self.remembered(egress, name) {
            return self.shared(egress, origin).map_or_else(Begun::Over, |()| Begun::Known(answer));
        }
        let joined = egress.answers().flights.get(name).cloned();
        if let Some(flight) = joined {
            return self.shared(egress, origin).map_or_else(Begun::Over, |()| Begun::Flight(flight));
        }
        if let Err(met) = egress.budgets().lookup() {
            return Begun::Over(met);
        }
        Begun::Flight(self.take_off(egress, name, granted))
    }

    /// Takes and counts a lookup for which no query of its own leaves: no event tells of it.
    fn shared(&self, egress: &Egress, origin: Origin) -> Result<(), Exhausted> {
        if origin == Origin::Sockets {
            egress.budgets().cached_lookup()?;
        }
        self.work().cached_lookups += 1;
        Ok(())
    }

    /// What this instance or another of the plugin was told, as long as it holds.
    fn remembered(&self, egress: &Egress, name: &Name) -> Option<Arc<Answer>> {
        let now_ms = clock_ms();
        let (own, is_pinned) = {
            let work = self.work();
            let own = work.answers.get(name, now_ms).cloned();
            let is_pinned = own.as_ref().is_some_and(|answer| work.pins.has(answer));
            (own, is_pinned)
        };
        let answer = own.or_else(|| egress.answers().known.get(name, now_ms).cloned())?;
        // Also where only the pins of what this instance was told have made room for others: who is given an address may connect.
        if !is_pinned {
            self.learn(&answer);
        }
        Some(answer)
    }

    /// Pins what a lookup gave for this instance.
    pub(crate) fn learn(&self, answer: &Arc<Answer>) {
        let now_ms = clock_ms();
        let mut work = self.work();
        for address in &answer.addresses {
            work.pins.add(&answer.name, *address, answer.expires_ms, answer.lookup, now_ms);
        }
        work.answers.put(Arc::clone(answer), now_ms);
    }

    /// Records the intent and sends the query from a task of its own: it ends, and is recorded, also when the guest does not
    /// wait for it any more. A full audit is waited for there.
    fn take_off(&self, egress: &Arc<Egress>, name: &Name, granted: &Granted) -> watch::Receiver<Option<Outcome>> {
        let mut answers = egress.answers();
        if let Some(flight) = answers.flights.get(name).cloned() {
            drop(answers);
            // Another instance was first since the look before. It is paid for as one that leaves.
            self.work().cached_lookups += 1;
            return flight;
        }
        let (outcome, flight) = watch::channel(None);
        answers.flights.insert(name.clone(), flight.clone());
        drop(answers);
        // What is kept serves every request for the name, so that the answers are judged for all of its rules. A connect or an
        // HTTP dial is decided by itself.
        let plain = egress.decide(&Request::Lookup { name: name.as_str() }, &[], None);
        let lookup = plain.unwrap_or_else(|_| granted.clone());
        let (granted, source) = (granted.clone(), self.source());
        let query = Query { egress: Arc::clone(egress), name: name.clone(), granted, lookup, source };
        egress.settings().resolver.handle().spawn(async move {
            let landed = query.run().await;
            // Nobody may be waiting any more.
            outcome.send_replace(Some(landed));
        });
        flight
    }
}

/// Waits for a lookup and pins what it gave.
pub(crate) async fn landed(gate: &Gate, mut flight: watch::Receiver<Option<Outcome>>) -> Outcome {
    const LOST: Unresolved = Unresolved { reason: Reason::DnsFailed, kind: Kind::Temporary };
    let outcome = match flight.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone().unwrap_or(Err(LOST)),
        Err(_) => Err(LOST),
    };
    outcome.inspect(|answer| gate.learn(answer))
}

pub(crate) fn name_of(granted: &Granted) -> Option<&Name> {
    match granted.effect() {
        Effect::Lookup(name) => Some(name),
        Effect::Http(target) => match &target.host {
            Host::Name(name) => Some(name),
            Host::Address(_) => None,
        },
        _ => None,
    }
}

/// A query on its way.
struct Query {
    egress: Arc<Egress>,
    name: Name,
    granted: Granted,
    /// What its answers are judged by.
    lookup: Granted,
    source: Option<Source>,
}

/// Takes the flight out of the list however its task ends.
struct Landing<'a>(&'a Query);

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        self.0.egress.answers().flights.remove(&self.0.name);
    }
}

impl Query {
    async fn run(&self) -> Outcome {
        let _landing = Landing(self);
        self.egress.evidence().room().await;
        if self.intend().confirmed().await.is_err() {
            // Nothing has left.
            return Err(Unresolved { reason: Reason::DnsFailed, kind: Kind::Temporary });
        }
        let begun_ms = clock_ms();
        let found = self.egress.settings().resolver.lookup(&self.granted).await;
        let mut told = self.fact(clock_ms().saturating_sub(begun_ms));
        match found {
            Err(NotFound { reason, kind, rcode }) => {
                (told.reason, told.rcode) = (Some(reason.as_str()), rcode);
                self.record(told);
                Err(Unresolved { reason, kind })
            }
            Ok(found) => {
                let mut refused = None;
                for address in found.addresses {
                    match self.may_show(address) {
                        Ok(()) if told.answers.len() >= MAX_ADDRESSES => break,
                        Ok(()) => told.answers.push(address),
                        Err(reason) => {
                            told.dropped.push((address, reason.as_str()));
                            refused = refused.or(Some(reason));
                        }
                    }
                }
                (told.ttl_s, told.rcode) = (Some(found.ttl_s), Some(0));
                let addresses = told.answers.clone();
                let reason = refused.unwrap_or(Reason::DnsFailed);
                told.reason = addresses.is_empty().then_some(reason.as_str());
                let lookup = self.record(told);
                if addresses.is_empty() {
                    return Err(Unresolved { reason, kind: Kind::Name });
                }
                Ok(self.keep(addresses, found.ttl_s, lookup))
            }
        }
    }

    fn keep(&self, addresses: Vec<IpAddr>, ttl_s: u32, lookup: Uuid) -> Arc<Answer> {
        let now_ms = clock_ms();
        let expires_ms = now_ms.saturating_add(self.holds_ms(ttl_s));
        let answer = Arc::new(Answer { name: self.name.clone(), addresses, expires_ms, lookup });
        self.egress.answers().known.put(Arc::clone(&answer), now_ms);
        answer
    }

    /// Within the bounds of the product, and those of the rules within them. Of every rule that holds the name, whichever asked:
    /// the answer is kept for all of them.
    fn holds_ms(&self, ttl_s: u32) -> u64 {
        let seconds = |duration: Duration| duration.clamp(MIN_TTL, MAX_TTL).as_secs();
        let rules = self.egress.settings().policy.pin_ttl(&self.name);
        let (least, most) = rules.unwrap_or((MIN_TTL, MAX_TTL));
        let (least, most) = (seconds(least), seconds(most));
        u64::from(ttl_s).clamp(least.min(most), most) * 1000
    }

    fn may_show(&self, address: IpAddr) -> Result<(), Reason> {
        // Without pins: the answer is for every instance of the plugin.
        let request = Request::Answer { lookup: &self.lookup, address };
        self.egress.decide(&request, &[], None).map(drop).map_err(|denied| denied.reason)
    }

    fn fact(&self, duration_ms: u64) -> LookupFact {
        let asked = Destination { hostname: Some(self.name.to_string()), ..Destination::default() };
        LookupFact {
            name: self.name.to_string(),
            decided: self.egress.evidence().decided(&self.granted, asked),
            answers: Vec::new(),
            dropped: Vec::new(),
            ttl_s: None,
            rcode: None,
            reason: None,
            duration_ms,
        }
    }

    fn intend(&self) -> Intent {
        let evidence = self.egress.evidence();
        let asked = Destination { hostname: Some(self.name.to_string()), ..Destination::default() };
        let decided = evidence.decided(&self.granted, asked);
        let event = Event::dns_allowed(evidence.actor().clone(), self.name.as_str(), decided);
        evidence.intend(about(event, self.source.as_ref()))
    }

    fn record(&self, fact: LookupFact) -> Uuid {
        let evidence = self.egress.evidence();
        let event = Event::dns_lookup(evidence.actor().clone(), fact);
        let uid = event.uid();
        evidence.record(about(event, self.source.as_ref()));
        uid
    }
}

#[cfg(test)]
#[path = "tests/lookup.rs"]
mod tests;
