//! The input file and its way into the source topics.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::bail;
use portcullis_connector_api::{Confirm, Fate, Message, SendError, Sink, Timestamp, Token};
use portcullis_connector_kafka::{Connection, KafkaSink, SinkSettings, TopicRule};
use portcullis_connector_local::envelope::{Expect, Line};

use crate::cli::input;

const SEND_LIMIT: Duration = Duration::from_secs(30);

/// A line with where the broker has put it.
pub(super) struct Sent {
    pub(super) message: Message,
    pub(super) expect: Option<Expect>,
    pub(super) partition: i32,
    pub(super) offset: i64,
}

pub(super) fn read(path: &Path, channel: &str) -> anyhow::Result<Vec<Line>> {
    let start_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64;
    let mut lines: Vec<Line> = Vec::new();
    for (number, mut line) in input::read(path, channel)? {
        if line.message.timestamp == Timestamp::Unknown {
            // The broker would choose one, and the summary could not tell messages of one key apart.
            line.message.timestamp = Timestamp::Created(start_ms + lines.len() as i64);
        }
        if lines.iter().any(|earlier| earlier.message.timestamp == line.message.timestamp) {
            let ms = line.message.timestamp.millis().unwrap_or_default();
            bail!(
                "{}:{number}: timestamp_ms {ms} is that of an earlier line; messages are told apart by it",
                path.display()
            );
        }
        lines.push(line);
    }
    Ok(lines)
}

/// Sends every line and waits until the broker has them all.
pub(super) fn send(connection: &Connection, lines: Vec<Line>) -> anyhow::Result<Vec<Sent>> {
    let places = Arc::new(Places::default());
    let by_channel = TopicRule::Each(Arc::new(|message: &Message| Ok(message.channel.as_str().into())));
    let sink = KafkaSink::new(SinkSettings::new(connection.clone(), by_channel), places.clone())?;
    for (number, line) in (0..).zip(&lines) {
        loop {
            match sink.send(&line.message, Token(number)) {
                Ok(()) => break,
                Err(SendError::Full) => sink.wait_for_room(Duration::from_millis(100)),
                Err(error) => bail!("line {} cannot be sent: {error}", number + 1),
            }
        }
    }
    let places = places.wait(lines.len(), Instant::now() + SEND_LIMIT)?;
    let sent = lines.into_iter().zip(places).map(|(line, (partition, offset))| Sent {
        message: line.message,
        expect: line.expect,
        partition,
        offset,
    });
    Ok(sent.collect())
}

/// Partition and offset, or why there are none.
type Place = Result<(i32, i64), String>;

/// Where each line was stored.
#[derive(Default)]
struct Places {
    stored: Mutex<BTreeMap<u64, Place>>,
    more: Condvar,
}

impl Places {
    fn wait(&self, count: usize, deadline: Instant) -> anyhow::Result<Vec<(i32, i64)>> {
        let stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = self.more.wait_timeout_while(stored, left, |stored| stored.len() < count);
        let (stored, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if stored.len() < count {
            bail!("the broker has taken {} of {count} input messages within {} s", stored.len(), SEND_LIMIT.as_secs());
        }
        stored
            .values()
            .map(|place| place.clone().map_err(|error| anyhow::anyhow!("input not stored: {error}")))
            .collect()
    }
}

impl Confirm for Places {
    fn confirm(&self, token: Token, fate: Fate) {
        let place = match fate {
            Fate::Stored(receipt) => Ok((receipt.partition.unwrap_or(-1), receipt.offset.unwrap_or(-1))),
            Fate::Refused(refusal) => Err(refusal.to_string()),
            Fate::Failed(error) => Err(error.to_string()),
        };
        self.stored.lock().unwrap_or_else(PoisonError::into_inner).insert(token.0, place);
        self.more.notify_all();
    }
}
