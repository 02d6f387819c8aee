//! Connectors that need no broker: files, standard streams and a generator, which make cases and demonstrations runnable
//! anywhere. With the feature `memory` there is a broker that lives in the process, the double that tests of the data path use.
#![forbid(unsafe_code)]

pub mod envelope;
mod file_source;
mod format;
mod generator;
mod line_reader;
mod line_sink;
#[cfg(any(test, feature = "memory"))]
mod memory;
mod position;
mod stream_source;

pub use file_source::{FILE_SOURCE_EXEMPTIONS, FileSource, FileSourceSettings, LINES_SOURCE_EXEMPTIONS, Remember};
pub use format::Format;
pub use generator::{GENERATOR_EXEMPTIONS, GeneratedValue, Generator, GeneratorSettings, Pattern, PatternError};
pub use line_sink::{FILE_SINK_EXEMPTIONS, LINES_SINK_EXEMPTIONS, LineSink, LineSinkSettings, Medium};
#[cfg(any(test, feature = "memory"))]
pub use memory::{
    ConfirmOrder, Fault, MEMORY_SINK_EXEMPTIONS, MEMORY_SOURCE_EXEMPTIONS, MemoryBroker, MemorySink,
    MemorySinkSettings, MemorySource, MemorySourceSettings,
};
pub use stream_source::{STREAM_SOURCE_EXEMPTIONS, StreamSource, StreamSourceSettings};
