//! The way back from a sink: its thread puts what became of a message where the intake finds it.

use std::sync::Arc;

use portcullis_connector_api::{Confirm, Fate, Token};
use portcullis_flow::Completions;

use super::work::Completion;

/// Reports for the pipeline's sink.
pub(super) struct SinkConfirm(pub(super) Arc<Completions<Completion>>);

impl Confirm for SinkConfirm {
    fn confirm(&self, token: Token, fate: Fate) {
        self.0.push(match fate {
            Fate::Stored(_) => Completion::Stored(token),
            Fate::Refused(refusal) => Completion::Refused(token, Box::new(refusal)),
            Fate::Failed(error) => Completion::Broken(Box::new(error)),
        });
    }
}

/// Reports for the dead letter queue.
pub(super) struct DeadLetterConfirm(pub(super) Arc<Completions<Completion>>);

impl Confirm for DeadLetterConfirm {
    fn confirm(&self, token: Token, fate: Fate) {
        self.0.push(match fate {
            Fate::Stored(receipt) => Completion::DeadLettered(token, receipt),
            Fate::Refused(refusal) => Completion::DeadLetterRefused(token, Box::new(refusal)),
            Fate::Failed(error) => Completion::Broken(Box::new(error)),
        });
    }
}
