//! The data path, in the order of a message's way: [`intake`] takes it from the source into the queue, a [`lane`] runs it
//! through the [`chain`] and hands it to the sink, [`confirm`] brings back what became of it, [`assignments`] knows what is
//! not done yet, and the intake moves the source's position. [`dead_letter`] is the other way out.

mod age;
mod assignments;
mod branch;
mod breaker;
mod chain;
mod confirm;
mod dead_letter;
mod evidence;
mod handed;
mod held;
mod intake;
mod judge;
mod lane;
mod meters;
mod origin;
mod outage;
mod run;
mod slot;
mod slot_meters;
mod stop;
pub(crate) mod tap;
#[cfg(test)]
mod tests;
mod together;
mod warnings;
mod work;

pub use breaker::{RestartSum, Restarts};
pub use chain::{EgressMaker, Life, On, Stage};
pub use dead_letter::HEADER_PREFIX;
pub(crate) use evidence::actor;
pub(crate) use intake::SENDS_WAIT;
pub use meters::ReadCounts;
pub use origin::SourceIdentity;
pub use run::{Blueprint, Bounds, Inlet, PipelineError, Running, SinkMaker, SourceMaker, start};
pub use stop::Stop;
pub use tap::{PlaceOf, Taps};
pub use work::Way;

use std::sync::Arc;

use portcullis_audit::{Actor, Source};
use portcullis_connector_api::{Channel, Trace};

use crate::plugin::{LinkedPlugin, tame};
use outage::Outage;

/// The longest name of a channel that is told, in bytes; a topic's has at most 249.
const MAX_CHANNEL_BYTES: usize = 512;

/// How a pipeline is called in metrics, logs and events.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The `pipeline:` of its file.
    pub name: Arc<str>,
    /// The `tenant:` of its file.
    pub tenant: Option<Arc<str>>,
    /// The topic or file of its dead letter queue, for the audit; empty without one.
    pub dead_letter_name: Arc<str>,
}

impl Identity {
    /// A plugin of this pipeline, for the audit.
    fn actor(&self, plugin: &LinkedPlugin) -> Actor {
        evidence::actor(self.tenant.as_ref(), &self.name, plugin)
    }

    /// `pipeline/topic-partition@offset`: what the audit calls a message.
    fn source_coordinates(&self, channel: &Channel, partition: i32, offset: i64) -> String {
        // A file of messages says its channels itself: none of them begins a line of the log.
        format!("{}/{}-{partition}@{offset}", self.name, tame(channel, MAX_CHANNEL_BYTES))
    }

    /// The same with the trace of the message, for an event.
    fn source(&self, channel: &Channel, (partition, offset): (i32, i64), trace: Option<Trace>) -> Source {
        let coordinates = self.source_coordinates(channel, partition, offset).into();
        Source { coordinates, trace_id: trace.map(|trace| trace.trace_id.0) }
    }
}
