mod leave;
mod session;
mod shared;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::Subject;
use portcullis_connector_api::conformance::{Exemption, Rule};
use portcullis_connector_api::{
    AckMode, Acknowledgement, AssignmentId, Batch, Budget, Channel, ConnectorError, Defect, ErrorKind, Event, Record,
    Source, Timestamp,
};

use super::delivery::Delivery;
use super::setup;
use crate::carry::Origin;
use crate::settings::JetStreamSourceSettings;
use crate::task::Task;
use crate::{Count, carry, link, subject};

use shared::{Arrived, BySequence, Shared};

/// What the suite does not ask of a consumer of a stream.
pub const JETSTREAM_SOURCE_EXEMPTIONS: &[Exemption] =
    &[Exemption { rule: Rule::RevocationHoldsBack, reason: "members share a consumer by message: nothing is revoked" }];

const ASSIGNMENT: AssignmentId = AssignmentId(0);
/// For a durable acknowledgement.
const CONFIRM: Duration = Duration::from_secs(10);
/// For a source that is dropped without `close`.
const CLOSE: Duration = Duration::from_secs(5);

/// A durable pull consumer as a source. See the contract of [`Source`].
///
/// Every message is acknowledged by itself and only when the pipeline says that it is done. While it is in work the server
/// gets a sign of progress three times within the consumer's `ack_wait`, as long as the pipeline polls. An acknowledgement
/// counts as made when the server has confirmed it: the last of each batch asks for that, and the server works through them
/// in order. What the server delivers again although it is in work or done is not handed out again.
pub struct JetStreamSource {
    shared: Arc<Shared>,
    settings: Arc<JetStreamSourceSettings>,
    /// `None` only after `close`.
    task: Option<Task>,
    assigned: bool,
    paused: bool,
    /// Handed out and not acknowledged, by place in the stream.
    in_work: BySequence<InWork>,
    next_signal: Instant,
    origin: Origin,
    pending: u64,
}

/// How the server is told about a message.
struct InWork {
    reply: Subject,
    /// When it was delivered or signalled.
    told: Instant,
}

impl JetStreamSource {
    /// Starts connecting. Returns at once; what is wrong with servers, stream and consumer shows in `poll`.
    ///
    /// # Errors
    /// `Configuration` for a setting that cannot work.
    pub fn new(settings: JetStreamSourceSettings) -> Result<Self, ConnectorError> {
        link::judge(&settings.connection)?;
        let configuration = |what: String| ConnectorError::new(ErrorKind::Configuration, what);
        setup::judge_stream(&settings.stream, settings.create_stream.as_ref())?;
        subject::name(&settings.consumer)
            .map_err(|what| configuration(format!("{:?} is no consumer name: {what}", settings.consumer)))?;
        for filter in settings.filter_subjects.iter().flatten() {
            subject::pattern(filter).map_err(|what| configuration(format!("{filter:?} is no subject: {what}")))?;
        }
        let wait = settings.create_consumer.as_ref().map(|spec| spec.ack_wait);
        if wait.is_some_and(|wait| wait < setup::LEAST_ACK_WAIT) {
            return Err(configuration(
                "`ack_wait` is below 3 s, which leaves no time for signs of progress".to_owned(),
            ));
        }
        let settings = Arc::new(settings);
        let shared = Arc::new(Shared::new(Arc::clone(&settings.counters)));
        let of = session::Stream::new(Arc::clone(&shared), Arc::clone(&settings));
        let task = Task::start(move |stop| crate::sessions::run(of, stop))?;
        let origin = Origin::new("", settings.key);
        Ok(Self {
            shared,
            settings,
            task: Some(task),
            assigned: false,
            paused: false,
            in_work: BySequence::default(),
            next_signal: Instant::now(),
            origin,
            pending: 0,
        })
    }

    /// Hands out what has arrived, as far as the budget goes.
    fn deliver(&mut self, budget: Budget, arrived: &mut Vec<Arrived>, batch: &mut Batch) {
        let (mut messages, mut bytes) = (0, 0);
        let mut rest = arrived.drain(..);
        while messages < budget.messages && bytes < budget.bytes {
            let Some(next) = rest.next() else { break };
            let Some(record) = self.record(next) else { continue };
            messages += 1;
            bytes += record.message.size_bytes();
            batch.records.push(record);
        }
        let rest: Vec<Arrived> = rest.collect();
        self.shared.give_back(rest);
    }

