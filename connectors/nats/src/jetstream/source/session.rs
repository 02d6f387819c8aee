use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::client::PublishError;
use async_nats::{Client, Message, StatusCode, Subject, Subscriber};
use futures_util::{FutureExt, StreamExt};
use portcullis_connector_api::{Bytes, ConnectorError, ErrorKind};

use super::shared::{Arrived, Shared};
use crate::backoff::Backoff;
use crate::health::Health;
use crate::jetstream::api;
use crate::jetstream::delivery::Delivery;
use crate::jetstream::pulls::Pulls;
use crate::jetstream::setup::{self, Consumer};
use crate::link::{Link, Notice, within};
use crate::sessions::{self, End, Heard, Sessions};
use crate::settings::{Connection, JetStreamSourceSettings};
use crate::task::Stop;
use crate::{Count, Counters};

/// Between two looks at the clock.
const TICK: Duration = Duration::from_millis(100);
/// A pull request ends by itself after so many heartbeats.
const BEATS: u32 = 6;
/// After an answer that would be the same again, no request goes out for so long.
const REST: Duration = Duration::from_millis(250);
/// Pull requests at once: the next one is there when the first is used up.
const PULLS: usize = 2;
/// Looked at before anything else is.
const SLICE: usize = 512;
/// The server confirms an acknowledgement within this time, or is told again.
const CONFIRM: Duration = Duration::from_secs(3);
/// Acknowledgements that share one limit and one answer: over a slow link many thousands would never be done in time.
const TOLD_AT_ONCE: usize = 1024;
/// So many connections that break before a message comes are told as what they most likely are.
const FRUITLESS: u32 = 2;
/// Messages of the server beside those that were asked for.
const SPARE: usize = 64;

/// A source of a stream, to which connections are given.
pub(super) struct Stream {
    shared: Arc<Shared>,
    settings: Arc<JetStreamSourceSettings>,
    /// There was a consumer.
    begun: bool,
    /// Connections in a row that broke before a message came.
    fruitless: u32,
}

impl Stream {
    pub(super) fn new(shared: Arc<Shared>, settings: Arc<JetStreamSourceSettings>) -> Self {
        Self { shared, settings, begun: false, fruitless: 0 }
    }
}

impl Sessions for Stream {
    fn connection(&self) -> &Connection {
        &self.settings.connection
    }

    fn counters(&self) -> &Arc<Counters> {
        &self.settings.counters
    }

    fn health(&self) -> &Health {
        &self.shared.health
    }

    fn capacity(&self) -> usize {
        self.settings.window.messages.saturating_mul(2) + SPARE
    }

    async fn session(&mut self, link: Link, backoff: &mut Backoff, stop: Stop) -> End {
        let Self { shared, settings, begun, fruitless } = self;
        session(shared, settings, link, begun, fruitless, backoff, stop).await
    }

    fn died(&mut self, error: &ConnectorError) {
        self.shared.died(error);
    }
}

async fn session(
    shared: &Shared,
    settings: &JetStreamSourceSettings,
    link: Link,
    begun: &mut bool,
    fruitless: &mut u32,
    backoff: &mut Backoff,
    stop: Stop,
) -> End {
    let client = link.client.clone();
    let consumer = match setup::consumer(&client, settings, !*begun).await {
        Ok(consumer) => consumer,
        Err(error) if error.kind == ErrorKind::Retriable => return End::Lost(error.context),
        // It was there before, so it is not the configuration that is wrong.
        Err(error) if *begun => return gone(settings, &error.context),
        Err(error) => return End::Dead(error),
    };
    let inbox = client.new_inbox();
    let deliveries = client.subscribe(format!("{inbox}.p.*")).await;
    let confirmations = client.subscribe(format!("{inbox}.a.*")).await;
    let (Ok(deliveries), Ok(confirmations)) = (deliveries, confirmations) else { return End::lost() };
    *begun = true;
    backoff.worked();
    shared.begin(consumer.ack_wait);
    let mut session = Session {
        shared,
        settings,
        client,
        consumer,
        inbox,
        pulls: Pulls::default(),
        arrived: Vec::new(),
        awaited: VecDeque::new(),
        batch: 0,
        answered: 0,
        last_sign: Instant::now(),
        rest_until: None,
        // One that cannot be read breaks the connection; those behind it come by others.
        one_by_one: *fruitless > 0,
        troubled: false,
        heard: false,
        stop,
    };
    let end = session.work(link.notices, deliveries, confirmations).await;
    *fruitless = if session.heard { 0 } else { *fruitless + 1 };
    match end {
        Ok(()) => End::Stopped,
        Err(End::Lost(why)) if *fruitless >= FRUITLESS => End::Lost(format!(
            "{why}, {fruitless} times without a message in between: one of stream `{}` may have headers that are not text \
             in NATS's form, which the client cannot read",
            settings.stream
        )),
        Err(end) => end,
    }
}

