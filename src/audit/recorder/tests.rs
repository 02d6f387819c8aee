use std::pin::{Pin, pin};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::task::Wake;
use std::time::Instant;

use serde_json::Value;

use super::*;
use crate::chain::{hex, leaf};
use crate::samples::{context, decided, every_event, lookup, plugin};
use crate::{AuditRecord, Connection, Decided, FileStore, HostCall, MemoryStore, StoreError, Transport};

const LONG: Duration = Duration::from_secs(20);

fn started(options: Options) -> (Recorder, MemoryStore) {
    let store = MemoryStore::new();
    let (recorder, boot) = Recorder::start(context(), options, store.clone()).unwrap();
    boot.wait(LONG).unwrap();
    (recorder, store)
}

fn impatient(capacity: usize) -> Options {
    Options { capacity, deadline: Duration::ZERO, ..Options::default() }
}

fn codes(store: &MemoryStore) -> Vec<String> {
    store.events().iter().map(|event| event["metadata"]["event_code"].as_str().unwrap().to_owned()).collect()
}

fn calls(count: u64) -> Event {
    let calls = HostCall { operation: "wasi:clocks/wall-clock.now".into(), count, start_ms: 1, end_ms: 2 };
    Event::host_call(plugin(), calls)
}

#[test]
fn a_chain_begins_with_boot_ends_with_stop_and_has_no_gap() {
    let (recorder, store) = started(Options::default());
    let events = every_event();
    for event in &events {
        recorder.record(event.clone());
    }
    let summary = recorder.shutdown(LONG).unwrap();
    let codes = codes(&store);
    assert_eq!(codes.first().map(String::as_str), Some("audit.boot"));
    assert_eq!(codes.last().map(String::as_str), Some("audit.stop"));
    assert_eq!(codes.len(), events.len() + 2);
    assert_eq!(summary, Summary { events: codes.len() as u64, lost: 0 });
    let mut previous = "0".repeat(64);
    let mut time = 0;
    for (sequence, (record, event)) in (1..).zip(store.records().iter().zip(store.events())) {
        assert_eq!(record.sequence, sequence);
        assert_eq!(event["metadata"]["sequence"], sequence);
        assert_eq!(event["unmapped"]["integrity"]["prev_sha256"], previous);
        assert!(event["time"].as_u64().unwrap() >= time, "time runs backwards");
        time = event["time"].as_u64().unwrap();
        previous = hex(&leaf(&record.value));
    }
}

#[test]
fn events_of_many_threads_are_all_there_once_and_in_the_order_of_each_thread() {
    let (recorder, store) = started(Options { capacity: 8, ..Options::default() });
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let recorder = recorder.clone();
            scope.spawn(move || {
                for number in 0..200 {
                    recorder.record(calls(thread * 1000 + number + 1));
                }
            });
        }
    });
    assert_eq!(recorder.shutdown(LONG), Ok(Summary { events: 1602, lost: 0 }));
    let counts: Vec<u64> = store.events().iter().filter_map(|event| event["count"].as_u64()).collect();
    for thread in 0..8 {
        let own: Vec<u64> = counts.iter().copied().filter(|count| (count - 1) / 1000 == thread).collect();
        assert_eq!(own, (1..=200).map(|number| thread * 1000 + number).collect::<Vec<_>>());
    }
}

