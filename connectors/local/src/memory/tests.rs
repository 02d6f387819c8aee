use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use portcullis_connector_api::{
    Acknowledgement, AssignmentId, Batch, Budget, ErrorKind, Event, Fate, RefusalKind, SendError, Sink, Source, Token,
};
use proptest::prelude::*;

use super::*;

const ALL: Budget = Budget { messages: 1000, bytes: 1 << 20 };
const WAIT: Duration = Duration::from_secs(10);
const NOW: Duration = Duration::ZERO;

fn message(key: &str, value: &str) -> Message {
    Message { key: Some(key.to_owned().into()), value: Some(value.to_owned().into()), ..Message::new("x") }
}

fn with_messages(partitions: i32, count: usize) -> Arc<MemoryBroker> {
    let broker = MemoryBroker::new();
    broker.create("in", partitions);
    broker.publish("in", (0..count).map(|n| Message { key: None, ..message("", &n.to_string()) })).unwrap();
    broker
}

fn poll(source: &mut MemorySource, wait: Duration) -> Batch {
    let mut batch = Batch::default();
    source.poll(ALL, wait, &mut batch).unwrap();
    batch
}

fn values(batch: &Batch) -> Vec<String> {
    let value = |message: &Message| String::from_utf8(message.value.clone().unwrap().to_vec()).unwrap();
    batch.records.iter().map(|record| value(&record.message)).collect()
}

fn assigned(batch: &Batch) -> Vec<AssignmentId> {
    let id = |event: &Event| if let Event::Assigned { id, .. } = event { Some(*id) } else { None };
    batch.events.iter().filter_map(id).collect()
}

fn revoking(batch: &Batch) -> Vec<(AssignmentId, bool)> {
    let ids = |event: &Event| match event {
        Event::Revoking { assignments, lost } => assignments.iter().map(|id| (*id, *lost)).collect(),
        _ => Vec::new(),
    };
    batch.events.iter().flat_map(ids).collect()
}

fn acknowledge(source: &mut MemorySource, assignment: AssignmentId, offset: i64) {
    source.acknowledge(&[Acknowledgement { assignment, offset }], true).unwrap();
}

struct Confirmed(SyncSender<(u64, String)>);

impl Confirm for Confirmed {
    fn confirm(&self, token: Token, fate: Fate) {
        let fate = match fate {
            Fate::Stored(_) => "stored",
            Fate::Refused(_) => "refused",
            Fate::Failed(_) => "failed",
        };
        // A test that has seen enough is gone already.
        drop(self.0.send((token.0, fate.to_owned())));
    }
}

fn sink(broker: &Arc<MemoryBroker>, queue_messages: u64) -> (MemorySink, Receiver<(u64, String)>) {
    broker.create("out", 1);
    let (sender, receiver) = sync_channel(1000);
    let settings = MemorySinkSettings::new(Template::parse("out", &[]).unwrap());
    (broker.sink(MemorySinkSettings { queue_messages, ..settings }, Arc::new(Confirmed(sender))).unwrap(), receiver)
}

fn next(confirmed: &Receiver<(u64, String)>) -> (u64, String) {
    confirmed.recv_timeout(WAIT).unwrap()
}

#[test]
fn a_second_member_gets_its_share_after_the_first_has_released_it() {
    let broker = with_messages(3, 0);
    let mut first = broker.source(MemorySourceSettings::new("in", "g"));
    assert_eq!(assigned(&poll(&mut first, NOW)).len(), 3);
    let mut second = broker.source(MemorySourceSettings::new("in", "g"));
    assert_eq!(assigned(&poll(&mut second, NOW)), []);
    let given = revoking(&poll(&mut first, NOW));
    assert_eq!(given.len(), 1);
    assert_eq!(assigned(&poll(&mut second, NOW)), [], "not before the release");
    first.release(&[given[0].0]).unwrap();
    let taken = assigned(&poll(&mut second, NOW));
    assert_eq!(taken.len(), 1);
    assert_ne!(taken[0], given[0].0);
    drop(first);
    assert_eq!(assigned(&poll(&mut second, NOW)).len(), 2);
}

