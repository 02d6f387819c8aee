//! `portcullis:plugin/edits`: changes to the message in work. Linked for enrichers alone. Every size is checked against the
//! output limit while the bytes are still in the guest's memory.

use portcullis_connector_api::{Bytes, Header};
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, LinkerInstance, Resource, WasmList, WasmStr};

use crate::plugin::{Guest, HeaderArgument, MessageHandle};

/// What this file serves.
pub(super) fn serves(interface: &str) -> bool {
    interface == "portcullis:plugin/edits"
}

type Handle = Resource<MessageHandle>;
type Context<'a> = StoreContextMut<'a, Guest>;
type List = WasmList<u8>;

pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut edits = linker.instance("portcullis:plugin/edits@0.1.0")?;
    edits.func_wrap("set-value", |mut store: Context<'_>, (handle, value): (Handle, Option<List>)| {
        store.data_mut().message_call(&handle)?;
        let value = take(&mut store, value.as_ref())?;
        store.data_mut().set_value(value);
        Ok(())
    })?;
    edits.func_wrap("set-key", |mut store: Context<'_>, (handle, key): (Handle, Option<List>)| {
        store.data_mut().message_call(&handle)?;
        let key = take(&mut store, key.as_ref())?;
        store.data_mut().edit().key = key;
        Ok(())
    })?;
    link_headers(&mut edits)
}

fn link_headers(edits: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    edits.func_wrap(
        "set-header",
        |mut store: Context<'_>, (handle, name, value): (Handle, WasmStr, Option<List>)| {
            store.data_mut().message_call(&handle)?;
            let header = take_header(&mut store, &name, value.as_ref())?;
            store.data_mut().edit().headers.set(header);
            Ok(())
        },
    )?;
    edits.func_wrap("append-header", |mut store: Context<'_>, (handle, header): (Handle, HeaderArgument)| {
        store.data_mut().message_call(&handle)?;
        let header = take_header(&mut store, &header.name, header.value.as_ref())?;
        store.data_mut().edit().headers.append(header);
        Ok(())
    })?;
    edits.func_wrap("remove-header", |mut store: Context<'_>, (handle, name): (Handle, WasmStr)| {
        store.data_mut().message_call(&handle)?;
        let name = name.to_str(&store)?.into_owned();
        let removed = store.data_mut().edit().headers.remove(name.as_bytes());
        Ok((u32::try_from(removed).unwrap_or(u32::MAX),))
    })
}

fn take(store: &mut Context<'_>, list: Option<&List>) -> wasmtime::Result<Option<Bytes>> {
    store.data_mut().charge_output(list.map_or(0, WasmList::len))?;
    Ok(list.map(|list| Bytes::copy_from_slice(list.as_le_slice(&*store))))
}

fn take_header(store: &mut Context<'_>, name: &WasmStr, value: Option<&List>) -> wasmtime::Result<Header> {
    // Text of another encoding is decoded to learn its length; of UTF-8 nothing is copied before the check.
    let length = name.to_str(&*store)?.len();
    store.data_mut().charge_output(length)?;
    let name = Bytes::copy_from_slice(name.to_str(&*store)?.as_bytes());
    Ok(Header { name, value: take(store, value)? })
}