#[test]
fn what_found_no_room_is_counted_exactly_and_told_as_soon_as_there_is_room() {
    let (recorder, store) = started(impatient(4));
    store.set_unavailable(true);
    let receipts: Vec<Receipt> = (0..5000).map(|_| recorder.record(calls(3))).collect();
    let lost = receipts.iter().filter(|receipt| receipt.wait(Duration::ZERO) == Err(Unavailable::Lost)).count() as u64;
    assert!(lost > 3000, "the writer holds a window and the queue four, so most are lost: {lost}");
    assert_eq!(recorder.status().lost_events, lost);
    store.set_unavailable(false);
    let told = |records: &[AuditRecord]| {
        records.iter().any(|record| record.headers.contains(&("ce_type", "portcullis.audit.audit.loss".to_owned())))
    };
    assert!(store.wait_until(LONG, told), "without a further event");
    let summary = recorder.shutdown(LONG).unwrap();
    assert_eq!(summary.lost, lost);

    let events = store.events();
    let sum = |path: &str| -> u64 { events.iter().filter_map(|event| event.pointer(path)?.as_u64()).sum() };
    assert_eq!(sum("/unmapped/loss/by_code/host.call"), lost * 3);
    let of = |code: &str| events.iter().filter(|event| event["metadata"]["event_code"] == code).collect::<Vec<_>>();
    let told: u64 = of("audit.loss").iter().map(|event| event["count"].as_u64().unwrap()).sum();
    assert_eq!(told, lost);
    assert_eq!(of("host.call").len() as u64 + lost, 5000);
    assert_eq!(events.last().unwrap()["unmapped"]["stop"]["lost"], lost);
}

#[test]
fn a_full_queue_makes_the_caller_wait_and_loses_nothing_when_room_comes_in_time() {
    let (recorder, store) = started(Options { capacity: 1, deadline: LONG, ..Options::default() });
    store.set_unavailable(true);
    let (begun, has_begun) = sync_channel(1);
    let other = recorder.clone();
    let caller = std::thread::spawn(move || {
        begun.send(()).unwrap();
        // More than the writer's window and the queue together.
        (0..2000).all(|number| other.record(calls(number + 1)).sequence.is_some())
    });
    has_begun.recv_timeout(LONG).unwrap();
    store.set_unavailable(false);
    assert!(caller.join().unwrap());
    assert_eq!(recorder.shutdown(LONG), Ok(Summary { events: 2002, lost: 0 }));
}

/// A store that takes nothing until its gate is gone. The queue before it holds what comes, and nothing moves meanwhile.
struct Stuck {
    inner: MemoryStore,
    entered: SyncSender<()>,
    gate: Receiver<()>,
}

impl Store for Stuck {
    fn append(&mut self, record: &AuditRecord) -> Result<(), StoreError> {
        // Once the writer was seen in here nobody listens, and once the gate is gone there is nothing to wait for.
        self.entered.send(()).unwrap_or_default();
        self.gate.recv().unwrap_or_default();
        self.inner.append(record)
    }

    fn confirmed(&mut self, wait: Duration) -> Result<u64, StoreError> {
        self.inner.confirmed(wait)
    }
}

/// A recorder whose writer is held in the store with `audit.boot`, which takes up one place. It goes on when the sender is
/// dropped.
fn stuck(capacity: usize) -> (Recorder, MemoryStore, SyncSender<()>) {
    let (entered, has_entered) = sync_channel(1);
    let (open, gate) = sync_channel(0);
    let store = MemoryStore::new();
    let options = Options { capacity, deadline: Duration::from_secs(600), ..Options::default() };
    let (recorder, _) = Recorder::start(context(), options, Stuck { inner: store.clone(), entered, gate }).unwrap();
    has_entered.recv_timeout(LONG).unwrap();
    (recorder, store, open)
}

#[test]
fn who_does_not_wait_is_told_at_once_that_the_queue_is_full_and_the_loss_is_counted() {
    let (recorder, store, open) = stuck(4);
    let begun = Instant::now();
    let lost = (0..10).filter(|_| recorder.try_record(calls(3)).is_lost()).count();
    assert!(begun.elapsed() < LONG, "the deadline is ten minutes: {:?}", begun.elapsed());
    assert_eq!((lost, recorder.status().lost_events), (7, 7));
    drop(open);
    assert_eq!(recorder.shutdown(LONG).unwrap().lost, 7);
    let told = store.events();
    let loss = told.iter().find(|event| event["metadata"]["event_code"] == "audit.loss").unwrap();
    assert_eq!(loss["unmapped"]["loss"]["by_code"]["host.call"], 21);
}

