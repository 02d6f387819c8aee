use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::super::specimens::values;
use super::{ALL, SourcePlace, remembers};
use crate::{AckMode, Acknowledgement, AssignmentId, Batch, Budget, ConnectorError, ErrorKind, Event, Message, Source};

/// Reads a source and watches, at every poll, what holds for every rule: an assignment is announced before its records,
/// none comes after its revocation, offsets ascend, and nothing comes behind the end.
pub(super) struct Reader {
    source: Box<dyn Source>,
    patience: Duration,
    batch: Batch,
    read: Vec<(AssignmentId, i64, Message)>,
    /// The last offset of each assignment that is ours.
    assigned: HashMap<AssignmentId, Option<i64>>,
    revoking: Vec<AssignmentId>,
    finished: u32,
}

impl Reader {
    pub(super) fn open<P: SourcePlace>(place: &mut P) -> Result<Self, String> {
        let (source, patience) = (place.open()?, place.patience());
        let (batch, read, assigned, revoking) = Default::default();
        Ok(Self { source, patience, batch, read, assigned, revoking, finished: 0 })
    }

    pub(super) fn poll(&mut self, budget: Budget, wait: Duration) -> Result<(), String> {
        self.batch.clear();
        let polled = self.source.poll(budget, wait, &mut self.batch);
        for event in &self.batch.events {
            if let Event::Assigned { id, .. } = event
                && self.assigned.insert(*id, None).is_some()
            {
                return Err(format!("{id:?} was assigned twice"));
            }
        }
        for record in self.batch.records.drain(..) {
            let id = record.assignment;
            if self.finished > 0 {
                return Err("a record came after the source had finished".to_owned());
            }
            if self.revoking.contains(&id) {
                return Err(format!("a record of {id:?} came after its revocation"));
            }
            let Some(last) = self.assigned.get_mut(&id) else {
                return Err(format!("a record of {id:?} came before its assignment"));
            };
            let ascends = last.replace(record.offset).is_none_or(|last| last < record.offset);
            if !ascends && self.source.ack_mode() != AckMode::Each {
                return Err(format!("the offset {} of {id:?} does not ascend", record.offset));
            }
            self.read.push((id, record.offset, record.message));
        }
        for event in self.batch.events.drain(..) {
            match event {
                Event::Assigned { .. } => {}
                Event::Revoking { assignments, .. } | Event::StartsOver { assignments } => {
                    self.revoking.extend(assignments);
                }
                Event::Finished => self.finished += 1,
            }
        }
        passing(polled)
    }

    /// Reads so many more records and not one beyond, as far as one poll shows.
    pub(super) fn read(&mut self, count: usize) -> Result<(), String> {
        let until = self.read.len() + count;
        let deadline = Instant::now() + self.patience;
        while self.read.len() < until {
            if Instant::now() > deadline {
                let found = self.read.len();
                return Err(format!("{found} of {until} records came within {:?}", self.patience));
            }
            self.poll(ALL, Duration::from_millis(100))?;
        }
        if self.read.len() > until {
            return Err(format!("{} records came, {until} were fed or left: {:?}", self.read.len(), self.values()));
        }
        Ok(())
    }

    /// Reads until this holds for the values.
    pub(super) fn read_until(&mut self, holds: impl Fn(&[String]) -> bool) -> Result<(), String> {
        let deadline = Instant::now() + self.patience;
        while !holds(&self.values()) {
            if Instant::now() > deadline {
                return Err(format!("{:?}", self.values()));
            }
            self.poll(ALL, Duration::from_millis(100))?;
        }
        Ok(())
    }

    /// Nothing comes in a few polls that could deliver.
    pub(super) fn is_quiet(&mut self, because: &str) -> Result<(), String> {
        let before = self.read.len();
        for _ in 0..5 {
            self.poll(ALL, Duration::from_millis(40))?;
        }
        let new = self.values().split_off(before);
        if new.is_empty() { Ok(()) } else { Err(format!("records came although {because}: {new:?}")) }
    }

