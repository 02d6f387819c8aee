//! What the bridge did and what it refused, as evidence that a SIEM reads: one OCSF event as canonical JSON for each
//! message of the audit topic. In reading order: an [`Event`] goes through a [`Recorder`] to the writer's thread, which
//! numbers it, builds its OCSF form, chains it to the event before and appends it to a [`Store`].
#![forbid(unsafe_code)]

mod actor;
mod canonical;
mod chain;
mod clock;
mod cloudevents;
mod code;
mod count;
mod denials;
mod detail;
mod escape;
mod event;
mod excesses;
mod facts;
mod file;
mod memory;
mod network;
mod ocsf;
mod progress;
mod queue;
mod recorder;
#[cfg(any(test, feature = "check"))]
pub mod schema;
mod source;
mod store;
mod text;
mod uid;
mod writer;

#[cfg(test)]
mod samples;

pub use actor::Actor;
pub use canonical::{CanonicalError, canonical};
pub use clock::now_ms;
pub use code::Code;
pub use count::Counts;
pub use denials::{Denials, Telling};
pub use detail::{
    Budget, ConfigFault, DeadLetter, Disabled, HostCall, Linked, Mode, Quarantine, Refused, Rejection, Scope, Trap,
};
pub use escape::{Tamed, tame};
pub use event::Event;
pub use excesses::Excesses;
pub use file::{FileStore, FileStoreError};
pub use memory::MemoryStore;
pub use network::{
    Attempt, Connection, Decided, Denial, Destination, HttpCall, HttpIntent, HttpResult, Lookup, RuleRef, Traffic,
    Transport, Window,
};
pub use ocsf::Context;
pub use recorder::{Options, Receipt, Recorder, StartError, Status, Summary, Unavailable, Unconfirmed};
pub use source::Source;
pub use store::{AuditRecord, Store, StoreError};
pub use uuid::Uuid;
