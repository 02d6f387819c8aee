//! The sandbox. A component is read once, digested, validated, compiled and linked against exactly what its grants name
//! ([`Sandbox::link`]); a lane makes an [`Instance`] of it and runs messages through it, each call under its budgets.

mod artifact;
mod cache;
mod compile;
mod contract;
mod deadline;
mod engine;
mod error;
mod examine;
mod fault;
mod guest;
mod instance;
mod limiter;
mod link;
mod log;
mod log_rate;
mod manifest;
mod refusing;
mod signature;
mod slices;
mod spec;
mod sums;
mod text;
mod turns;
mod waiting;

#[cfg(test)]
mod tests;

pub use artifact::Part;
pub use compile::{CompileBounds, SUBCOMMAND as COMPILE_SUBCOMMAND, serve as serve_compiler};
pub use contract::Kind;
pub use engine::{Sandbox, SandboxError, SandboxOptions};
pub use error::{FoundFile, LinkError};
pub use examine::{ComponentFile, Examined, Imported, Takes};
pub use fault::{Fault, Outcome, Reason};
pub use instance::{Instance, Usage};
pub use link::LinkedPlugin;
pub use log::LogCut;
pub use log_rate::LogRate;
pub use manifest::{Ask, Claimed, Manifest, Wish};
pub use slices::take_short_slices;
pub use spec::{Clock, Grants, Level, Limits, PluginSpec};
pub use sums::{MemorySum, Sums};
pub use turns::{Turns, TurnsWaited};

pub(crate) use cache::try_cache;
pub(crate) use contract::{Header, HeaderArgument, MessageHandle, VERSION as CONTRACT_VERSION, interface, version};
pub(crate) use fault::HostFault;
pub(crate) use guest::Guest;
pub(crate) use log::LogSink;
pub(crate) use text::tame;
pub(crate) use waiting::handle as waiting_handle;
