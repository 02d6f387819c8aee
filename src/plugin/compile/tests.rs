//! Programs in the place of the compiler that do not do what it does. What the real one does is in `tests/hostile`.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::*;

/// For those that must meet it, and for those that must not.
const SHORT: Duration = Duration::from_millis(500);
const LONG: Duration = Duration::from_secs(60);

/// A program that notes its own process in the file `$NOTED` and then does something.
struct Fake(tempfile::TempDir);

impl Fake {
    fn new(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let noted = folder.path().join("pids");
        let text =
            format!("#!/bin/sh\nPATH=/usr/bin:/bin\nNOTED={}\necho $$ >> \"$NOTED\"\n{script}\n", noted.display());
        let fake = Self(folder);
        // Another process writes it: one that a test beside this one starts meanwhile would inherit a file that is open for
        // writing here, and such a file cannot be run.
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "cat > \"$0\" && chmod 700 \"$0\""]).arg(fake.program()).stdin(Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        shell.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(shell.wait().unwrap().success());
        fake
    }

    fn program(&self) -> PathBuf {
        self.0.path().join("fake")
    }

    fn pids(&self) -> Vec<String> {
        let noted = fs::read_to_string(self.0.path().join("pids")).unwrap_or_default();
        noted.split_whitespace().map(str::to_owned).collect()
    }

    /// Checks that it returned in time and that no process is left.
    fn compile(&self, component: &[u8], deadline: Duration) -> Result<Vec<u8>, CompileError> {
        let bounds = CompileBounds { deadline, ..CompileBounds::default() };
        let begun = Instant::now();
        let answer = in_child(&self.program(), component, &bounds);
        assert!(begun.elapsed() < deadline + Duration::from_secs(10), "it took {:?}", begun.elapsed());
        for pid in self.pids() {
            // One that was left behind is reaped by whoever takes orphans; until then it is a zombie, which runs nothing.
            let ends = Instant::now() + Duration::from_secs(10);
            while is_running(&pid) {
                assert!(Instant::now() < ends, "process {pid} is still there");
                std::thread::yield_now();
            }
        }
        answer
    }
}

fn is_running(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = status.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

#[test]
fn a_compiler_that_never_answers_ends_at_the_deadline() {
    let answer = Fake::new("exec sleep 1000").compile(b"component", SHORT);
    assert!(matches!(answer, Err(CompileError::Deadline { .. })), "{answer:?}");
}

#[test]
fn a_compiler_that_closes_its_streams_and_stays_alive_ends_at_the_deadline() {
    for closed in ["1>&-", "1>&- 2>&-", "0<&- 1>&- 2>&-"] {
        let answer = Fake::new(&format!("exec {closed}; exec sleep 1000")).compile(&vec![0; 1 << 20], SHORT);
        assert!(matches!(answer, Err(CompileError::Deadline { .. })), "{closed}: {answer:?}");
    }
}

#[test]
fn a_compiler_that_complains_without_end_is_ended_at_the_limit() {
    for script in ["exec yes complaint >&2", "exec 1>&-; exec yes complaint >&2", "yes | head -c 70000 >&2; exit 0"] {
        let answer = Fake::new(script).compile(b"component", LONG);
        assert!(matches!(answer, Err(CompileError::TooMuch { what: "complaints", .. })), "{script}: {answer:?}");
    }
}

#[test]
fn what_a_compiler_has_started_ends_with_it() {
    let fake = Fake::new("sleep 1000 &\necho $! >> \"$NOTED\"\nwait");
    let answer = fake.compile(b"component", SHORT);
    assert!(matches!(answer, Err(CompileError::Deadline { .. })), "{answer:?}");
    assert_eq!(fake.pids().len(), 2);
    // This one is left behind without a pipe: nothing but the group tells of it.
    let fake = Fake::new("sleep 1000 <&- >&- 2>&- &\necho $! >> \"$NOTED\"");
    assert_eq!(fake.compile(b"component", LONG).unwrap(), b"");
    assert_eq!(fake.pids().len(), 2);
}

#[test]
fn a_compiler_that_does_not_read_is_heard_all_the_same() {
    let large = vec![0; 1 << 20];
    let answer = Fake::new("echo no memory >&2; exit 3").compile(&large, LONG);
    let Err(CompileError::Ended { status, complaint }) = &answer else { panic!("{answer:?}") };
    assert!(status.contains('3') && complaint.starts_with("no memory"), "{answer:?}");
    let answer = Fake::new("kill -ABRT $$").compile(&large, LONG);
    assert!(matches!(&answer, Err(CompileError::Killed { status, .. }) if status.contains("SIGABRT")), "{answer:?}");
}

#[test]
fn a_component_larger_than_a_pipe_goes_in_and_the_answer_comes_out() {
    let component: Vec<u8> = (0..3_000_000_u32).map(|number| number as u8).collect();
    assert_eq!(Fake::new("exec cat").compile(&component, LONG).unwrap(), component);
}

#[test]
fn a_program_that_is_not_there_is_an_error() {
    let answer = in_child("/no/such/program".as_ref(), b"", &CompileBounds::default());
    assert!(matches!(answer, Err(CompileError::Process(_))), "{answer:?}");
}
