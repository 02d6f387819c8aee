//! The child's side of a compilation: it gives up what a compiler does not need, and then reads the component.

use std::ffi::OsString;
use std::io::{self, Read, Write};

use rustix::process::{Resource, Rlimit, setrlimit};

use super::here;
use crate::plugin::engine::new_engine;

/// The hidden subcommand of the child. Its arguments are the address space in bytes and the processor time in seconds.
pub const SUBCOMMAND: &str = "compile-component";

/// What the child does: takes a component on its standard input and gives machine code on its standard output. The arguments
/// are those behind the subcommand.
///
/// # Errors
/// What is wrong with the component, or what the system refused.
pub fn serve(arguments: impl Iterator<Item = OsString>) -> Result<(), String> {
    let (address_space_bytes, cpu_seconds) =
        bounds(arguments).ok_or("the arguments are the address space in bytes and the processor time in seconds")?;
    confine(address_space_bytes, cpu_seconds).map_err(|error| format!("the process cannot be confined: {error}"))?;
    let mut component = Vec::new();
    io::stdin().lock().read_to_end(&mut component).map_err(|error| error.to_string())?;
    let engine = new_engine().map_err(|error| error.to_string())?;
    let code = here(&engine, &component).map_err(|error| format!("{error:#}"))?;
    io::stdout().lock().write_all(&code).map_err(|error| error.to_string())
}

fn bounds(mut arguments: impl Iterator<Item = OsString>) -> Option<(u64, u64)> {
    let mut number = || arguments.next()?.to_str()?.parse().ok();
    let bounds = (number()?, number()?);
    arguments.next().is_none().then_some(bounds)
}

/// For a component that has taken the compiler over: it finds a process that can open nothing, become nothing and keep nothing. What it
/// gives back is taken for code all the same: this bounds the child and is no second wall around the bridge.
fn confine(address_space_bytes: u64, cpu_seconds: u64) -> io::Result<()> {
    let limits = [
        (Resource::As, address_space_bytes),
        (Resource::Cpu, cpu_seconds),
        (Resource::Core, 0),
        (Resource::Fsize, 0),
        // The three pipes stay; nothing is opened beside them, no file and no socket.
        (Resource::Nofile, 0),
    ];
    for (resource, limit) in limits {
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })?;
    }
    give_up_rights()
}

#[cfg(target_os = "linux")]
fn give_up_rights() -> io::Result<()> {
    use rustix::process::{DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal};
    use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs};

    // Nobody would read the answer.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // Another process of the same user may not look into this one.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    set_no_new_privs(true)?;
    // Without them the limits above hold for root too. Threads are made after this and have none either.
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn give_up_rights() -> io::Result<()> {
    Ok(())
}
