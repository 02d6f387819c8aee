//! What a sink has answered counts, whatever is answered beside it; what was never handed to it is not shown as sent.

use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use portcullis_connector_api::{
    Acknowledgement, AssignmentId, Confirm, ConnectorError, Fate, Receipt, Refusal, RefusalKind, SendError, Token,
};

use super::super::tap::{At, Seen, Sight, Watcher};
use super::*;

/// Refuses the first message and stores the others, at once.
struct Answers {
    confirm: Arc<dyn Confirm>,
    seen: Arc<Answered>,
}

/// What the pipeline did.
#[derive(Default)]
struct Answered {
    answers: AtomicUsize,
    abandoned: AtomicBool,
    acknowledged: Mutex<Vec<i64>>,
}

impl Sink for Answers {
    fn send(&self, message: &Message, token: Token) -> Result<(), SendError> {
        let refusal = || Refusal { kind: RefusalKind::Rejected, detail: "not this one".to_owned() };
        let fate = match message.value.as_deref() {
            Some(b"0") => Fate::Refused(refusal()),
            _ => Fate::Stored(Receipt::default()),
        };
        self.confirm.confirm(token, fate);
        self.seen.answers.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn wait_for_room(&self, _: Duration) {}

    fn unconfirmed(&self) -> u64 {
        0
    }

    fn drain(&self, _: Duration) -> u64 {
        0
    }

    fn abandon(&self) {
        self.seen.abandoned.store(true, Ordering::Relaxed);
    }

    fn check(&self, _: Duration) -> Result<(), ConnectorError> {
        Ok(())
    }
}

/// Of the in-memory broker. It comes back from its second poll when the sink has answered for everything: so all answers are
/// there in one go.
struct Waits {
    inner: Box<dyn Source>,
    records: usize,
    seen: Arc<Answered>,
}

impl Source for Waits {
    fn ack_mode(&self) -> AckMode {
        self.inner.ack_mode()
    }

    fn poll(&mut self, budget: Budget, wait: Duration, batch: &mut Batch) -> Result<(), ConnectorError> {
        until("the sink has not answered", || self.seen.answers.load(Ordering::Relaxed) >= self.records);
        let polled = self.inner.poll(budget, wait, batch);
        self.records += batch.records.len();
        polled
    }

    fn acknowledge(&mut self, done: &[Acknowledgement], durable: bool) -> Result<(), ConnectorError> {
        self.seen.acknowledged.lock().unwrap().extend(done.iter().map(|entry| entry.offset));
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

    fn degraded(&self) -> Option<String> {
        Some("half of them".to_owned())
    }

    fn close(self: Box<Self>, deadline: Duration) -> Result<(), ConnectorError> {
        self.inner.close(deadline)
    }
}

/// A source that waits and a sink that answers.
fn answering(broker: &Arc<MemoryBroker>, seen: &Arc<Answered>) -> Blueprint {
    let mut blueprint = blueprint(broker, AckMode::Each, ("in", "out"));
    let (sources, of_source, of_sink) = (broker.clone(), seen.clone(), seen.clone());
    blueprint.sources = vec![Inlet {
        open: Box::new(move || {
            let settings = MemorySourceSettings { ack_mode: AckMode::Each, ..MemorySourceSettings::new("in", "g") };
            Ok(Box::new(Waits { inner: Box::new(sources.source(settings)), records: 0, seen: of_source.clone() }))
        }),
        identity: SourceIdentity::of_this_run(),
    }];
    blueprint.sink = Box::new(move |confirm| Ok(Arc::new(Answers { confirm, seen: of_sink.clone() })));
    blueprint
}

#[test]
fn what_was_stored_beside_a_message_that_stops_the_pipeline_is_acknowledged_and_no_sink_is_given_up() {
    let broker = MemoryBroker::new();
    broker.create("in", 1);
    broker.publish("in", (0..3).map(|n| message("k", &n.to_string()))).unwrap();
    let seen = Arc::new(Answered::default());
    let error = run(answering(&broker, &seen), &Stop::default()).join().unwrap_err();
    assert!(error.to_string().contains("sink_rejected"), "{error}");
    assert_eq!(*seen.acknowledged.lock().unwrap(), [1, 2]);
    assert!(!seen.abandoned.load(Ordering::Relaxed), "the sink has answered for everything");
}

#[test]
fn what_is_worse_than_it_should_be_is_said_while_the_pipeline_runs_and_does_not_make_it_unready() {
    let broker = MemoryBroker::new();
    broker.create("in", 1);
    let (stop, readiness) = (Stop::default(), Readiness::default());
    let recorder = audit_store::in_memory(MemoryStore::new()).unwrap();
    let full = Arc::new(AtomicBool::new(false));
    let blueprint = answering(&broker, &Arc::new(Answered::default()));
    let running = start(blueprint, &stop, readiness.clone(), recorder, full).unwrap();
    let said = ("pipeline/in/source".to_owned(), "half of them".to_owned());
    until("it is not said", || readiness.all_degraded() == [said.clone()]);
    assert_eq!(readiness.not_ready(), []);
    stop.request();
    assert_eq!(running.join().unwrap(), 0);
    assert_eq!(readiness.all_degraded(), []);
}

/// Counts what is shown as sent.
#[derive(Default)]
struct Sent(AtomicUsize);

impl Watcher for Sent {
    fn wants(&self, at: At<'_>, _: Token) -> bool {
        at == At::Sink
    }

    fn saw(&self, _: At<'_>, seen: &Seen<'_>) {
        self.0.fetch_add(usize::from(matches!(seen.sight, Sight::Sent { .. })), Ordering::Relaxed);
    }
}

#[test]
fn a_message_that_is_not_handed_over_any_more_is_not_shown_as_sent() {
    let broker = MemoryBroker::new();
    ["in", "out"].iter().for_each(|channel| broker.create(channel, 1));
    broker.inject("out", Fault::FullFor { sends: u64::MAX });
    broker.publish("in", (0..10).map(|n| message("k", &n.to_string()))).unwrap();
    let stop = Stop::default();
    let blueprint = blueprint(&broker, AckMode::Cumulative, ("in", "out"));
    let sent = Arc::new(Sent::default());
    let watch = blueprint.taps.add(sent.clone());
    let running = run(blueprint, &stop);
    let unfinished = running.unfinished();
    until("the messages were not taken in", || unfinished[0].load(Ordering::Relaxed) == 10);
    until("the first one was not tried", || sent.0.load(Ordering::Relaxed) == 1);
    stop.request();
    assert_eq!(running.join().unwrap(), 10);
    assert_eq!((sent.0.load(Ordering::Relaxed), broker.stored_count("out")), (1, 0));
    drop(watch);
}
