use std::fmt;
use std::sync::Arc;

use portcullis_audit::Source;
use portcullis_connector_api::{Channel, Headers, Trace};
use wasmtime_wasi::sockets::WasiSocketsCtx;

use crate::egress::Egress;
use crate::gate::Gate;
use crate::http::HttpGuest;
use crate::sockets::{Tcps, Udps};

/// The network of one instance: what it looked up, what it has open and what it was refused.
pub struct NetGuest {
    pub(crate) gate: Gate,
    /// wasmtime's own context, which lets nobody make or reach anything: each socket is made with the context of its own doors.
    pub(crate) wasi: WasiSocketsCtx,
    pub(crate) tcp: Tcps,
    pub(crate) udp: Udps,
    pub(crate) http: HttpGuest,
}

/// The record in work, for the events of its effects.
#[derive(Clone, Debug)]
pub struct Record {
    /// The pipeline.
    pub pipeline: Arc<str>,
    /// Topic or subject.
    pub channel: Channel,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its headers, as they came to this plugin: an event names the trace that they name.
    pub headers: Headers,
}

impl Record {
    pub(crate) fn source(&self) -> Source {
        let trace_id = Trace::of(&self.headers).map(|trace| trace.trace_id.0);
        Source { trace_id, ..Source::from(self.to_string()) }
    }
}

impl NetGuest {
    /// For one instance. Without an [`Egress`] everything is refused and nothing is recorded: that is for the time of a plan,
    /// when a component is started before there is an audit.
    pub fn new(egress: Option<Arc<Egress>>) -> Self {
        Self {
            http: HttpGuest::new(egress.as_deref().map(|egress| &egress.http)),
            gate: Gate::new(egress),
            wasi: WasiSocketsCtx::default(),
            tcp: Tcps::default(),
            udp: Udps::default(),
        }
    }

    /// A message begins: what happens from here on is told with its record.
    pub fn begin(&mut self, record: Option<Record>) {
        self.gate.begin(record);
    }

    /// Ends a window: what was counted since the last one is recorded. Call it once a second while the instance lives; the
    /// end of the instance does it too.
    pub fn flush(&mut self) {
        self.udp.flush(&self.gate);
        self.gate.flush();
    }

    /// Lookups that were answered from memory, or by the query of another one, since the last time this was asked. No event
    /// tells of them.
    pub fn take_cached_lookups(&mut self) -> u64 {
        std::mem::take(&mut self.gate.work().cached_lookups)
    }
}

impl Drop for NetGuest {
    fn drop(&mut self) {
        self.udp.flush(&self.gate);
    }
}

impl fmt::Debug for NetGuest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetGuest").field("granted", &self.gate.egress().is_some()).finish_non_exhaustive()
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}-{}@{}", self.pipeline, self.channel, self.partition, self.offset)
    }
}

#[cfg(test)]
mod tests {
    use portcullis_connector_api::Header;

    use super::*;

    #[test]
    fn a_record_is_named_as_the_rest_of_the_audit_names_it() {
        let mut record = Record {
            pipeline: "orders".into(),
            channel: Channel::from("orders.raw"),
            partition: 3,
            offset: 41,
            headers: Headers::default(),
        };
        assert_eq!(record.source(), Source::from("orders/orders.raw-3@41"));
        let mut traced = |text: String| {
            record.headers.set(Header::new("traceparent", Some(text)));
            record.source().trace_id
        };
        let ids = format!("{}-{}", "4b".repeat(16), "f0".repeat(8));
        assert_eq!(traced(format!("00-{ids}-01")), Some([0x4b; 16]));
        assert_eq!(traced(format!("ff-{ids}-01")), None);
    }
}
