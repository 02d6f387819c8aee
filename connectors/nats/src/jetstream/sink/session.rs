use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::{Client, PublishErrorKind, Subscriber};
use futures_util::{FutureExt, StreamExt};
use portcullis_connector_api::{ConnectorError, ErrorKind, Fate, Receipt, Refusal, RefusalKind};

use super::answer::{self, Answer};
use super::clock::Clock;
use super::orphans::{Asker, BY_TEMPLATE, Orphans, Silence, Verdict};
use crate::backoff::Backoff;
use crate::failure::{self, NotStored};
use crate::health::Health;
use crate::jetstream::setup::{self, Destination};
use crate::link::{CAREFUL, Link, Notice, within};
use crate::outbox::{Outbox, Outgoing};
use crate::sessions::{self, End, Heard, Sessions};
use crate::settings::{Connection, JetStreamSinkSettings};
use crate::task::Stop;
use crate::{Count, Counters};

/// Sent before answers are looked at again.
const SLICE: usize = 256;
/// Between two looks at the clock.
const TICK: Duration = Duration::from_millis(100);
/// A stream that has been gone for so long does not come back by itself.
const GONE: Duration = Duration::from_secs(3);
/// Answers may be one more than the window for a moment.
const SPARE: usize = 64;
/// After a denial so few messages are under way that no other denial is lost.
const CARE: Duration = Duration::from_secs(60);

/// A sink of streams, to which connections are given.
pub(super) struct Publisher {
    outbox: Arc<Outbox>,
    settings: Arc<JetStreamSinkSettings>,
    /// Since when no stream has the subject.
    gone: Option<Instant>,
    /// When a message was denied, by whichever connection.
    denied: Option<Instant>,
    orphans: Orphans,
}

impl Publisher {
    pub(super) fn new(outbox: Arc<Outbox>, settings: Arc<JetStreamSinkSettings>) -> Self {
        Self { outbox, settings, gone: None, denied: None, orphans: Orphans::default() }
    }
}

impl Sessions for Publisher {
    fn connection(&self) -> &Connection {
        &self.settings.connection
    }

    fn counters(&self) -> &Arc<Counters> {
        &self.settings.counters
    }

    fn health(&self) -> &Health {
        &self.outbox.health
    }

    fn capacity(&self) -> usize {
        self.settings.window.messages + SPARE
    }

    async fn session(&mut self, link: Link, backoff: &mut Backoff, stop: Stop) -> End {
        let (holding, troubled, fates) = (false, false, Vec::new());
        let Self { outbox, settings, gone, denied, orphans } = self;
        let (clock, stopped, asker) = (Clock::new(), stop.clone(), Asker::new(&link.client, settings, orphans));
        let session = Session {
            outbox,
            settings,
            link,
            gone,
            denied,
            backoff,
            stop,
            holding,
            troubled,
            stored: None,
            orphans,
            asker,
            looked: Instant::now(),
            clock,
            fates,
        };
        sessions::until_stopped(stopped, session.run()).await
    }

    fn broken(&mut self) {
        self.outbox.start_again();
    }

    fn died(&mut self, error: &ConnectorError) {
        self.outbox.health.died(error);
        self.outbox.close();
    }
}

struct Session<'a> {
    outbox: &'a Outbox,
    settings: &'a JetStreamSinkSettings,
    link: Link,
    /// Since when no stream has the subject.
    gone: &'a mut Option<Instant>,
    denied: &'a mut Option<Instant>,
    backoff: &'a mut Backoff,
    stop: Stop,
    /// Messages are postponed: nothing more is sent until all others are answered.
    holding: bool,
    /// The stream could not take something, and has taken nothing since.
    troubled: bool,
    /// When a stream took something last.
    stored: Option<Instant>,
    orphans: &'a mut Orphans,
    asker: Asker<'a>,
    /// When messages in doubt were looked for.
    looked: Instant,
    clock: Clock,
    fates: Vec<(u64, Fate)>,
}

