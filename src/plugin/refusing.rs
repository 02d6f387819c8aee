//! What a plugin imports, could do without and was not granted: it is linked, since a component cannot start without what it
//! imports, and each call of it is refused.

use wasmtime::component::Linker;

use super::artifact::Import;
use super::fault::HostFault;
use super::guest::Guest;
use super::manifest::Wish;
use super::spec::PluginSpec;
use crate::capability::{self, Capability, Need};

/// The imports that are left out, and the rest.
pub(super) fn split<'i>(imports: &'i [Import], spec: &PluginSpec) -> (Vec<&'i Import>, Vec<&'i Import>) {
    imports.iter().partition(|import| {
        let Need::Grant(capability) = capability::decide(&import.name) else { return false };
        let is_left_out = spec.left_out.iter().any(|wish: &Wish| wish.as_str() == capability.as_str());
        is_left_out && !capability.is_granted(&spec.grants) && !import.functions.is_empty()
    })
}

/// Links them.
pub(super) fn link(linker: &mut Linker<Guest>, left_out: &[&Import]) -> wasmtime::Result<()> {
    let mut whole: Vec<Need> = Vec::new();
    for import in left_out {
        let need = capability::decide(&import.name);
        match need {
            // A line that nobody asked for is no harm: without a grant it is cut and counted.
            Need::Grant(Capability::Log) => whole.push(need),
            Need::Grant(capability) => refuse(linker, import, capability)?,
            _ => {}
        }
    }
    capability::link(linker, &whole)
}

fn refuse(linker: &mut Linker<Guest>, import: &Import, capability: Capability) -> wasmtime::Result<()> {
    let mut interface = linker.instance(&import.name)?;
    for function in &import.functions {
        let fault = HostFault::NotGranted { capability: capability.as_str() };
        interface.func_new(function, move |_, _, _, _| Err(fault.into()))?;
    }
    Ok(())
}
