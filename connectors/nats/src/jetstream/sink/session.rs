use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::{Client, PublishErrorKind, Subscriber};
use futures_util::{FutureExt, StreamExt, stream};
use portcullis_connector_api::{ConnectorError, ErrorKind, Fate, Receipt, Refusal, RefusalKind};

use super::answer::{self, Answer};
use super::clock::Clock;
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
/// Subjects asked about at once.
const QUESTIONS: usize = 64;

/// A sink of streams, to which connections are given.
pub(super) struct Publisher {
    outbox: Arc<Outbox>,
    settings: Arc<JetStreamSinkSettings>,
    /// Since when no stream has the subject.
    gone: Option<Instant>,
    /// When a message was denied, by whichever connection.
    denied: Option<Instant>,
    /// Subjects that nobody answered for, or that no stream does.
    orphans: BTreeSet<String>,
}

impl Publisher {
    pub(super) fn new(outbox: Arc<Outbox>, settings: Arc<JetStreamSinkSettings>) -> Self {
        Self { outbox, settings, gone: None, denied: None, orphans: BTreeSet::new() }
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
        let clock = Clock::new();
        Session { outbox, settings, link, gone, denied, backoff, stop, holding, troubled, orphans, clock, fates }
            .run()
            .await
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
    /// Subjects that nobody answered for, or that no stream does.
    orphans: &'a mut BTreeSet<String>,
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
            Err(error) => return End::of(error),
        }
        if let Err(end) = self.ask_about_orphans(&client).await {
            return end;
        }
        self.outbox.health.well();
        match self.work(&client, &inbox, &mut answers).await {
            Ok(()) => End::Stopped,
            Err(end) => end,
        }
    }

    async fn work(&mut self, client: &Client, inbox: &str, answers: &mut Subscriber) -> Result<(), End> {
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
                () = self.outbox.wake.notified(), if !self.holding => {}
                _ = tick.tick() => self.look_at_the_clock()?,
                notice = self.link.notices.recv(), if listening => listening = self.notice(notice)?,
                () = self.stop.wait() => return Ok(()),
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
                    self.outbox.health.well();
                }
                self.backoff.worked();
                let receipt = Receipt { partition: None, offset: Some(sequence) };
                self.fates.push((number, Fate::Stored(receipt)));
            }
            Answer::NoResponders => {
                counters.add(Count::NoResponders, 1);
                if let Some(subject) = self.outbox.subject(number) {
                    self.later(number, format!("no stream answers for {}", self.named(&subject)));
                    self.orphans.insert(subject.to_string());
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
            None => "a subject by template".to_owned(),
        }
    }

    fn later(&mut self, number: u64, why: String) {
        self.outbox.postpone(number);
        self.outbox.health.troubled(why);
        self.holding = true;
        self.troubled = true;
    }

    /// All are answered, some with "not now". Whether a stream is there at all is asked before they are sent again.
    async fn try_again(&mut self, client: &Client) -> Result<(), End> {
        self.stop.sleep(self.backoff.pause()).await;
        self.ask_about_orphans(client).await?;
        self.holding = false;
        self.clock.again();
        if !self.outbox.resume() && self.troubled {
            // What could not be taken was refused, and nothing else waits.
            self.troubled = false;
            self.outbox.health.well();
        }
        Ok(())
    }

    /// About all of them at once: producers may choose subjects, and each that no stream takes must not cost a pause.
    async fn ask_about_orphans(&mut self, client: &Client) -> Result<(), End> {
        let fixed = self.settings.subject.fixed().is_some();
        let (connection, expected) = (&self.settings.connection, self.settings.stream.as_deref());
        let questions = std::mem::take(self.orphans).into_iter().map(|subject| async move {
            let found = setup::of_subject(client, connection, &subject, expected).await;
            (subject, found)
        });
        let mut answers = stream::iter(questions).buffer_unordered(QUESTIONS);
        let mut refused = HashMap::new();
        while let Some((subject, found)) = answers.next().await {
            match found {
                Ok(Destination::There) => *self.gone = None,
                Ok(Destination::Nowhere) if fixed => return Err(self.nowhere()),
                Ok(Destination::Nowhere) => {
                    drop(refused.insert(subject, "no stream takes the message's subject".to_owned()))
                }
                Err(error) if error.kind == ErrorKind::Retriable => return Err(End::Lost(error.context)),
                Err(error) if fixed => return Err(End::Dead(error)),
                Err(error) => drop(refused.insert(subject, error.context)),
            }
        }
        if !refused.is_empty() {
            self.refuse(self.outbox.unsettled(|subject| refused.contains_key(subject)), &refused);
            self.backoff.worked();
        }
        Ok(())
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
            true => End::Dead(ConnectorError::new(ErrorKind::Fatal, format!("{what} any more"))),
            false => End::Lost(what),
        }
    }

    fn look_at_the_clock(&mut self) -> Result<(), End> {
        match self.clock.verdict(self.outbox.oldest_in_flight(), self.settings.ack_timeout) {
            Some(why) => {
                // Somebody who is no stream may listen to a subject that a producer chose, and answers to nothing.
                if self.settings.subject.fixed().is_none() {
                    self.orphans.extend(self.outbox.subjects_in_flight());
                }
                Err(End::Lost(why))
            }
            None => Ok(()),
        }
    }

    /// False when there will be no more: the connection is over, and what was answered before that is read first.
    fn notice(&mut self, notice: Option<Notice>) -> Result<bool, End> {
        let Some(notice) = notice else { return Ok(false) };
        match sessions::heard(notice, &self.settings.connection)? {
            Heard::Dropped => return Err(End::Lost("confirmations were lost".to_owned())),
            Heard::NoPublish(subject) if self.settings.subject.fixed().is_some() => {
                return Err(End::configuration(format!("the account must not publish to `{subject}`")));
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
