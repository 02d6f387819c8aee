mod session;

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::Message;
use portcullis_connector_api::conformance::{Exemption, Rule};
use portcullis_connector_api::{
    AckMode, Acknowledgement, AssignmentId, Batch, Budget, Channel, ConnectorError, ErrorKind, Event, Record, Source,
    Timestamp,
};

use crate::carry::Origin;
use crate::health::Health;
use crate::settings::{CoreSourceSettings, Window};
use crate::task::Task;
use crate::{Count, carry, link, sessions, subject};

/// What the suite does not ask of core NATS, which remembers nothing.
pub const CORE_SOURCE_EXEMPTIONS: &[Exemption] = &[
    Exemption { rule: Rule::RevocationHoldsBack, reason: "a subscription is never taken away" },
    Exemption { rule: Rule::UnacknowledgedComesAgain, reason: "what was delivered is gone: at most once" },
    Exemption { rule: Rule::AcknowledgedStays, reason: "a subscription starts with what comes next" },
    Exemption { rule: Rule::LateAcknowledgementIsHarmless, reason: "core NATS has no acknowledgements" },
];

const ASSIGNMENT: AssignmentId = AssignmentId(0);
const CLOSE: Duration = Duration::from_secs(5);

/// Subscriptions as a source: what is published while it is there, and nothing else. See the contract of [`Source`].
///
/// What comes faster than the pipeline takes it waits in the window; beyond it the newest is dropped and counted, because
/// core NATS cannot wait. What is published while the connection is broken is lost and cannot be counted.
pub struct CoreSource {
    shared: Arc<Shared>,
    settings: Arc<CoreSourceSettings>,
    task: Option<Task>,
    assigned: bool,
    paused: bool,
    offset: i64,
    origin: Origin,
}

struct Shared {
    state: Mutex<State>,
    arrived: Condvar,
    health: Health,
    bound: Window,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Message>,
    bytes: usize,
}

impl CoreSource {
    /// Starts connecting. Returns at once; what is wrong with the servers shows in `poll`.
    ///
    /// # Errors
    /// `Configuration` for a setting that cannot work.
    pub fn new(settings: CoreSourceSettings) -> Result<Self, ConnectorError> {
        link::judge(&settings.connection)?;
        let configuration = |what: String| ConnectorError::new(ErrorKind::Configuration, what);
        if settings.subjects.is_empty() {
            return Err(configuration("no subject is given".to_owned()));
        }
        for pattern in &settings.subjects {
            subject::pattern(pattern).map_err(|what| configuration(format!("{pattern:?} is no subject: {what}")))?;
        }
        if let Some(group) = &settings.queue_group {
            subject::name(group).map_err(|what| configuration(format!("{group:?} is no queue group: {what}")))?;
        }
        let origin = Origin::new("", settings.key);
        let settings = Arc::new(settings);
        let (state, arrived, health) = Default::default();
        let shared = Arc::new(Shared { state, arrived, health, bound: settings.window });
        let of = session::Subjects { shared: Arc::clone(&shared), settings: Arc::clone(&settings) };
        let task = Some(Task::start(move |stop| sessions::run(of, stop))?);
        Ok(Self { shared, settings, task, assigned: false, paused: false, offset: 0, origin })
    }

    /// Waits until the server has the subscriptions: what is published from then on comes.
    ///
    /// # Errors
    /// What is wrong until then.
    pub fn wait_until_subscribed(&self, wait: Duration) -> Result<(), ConnectorError> {
        self.shared.health.wait_for_beginning(wait)
    }

    fn record(&mut self, message: Message) -> Record {
        let origin = self.origin.moved_to(&message.subject);
        let headers = message.headers.as_ref();
        let (message, defect) = carry::decode(headers, message.payload, origin, Timestamp::Unknown);
        self.settings.counters.add(Count::Undecodable, u64::from(defect.is_some()));
        self.offset += 1;
        let (offset, redelivered, defect) = (self.offset, 0, defect.map(Box::new));
        Record { message, assignment: ASSIGNMENT, offset, redelivered, defect }
    }
}

impl Shared {
    /// What fits; the rest is lost, and how much that is is returned.
    fn arrive(&self, messages: &mut Vec<Message>) -> u64 {
        let mut dropped = 0;
        let mut state = self.state();
        for message in messages.drain(..) {
            if state.queue.len() >= self.bound.messages || state.bytes >= self.bound.bytes {
                dropped += 1;
            } else {
                state.bytes += message.length;
                state.queue.push_back(message);
            }
        }
        drop(state);
        self.arrived.notify_one();
        dropped
    }

    fn wait_for_something(&self, wait: Duration) -> MutexGuard<'_, State> {
        let nothing = |state: &mut State| state.queue.is_empty() && !self.health.is_dead();
        let waited = self.arrived.wait_timeout_while(self.state(), wait, nothing);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for CoreSource {
    fn ack_mode(&self) -> AckMode {
        AckMode::None
    }

    fn poll(&mut self, budget: Budget, wait: Duration, batch: &mut Batch) -> Result<(), ConnectorError> {
        if !self.assigned && self.shared.health.has_begun() {
            self.assigned = true;
            let channel = Channel::from(self.settings.subjects.join(","));
            batch.events.push(Event::Assigned { id: ASSIGNMENT, channel, partition: 0 });
        }
        if self.paused && budget.messages > 0 {
            let alive = |_: &mut State| !self.shared.health.is_dead();
            drop(self.shared.arrived.wait_timeout_while(self.shared.state(), wait, alive));
        } else if self.assigned && budget.messages > 0 && budget.bytes > 0 {
            let shared = Arc::clone(&self.shared);
            let mut state = shared.wait_for_something(wait);
            let (mut messages, mut bytes) = (0, 0);
            while messages < budget.messages && bytes < budget.bytes {
                let Some(message) = state.queue.pop_front() else { break };
                state.bytes -= message.length;
                let record = self.record(message);
                messages += 1;
                bytes += record.message.size_bytes();
                batch.records.push(record);
            }
        } else if !self.assigned && budget.messages > 0 {
            drop(self.shared.wait_for_something(wait.min(Duration::from_millis(20))));
        }
        self.shared.health.error().map_or(Ok(()), Err)
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

    fn degraded(&self) -> Option<String> {
        self.shared.health.degraded()
    }

    fn close(mut self: Box<Self>, deadline: Duration) -> Result<(), ConnectorError> {
        let ended = self.task.take().is_none_or(|task| task.end(deadline));
        let late = || ConnectorError::new(ErrorKind::Retriable, "the subscription did not end in time");
        let left = self.shared.state().queue.len() as u64;
        self.settings.counters.add(Count::Dropped, left);
        if ended { Ok(()) } else { Err(late()) }
    }
}

impl Drop for CoreSource {
    fn drop(&mut self) {
        if self.task.take().is_some_and(|task| !task.end(CLOSE)) {
            tracing::warn!("a NATS source did not end in time; its connection stays until the process ends");
        }
    }
}
