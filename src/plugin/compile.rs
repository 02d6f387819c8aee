//! Compiling in a process of its own. wasmtime bounds what a component does when it runs and not what it costs to compile, so
//! the operating system bounds that.

mod child;
mod conversation;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use thiserror::Error;
use wasmtime::Engine;

use super::text::tame;

pub use child::{SUBCOMMAND, serve};
use conversation::{Compiler, Stopped};

/// The longest of a complaint that is shown, in bytes.
const SHOWN_COMPLAINT_BYTES: usize = 1 << 10;

/// What one compilation may use up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileBounds {
    /// Wall time, from the start of the process to its end. A Python component of 18 MB takes a sixth of the default.
    pub deadline: Duration,
    /// Processor time of all threads, in seconds.
    pub cpu_seconds: u64,
    /// Address space in bytes. The compiler's threads reserve much more than they use.
    pub address_space_bytes: u64,
}

impl Default for CompileBounds {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(90), cpu_seconds: 180, address_space_bytes: 6 << 30 }
    }
}

impl fmt::Display for CompileBounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mebibytes = self.address_space_bytes >> 20;
        write!(f, "{} s of processor time and {mebibytes} MiB of address space", self.cpu_seconds)
    }
}

/// Why there is no machine code.
#[derive(Debug, Error)]
pub(super) enum CompileError {
    #[error("the compiler's process does not start or cannot be spoken to: {0}")]
    Process(io::Error),
    #[error("compiling took longer than {deadline:?} and was ended")]
    Deadline { deadline: Duration },
    #[error("the compiler's process was killed ({status}), it may use {bounds}: {complaint}")]
    Killed { status: String, bounds: CompileBounds, complaint: String },
    #[error("the compiler's process ended ({status}): {complaint}")]
    Ended { status: String, complaint: String },
    #[error("the compiler's process gave more than {limit_bytes} bytes of {what} and was ended")]
    TooMuch { what: &'static str, limit_bytes: usize },
}

/// Compiles in this process.
pub(super) fn here(engine: &Engine, component: &[u8]) -> wasmtime::Result<Vec<u8>> {
    engine.precompile_component(component)
}

/// Compiles in a child with bounds on time, processor and memory, which has nothing of our environment and no file but its
/// three pipes. Whatever the child does, this returns soon after the deadline, and the child is gone then.
pub(super) fn in_child(program: &Path, component: &[u8], bounds: &CompileBounds) -> Result<Vec<u8>, CompileError> {
    let ends = Instant::now() + bounds.deadline;
    let mut compiler = Compiler::start(program, bounds).map_err(CompileError::Process)?;
    let answer = compiler.converse(component, ends).and_then(|answer| Ok((answer, compiler.wait(ends)?)));
    let (answer, status) = answer.map_err(|stopped| match stopped {
        Stopped::Deadline => CompileError::Deadline { deadline: bounds.deadline },
        Stopped::TooMuch { what, limit_bytes } => CompileError::TooMuch { what, limit_bytes },
        Stopped::System(error) => CompileError::Process(error),
    })?;
    if status.success() {
        return Ok(answer.code);
    }
    let complaint = tame(&String::from_utf8_lossy(&answer.complaint), SHOWN_COMPLAINT_BYTES).into_owned();
    let is_killed = status.code().is_none();
    let status = status.to_string();
    Err(match is_killed {
        true => CompileError::Killed { status, bounds: *bounds, complaint },
        false => CompileError::Ended { status, complaint },
    })
}
