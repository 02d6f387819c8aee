use std::time::Duration;

use portcullis_connector_api::{ConnectorError, ErrorKind};

use super::JetStreamSource;

impl JetStreamSource {
    /// Gives back what is not done, so that it comes again at once and not after the consumer's wait, here or elsewhere.
    pub(super) fn leave(&mut self, deadline: Duration) -> Result<(), ConnectorError> {
        let Some(task) = self.task.take() else { return Ok(()) };
        let undone = self.in_work.drain().map(|(sequence, in_work)| (sequence, in_work.reply)).collect();
        self.shared.give_up(undone, deadline);
        if task.end(deadline) && self.shared.left_cleanly() {
            return Ok(());
        }
        Err(ConnectorError::new(
            ErrorKind::Retriable,
            format!(
                "the consumer was not told everything within {} ms; what it was not told comes again after its wait",
                deadline.as_millis()
            ),
        ))
    }
}
