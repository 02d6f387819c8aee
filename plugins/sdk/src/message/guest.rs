//! The message as a handle that the host lent for one call.

use std::mem::ManuallyDrop;

use crate::Message;
use crate::bindings::host::portcullis::plugin::{edits, messages};

/// A copy of the lent handle. The generated export gives the handle back at the end of the call, so this copy must not.
pub(super) struct Backend(ManuallyDrop<messages::Message>);

impl Message {
    /// Only for the time of the call that lent the handle; a use after it is refused by the host with a trap.
    pub(crate) fn lent(handle: &messages::Message, value: Option<Vec<u8>>) -> Self {
        // SAFETY: the index comes from a live handle of the same type, and `ManuallyDrop` keeps it from being dropped twice.
        #[allow(unsafe_code)]
        let copy = unsafe { messages::Message::from_handle(handle.handle()) };
        Self { value, backend: Backend(ManuallyDrop::new(copy)) }
    }
}

impl Backend {
    pub(super) fn key(&self) -> Option<Vec<u8>> {
        self.0.key()
    }

    pub(super) fn header(&self, name: &str) -> Option<messages::Header> {
        self.0.header(name)
    }

    pub(super) fn headers(&self) -> Vec<messages::Header> {
        self.0.headers()
    }

    pub(super) fn timestamp_ms(&self) -> Option<i64> {
        self.0.timestamp_ms()
    }

    pub(super) fn channel(&self) -> String {
        self.0.channel()
    }

    pub(super) fn set_value(&mut self, value: Option<&[u8]>) {
        edits::set_value(&self.0, value);
    }

    pub(super) fn set_key(&mut self, key: Option<&[u8]>) {
        edits::set_key(&self.0, key);
    }

    pub(super) fn set_header(&mut self, name: &str, value: Option<&[u8]>) {
        edits::set_header(&self.0, name, value);
    }

    pub(super) fn append_header(&mut self, name: &str, value: Option<&[u8]>) {
        edits::append_header(&self.0, &messages::Header { name: name.to_owned(), value: value.map(<[u8]>::to_vec) });
    }

    pub(super) fn remove_header(&mut self, name: &str) -> u32 {
        edits::remove_header(&self.0, name)
    }
}