#[test]
fn intents_leave_the_last_eighth_to_what_has_happened() {
    let (recorder, _store, open) = stuck(16);
    let intents = (0..20).filter(|_| !recorder.try_record_intent(calls(1)).is_lost()).count();
    assert_eq!(intents, 16 - 2 - 1, "the boot event has a place too");
    let told = (0..20).filter(|_| !recorder.try_record(calls(1)).is_lost()).count();
    assert_eq!(told, 2);
    drop(open);
    recorder.shutdown(LONG).unwrap();
}

fn is_pending(room: &mut Pin<&mut impl Future<Output = ()>>) -> bool {
    room.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_pending()
}

#[test]
fn room_comes_when_the_store_works_again_and_each_who_waits_is_woken() {
    let (recorder, _store, open) = stuck(8);
    block_on(recorder.room());
    while !recorder.try_record_intent(calls(1)).is_lost() {}
    assert!(is_pending(&mut pin!(recorder.room())), "there is a place left, but not for an intent");
    assert!(!recorder.try_record(calls(1)).is_lost());
    // More than there are places, and some of them only look.
    let waiting: Vec<_> = (0..40)
        .map(|number| {
            let recorder = recorder.clone();
            std::thread::spawn(move || {
                block_on(recorder.room());
                number % 2 == 0 || !recorder.try_record(calls(1)).is_lost()
            })
        })
        .collect();
    drop(open);
    let until = deadline(LONG);
    while !waiting.iter().all(std::thread::JoinHandle::is_finished) {
        assert!(Instant::now() < until, "somebody still waits");
        std::thread::yield_now();
    }
    recorder.shutdown(LONG).unwrap();
}

#[test]
fn nobody_waits_for_room_past_the_end() {
    let (recorder, _store, open) = stuck(1);
    assert!(recorder.try_record_intent(calls(1)).is_lost());
    let other = recorder.clone();
    let waiting = std::thread::spawn(move || block_on(other.room()));
    recorder.shutdown(Duration::ZERO).unwrap_err();
    waiting.join().unwrap();
    assert!(recorder.try_record_intent(calls(1)).is_lost(), "and what is intended then does not happen");
    drop(open);
}

#[test]
fn a_receipt_resolves_when_the_store_has_confirmed_and_not_before() {
    let (recorder, store) = started(Options::default());
    store.set_withholding(true);
    let receipt = recorder.record(Event::plugin_stopped(plugin()));
    assert!(store.wait_until(LONG, |records| records.len() == 2), "the store has it");
    assert_eq!(receipt.wait(Duration::from_millis(20)), Err(Unavailable::Unconfirmed { waited_ms: 20 }));
    store.set_withholding(false);
    assert_eq!(receipt.wait(LONG), Ok(()));
    assert_eq!(receipt.wait(Duration::ZERO), Ok(()), "and stays resolved");
}

/// Runs a future on this thread, which sleeps until it is woken.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
            return output;
        }
        std::thread::park_timeout(LONG);
    }
}

#[test]
fn the_future_of_a_receipt_resolves_when_the_store_has_confirmed_and_not_before() {
    let (recorder, store) = started(Options::default());
    store.set_withholding(true);
    let receipt = recorder.record(Event::plugin_stopped(plugin()));
    assert!(store.wait_until(LONG, |records| records.len() == 2), "the store has it");
    let confirmed = &mut Box::pin(receipt.confirmed());
    let waker = std::task::Waker::noop();
    assert!(confirmed.as_mut().poll(&mut std::task::Context::from_waker(waker)).is_pending());
    store.set_withholding(false);
    assert_eq!(block_on(confirmed), Ok(()));
    assert_eq!(block_on(receipt.confirmed()), Ok(()), "and again");
}

#[test]
fn the_future_of_a_receipt_fails_for_a_lost_event_and_when_the_audit_ends_without_it() {
    let (recorder, store) = started(Options::default());
    store.set_unavailable(true);
    let receipt = recorder.record(calls(1));
    let waiting = std::thread::spawn(move || block_on(receipt.confirmed()));
    recorder.shutdown(Duration::from_millis(20)).unwrap_err();
    assert_eq!(waiting.join().unwrap(), Err(Unavailable::Ended));
    assert_eq!(block_on(recorder.record(calls(1)).confirmed()), Err(Unavailable::Lost), "after the end");
}

