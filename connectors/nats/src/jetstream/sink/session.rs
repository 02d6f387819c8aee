use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::{Client, PublishErrorKind, Subscriber};
use futures_util::{FutureExt, StreamExt};
use portcullis_connector_api::{ConnectorError, ErrorKind, Fate, Receipt, Refusal, RefusalKind};

use super::answer::{self, Answer};
use crate::backoff::Backoff;
use crate::failure::{self, NotStored, Said};
use crate::jetstream::setup::{self, Destination};
use crate::link::{self, Link, Notice, within};
use crate::outbox::{Outbox, Outgoing};
use crate::settings::JetStreamSinkSettings;
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

/// Why a session is over.
enum End {
    Stopped,
    Lost(String),
    Dead(ConnectorError),
}

/// Connection after connection, until the end.
pub(super) async fn run(outbox: Arc<Outbox>, settings: Arc<JetStreamSinkSettings>, mut stop: Stop) {
    let mut backoff = Backoff::new();
    let mut gone = None;
    for attempt in 0.. {
        let capacity = settings.window.messages + SPARE;
        let linked = tokio::select! {
            linked = link::connect(&settings.connection, attempt, capacity, &settings.counters) => linked,
            () = stop.wait() => return,
        };
        let end = match linked {
            Ok(link) => {
                let end = Session::new(&outbox, &settings, link, &mut gone, &mut backoff, stop.clone()).run().await;
                settings.counters.add(Count::Disconnects, 1);
                end
            }
            Err(error) if error.kind == ErrorKind::Retriable => End::Lost(error.context),
            Err(error) => End::Dead(error),
        };
        match end {
            End::Stopped => return,
            End::Lost(why) => outbox.health.troubled(why),
            End::Dead(error) => {
                outbox.health.died(&error);
                return outbox.close();
            }
        }
        outbox.start_again();
        stop.sleep(backoff.pause()).await;
        if stop.requested() {
            return;
        }
    }
}

struct Session<'a> {
    outbox: &'a Outbox,
    settings: &'a JetStreamSinkSettings,
    link: Link,
    /// Since when no stream has the subject.
    gone: &'a mut Option<Instant>,
    backoff: &'a mut Backoff,
    stop: Stop,
    /// Messages are postponed: nothing more is sent until all others are answered.
    holding: bool,
    /// The stream could not take something, and has taken nothing since.
    troubled: bool,
    /// A subject that no stream answered for.
    orphan: Option<String>,
    last_answer: Instant,
    fates: Vec<(u64, Fate)>,
}

impl<'a> Session<'a> {
    fn new(
        outbox: &'a Outbox,
        settings: &'a JetStreamSinkSettings,
        link: Link,
        gone: &'a mut Option<Instant>,
        backoff: &'a mut Backoff,
        stop: Stop,
    ) -> Self {
        let (holding, troubled, orphan, fates) = (false, false, None, Vec::new());
        let last_answer = Instant::now();
        Self { outbox, settings, link, gone, backoff, stop, holding, troubled, orphan, last_answer, fates }
    }

    async fn run(mut self) -> End {
        let client = self.link.client.clone();
        let inbox = client.new_inbox();
        let Ok(mut answers) = client.subscribe(format!("{inbox}.*")).await else {
            return lost();
        };
        let first = !self.outbox.health.has_begun();
        match setup::destination(&client, self.settings, first).await {
            Ok(Destination::There) => *self.gone = None,
            Ok(Destination::Nowhere) => return self.nowhere(),
            Err(error) if error.kind == ErrorKind::Retriable => return End::Lost(error.context),
            Err(error) => return End::Dead(error),
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
            if !self.holding {
                self.outbox.next(SLICE, &mut outgoing);
            }
            let more = outgoing.len() == SLICE;
            if !outgoing.is_empty() && self.outbox.in_flight() == outgoing.len() {
                self.last_answer = Instant::now();
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
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                answer = answers.next() => {
                    self.read(&answer.ok_or_else(lost)?)?;
                    self.read_what_is_there(answers)?;
                }
                () = self.outbox.wake.notified(), if !self.holding => {}
                _ = tick.tick() => self.look_at_the_clock()?,
                notice = self.link.notices.recv(), if listening => listening = self.notice(notice)?,
                () = self.stop.wait() => return Ok(()),
            }
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
            return Err(End::Lost("the server takes no more bytes".to_owned()));
        };
        let Err(error) = published else { return Ok(()) };
        let refuse = |kind, detail| (number, Fate::Refused(Refusal { kind, detail }));
        self.fates.push(match error.kind() {
            PublishErrorKind::Send => return Err(lost()),
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
                Some(answer) => self.read(&answer.ok_or_else(lost)?)?,
                None => break,
            }
        }
        self.outbox.settle(&mut self.fates);
        Ok(())
    }