    /// The message, unless it is in work or done.
    fn record(&mut self, arrived: Arrived) -> Option<Record> {
        let Arrived { delivery, reply, message, told } = arrived;
        let counters = &self.settings.counters;
        self.pending = delivery.pending;
        counters.add(Count::Redelivered, u64::from(delivery.count > 1));
        if let Some(in_work) = self.in_work.get_mut(&delivery.sequence) {
            // The server gave up waiting. Only its newest word counts from now on.
            counters.add(Count::RedeliveredInWork, 1);
            *in_work = InWork { reply, told };
            return None;
        }
        if self.shared.acknowledge_again(delivery.sequence, &reply) {
            counters.add(Count::RedeliveredInWork, 1);
            return None;
        }
        self.in_work.insert(delivery.sequence, InWork { reply, told });
        Some(self.decode(delivery, message))
    }

    fn decode(&mut self, delivery: Delivery, message: async_nats::Message) -> Record {
        let origin = self.origin.moved_to(&message.subject);
        let stored = Timestamp::Appended(delivery.stored_ms);
        let (message, defect) = carry::decode(message.headers.as_ref(), message.payload, origin, stored);
        self.settings.counters.add(Count::Undecodable, u64::from(defect.is_some()));
        Record {
            message,
            assignment: ASSIGNMENT,
            offset: delivery.sequence,
            redelivered: u32::try_from(delivery.count.saturating_sub(1)).unwrap_or(u32::MAX),
            defect: defect.map(|Defect { detail }| Box::new(Defect { detail })),
        }
    }

    /// Tells the server of what is slow, handed out or not.
    fn signal_progress(&mut self) {
        let Some(ack_wait) = self.shared.ack_wait() else { return };
        let now = Instant::now();
        if now < self.next_signal {
            return;
        }
        // Looked at six times within the wait, told three times: a sign has time to arrive.
        self.next_signal = now + ack_wait / 6;
        let due = ack_wait / 3;
        let mut signals = Vec::new();
        for slow in self.in_work.values_mut().filter(|in_work| now.duration_since(in_work.told) >= due) {
            slow.told = now;
            signals.push(slow.reply.clone());
        }
        self.shared.signal(signals, now, due);
    }
}

impl Source for JetStreamSource {
    fn ack_mode(&self) -> AckMode {
        AckMode::Each
    }

    fn poll(&mut self, budget: Budget, wait: Duration, batch: &mut Batch) -> Result<(), ConnectorError> {
        self.signal_progress();
        if self.paused || budget.messages == 0 || budget.bytes == 0 {
            if self.paused && budget.messages > 0 {
                self.shared.wait_for_nothing(wait);
            }
        } else {
            let mut arrived = self.shared.take(budget, wait);
            if !self.assigned && !arrived.is_empty() {
                self.assigned = true;
                let channel = Channel::from(self.settings.stream.as_str());
                batch.events.push(Event::Assigned { id: ASSIGNMENT, channel, partition: 0 });
            }
            self.deliver(budget, &mut arrived, batch);
        }
        self.shared.health.error().map_or(Ok(()), Err)
    }

    fn acknowledge(&mut self, done: &[Acknowledgement], durable: bool) -> Result<(), ConnectorError> {
        let ours = done.iter().filter(|done| done.assignment == ASSIGNMENT);
        let done = ours.filter_map(|done| Some((done.offset, self.in_work.remove(&done.offset)?.reply))).collect();
        self.shared.acknowledge(done);
        match durable {
            true => self.shared.wait_until_confirmed(CONFIRM),
            false => Ok(()),
        }
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

    fn lag(&self) -> Vec<(AssignmentId, u64)> {
        if self.assigned { vec![(ASSIGNMENT, self.pending.saturating_add(self.shared.waiting()))] } else { Vec::new() }
    }

    fn degraded(&self) -> Option<String> {
        self.shared.health.degraded()
    }

    fn close(mut self: Box<Self>, deadline: Duration) -> Result<(), ConnectorError> {
        self.leave(deadline)
    }
}

impl Drop for JetStreamSource {
    fn drop(&mut self) {
        if let Err(error) = self.leave(CLOSE) {
            tracing::warn!(%error, "a JetStream source was dropped without close");
        }
    }
}
