//! A stream read without a consumer.

use std::time::{Duration, Instant};

use async_nats::Client;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::RawMessage;
use portcullis_connector_api::{
    AckMode, Acknowledgement, AssignmentId, Batch, Budget, Channel, ConnectorError, ErrorKind, Event, Record, Source,
    Timestamp,
};
use serde_json::{Value, json};

use super::api::{self, Unanswered};
use super::setup;
use crate::carry::Origin;
use crate::failure::MESSAGE_NOT_FOUND;
use crate::settings::JetStreamSourceSettings;
use crate::{carry, link, runtime, subject};

const ASSIGNMENT: AssignmentId = AssignmentId(0);
/// Between two questions for a message that is not there yet.
const PAUSE: Duration = Duration::from_millis(100);
/// Deliveries that a subscription holds; there is one for the answer to a question.
const CAPACITY: usize = 64;

/// What a durable consumer would be given next, read message by message from the stream itself. The consumer is looked at and
/// not touched, none is made beside it, and the stream keeps nothing longer for it: a consumer without acknowledgements would
/// be refused by a stream of retention `work_queue`, and would hold messages back in one of retention `interest`.
///
/// It begins behind the consumer's acknowledgement floor; what was acknowledged out of order above it is read too.
pub struct JetStreamReader {
    settings: JetStreamSourceSettings,
    client: Option<Client>,
    attempt: usize,
    place: Option<Place>,
    assigned: bool,
    paused: bool,
    origin: Origin,
}

/// How far the stream was read.
struct Place {
    next: u64,
    /// Each subject with its next message, where that is known.
    filters: Vec<(String, Option<StreamMessage>)>,
}

impl JetStreamReader {
    /// Asks nobody yet; what is wrong with servers, stream and consumer shows in `poll`.
    ///
    /// # Errors
    /// `Configuration` for a setting that cannot work.
    pub fn new(settings: JetStreamSourceSettings) -> Result<Self, ConnectorError> {
        link::judge(&settings.connection)?;
        let configuration = |what: String| ConnectorError::new(ErrorKind::Configuration, what);
        setup::judge_stream(&settings.stream, settings.create_stream.as_ref())?;
        subject::name(&settings.consumer)
            .map_err(|what| configuration(format!("{:?} is no consumer name: {what}", settings.consumer)))?;
        let origin = Origin::new("", settings.key);
        Ok(Self { settings, client: None, attempt: 0, place: None, assigned: false, paused: false, origin })
    }

    async fn read(&mut self, budget: Budget, wait: Duration, batch: &mut Batch) -> Result<(), ConnectorError> {
        let deadline = Instant::now() + wait;
        let client = self.connected().await?;
        if self.place.is_none() {
            let (next, filters) = setup::beginning(&client, &self.settings).await?;
            self.place = Some(Place { next, filters: filters.into_iter().map(|filter| (filter, None)).collect() });
        }
        if !std::mem::replace(&mut self.assigned, true) {
            let channel = Channel::from(self.settings.stream.as_str());
            batch.events.push(Event::Assigned { id: ASSIGNMENT, channel, partition: 0 });
        }
        let (mut messages, mut bytes) = (0, 0);
        while messages < budget.messages && bytes < budget.bytes {
            if let Some(message) = self.next(&client).await? {
                let record = self.record(message);
                messages += 1;
                bytes += record.message.size_bytes();
                batch.records.push(record);
                continue;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if messages > 0 || left.is_zero() {
                break;
            }
            tokio::time::sleep(PAUSE.min(left)).await;
        }
        Ok(())
    }

    async fn connected(&mut self) -> Result<Client, ConnectorError> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        self.attempt = self.attempt.wrapping_add(1);
        let connection = &self.settings.connection;
        let link = link::connect(connection, self.attempt, CAPACITY, &self.settings.counters).await?;
        Ok(self.client.insert(link.client).clone())
    }