#[test]
fn a_lost_partition_may_have_another_owner_before_the_first_knows_and_its_acknowledgement_moves_nothing() {
    let broker = with_messages(1, 10);
    let mut first = broker.source(MemorySourceSettings::new("in", "g"));
    let batch = poll(&mut first, NOW);
    let old = assigned(&batch)[0];
    assert!(broker.revoke("g", "in", 0, true));
    let mut second = broker.source(MemorySourceSettings::new("in", "g"));
    poll(&mut second, NOW);
    acknowledge(&mut first, old, 10);
    assert_eq!((broker.committed("g", "in", 0), broker.late_acknowledgements()), (0, 1));
    assert_eq!(revoking(&poll(&mut first, NOW)), [(old, true)]);
}

#[test]
fn what_was_not_acknowledged_comes_again_and_says_how_often() {
    let broker = with_messages(1, 5);
    let mut source = broker.source(MemorySourceSettings::new("in", "g"));
    let batch = poll(&mut source, NOW);
    acknowledge(&mut source, assigned(&batch)[0], 2);
    drop(source);
    let batch = poll(&mut broker.source(MemorySourceSettings::new("in", "g")), NOW);
    assert_eq!(values(&batch), ["2", "3", "4"]);
    assert!(batch.records.iter().all(|record| record.redelivered == 1));
    let other = poll(&mut broker.source(MemorySourceSettings::new("in", "another")), NOW);
    assert_eq!(other.records.len(), 5, "groups have nothing to do with each other");
}

#[test]
fn messages_that_are_acknowledged_one_by_one_are_redelivered_one_by_one() {
    let broker = with_messages(1, 5);
    let settings = MemorySourceSettings { ack_mode: AckMode::Each, ..MemorySourceSettings::new("in", "g") };
    let mut source = broker.source(settings);
    let batch = poll(&mut source, NOW);
    for offset in [3, 0] {
        acknowledge(&mut source, assigned(&batch)[0], offset);
    }
    assert_eq!(broker.committed("g", "in", 0), 1);
    broker.redeliver("g");
    assert_eq!(values(&poll(&mut source, NOW)), ["1", "2", "4"]);
    for offset in [1, 2, 4] {
        acknowledge(&mut source, assigned(&batch)[0], offset);
    }
    assert_eq!(broker.committed("g", "in", 0), 5);
}

#[test]
fn without_acknowledgements_what_was_delivered_is_gone() {
    let broker = with_messages(1, 5);
    let settings = MemorySourceSettings { ack_mode: AckMode::None, ..MemorySourceSettings::new("in", "g") };
    let mut source = broker.source(settings.clone());
    let mut batch = Batch::default();
    source.poll(Budget { messages: 3, ..ALL }, NOW, &mut batch).unwrap();
    drop(source);
    assert_eq!(values(&poll(&mut broker.source(settings), NOW)), ["3", "4"]);
}

#[test]
fn a_poll_wakes_when_a_message_comes() {
    let broker = with_messages(1, 0);
    let mut source = broker.source(MemorySourceSettings::new("in", "g"));
    poll(&mut source, NOW);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| values(&poll(&mut source, WAIT)));
        broker.publish("in", [message("k", "late")]).unwrap();
        assert_eq!(waiting.join().unwrap(), ["late"]);
    });
}

#[test]
fn faults_of_a_source_happen_as_often_as_was_asked_and_lose_nothing() {
    let broker = with_messages(1, 2);
    let mut source = broker.source(MemorySourceSettings::new("in", "g"));
    broker.inject("in", Fault::PollFails { polls: 2, kind: ErrorKind::Retriable });
    for _ in 0..2 {
        assert_eq!(source.poll(ALL, NOW, &mut Batch::default()).unwrap_err().kind, ErrorKind::Retriable);
    }
    let batch = poll(&mut source, NOW);
    assert_eq!(values(&batch), ["0", "1"]);
    broker.inject("in", Fault::AcknowledgeFails { calls: 1, kind: ErrorKind::Retriable });
    let entry = Acknowledgement { assignment: assigned(&batch)[0], offset: 2 };
    assert!(source.acknowledge(&[entry], true).is_err());
    assert_eq!(broker.committed("g", "in", 0), 0);
    source.acknowledge(&[entry], true).unwrap();
    assert!(broker.wait_until_committed("g", "in", 0, 2, NOW));
}

