//! A suite that passes everything proves nothing: each rule must notice the connector that breaks it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use portcullis_connector_api::conformance::{
    Exemption, Rule, SinkFactory, SinkPlace, SourceFactory, SourcePlace, sink, source,
};
use portcullis_connector_api::{
    AckMode, Acknowledgement, AssignmentId, Batch, Budget, Confirm, ConnectorError, Event, Fate, Header, Message,
    Receipt, SendError, Sink, Source, Template, Token,
};
use portcullis_connector_local::{MemoryBroker, MemorySinkSettings, MemorySourceSettings};

/// So that only this rule is tried.
fn all_but(rules: &[Rule], rule: Rule) -> Vec<Exemption> {
    let others = rules.iter().copied().filter(|other| *other != rule);
    others.map(|rule| Exemption { rule, reason: "not tried here" }).collect()
}

const ALL: Budget = Budget { messages: 1000, bytes: 1 << 23 };

/// A source of the in-memory broker that is whole but for one rule.
struct BrokenSource {
    inner: Box<dyn Source>,
    breaks: Rule,
    assignment: Option<AssignmentId>,
    next: i64,
    polls: u32,
}

impl Source for BrokenSource {
    fn ack_mode(&self) -> AckMode {
        AckMode::Cumulative
    }

    fn poll(&mut self, budget: Budget, wait: Duration, batch: &mut Batch) -> Result<(), ConnectorError> {
        self.polls += 1;
        let (budget, wait) = match self.breaks {
            Rule::BudgetBounds | Rule::NothingDeliversNothing => (ALL, wait),
            Rule::WaitIsBounded => (budget, wait + Duration::from_secs(4)),
            _ => (budget, wait),
        };
        self.inner.poll(budget, wait, batch)?;
        if let Some(Event::Assigned { id, .. }) = batch.events.first() {
            self.assignment = Some(*id);
        }
        if let Some(last) = batch.records.last() {
            self.next = last.offset + 1;
        }
        match self.breaks {
            Rule::BytesKept => batch.records.iter_mut().for_each(|record| {
                let headers: Vec<Header> = record.message.headers.iter().cloned().collect();
                record.message.headers = headers.into_iter().rev().collect();
            }),
            Rule::NullIsNotEmpty => batch.records.iter_mut().for_each(|record| {
                record.message.key.get_or_insert_default();
            }),
            Rule::OrderKept => {
                if let [first, second, ..] = &mut batch.records[..] {
                    std::mem::swap(&mut first.message, &mut second.message);
                }
            }
            Rule::UnacknowledgedComesAgain => self.acknowledge_all()?,
            Rule::FinishedOnlyAtTheEnd if self.polls > 3 => batch.events.push(Event::Finished),
            _ => {}
        }
        Ok(())
    }

    fn acknowledge(&mut self, done: &[Acknowledgement], durable: bool) -> Result<(), ConnectorError> {
        match (self.breaks, self.assignment) {
            (Rule::AcknowledgedStays, _) => Ok(()),
            (Rule::LateAcknowledgementIsHarmless, Some(assignment)) => {
                let done: Vec<_> = done.iter().map(|entry| Acknowledgement { assignment, ..*entry }).collect();
                self.inner.acknowledge(&done, durable)
            }
            _ => self.inner.acknowledge(done, durable),
        }
    }

    fn pause(&mut self, assignments: &[AssignmentId]) -> Result<(), ConnectorError> {
        if self.breaks == Rule::PauseStops { Ok(()) } else { self.inner.pause(assignments) }
    }

    fn resume(&mut self, assignments: &[AssignmentId]) -> Result<(), ConnectorError> {
        self.inner.resume(assignments)
    }

    fn release(&mut self, assignments: &[AssignmentId]) -> Result<(), ConnectorError> {
        if self.breaks == Rule::RevocationHoldsBack {
            self.acknowledge_all()?;
        }
        self.inner.release(assignments)
    }

    fn close(self: Box<Self>, deadline: Duration) -> Result<(), ConnectorError> {
        self.inner.close(deadline)
    }
}

impl BrokenSource {
    fn acknowledge_all(&mut self) -> Result<(), ConnectorError> {
        let entry = self.assignment.map(|assignment| Acknowledgement { assignment, offset: self.next });
        self.inner.acknowledge(entry.as_slice(), true)
    }
}

struct Sources(Rule);

struct Place(Arc<MemoryBroker>, Rule);

impl SourceFactory for Sources {
    type Place = Place;

    fn place(&self) -> Result<Place, String> {
        let broker = MemoryBroker::new();
        broker.create("in", 1);
        Ok(Place(broker, self.0))
    }
}

impl SourcePlace for Place {
    fn feed(&mut self, messages: &[Message]) -> Result<(), String> {
        self.0.publish("in", messages.iter().cloned()).map_err(|error| error.to_string())
    }

    fn open(&mut self) -> Result<Box<dyn Source>, String> {
        let inner = Box::new(self.0.source(MemorySourceSettings::new("in", "group")));
        Ok(Box::new(BrokenSource { inner, breaks: self.1, assignment: None, next: 0, polls: 0 }))
    }

    fn ends(&self) -> bool {
        false
    }

