//! Compiling in a process of its own. wasmtime bounds what a component does when it runs and not what it costs to compile, so
//! the operating system bounds that.

use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};
use thiserror::Error;
use wasmtime::Engine;

use super::engine::new_engine;
use super::text::tame;

/// The hidden subcommand of the child.
pub const SUBCOMMAND: &str = "compile-component";

/// Wall time of a compilation. A Python component of 18 MB takes a sixth of it.
const DEADLINE: Duration = Duration::from_secs(90);
/// Processor time of all threads of the child, in seconds.
const CPU_SECONDS: u64 = 180;
/// Address space of the child. The compiler's threads reserve much more than they use.
const ADDRESS_SPACE_BYTES: u64 = 6 << 30;
/// The largest machine code that is taken from it.
const MAX_CODE_BYTES: u64 = 512 << 20;
const MAX_COMPLAINT_BYTES: u64 = 8 << 10;

/// Why there is no machine code.
#[derive(Debug, Error)]
pub(super) enum CompileError {
    #[error("the compiler's process does not start: {0}")]
    Start(io::Error),
    #[error("compiling took longer than {} s and was ended", DEADLINE.as_secs())]
    Deadline,
    #[error("the compiler's process ended ({status}): {complaint}")]
    Ended { status: String, complaint: String },
    #[error("the machine code is larger than {MAX_CODE_BYTES} bytes")]
    TooLarge,
}

/// Compiles in this process.
pub(super) fn here(engine: &Engine, component: &[u8]) -> wasmtime::Result<Vec<u8>> {
    engine.precompile_component(component)
}

/// Compiles in a child with bounds on time, processor and memory, which has nothing of our environment and no file but its
/// three pipes.
pub(super) fn in_child(program: &Path, component: &[u8]) -> Result<Vec<u8>, CompileError> {
    let mut child = Command::new(program)
        .arg(SUBCOMMAND)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(CompileError::Start)?;
    let answer = converse(&mut child, component);
    if answer.is_err() {
        // It may have ended by itself: then there is nothing to kill.
        drop(child.kill());
    }
    let status = child.wait().map_err(CompileError::Start)?;
    let (code, complaint) = answer?;
    if !status.success() {
        return Err(CompileError::Ended {
            status: status.to_string(),
            complaint: tame(&complaint, 1 << 10).into_owned(),
        });
    }
    if code.len() as u64 > MAX_CODE_BYTES {
        return Err(CompileError::TooLarge);
    }
    Ok(code)
}

/// Feeds and reads the child at the same time, so that neither waits for a full pipe. The threads end with the pipes.
fn converse(child: &mut Child, component: &[u8]) -> Result<(Vec<u8>, String), CompileError> {
    let missing = || CompileError::Start(io::Error::other("a pipe is missing"));
    let mut stdin = child.stdin.take().ok_or_else(missing)?;
    let stdout = child.stdout.take().ok_or_else(missing)?;
    let stderr = child.stderr.take().ok_or_else(missing)?;
    let component = component.to_vec();
    let (answer, answered) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        // A child that has ended does not read on; what it said tells why.
        drop(stdin.write_all(&component));
    });
    let complaints = std::thread::spawn(move || {
        let mut text = Vec::new();
        drop(stderr.take(MAX_COMPLAINT_BYTES).read_to_end(&mut text));
        String::from_utf8_lossy(&text).into_owned()
    });
    std::thread::spawn(move || {
        let mut code = Vec::new();
        let read = stdout.take(MAX_CODE_BYTES + 1).read_to_end(&mut code);
        // Nobody listens any more when the time was over.
        drop(answer.send(read.map(|_| code)));
    });
    match answered.recv_timeout(DEADLINE) {
        Ok(Ok(code)) if code.len() as u64 > MAX_CODE_BYTES => Err(CompileError::TooLarge),
        Ok(Ok(code)) => Ok((code, complaints.join().unwrap_or_default())),
        Ok(Err(error)) => Err(CompileError::Start(error)),
        Err(_) => Err(CompileError::Deadline),
    }
}

/// What the child does: takes a component on its standard input and gives machine code on its standard output.
///
/// # Errors
/// What is wrong with the component, or what the system refused.
pub fn serve() -> Result<(), String> {
    let bound = |resource, limit| {
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) }).map_err(|error| error.to_string())
    };
    bound(Resource::As, ADDRESS_SPACE_BYTES)?;
    bound(Resource::Cpu, CPU_SECONDS)?;
    bound(Resource::Core, 0)?;
    // It may create no file.
    bound(Resource::Fsize, 0)?;
    let mut component = Vec::new();
    io::stdin().lock().read_to_end(&mut component).map_err(|error| error.to_string())?;
    let engine = new_engine().map_err(|error| error.to_string())?;
    let code = here(&engine, &component).map_err(|error| format!("{error:#}"))?;
    io::stdout().lock().write_all(&code).map_err(|error| error.to_string())
}
