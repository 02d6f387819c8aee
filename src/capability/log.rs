//! `portcullis:plugin/log`: lines for the operator's log, by the grant `log`.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, WasmStr};

use super::Operation;
use crate::plugin::{Guest, Level};

/// What this file serves.
pub(super) fn serves(interface: &str) -> bool {
    interface == "portcullis:plugin/log"
}

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.instance("portcullis:plugin/log@0.1.0")?.func_wrap(
        "write",
        |mut store: StoreContextMut<'_, Guest>, (level, text): (Level, WasmStr)| {
            store.data_mut().count(Operation::LogWrite)?;
            let text = text.to_str(&store)?;
            store.data().log().line(level, &text);
            Ok(())
        },
    )
}