impl Session<'_> {
    async fn run(mut self) -> End {
        let client = self.link.client.clone();
        let inbox = client.new_inbox();
        let Ok(mut answers) = client.subscribe(format!("{inbox}.*")).await else {
            return End::lost();
        };
        let first = !self.outbox.health.has_begun();
        match setup::destination(&client, self.settings, first).await {
            Ok(Destination::There) => *self.gone = None,
            Ok(Destination::Nowhere) => return self.nowhere(),
            Err(error) if first => return self.unanswered(error),
            Err(error) => return End::of(error),
        }
        if first && let Err(error) = setup::may_ask(&client, self.settings).await {
            return self.unanswered(error);
        }
        self.outbox.health.well();
        match self.work(&client, &inbox, &mut answers).await {
            Err(end) => end,
        }
    }

    async fn work(&mut self, client: &Client, inbox: &str, answers: &mut Subscriber) -> Result<Infallible, End> {
        let mut outgoing = Vec::with_capacity(SLICE);
        let mut listening = true;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let slice = self.slice();
            self.outbox.next(slice, &mut outgoing);
            let more = outgoing.len() == SLICE;
            if !outgoing.is_empty() && self.outbox.in_flight() == outgoing.len() {
                self.clock.begins();
            }
            for message in outgoing.drain(..) {
                self.publish(client, inbox, message).await?;
            }
            self.read_what_is_there(answers)?;
            self.asker.go_on();
            while let Some(verdict) = self.asker.verdict().now_or_never() {
                self.judge_subject(verdict)?;
            }
            if self.holding && self.outbox.in_flight() == 0 {
                self.try_again(client).await?;
                continue;
            }
            if more {
                self.look_at_the_clock()?;
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                answer = answers.next() => {
                    self.read(&answer.ok_or_else(End::lost)?)?;
                    self.read_what_is_there(answers)?;
                }
                verdict = self.asker.verdict() => self.judge_subject(verdict)?,
                () = self.outbox.wake.notified(), if !self.holding => {}
                _ = tick.tick() => self.look_at_the_clock()?,
                notice = self.link.notices.recv(), if listening => listening = self.notice(notice)?,
            }
        }
    }

    /// How many may be sent now.
    fn slice(&self) -> usize {
        match (self.holding, self.denied.is_some_and(|at| at.elapsed() < CARE)) {
            (true, _) => 0,
            (false, true) => CAREFUL.saturating_sub(self.outbox.in_flight()),
            (false, false) => SLICE,
        }
    }

    async fn publish(&mut self, client: &Client, inbox: &str, message: Outgoing) -> Result<(), End> {
        let Outgoing { number, subject, mut headers, payload } = message;
        if self.orphans.holds(&subject) {
            // Behind those of its subject that wait already.
            self.outbox.park(number);
            return Ok(());
        }
        if let Some(stream) = &self.settings.stream {
            crate::carry::put(&mut headers, "Nats-Expected-Stream", stream);
        }
        let reply = format!("{inbox}.{number}");
        let published = client.publish_with_reply_and_headers(subject, reply, headers, payload);
        let Some(published) = within(self.settings.ack_timeout, published).await else {
            return Err(End::stuck(self.settings.ack_timeout));
        };
        let Err(error) = published else { return Ok(()) };
        let refuse = |kind, detail| (number, Fate::Refused(Refusal { kind, detail }));
        self.fates.push(match error.kind() {
            PublishErrorKind::Send => return Err(End::lost()),
            PublishErrorKind::MaxPayloadExceeded => {
                let limit = client.max_payload();
                refuse(RefusalKind::Oversize, format!("the server takes messages of up to {limit} bytes with headers"))
            }
            PublishErrorKind::InvalidSubject => {
                refuse(RefusalKind::Rejected, "the message's subject is not legal".to_owned())
            }
        });
        self.outbox.settle(&mut self.fates);
        Ok(())
    }

    /// Answers that have come already, settled together.
    fn read_what_is_there(&mut self, answers: &mut Subscriber) -> Result<(), End> {
        for _ in 0..SLICE {
            match answers.next().now_or_never() {
                Some(answer) => self.read(&answer.ok_or_else(End::lost)?)?,
                None => break,
            }
        }
        self.outbox.settle(&mut self.fates);
        Ok(())
    }

    fn read(&mut self, message: &async_nats::Message) -> Result<(), End> {
        let Some((number, answer)) = answer::read(message) else { return Ok(()) };
        self.clock.answered(number);
        let counters: &Counters = &self.outbox.counters;
        match answer {
            Answer::Stored { sequence, duplicate } => {
                counters.add(Count::Duplicates, u64::from(duplicate));
                if self.troubled && !self.holding {
                    self.troubled = false;
                    self.calm();
                }
                self.stored = Some(Instant::now());
                self.taken(number);
                self.backoff.worked();
                let receipt = Receipt { partition: None, offset: Some(sequence) };
                self.fates.push((number, Fate::Stored(receipt)));
            }
            Answer::NoResponders => {
                counters.add(Count::NoResponders, 1);
                match (self.outbox.subject(number), self.settings.subject.fixed()) {
                    (None, _) => {}
                    (Some(_), Some(fixed)) => self.later(number, format!("no stream answers for `{fixed}`")),
                    (Some(subject), None) => {
                        self.orphans.hold(&subject, Silence::NoResponders);
                        self.outbox.park_tried(&subject);
                        self.asker.ask(&subject);
                    }
                }
            }
            Answer::Error(error) => return self.judge(number, &error.description, error.code, error.err_code),
            Answer::Unreadable => {
                let detail = "somebody who is no stream answered for the message's subject".to_owned();
                self.fates.push((number, Fate::Refused(Refusal { kind: RefusalKind::Rejected, detail })));
            }
        }
        Ok(())
    }

    fn judge(&mut self, number: u64, description: &str, status: u16, code: u64) -> Result<(), End> {
        let Some(subject) = self.outbox.subject(number) else { return Ok(()) };
        let named = self.named(&subject);
        match failure::not_stored(status, code, description, &named, self.settings.subject.fixed().is_none()) {
            NotStored::Refused(refusal) => self.fates.push((number, Fate::Refused(refusal))),
            NotStored::Later(why) => self.later(number, why),
            NotStored::Never(error) => return Err(End::Dead(error)),
        }
        Ok(())
    }

    /// For logs and `/ready`: a subject by template holds what its message brought.
    fn named(&self, subject: &str) -> String {
        match self.settings.subject.fixed() {
            Some(_) => format!("`{subject}`"),
            None => BY_TEMPLATE.to_owned(),
        }
    }

    fn later(&mut self, number: u64, why: String) {
        self.outbox.postpone(number);
        self.hold_back(why);
    }

    fn hold_back(&mut self, why: String) {
        self.outbox.health.troubled(why);
        self.holding = true;
        self.troubled = true;
    }

    /// All are answered, some with "not now". Whether a stream is there at all is asked before they are sent again.
    async fn try_again(&mut self, client: &Client) -> Result<(), End> {
        self.stop.sleep(self.backoff.pause()).await;
        if let Some(fixed) = self.settings.subject.fixed() {
            let (connection, expected) = (&self.settings.connection, self.settings.stream.as_deref());
            match setup::of_subject(client, connection, fixed, &self.named(fixed), expected).await {
                Ok(Destination::There) => *self.gone = None,
                Ok(Destination::Nowhere) => return Err(self.nowhere()),
                Err(error) => return Err(End::of(error)),
            }
        }
        self.holding = false;
        self.clock.again();
        if !self.outbox.resume() && self.troubled {
            // What could not be taken was refused, and nothing else waits.
            self.troubled = false;
            self.calm();
        }
        Ok(())
    }

    fn calm(&self) {
        if !self.troubled && !self.asker.is_puzzled() {
            self.outbox.health.well();
        }
    }

    /// Whether a stream takes the subject of what was in doubt.
    fn judge_subject(&mut self, verdict: Verdict) -> Result<(), End> {
        let error = verdict.found.as_ref().err().filter(|error| error.kind == ErrorKind::Retriable);
        let (unanswered, was_puzzled) = (error.map(|error| error.context.clone()), self.asker.is_puzzled());
        self.asker.note(&verdict, unanswered.is_none());
        let Verdict { subject, asked, found } = verdict;
        if let Some(why) = unanswered {
            self.orphans.hold(&subject, Silence::Unknown);
            self.outbox.park_tried(&subject);
            // Others are stored meanwhile, so it is not the connection. Else another one may do better.
            if self.stored.is_none_or(|stored| stored < asked) {
                return Err(End::Lost(why));
            }
            self.outbox.health.troubled(why);
            return Ok(());
        }
        if was_puzzled {
            self.calm();
        }
        let silence = self.orphans.let_go(&subject);
        let why = match found {
            Ok(Destination::There) => {
                let has_no_leader = silence == Some(Silence::NoResponders);
                self.outbox.unpark(has_no_leader, |parked| parked == subject);
                if has_no_leader {
                    self.hold_back(format!("no stream answers for {BY_TEMPLATE}"));
                }
                return Ok(());
            }
            Ok(Destination::Nowhere) => "no stream takes the message's subject".to_owned(),
            Err(error) => error.context,
        };
        self.refuse(self.outbox.unsettled(|unsettled| unsettled == subject), &HashMap::from([(subject, why)]));
        self.backoff.worked();
        Ok(())
    }

    /// A stream has confirmed it, so a stream takes its subject.
    fn taken(&mut self, number: u64) {
        if !self.orphans.is_empty()
            && let Some(subject) = self.outbox.subject(number)
            && self.orphans.let_go(&subject).is_some()
        {
            self.outbox.unpark(false, |parked| *parked == *subject);
        }
    }

    /// Each with the reason for its subject.
    fn refuse(&mut self, numbers: Vec<u64>, subjects: &HashMap<String, String>) {
        for number in numbers {
            let Some(why) = self.outbox.subject(number).and_then(|subject| subjects.get(&*subject)) else { continue };
            self.fates.push((number, Fate::Refused(Refusal { kind: RefusalKind::Rejected, detail: why.clone() })));
        }
        self.outbox.settle(&mut self.fates);
    }

    /// The server says it once for each message. While some of them may have been lost, one counts for all of its subject.
    fn denied(&mut self, subject: String) {
        let careful = self.denied.replace(Instant::now()).is_some_and(|at| at.elapsed() < CARE);
        let why = "the account must not publish to the message's subject".to_owned();
        let mut numbers = self.outbox.tried(|_, tried| tried == subject);
        numbers.truncate(if careful { 1 } else { usize::MAX });
        self.refuse(numbers, &HashMap::from([(subject, why)]));
    }

    /// JetStream answers, and no stream is there.
    fn nowhere(&mut self) -> End {
        let what = match (self.settings.subject.fixed(), &self.settings.stream) {
            (Some(subject), _) => format!("no stream takes the subject `{subject}`"),
            (None, Some(stream)) => format!("there is no stream `{stream}`"),
            (None, None) => "there is no stream".to_owned(),
        };
        if !self.outbox.health.has_begun() {
            return End::configuration(what);
        }
        // It was there before: it may be being made anew.
        let since = *self.gone.get_or_insert_with(Instant::now);
        match since.elapsed() >= GONE {
            true => {
                self.outbox.counters.add(Count::Gone, 1);
                End::Dead(ConnectorError::new(ErrorKind::Fatal, format!("{what} any more")))
            }
            false => End::Lost(what),
        }
    }

    fn look_at_the_clock(&mut self) -> Result<(), End> {
        let (limit, by_template) = (self.settings.ack_timeout, self.settings.subject.fixed().is_none());
        if by_template && self.looked.elapsed() >= TICK {
            self.looked = Instant::now();
            self.look_for_doubts();
        }
        let Some(why) = self.clock.verdict(self.outbox.oldest_in_flight(), limit) else { return Ok(()) };
        if by_template {
            for subject in self.outbox.subjects_in_flight(self.clock.given_up(limit)) {
                if !self.asker.knows(&subject) {
                    self.orphans.hold(&subject, Silence::Unknown);
                }
            }
        }
        Err(End::Lost(why))
    }

    /// Somebody who is no stream may listen to a subject that a producer chose, and answers to nothing.
    fn look_for_doubts(&mut self) {
        let before = self.clock.doubtful();
        if self.outbox.oldest_in_flight().is_none_or(|oldest| oldest >= before) {
            return;
        }
        for subject in self.outbox.subjects_in_flight(before) {
            if !self.asker.knows(&subject) {
                self.asker.ask(&subject);
            }
        }
    }

    /// Of a question at the very beginning. One that the server denies is never answered: what it says beside that is why.
    fn unanswered(&mut self, error: ConnectorError) -> End {
        while error.kind == ErrorKind::Retriable
            && let Ok(notice) = self.link.notices.try_recv()
        {
            match sessions::heard(notice, &self.settings.connection, &self.outbox.health) {
                Ok(Heard::NoPublish(subject)) => {
                    return End::configuration(format!("the account must not ask on `{subject}`"));
                }
                Ok(_) => {}
                Err(end) => return end,
            }
        }
        End::of(error)
    }

    /// False when there will be no more: the connection is over, and what was answered before that is read first.
    fn notice(&mut self, notice: Option<Notice>) -> Result<bool, End> {
        let Some(notice) = notice else { return Ok(false) };
        match sessions::heard(notice, &self.settings.connection, &self.outbox.health)? {
            Heard::Dropped => return Err(End::Lost("confirmations were lost".to_owned())),
            Heard::NoPublish(subject) if self.settings.subject.fixed().is_some() => {
                return Err(End::configuration(format!("the account must not publish to `{subject}`")));
            }
            // No message has a subject of this kind: it is that of a question.
            Heard::NoPublish(subject) if subject.starts_with('$') => {
                tracing::warn!("the account must not ask on `{subject}`");
            }
            Heard::NoPublish(subject) => self.denied(subject),
            Heard::NoSubscribe(subject) => {
                let what = format!("the account must not subscribe to `{subject}`, which confirmations need");
                return Err(End::configuration(what));
            }
            Heard::Nothing => {}
        }
        Ok(true)
    }
}
