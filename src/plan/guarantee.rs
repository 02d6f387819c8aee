//! What a source and a sink can promise together.

use std::fmt;

use portcullis_connector_api::AckMode;

use crate::connectors::SourcePlan;

/// The promise of a pipeline. Every sink of this version confirms what it has stored, so the source decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarantee {
    /// Nothing is lost; after a crash messages may come twice.
    AtLeastOnce,
    /// The source cannot give a message again.
    AtMostOnce,
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AtLeastOnce => "at least once",
            Self::AtMostOnce => "at most once",
        })
    }
}

pub(super) fn of(sources: &[SourcePlan]) -> Guarantee {
    let forgets = sources.iter().any(|source| source.ack_mode() == AckMode::None);
    if forgets { Guarantee::AtMostOnce } else { Guarantee::AtLeastOnce }
}
