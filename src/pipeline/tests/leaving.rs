//! What is under way when partitions start over, and when a pipeline ends.

use std::sync::atomic::AtomicUsize;

use portcullis_connector_api::{Acknowledgement, AssignmentId, ConnectorError, ErrorKind, Record, RefusalKind};

use super::*;

/// One partition with two messages. When it is told to, it starts over elsewhere, where there are two others.
struct StartsOver {
    id: AssignmentId,
    /// The messages that are there, by their values.
    next: Vec<&'static str>,
    is_assigned: bool,
    is_over: bool,
    told: Arc<Told>,
}

#[derive(Default)]
struct Told {
    is_cut: AtomicBool,
    is_over: AtomicBool,
    polls_since: AtomicUsize,
}

impl Source for StartsOver {
    fn ack_mode(&self) -> AckMode {
        AckMode::Cumulative
    }

    fn poll(&mut self, budget: Budget, _: Duration, batch: &mut Batch) -> Result<(), ConnectorError> {
        if self.is_over {
            self.told.polls_since.fetch_add(1, Ordering::Relaxed);
        } else if !std::mem::replace(&mut self.is_assigned, true) {
            batch.events.push(Event::Assigned { id: self.id, channel: "in".into(), partition: 0 });
        } else if self.id == AssignmentId(1) && self.told.is_cut.load(Ordering::Relaxed) {
            self.is_over = true;
            batch.events.push(Event::StartsOver { assignments: vec![self.id] });
            self.told.is_over.store(true, Ordering::Relaxed);
        }
        if !self.is_over && self.is_assigned && budget.messages > 0 {
            for value in self.next.drain(..) {
                let offset = value.trim_start_matches('m').parse().unwrap();
                let message = Message { channel: "in".into(), ..message("k", value) };
                batch.records.push(Record { message, assignment: self.id, offset, redelivered: 0, defect: None });
            }
        }
        Ok(())
    }

    fn acknowledge(&mut self, _: &[Acknowledgement], _: bool) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn pause(&mut self, _: &[AssignmentId]) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn resume(&mut self, _: &[AssignmentId]) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn release(&mut self, assignments: &[AssignmentId]) -> Result<(), ConnectorError> {
        assert_eq!(assignments, [self.id]);
        (self.id, self.is_assigned, self.is_over) = (AssignmentId(2), false, false);
        self.next = vec!["m500", "m501"];
        Ok(())
    }

    fn close(self: Box<Self>, _: Duration) -> Result<(), ConnectorError> {
        Ok(())
    }
}

#[test]
fn a_partition_that_starts_over_waits_for_the_sink_however_long_it_is_away() {
    let broker = MemoryBroker::new();
    broker.create("out", 1);
    broker.go_away("out");
    let told = Arc::new(Told::default());
    let (stop, of_source) = (Stop::default(), told.clone());
    let mut blueprint = blueprint(&broker, AckMode::Cumulative, ("in", "out"));
    blueprint.sources[0].open = Box::new(move || {
        let (id, next, told) = (AssignmentId(1), vec!["m1", "m2"], of_source.clone());
        Ok(Box::new(StartsOver { id, next, is_assigned: false, is_over: false, told }))
    });
    let running = run(blueprint, &stop);
    assert!(broker.wait_until_kept("out", 2, WAIT));
    told.is_cut.store(true, Ordering::Relaxed);
    until("the partition did not start over", || told.is_over.load(Ordering::Relaxed));
    // A source that is polled on is in no wait that gives the sink up.
    until("the source was not polled meanwhile", || told.polls_since.load(Ordering::Relaxed) >= 20);
    assert!(!running.has_ended());
    broker.come_back("out");
    assert!(broker.wait_until_stored("out", 4, WAIT), "{:?}", values(&broker, "out"));
    assert_eq!(values(&broker, "out"), ["m1", "m2", "m500", "m501"]);
    stop.request();
    assert_eq!(running.join().unwrap(), 0);
}

/// Of the in-memory broker. When it is told to, it lets the confirmations of dead letters go and fails: nobody but the end of
/// the pipeline meets them.
struct Fails {
    inner: Box<dyn Source>,
    broker: Arc<MemoryBroker>,
    fails: Arc<AtomicBool>,
}

impl Source for Fails {
    fn ack_mode(&self) -> AckMode {
        self.inner.ack_mode()
    }

    fn poll(&mut self, budget: Budget, wait: Duration, batch: &mut Batch) -> Result<(), ConnectorError> {
        if self.fails.load(Ordering::Relaxed) {
            self.broker.release_confirmations("letters", ConfirmOrder::Reversed);
            return Err(ConnectorError::new(ErrorKind::Fatal, "told to fail"));
        }
        self.inner.poll(budget, wait, batch)
    }

    fn acknowledge(&mut self, done: &[Acknowledgement], durable: bool) -> Result<(), ConnectorError> {
        self.inner.acknowledge(done, durable)
    }

    fn pause(&mut self, assignments: &[AssignmentId]) -> Result<(), ConnectorError> {
        self.inner.pause(assignments)
    }

    fn resume(&mut self, assignments: &[AssignmentId]) -> Result<(), ConnectorError> {
        self.inner.resume(assignments)
    }

    fn release(&mut self, assignments: &[AssignmentId]) -> Result<(), ConnectorError> {
        self.inner.release(assignments)
    }

    fn close(self: Box<Self>, deadline: Duration) -> Result<(), ConnectorError> {
        self.inner.close(deadline)
    }
}

#[test]
fn a_dead_letter_that_is_confirmed_at_the_end_has_its_event() {
    let broker = MemoryBroker::new();
    ["in", "out", "letters"].iter().for_each(|channel| broker.create(channel, 1));
    broker.inject("out", Fault::RefuseLater { messages: 3, kind: RefusalKind::Rejected });
    broker.hold_confirmations("letters");
    broker.publish("in", (1..=3).map(|n| message("k", &n.to_string()))).unwrap();
    let fails = Arc::new(AtomicBool::new(false));
    let mut blueprint = blueprint(&broker, AckMode::Cumulative, ("in", "out"));
    let (of_source, when) = (broker.clone(), fails.clone());
    blueprint.sources[0].open = Box::new(move || {
        let inner = Box::new(of_source.source(MemorySourceSettings::new("in", "g")));
        Ok(Box::new(Fails { inner, broker: of_source.clone(), fails: when.clone() }))
    });
    let (letters, settings) = (broker.clone(), MemorySinkSettings::new(Template::parse("letters", &[]).unwrap()));
    blueprint.dead_letter =
        Some(Box::new(move |confirm| Ok(Arc::new(letters.sink(settings.clone(), confirm)?) as Arc<dyn Sink>)));
    let store = MemoryStore::new();
    let recorder = audit_store::in_memory(store.clone()).unwrap();
    let audit_full = Arc::new(AtomicBool::new(false));
    let running = start(blueprint, &Stop::default(), Readiness::default(), recorder.clone(), audit_full).unwrap();
    assert!(broker.wait_until_stored("letters", 3, WAIT));
    fails.store(true, Ordering::Relaxed);
    assert!(running.join().unwrap_err().to_string().contains("told to fail"));
    recorder.shutdown(WAIT).unwrap();
    let quarantined = |event: &serde_json::Value| event.to_string().contains("record.quarantined");
    assert_eq!(store.events().iter().filter(|event| quarantined(event)).count(), 3);
    assert_eq!(broker.committed("g", "in", 0), 3, "they are done");
}
