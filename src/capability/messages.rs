//! `portcullis:plugin/messages`: the message in work, read only. Linked for every plugin.

use portcullis_connector_api::Bytes;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, LinkerInstance, Resource, ResourceType, WasmStr};

use crate::plugin::{Guest, Header, HostFault, MessageHandle, Reason, tame};

/// What this file serves.
pub(super) fn serves(interface: &str) -> bool {
    interface == "portcullis:plugin/messages"
}

type Handle = Resource<MessageHandle>;
type Context<'a> = StoreContextMut<'a, Guest>;

/// Lists are handed to the guest as `Vec`: the canonical ABI copies them into its memory at once.
pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut messages = linker.instance("portcullis:plugin/messages@0.1.0")?;
    // Guests only ever hold borrows, which are not dropped by the host.
    messages.resource("message", ResourceType::host::<MessageHandle>(), |_, _| Ok(()))?;
    messages.func_wrap("[method]message.key", |mut store: Context<'_>, (handle,): (Handle,)| {
        let guest = enter(&mut store, &handle)?;
        Ok((guest.message.key.as_deref().map(<[u8]>::to_vec),))
    })?;
    messages.func_wrap("[method]message.timestamp-ms", |mut store: Context<'_>, (handle,): (Handle,)| {
        Ok((enter(&mut store, &handle)?.message.timestamp.millis(),))
    })?;
    messages.func_wrap("[method]message.channel", |mut store: Context<'_>, (handle,): (Handle,)| {
        Ok((enter(&mut store, &handle)?.message.channel.as_str().to_owned(),))
    })?;
    messages.func_wrap("[method]message.headers", |mut store: Context<'_>, (handle,): (Handle,)| {
        let guest = enter(&mut store, &handle)?;
        let headers = guest.message.headers.iter().map(|header| copy(&header.name, header.value.as_ref()));
        Ok((headers.collect::<Vec<_>>(),))
    })?;
    link_by_name(&mut messages)
}

/// The functions that take text from the guest.
fn link_by_name(messages: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    messages.func_wrap("[method]message.header", |mut store: Context<'_>, (handle, name): (Handle, WasmStr)| {
        enter(&mut store, &handle)?;
        let name = name.to_str(&store)?;
        let header = store.data().message.headers.last(name.as_bytes());
        Ok((header.map(|header| copy(&header.name, header.value.as_ref())),))
    })?;
    messages.func_wrap(
        "[method]message.reason",
        |mut store: Context<'_>, (handle, code, detail): (Handle, WasmStr, WasmStr)| {
            enter(&mut store, &handle)?;
            let reason = Reason {
                code: tame(&code.to_str(&store)?, Reason::MAX_CODE_BYTES).into_owned(),
                detail: tame(&detail.to_str(&store)?, Reason::MAX_DETAIL_BYTES).into_owned(),
            };
            store.data_mut().set_reason(reason);
            Ok(())
        },
    )
}

fn enter<'store>(store: &'store mut Context<'_>, handle: &Handle) -> Result<&'store mut Guest, HostFault> {
    let guest = store.data_mut();
    guest.message_call(handle)?;
    Ok(guest)
}

/// A name that is not UTF-8 never gets here: such a message is a `decode` fault before the chain.
fn copy(name: &Bytes, value: Option<&Bytes>) -> Header {
    Header { name: String::from_utf8_lossy(name).into_owned(), value: value.map(|value| value.to_vec()) }
}
