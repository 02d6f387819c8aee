//! What a source and a sink can promise together.

use std::fmt;

use portcullis_connector_api::AckMode;

use crate::connectors::{SinkPlan, SourcePlan};

/// What becomes of a message when something fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarantee {
    /// Nothing is lost, and within the stream's duplicate window nothing comes twice.
    EffectivelyOnce,
    /// Nothing is lost; after a crash messages may come twice.
    AtLeastOnce,
    /// The source cannot give a message again, or the sink does not know who has got it.
    AtMostOnce,
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EffectivelyOnce => "effectively once within the stream's duplicate window",
            Self::AtLeastOnce => "at least once",
            Self::AtMostOnce => "at most once",
        })
    }
}

/// The promise of a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise {
    /// What is promised.
    pub guarantee: Guarantee,
    /// What of source and sink makes it so.
    pub why: &'static str,
}

pub(super) fn of(sources: &[SourcePlan], sink: &SinkPlan) -> Promise {
    if sources.iter().any(|source| source.ack_mode() == AckMode::None) {
        let why = "the source cannot give a message again, so what was in work at a crash is gone";
        return Promise { guarantee: Guarantee::AtMostOnce, why };
    }
    if sink.forgets() {
        let why = "core NATS takes a message and does not keep it, so whoever is not subscribed at that moment does not get it";
        return Promise { guarantee: Guarantee::AtMostOnce, why };
    }
    if sink.drops_repeats() && sources.iter().all(|source| source.identity().is_lasting()) {
        let why = "what was in work at a crash comes again with the same message id, which the stream takes once within its duplicate window";
        return Promise { guarantee: Guarantee::EffectivelyOnce, why };
    }
    let why = "the source's position moves when the sink has confirmed; what was in work at a crash comes again";
    Promise { guarantee: Guarantee::AtLeastOnce, why }
}
