//! What one call can come to, and how an error of the engine becomes the kind of fault that an operator counts.

use std::fmt;

use portcullis_audit::Scope;
use portcullis_flow::FaultKind;
use thiserror::Error;
use wasmtime::Trap;
use wasmtime::component::ResourceTableError;

use super::engine::MAX_WASM_STACK_BYTES;
use super::guest::hostcall_bytes;
use super::spec::Limits;
use super::text::tame;

/// The longest detail of a fault, in bytes: it becomes a header of a dead letter.
const MAX_DETAIL_BYTES: usize = 1 << 10;

/// What a plugin made of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Goes on, with the edits made.
    Pass,
    /// Goes nowhere.
    Drop(Reason),
    /// Is wrong.
    Reject(Reason),
    /// Cannot be decided now.
    Retry(Reason),
    /// The plugin failed.
    Fault(Fault),
}

/// Why a plugin did not let a message pass, in its own words. Both are empty where it gave none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reason {
    /// A short stable name, at most 64 bytes.
    pub code: String,
    /// A sentence for a person, at most 1 KiB.
    pub detail: String,
}

impl Reason {
    /// The longest code, in bytes.
    pub(crate) const MAX_CODE_BYTES: usize = 64;
    /// The longest detail, in bytes.
    pub(crate) const MAX_DETAIL_BYTES: usize = MAX_DETAIL_BYTES;
}

/// A failure of a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which budget was exceeded, or what else went wrong.
    pub kind: FaultKind,
    /// The limit, or what the engine said; at most 1 KiB, safe to print.
    pub detail: String,
    /// Whose limit it was and what it is, where it is above the plugin's own: the tenant's or the node's.
    pub above: Option<(Scope, u64)>,
    /// A short stable name of the bridge's own, where the kind alone would mislead.
    pub code: Option<&'static str>,
}

impl Fault {
    pub(crate) fn new(kind: FaultKind, detail: &str) -> Self {
        Self { kind, detail: tame(detail, MAX_DETAIL_BYTES).into_owned(), above: None, code: None }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.detail)
    }
}

/// Why a host function ended the guest's call. The engine carries it to [`classify`].
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum HostFault {
    #[error("limit={limit} wanted={wanted}")]
    Memory { limit: u64, wanted: u64 },
    #[error("limit={limit} of the {}", .scope.as_str())]
    SharedMemory { scope: Scope, limit: u64 },
    #[error("the machine gave no memory")]
    NoMemory,
    #[error("limit={limit} wanted={wanted}")]
    Output { limit: u64, wanted: u64 },
    #[error("limit={limit}")]
    HostCalls { limit: u64 },
    #[error("a handle that names no message")]
    ForeignHandle,
    #[error("{wanted} random bytes in one call, at most {limit} are given")]
    RandomBytes { limit: u64, wanted: u64 },
    #[error("the machine gave no random bytes")]
    NoRandomBytes,
    #[error("`{capability}` is optional for this plugin and was not granted")]
    NotGranted { capability: &'static str },
}

impl HostFault {
    fn kind(self) -> FaultKind {
        match self {
            Self::Memory { .. } | Self::SharedMemory { .. } => FaultKind::Memory,
            Self::Output { .. } => FaultKind::Output,
            Self::HostCalls { .. } => FaultKind::HostCalls,
            Self::RandomBytes { .. } => FaultKind::Quota,
            Self::NotGranted { .. } => FaultKind::CapabilityDenied,
            Self::ForeignHandle | Self::NoMemory | Self::NoRandomBytes => FaultKind::Trap,
        }
    }
}

/// The fault that an error of the engine is.
pub(super) fn classify(error: &wasmtime::Error, limits: &Limits) -> Fault {
    if let Some(fault) = error.downcast_ref::<HostFault>() {
        let above = match fault {
            HostFault::SharedMemory { scope, limit } => Some((*scope, *limit)),
            _ => None,
        };
        return Fault { above, ..Fault::new(fault.kind(), &fault.to_string()) };
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => return Fault::new(FaultKind::Fuel, &format!("limit={}", limits.fuel)),
        Some(Trap::Interrupt) => return deadline(limits),
        Some(Trap::StackOverflow) => {
            return Fault::new(FaultKind::Stack, &format!("limit={MAX_WASM_STACK_BYTES}"));
        }
        _ => {}
    }
    let cause = error.root_cause().to_string();
    // wasmtime 48 gives the next three no type of their own; the tests with hostile plugins pin its words.
    if matches!(error.downcast_ref(), Some(ResourceTableError::Full)) || cause.contains("handle limit exceeded") {
        return Fault::new(FaultKind::Handles, &format!("limit={}", limits.handles));
    }
    if cause.contains("fuel allocated for hostcalls") {
        return Fault::new(FaultKind::Output, &format!("limit={} bytes in one host call", hostcall_bytes(limits)));
    }
    if cause.starts_with("resource limit exceeded") {
        return Fault::new(FaultKind::Memory, &cause);
    }
    Fault::new(FaultKind::Trap, &cause)
}

pub(super) fn deadline(limits: &Limits) -> Fault {
    Fault::new(FaultKind::Deadline, &format!("limit={}ms", limits.deadline_ms))
}
