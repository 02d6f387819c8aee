use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::{Client, PublishErrorKind};
use portcullis_connector_api::{ConnectorError, ErrorKind, Fate, Receipt, Refusal, RefusalKind};

use crate::Count;
use crate::backoff::Backoff;
use crate::failure::{self, Said};
use crate::link::{self, ECHO, Echo, Link, Notice, within};
use crate::outbox::{Outbox, Outgoing};
use crate::settings::{CoreSinkSettings, InDoubt};
use crate::task::Stop;

/// Sent before the server is asked whether it has them.
const SLICE: usize = 256;
const TICK: Duration = Duration::from_millis(100);
/// Of the subscription that only our own echo comes through.
const CAPACITY: usize = 64;

enum End {
    Stopped,
    Lost(String),
    Dead(ConnectorError),
}

/// Connection after connection, until the end.
pub(super) async fn run(outbox: Arc<Outbox>, settings: Arc<CoreSinkSettings>, mut stop: Stop) {
    let mut backoff = Backoff::new();
    for attempt in 0.. {
        let linked = tokio::select! {
            linked = link::connect(&settings.connection, attempt, CAPACITY, &settings.counters) => linked,
            () = stop.wait() => return,
        };
        let end = match linked {
            Ok(link) => {
                let end = session(&outbox, &settings, link, &mut backoff, stop.clone()).await;
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
        in_doubt(&outbox, &settings);
        stop.sleep(backoff.pause()).await;
        if stop.requested() {
            return;
        }
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

async fn session(
    outbox: &Outbox,
    settings: &CoreSinkSettings,
    link: Link,
    backoff: &mut Backoff,
    mut stop: Stop,
) -> End {
    let Link { client, mut notices } = link;
    let Some(mut echo) = Echo::new(&client).await else { return lost() };
    if echo.round_trip(&client).await.is_none() {
        return lost();
    }
    backoff.worked();
    outbox.health.well();
    let mut outgoing = Vec::with_capacity(SLICE);
    let mut tick = tokio::time::interval(TICK);
    // The first number that no question asked for, and when the last question went out.
    let (mut behind, mut asked): (u64, Option<Instant>) = (0, None);
    let (mut unasked, mut listening) = (false, true);
    loop {
        outbox.next(SLICE, &mut outgoing);
        for message in outgoing.drain(..) {
            behind = message.number + 1;
            unasked = true;
            if let Err(end) = publish(outbox, &client, message).await {
                return end;
            }
        }
        if unasked && asked.is_none() {
            if echo.send(&client, behind).await.is_none() {
                return lost();
            }
            (asked, unasked) = (Some(Instant::now()), false);
        }
        tokio::select! {
            number = echo.next() => {
                let Some(number) = number else { return lost() };
                asked = None;
                let fates = outbox.tried(|tried, _| tried < number);
                outbox.settle(&mut fates.into_iter().map(stored).collect());
            }
            () = outbox.wake.notified() => {}
            _ = tick.tick() => if asked.is_some_and(|asked| asked.elapsed() > ECHO) {
                return End::Lost(format!("the server has not answered for {} s", ECHO.as_secs()));
            },
            notice = notices.recv(), if listening => match notice {
                None => listening = false,
                Some(notice) => if let Some(end) = noticed(outbox, settings, notice) {
                    return end;
                },
            },
            () = stop.wait() => return End::Stopped,
        }
    }
}

async fn publish(outbox: &Outbox, client: &Client, message: Outgoing) -> Result<(), End> {
    let Outgoing { number, subject, headers, payload } = message;
    let published = within(ECHO, client.publish_with_headers(subject, headers, payload)).await;
    let Err(error) = published.ok_or_else(stuck)? else { return Ok(()) };
    let refusal = match error.kind() {
        PublishErrorKind::Send => return Err(lost()),
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
    match notice {
        Notice::LameDuck if settings.connection.servers.len() > 1 => {
            Some(End::Lost("the server is about to shut down".to_owned()))
        }
        Notice::LameDuck => {
            tracing::warn!("the only NATS server that is given is about to shut down");
            None
        }
        Notice::Dropped => None,
        Notice::Error(line) => match failure::said(&line) {
            Said::NoPublish(subject) => {
                let what = format!("the account must not publish to `{subject}`");
                if settings.subject.fixed().is_some() {
                    return Some(End::Dead(ConnectorError::new(ErrorKind::Configuration, what)));
                }
                let refusal = || Refusal { kind: RefusalKind::Rejected, detail: what.clone() };
                let numbers = outbox.tried(|_, tried| tried == subject);
                outbox.settle(&mut numbers.into_iter().map(|number| (number, Fate::Refused(refusal()))).collect());
                None
            }
            Said::NoSubscribe(subject) => Some(End::Dead(ConnectorError::new(
                ErrorKind::Configuration,
                format!("the account must not subscribe to `{subject}`, which confirmations need"),
            ))),
            Said::Other => {
                tracing::warn!("the server says: {line}");
                None
            }
        },
    }
}

fn lost() -> End {
    End::Lost("the connection to NATS is lost".to_owned())
}

fn stuck() -> End {
    End::Lost(format!("the server has taken nothing for {} s", ECHO.as_secs()))
}
