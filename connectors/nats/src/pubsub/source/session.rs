use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::{Client, Message, Subscriber};
use futures_util::FutureExt;
use futures_util::stream::{SelectAll, StreamExt};
use portcullis_connector_api::{ConnectorError, ErrorKind};

use super::Shared;
use crate::Count;
use crate::backoff::Backoff;
use crate::failure::{self, Said};
use crate::link::{self, Echo, Link, Notice};
use crate::settings::CoreSourceSettings;
use crate::task::Stop;

/// Moved on together.
const SLICE: usize = 512;
/// Messages between async-nats and us; what waits longer waits in the window.
const CAPACITY: usize = 4096;
/// Between two looks at what was lost.
const TICK: Duration = Duration::from_millis(250);

enum End {
    Stopped,
    Lost(String),
    Dead(ConnectorError),
}

/// Connection after connection, until the end.
pub(super) async fn run(shared: Arc<Shared>, settings: Arc<CoreSourceSettings>, mut stop: Stop) {
    let mut backoff = Backoff::new();
    for attempt in 0.. {
        let linked = tokio::select! {
            linked = link::connect(&settings.connection, attempt, CAPACITY, &settings.counters) => linked,
            () = stop.wait() => return,
        };
        let end = match linked {
            Ok(link) => {
                let end = session(&shared, &settings, link, &mut backoff, stop.clone()).await;
                settings.counters.add(Count::Disconnects, 1);
                end
            }
            Err(error) if error.kind == ErrorKind::Retriable => End::Lost(error.context),
            Err(error) => End::Dead(error),
        };
        match end {
            End::Stopped => return,
            End::Lost(why) => shared.health.troubled(why),
            End::Dead(error) => {
                shared.health.died(&error);
                drop(shared.state());
                return shared.arrived.notify_all();
            }
        }
        stop.sleep(backoff.pause()).await;
        if stop.requested() {
            return;
        }
    }
}

async fn session(
    shared: &Shared,
    settings: &CoreSourceSettings,
    link: Link,
    backoff: &mut Backoff,
    mut stop: Stop,
) -> End {
    let Link { client, mut notices } = link;
    let mut subscribers = SelectAll::new();
    for subject in &settings.subjects {
        let subscribed = match &settings.queue_group {
            Some(group) => client.queue_subscribe(subject.clone(), group.clone()).await,
            None => client.subscribe(subject.clone()).await,
        };
        match subscribed {
            Ok(subscriber) => subscribers.push(ended_by_none(subscriber)),
            Err(_) => return lost(),
        }
    }
    // What is published from the moment on that somebody sees the source as ready must come.
    let Some(mut echo) = Echo::new(&client).await else { return lost() };
    if echo.round_trip(&client).await.is_none() {
        return lost();
    }
    backoff.worked();
    shared.health.well();
    let mut messages: Vec<Message> = Vec::with_capacity(SLICE);
    let mut losses = Losses { read: 1, counted: 0 };
    let mut listening = true;
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            message = subscribers.next() => {
                let Some(Some(message)) = message else {
                    losses.count(&client, settings);
                    return lost();
                };
                messages.push(message);
                while messages.len() < SLICE
                    && let Some(Some(Some(message))) = subscribers.next().now_or_never()
                {
                    messages.push(message);
                }
                losses.read += messages.len() as u64;
                settings.counters.add(Count::Dropped, shared.arrive(&mut messages));
            }
            _ = tick.tick() => match subscribers.next().now_or_never() {
                None => losses.count(&client, settings),
                Some(Some(Some(message))) => {
                    messages.push(message);
                    losses.read += 1;
                    settings.counters.add(Count::Dropped, shared.arrive(&mut messages));
                }
                Some(_) => return lost(),
            },
            notice = notices.recv(), if listening => match notice {
                // What has come before the end is read first.
                None => listening = false,
                Some(notice) => if let Some(end) = noticed(settings, notice) {
                    return end;
                },
            },
            () = stop.wait() => return End::Stopped,
        }
    }
}

/// What async-nats received and had no place for.
struct Losses {
    /// What was taken from it, the echo among it.
    read: u64,
    counted: u64,
}

impl Losses {
    /// While nothing waits to be read, what was received and not read is lost.
    fn count(&mut self, client: &Client, settings: &CoreSourceSettings) {
        let received = client.statistics().in_messages.load(Ordering::Relaxed);
        let lost = received.saturating_sub(self.read);
        settings.counters.add(Count::Dropped, lost.saturating_sub(self.counted));
        self.counted = self.counted.max(lost);
    }
}

/// The subscription's messages and, when the connection is over, a `None`: a stream that ends alone would only be left out.
fn ended_by_none(
    subscriber: Subscriber,
) -> std::pin::Pin<Box<dyn futures_util::Stream<Item = Option<Message>> + Send>> {
    // For ever, so that one that was passed over is seen at the next look.
    let end = futures_util::stream::repeat_with(|| None);
    Box::pin(subscriber.map(Some).chain(end))
}

fn noticed(settings: &CoreSourceSettings, notice: Notice) -> Option<End> {
    match notice {
        Notice::LameDuck if settings.connection.servers.len() > 1 => {
            Some(End::Lost("the server is about to shut down".to_owned()))
        }
        Notice::LameDuck => {
            tracing::warn!("the only NATS server that is given is about to shut down");
            None
        }
        // Counted already.
        Notice::Dropped => None,
        Notice::Error(line) => match failure::said(&line) {
            Said::NoSubscribe(subject) => Some(End::Dead(ConnectorError::new(
                ErrorKind::Configuration,
                format!("the account must not subscribe to `{subject}`"),
            ))),
            _ => {
                tracing::warn!("the server says: {line}");
                None
            }
        },
    }
}

fn lost() -> End {
    End::Lost("the connection to NATS is lost".to_owned())
}
