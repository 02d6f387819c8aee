//! Passes a list of 1024 header values to the host in one call. Each is the same mebibyte of the guest's memory, so that the host is to
//! take a gibibyte from a guest that is far within its own limit. A value that begins with `ok` passes.

#![cfg(target_arch = "wasm32")]
#![allow(unsafe_code)]

use portcullis_plugin::bindings::http::wasi::http::types::Fields;
use portcullis_plugin::{Message, Verdict, validator};

portcullis_plugin::manifest! { validator, egress: "makes headers" }

/// The entry of a list of headers, as the canonical ABI lays it out.
#[repr(C)]
#[derive(Clone, Copy)]
struct Entry {
    name: *const u8,
    name_length: usize,
    value: *const u8,
    value_length: usize,
}

#[link(wasm_import_module = "wasi:http/types@0.2.12")]
unsafe extern "C" {
    #[link_name = "[static]fields.from-list"]
    fn from_list(entries: *const Entry, count: usize, result: *mut [u32; 2]);
}

#[validator]
fn passes_a_gigabyte(message: &Message) -> Verdict {
    if message.value().is_some_and(|value| value.starts_with(b"ok")) {
        return Verdict::pass();
    }
    // Keeps the interface in the component's type.
    drop(Fields::new());
    let (name, value) = ("x", vec![b'x'; 1 << 20]);
    let entry =
        Entry { name: name.as_ptr(), name_length: name.len(), value: value.as_ptr(), value_length: value.len() };
    let (entries, mut result) = ([entry; 1024], [0; 2]);
    // SAFETY: the pointers and lengths are those of live values, and the result has the size that the ABI says.
    unsafe { from_list(entries.as_ptr(), entries.len(), &raw mut result) };
    match result {
        [0, handle] => {
            // SAFETY: the host has just given this handle.
            drop(unsafe { Fields::from_handle(handle) });
            Verdict::pass()
        }
        _ => Verdict::reject("setter", "fields.from-list"),
    }
}