#[test]
fn held_confirmations_go_when_and_in_which_order_the_test_says() {
    let broker = MemoryBroker::new();
    let (sink, confirmed) = sink(&broker, 100);
    broker.hold_confirmations("out");
    for token in 0..5 {
        sink.send(&message("k", "v"), Token(token)).unwrap();
    }
    assert!(broker.wait_until_stored("out", 5, NOW), "what is held is stored");
    assert_eq!(sink.drain(NOW), 5);
    broker.confirm("out", 2, ConfirmOrder::Reversed);
    assert_eq!([next(&confirmed).0, next(&confirmed).0], [4, 3]);
    assert!(confirmed.try_recv().is_err());
    broker.release_confirmations("out", ConfirmOrder::AsSent);
    assert_eq!([next(&confirmed).0, next(&confirmed).0, next(&confirmed).0], [0, 1, 2]);
    assert_eq!(sink.drain(WAIT), 0);
}

#[test]
fn faults_of_a_sink_happen_as_often_as_was_asked() {
    let broker = MemoryBroker::new();
    let (sink, confirmed) = sink(&broker, 100);
    broker.inject("out", Fault::FullFor { sends: 1 });
    assert!(sink.not_ready().is_some());
    assert!(matches!(sink.send(&message("k", "v"), Token(0)), Err(SendError::Full)));
    assert_eq!(sink.not_ready(), None);
    broker.inject("out", Fault::RefuseNext { messages: 1, kind: RefusalKind::Oversize });
    let refused = sink.send(&message("k", "v"), Token(1));
    assert!(matches!(refused, Err(SendError::Refused(refusal)) if refusal.kind == RefusalKind::Oversize));
    broker.inject("out", Fault::RefuseLater { messages: 1, kind: RefusalKind::Rejected });
    broker.inject("out", Fault::FailNext { messages: 1 });
    for (token, fate) in [(2, "refused"), (3, "failed"), (4, "stored")] {
        sink.send(&message("k", "v"), Token(token)).unwrap();
        assert_eq!(next(&confirmed), (token, fate.to_owned()));
    }
    assert_eq!(broker.stored_count("out"), 1);
    broker.refuse_where("out", |message| {
        let refusal = Refusal { kind: RefusalKind::Rejected, detail: "not this key".to_owned() };
        (message.key.as_deref() == Some(b"bad")).then_some(refusal)
    });
    assert!(matches!(sink.send(&message("bad", "v"), Token(5)), Err(SendError::Refused(_))));
    sink.send(&message("good", "v"), Token(6)).unwrap();
    broker.inject("out", Fault::Broken);
    assert!(matches!(sink.send(&message("good", "v"), Token(7)), Err(SendError::Fatal(_))));
    broker.heal("out");
    sink.send(&message("bad", "v"), Token(8)).unwrap();
}

#[test]
fn a_sink_that_is_dropped_confirms_what_it_owes() {
    let broker = MemoryBroker::new();
    let (sink, confirmed) = sink(&broker, 100);
    broker.hold_confirmations("out");
    sink.send(&message("k", "v"), Token(1)).unwrap();
    drop(sink);
    assert_eq!(next(&confirmed), (1, "stored".to_owned()));
    assert!(confirmed.recv_timeout(WAIT).is_err(), "its thread has ended");
}

#[test]
fn a_channel_that_does_not_exist_and_a_bound_that_is_reached_are_errors() {
    let broker = MemoryBroker::bounded(10);
    assert_eq!(broker.publish("in", [message("k", "v")]).unwrap_err().kind, ErrorKind::Configuration);
    let mut source = broker.source(MemorySourceSettings::new("in", "g"));
    assert_eq!(source.poll(ALL, NOW, &mut Batch::default()).unwrap_err().kind, ErrorKind::Configuration);
    let (sink, _confirmed) = sink(&broker, 1);
    assert!(sink.check(NOW).is_ok());
    assert!(matches!(sink.send(&message("k", "0123456789"), Token(0)), Err(SendError::Fatal(_))));
}

