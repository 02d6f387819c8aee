//! What becomes of a message that did not pass: its plugin's outcome, the operator's `on:`, and the name that the failure gets.

use std::time::Instant;

use portcullis_flow::FaultKind;

use super::chain::On;
use super::work::{FailureCode, Way, Work};
use crate::plugin::{Fault, Outcome, Reason};

/// The outcome for a message that did not pass.
pub(super) enum Stayed {
    Drop(Reason),
    Reject(Reason),
    Retry(Reason),
    Fault(Fault),
}

impl Stayed {
    /// None for a pass.
    pub(super) fn of(outcome: Outcome) -> Option<Self> {
        match outcome {
            Outcome::Pass => None,
            Outcome::Drop(reason) => Some(Self::Drop(reason)),
            Outcome::Reject(reason) => Some(Self::Reject(reason)),
            Outcome::Retry(reason) => Some(Self::Retry(reason)),
            Outcome::Fault(fault) => Some(Self::Fault(fault)),
        }
    }
}

pub(super) enum Judgement {
    /// To the same plugin again, at this time.
    Again(Instant),
    /// Done.
    Dropped,
    /// By another way than the sink.
    Out(Out),
}

pub(super) struct Out {
    pub(super) kind: FaultKind,
    pub(super) code: FailureCode,
    pub(super) detail: String,
    pub(super) way: Way,
}

/// What the operator's `on:` makes of an outcome. `seed` scatters the pauses before retries.
pub(super) fn judge(on: &On, work: &mut Work, stayed: Stayed, seed: &mut u64) -> Judgement {
    match stayed {
        Stayed::Drop(_) if on.drop_allowed => Judgement::Dropped,
        Stayed::Drop(reason) => Judgement::Out(Out {
            kind: FaultKind::CapabilityDenied,
            code: FailureCode::Own("drop_not_allowed"),
            detail: format!("the plugin may not drop (on: {{ drop: allow }} is not set): {}", reason.detail),
            way: on.fault,
        }),
        Stayed::Reject(reason) => Judgement::Out(Out::told(FaultKind::Rejected, reason, on.reject)),
        Stayed::Retry(reason) => {
            // A linear congruential step is enough to keep lanes from retrying in step.
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            match on.backoff.delay(work.attempts + 1, *seed) {
                Some(delay) => {
                    work.attempts += 1;
                    Judgement::Again(Instant::now() + delay)
                }
                None => Judgement::Out(Out::told(FaultKind::RetriesExhausted, reason, on.fault)),
            }
        }
        Stayed::Fault(fault) => Judgement::Out(Out {
            kind: fault.kind,
            code: FailureCode::Own(fault.code.unwrap_or(fault.kind.as_str())),
            detail: fault.detail,
            way: on.fault,
        }),
    }
}

impl Out {
    /// For a reason that the plugin told.
    fn told(kind: FaultKind, reason: Reason, way: Way) -> Self {
        Self { kind, code: stable(reason.code, kind), detail: reason.detail, way }
    }
}

/// The plugin's code where it is the short stable name that it should be. It goes into logs, headers and the audit, where
/// nobody expects a sentence, a payload or another tool's syntax.
pub(super) fn stable(code: String, kind: FaultKind) -> FailureCode {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    match code.as_str() {
        "" => FailureCode::Own(kind.as_str()),
        text if text.chars().all(is_name) => FailureCode::Plugins(code),
        _ => FailureCode::Own("invalid_code"),
    }
}
