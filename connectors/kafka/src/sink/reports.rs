use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portcullis_connector_api::{Confirm, ConnectorError, ErrorKind, Fate, Receipt, Token};
use rdkafka::client::ClientContext;
use rdkafka::types::RDKafkaErrorCode as Code;

use crate::failure::{self, Undelivered};
use crate::native::{ErrorCallback, ProducerCallbacks};

/// What librdkafka says about the messages of a sink, and who waits for it.
pub(super) struct Reports {
    confirm: Arc<dyn Confirm>,
    /// The topic is chosen for each message, so that a wrong one is the message's fault.
    own_topics: bool,
    /// Handed over. Written by every lane, so it is not beside what the polling thread writes.
    sent: Apart<AtomicU64>,
    /// Confirmed. Written by the polling thread alone.
    confirmed: Apart<AtomicU64>,
    waiting: AtomicUsize,
    gate: Mutex<()>,
    moved: Condvar,
    trouble: Mutex<Trouble>,
    /// What `trouble` holds: read for each message, where a lock would cost.
    health: AtomicU8,
}

const WELL: u8 = 0;
const OUTAGE: u8 = 1;
const DEAD: u8 = 2;

/// A cache line of its own.
#[repr(align(128))]
#[derive(Default)]
struct Apart<T>(T);

#[derive(Default)]
struct Trouble {
    outage: Option<String>,
    last_failure: String,
    fatal: Option<(ErrorKind, String)>,
}

impl Reports {
    pub(super) fn new(confirm: Arc<dyn Confirm>, own_topics: bool) -> Self {
        Self {
            confirm,
            own_topics,
            sent: Apart::default(),
            confirmed: Apart::default(),
            waiting: AtomicUsize::new(0),
            gate: Mutex::default(),
            moved: Condvar::new(),
            trouble: Mutex::default(),
            health: AtomicU8::new(WELL),
        }
    }

    pub(super) fn sending(&self) {
        self.sent.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn not_sent(&self) {
        self.sent.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// Messages handed over and not confirmed.
    pub(super) fn unconfirmed(&self) -> u64 {
        // In this order: a message that is confirmed in between is counted as open, never the other way round.
        let confirmed = self.confirmed.0.load(Ordering::SeqCst);
        self.sent.0.load(Ordering::SeqCst).saturating_sub(confirmed)
    }

    /// Waits until something is confirmed after this call, or for `wait`.
    pub(super) fn wait_for_confirmation(&self, wait: Duration) {
        let seen = self.confirmed.0.load(Ordering::SeqCst);
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        // `wake` takes the gate after it has seen the waiting count, so a confirmation is either seen here or wakes.
        let unchanged = |_: &mut ()| self.confirmed.0.load(Ordering::SeqCst) == seen && self.unconfirmed() > 0;
        let waited = self.moved.wait_timeout_while(gate, wait, unchanged);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    /// Once for each round of the polling thread, not for each message.
    pub(super) fn wake(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            drop(self.gate.lock().unwrap_or_else(PoisonError::into_inner));
            self.moved.notify_all();
        }
    }

    /// Why nothing can be delivered at the moment.
    pub(super) fn outage(&self) -> Option<String> {
        let trouble = self.trouble();
        trouble.fatal.as_ref().map(|(_, reason)| reason.clone()).or_else(|| trouble.outage.clone())
    }

    /// Why nothing will be delivered any more.
    pub(super) fn fatal(&self) -> Option<ConnectorError> {
        self.trouble().fatal.as_ref().map(|(kind, reason)| ConnectorError::new(*kind, reason.clone()))
    }

    /// The producer will deliver nothing any more.
    pub(super) fn is_dead(&self) -> bool {
        self.health.load(Ordering::Relaxed) == DEAD
    }

    /// No broker could be reached, and nothing was delivered since.
    pub(super) fn is_out(&self) -> bool {
        self.health.load(Ordering::Relaxed) == OUTAGE
    }

    /// Nothing more shall be delivered, although it could.
    pub(super) fn abandon(&self) {
        let mut trouble = self.trouble();
        let reason =
            || (ErrorKind::Fatal, "the producer was given up with messages that no broker had confirmed".to_owned());
        trouble.fatal.get_or_insert_with(reason);
        self.health.store(DEAD, Ordering::Relaxed);
    }

    /// A broker answered.
    pub(super) fn recovered(&self) {
        let mut trouble = self.trouble();
        if trouble.fatal.is_none() {
            trouble.outage = None;
            self.health.store(WELL, Ordering::Relaxed);
        }
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Reports {}

impl ErrorCallback for Reports {
    fn failed(&self, code: Code, reason: &str, fatal: bool) {
        let mut trouble = self.trouble();
        match code {
            _ if fatal => {
                let kind = match failure::kind(code) {
                    ErrorKind::Configuration => ErrorKind::Configuration,
                    ErrorKind::Retriable | ErrorKind::Fatal => ErrorKind::Fatal,
                };
                trouble.fatal = Some((kind, format!("the producer has failed: {reason} ({code:?})")));
                self.health.store(DEAD, Ordering::Relaxed);
            }
            Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism => {
                let reason = format!("the broker does not accept who we are: {reason} ({code:?})");
                trouble.fatal = Some((ErrorKind::Configuration, reason));
                self.health.store(DEAD, Ordering::Relaxed);
            }
            Code::AllBrokersDown if trouble.fatal.is_none() => {
                let reason = if trouble.last_failure.is_empty() { reason } else { &trouble.last_failure };
                trouble.outage = Some(format!("no broker can be reached: {reason}"));
                self.health.store(OUTAGE, Ordering::Relaxed);
            }
            _ => {
                tracing::debug!(?code, reason, "a broker connection failed");
                reason.clone_into(&mut trouble.last_failure);
            }
        }
    }
}

impl ProducerCallbacks for Reports {
    fn delivered(&self, token: Token, topic: &str, result: Result<Receipt, Code>) {
        let fate = match result {
            Ok(receipt) => {
                if self.is_out() {
                    self.recovered();
                }
                Fate::Stored(receipt)
            }
            Err(code) => match failure::undelivered(code, topic, self.own_topics) {
                Undelivered::Refused(refusal) => Fate::Refused(refusal),
                Undelivered::Failed(error) => Fate::Failed(self.fatal().unwrap_or(error)),
            },
        };
        self.confirm.confirm(token, fate);
        // After the confirmation, so that nobody who sees nothing open misses it.
        self.confirmed.0.fetch_add(1, Ordering::SeqCst);
    }
}
