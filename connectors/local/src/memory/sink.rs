use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use portcullis_connector_api::{
    Confirm, ConnectorError, ErrorKind, Fate, Message, Refusal, RefusalKind, SendError, Sink, Token,
};

use super::fault::Taken;
use super::state::{Pending, State};
use super::{MemoryBroker, MemorySinkSettings};

/// A sink of the in-memory broker. A message is stored when it is sent, or when its channel comes back; a thread of its own
/// confirms it.
pub struct MemorySink {
    broker: Arc<MemoryBroker>,
    settings: MemorySinkSettings,
    id: u64,
}

impl MemorySink {
    pub(super) fn start(
        broker: Arc<MemoryBroker>,
        settings: MemorySinkSettings,
        confirm: Arc<dyn Confirm>,
    ) -> Result<Self, ConnectorError> {
        let id = broker.with(|state| {
            let id = u64::from(state.number());
            state.sinks.insert(id, Pending::default());
            id
        });
        let theirs = Arc::clone(&broker);
        let started =
            thread::Builder::new().name("memory-sink".to_owned()).spawn(move || run(&theirs, id, confirm.as_ref()));
        started.map_err(|error| {
            ConnectorError::new(ErrorKind::Fatal, "cannot start the thread of a sink").caused_by(error)
        })?;
        Ok(Self { broker, settings, id })
    }

    fn take(&self, state: &mut State, message: &Message, token: Token) -> Result<(), SendError> {
        let channel = self.settings.destination.render(message).map_err(SendError::Refused)?;
        let refused = |kind, detail: String| SendError::Refused(Refusal { kind, detail });
        state.exists(&channel).map_err(|error| refused(RefusalKind::Rejected, error.to_string()))?;
        let (found, allowed) = (message.size_bytes(), self.settings.max_message_bytes);
        if found > allowed {
            let detail = format!("the message has {found} bytes; at most {allowed} are allowed");
            return Err(refused(RefusalKind::Oversize, detail));
        }
        if self.unconfirmed_in(state) >= self.settings.queue_messages.max(1) {
            return Err(SendError::Full);
        }
        if state.sinks.get(&self.id).is_none_or(|pending| pending.abandoned) {
            return Err(SendError::Fatal(ConnectorError::new(ErrorKind::Fatal, "the sink was given up")));
        }
        let taken = state.faults(&channel).send(message)?;
        if matches!(taken, Taken::Stored) && state.faults(&channel).away {
            if let Some(pending) = state.sinks.get_mut(&self.id) {
                pending.unsent.push_back((channel.into_owned(), message.clone(), token));
                pending.unconfirmed += 1;
            }
            return Ok(());
        }
        let fate = match taken {
            Taken::Stored => Fate::Stored(state.store(&channel, message.clone()).map_err(SendError::Fatal)?),
            Taken::Refused(refusal) => Fate::Refused(refusal),
            Taken::Failed => Fate::Failed(ConnectorError::new(ErrorKind::Fatal, "failed, as was asked for")),
        };
        if let Some(pending) = state.sinks.get_mut(&self.id) {
            pending.fates.push_back((channel.into_owned(), token, fate));
            pending.unconfirmed += 1;
        }
        Ok(())
    }

    fn unconfirmed_in(&self, state: &State) -> u64 {
        state.sinks.get(&self.id).map_or(0, |pending| pending.unconfirmed)
    }
}

impl Sink for MemorySink {
    fn send(&self, message: &Message, token: Token) -> Result<(), SendError> {
        self.broker.with(|state| self.take(state, message, token))
    }

    fn wait_for_room(&self, wait: Duration) {
        let deadline = Instant::now() + wait;
        let mut state = self.broker.lock();
        let before = self.unconfirmed_in(&state);
        while before > 0 && self.unconfirmed_in(&state) >= before {
            match self.broker.wait_for_change(state, deadline) {
                Some(woken) => state = woken,
                None => return,
            }
        }
    }

    fn unconfirmed(&self) -> u64 {
        self.unconfirmed_in(&self.broker.lock())
    }

    fn not_ready(&self) -> Option<String> {
        self.settings.destination.fixed().and_then(|channel| self.broker.lock().not_ready(channel))
    }

    fn drain(&self, wait: Duration) -> u64 {
        self.broker.wait_until(wait, |state| self.unconfirmed_in(state) == 0);
        self.unconfirmed()
    }

    fn abandon(&self) {
        self.broker.with(|state| {
            if let Some(pending) = state.sinks.get_mut(&self.id) {
                pending.abandoned = true;
                pending.fail_unsent();
            }
        });
    }

    fn check(&self, _: Duration) -> Result<(), ConnectorError> {
        self.settings.destination.fixed().map_or(Ok(()), |channel| self.broker.lock().exists(channel))
    }
}

impl Drop for MemorySink {
    fn drop(&mut self) {
        self.broker.with(|state| {
            if let Some(pending) = state.sinks.get_mut(&self.id) {
                pending.closing = true;
            }
        });
        // The confirmations that it owes are made before it is gone; a callback that hangs is not waited for for ever.
        self.broker.wait_until(Duration::from_secs(5), |state| !state.sinks.contains_key(&self.id));
    }
}

fn run(broker: &MemoryBroker, id: u64, confirm: &dyn Confirm) {
    loop {
        let mut state = broker.lock();
        let ready = loop {
            let ready = state.confirmable(id);
            let closing = state.sinks.get(&id).is_none_or(|pending| pending.closing);
            if !ready.is_empty() || closing {
                break ready;
            }
            state = broker.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        drop(state);
        let count = ready.len() as u64;
        for (token, fate) in ready {
            confirm.confirm(token, fate);
        }
        let ended = broker.with(|state| {
            let Some(pending) = state.sinks.get_mut(&id) else {
                return true;
            };
            pending.unconfirmed = pending.unconfirmed.saturating_sub(count);
            let ended = pending.closing && pending.fates.is_empty();
            if ended {
                state.sinks.remove(&id);
            }
            ended
        });
        if ended {
            return;
        }
    }
}
