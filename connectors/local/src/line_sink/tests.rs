use std::collections::VecDeque;
use std::sync::{Condvar, Mutex};

use portcullis_connector_api::Fate;

use super::*;

const WAIT: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Fates(Mutex<Vec<(u64, String)>>);

impl Confirm for Fates {
    fn confirm(&self, token: Token, fate: Fate) {
        let fate = match fate {
            Fate::Stored(receipt) => format!("stored {:?}", receipt.offset),
            Fate::Refused(refusal) => format!("refused {refusal}"),
            Fate::Failed(error) => format!("failed {error}"),
        };
        self.0.lock().unwrap().push((token.0, fate));
    }
}

impl Fates {
    fn taken(&self) -> Vec<(u64, String)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// A medium whose answers a test has written down; without any it takes all.
#[derive(Clone, Default)]
struct Scripted(Arc<(Mutex<Script>, Condvar)>);

#[derive(Default)]
struct Script {
    answers: VecDeque<Result<usize, io::ErrorKind>>,
    sync: Option<io::ErrorKind>,
    written: Vec<u8>,
    held: bool,
}

impl Medium for Scripted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (script, released) = &*self.0;
        let mut script = released.wait_while(script.lock().unwrap(), |script| script.held).unwrap();
        let taken = script.answers.pop_front().unwrap_or(Ok(bytes.len()))?.min(bytes.len());
        script.written.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.0.lock().unwrap().sync.map_or(Ok(()), |kind| Err(kind.into()))
    }
}

impl Scripted {
    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.0.0.lock().unwrap()
    }

    fn release(&self) {
        self.script().held = false;
        self.0.1.notify_all();
    }

    fn sink(&self, settings: LineSinkSettings) -> (LineSink, Arc<Fates>) {
        let fates = Arc::new(Fates::default());
        let confirm: Arc<dyn Confirm> = Arc::<Fates>::clone(&fates);
        (LineSink::to("test", Box::new(self.clone()), settings, confirm).unwrap(), fates)
    }
}

fn lines() -> LineSinkSettings {
    LineSinkSettings { format: Format::Lines, ..LineSinkSettings::default() }
}

fn message(value: &str) -> Message {
    Message { value: Some(value.to_owned().into()), ..Message::new("a") }
}

#[test]
fn a_file_is_appended_to_and_a_torn_last_line_is_ended_first() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    for (before, after) in [("", "one\n"), ("x\n", "x\none\n"), ("torn", "torn\none\n")] {
        std::fs::write(&path, before).unwrap();
        let fates = Arc::new(Fates::default());
        let confirm: Arc<dyn Confirm> = Arc::<Fates>::clone(&fates);
        let sink = LineSink::file(&path, lines(), confirm).unwrap();
        sink.send(&message("one"), Token(1)).unwrap();
        assert_eq!(sink.drain(WAIT), 0);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), after);
        assert_eq!(fates.taken(), [(1, format!("stored {:?}", Some(after.len() - 4)))]);
    }
}

#[test]
fn a_second_writer_of_a_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let first = LineSink::file(&path, lines(), Arc::new(Fates::default())).unwrap();
    let error = LineSink::file(&path, lines(), Arc::new(Fates::default())).err().unwrap();
    assert_eq!(error.kind, ErrorKind::Configuration);
    drop(first);
    assert!(LineSink::file(&path, lines(), Arc::new(Fates::default())).is_ok());
}

#[test]
fn a_full_disk_is_waited_for_and_a_line_that_was_torn_by_it_is_whole_in_the_end() {
    let medium = Scripted::default();
    medium.script().answers.extend([Ok(2), Err(io::ErrorKind::StorageFull), Ok(1)]);
    let (sink, fates) = medium.sink(lines());
    sink.send(&message("one"), Token(1)).unwrap();
    assert_eq!(sink.drain(WAIT), 0);
    assert_eq!(medium.script().written, b"one\n");
    assert_eq!(fates.taken(), [(1, "stored None".to_owned())]);
    assert_eq!(sink.not_ready(), None);
}

#[test]
fn while_the_disk_is_full_the_sink_says_so_and_closing_it_fails_what_waits() {
    let medium = Scripted::default();
    medium.script().answers.extend(std::iter::repeat_n(Err(io::ErrorKind::StorageFull), 1000));
    let (sink, fates) = medium.sink(lines());
    sink.send(&message("one"), Token(1)).unwrap();
    let deadline = std::time::Instant::now() + WAIT;
    while sink.not_ready().is_none() {
        assert!(std::time::Instant::now() < deadline, "the sink never said that it is not ready");
        assert_eq!(sink.drain(Duration::from_millis(5)), 1);
    }
    drop(sink);
    assert!(fates.taken()[0].1.starts_with("failed cannot write test"));
}

#[test]
fn a_sync_that_fails_confirms_nothing_and_is_not_tried_again() {
    let medium = Scripted::default();
    medium.script().sync = Some(io::ErrorKind::Other);
    let (sink, fates) = medium.sink(lines());
    sink.send(&message("one"), Token(1)).unwrap();
    assert_eq!(sink.drain(WAIT), 0);
    assert!(fates.taken()[0].1.starts_with("failed"));
    assert!(matches!(sink.send(&message("two"), Token(2)), Err(SendError::Fatal(_))));
    assert!(sink.check(WAIT).is_err());
}

#[test]
fn a_full_queue_is_back_pressure_by_messages_and_by_bytes() {
    for settings in [LineSinkSettings { queue_messages: 3, ..lines() }, LineSinkSettings { queue_bytes: 9, ..lines() }]
    {
        let medium = Scripted::default();
        medium.script().held = true;
        let (sink, fates) = medium.sink(settings);
        let sent = (0..100).take_while(|number| sink.send(&message("one"), Token(*number)).is_ok()).count();
        assert!((3..=7).contains(&sent), "{sent}");
        assert!(matches!(sink.send(&message("one"), Token(100)), Err(SendError::Full)));
        medium.release();
        assert_eq!(sink.drain(WAIT), 0);
        assert_eq!(fates.taken().len(), sent);
        assert!(sink.send(&message("one"), Token(100)).is_ok());
    }
}

#[test]
fn what_cannot_be_a_line_is_refused_alone() {
    let medium = Scripted::default();
    let (sink, _) = medium.sink(LineSinkSettings { max_line_bytes: 8, ..lines() });
    let refusal = |message: &Message| match sink.send(message, Token(0)) {
        Err(SendError::Refused(refusal)) => refusal.kind,
        other => panic!("{other:?}"),
    };
    assert_eq!(refusal(&Message::new("a")), RefusalKind::Rejected);
    assert_eq!(refusal(&message("a\nb")), RefusalKind::Rejected);
    assert_eq!(refusal(&message("12345678")), RefusalKind::Oversize);
    sink.send(&message("1234567"), Token(1)).unwrap();
    assert_eq!(sink.drain(WAIT), 0);
    assert_eq!(medium.script().written, b"1234567\n");
}
