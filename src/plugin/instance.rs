use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use portcullis_connector_api::Message;
use portcullis_flow::FaultKind;
use tokio::runtime::Runtime;
use wasmtime::Store;
use wasmtime::component::{ComponentExportIndex, Resource, TypedFunc};

use super::contract::{MessageHandle, Verdict};
use super::engine::ticks;
use super::fault::{Fault, Outcome, classify, deadline};
use super::guest::{Guest, hostcall_bytes};
use super::link::LinkedPlugin;
use super::spec::Limits;
use super::text::tame;

/// `configure` may use this many times the fuel and the wall time of one call: it compiles schemas and runs once.
const CONFIGURE_FACTOR: u64 = 10;
/// The longest error of `configure` that is shown, in bytes.
const MAX_REFUSAL_BYTES: usize = 4 << 10;

type Process = TypedFunc<(Resource<MessageHandle>, Option<&'static [u8]>), (Verdict,)>;
type Configure = TypedFunc<(&'static str,), (Result<(), String>,)>;

/// One running copy of a plugin, owned by one lane. Its memory lives from message to message.
///
/// A plugin that may wait (it imports WASI streams or polls) runs on a runtime of its own, so an instance must not be used
/// inside another tokio runtime.
pub struct Instance {
    plugin: Arc<LinkedPlugin>,
    store: Store<Guest>,
    process: Process,
    /// Present where the plugin may wait in a host call, which neither fuel nor epochs interrupt.
    runtime: Option<Runtime>,
    fuel_used: u64,
    spent: bool,
}

/// What an instance has used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Fuel of the last call.
    pub fuel: u64,
    /// Bytes of all memories and tables now.
    pub memory_bytes: u64,
    /// Bytes of log lines and standard output that were not kept, since the last time this was asked.
    pub log_cut_bytes: u64,
    /// How often each capability was used since the last time this was asked, exactly, for the `host.call` events. Calls on
    /// the message are not in it.
    pub host_calls: Vec<(&'static str, u64)>,
}

/// Why an instance could not be made.
pub(super) enum StartError {
    Fault(Fault),
    /// An export has another type than the contract's.
    Export(wasmtime::Error),
}

impl Instance {
    pub(super) fn start(plugin: Arc<LinkedPlugin>) -> Result<Self, StartError> {
        let limits = plugin.spec().limits;
        let budget = Limits {
            deadline_ms: limits.deadline_ms.saturating_mul(CONFIGURE_FACTOR),
            fuel: limits.fuel.saturating_mul(CONFIGURE_FACTOR),
            ..limits
        };
        let refused = |fault: &Fault| {
            StartError::Fault(Fault::new(FaultKind::Configure, &format!("{} {}", fault.kind, fault.detail)))
        };
        let mut store = Store::new(plugin.pre().component().engine(), Guest::new(plugin.spec()));
        store.limiter(|guest| &mut guest.limiter);
        store.set_hostcall_fuel(hostcall_bytes(&limits));
        store.set_max_component_handles(limits.handles as usize);
        let runtime = plugin.may_wait().then(runtime).transpose().map_err(|error| refused(&host_failure(&error)))?;
        let exports = plugin.exports();
        let started = guarded(&mut store, &budget, |store| {
            let pre = plugin.pre();
            let instance = match &runtime {
                None => pre.instantiate(&mut *store)?,
                Some(runtime) => within(runtime, &budget, pre.instantiate_async(&mut *store))?,
            };
            Ok(instance)
        });
        let instance = started.map_err(|fault| refused(&fault))?;
        let typed = |error| StartError::Export(error);
        let configure: Configure = instance.get_typed_func(&mut store, exports.configure).map_err(typed)?;
        let process: Process = instance.get_typed_func(&mut store, exports.process).map_err(typed)?;
        let json = plugin.spec().config_json.as_str();
        let answer = guarded(&mut store, &budget, |store| match &runtime {
            None => configure.call(&mut *store, (json,)),
            Some(runtime) => within(runtime, &budget, configure.call_async(&mut *store, (json,))),
        });
        match answer.map_err(|fault| refused(&fault))? {
            (Ok(()),) => Ok(Self { plugin, store, process, runtime, fuel_used: 0, spent: false }),
            (Err(text),) => {
                let detail = tame(&text, MAX_REFUSAL_BYTES).into_owned();
                Err(StartError::Fault(Fault { kind: FaultKind::Configure, detail }))
            }
        }
    }

    /// Runs the plugin on the message. Edits are in `message` afterwards when the outcome is [`Outcome::Pass`]; with every
    /// other outcome it is as it came. After a fault the instance is [spent](Self::is_spent).
    pub fn process(&mut self, message: &mut Message) -> Outcome {
        if self.spent {
            return Outcome::Fault(Fault::new(FaultKind::Trap, "the instance has failed before and was used again"));
        }
        let value = message.value.take();
        self.store.data_mut().begin(message);
        let answer = {
            let (process, runtime, limits) = (&self.process, &self.runtime, &self.plugin.spec().limits);
            let arguments = (Resource::new_borrow(MessageHandle::REPRESENTATION), value.as_deref());
            guarded(&mut self.store, limits, |store| match runtime {
                None => process.call(store, arguments),
                Some(runtime) => within(runtime, limits, process.call_async(store, arguments)),
            })
        };
        self.fuel_used = self.plugin.spec().limits.fuel.saturating_sub(self.store.get_fuel().unwrap_or(0));
        let guest = self.store.data_mut();
        guest.end(message, value, matches!(answer, Ok((Verdict::Pass,))));
        let reason = guest.take_reason();
        match answer {
            Ok((Verdict::Pass,)) => Outcome::Pass,
            Ok((Verdict::Drop,)) => Outcome::Drop(reason),
            Ok((Verdict::Reject,)) => Outcome::Reject(reason),
            Ok((Verdict::Retry,)) => Outcome::Retry(reason),
            Err(fault) => {
                self.spent = true;
                Outcome::Fault(fault)
            }
        }
    }

    /// Whether it has failed: the engine lets nothing into the store of a guest that trapped, so the caller drops it and
    /// makes a new one.
    pub fn is_spent(&self) -> bool {
        self.spent
    }

    /// What it has used. Time is not measured here: one look at the clock costs a tenth of a call, so callers time slices.
    pub fn usage(&mut self) -> Usage {
        let guest = self.store.data_mut();
        Usage {
            fuel: self.fuel_used,
            memory_bytes: guest.limiter.used_bytes(),
            log_cut_bytes: guest.log.take_cut_bytes(),
            host_calls: guest.take_operations().into_named(),
        }
    }

    /// What it is an instance of.
    pub fn plugin(&self) -> &Arc<LinkedPlugin> {
        &self.plugin
    }
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance")
            .field("plugin", &self.plugin.name())
            .field("spent", &self.spent)
            .finish_non_exhaustive()
    }
}

/// The two functions of the contract.
pub(super) struct Exports {
    pub(super) configure: ComponentExportIndex,
    pub(super) process: ComponentExportIndex,
}

/// Runs guest code under a budget. A panic of a host function unwinds to here: it costs this instance and not the process.
fn guarded<R>(
    store: &mut Store<Guest>,
    limits: &Limits,
    call: impl FnOnce(&mut Store<Guest>) -> wasmtime::Result<R>,
) -> Result<R, Fault> {
    store.set_fuel(limits.fuel).map_err(|error| classify(&error, limits))?;
    store.set_epoch_deadline(ticks(limits.deadline_ms));
    let answer = catch_unwind(AssertUnwindSafe(|| call(&mut *store)));
    if let Err(fault) = store.data().check_calls() {
        return Err(classify(&fault.into(), limits));
    }
    match answer {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) if error.is::<Elapsed>() => Err(deadline(limits)),
        Ok(Err(error)) => Err(classify(&error, limits)),
        Err(_) => Err(Fault::new(FaultKind::Trap, "a host function panicked")),
    }
}

/// Drives a call that may wait. The time-out covers the waiting, the epoch covers the computing.
fn within<R>(
    runtime: &Runtime,
    limits: &Limits,
    call: impl Future<Output = wasmtime::Result<R>>,
) -> wasmtime::Result<R> {
    let deadline = Duration::from_millis(limits.deadline_ms);
    runtime.block_on(async { tokio::time::timeout(deadline, call).await }).unwrap_or_else(|_| Err(Elapsed.into()))
}

#[derive(Debug, thiserror::Error)]
#[error("the deadline has passed")]
struct Elapsed;

fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_time().build()
}

fn host_failure(error: &std::io::Error) -> Fault {
    Fault::new(FaultKind::Trap, &error.to_string())
}