    /// The first message, of all subjects together, that was not read.
    async fn next(&mut self, client: &Client) -> Result<Option<StreamMessage>, ConnectorError> {
        let Some(place) = &mut self.place else { return Ok(None) };
        for (filter, known) in place.filters.iter_mut().filter(|(_, known)| known.is_none()) {
            match ask(client, &self.settings, place.next, filter).await {
                Ok(found) => *known = found,
                Err(error) => {
                    // A connection lives once: the next poll makes another.
                    self.client = None;
                    return Err(error);
                }
            }
        }
        let first = place.filters.iter().filter_map(|(_, known)| known.as_ref()).map(|known| known.sequence).min();
        let Some(first) = first else { return Ok(None) };
        place.next = setup::behind(&self.settings.stream, first)?;
        let mut found = None;
        // Two filters may have the same message.
        for (_, known) in &mut place.filters {
            found = known.take_if(|known| known.sequence == first).or(found);
        }
        Ok(found)
    }

    fn record(&mut self, message: StreamMessage) -> Record {
        let stored_ms = i64::try_from(message.time.unix_timestamp_nanos() / 1_000_000).unwrap_or_default();
        let (headers, origin) = (Some(&message.headers), self.origin.moved_to(&message.subject));
        let (read, defect) = carry::decode(headers, message.payload, origin, Timestamp::Appended(stored_ms));
        Record {
            message: read,
            assignment: ASSIGNMENT,
            offset: i64::try_from(message.sequence).unwrap_or(i64::MAX),
            redelivered: 0,
            defect: defect.map(Box::new),
        }
    }
}

/// The first message of a subject at this place or behind it.
async fn ask(
    client: &Client,
    settings: &JetStreamSourceSettings,
    next: u64,
    filter: &str,
) -> Result<Option<StreamMessage>, ConnectorError> {
    let stream = &settings.stream;
    let subject = format!("{}STREAM.MSG.GET.{stream}", api::prefix(settings.connection.domain.as_deref()));
    let question = json!({ "seq": next, "next_by_subj": filter });
    let cannot = |why: String| {
        ConnectorError::new(ErrorKind::Retriable, format!("cannot read the stream `{stream}` from {next} on: {why}"))
    };
    match api::ask(client, subject, Some(question), settings.connection.timeout).await {
        Ok(mut answer) => {
            let message = answer.get_mut("message").map(Value::take).unwrap_or_default();
            let raw: RawMessage = serde_json::from_value(message).map_err(|error| cannot(error.to_string()))?;
            let sequence = raw.sequence;
            let unreadable = |error: async_nats::Error| {
                let what = format!("message {sequence} of the stream `{stream}` cannot be read: {error}");
                ConnectorError::new(ErrorKind::Fatal, what)
            };
            StreamMessage::try_from(raw).map(Some).map_err(unreadable)
        }
        Err(Unanswered::Error(error)) if error.err_code == MESSAGE_NOT_FOUND => Ok(None),
        Err(error) => Err(cannot(error.to_string())),
    }
}

impl Source for JetStreamReader {
    fn ack_mode(&self) -> AckMode {
        AckMode::Each
    }

    fn poll(&mut self, budget: Budget, wait: Duration, batch: &mut Batch) -> Result<(), ConnectorError> {
        if self.paused || budget.messages == 0 || budget.bytes == 0 {
            return Ok(());
        }
        runtime::handle()?.block_on(self.read(budget, wait, batch))
    }

    fn acknowledge(&mut self, _: &[Acknowledgement], _: bool) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn pause(&mut self, _: &[AssignmentId]) -> Result<(), ConnectorError> {
        self.paused = true;
        Ok(())
    }

    fn resume(&mut self, _: &[AssignmentId]) -> Result<(), ConnectorError> {
        self.paused = false;
        Ok(())
    }

    fn release(&mut self, _: &[AssignmentId]) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn close(self: Box<Self>, _: Duration) -> Result<(), ConnectorError> {
        Ok(())
    }
}
