//! The suite that each connector passes: one call of `source` or `sink` with a factory. A rule that a connector cannot
//! keep by its nature is an [`Exemption`] with a reason, which the connector's crate exports beside it.
//!
//! The suite itself is behind the feature `conformance` and needs no test framework.

use std::fmt;

use thiserror::Error;

#[cfg(feature = "conformance")]
mod sink;
#[cfg(feature = "conformance")]
mod source;
#[cfg(feature = "conformance")]
mod specimens;

#[cfg(feature = "conformance")]
pub use sink::{SinkFactory, SinkPlace, sink};
#[cfg(feature = "conformance")]
pub use source::{SourceFactory, SourcePlace, source};
#[cfg(feature = "conformance")]
pub use specimens::{minimal, specimens};

/// What a connector promises, as the suite tries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// Key, value, headers (order, duplicates, binary, null), and timestamp arrive as they left.
    BytesKept,
    /// A null key, value or header value is not an empty one, on both ways.
    NullIsNotEmpty,
    /// Source: an assignment is announced before its first record, and its offsets ascend in the order of feeding.
    /// Sink: what one thread sends for one destination partition is stored in that order.
    OrderKept,
    /// Source: what was delivered and not acknowledged comes again after a restart.
    UnacknowledgedComesAgain,
    /// Source: what was acknowledged durably does not come again after a clean restart.
    AcknowledgedStays,
    /// Source: an acknowledgement of an assignment that is no longer, or never was, moves nothing.
    LateAcknowledgementIsHarmless,
    /// Source: after a revocation comes no record of it, and what was not acknowledged comes with its next assignment.
    RevocationHoldsBack,
    /// Source: a poll delivers no more messages, and but for the last no more bytes, than its budget.
    BudgetBounds,
    /// Source: a poll with a budget of nothing delivers nothing and loses nothing.
    NothingDeliversNothing,
    /// Source: a paused assignment delivers nothing, and all of it after it was resumed.
    PauseStops,
    /// Source: `Finished` comes once, behind the last record, and only where there is an end.
    FinishedOnlyAtTheEnd,
    /// Source: a poll that finds nothing returns when its wait is over.
    WaitIsBounded,
    /// Sink: every message that was taken is confirmed exactly once.
    ConfirmedOnce,
    /// Sink: a message that is confirmed as stored can be read by somebody else.
    ConfirmedIsReadable,
    /// Sink: the queue has a bound, a full queue says so, and nothing that was taken before or is tried again is lost.
    FullIsBackPressure,
    /// Sink: a message that will never be taken is refused alone; those around it are stored.
    RefusedAlone,
    /// Sink: `drain` returns with nothing unconfirmed when everything could be stored.
    DrainWaits,
    /// Sink: after `abandon` each message that was taken is confirmed once, and a sink that has given something up takes no
    /// more. Where the way to the destination can be held, nothing of it arrives after what another sink has stored since.
    AbandonEnds,
}

impl Rule {
    /// The rules that a source is asked.
    pub const OF_SOURCES: [Self; 12] = [
        Self::BytesKept,
        Self::NullIsNotEmpty,
        Self::OrderKept,
        Self::UnacknowledgedComesAgain,
        Self::AcknowledgedStays,
        Self::LateAcknowledgementIsHarmless,
        Self::RevocationHoldsBack,
        Self::BudgetBounds,
        Self::NothingDeliversNothing,
        Self::PauseStops,
        Self::FinishedOnlyAtTheEnd,
        Self::WaitIsBounded,
    ];

    /// The rules that a sink is asked.
    pub const OF_SINKS: [Self; 9] = [
        Self::BytesKept,
        Self::NullIsNotEmpty,
        Self::OrderKept,
        Self::ConfirmedOnce,
        Self::ConfirmedIsReadable,
        Self::FullIsBackPressure,
        Self::RefusedAlone,
        Self::DrainWaits,
        Self::AbandonEnds,
    ];

    /// What is missing where a connector is exempted, in words for an operator.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BytesKept => "bytes kept",
            Self::NullIsNotEmpty => "null is not empty",
            Self::OrderKept => "order kept",
            Self::UnacknowledgedComesAgain => "unacknowledged comes again",
            Self::AcknowledgedStays => "acknowledged stays",
            Self::LateAcknowledgementIsHarmless => "late acknowledgement is harmless",
            Self::RevocationHoldsBack => "revocation holds back",
            Self::BudgetBounds => "budget bounds",
            Self::NothingDeliversNothing => "nothing delivers nothing",
            Self::PauseStops => "pause stops",
            Self::FinishedOnlyAtTheEnd => "finished only at the end",
            Self::WaitIsBounded => "wait is bounded",
            Self::ConfirmedOnce => "confirmed once",
            Self::ConfirmedIsReadable => "confirmed is readable",
            Self::FullIsBackPressure => "full is back-pressure",
            Self::RefusedAlone => "refused alone",
            Self::DrainWaits => "drain waits",
            Self::AbandonEnds => "abandon ends",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A rule that a connector does not keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exemption {
    /// Which.
    pub rule: Rule,
    /// Why not, for an operator.
    pub reason: &'static str,
}

/// What the suite has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Rules that were tried and kept.
    pub kept: Vec<Rule>,
    /// Rules that were not tried.
    pub exempted: Vec<Exemption>,
}

/// The first rule that was broken.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the rule `{rule}` is broken: {what}")]
pub struct Failure {
    /// Which.
    pub rule: Rule,
    /// What was done, what was expected and what happened.
    pub what: String,
}

/// Tries every rule that is not exempted, in its order.
#[cfg(feature = "conformance")]
fn run(
    rules: &[Rule],
    exemptions: &[Exemption],
    mut tried: impl FnMut(Rule) -> Result<(), String>,
) -> Result<Report, Failure> {
    let mut kept = Vec::new();
    for exemption in exemptions {
        let rule = exemption.rule;
        if !rules.contains(&rule) {
            return Err(Failure { rule, what: "the exemption is from a rule that is not asked here".to_owned() });
        }
    }
    for rule in rules.iter().copied().filter(|rule| exemptions.iter().all(|exemption| exemption.rule != *rule)) {
        tried(rule).map_err(|what| Failure { rule, what })?;
        kept.push(rule);
    }
    Ok(Report { kept, exempted: exemptions.to_vec() })
}
