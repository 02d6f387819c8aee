//! Core NATS: subjects without streams, at most once on both ways.

mod sink;
mod source;

pub use sink::{CORE_SINK_EXEMPTIONS, CoreSink};
pub use source::{CORE_SOURCE_EXEMPTIONS, CoreSource};