#[test]
fn an_event_can_be_pointed_at_before_it_is_stored() {
    let (recorder, store) = started(Options::default());
    let lookup = Event::dns_lookup(plugin(), lookup(&[[93, 184, 216, 34]], &[]));
    let decided = Decided { pin: Some(lookup.uid()), ..decided() };
    let connection = Connection { id: 1, transport: Transport::Tcp, decided };
    recorder.record(lookup);
    recorder.record(Event::connect_allowed(plugin(), connection));
    recorder.shutdown(LONG).unwrap();
    let events = store.events();
    let pin = format!("dns-pin:{}", events[1]["metadata"]["uid"].as_str().unwrap());
    assert_eq!(events[2]["firewall_rule"]["match_details"], serde_json::json!([pin]));
}

/// Confirms two records and then fails once, as a producer whose delivery timed out.
struct Forgetful {
    inner: MemoryStore,
    fail_at: Option<u64>,
}

impl Store for Forgetful {
    fn append(&mut self, record: &AuditRecord) -> Result<(), StoreError> {
        self.inner.append(record)
    }

    fn confirmed(&mut self, wait: Duration) -> Result<u64, StoreError> {
        let Some(fail_at) = self.fail_at else {
            return self.inner.confirmed(wait);
        };
        let stored = self.inner.records().len() as u64;
        if stored >= fail_at {
            self.fail_at = None;
            return Err(StoreError::Unavailable("delivery timed out".to_owned()));
        }
        Ok(stored.min(2))
    }
}

#[test]
fn after_a_failure_everything_unconfirmed_is_appended_again_byte_for_byte() {
    let store = MemoryStore::new();
    let forgetful = Forgetful { inner: store.clone(), fail_at: Some(5) };
    let (recorder, _) = Recorder::start(context(), Options::default(), forgetful).unwrap();
    for number in 1..=4 {
        recorder.record(calls(number));
    }
    let summary = recorder.shutdown(LONG).unwrap();
    assert_eq!(summary, Summary { events: 6, lost: 0 });
    let records = store.records();
    let again = records.iter().rposition(|record| record.sequence <= 3).unwrap();
    assert!(again >= 5, "sequence 3 came again after the failure");
    for record in &records {
        let first = records.iter().find(|other| other.sequence == record.sequence).unwrap();
        assert_eq!(first, record);
    }
    let last: Vec<u64> = records[again..].iter().map(|record| record.sequence).collect();
    assert!(last.is_sorted() && last.last() == Some(&6), "{last:?}");
}

#[test]
fn a_store_that_is_away_is_told_by_the_status_and_forgotten_when_it_is_back() {
    let (recorder, store) = started(Options::default());
    store.set_unavailable(true);
    let receipt = recorder.record(calls(1));
    let until = deadline(LONG);
    while recorder.status().fault.is_none() {
        assert!(Instant::now() < until, "no fault is told");
        std::thread::yield_now();
    }
    assert!(receipt.wait(Duration::ZERO).is_err());
    let status = recorder.status();
    assert_eq!(status.fault.as_deref(), Some("the audit store is unavailable: switched off"));
    assert_eq!((status.recorded, status.confirmed), (2, 1));
    store.set_unavailable(false);
    receipt.wait(LONG).unwrap();
    let status = recorder.status();
    assert_eq!((status.fault, status.confirmed), (None, 2));
    assert_eq!(status.by_code, [(Code::AuditBoot, 1), (Code::HostCall, 1)]);
}

#[test]
fn a_shutdown_ends_at_its_deadline_and_says_what_is_not_confirmed() {
    let (recorder, store) = started(Options::default());
    store.set_unavailable(true);
    recorder.record(calls(1));
    let unconfirmed = recorder.shutdown(Duration::from_millis(50)).unwrap_err();
    assert_eq!((unconfirmed.first, unconfirmed.last), (2, 3));
    assert!(unconfirmed.to_string().contains("2 to 3"), "{unconfirmed}");
}

