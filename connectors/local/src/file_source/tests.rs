use std::fs;

use portcullis_connector_api::{Defect, Message};

use super::*;

const ALL: Budget = Budget { messages: 1000, bytes: 1 << 20 };

struct Folder(tempfile::TempDir);

impl Folder {
    fn with(content: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        fs::write(folder.path(), content).unwrap();
        folder
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("orders.jsonl")
    }

    fn lines(&self) -> FileSource {
        FileSource::open(FileSourceSettings { format: Format::Lines, ..FileSourceSettings::new(self.path()) }).unwrap()
    }
}

fn poll(source: &mut FileSource, budget: Budget) -> Batch {
    let mut batch = Batch::default();
    source.poll(budget, Duration::ZERO, &mut batch).unwrap();
    batch
}

fn value(message: &Message) -> String {
    String::from_utf8_lossy(message.value.as_deref().unwrap()).into_owned()
}

fn values(batch: &Batch) -> Vec<String> {
    batch.records.iter().map(|record| value(&record.message)).collect()
}

fn acknowledge(source: &mut FileSource, offset: i64) {
    source.acknowledge(&[Acknowledgement { assignment: ASSIGNMENT, offset }], false).unwrap();
}

#[test]
fn a_restart_goes_on_with_the_first_line_that_is_not_done() {
    let folder = Folder::with("one\ntwo\nthree\nfour");
    let mut source = folder.lines();
    let batch = poll(&mut source, ALL);
    assert_eq!(values(&batch), ["one", "two", "three", "four"]);
    acknowledge(&mut source, batch.records[2].offset);
    drop(source);
    let mut source = folder.lines();
    let batch = poll(&mut source, ALL);
    assert_eq!(values(&batch), ["three", "four"]);
    let last = batch.records[1].offset;
    acknowledge(&mut source, last + 1);
    acknowledge(&mut source, 0);
    drop(source);
    assert_eq!(values(&poll(&mut folder.lines(), ALL)), [""; 0]);
}

#[test]
fn what_is_appended_after_the_end_is_found_by_the_next_run() {
    let folder = Folder::with("one\n");
    let mut source = folder.lines();
    poll(&mut source, ALL);
    acknowledge(&mut source, 1);
    drop(source);
    fs::write(folder.path(), "one\ntwo\n").unwrap();
    assert_eq!(values(&poll(&mut folder.lines(), ALL)), ["two"]);
}

#[test]
fn another_file_of_the_same_name_is_read_from_its_beginning() {
    for other in ["uno\ndos\n", "o\n"] {
        let folder = Folder::with("one\ntwo\n");
        let mut source = folder.lines();
        let batch = poll(&mut source, ALL);
        acknowledge(&mut source, batch.records[1].offset + 1);
        drop(source);
        fs::write(folder.path(), other).unwrap();
        let expected: Vec<&str> = other.lines().collect();
        assert_eq!(values(&poll(&mut folder.lines(), ALL)), expected);
    }
}

#[test]
fn a_position_file_that_is_none_is_refused_and_not_overwritten() {
    let folder = Folder::with("one\n");
    let position = beside(&folder.path());
    fs::write(&position, "my notes").unwrap();
    let error = FileSource::open(FileSourceSettings::new(folder.path())).err().unwrap();
    assert_eq!(error.kind, ErrorKind::Configuration);
    assert_eq!(fs::read_to_string(position).unwrap(), "my notes");
}

#[test]
fn without_a_position_file_every_run_reads_everything() {
    let folder = Folder::with("one\n");
    let settings = FileSourceSettings { remember: Remember::Not, ..FileSourceSettings::new(folder.path()) };
    for _ in 0..2 {
        let mut source = FileSource::open(settings.clone()).unwrap();
        assert_eq!(values(&poll(&mut source, ALL)), ["one"]);
        acknowledge(&mut source, 1);
        Box::new(source).close(Duration::ZERO).unwrap();
    }
    assert_eq!(fs::read_dir(folder.0.path()).unwrap().count(), 1);
}

#[test]
fn a_line_that_is_no_message_comes_with_its_bytes_and_its_defect_and_blank_lines_are_skipped() {
    let folder = Folder::with("{\"value\":\"a\"}\n\n{\"key\": broken\n  \n{\"value\":\"b\"}\n");
    let mut source = FileSource::open(FileSourceSettings::new(folder.path())).unwrap();
    let batch = poll(&mut source, ALL);
    assert_eq!(values(&batch), ["a", "{\"key\": broken", "b"]);
    let defects: Vec<_> = batch.records.iter().map(|record| record.defect.as_deref()).collect();
    let defect = Defect { detail: "line 3, column 9: expected value".to_owned() };
    assert_eq!(defects, [None, Some(&defect), None]);
}

#[test]
fn a_line_past_the_bound_comes_cut_and_with_its_defect() {
    let folder = Folder::with("abcdef\nxyz\n");
    let settings = FileSourceSettings { max_line_bytes: 4, ..FileSourceSettings::new(folder.path()) };
    let mut source = FileSource::open(FileSourceSettings { format: Format::Lines, ..settings }).unwrap();
    let batch = poll(&mut source, ALL);
    assert_eq!(values(&batch), ["abcd", "xyz"]);
    assert_eq!(batch.records[0].defect.as_ref().unwrap().detail, "line 1: 6 bytes; at most 4 are allowed");
    assert!(batch.records[1].defect.is_none());
}

#[test]
fn what_cannot_be_read_as_a_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().to_owned(), folder.path().join("absent"), PathBuf::from("/dev/null")] {
        let error = FileSource::open(FileSourceSettings::new(&path)).err().unwrap();
        assert_eq!(error.kind, ErrorKind::Configuration, "{}", path.display());
        assert!(error.context.contains(&path.display().to_string()));
    }
}
