//! The message in work.

#[cfg_attr(target_arch = "wasm32", path = "message/guest.rs")]
#[cfg_attr(not(target_arch = "wasm32"), path = "message/native.rs")]
mod backend;

#[cfg(target_arch = "wasm32")]
pub use crate::bindings::host::portcullis::plugin::messages::Header;
#[cfg(not(target_arch = "wasm32"))]
pub use backend::Header;

/// The message in work.
///
/// The value is already here; everything else is asked of the host when it is needed, and each such question is a call: keep the
/// answer instead of asking twice. Null differs from empty everywhere: `None` is null.
#[cfg_attr(not(target_arch = "wasm32"), derive(Debug, Clone, PartialEq, Eq))]
pub struct Message {
    value: Option<Vec<u8>>,
    backend: backend::Backend,
}

impl Message {
    /// The value; none where it is null (a tombstone). After [`set_value`](Self::set_value) the new one.
    #[must_use]
    pub fn value(&self) -> Option<&[u8]> {
        self.value.as_deref()
    }

    /// The key; none where it is null.
    #[must_use]
    pub fn key(&self) -> Option<Vec<u8>> {
        self.backend.key()
    }

    /// The last header of this name; none where there is no such header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<Header> {
        self.backend.header(name)
    }

    /// Every header in the order of the message. Names may repeat.
    #[must_use]
    pub fn headers(&self) -> Vec<Header> {
        self.backend.headers()
    }

    /// Milliseconds since 1970-01-01T00:00:00Z; none where the source has no timestamp.
    #[must_use]
    pub fn timestamp_ms(&self) -> Option<i64> {
        self.backend.timestamp_ms()
    }

    /// The topic or the subject that the message came from.
    #[must_use]
    pub fn channel(&self) -> String {
        self.backend.channel()
    }

    /// Replaces the value; `None` makes it null.
    pub fn set_value(&mut self, value: Option<Vec<u8>>) {
        self.backend.set_value(value.as_deref());
        self.value = value;
    }

    /// Replaces the key; `None` makes it null. The order within this run stays that of the key that arrived.
    pub fn set_key(&mut self, key: Option<&[u8]>) {
        self.backend.set_key(key);
    }

    /// Replaces every header of this name by one, at the place of the first, or appends it.
    pub fn set_header(&mut self, name: &str, value: Option<&[u8]>) {
        self.backend.set_header(name, value);
    }

    /// Appends a header, also where the name exists.
    pub fn append_header(&mut self, name: &str, value: Option<&[u8]>) {
        self.backend.append_header(name, value);
    }

    /// Removes every header of this name and returns how many there were.
    pub fn remove_header(&mut self, name: &str) -> u32 {
        self.backend.remove_header(name)
    }
}