    fn read(&mut self, message: &async_nats::Message) -> Result<(), End> {
        let Some((number, answer)) = answer::read(message) else { return Ok(()) };
        self.last_answer = Instant::now();
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
                    self.orphan = Some(subject.to_string());
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
        if let Some(subject) = self.orphan.take() {
            let expected = self.settings.stream.as_deref();
            match setup::of_subject(client, &self.settings.connection, &subject, expected).await {
                Ok(Destination::There) => *self.gone = None,
                Ok(Destination::Nowhere) if self.settings.subject.fixed().is_some() => return Err(self.nowhere()),
                Ok(Destination::Nowhere) => self.refuse(&subject, "no stream takes the message's subject"),
                Err(error) if error.kind == ErrorKind::Retriable => return Err(End::Lost(error.context)),
                Err(error) if self.settings.subject.fixed().is_some() => return Err(End::Dead(error)),
                Err(error) => self.refuse(&subject, &error.context),
            }
        }
        self.holding = false;
        if !self.outbox.resume() && self.troubled {
            // What could not be taken was refused, and nothing else waits.
            self.troubled = false;
            self.outbox.health.well();
        }
        Ok(())
    }

    fn refuse(&mut self, subject: &str, why: &str) {
        let refusal = || Refusal { kind: RefusalKind::Rejected, detail: why.to_owned() };
        let numbers = self.outbox.tried(|_, tried| tried == subject);
        self.fates.extend(numbers.into_iter().map(|number| (number, Fate::Refused(refusal()))));
        self.outbox.settle(&mut self.fates);
    }

    /// JetStream answers, and no stream is there.
    fn nowhere(&mut self) -> End {
        let what = match (self.settings.subject.fixed(), &self.settings.stream) {
            (Some(subject), _) => format!("no stream takes the subject `{subject}`"),
            (None, Some(stream)) => format!("there is no stream `{stream}`"),
            (None, None) => "there is no stream".to_owned(),
        };
        if !self.outbox.health.has_begun() {
            return End::Dead(ConnectorError::new(ErrorKind::Configuration, what));
        }
        // It was there before: it may be being made anew.
        let since = *self.gone.get_or_insert_with(Instant::now);
        match since.elapsed() >= GONE {
            true => End::Dead(ConnectorError::new(ErrorKind::Fatal, format!("{what} any more"))),
            false => End::Lost(what),
        }
    }

    fn look_at_the_clock(&mut self) -> Result<(), End> {
        if self.outbox.in_flight() > 0 && self.last_answer.elapsed() > self.settings.ack_timeout {
            let waited = self.settings.ack_timeout.as_millis();
            return Err(End::Lost(format!("no stream has confirmed a message for {waited} ms")));
        }
        Ok(())
    }

    /// False when there will be no more: the connection is over, and what was answered before that is read first.
    fn notice(&mut self, notice: Option<Notice>) -> Result<bool, End> {
        match notice {
            None => return Ok(false),
            Some(Notice::LameDuck) if self.settings.connection.servers.len() > 1 => {
                return Err(End::Lost("the server is about to shut down".to_owned()));
            }
            Some(Notice::LameDuck) => tracing::warn!("the only NATS server that is given is about to shut down"),
            Some(Notice::Dropped) => return Err(End::Lost("confirmations were lost".to_owned())),
            Some(Notice::Error(line)) => match failure::said(&line) {
                Said::NoPublish(subject) if self.settings.subject.fixed().is_some() => {
                    return Err(End::Dead(forbidden(&subject)));
                }
                Said::NoPublish(subject) => {
                    self.refuse(&subject, "the account must not publish to the message's subject");
                }
                Said::NoSubscribe(subject) => {
                    return Err(End::Dead(ConnectorError::new(
                        ErrorKind::Configuration,
                        format!("the account must not subscribe to `{subject}`, which confirmations need"),
                    )));
                }
                Said::Other => tracing::warn!("the server says: {line}"),
            },
        }
        Ok(true)
    }
}

fn forbidden(subject: &str) -> ConnectorError {
    ConnectorError::new(ErrorKind::Configuration, format!("the account must not publish to `{subject}`"))
}

fn lost() -> End {
    End::Lost("the connection to NATS is lost".to_owned())
}
