//! Effects and their evidence. The event of an effect goes before the effect, what came of it goes after it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use portcullis_audit::{
    Actor, Attempt, Budget, Connection, Decided, Denial, Destination, Event, Mode, Receipt, Recorder, RuleRef, Scope,
    Source, Traffic, Transport, Unavailable,
};
use portcullis_policy::{Denied, Granted, Policy, Reason, Target};
use uuid::Uuid;

use crate::quota::{Slot, clock_ms};

/// Where a plugin's effects are recorded, and how strictly.
#[derive(Clone, Debug)]
pub(crate) struct Evidence {
    recorder: Recorder,
    actor: Actor,
    /// Whether an effect waits until the store has its event.
    strict: bool,
    rules: Arc<[RuleRef]>,
    denies: Arc<[RuleRef]>,
    policy_version: Arc<str>,
    decisions: Arc<Decisions>,
    limits: Arc<Limits>,
}

/// What a plugin can meet of its levels, and what makes it wait.
const LIMITS: [Reason; 5] =
    [Reason::QuotaSockets, Reason::QuotaConnectRate, Reason::QuotaDns, Reason::QuotaBytesOut, Reason::QuotaBytesIn];
const SCOPES: [Scope; 3] = [Scope::Plugin, Scope::Tenant, Scope::Node];

/// How often each limit was met, by the level that had it.
#[derive(Debug, Default)]
struct Limits([[AtomicU64; SCOPES.len()]; LIMITS.len()]);

/// How many requests were allowed, refused, and refused for want of room.
#[derive(Debug, Default)]
struct Decisions {
    allowed: AtomicU64,
    denied: AtomicU64,
    quota: AtomicU64,
}

/// An event that was recorded and whose effect may wait for it.
#[derive(Debug)]
pub(crate) struct Intent {
    receipt: Receipt,
    strict: bool,
}

impl Intent {
    /// There was no room for it: its effect must not happen, and it will never be confirmed.
    pub(crate) fn is_lost(&self) -> bool {
        self.receipt.is_lost()
    }

    /// Waits until the effect may happen. With the mode `buffered` that is at once, as long as the event was taken: what
    /// there is no evidence of does not happen in any mode.
    pub(crate) async fn confirmed(&self) -> Result<(), Unavailable> {
        if self.strict {
            return self.receipt.confirmed().await;
        }
        if self.is_lost() { Err(Unavailable::Lost) } else { Ok(()) }
    }
}

impl Evidence {
    pub(crate) fn new(recorder: Recorder, actor: Actor, mode: Mode, policy: &Policy) -> Self {
        let names = |list: &str, names: Vec<String>| -> Arc<[RuleRef]> {
            let refs = names.into_iter().enumerate();
            refs.map(|(at, name)| RuleRef { uid: format!("{list}[{at}]").into(), name: name.into() }).collect()
        };
        Self {
            recorder,
            actor,
            strict: matches!(mode, Mode::Strict | Mode::AckFirst),
            rules: names("egress", policy.rules().iter().map(ToString::to_string).collect()),
            denies: names("deny", policy.denies().iter().map(ToString::to_string).collect()),
            policy_version: Arc::clone(policy.version()),
            decisions: Arc::default(),
            limits: Arc::default(),
        }
    }

    pub(crate) fn actor(&self) -> &Actor {
        &self.actor
    }

    /// Waits until the event of an effect may find room, at most as long as the audit's deadline. What finds none then is
    /// refused.
    pub(crate) async fn room(&self) {
        let room = tokio::time::timeout(self.recorder.deadline(), self.recorder.room());
        drop(room.await);
    }

    /// Records what came of an effect, or what is no effect. Never waits.
    pub(crate) fn record(&self, event: Event) {
        // Nothing waits for this event: the receipt of what has happened already is of no use.
        drop(self.recorder.try_record(event));
    }

    /// Records a refusal, or says that there is no room: then it must be told later. Never waits.
    pub(crate) fn refuse(&self, event: Event) -> bool {
        self.recorder.try_record_refusal(event)
    }

    /// Records a refusal that nobody can tell later.
    pub(crate) fn refuse_last(&self, event: Event) {
        self.recorder.try_record_last_refusal(event);
    }

    /// Records the event of an effect that is about to happen. Never waits: without room the intent is lost, and with it the
    /// effect, which is then not one that was allowed.
    pub(crate) fn intend(&self, event: Event) -> Intent {
        let intent = Intent { receipt: self.recorder.try_record_intent(event), strict: self.strict };
        if !intent.is_lost() {
            self.decisions.allowed.fetch_add(1, Ordering::Relaxed);
        }
        intent
    }

