use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::{Client, Message, Subscriber};
use futures_util::FutureExt;
use futures_util::stream::{SelectAll, StreamExt};
use portcullis_connector_api::ConnectorError;
use tokio::task::unconstrained;

use super::Shared;
use crate::backoff::Backoff;
use crate::health::{Health, Worse};
use crate::link::{Echo, Link, Notice};
use crate::sessions::{self, End, Heard, Sessions};
use crate::settings::{Connection, CoreSourceSettings};
use crate::task::Stop;
use crate::{Count, Counters};

/// Moved on together.
const SLICE: usize = 512;
/// Messages between async-nats and us; what waits longer waits in the window.
const CAPACITY: usize = 4096;
/// Between two looks at what was lost.
const TICK: Duration = Duration::from_millis(250);

/// A source of subjects, to which connections are given.
pub(super) struct Subjects {
    pub(super) shared: Arc<Shared>,
    pub(super) settings: Arc<CoreSourceSettings>,
}

impl Sessions for Subjects {
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
        CAPACITY
    }

    async fn session(&mut self, link: Link, backoff: &mut Backoff, stop: Stop) -> End {
        session(&self.shared, &self.settings, link, backoff, stop).await
    }

    fn died(&mut self, error: &ConnectorError) {
        self.shared.health.died(error);
        drop(self.shared.state());
        self.shared.arrived.notify_all();
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
    // Read without tokio's budget: a subscription that has used it up looks empty until the runtime wakes it, and what waits in it
    // would be taken for lost.
    let mut subscribers = SelectAll::new();
    for subject in &settings.subjects {
        let subscribed = match &settings.queue_group {
            Some(group) => client.queue_subscribe(subject.clone(), group.clone()).await,
            None => client.subscribe(subject.clone()).await,
        };
        match subscribed {
            Ok(subscriber) => subscribers.push(ended_by_none(subscriber)),
            Err(_) => return End::lost(),
        }
    }
    // What is published from the moment on that somebody sees the source as ready must come.
    let Some(mut echo) = Echo::new(&client).await else { return End::lost() };
    if echo.round_trip(&client).await.is_none() {
        return End::lost();
    }
    backoff.worked();
    shared.health.well();
    let mut messages: Vec<Message> = Vec::with_capacity(SLICE);
    // The echo is among what was received.
    let mut losses = Losses { read: 1, ..Losses::default() };
    let mut listening = true;
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            message = unconstrained(subscribers.next()) => {
                let Some(Some(message)) = message else {
                    lost(shared, settings, losses.at_the_end(received(&client)));
                    return End::lost();
                };
                messages.push(message);
                while messages.len() < SLICE
                    && let Some(Some(Some(message))) = unconstrained(subscribers.next()).now_or_never()
                {
                    messages.push(message);
                }
                losses.read += messages.len() as u64;
                lost(shared, settings, shared.arrive(&mut messages));
                // What tokio's budget would see to.
                tokio::task::yield_now().await;
            }
            _ = tick.tick() => {
                // Before the look: what comes behind it is neither read nor lost.
                let received = received(&client);
                match unconstrained(subscribers.next()).now_or_never() {
                    None => lost(shared, settings, losses.at_a_look(received)),
                    Some(Some(Some(message))) => {
                        messages.push(message);
                        losses.read += 1;
                        lost(shared, settings, shared.arrive(&mut messages));
                    }
                    Some(_) => {
                        lost(shared, settings, losses.at_the_end(received));
                        return End::lost();
                    }
                }
            }
            notice = notices.recv(), if listening => match notice {
                // What has come before the end is read first.
                None => listening = false,
                Some(notice) => if let Some(end) = noticed(shared, settings, notice) {
                    return end;
                },
            },
            () = stop.wait() => return End::Stopped,
        }
    }
}

fn lost(shared: &Shared, settings: &CoreSourceSettings, count: u64) {
    if count > 0 {
        shared.health.worse(Worse::Lost);
        settings.counters.add(Count::Dropped, count);
    }
}

fn received(client: &Client) -> u64 {
    client.statistics().in_messages.load(Ordering::Relaxed)
}

/// What async-nats received and had no place for: while nothing waits to be read, what was received and not read.
#[derive(Default)]
struct Losses {
    /// What was taken from it.
    read: u64,
    counted: u64,
    /// What was received when nothing waited, the last time.
    before: u64,
}

impl Losses {
    /// More that is lost. async-nats counts a message before it hands it over, one at a time: unless nothing came since the last
    /// look, one may be on its way.
    fn at_a_look(&mut self, received: u64) -> u64 {
        let on_the_way = u64::from(received != self.before);
        self.before = received;
        self.more(received.saturating_sub(on_the_way))
    }

    /// When nothing can come any more.
    fn at_the_end(&mut self, received: u64) -> u64 {
        self.more(received)
    }

    fn more(&mut self, received: u64) -> u64 {
        let lost = received.saturating_sub(self.read).max(self.counted);
        let more = lost - self.counted;
        self.counted = lost;
        more
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

fn noticed(shared: &Shared, settings: &CoreSourceSettings, notice: Notice) -> Option<End> {
    match sessions::heard(notice, &settings.connection, &shared.health) {
        Err(end) => return Some(end),
        Ok(Heard::NoSubscribe(subject)) => {
            return Some(End::configuration(format!("the account must not subscribe to `{subject}`")));
        }
        Ok(Heard::NoPublish(subject)) => tracing::warn!("the account must not publish to `{subject}`"),
        // What was dropped is counted already.
        Ok(Heard::Dropped | Heard::Nothing) => {}
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_is_on_its_way_is_not_taken_for_lost() {
        let mut losses = Losses { read: 11, ..Losses::default() };
        assert_eq!(losses.at_a_look(12), 0, "it may come yet");
        losses.read = 12;
        assert_eq!(losses.at_a_look(12), 0);
        assert_eq!(losses.at_a_look(20), 7, "of eight one may come yet");
        assert_eq!(losses.at_a_look(20), 1, "it did not");
        assert_eq!((losses.at_a_look(20), losses.at_the_end(23), losses.at_the_end(23)), (0, 3, 0));
    }
}
