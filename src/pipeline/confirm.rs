//! The way back from a sink, which all sources of a pipeline share: its thread puts what became of a message where the
//! intake of the message's source finds it.

use std::sync::Arc;

use portcullis_connector_api::{Confirm, Fate, Token};
use portcullis_flow::Completions;

use super::tap::{At, Seen, Sight, Taps};
use super::work::{Completion, source_of};

/// Reports for the pipeline's sink.
pub(super) struct SinkConfirm {
    pub(super) ways: Vec<Arc<Completions<Completion>>>,
    pub(super) taps: Arc<Taps>,
}

impl Confirm for SinkConfirm {
    fn confirm(&self, token: Token, fate: Fate) {
        if let Some(watching) = self.taps.watching()
            && let Fate::Stored(receipt) = fate
        {
            watching.tell(At::Sink, &Seen { token, position: None, sight: Sight::Stored(receipt) });
        }
        tell(
            &self.ways,
            token,
            match fate {
                Fate::Stored(_) => Completion::Stored(token),
                Fate::Refused(refusal) => Completion::Refused(token, Box::new(refusal)),
                Fate::Failed(error) => Completion::Broken(Box::new(error)),
            },
        );
    }
}

/// Reports for the dead letter queue.
pub(super) struct DeadLetterConfirm(pub(super) Vec<Arc<Completions<Completion>>>);

impl Confirm for DeadLetterConfirm {
    fn confirm(&self, token: Token, fate: Fate) {
        tell(
            &self.0,
            token,
            match fate {
                Fate::Stored(receipt) => Completion::DeadLettered(token, receipt),
                Fate::Refused(refusal) => Completion::DeadLetterRefused(token, Box::new(refusal)),
                Fate::Failed(error) => Completion::Broken(Box::new(error)),
            },
        );
    }
}

fn tell(ways: &[Arc<Completions<Completion>>], token: Token, completion: Completion) {
    match ways.get(source_of(token)) {
        Some(way) => way.push(completion),
        None => tracing::error!("a sink has confirmed a message that no source has sent"),
    }
}
