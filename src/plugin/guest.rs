use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis_connector_api::{Bytes, Channel, Headers, Message};
use portcullis_net::{Egress, HasNet, NetGuest, NetParts, Record};
use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::WasiCtx;

use super::contract::MessageHandle;
use super::deadline::{Deadline, Tick};
use super::fault::{HostFault, Reason};
use super::limiter::Limiter;
use super::log::LogSink;
use super::spec::{Clock, Limits, PluginSpec};
use super::turns::Waits;
use crate::capability::{Operation, OperationCounts, inert};

/// Bytes that a guest may pass in one host call, where its output limit does not ask for more. wasmtime's own WASI
/// functions copy a list before anybody can look at its length, so this is what they can be made to hold.
const HOSTCALL_BYTES: u64 = 8 << 20;

/// The bound for a plugin. A little above its output limit, so that an output just past it is named with its size.
pub(super) fn hostcall_bytes(limits: &Limits) -> usize {
    let bytes = limits.output_bytes.saturating_add(64 << 10).max(HOSTCALL_BYTES);
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// What the host keeps for an edit beside its bytes. Without it headers of no bytes would have no bound.
const EDIT_BYTES: u64 = 16;

/// The data of one store: what host functions see of the call that is running.
pub(crate) struct Guest {
    /// The message in work; a placeholder between calls.
    pub(crate) message: Message,
    /// What the message had before the first edit.
    undo: Option<Undo>,
    /// The value that an enricher set.
    value: Option<Option<Bytes>>,
    reason: Reason,
    output_bytes: u64,
    host_calls: u64,
    operations: OperationCounts,
    limits: Limits,
    pub(super) limiter: Limiter,
    pub(super) log: Arc<LogSink>,
    /// How exact the clock is. Without the grant no function that reads it is linked.
    pub(crate) clock: Clock,
    /// The origin of the monotonic clock: a guest learns nothing of when the machine started.
    pub(crate) started: Instant,
    /// For turns on the processor.
    waits: Arc<Waits>,
    deadline: Deadline,
    inert: Option<Box<Inert>>,
    /// The network, where it is linked.
    net: Option<Box<NetGuest>>,
}

/// The empty WASI of a guest whose toolchain imports one.
pub(crate) struct Inert {
    pub(crate) wasi: WasiCtx,
    pub(crate) table: ResourceTable,
}

impl Inert {
    fn new(log: &Arc<LogSink>, handles: u32) -> Box<Self> {
        let mut table = ResourceTable::new();
        table.set_max_capacity(handles as usize);
        Box::new(Self { wasi: inert::context(log), table })
    }
}

struct Undo {
    key: Option<Bytes>,
    headers: Headers,
}

impl Guest {
    pub(super) fn new(spec: &PluginSpec, egress: Option<&Arc<Egress>>) -> Self {
        Self {
            message: Message::new(Channel::from("")),
            undo: None,
            value: None,
            reason: Reason::default(),
            output_bytes: 0,
            host_calls: 0,
            operations: OperationCounts::default(),
            limits: spec.limits,
            limiter: Limiter::new(spec.limits.memory_bytes, spec.sums.memory.clone()),
            log: Arc::new(LogSink::new(spec)),
            clock: spec.grants.clock.unwrap_or(Clock::Coarse),
            started: Instant::now(),
            waits: Arc::default(),
            deadline: Deadline::default(),
            inert: None,
            net: spec.grants.egress.then(|| Box::new(NetGuest::new(egress.cloned()))),
        }
    }

    /// Takes the message in, without its value, which the guest gets as an argument.
    pub(super) fn begin(&mut self, message: &mut Message) {
        std::mem::swap(&mut self.message, message);
        self.output_bytes = 0;
        self.host_calls = 0;
        self.log.begin(&self.message.headers);
    }

    /// Gives the message back, with the edits or without them.
    pub(super) fn end(&mut self, message: &mut Message, value: Option<Bytes>, keep_edits: bool) {
        std::mem::swap(&mut self.message, message);
        self.log.end();
        let (undo, edited) = (self.undo.take(), self.value.take());
        match undo {
            Some(undo) if !keep_edits => (message.key, message.headers) = (undo.key, undo.headers),
            _ => {}
        }
        message.value = if keep_edits { edited.unwrap_or(value) } else { value };
    }

    pub(super) fn take_reason(&mut self) -> Reason {
        std::mem::take(&mut self.reason)
    }

    pub(crate) fn set_reason(&mut self, reason: Reason) {
        self.reason = reason;
    }

    /// Each host call passes here: it is counted against the call's budget.
    pub(crate) fn charge_call(&mut self) -> Result<(), HostFault> {
        self.host_calls += 1;
        self.check_calls()
    }

    /// Whether the budget holds. Asked again when the call has ended: what ended it may be how a function of wasmtime's own
    /// took the refusal.
    pub(super) fn check_calls(&self) -> Result<(), HostFault> {
        if self.host_calls <= self.limits.host_calls {
            return Ok(());
        }
        Err(HostFault::HostCalls { limit: self.limits.host_calls })
    }

    /// As [`charge_call`](Self::charge_call), and counts the operation for the audit.
    pub(crate) fn count(&mut self, operation: Operation) -> Result<(), HostFault> {
        self.operations.count(operation);
        self.charge_call()
    }

    /// As [`count`](Self::count) for a WASI function of wasmtime's own, which can only be refused through what it works on: at
    /// the call that crosses the budget the table is an empty one that takes nothing, so whatever handle the function looks up
    /// or makes, it traps. The instance is over with that call, and its resources with it.
    pub(crate) fn count_inert(&mut self, operation: Operation) -> &mut Inert {
        let is_refused = self.count(operation).is_err();
        let inert = self.inert();
        if is_refused {
            inert.table = ResourceTable::new();
            inert.table.set_max_capacity(0);
        }
        inert
    }

    /// Where the next message came from.
    pub(super) fn about(&mut self, record: impl FnOnce() -> Record) {
        if let Some(net) = &mut self.net {
            net.begin(Some(record()));
        }
    }

    /// A call begins, which may take so long.
    pub(super) fn begin_deadline(&mut self, deadline: Duration) {
        self.deadline.begin(deadline);
    }

    /// The call that has begun may wait: its time runs from now, and no request of it lives longer.
    pub(super) fn run_deadline(&mut self) {
        let end = self.deadline.run_from(Instant::now());
        if let Some(net) = &mut self.net {
            net.call_ends(end, self.waits.held_up_ns());
        }
    }

    /// At each tick in which the call computes.
    pub(super) fn at_tick(&mut self) -> Tick {
        let has_waited = self.waits.take_waited();
        self.deadline.at_tick(Instant::now(), self.waits.held_up_for(), has_waited)
    }

    pub(super) fn waits(&self) -> &Arc<Waits> {
        &self.waits
    }

    /// Ends a window of the network's events: what was counted since the last time is recorded.
    pub(super) fn flush_net(&mut self) {
        if let Some(net) = &mut self.net {
            net.flush();
            // A lookup that left is an event of its own; one from memory is a host call like any other.
            self.operations.add(Operation::CachedLookup, net.take_cached_lookups());
        }
    }

    pub(super) fn take_operations(&mut self) -> OperationCounts {
        std::mem::take(&mut self.operations)
    }

    /// A host call on the message.
    pub(crate) fn message_call(&mut self, handle: &Resource<MessageHandle>) -> Result<(), HostFault> {
        if handle.rep() != MessageHandle::REPRESENTATION {
            return Err(HostFault::ForeignHandle);
        }
        self.charge_call()
    }

    /// Charges an edit of so many bytes. Called before a byte is copied.
    pub(crate) fn charge_output(&mut self, bytes: usize) -> Result<(), HostFault> {
        let wanted = self.output_bytes.saturating_add(bytes as u64).saturating_add(EDIT_BYTES);
        if wanted > self.limits.output_bytes {
            return Err(HostFault::Output { limit: self.limits.output_bytes, wanted });
        }
        self.output_bytes = wanted;
        Ok(())
    }

    /// The message to be edited; what it was is kept, at the price of two reference counts.
    pub(crate) fn edit(&mut self) -> &mut Message {
        if self.undo.is_none() {
            self.undo = Some(Undo { key: self.message.key.clone(), headers: self.message.headers.clone() });
        }
        &mut self.message
    }

    pub(crate) fn set_value(&mut self, value: Option<Bytes>) {
        self.value = Some(value);
    }

    pub(crate) fn log(&self) -> &LogSink {
        &self.log
    }

    pub(crate) fn inert(&mut self) -> &mut Inert {
        self.inert.get_or_insert_with(|| Inert::new(&self.log, self.limits.handles))
    }
}

impl HasNet for Guest {
    fn net(&mut self) -> NetParts<'_> {
        // Linked only with the grant, and then there is one; without an egress it refuses everything.
        let guest = self.net.get_or_insert_with(|| Box::new(NetGuest::new(None)));
        let inert = self.inert.get_or_insert_with(|| Inert::new(&self.log, self.limits.handles));
        NetParts { guest, table: &mut inert.table }
    }

    fn charge(&mut self) -> wasmtime::Result<()> {
        Ok(self.charge_call()?)
    }
}