/// What two members of a group may do to each other.
#[derive(Clone, Debug)]
enum Step {
    Poll(usize, usize),
    Acknowledge(usize, usize),
    Revoke(i32, bool),
    Release(usize),
    Crash(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..2_usize, 1..8_usize).prop_map(|(member, messages)| Step::Poll(member, messages)),
        3 => (0..2_usize, 0..20_usize).prop_map(|(member, index)| Step::Acknowledge(member, index)),
        1 => (0..2_i32, any::<bool>()).prop_map(|(partition, lost)| Step::Revoke(partition, lost)),
        2 => (0..2_usize).prop_map(Step::Release),
        1 => (0..2_usize).prop_map(Step::Crash),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    #[test]
    fn whatever_members_do_no_position_passes_what_was_not_acknowledged_and_the_rest_comes_again(steps in steps()) {
        let broker = with_messages(2, 20);
        let join = || broker.source(MemorySourceSettings::new("in", "g"));
        let mut members = [join(), join()];
        let mut read: [Vec<(AssignmentId, i64)>; 2] = Default::default();
        let mut revoked: [Vec<AssignmentId>; 2] = Default::default();
        let mut acknowledged = 0;
        for step in steps {
            match step {
                Step::Poll(member, messages) => {
                    let mut batch = Batch::default();
                    members[member].poll(Budget { messages, ..ALL }, NOW, &mut batch).unwrap();
                    read[member].extend(batch.records.iter().map(|record| (record.assignment, record.offset)));
                    revoked[member].extend(revoking(&batch).iter().map(|(id, _)| *id));
                }
                Step::Acknowledge(member, index) => {
                    if let Some((assignment, offset)) = read[member].get(index).copied() {
                        acknowledge(&mut members[member], assignment, offset + 1);
                        acknowledged = acknowledged.max(offset + 1);
                    }
                }
                Step::Revoke(partition, lost) => {
                    broker.revoke("g", "in", partition, lost);
                }
                Step::Release(member) => {
                    members[member].release(&std::mem::take(&mut revoked[member])).unwrap();
                }
                Step::Crash(member) => {
                    members[member] = join();
                    read[member].clear();
                    revoked[member].clear();
                }
            }
        }
        drop(members);
        let rest = poll(&mut join(), NOW);
        let rest: BTreeSet<String> = values(&rest).into_iter().collect();
        let mut expected = BTreeSet::new();
        for partition in 0..2 {
            let committed = broker.committed("g", "in", partition);
            prop_assert!(committed <= acknowledged);
            let stored = broker.lock().partition("in", partition).unwrap().1.to_vec();
            let left = stored[committed as usize..].iter();
            expected.extend(left.map(|message| String::from_utf8(message.value.clone().unwrap().to_vec()).unwrap()));
        }
        prop_assert_eq!(rest, expected);
    }
}

#[test]
fn what_a_sink_keeps_for_a_channel_that_is_away_is_stored_when_it_comes_back_and_never_after_it_was_abandoned() {
    for is_abandoned in [false, true] {
        let broker = MemoryBroker::new();
        broker.create("out", 1);
        broker.go_away("out");
        let (confirmed, fates) = sync_channel(10);
        let settings = MemorySinkSettings::new(Template::parse("out", &[]).unwrap());
        let sink = broker.sink(settings, Arc::new(Confirmed(confirmed))).unwrap();
        for n in 0..3 {
            sink.send(&message("k", &n.to_string()), Token(n)).unwrap();
        }
        assert_eq!((broker.stored_count("out"), sink.unconfirmed()), (0, 3));
        if is_abandoned {
            sink.abandon();
            let refused = sink.send(&message("k", "3"), Token(3));
            assert!(matches!(refused, Err(SendError::Fatal(_))), "{refused:?}");
        }
        broker.come_back("out");
        let fate = if is_abandoned { "failed" } else { "stored" };
        for n in 0..3 {
            assert_eq!(fates.recv_timeout(WAIT).unwrap(), (n, fate.to_owned()));
        }
        assert_eq!(broker.stored_count("out"), if is_abandoned { 0 } else { 3 });
    }
}
