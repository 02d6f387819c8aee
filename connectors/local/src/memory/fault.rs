use portcullis_connector_api::{ConnectorError, ErrorKind, Message, Refusal, RefusalKind, SendError};

/// What can be made to go wrong at a channel.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The next messages are refused when they are sent.
    RefuseNext {
        /// How many.
        messages: u64,
        /// Why.
        kind: RefusalKind,
    },
    /// The next messages are taken, not stored, and confirmed as refused.
    RefuseLater {
        /// How many.
        messages: u64,
        /// Why.
        kind: RefusalKind,
    },
    /// The next messages are taken, not stored, and confirmed as failed.
    FailNext {
        /// How many.
        messages: u64,
    },
    /// The sink is full, and not ready, for the next sends.
    FullFor {
        /// How many; `u64::MAX` until it is healed.
        sends: u64,
    },
    /// Every send fails from now on: no message will be taken any more.
    Broken,
    /// The next polls of sources that read the channel fail.
    PollFails {
        /// How many.
        polls: u64,
        /// How.
        kind: ErrorKind,
    },
    /// The next acknowledgements of sources that read the channel fail and move nothing.
    AcknowledgeFails {
        /// How many calls.
        calls: u64,
        /// How.
        kind: ErrorKind,
    },
}

/// In which order confirmations go that were held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConfirmOrder {
    /// As the messages were sent.
    #[default]
    AsSent,
    /// The last first.
    Reversed,
}

type RefuseWhere = Box<dyn Fn(&Message) -> Option<Refusal> + Send>;

/// The faults of a channel that are still to happen.
#[derive(Default)]
pub(super) struct Faults {
    refuse_next: Counted<RefusalKind>,
    refuse_later: Counted<RefusalKind>,
    fail_next: Counted<()>,
    full_for: Counted<()>,
    broken: bool,
    poll_fails: Counted<ErrorKind>,
    acknowledge_fails: Counted<ErrorKind>,
    pub(super) refuse_where: Option<RefuseWhere>,
    /// How many confirmations may go; all when absent.
    pub(super) allowance: Option<u64>,
    pub(super) order: ConfirmOrder,
    /// Sinks keep what they take, and nothing is stored.
    pub(super) away: bool,
}

/// What happens to a message that is taken.
pub(super) enum Taken {
    Stored,
    Refused(Refusal),
    Failed,
}

impl Faults {
    pub(super) fn add(&mut self, fault: Fault) {
        match fault {
            Fault::RefuseNext { messages, kind } => self.refuse_next.add(messages, kind),
            Fault::RefuseLater { messages, kind } => self.refuse_later.add(messages, kind),
            Fault::FailNext { messages } => self.fail_next.add(messages, ()),
            Fault::FullFor { sends } => self.full_for.add(sends, ()),
            Fault::Broken => self.broken = true,
            Fault::PollFails { polls, kind } => self.poll_fails.add(polls, kind),
            Fault::AcknowledgeFails { calls, kind } => self.acknowledge_fails.add(calls, kind),
        }
    }

    pub(super) fn heal(&mut self) {
        let (allowance, order, away) = (self.allowance, self.order, self.away);
        *self = Self { allowance, order, away, ..Self::default() };
    }

    /// What happens to a message that is sent now.
    pub(super) fn send(&mut self, message: &Message) -> Result<Taken, SendError> {
        if self.broken {
            return Err(SendError::Fatal(ConnectorError::new(
                ErrorKind::Fatal,
                "the channel is broken, as was asked for",
            )));
        }
        if self.full_for.take().is_some() {
            return Err(SendError::Full);
        }
        if let Some(refusal) = self.refuse_where.as_ref().and_then(|refuse| refuse(message)) {
            return Err(SendError::Refused(refusal));
        }
        if let Some(kind) = self.refuse_next.take() {
            return Err(SendError::Refused(refusal(kind)));
        }
        if let Some(kind) = self.refuse_later.take() {
            return Ok(Taken::Refused(refusal(kind)));
        }
        Ok(if self.fail_next.take().is_some() { Taken::Failed } else { Taken::Stored })
    }

    pub(super) fn poll(&mut self) -> Result<(), ConnectorError> {
        let kind = self.poll_fails.take();
        kind.map_or(Ok(()), |kind| Err(ConnectorError::new(kind, "the poll failed, as was asked for")))
    }

    pub(super) fn acknowledge(&mut self) -> Result<(), ConnectorError> {
        let kind = self.acknowledge_fails.take();
        kind.map_or(Ok(()), |kind| Err(ConnectorError::new(kind, "the acknowledgement failed, as was asked for")))
    }

    pub(super) fn not_ready(&self) -> Option<String> {
        let what = if self.broken { Some("broken") } else { self.full_for.0.map(|_| "full") };
        what.map(|what| format!("the channel is {what}, as was asked for"))
    }
}

fn refusal(kind: RefusalKind) -> Refusal {
    Refusal { kind, detail: "refused, as was asked for".to_owned() }
}

/// Something that happens so many times more.
struct Counted<T>(Option<(u64, T)>);

impl<T> Default for Counted<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Copy> Counted<T> {
    fn add(&mut self, times: u64, what: T) {
        let before = self.0.map_or(0, |(times, _)| times);
        let times = before.saturating_add(times);
        self.0 = (times > 0).then_some((times, what));
    }

    fn take(&mut self) -> Option<T> {
        let (times, what) = self.0?;
        self.0 = (times > 1).then_some((times - 1, what));
        Some(what)
    }
}
