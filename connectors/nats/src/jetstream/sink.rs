mod answer;
mod clock;
mod orphans;
mod session;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use portcullis_connector_api::conformance::Exemption;
use portcullis_connector_api::{Confirm, ConnectorError, ErrorKind, Message, Origin, SendError, Sink, Token};

use super::id::Ids;
use super::setup;
use crate::link;
use crate::outbox::Outbox;
use crate::settings::JetStreamSinkSettings;
use crate::subject;
use crate::task::Task;

/// Streams keep every rule of the suite.
pub const JETSTREAM_SINK_EXEMPTIONS: &[Exemption] = &[];

/// For the task's end, after which it is left to the end of the process.
const CLOSE: Duration = Duration::from_secs(5);

/// Publishes into streams: each message has an id by which the stream knows it again, and is confirmed when the stream has
/// it. See the contract of [`Sink`].
///
/// Order: one connection carries everything, and after it breaks, what is unconfirmed is sent again in order; what the
/// stream has already it knows by its id. A message that the stream could not take for a moment (its leader moves, it is
/// full) comes behind those that were sent in the same window and were taken.
pub struct JetStreamSink {
    outbox: Arc<Outbox>,
    settings: Arc<JetStreamSinkSettings>,
    ids: Ids,
    without_origin: AtomicU64,
    task: Task,
}

impl JetStreamSink {
    /// Starts connecting. Returns at once; what is wrong with servers and streams shows in `check`.
    ///
    /// # Errors
    /// `Configuration` for a setting that cannot work.
    pub fn new(settings: JetStreamSinkSettings, confirm: Arc<dyn Confirm>) -> Result<Self, ConnectorError> {
        link::judge(&settings.connection)?;
        let configuration = |what: String| ConnectorError::new(ErrorKind::Configuration, what);
        if let Some(fixed) = settings.subject.fixed() {
            subject::legal(fixed).map_err(|what| configuration(format!("{fixed:?} is no subject: {what}")))?;
        }
        match (&settings.stream, &settings.create_stream) {
            (Some(stream), spec) => setup::judge_stream(stream, spec.as_ref())?,
            (None, Some(_)) => return Err(configuration("a stream to be created needs its name".to_owned())),
            (None, None) => {}
        }
        let outbox = Arc::new(Outbox::new(settings.window, confirm, Arc::clone(&settings.counters)));
        let settings = Arc::new(settings);
        let ids = Ids::new(&settings.id_prefix);
        let of = session::Publisher::new(Arc::clone(&outbox), Arc::clone(&settings));
        let task = Task::start_apart(move |stop| crate::sessions::run_apart(of, stop))?;
        Ok(Self { outbox, settings, ids, without_origin: AtomicU64::new(0), task })
    }

    fn send_as(&self, message: &Message, id: String, token: Token) -> Result<(), SendError> {
        let subject = self.settings.subject.of(message).map_err(SendError::Refused)?;
        self.outbox.take(message, &subject, Some(id), token)
    }
}

impl Sink for JetStreamSink {
    fn send(&self, message: &Message, token: Token) -> Result<(), SendError> {
        let number = self.without_origin.fetch_add(1, Ordering::Relaxed);
        self.send_as(message, self.ids.without_origin(number), token)
    }

    fn send_from(&self, message: &Message, origin: Origin<'_>, token: Token) -> Result<(), SendError> {
        self.send_as(message, self.ids.of(&origin), token)
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

impl Drop for JetStreamSink {
    fn drop(&mut self) {
        if !self.task.end(CLOSE) {
            tracing::warn!("a NATS sink did not end in time; its connection stays until the process ends");
        }
        self.outbox.close();
    }
}