    /// Acknowledges the first so many of what was read, durably.
    pub(super) fn acknowledge(&mut self, done: usize) -> Result<(), String> {
        let entry = |assignment: AssignmentId, offset: i64| Acknowledgement { assignment, offset };
        let entries: Vec<Acknowledgement> = match self.source.ack_mode() {
            AckMode::None => return Ok(()),
            AckMode::Each => self.read.iter().take(done).map(|(id, offset, _)| entry(*id, *offset)).collect(),
            AckMode::Cumulative => match (self.read.get(done), self.read.last()) {
                (Some((id, offset, _)), _) => vec![entry(*id, *offset)],
                (None, Some((id, offset, _))) => vec![entry(*id, offset + 1)],
                (None, None) => Vec::new(),
            },
        };
        self.send_acknowledgements(&entries)
    }

    /// The same for all that was read, in the name of another assignment.
    pub(super) fn acknowledge_for(&mut self, assignment: AssignmentId, done: usize) -> Result<(), String> {
        if !remembers(self.source.ack_mode()) {
            return Ok(());
        }
        let read = self.read.iter().take(done);
        let entries: Vec<_> = read.map(|(_, offset, _)| Acknowledgement { assignment, offset: offset + 1 }).collect();
        // It may be refused as well as ignored; what counts is that no position moves.
        match self.source.acknowledge(&entries, true) {
            Err(error) if error.kind != ErrorKind::Retriable => {
                Err(format!("the late acknowledgement failed: {error}"))
            }
            _ => Ok(()),
        }
    }

    fn send_acknowledgements(&mut self, entries: &[Acknowledgement]) -> Result<(), String> {
        let deadline = Instant::now() + self.patience;
        loop {
            match self.source.acknowledge(entries, true) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind == ErrorKind::Retriable && Instant::now() < deadline => {
                    self.poll(Budget::NOTHING, Duration::from_millis(20))?;
                }
                Err(error) => return Err(format!("the acknowledgement failed: {error}")),
            }
        }
    }

    pub(super) fn wait_for_revocation(&mut self, id: AssignmentId) -> Result<(), String> {
        let deadline = Instant::now() + self.patience;
        while !self.revoking.contains(&id) {
            if Instant::now() > deadline {
                return Err(format!("no revocation of {id:?} came within {:?}", self.patience));
            }
            self.poll(ALL, Duration::from_millis(100))?;
        }
        Ok(())
    }

    pub(super) fn release(&mut self, id: AssignmentId) -> Result<(), String> {
        self.assigned.remove(&id);
        passing(self.source.release(&[id]))
    }

    pub(super) fn pause(&mut self, id: AssignmentId) -> Result<(), String> {
        passing(self.source.pause(&[id]))
    }

    pub(super) fn resume(&mut self, id: AssignmentId) -> Result<(), String> {
        passing(self.source.resume(&[id]))
    }

    pub(super) fn close(self) -> Result<(), String> {
        self.source.close(self.patience).map_err(|error| format!("closing failed: {error}"))
    }

    /// The assignment of the last record.
    pub(super) fn assignment(&self) -> Result<AssignmentId, String> {
        self.read.last().map(|(id, ..)| *id).ok_or_else(|| "no record came".to_owned())
    }

    /// Starts counting anew.
    pub(super) fn forget(&mut self) {
        self.read.clear();
    }

    pub(super) fn count(&self) -> usize {
        self.read.len()
    }

    pub(super) fn finished(&self) -> u32 {
        self.finished
    }

    pub(super) fn messages(&self) -> Vec<Message> {
        self.read.iter().map(|(.., message)| message.clone()).collect()
    }

    pub(super) fn values(&self) -> Vec<String> {
        values(&self.messages())
    }
}

fn passing(result: Result<(), ConnectorError>) -> Result<(), String> {
    match result {
        Err(error) if error.kind != ErrorKind::Retriable => Err(format!("{:?}: {error}", error.kind)),
        _ => Ok(()),
    }
}