#[test]
fn what_comes_after_the_end_is_refused_and_counted() {
    let (recorder, store) = started(Options { deadline: LONG, ..Options::default() });
    recorder.shutdown(LONG).unwrap();
    let receipt = recorder.record(calls(1));
    assert_eq!(receipt.wait(LONG), Err(Unavailable::Lost));
    assert_eq!(recorder.status().lost_events, 1);
    assert_eq!(codes(&store), ["audit.boot", "audit.stop"]);
    assert_eq!(recorder.shutdown(LONG), Ok(Summary { events: 2, lost: 1 }), "a second shutdown changes nothing");
}

/// Tells when it is dropped.
struct Watched(MemoryStore, SyncSender<()>);

impl Store for Watched {
    fn append(&mut self, record: &AuditRecord) -> Result<(), StoreError> {
        self.0.append(record)
    }

    fn confirmed(&mut self, wait: Duration) -> Result<u64, StoreError> {
        self.0.confirmed(wait)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.1.send(()).unwrap();
    }
}

#[test]
fn without_a_recorder_the_writer_stores_what_is_left_and_ends() {
    let store = MemoryStore::new();
    let (dropped, is_dropped) = sync_channel(1);
    let (recorder, boot) = Recorder::start(context(), Options::default(), Watched(store.clone(), dropped)).unwrap();
    let clone = recorder.clone();
    drop(recorder);
    clone.record(calls(1));
    drop((clone, boot));
    is_dropped.recv_timeout(LONG).unwrap();
    assert_eq!(codes(&store), ["audit.boot", "host.call"], "no stop: nobody ended the chain on purpose");
}

/// Set `PORTCULLIS_AUDIT_SAMPLE` to keep the file and check it with another tool.
#[test]
fn a_file_of_events_is_valid_line_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let kept = std::env::var_os("PORTCULLIS_AUDIT_SAMPLE").map(std::path::PathBuf::from);
    let path = kept.unwrap_or_else(|| folder.path().join("audit.jsonl"));
    for _run in 0..2 {
        let store = FileStore::open(&path).unwrap();
        let (recorder, boot) = Recorder::start(context(), Options::default(), store).unwrap();
        boot.wait(LONG).unwrap();
        every_event().into_iter().for_each(|event| drop(recorder.record(event)));
        recorder.shutdown(LONG).unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events.len() >= 2 * (every_event().len() + 2));
    for event in events {
        assert_eq!(crate::schema::faults_of(&event), Vec::<String>::new(), "{event:#}");
    }
}

/// A store that measures how long after a confirmation the next record comes.
struct Paced {
    store: MemoryStore,
    confirmed: Option<Instant>,
    gaps: Arc<Mutex<Vec<Duration>>>,
}

impl Store for Paced {
    fn append(&mut self, record: &AuditRecord) -> Result<(), StoreError> {
        self.gaps.lock().unwrap().extend(self.confirmed.take().map(|confirmed| confirmed.elapsed()));
        self.store.append(record)
    }

    fn confirmed(&mut self, wait: Duration) -> Result<u64, StoreError> {
        let confirmed = self.store.confirmed(wait);
        self.confirmed = Some(Instant::now());
        confirmed
    }
}

#[test]
fn after_a_few_events_others_are_let_gather_and_wake_nobody() {
    let gaps: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let store = Paced { store: MemoryStore::new(), confirmed: None, gaps: Arc::clone(&gaps) };
    let (recorder, boot) = Recorder::start(context(), Options::default(), store).unwrap();
    boot.wait(LONG).unwrap();
    (0..20).for_each(|number| recorder.record(calls(number + 1)).wait(LONG).unwrap());
    let least = gaps.lock().unwrap().iter().min().copied().unwrap();
    assert!(least >= Duration::from_millis(1), "{least:?} after the events before it");
    let begun = Instant::now();
    assert_eq!(recorder.shutdown(LONG).unwrap().events, 22);
    assert!(begun.elapsed() < LONG / 2, "the end waits for nobody");
}
