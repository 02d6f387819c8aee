//! The same loop with batch consumption: the bridge's own connectors in one thread, without queue, lanes and plugins. What
//! it costs more than this is the pipeline's price.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use portcullis_connector_api::{
    Acknowledgement, AssignmentId, Batch, Budget, Confirm, Event, Fate, SendError, Sink, Source, Token,
};
use portcullis_connector_kafka::{Connection, KafkaSink, KafkaSource, SinkSettings, SourceSettings, TopicRule};
use portcullis_flow::Tracker;

struct Stored(Mutex<Vec<Token>>);

impl Confirm for Stored {
    fn confirm(&self, token: Token, fate: Fate) {
        if matches!(fate, Fate::Stored(_)) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(token);
        }
    }
}

/// Runs until the process is killed.
///
/// # Errors
/// When a client cannot be made or fails.
pub fn run(brokers: &str, group: &str, sources: &[String], destination: &str) -> Result<()> {
    let stored = Arc::new(Stored(Mutex::default()));
    let settings = SinkSettings::new(Connection::plain(brokers), TopicRule::Fixed(destination.to_owned()));
    let sink = KafkaSink::new(settings, stored.clone())?;
    let mut source = KafkaSource::new(SourceSettings::new(Connection::plain(brokers), group, sources.to_vec()))?;
    let mut trackers: Vec<(AssignmentId, Tracker<()>)> = Vec::new();
    let mut batch = Batch::default();
    let mut finished = Vec::new();
    let mut next_commit = Instant::now() + Duration::from_secs(1);
    let budget = Budget { messages: 1024, bytes: 1024 * 1024 };
    loop {
        batch.clear();
        source.poll(budget, Duration::from_millis(10), &mut batch)?;
        for event in batch.events.drain(..) {
            if let Event::Assigned { id, .. } = event {
                trackers.push((id, Tracker::new()));
            }
        }
        for record in batch.records.drain(..) {
            let Some((_, tracker)) = trackers.iter_mut().find(|(id, _)| *id == record.assignment) else { continue };
            let sequence = tracker.received(record.offset, record.message.size_bytes(), ())?;
            let token = Token(u64::from(record.assignment.0) << 40 | sequence);
            loop {
                match sink.send(&record.message, token) {
                    Ok(()) => break,
                    Err(SendError::Full) => sink.wait_for_room(Duration::from_millis(100)),
                    Err(error) => bail!("{error}"),
                }
            }
        }
        std::mem::swap(&mut finished, &mut *stored.0.lock().unwrap_or_else(PoisonError::into_inner));
        for token in finished.drain(..) {
            let of = |(id, _): &&mut (AssignmentId, Tracker<()>)| u64::from(id.0) == token.0 >> 40;
            if let Some((_, tracker)) = trackers.iter_mut().find(of) {
                tracker.finished(token.0 & ((1 << 40) - 1))?;
            }
        }
        if Instant::now() >= next_commit {
            next_commit = Instant::now() + Duration::from_secs(1);
            let moved = |(id, tracker): &mut (AssignmentId, Tracker<()>)| {
                Some(Acknowledgement { assignment: *id, offset: tracker.take_commit()? })
            };
            let acknowledgements: Vec<_> = trackers.iter_mut().filter_map(moved).collect();
            source.acknowledge(&acknowledgements, false)?;
        }
    }
}
