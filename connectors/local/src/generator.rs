use std::thread;
use std::time::{Duration, Instant};

use portcullis_connector_api::conformance::{Exemption, Rule};
use portcullis_connector_api::{
    AckMode, Acknowledgement, AssignmentId, Batch, Budget, Bytes, Channel, ConnectorError, ErrorKind, Event, Header,
    Message, Record, Source,
};

mod pattern;
mod random;

pub use pattern::{Pattern, PatternError};
use random::Random;

/// What the suite does not ask of a generator.
pub const GENERATOR_EXEMPTIONS: &[Exemption] = &[
    Exemption { rule: Rule::RevocationHoldsBack, reason: "a generator is assigned once and never taken away" },
    Exemption { rule: Rule::AcknowledgedStays, reason: "a generator has no memory: a restart begins with message 0" },
    Exemption { rule: Rule::BytesKept, reason: "a generator makes its messages itself" },
    Exemption { rule: Rule::NullIsNotEmpty, reason: "a generator makes its messages itself" },
];

const ASSIGNMENT: AssignmentId = AssignmentId(0);
/// A generator that was held up catches up with at most this much of its rate at once.
const CATCH_UP: Duration = Duration::from_secs(1);

/// Which messages a generator makes.
#[derive(Clone, Debug)]
pub struct GeneratorSettings {
    /// How many; without end when absent.
    pub count: Option<u64>,
    /// Messages a second; as fast as they are taken when absent.
    pub rate: Option<f64>,
    /// The same seed gives the same messages.
    pub seed: u64,
    /// The key; null when absent.
    pub key: Option<Pattern>,
    /// The value.
    pub value: GeneratedValue,
    /// The headers.
    pub headers: Vec<(String, Pattern)>,
    /// The channel.
    pub channel: Channel,
}

impl Default for GeneratorSettings {
    fn default() -> Self {
        Self {
            count: None,
            rate: None,
            seed: 0,
            key: None,
            value: GeneratedValue::Bytes(256),
            headers: Vec::new(),
            channel: Channel::from("generator"),
        }
    }
}

/// The value of a generated message.
#[derive(Clone, Debug)]
pub enum GeneratedValue {
    /// Text with placeholders.
    Pattern(Pattern),
    /// So many random letters, digits, `-` and `_`.
    Bytes(usize),
}

/// Makes messages. The message of a number depends on the seed and the number alone, and its offset is the number. It has
/// no timestamp, which would differ from run to run.
///
/// It remembers nothing: acknowledgements are taken and forgotten, and a restart begins with message 0.
#[derive(Debug)]
pub struct Generator {
    settings: GeneratorSettings,
    next: u64,
    /// When message number `paced_from.1` was due; only with a rate.
    paced_from: Option<(Instant, u64)>,
    assigned: bool,
    paused: bool,
    finished: bool,
}

impl Generator {
    /// A generator that stands before its first message.
    ///
    /// # Errors
    /// `Configuration` for a rate that is not a positive number.
    pub fn new(settings: GeneratorSettings) -> Result<Self, ConnectorError> {
        if let Some(rate) = settings.rate
            && !(rate.is_finite() && rate > 0.0)
        {
            let what = format!("the rate is {rate}; allowed is a number of messages a second above 0");
            return Err(ConnectorError::new(ErrorKind::Configuration, what));
        }
        Ok(Self { settings, next: 0, paced_from: None, assigned: false, paused: false, finished: false })
    }

    /// The message of this number.
    pub fn message(settings: &GeneratorSettings, number: u64) -> Message {
        let mut random = Random::new(settings.seed, number);
        let mut message = Message::new(settings.channel.clone());
        let mut fill = |pattern: &Pattern| Bytes::from(pattern.fill(number, &mut random));
        message.key = settings.key.as_ref().map(&mut fill);
        let headers = settings.headers.iter();
        message.headers =
            headers.map(|(name, pattern)| Header { name: name.clone().into(), value: Some(fill(pattern)) }).collect();
        message.value = Some(match &settings.value {
            GeneratedValue::Pattern(pattern) => fill(pattern),
            GeneratedValue::Bytes(bytes) => random.letters(*bytes).into(),
        });
        message
    }

    /// How many messages may be made now, after a wait for the first of them.
    fn due(&mut self, wait: Duration) -> u64 {
        let left = self.settings.count.map_or(u64::MAX, |count| count.saturating_sub(self.next));
        let Some(rate) = self.settings.rate else {
            return left;
        };
        let (begin, first) = *self.paced_from.get_or_insert_with(|| (Instant::now(), self.next));
        let made = self.next.saturating_sub(first) as f64;
        let until_next = Duration::try_from_secs_f64(made / rate).unwrap_or(Duration::MAX);
        let early = until_next.saturating_sub(begin.elapsed());
        if !early.is_zero() && left > 0 {
            thread::sleep(early.min(wait));
        }
        let late = begin.elapsed().saturating_sub(until_next);
        if late > CATCH_UP {
            let now = Instant::now();
            self.paced_from = Some((now.checked_sub(CATCH_UP).unwrap_or(now), self.next));
            return left.min((rate * CATCH_UP.as_secs_f64()) as u64 + 1);
        }
        // Message number n is due at n / rate: the first at once.
        let due = if begin.elapsed() < until_next { 0.0 } else { (begin.elapsed().as_secs_f64() * rate) - made + 1.0 };
        left.min(due as u64)
    }
}

impl Source for Generator {
    fn ack_mode(&self) -> AckMode {
        AckMode::Cumulative
    }

    fn poll(&mut self, budget: Budget, wait: Duration, batch: &mut Batch) -> Result<(), ConnectorError> {
        if !std::mem::replace(&mut self.assigned, true) {
            let channel = self.settings.channel.clone();
            batch.events.push(Event::Assigned { id: ASSIGNMENT, channel, partition: 0 });
        }
        if self.paused || self.finished || budget.messages == 0 || budget.bytes == 0 {
            return Ok(());
        }
        let due = usize::try_from(self.due(wait)).unwrap_or(usize::MAX);
        let (mut messages, mut bytes) = (0, 0);
        while messages < budget.messages.min(due) && bytes < budget.bytes {
            let message = Self::message(&self.settings, self.next);
            messages += 1;
            bytes += message.size_bytes();
            let offset = i64::try_from(self.next).unwrap_or(i64::MAX);
            batch.records.push(Record { message, assignment: ASSIGNMENT, offset, redelivered: 0, defect: None });
            self.next += 1;
        }
        if self.settings.count.is_some_and(|count| self.next >= count) {
            self.finished = true;
            batch.events.push(Event::Finished);
        }
        Ok(())
    }

    fn acknowledge(&mut self, _: &[Acknowledgement], _: bool) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn pause(&mut self, assignments: &[AssignmentId]) -> Result<(), ConnectorError> {
        self.paused |= assignments.contains(&ASSIGNMENT);
        Ok(())
    }

    fn resume(&mut self, assignments: &[AssignmentId]) -> Result<(), ConnectorError> {
        self.paused &= !assignments.contains(&ASSIGNMENT);
        Ok(())
    }

    fn release(&mut self, _: &[AssignmentId]) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn lag(&self) -> Vec<(AssignmentId, u64)> {
        let left = self.settings.count.map(|count| count.saturating_sub(self.next));
        left.map(|left| (ASSIGNMENT, left)).into_iter().collect()
    }

    fn close(self: Box<Self>, _: Duration) -> Result<(), ConnectorError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
