//! A sink that stores nothing and says where each message would be stored.

use std::sync::Arc;
use std::time::Duration;

use portcullis_connector_api::{Confirm, ConnectorError, ErrorKind, Fate, Message, Receipt, SendError, Sink, Token};

use super::report::{End, Report};
use crate::connectors::Preview;

pub(super) struct DrySink {
    preview: Preview,
    end: End,
    report: Arc<Report>,
    confirm: Arc<dyn Confirm>,
}

impl DrySink {
    pub(super) fn new(preview: Preview, end: End, report: Arc<Report>, confirm: Arc<dyn Confirm>) -> Self {
        Self { preview, end, report, confirm }
    }
}

impl Sink for DrySink {
    fn send(&self, message: &Message, token: Token) -> Result<(), SendError> {
        let place = self.preview.place(message)?;
        self.report.placed(token, self.end, message, &place);
        self.confirm.confirm(token, Fate::Stored(Receipt::default()));
        Ok(())
    }

    fn wait_for_room(&self, _: Duration) {}

    fn unconfirmed(&self) -> u64 {
        0
    }

    fn drain(&self, _: Duration) -> u64 {
        0
    }

    fn check(&self, wait: Duration) -> Result<(), ConnectorError> {
        // A run would wait until somebody answers; here somebody waits for the run.
        self.preview.check(wait).map_err(|error| match error.kind {
            ErrorKind::Retriable => ConnectorError { kind: ErrorKind::Fatal, ..error },
            _ => error,
        })
    }
}
