use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use portcullis_connector_api::{ConnectorError, ErrorKind};
use rdkafka::client::ClientContext;
use rdkafka::types::RDKafkaErrorCode as Code;

use crate::failure;
use crate::native::{Answers, ConsumerCallbacks, ErrorCallback, Rebalance};

/// What librdkafka's callbacks told the source. They only take notes, because they run in the middle of a poll, and a
/// consumer that is called from its own callback can lock itself up.
#[derive(Default)]
pub(super) struct Notes {
    written: Mutex<Written>,
    /// Nobody reads any more: a rebalance is answered at once.
    closing: AtomicBool,
}

#[derive(Default)]
pub(super) struct Written {
    pub(super) rebalances: VecDeque<Rebalance>,
    pub(super) commits: Vec<Commit>,
    /// Nothing but `close` helps.
    pub(super) dead: Option<ConnectorError>,
    /// Why no broker can be reached.
    pub(super) outage: Option<String>,
    /// The last detail, which comes before the verdict that all brokers are down.
    last_failure: String,
}

/// The end of an asynchronous commit.
pub(super) struct Commit {
    pub(super) result: Result<(), Code>,
    pub(super) places: Answers,
}

impl Notes {
    pub(super) fn read(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }
}

impl ClientContext for Notes {}

impl ErrorCallback for Notes {
    fn failed(&self, code: Code, reason: &str, fatal: bool) {
        let mut written = self.read();
        if fatal {
            let mut error = failure::error(code, format!("the consumer has failed: {reason}"));
            error.kind = ErrorKind::Fatal;
            written.dead = Some(error);
            return;
        }
        match code {
            Code::AllBrokersDown => {
                written.outage = Some(if written.last_failure.is_empty() {
                    reason.to_owned()
                } else {
                    written.last_failure.clone()
                });
            }
            Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism => {
                written.dead = Some(failure::error(code, format!("the broker does not accept who we are: {reason}")));
            }
            _ => {
                // One broker of several is no outage of ours: librdkafka finds the others.
                tracing::debug!(?code, reason, "a broker connection failed");
                reason.clone_into(&mut written.last_failure);
            }
        }
    }
}

impl ConsumerCallbacks for Notes {
    fn rebalance(&self, change: Rebalance) -> bool {
        if self.closing.load(Ordering::Acquire) {
            return false;
        }
        self.read().rebalances.push_back(change);
        true
    }

    fn committed(&self, result: Result<(), Code>, places: Answers) {
        self.read().commits.push(Commit { result, places });
    }
}
