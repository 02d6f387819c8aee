use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use portcullis_connector_api::{Bytes, Message};
use portcullis_flow::FaultKind;
use portcullis_net::{Egress, Record};
use tokio::runtime::Handle;
use wasmtime::component::{ComponentExportIndex, Resource, TypedFunc};
use wasmtime::{Store, UpdateDeadline};

use super::contract::{MessageHandle, Verdict};
use super::deadline::Tick;
use super::fault::{Fault, Outcome, classify, deadline};
use super::guest::{Guest, hostcall_bytes};
use super::link::LinkedPlugin;
use super::log::LogCut;
use super::spec::Limits;
use super::text::tame;
use super::turns::{self, Turns, TurnsWaited};
use super::waiting;

/// `configure` may use this many times the fuel and the wall time of one call: it compiles schemas and runs once.
const CONFIGURE_FACTOR: u64 = 10;
/// The longest error of `configure` that is shown, in bytes.
const MAX_REFUSAL_BYTES: usize = 4 << 10;

type Process = TypedFunc<(Resource<MessageHandle>, Option<&'static [u8]>), (Verdict,)>;
type Configure = TypedFunc<(&'static str,), (Result<(), String>,)>;

/// One running copy of a plugin, owned by one lane. Its memory lives from message to message.
///
/// A plugin that may wait (it imports WASI streams, polls or the network) is driven by [`process`](Self::process) on a
/// runtime of the process, so that must not be called inside another one; [`process_waiting`](Self::process_waiting) may.
pub struct Instance {
    plugin: Arc<LinkedPlugin>,
    store: Store<Guest>,
    process: Process,
    /// Present where the plugin may wait in a host call, which neither fuel nor epochs interrupt.
    waits: Option<Handle>,
    spent: bool,
}

/// What an instance has used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Fuel of the last call.
    pub fuel: u64,
    /// Bytes of all memories and tables now.
    pub memory_bytes: u64,
    /// Log lines and standard output that were not kept, since the last time this was asked.
    pub log_cuts: Vec<LogCut>,
    /// How often each capability was used since the last time this was asked, exactly, for the `host.call` events. Calls on
    /// the message are not in it.
    pub host_calls: Vec<(&'static str, u64)>,
    /// Turns on the processor that its calls have waited for since the last time this was asked.
    pub turns_waited: TurnsWaited,
}

/// Why an instance could not be made.
pub(super) enum StartError {
    Fault(Fault),
    /// An export has another type than the contract's.
    Export(wasmtime::Error),
}

impl Instance {
    /// Without an egress the network refuses everything: while a plan is made there is no audit that could record it.
    pub(super) fn start(plugin: Arc<LinkedPlugin>, egress: Option<&Arc<Egress>>) -> Result<Self, StartError> {
        match Self::handle(&plugin)? {
            Some(handle) => handle.block_on(Self::begin(plugin, egress, Some(handle.clone()))),
            None => at_once(Self::begin(plugin, egress, None)),
        }
    }

    /// As [`start`](Self::start), inside the runtime.
    pub(super) async fn start_waiting(
        plugin: Arc<LinkedPlugin>,
        egress: Option<&Arc<Egress>>,
    ) -> Result<Self, StartError> {
        let handle = Self::handle(&plugin)?;
        Self::begin(plugin, egress, handle).await
    }

    fn handle(plugin: &LinkedPlugin) -> Result<Option<Handle>, StartError> {
        let handle = plugin.may_wait().then(waiting::handle).transpose();
        handle.map_err(|error| refused(&Fault::new(FaultKind::Trap, &error.to_string())))
    }

    async fn begin(
        plugin: Arc<LinkedPlugin>,
        egress: Option<&Arc<Egress>>,
        waits: Option<Handle>,
    ) -> Result<Self, StartError> {
        let limits = plugin.spec().limits;
        let budget = Limits {
            deadline_ms: limits.deadline_ms.saturating_mul(CONFIGURE_FACTOR),
            fuel: limits.fuel.saturating_mul(CONFIGURE_FACTOR),
            ..limits
        };
        let mut store = Store::new(plugin.pre().component().engine(), Guest::new(plugin.spec(), egress));
        store.limiter(|guest| &mut guest.limiter);
        store.set_hostcall_fuel(hostcall_bytes(&limits));
        store.set_max_component_handles(limits.handles as usize);
        let turns = plugin.spec().sums.turns.clone();
        let turns = turns.as_deref();
        let is_shared = turns.is_some();
        store.epoch_deadline_callback(move |mut store| Ok(at_tick(store.data_mut(), is_shared)));
        let (exports, pre) = (plugin.exports(), plugin.pre());
        let started = if waits.is_some() {
            let call = async |store: &mut Store<Guest>| pre.instantiate_async(store).await;
            guarded_waiting(&mut store, &budget, turns, call).await
        } else {
            guarded(&mut store, &budget, turns, |store| pre.instantiate(store))
        };
        let instance = started.map_err(|fault| refused(&fault))?;
        let typed = |error| StartError::Export(error);
        let configure: Configure = instance.get_typed_func(&mut store, exports.configure).map_err(typed)?;
        let process: Process = instance.get_typed_func(&mut store, exports.process).map_err(typed)?;
        let json = plugin.spec().config_json.as_str();
        let answer = if waits.is_some() {
            let call = async |store: &mut Store<Guest>| configure.call_async(store, (json,)).await;
            guarded_waiting(&mut store, &budget, turns, call).await
        } else {
            guarded(&mut store, &budget, turns, |store| configure.call(store, (json,)))
        };
        match answer.map_err(|fault| refused(&fault))? {
            (Ok(()),) => {
                // What is left of the budget of `configure` is no call's.
                store.set_fuel(limits.fuel).map_err(|error| refused(&classify(&error, &limits)))?;
                Ok(Self { plugin, store, process, waits, spent: false })
            }
            (Err(text),) => {
                let detail = tame(&text, MAX_REFUSAL_BYTES).into_owned();
                Err(StartError::Fault(Fault { kind: FaultKind::Configure, detail, above: None, code: None }))
            }
        }
    }

    /// Runs the plugin on the message. Edits are in `message` afterwards when the outcome is [`Outcome::Pass`]; with every
    /// other outcome it is as it came. After a fault the instance is [spent](Self::is_spent).
    pub fn process(&mut self, message: &mut Message) -> Outcome {
        if let Some(handle) = self.waits.clone() {
            return handle.block_on(self.process_waiting(message));
        }
        if self.spent {
            return spent();
        }
        let value = message.value.take();
        self.store.data_mut().begin(message);
        let arguments = (Resource::new_borrow(MessageHandle::REPRESENTATION), value.as_deref());
        let (process, spec) = (&self.process, self.plugin.spec());
        let turns = spec.sums.turns.as_deref();
        let answer = guarded(&mut self.store, &spec.limits, turns, |store| process.call(store, arguments));
        self.finish(message, value, answer)
    }

    /// As [`process`](Self::process), for a plugin that may wait: other instances of the lane run meanwhile.
    pub async fn process_waiting(&mut self, message: &mut Message) -> Outcome {
        if self.spent {
            return spent();
        }
        let value = message.value.take();
        self.store.data_mut().begin(message);
        let arguments = (Resource::new_borrow(MessageHandle::REPRESENTATION), value.as_deref());
        let (process, spec) = (&self.process, self.plugin.spec());
        let turns = spec.sums.turns.as_deref();
        let answer = guarded_waiting(&mut self.store, &spec.limits, turns, async |store| {
            process.call_async(store, arguments).await
        })
        .await;
        self.finish(message, value, answer)
    }

    /// Says where the next message came from, for the events of what the plugin does with the network.
    pub(crate) fn about(&mut self, record: impl FnOnce() -> Record) {
        self.store.data_mut().about(record);
    }

    fn finish(&mut self, message: &mut Message, value: Option<Bytes>, answer: Result<(Verdict,), Fault>) -> Outcome {
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

    /// Ends it. Giving back a large memory keeps a core busy for milliseconds: that is its tenant's time too.
    pub fn end(self) {
        const LARGE_BYTES: u64 = 1 << 20;
        let sums = self.plugin.spec().sums.turns.clone();
        let _turn = sums.as_deref().filter(|_| self.memory_bytes() > LARGE_BYTES).map(Turns::take);
        drop(self);
    }

    /// Whether it has failed: the engine lets nothing into the store of a guest that trapped, so the caller drops it and
    /// makes a new one.
    pub fn is_spent(&self) -> bool {
        self.spent
    }

    /// What it has used. Time is not measured here: one look at the clock costs a tenth of a call, so callers time slices.
    pub fn usage(&mut self) -> Usage {
        let (fuel, memory_bytes) = (self.fuel(), self.memory_bytes());
        let turns_waited = self.store.data().waits().take(self.plugin.spec().sums.turns.as_deref());
        let guest = self.store.data_mut();
        guest.flush_net();
        let (log_cuts, host_calls) = (guest.log.take_cuts(), guest.take_operations().into_named());
        Usage { fuel, memory_bytes, log_cuts, host_calls, turns_waited }
    }

    /// Fuel of the last call; 0 before the first.
    pub fn fuel(&self) -> u64 {
        self.plugin.spec().limits.fuel.saturating_sub(self.store.get_fuel().unwrap_or(0))
    }

    /// Bytes of all memories and tables now.
    pub fn memory_bytes(&self) -> u64 {
        self.store.data().limiter.used_bytes()
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
    turns: Option<&Turns>,
    call: impl FnOnce(&mut Store<Guest>) -> wasmtime::Result<R>,
) -> Result<R, Fault> {
    let turn = turns.map(Turns::take);
    if let Some(turn) = &turn {
        store.data().waits().add(turn.waited);
    }
    arm(store, limits)?;
    let answer = catch_unwind(AssertUnwindSafe(|| call(&mut *store)));
    judge(store, limits, answer)
}

/// As [`guarded`], for a call that may wait. The time-out covers the waiting, the epoch covers the computing; a turn is held
/// only while the guest computes.
async fn guarded_waiting<R>(
    store: &mut Store<Guest>,
    limits: &Limits,
    turns: Option<&Turns>,
    call: impl AsyncFnOnce(&mut Store<Guest>) -> wasmtime::Result<R>,
) -> Result<R, Fault> {
    arm(store, limits)?;
    let deadline = Duration::from_millis(limits.deadline_ms);
    store.data_mut().run_deadline();
    let waits = Arc::clone(store.data().waits());
    waits.begin();
    // All polls of a call come from the thread that drives it.
    let mut seen = turns::waited_here();
    let answer = {
        let mut timer = pin!(tokio::time::sleep(deadline));
        let mut call = pin!(call(&mut *store));
        poll_fn(|context| {
            let turn = turns.map(Turns::take);
            if let Some(turn) = &turn {
                waits.add(turn.waited);
            }
            let waited = turns::waited_here();
            let held_up = waited.saturating_sub(std::mem::replace(&mut seen, waited));
            if !held_up.is_zero() {
                // Others had the processor while this call or one beside it waited on this thread: nobody's call has used that
                // time.
                let until = timer.deadline() + held_up;
                timer.as_mut().reset(until);
                waits.held_up(held_up);
            }
            match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(context))) {
                Ok(Poll::Pending) => {
                    waits.wait();
                    timer.as_mut().poll(context).map(|()| Ok(Err(Elapsed.into())))
                }
                Ok(Poll::Ready(answer)) => Poll::Ready(Ok(answer)),
                Err(panic) => Poll::Ready(Err(panic)),
            }
        })
        .await
    };
    judge(store, limits, answer)
}

fn arm(store: &mut Store<Guest>, limits: &Limits) -> Result<(), Fault> {
    store.set_fuel(limits.fuel).map_err(|error| classify(&error, limits))?;
    store.data_mut().begin_deadline(Duration::from_millis(limits.deadline_ms));
    store.set_epoch_deadline(1);
    Ok(())
}

/// Looks at a call that computes, once in a tick.
fn at_tick(guest: &mut Guest, is_shared: bool) -> UpdateDeadline {
    match guest.at_tick() {
        Tick::IsOver => return UpdateDeadline::Interrupt,
        // Another tenant's thread may wait for this core, and a scheduler with ticks of 4 ms would let it. The shortest sleep is
        // some 50 us where nobody does, keeps the turn and is the call's own time, and takes nothing of the thread's share; to
        // yield takes nearly all of it on a Linux that counts what is left of a slice as used.
        Tick::Pauses if is_shared => std::thread::sleep(Duration::from_nanos(1)),
        Tick::Pauses | Tick::GoesOn => {}
    }
    UpdateDeadline::Continue(1)
}

fn judge<R>(
    store: &Store<Guest>,
    limits: &Limits,
    answer: std::thread::Result<wasmtime::Result<R>>,
) -> Result<R, Fault> {
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

/// The outcome of something that never waits.
fn at_once<T>(start: impl Future<Output = Result<T, StartError>>) -> Result<T, StartError> {
    match pin!(start).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => Err(refused(&Fault::new(FaultKind::Trap, "a plugin without waiting imports waited"))),
    }
}

fn refused(fault: &Fault) -> StartError {
    let detail = format!("{} {}", fault.kind, fault.detail);
    StartError::Fault(Fault { above: fault.above, ..Fault::new(FaultKind::Configure, &detail) })
}

fn spent() -> Outcome {
    Outcome::Fault(Fault::new(FaultKind::Trap, "the instance has failed before and was used again"))
}

#[derive(Debug, thiserror::Error)]
#[error("the deadline has passed")]
struct Elapsed;
