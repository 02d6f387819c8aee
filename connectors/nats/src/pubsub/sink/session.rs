use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::{Client, PublishErrorKind};
use portcullis_connector_api::{ConnectorError, Fate, Receipt, Refusal, RefusalKind};

use super::mark::{self, Mark};
use crate::backoff::Backoff;
use crate::health::Health;
use crate::link::{CAREFUL, ECHO, Link, Notice, within};
use crate::outbox::{Outbox, Outgoing};
use crate::sessions::{self, End, Heard, Sessions};
use crate::settings::{Connection, CoreSinkSettings, InDoubt};
use crate::task::Stop;
use crate::{Count, Counters};

/// Sent before the server is asked whether it has them.
const SLICE: usize = 256;
const TICK: Duration = Duration::from_millis(100);

/// A sink of subjects, to which connections are given.
pub(super) struct Publisher {
    pub(super) outbox: Arc<Outbox>,
    pub(super) settings: Arc<CoreSinkSettings>,
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
        mark::CAPACITY
    }

    async fn session(&mut self, link: Link, backoff: &mut Backoff, stop: Stop) -> End {
        sessions::until_stopped(stop, session(&self.outbox, &self.settings, link, backoff)).await
    }

    fn broken(&mut self) {
        in_doubt(&self.outbox, &self.settings);
    }

    fn died(&mut self, error: &ConnectorError) {
        self.outbox.health.died(error);
        self.outbox.close();
    }
}

/// Whether the server had these cannot be known.
fn in_doubt(outbox: &Outbox, settings: &CoreSinkSettings) {
    let numbers = outbox.tried(|_, _| true);
    settings.counters.add(Count::InDoubt, numbers.len() as u64);
    match settings.in_doubt {
        InDoubt::Resend => outbox.start_again(),
        InDoubt::Drop => outbox.settle(&mut numbers.into_iter().map(stored).collect()),
    }
}

fn stored(number: u64) -> (u64, Fate) {
    (number, Fate::Stored(Receipt::default()))
}

async fn session(outbox: &Outbox, settings: &CoreSinkSettings, link: Link, backoff: &mut Backoff) -> End {
    let Link { client, mut notices } = link;
    let Some(mark) = Mark::new(&client).await else { return End::lost() };
    let mut outgoing = Vec::with_capacity(SLICE);
    let mut tick = tokio::time::interval(TICK);
    // The first number that no question asked for.
    let (mut behind, mut unasked) = (0, true);
    // When the last question went out, and for what is in front of which number.
    let mut asked: Option<(Instant, u64)> = None;
    // The first question is whether the server answers at all.
    let mut begun = false;
    loop {
        if begun {
            outbox.next(slice(outbox, settings), &mut outgoing);
        }
        for message in outgoing.drain(..) {
            let number = message.number;
            if let Err(end) = publish(outbox, &client, message).await {
                outbox.put_back(number);
                return end;
            }
            (behind, unasked) = (number + 1, true);
        }
        if unasked && asked.is_none() {
            if mark.send(&client).await.is_none() {
                return End::lost();
            }
            (asked, unasked) = (Some((Instant::now(), behind)), false);
        }
        tokio::select! {
            notice = notices.recv() => match notice {
                None => return End::lost(),
                Some(Notice::Dropped) => {
                    let Some((_, behind)) = asked.take() else { continue };
                    let numbers = outbox.tried(|tried, _| tried < behind);
                    outbox.settle(&mut numbers.into_iter().map(stored).collect());
                    if !std::mem::replace(&mut begun, true) {
                        backoff.worked();
                        outbox.health.well();
                    }
                }
                Some(notice) => if let Some(end) = noticed(outbox, settings, notice) {
                    return end;
                },
            },
            () = outbox.wake.notified(), if begun => {}
            _ = tick.tick() => if asked.is_some_and(|(asked, _)| asked.elapsed() > ECHO) {
                return End::Lost(format!("the server has not answered for {} s", ECHO.as_secs()));
            },
        }
    }
}

/// How many may be sent now. A denial of the only subject ends the sink, and one of them is enough for that; of messages with
/// subjects of their own each denial must be heard.
fn slice(outbox: &Outbox, settings: &CoreSinkSettings) -> usize {
    match settings.subject.fixed() {
        Some(_) => SLICE,
        None => CAREFUL.saturating_sub(outbox.in_flight()),
    }
}

async fn publish(outbox: &Outbox, client: &Client, message: Outgoing) -> Result<(), End> {
    let Outgoing { number, subject, headers, payload } = message;
    let published = within(ECHO, client.publish_with_headers(subject, headers, payload)).await;
    let Err(error) = published.ok_or_else(|| End::stuck(ECHO))? else { return Ok(()) };
    let refusal = match error.kind() {
        PublishErrorKind::Send => return Err(End::lost()),
        PublishErrorKind::MaxPayloadExceeded => Refusal {
            kind: RefusalKind::Oversize,
            detail: format!("the server takes messages of up to {} bytes with headers", client.max_payload()),
        },
        PublishErrorKind::InvalidSubject => {
            Refusal { kind: RefusalKind::Rejected, detail: "the message's subject is not legal".to_owned() }
        }
    };
    outbox.settle(&mut vec![(number, Fate::Refused(refusal))]);
    Ok(())
}

fn noticed(outbox: &Outbox, settings: &CoreSinkSettings, notice: Notice) -> Option<End> {
    match sessions::heard(notice, &settings.connection, &outbox.health) {
        Err(end) => return Some(end),
        Ok(Heard::NoPublish(subject)) => {
            let what = format!("the account must not publish to `{subject}`");
            // No message has a subject of this kind: it is that of our questions.
            if settings.subject.fixed().is_some() || subject.starts_with("_INBOX.") {
                return Some(End::configuration(what));
            }
            // The server says it once for each message, in their order.
            let numbers = outbox.tried(|_, tried| tried == subject);
            let refusal = Refusal { kind: RefusalKind::Rejected, detail: what };
            outbox.settle(&mut numbers.first().map(|number| (*number, Fate::Refused(refusal))).into_iter().collect());
        }
        Ok(Heard::NoSubscribe(subject)) => {
            let what = format!("the account must not subscribe to `{subject}`, which confirmations need");
            return Some(End::configuration(what));
        }
        Ok(Heard::Dropped | Heard::Nothing) => {}
    }
    None
}
