mod mark;
mod session;

use std::sync::Arc;
use std::time::Duration;

use portcullis_connector_api::conformance::Exemption;
use portcullis_connector_api::{Confirm, ConnectorError, ErrorKind, Message, SendError, Sink, Token};

use crate::link;
use crate::outbox::Outbox;
use crate::settings::CoreSinkSettings;
use crate::subject;
use crate::task::Task;

/// Who is subscribed gets everything that the suite asks for.
pub const CORE_SINK_EXEMPTIONS: &[Exemption] = &[];

const CLOSE: Duration = Duration::from_secs(5);

/// Publishes to subjects. A message is confirmed when the server has it, which says nothing about who was subscribed. See
/// the contract of [`Sink`].
pub struct CoreSink {
    outbox: Arc<Outbox>,
    settings: Arc<CoreSinkSettings>,
    task: Task,
}

impl CoreSink {
    /// Starts connecting. Returns at once; what is wrong with the servers shows in `check`.
    ///
    /// # Errors
    /// `Configuration` for a setting that cannot work.
    pub fn new(settings: CoreSinkSettings, confirm: Arc<dyn Confirm>) -> Result<Self, ConnectorError> {
        link::judge(&settings.connection)?;
        if let Some(fixed) = settings.subject.fixed() {
            subject::legal(fixed).map_err(|what| {
                ConnectorError::new(ErrorKind::Configuration, format!("{fixed:?} is no subject: {what}"))
            })?;
        }
        let outbox = Arc::new(Outbox::new(settings.window, confirm, Arc::clone(&settings.counters)));
        let settings = Arc::new(settings);
        let of = session::Publisher { outbox: Arc::clone(&outbox), settings: Arc::clone(&settings) };
        let task = Task::start_apart(move |stop| crate::sessions::run_apart(of, stop))?;
        Ok(Self { outbox, settings, task })
    }
}

impl Sink for CoreSink {
    fn send(&self, message: &Message, token: Token) -> Result<(), SendError> {
        let subject = self.settings.subject.of(message).map_err(SendError::Refused)?;
        self.outbox.take(message, &subject, None, token)
    }

    fn wait_for_room(&self, wait: Duration) {
        self.outbox.wait_for_room(wait);
    }

    fn unconfirmed(&self) -> u64 {
        self.outbox.unconfirmed()
    }

    fn not_ready(&self) -> Option<String> {
        self.outbox.health.trouble()
    }

    fn degraded(&self) -> Option<String> {
        self.outbox.health.degraded()
    }

    fn drain(&self, wait: Duration) -> u64 {
        self.outbox.drain(wait)
    }

    fn abandon(&self) {
        self.outbox.give_up();
        // The connection ends with the task, and with it what async-nats still holds.
        if !self.task.end(CLOSE) {
            tracing::warn!(
                "a NATS sink that was given up did not end in time; its connection stays until the process ends"
            );
        }
        self.outbox.close();
    }

    fn check(&self, wait: Duration) -> Result<(), ConnectorError> {
        self.outbox.health.wait_for_beginning(wait)
    }
}

impl Drop for CoreSink {
    fn drop(&mut self) {
        if !self.task.end(CLOSE) {
            tracing::warn!("a NATS sink did not end in time; its connection stays until the process ends");
        }
        self.outbox.close();
    }
}
