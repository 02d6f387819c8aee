use std::sync::Arc;

use bytes::Bytes;

use crate::Channel;

/// A message as it came from a source or goes to a sink. Cloning costs reference counts, never bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The key. `None` is null, which is not an empty key.
    pub key: Option<Bytes>,
    /// The value. `None` is null (a tombstone in Kafka), which is not an empty value.
    pub value: Option<Bytes>,
    /// The headers in their order.
    pub headers: Headers,
    /// When the message was made or stored.
    pub timestamp: Timestamp,
    /// The topic or subject it came from.
    pub channel: Channel,
}

impl Message {
    /// A message of this channel without key, value, headers and timestamp.
    pub fn new(channel: impl Into<Channel>) -> Self {
        Self {
            key: None,
            value: None,
            headers: Headers::default(),
            timestamp: Timestamp::Unknown,
            channel: channel.into(),
        }
    }

    /// Bytes of key, value, header names and header values: what every byte bound of the bridge counts.
    pub fn size_bytes(&self) -> usize {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        length(&self.key) + length(&self.value) + self.headers.iter().map(Header::size_bytes).sum::<usize>()
    }
}

/// The time of a message, in milliseconds since 1970-01-01T00:00:00Z, with what it means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Timestamp {
    /// The source has none.
    #[default]
    Unknown,
    /// Set by the producer (`CreateTime` in Kafka).
    Created(i64),
    /// Set by the broker when it stored the message (`LogAppendTime` in Kafka).
    Appended(i64),
}

impl Timestamp {
    /// The milliseconds, whatever they mean.
    pub fn millis(self) -> Option<i64> {
        match self {
            Self::Unknown => None,
            Self::Created(ms) | Self::Appended(ms) => Some(ms),
        }
    }
}

/// One header. The name is bytes and not text, because a Kafka broker stores any bytes; what is not UTF-8 must reach the
/// dead letter queue as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The name, usually UTF-8.
    pub name: Bytes,
    /// The value. `None` is null, which is not an empty value.
    pub value: Option<Bytes>,
}

impl Header {
    /// A header of a name that is text.
    pub fn new(name: impl Into<Bytes>, value: Option<impl Into<Bytes>>) -> Self {
        Self { name: name.into(), value: value.map(Into::into) }
    }

    /// The name where it is UTF-8.
    pub fn name_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.name).ok()
    }

    fn size_bytes(&self) -> usize {
        self.name.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}

/// The headers of a message: ordered, with duplicates, binary and null values. Copied on the first write after a clone;
/// no headers cost no allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Option<Arc<Vec<Header>>>);

impl Headers {
    /// In the order of the message.
    pub fn iter(&self) -> std::slice::Iter<'_, Header> {
        self.as_slice().iter()
    }

    /// All of them.
    pub fn as_slice(&self) -> &[Header] {
        self.0.as_ref().map_or(&[], |headers| headers.as_slice())
    }

    /// How many there are, duplicates counted.
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    /// The last header of this name: what Kafka's own clients call `lastHeader`.
    pub fn last(&self, name: &[u8]) -> Option<&Header> {
        self.iter().rev().find(|header| header.name == name)
    }

    /// Appends a header, also where the name exists.
    pub fn append(&mut self, header: Header) {
        self.make_mut().push(header);
    }

    /// Replaces every header of this name by one at the place of the first, or appends it.
    pub fn set(&mut self, header: Header) {
        let headers = self.make_mut();
        let Some(first) = headers.iter().position(|other| other.name == header.name) else {
            headers.push(header);
            return;
        };
        let name = header.name.clone();
        let mut index = 0;
        headers.retain(|other| {
            let keep = other.name != name || index == first;
            index += 1;
            keep
        });
        if let Some(slot) = headers.get_mut(first) {
            *slot = header;
        }
    }

    /// Removes every header of this name and returns how many there were.
    pub fn remove(&mut self, name: &[u8]) -> usize {
        if self.last(name).is_none() {
            return 0;
        }
        let headers = self.make_mut();
        let before = headers.len();
        headers.retain(|header| header.name != name);
        before - headers.len()
    }

    fn make_mut(&mut self) -> &mut Vec<Header> {
        Arc::make_mut(self.0.get_or_insert_default())
    }
}

impl FromIterator<Header> for Headers {
    fn from_iter<T: IntoIterator<Item = Header>>(headers: T) -> Self {
        let headers: Vec<Header> = headers.into_iter().collect();
        Self(if headers.is_empty() { None } else { Some(Arc::new(headers)) })
    }
}

impl<'a> IntoIterator for &'a Headers {
    type Item = &'a Header;
    type IntoIter = std::slice::Iter<'a, Header>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(headers: &Headers) -> Vec<&str> {
        headers.iter().filter_map(Header::name_str).collect()
    }

    #[test]
    fn setting_a_header_replaces_all_of_its_name_at_the_place_of_the_first() {
        let mut headers: Headers =
            ["a", "b", "a", "c"].into_iter().map(|name| Header::new(name, Some("old"))).collect();
        headers.set(Header::new("a", Some("new")));
        assert_eq!(names(&headers), ["a", "b", "c"]);
        assert_eq!(headers.last(b"a").and_then(|header| header.value.as_deref()), Some(&b"new"[..]));
    }

    #[test]
    fn a_clone_is_not_touched_by_a_write_to_the_other() {
        let one: Headers = [Header::new("a", None::<Bytes>)].into_iter().collect();
        let mut other = one.clone();
        other.append(Header::new("a", Some("")));
        assert_eq!((one.len(), other.len()), (1, 2));
        assert_ne!(one.last(b"a"), other.last(b"a"), "null is not empty");
        assert_eq!(other.remove(b"a"), 2);
        assert_eq!(one.len(), 1);
    }
}