pub(super) struct Session<'a> {
    pub(super) shared: &'a Shared,
    settings: &'a JetStreamSourceSettings,
    pub(super) client: Client,
    consumer: Consumer,
    pub(super) inbox: String,
    pulls: Pulls,
    arrived: Vec<Arrived>,
    /// Acknowledgements that the server has not confirmed, by batch.
    awaited: VecDeque<Awaited>,
    batch: u64,
    /// The last batch that the server has confirmed.
    answered: u64,
    /// When the server last said something about our requests.
    last_sign: Instant,
    /// After an error no request goes out for a moment.
    rest_until: Option<Instant>,
    /// The next message comes alone: it is larger than the window, or cannot be read.
    one_by_one: bool,
    troubled: bool,
    /// A message came.
    heard: bool,
    stop: Stop,
}

struct Awaited {
    batch: u64,
    sequences: Vec<i64>,
    since: Instant,
}

impl Session<'_> {
    async fn work(
        &mut self,
        mut notices: tokio::sync::mpsc::Receiver<Notice>,
        mut deliveries: Subscriber,
        mut confirmations: Subscriber,
    ) -> Result<(), End> {
        let mut listening = true;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.tell().await?;
            self.ask_for_more().await?;
            tokio::select! {
                message = deliveries.next() => {
                    let now = Instant::now();
                    self.delivered(message.ok_or_else(End::lost)?, now)?;
                    for _ in 0..SLICE {
                        match deliveries.next().now_or_never() {
                            Some(message) => self.delivered(message.ok_or_else(End::lost)?, now)?,
                            None => break,
                        }
                    }
                    self.shared.arrive(&mut self.arrived);
                }
                message = confirmations.next() => self.confirmed(&message.ok_or_else(End::lost)?),
                () = self.shared.wake.notified() => {}
                _ = tick.tick() => self.look_at_the_clock().await?,
                notice = notices.recv(), if listening => listening = self.notice(notice)?,
                () = self.stop.wait() => return self.leave(deliveries, confirmations).await,
            }
        }
    }

    /// Acknowledgements and signs of progress. The last acknowledgement of a batch asks for an answer; the server works
    /// through them in order, so the answer holds for all.
    pub(super) async fn tell(&mut self) -> Result<(), End> {
        let to_tell = self.shared.to_tell();
        self.shared.counters.add(Count::ProgressSignals, to_tell.signals.len() as u64);
        self.publish(to_tell.signals, b"+WPI").await?;
        let mut done = to_tell.done.into_iter().peekable();
        while done.peek().is_some() {
            let (sequences, replies) = done.by_ref().take(TOLD_AT_ONCE).unzip();
            self.publish_all(replies, b"+ACK").await?;
            self.awaited.push_back(Awaited { batch: self.batch, sequences, since: Instant::now() });
        }
        Ok(())
    }

    /// One limit for all: a timer for each would cost more than what it guards.
    async fn publish(&self, subjects: Vec<Subject>, what: &'static [u8]) -> Result<(), End> {
        let publishing = async {
            for subject in subjects {
                self.client.publish(subject, Bytes::from_static(what)).await?;
            }
            Ok::<_, PublishError>(())
        };
        within(CONFIRM, publishing).await.ok_or_else(|| End::stuck(CONFIRM))?.map_err(|_| End::lost())
    }

    /// The last asks for an answer.
    pub(super) async fn publish_all(&mut self, mut replies: Vec<Subject>, what: &'static [u8]) -> Result<(), End> {
        let Some(last) = replies.pop() else { return Ok(()) };
        self.publish(replies, what).await?;
        self.publish_with_answer(last, what).await
    }

    async fn publish_with_answer(&mut self, subject: Subject, what: &'static [u8]) -> Result<(), End> {
        self.batch += 1;
        let answer = format!("{}.a.{}", self.inbox, self.batch);
        let published = self.client.publish_with_reply(subject, answer, Bytes::from_static(what));
        within(CONFIRM, published).await.ok_or_else(|| End::stuck(CONFIRM))?.map_err(|_| End::lost())
    }

    pub(super) fn confirmed(&mut self, message: &Message) {
        if message.status.is_some() {
            // Nobody took it. It is told again when its time is over.
            return;
        }
        let batch = message.subject.rsplit('.').next().and_then(|number| number.parse().ok()).unwrap_or(0);
        self.answered = self.answered.max(batch);
        while let Some(front) = self.awaited.pop_front_if(|front| front.batch <= batch) {
            self.shared.confirmed(&front.sequences);
        }
    }

    async fn ask_for_more(&mut self) -> Result<(), End> {
        let at_once = if self.one_by_one { 1 } else { PULLS };
        if self.pulls.open() >= at_once || self.rest_until.is_some() {
            return Ok(());
        }
        let (held, held_bytes) = self.shared.held();
        let window = self.settings.window;
        let room = window.messages.saturating_sub(held + self.pulls.expected());
        // Many small requests would cost the server more than the messages.
        if room < window.messages.div_ceil(4).max(1) || held_bytes >= window.bytes {
            return Ok(());
        }
        let mut batch = room.min(window.messages.div_ceil(2).max(1));
        if let Some(max) = self.consumer.max_batch {
            batch = batch.min(max);
        }
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let mut question = serde_json::json!({
            "batch": if self.one_by_one { 1 } else { batch },
            "expires": nanos(self.settings.heartbeat * BEATS),
            "idle_heartbeat": nanos(self.settings.heartbeat),
        });
        if let (false, Some(question)) = (self.one_by_one, question.as_object_mut()) {
            question.insert("max_bytes".to_owned(), serde_json::json!((window.bytes / PULLS).max(1)));
        }
        let number = self.pulls.ask(if self.one_by_one { 1 } else { batch });
        if self.pulls.open() == 1 {
            self.last_sign = Instant::now();
        }
        let prefix = api::prefix(self.settings.connection.domain.as_deref());
        let subject = format!("{prefix}CONSUMER.MSG.NEXT.{}.{}", self.settings.stream, self.settings.consumer);
        let answer = format!("{}.p.{number}", self.inbox);
        let published = self.client.publish_with_reply(subject, answer, Bytes::from(question.to_string()));
        within(CONFIRM, published).await.ok_or_else(|| End::stuck(CONFIRM))?.map_err(|_| End::lost())
    }

    fn delivered(&mut self, mut message: Message, now: Instant) -> Result<(), End> {
        self.last_sign = now;
        if let Some(status) = message.status {
            return self.status(status, &message);
        }
        let delivery = message.reply.as_ref().and_then(|reply| Delivery::read(reply));
        let (Some(delivery), Some(reply)) = (delivery, message.reply.take()) else {
            tracing::warn!(subject = %message.subject, "a message that no stream delivered was passed over");
            return Ok(());
        };
        self.pulls.came();
        self.heard = true;
        self.one_by_one = false;
        if self.troubled {
            self.troubled = false;
            self.shared.health.well();
        }
        self.arrived.push(Arrived { delivery, reply, message, told: now });
        Ok(())
    }

    /// The server says how a request stands, under the subject that the request gave.
    fn status(&mut self, status: StatusCode, message: &Message) -> Result<(), End> {
        let number = message.subject.rsplit('.').next().and_then(|number| number.parse().ok()).unwrap_or_default();
        let why = message.description.clone().unwrap_or_default();
        let lower = why.to_ascii_lowercase();
        let (stream, consumer) = (&self.settings.stream, &self.settings.consumer);
        match status.as_u16() {
            100 => {
                if self.troubled {
                    self.troubled = false;
                    self.shared.health.well();
                }
            }
            404 | 408 => self.pulls.ended(number),
            409 if lower.contains("consumer deleted") || lower.contains("stream deleted") => {
                let what = format!("the consumer `{consumer}` of stream `{stream}` was deleted");
                return Err(gone(self.settings, &what));
            }
            409 if lower.contains("push based") => {
                let what = format!("the consumer `{consumer}` of stream `{stream}` is push based");
                return Err(End::configuration(what));
            }
            409 if lower.contains("exceeds maxbytes") => {
                self.pulls.ended(number);
                self.one_by_one = self.shared.held().0 == 0 && self.arrived.is_empty();
                if !self.one_by_one {
                    // The next request would be answered in the same way at once, until what is held is done.
                    self.rest_until = Some(Instant::now() + REST);
                }
            }
            409 if lower.contains("batch completed") => self.pulls.ended(number),
            503 => {
                self.pulls.ended(number);
                self.shared.counters.add(Count::NoResponders, 1);
                return Err(End::Lost(format!("nobody answers for the consumer `{consumer}` of stream `{stream}`")));
            }
            other => {
                self.pulls.ended(number);
                self.rest_until = Some(Instant::now() + REST);
                // A full set of requests of all members, a new leader, a server that stops: it passes.
                self.trouble(format!(
                    "the consumer `{consumer}` of stream `{stream}` delivers nothing: {why} ({other})"
                ));
            }
        }
        Ok(())
    }

    fn trouble(&mut self, why: String) {
        self.troubled = true;
        self.shared.health.troubled(why);
    }

    async fn look_at_the_clock(&mut self) -> Result<(), End> {
        let now = Instant::now();
        if self.rest_until.is_some_and(|until| until <= now) {
            self.rest_until = None;
        }
        if let Some(front) = self.awaited.pop_front_if(|front| now.duration_since(front.since) > CONFIRM) {
            self.shared.tell_again(front.sequences);
        }
        if self.pulls.open() > 0 && now.duration_since(self.last_sign) > self.settings.heartbeat * 2 {
            self.shared.counters.add(Count::MissedHeartbeats, 1);
            self.pulls.forget();
            self.last_sign = now;
            let silent = self.settings.heartbeat.as_millis() * 2;
            let (stream, consumer) = (&self.settings.stream, &self.settings.consumer);
            self.trouble(format!("the consumer `{consumer}` of stream `{stream}` was silent for {silent} ms"));
            // It may be gone, which nobody tells whose request has ended before.
            return match setup::consumer(&self.client, self.settings, false).await {
                Ok(_) => Ok(()),
                Err(error) if error.kind == ErrorKind::Retriable => Err(End::Lost(error.context)),
                Err(error) => Err(gone(self.settings, &error.context)),
            };
        }
        Ok(())
    }

    /// False when there will be no more: the connection is over, and what has come before that is read first.
    fn notice(&mut self, notice: Option<Notice>) -> Result<bool, End> {
        let Some(notice) = notice else { return Ok(false) };
        match sessions::heard(notice, &self.settings.connection, &self.shared.health)? {
            // Asked for, and not in memory: they come again after the consumer's wait.
            Heard::Dropped => Err(End::Lost("messages did not fit into the subscription".to_owned())),
            Heard::NoPublish(subject) | Heard::NoSubscribe(subject) => {
                Err(End::configuration(format!("the account must not use `{subject}`, which the consumer needs")))
            }
            Heard::Nothing => Ok(true),
        }
    }

    /// Nothing more is taken, what is done is confirmed, and what is not done is given back in its order.
    async fn leave(&mut self, mut deliveries: Subscriber, mut confirmations: Subscriber) -> Result<(), End> {
        let (mut undone, until) = self.shared.undone();
        let until = tokio::time::Instant::from_std(until);
        let leaving = async {
            deliveries.drain().await.map_err(|_| End::lost())?;
            while let Some(message) = deliveries.next().await {
                if message.status.is_none() {
                    self.delivered(message, Instant::now())?;
                }
            }
            let late = self.arrived.drain(..).map(|arrived| (arrived.delivery.sequence, arrived.reply));
            undone.extend(late);
            undone.sort_unstable_by_key(|(sequence, _)| *sequence);
            self.tell().await?;
            // The server lets go of our requests only when it looks at them, and to answer this it does. A message that it
            // took out for one of them would come again behind those that are given back after it.
            if setup::consumer(&self.client, self.settings, false).await.is_err() {
                tracing::debug!("the consumer did not answer at the end");
            }
            let replies = undone.drain(..).map(|(_, reply)| reply).collect();
            self.publish_all(replies, b"-NAK").await?;
            while self.answered < self.batch {
                self.confirmed(&confirmations.next().await.ok_or_else(End::lost)?);
            }
            Ok::<_, End>(())
        };
        if let Ok(Ok(())) = tokio::time::timeout_at(until, leaving).await {
            self.shared.left();
        }
        Ok(())
    }
}

fn gone(settings: &JetStreamSourceSettings, what: &str) -> End {
    settings.counters.add(Count::Gone, 1);
    let what = format!("{what}; its position is gone with it, so the pipeline does not go on by itself");
    End::Dead(ConnectorError::new(ErrorKind::Fatal, what))
}
