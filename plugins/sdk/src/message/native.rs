//! The message in memory, for `cargo test` on the host. It behaves as the bridge does.

use crate::Message;

/// One header of a message. A null value differs from an empty one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The name.
    pub name: String,
    /// The value; none where it is null.
    pub value: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Backend {
    key: Option<Vec<u8>>,
    headers: Vec<Header>,
    timestamp_ms: Option<i64>,
    channel: String,
}

/// For tests only: a component is given its messages.
impl Message {
    /// A message with this value, a null key, no headers, no timestamp and an empty channel.
    pub fn of(value: impl Into<Vec<u8>>) -> Self {
        Self { value: Some(value.into()), backend: Backend::default() }
    }

    /// A message whose value is null.
    #[must_use]
    pub fn tombstone() -> Self {
        Self { value: None, backend: Backend::default() }
    }

    /// The same with this key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.backend.key = Some(key.into());
        self
    }

    /// The same with one more header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.backend.headers.push(Header { name: name.to_owned(), value: Some(value.into()) });
        self
    }

    /// The same with one more header whose value is null.
    #[must_use]
    pub fn with_null_header(mut self, name: &str) -> Self {
        self.backend.headers.push(Header { name: name.to_owned(), value: None });
        self
    }

    /// The same with this timestamp in milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn with_timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.backend.timestamp_ms = Some(timestamp_ms);
        self
    }

    /// The same from this topic or subject.
    #[must_use]
    pub fn with_channel(mut self, channel: &str) -> Self {
        channel.clone_into(&mut self.backend.channel);
        self
    }
}

impl Backend {
    pub(super) fn key(&self) -> Option<Vec<u8>> {
        self.key.clone()
    }

    pub(super) fn header(&self, name: &str) -> Option<Header> {
        self.headers.iter().rev().find(|header| header.name == name).cloned()
    }

    pub(super) fn headers(&self) -> Vec<Header> {
        self.headers.clone()
    }

    pub(super) fn timestamp_ms(&self) -> Option<i64> {
        self.timestamp_ms
    }

    pub(super) fn channel(&self) -> String {
        self.channel.clone()
    }

    /// The value itself lives in [`Message`].
    pub(super) fn set_value(&mut self, _: Option<&[u8]>) {}

    pub(super) fn set_key(&mut self, key: Option<&[u8]>) {
        self.key = key.map(<[u8]>::to_vec);
    }

    pub(super) fn set_header(&mut self, name: &str, value: Option<&[u8]>) {
        let first = self.headers.iter().position(|header| header.name == name).unwrap_or(self.headers.len());
        self.remove_header(name);
        self.headers.insert(first, Header { name: name.to_owned(), value: value.map(<[u8]>::to_vec) });
    }

    pub(super) fn append_header(&mut self, name: &str, value: Option<&[u8]>) {
        self.headers.push(Header { name: name.to_owned(), value: value.map(<[u8]>::to_vec) });
    }

    pub(super) fn remove_header(&mut self, name: &str) -> u32 {
        let before = self.headers.len();
        self.headers.retain(|header| header.name != name);
        u32::try_from(before.saturating_sub(self.headers.len())).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(message: &Message) -> Vec<(String, Option<Vec<u8>>)> {
        message.headers().into_iter().map(|header| (header.name, header.value)).collect()
    }

    #[test]
    fn the_last_header_of_a_name_is_the_one_that_is_read() {
        let message = Message::of("v").with_header("a", "1").with_null_header("a");
        assert_eq!(message.header("a").unwrap().value, None);
        assert_eq!(message.header("b"), None);
    }

    #[test]
    fn setting_a_header_keeps_the_place_of_the_first_and_removes_the_others() {
        let mut message =
            Message::of("v").with_header("x", "0").with_header("a", "1").with_header("y", "2").with_header("a", "3");
        message.set_header("a", Some(b"new"));
        message.set_header("z", None);
        let expected = [("x", Some("0")), ("a", Some("new")), ("y", Some("2")), ("z", None)];
        assert_eq!(names(&message), expected.map(|(n, v)| (n.to_owned(), v.map(|v| v.as_bytes().to_vec()))));
    }

    #[test]
    fn edits_are_seen_by_the_code_that_made_them() {
        let mut message = Message::of("v").with_key("k").with_header("a", "1").with_header("a", "2");
        message.set_value(None);
        message.set_key(Some(b"k2"));
        message.append_header("b", Some(b""));
        assert_eq!((message.value(), message.key()), (None, Some(b"k2".to_vec())));
        assert_eq!(message.remove_header("a"), 2);
        assert_eq!(message.remove_header("a"), 0);
        assert_eq!(names(&message), [("b".to_owned(), Some(Vec::new()))]);
    }
}
