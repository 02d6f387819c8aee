//! Streams: the source is a durable pull consumer, the sink publishes with confirmation.

mod api;
mod delivery;
mod id;
pub(crate) mod look;
mod pulls;
mod reader;
mod setup;
mod sink;
mod source;

pub use reader::JetStreamReader;
pub use sink::{JETSTREAM_SINK_EXEMPTIONS, JetStreamSink};
pub use source::{JETSTREAM_SOURCE_EXEMPTIONS, JetStreamSource};