    /// Counts that a limit was met.
    pub(crate) fn met(&self, limit: Reason, scope: Scope) {
        let counts = LIMITS.into_iter().zip(&self.limits.0).find(|(known, _)| *known == limit);
        let count = counts.and_then(|(_, counts)| SCOPES.into_iter().zip(counts).find(|(known, _)| *known == scope));
        if let Some((_, count)) = count {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often each limit was met until now, those left out that never were.
    pub(crate) fn limits_met(&self) -> impl Iterator<Item = (&'static str, Scope, u64)> {
        let counts = LIMITS.into_iter().zip(&self.limits.0);
        let counts = counts.flat_map(|(limit, counts)| {
            SCOPES
                .into_iter()
                .zip(counts)
                .map(move |(scope, count)| (limit.as_str(), scope, count.load(Ordering::Relaxed)))
        });
        counts.filter(|(.., count)| *count > 0)
    }

    /// The event of limits that were met.
    pub(crate) fn exceeded(&self, budget: Budget) -> Event {
        Event::budget_exceeded(self.actor.clone(), budget)
    }

    pub(crate) fn decisions(&self) -> [u64; 3] {
        let Decisions { allowed, denied, quota } = &*self.decisions;
        [allowed, denied, quota].map(|count| count.load(Ordering::Relaxed))
    }

    /// What the audit tells of a decision that allowed.
    pub(crate) fn decided(&self, granted: &Granted, destination: Destination) -> Decided {
        Decided {
            destination,
            rule: granted.rule().and_then(|index| self.rules.get(index)).cloned(),
            policy_version: Arc::clone(granted.policy_version()),
            observed: granted.observed().map(Reason::as_str),
            pin: granted.pin().map(|(lookup, _)| Uuid::from_u128(lookup)),
        }
    }

    /// The same of a raw connect, or of the first datagram to a peer, by the pin's name where there is one.
    pub(crate) fn decided_raw(&self, granted: &Granted, to: SocketAddr) -> Decided {
        let hostname = granted.pin().map(|(_, name)| name.to_string());
        self.decided(granted, Destination { hostname, ip: Some(to.ip()), port: Some(to.port()) })
    }

    /// What the audit tells of a refusal.
    pub(crate) fn denial(&self, attempt: Attempt, denied: &Denied, guest_code: Option<&'static str>) -> Denial {
        let refused = match denied.reason {
            Reason::QuotaSockets | Reason::QuotaConnectRate | Reason::QuotaDns | Reason::QuotaBytesOut => {
                &self.decisions.quota
            }
            _ => &self.decisions.denied,
        };
        refused.fetch_add(1, Ordering::Relaxed);
        let list = if denied.reason == Reason::RuleOperatorDeny { &self.denies } else { &self.rules };
        Denial {
            attempt,
            destination: destination(&denied.target),
            reason: denied.reason.as_str(),
            guest_code,
            rule: denied.nearest.and_then(|index| list.get(index)).cloned(),
            policy_version: Arc::clone(&self.policy_version),
            inbound: false,
            window: None,
        }
    }
}

fn destination(target: &Target) -> Destination {
    Destination { hostname: target.name.clone(), ip: target.address, port: target.port }
}

/// Names the record in work, where there is one.
pub(crate) fn about(event: Event, source: Option<&Source>) -> Event {
    match source {
        Some(source) => event.about(source.clone()),
        None => event,
    }
}

/// The number of a connection, of an exchange with a peer or of an HTTP request. No two of the process have the same.
pub(crate) fn next_connection() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A TCP connection that was granted, from its intent to its end. Whoever drops the last handle of it, the guest or the end
/// of the instance, ends it: its `net.close` is recorded and its place in the budgets is given back, once each.
#[derive(Debug)]
pub(crate) struct Wire {
    evidence: Evidence,
    connection: Connection,
    source: Option<Source>,
    begun_ms: u64,
    bytes_out: AtomicU64,
    bytes_in: AtomicU64,
    /// Its end was recorded.
    ended: AtomicBool,
    _slot: Slot,
}

impl Wire {
    /// Records the intent. The connect must wait for it.
    pub(crate) fn new(
        evidence: Evidence,
        granted: &Granted,
        to: SocketAddr,
        source: Option<Source>,
        slot: Slot,
    ) -> (Arc<Self>, Intent) {
        let decided = evidence.decided_raw(granted, to);
        let connection = Connection { id: next_connection(), transport: Transport::Tcp, decided };
        let event = Event::connect_allowed(evidence.actor.clone(), connection.clone());
        let intent = evidence.intend(about(event, source.as_ref()));
        let zero = || AtomicU64::new(0);
        let ended = AtomicBool::new(false);
        let begun_ms = clock_ms();
        let wire =
            Self { evidence, connection, source, begun_ms, bytes_out: zero(), bytes_in: zero(), ended, _slot: slot };
        (Arc::new(wire), intent)
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The network failed before there was a connection.
    pub(crate) fn failed(&self, reason: Reason) {
        if !self.ended.swap(true, Ordering::Relaxed) {
            let actor = self.evidence.actor.clone();
            let event = Event::connect_failed(actor, self.connection.clone(), reason.as_str());
            self.evidence.record(about(event, self.source.as_ref()));
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if *self.ended.get_mut() {
            return;
        }
        let traffic = Traffic {
            bytes_out: *self.bytes_out.get_mut(),
            bytes_in: *self.bytes_in.get_mut(),
            duration_ms: clock_ms().saturating_sub(self.begun_ms),
            ..Traffic::default()
        };
        let event = Event::connection_closed(self.evidence.actor.clone(), self.connection.clone(), traffic);
        self.evidence.record(about(event, self.source.as_ref()));
    }
}
