//! `wasi:clocks`: the time, by the grant `clock`. Coarse clocks show whole milliseconds: enough to stamp a message, too
//! little to time a cache.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Linker, Lower, Resource};
use wasmtime_wasi::clocks::WasiClocksCtxView;
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock::Host as _;

use super::Operation;
use crate::plugin::{Clock, Guest};

/// What this file serves.
pub(super) fn serves(interface: &str) -> bool {
    matches!(interface, "wasi:clocks/wall-clock" | "wasi:clocks/monotonic-clock")
}

type Context<'a> = StoreContextMut<'a, Guest>;

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut wall = linker.instance("wasi:clocks/wall-clock@0.2.12")?;
    wall.func_wrap("now", |mut store: Context<'_>, (): ()| {
        let guest = store.data_mut();
        guest.count(Operation::WallClockNow)?;
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok((datetime(coarsen(since_epoch, guest.clock)),))
    })?;
    wall.func_wrap("resolution", |mut store: Context<'_>, (): ()| {
        let guest = store.data_mut();
        guest.count(Operation::WallClockResolution)?;
        Ok((datetime(resolution(guest.clock)),))
    })?;
    let mut monotonic = linker.instance("wasi:clocks/monotonic-clock@0.2.12")?;
    monotonic.func_wrap("now", |mut store: Context<'_>, (): ()| {
        let guest = store.data_mut();
        guest.count(Operation::MonotonicClockNow)?;
        Ok((monotonic_now(guest),))
    })?;
    monotonic.func_wrap("resolution", |mut store: Context<'_>, (): ()| {
        let guest = store.data_mut();
        guest.count(Operation::MonotonicClockResolution)?;
        Ok((nanoseconds(resolution(guest.clock)),))
    })?;
    monotonic.func_wrap("subscribe-instant", |mut store: Context<'_>, (when,): (u64,)| {
        let guest = store.data_mut();
        guest.count(Operation::MonotonicClockSubscribe)?;
        let wait = when.saturating_sub(monotonic_now(guest));
        Ok((subscribe(guest, wait)?,))
    })?;
    monotonic.func_wrap("subscribe-duration", |mut store: Context<'_>, (wait,): (u64,)| {
        let guest = store.data_mut();
        guest.count(Operation::MonotonicClockSubscribe)?;
        Ok((subscribe(guest, wait)?,))
    })
}

/// A timer in the guest's resource table. Waiting for it is `wasi:io/poll`, which a deadline interrupts.
fn subscribe(guest: &mut Guest, wait_ns: u64) -> wasmtime::Result<Resource<DynPollable>> {
    let inert = guest.inert();
    WasiClocksCtxView { ctx: inert.wasi.clocks(), table: &mut inert.table }.subscribe_duration(wait_ns)
}

/// Since the instance was made, so that it says nothing of the machine.
fn monotonic_now(guest: &Guest) -> u64 {
    nanoseconds(coarsen(guest.started.elapsed(), guest.clock))
}

fn coarsen(time: Duration, clock: Clock) -> Duration {
    match clock {
        Clock::Coarse => Duration::new(time.as_secs(), time.subsec_millis() * 1_000_000),
        Clock::Precise => time,
    }
}

fn resolution(clock: Clock) -> Duration {
    match clock {
        Clock::Coarse => Duration::from_millis(1),
        Clock::Precise => Duration::from_nanos(1),
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn datetime(time: Duration) -> Datetime {
    Datetime { seconds: time.as_secs(), nanoseconds: time.subsec_nanos() }
}

/// A moment of the wall clock as WASI writes it.
#[derive(Clone, Copy, ComponentType, Lower)]
#[component(record)]
struct Datetime {
    seconds: u64,
    nanoseconds: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coarse_clock_shows_whole_milliseconds() {
        let time = Duration::new(7, 123_456_789);
        assert_eq!(coarsen(time, Clock::Coarse), Duration::new(7, 123_000_000));
        assert_eq!(coarsen(time, Clock::Precise), time);
    }
}