    fn revoke(&mut self) -> Result<bool, String> {
        Ok(self.0.revoke("group", "in", 0, false))
    }

    fn patience(&self) -> Duration {
        Duration::from_millis(500)
    }
}

#[test]
fn each_rule_of_sources_notices_the_source_that_breaks_it() {
    for rule in Rule::OF_SOURCES {
        let failure = source(&Sources(rule), &all_but(&Rule::OF_SOURCES, rule)).expect_err(rule.as_str());
        assert_eq!(failure.rule, rule);
    }
}

/// A sink of the in-memory broker that is whole but for one rule.
struct BrokenSink {
    inner: Box<dyn Sink>,
    confirm: Arc<dyn Confirm>,
    breaks: Rule,
    held_back: Mutex<Option<(Message, Token)>>,
}

impl Sink for BrokenSink {
    fn send(&self, message: &Message, token: Token) -> Result<(), SendError> {
        let mut message = message.clone();
        match self.breaks {
            Rule::BytesKept => message.headers.set(Header::new("trace", Some("t"))),
            Rule::NullIsNotEmpty => message.value = Some(message.value.unwrap_or_default()),
            Rule::ConfirmedIsReadable => {
                self.confirm.confirm(token, Fate::Stored(Receipt::default()));
                return Ok(());
            }
            Rule::OrderKept => {
                let mut held_back = self.held_back.lock().unwrap();
                let Some((first, its_token)) = held_back.take() else {
                    *held_back = Some((message, token));
                    return Ok(());
                };
                self.inner.send(&message, token)?;
                return self.inner.send(&first, its_token);
            }
            _ => {}
        }
        match (self.inner.send(&message, token), self.breaks) {
            (Err(SendError::Full), Rule::FullIsBackPressure) => {
                self.confirm.confirm(token, Fate::Stored(Receipt::default()));
                Ok(())
            }
            (Err(SendError::Refused(_)), Rule::RefusedAlone) => Ok(()),
            (result, _) => result,
        }
    }

    fn wait_for_room(&self, wait: Duration) {
        self.inner.wait_for_room(wait);
    }

    fn unconfirmed(&self) -> u64 {
        self.inner.unconfirmed()
    }

    fn abandon(&self) {
        // It would keep everything until its destination is back.
        if self.breaks != Rule::AbandonEnds {
            self.inner.abandon();
        }
    }

    fn drain(&self, wait: Duration) -> u64 {
        if self.breaks == Rule::DrainWaits { 0 } else { self.inner.drain(wait) }
    }

    fn check(&self, wait: Duration) -> Result<(), ConnectorError> {
        self.inner.check(wait)
    }
}

/// Says everything twice.
struct Twice(Arc<dyn Confirm>);

impl Confirm for Twice {
    fn confirm(&self, token: Token, fate: Fate) {
        self.0.confirm(token, Fate::Stored(Receipt::default()));
        self.0.confirm(token, fate);
    }
}

struct Sinks(Rule);

impl SinkFactory for Sinks {
    type Place = Place;

    fn place(&self) -> Result<Place, String> {
        let broker = MemoryBroker::new();
        broker.create("out", 1);
        if self.0 == Rule::DrainWaits {
            broker.hold_confirmations("out");
        }
        Ok(Place(broker, self.0))
    }
}

impl SinkPlace for Place {
    fn open(&mut self, confirm: Arc<dyn Confirm>) -> Result<Box<dyn Sink>, String> {
        let settings = MemorySinkSettings::new(Template::parse("out", &[]).unwrap());
        let settings = MemorySinkSettings { queue_messages: 500, ..settings };
        let told: Arc<dyn Confirm> =
            if self.1 == Rule::ConfirmedOnce { Arc::new(Twice(Arc::clone(&confirm))) } else { Arc::clone(&confirm) };
        let inner = Box::new(self.0.sink(settings, told).map_err(|error| error.to_string())?);
        Ok(Box::new(BrokenSink { inner, confirm, breaks: self.1, held_back: Mutex::default() }))
    }

    fn read(&mut self) -> Result<Vec<Message>, String> {
        Ok(self.0.stored("out"))
    }

    fn unacceptable(&self) -> Option<Message> {
        Some(Message { value: Some(vec![b'x'; 1024 * 1024 + 1].into()), ..Message::new("large") })
    }

    fn hold(&mut self) -> Result<bool, String> {
        self.0.go_away("out");
        Ok(true)
    }

    fn let_through(&mut self) -> Result<(), String> {
        self.0.come_back("out");
        Ok(())
    }

    fn burst(&self) -> usize {
        5000
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(5)
    }
}

#[test]
fn each_rule_of_sinks_notices_the_sink_that_breaks_it() {
    for rule in Rule::OF_SINKS {
        let failure = sink(&Sinks(rule), &all_but(&Rule::OF_SINKS, rule)).expect_err(rule.as_str());
        assert_eq!(failure.rule, rule);
    }
}

#[test]
fn an_exemption_from_a_rule_that_is_not_asked_is_refused() {
    let exemption = Exemption { rule: Rule::DrainWaits, reason: "a source does not drain" };
    assert!(source(&Sources(Rule::DrainWaits), &[exemption]).is_err());
}
