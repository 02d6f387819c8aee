//! How a message travels through NATS, which has no key, no null, no binary header value and no order among headers of
//! different names. docs/nats.md describes the rule for other readers and writers.

use async_nats::{HeaderMap, HeaderName, HeaderValue};
use portcullis_connector_api::{Bytes, Channel, Defect, Header, Headers, Message, Timestamp};

use crate::percent;

/// The key, escaped.
const KEY: &str = "Portcullis-Key";
/// Which of `key` and `value` are null.
const NULL: &str = "Portcullis-Null";
/// `created` or `appended`, and milliseconds.
const TIMESTAMP: &str = "Portcullis-Timestamp";
/// All headers in their order, where NATS cannot hold them as they are.
const HEADERS: &str = "Portcullis-Headers";
/// Names that steer a server or a reader. A message's own headers of such a name travel in `Portcullis-Headers`.
const RESERVED: [&str; 2] = ["nats-", "portcullis-"];
/// Names under which clients show a server's own answers, such as `404 No Messages`. Several take a message with a header of
/// such a name for an answer, and give it to nobody.
const ANSWERS: [&str; 2] = ["status", "description"];
/// What has a meaning in `Portcullis-Headers`.
const SEPARATORS: &[u8] = b"=!";
/// The beginning of every id that a sink writes, by which a source knows it again.
pub(crate) const ID_BEGIN: &str = "portcullis/";

/// What becomes the key of a message that carries none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyRule {
    /// Its subject: messages of one subject stay in order.
    #[default]
    Subject,
    /// Null.
    Null,
}

/// A message in NATS's form.
#[derive(Debug)]
pub(crate) struct Carried {
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Bytes,
    /// Some header travels by the rule and not as it is.
    pub(crate) encoded: bool,
}

/// Puts a message into NATS's form. There is nothing that it cannot hold but size.
pub(crate) fn encode(message: &Message) -> Carried {
    let mut headers = HeaderMap::new();
    match &message.key {
        Some(key) => {
            let mut text = String::with_capacity(key.len());
            percent::encode_into(&mut text, key, &[]);
            put(&mut headers, KEY, &text);
        }
        None if message.value.is_none() => put(&mut headers, NULL, "key,value"),
        None => put(&mut headers, NULL, "key"),
    }
    if message.key.is_some() && message.value.is_none() {
        put(&mut headers, NULL, "value");
    }
    match message.timestamp {
        Timestamp::Unknown => {}
        Timestamp::Created(ms) => put(&mut headers, TIMESTAMP, &format!("created {ms}")),
        Timestamp::Appended(ms) => put(&mut headers, TIMESTAMP, &format!("appended {ms}")),
    }
    let encoded = encode_headers(&message.headers, &mut headers);
    Carried { headers, payload: message.value.clone().unwrap_or_default(), encoded }
}

fn encode_headers(from: &Headers, into: &mut HeaderMap) -> bool {
    let mut list = String::new();
    let mut as_they_are = from.as_slice().is_sorted_by(|one, other| one.name <= other.name);
    for header in from {
        if !list.is_empty() {
            list.push(' ');
        }
        percent::encode_into(&mut list, &header.name, SEPARATORS);
        match (&header.value, plain(header)) {
            (_, Some((name, value))) => append(into, name, value),
            (Some(value), None) => {
                as_they_are = false;
                list.push('=');
                percent::encode_into(&mut list, value, SEPARATORS);
            }
            (None, None) => {
                as_they_are = false;
                list.push('!');
            }
        }
    }
    if !as_they_are {
        put(into, HEADERS, &list);
    }
    !as_they_are
}

/// Name and value of a header that every client of NATS keeps as it is.
fn plain(header: &Header) -> Option<(&str, &str)> {
    let name = header.name_str().filter(|name| is_plain_name(name))?;
    let value = std::str::from_utf8(header.value.as_ref()?).ok()?;
    // Clients trim white space, and some end a line at more than CR and LF.
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    (value.trim() == value && !value.contains(breaks)).then_some((name, value))
}

fn is_plain_name(name: &str) -> bool {
    let reserved = |begin: &&str| name.get(..begin.len()).is_some_and(|start| start.eq_ignore_ascii_case(begin));
    let answer = |other: &&str| name.eq_ignore_ascii_case(other);
    let visible = |byte: u8| byte.is_ascii_graphic() && byte != b':';
    let steers = RESERVED.iter().any(reserved) || ANSWERS.iter().any(answer);
    !name.is_empty() && name.bytes().all(visible) && !steers
}

/// Puts a header whose name and value are known to be legal.
pub(crate) fn put(headers: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), value.parse::<HeaderValue>()) {
        headers.insert(name, value);
    }
}

fn append(headers: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), value.parse::<HeaderValue>()) {
        headers.append(name, value);
    }
}

/// What messages have from the subject under which they came. Kept from message to message, because the next one most
/// likely has the same.
#[derive(Debug)]
pub(crate) struct Origin {
    rule: KeyRule,
    channel: Channel,
    /// For a message that carries no key.
    key: Option<Bytes>,
}

impl Origin {
    pub(crate) fn new(subject: &str, rule: KeyRule) -> Self {
        let key = match rule {
            KeyRule::Subject => Some(Bytes::copy_from_slice(subject.as_bytes())),
            KeyRule::Null => None,
        };
        Self { rule, channel: Channel::from(subject), key }
    }

    /// The next message came under `subject`.
    pub(crate) fn moved_to(&mut self, subject: &str) -> &Self {
        if *self.channel != *subject {
            *self = Self::new(subject, self.rule);
        }
        self
    }
}

/// The message of what NATS delivered. `stored` is when a stream took it.
pub(crate) fn decode(
    headers: Option<&HeaderMap>,
    payload: Bytes,
    origin: &Origin,
    stored: Timestamp,
) -> (Message, Option<Defect>) {
    let channel = origin.channel.clone();
    let Some(carried) = headers.filter(|headers| !headers.is_empty()) else {
        let (key, headers) = (origin.key.clone(), Headers::default());
        return (Message { key, value: Some(payload), headers, timestamp: stored, channel }, None);
    };
    let mut reading = Reading::default();
    let nulls = reading.one(carried, NULL).unwrap_or_default();
    let is_null = |part: &str| nulls.split(',').any(|null| null == part);
    let key = match reading.one(carried, KEY) {
        Some(text) => reading.bytes(KEY, text),
        None if is_null("key") => None,
        None => origin.key.clone(),
    };
    let timestamp = match reading.one(carried, TIMESTAMP) {
        Some(text) => reading.timestamp(text).unwrap_or(stored),
        None => stored,
    };
    let value = (!is_null("value") || !payload.is_empty()).then_some(payload);
    let headers = reading.headers(carried);
    // Plugins see names as text: one that is none would be shown under another name than the one it is removed by.
    let is_text = |header: &Header| header.name_str().is_some();
    let unreadable = reading.unreadable.map(|name| format!("the header `{name}` cannot be read"));
    let detail = unreadable.or_else(|| {
        let place = headers.iter().position(|header| !is_text(header))?;
        Some(format!("the name of header {} is not UTF-8", place + 1))
    });
    let message = Message { key, value, headers, timestamp, channel };
    (message, detail.map(|detail| Defect { detail }))
}

#[derive(Default)]
struct Reading {
    /// The first header of the rule that is not by the rule. It stays among the headers, so that nothing vanishes.
    unreadable: Option<&'static str>,
}

impl Reading {
    fn one<'a>(&self, carried: &'a HeaderMap, name: &'static str) -> Option<&'a str> {
        carried.get(name).map(HeaderValue::as_str)
    }

    fn bytes(&mut self, name: &'static str, text: &str) -> Option<Bytes> {
        let bytes = percent::decode(text);
        if bytes.is_none() {
            self.unreadable = Some(name);
        }
        bytes.map(Bytes::from)
    }

    fn timestamp(&mut self, text: &str) -> Option<Timestamp> {
        let read = text.split_once(' ').and_then(|(kind, ms)| match (kind, ms.parse()) {
            ("created", Ok(ms)) => Some(Timestamp::Created(ms)),
            ("appended", Ok(ms)) => Some(Timestamp::Appended(ms)),
            _ => None,
        });
        if read.is_none() {
            self.unreadable = Some(TIMESTAMP);
        }
        read
    }

    fn headers(&mut self, carried: &HeaderMap) -> Headers {
        let own_id = carried.get("Nats-Msg-Id").is_some_and(|id| id.as_str().starts_with(ID_BEGIN));
        let mut left: Vec<(&str, std::slice::Iter<'_, HeaderValue>)> = carried
            .iter()
            .filter(|(name, _)| !self.is_ours(name.as_ref(), own_id))
            .map(|(name, values)| (name.as_ref(), values.iter()))
            .collect();
        // The order of the wire is not kept by async-nats, so it is that of the names.
        left.sort_unstable_by_key(|(name, _)| *name);
        let mut headers = Vec::new();
        if let Some(list) = self.one(carried, HEADERS) {
            match list.split(' ').filter(|entry| !entry.is_empty()).map(Entry::read).collect::<Option<Vec<_>>>() {
                Some(entries) => headers.extend(entries.into_iter().filter_map(|entry| entry.header(&mut left))),
                None => {
                    self.unreadable = Some(HEADERS);
                    headers.push(header(HEADERS, list));
                }
            }
        }
        // What somebody has added on the way, and everything of a message that was not written by the rule.
        headers
            .extend(left.into_iter().flat_map(|(name, values)| values.map(move |value| header(name, value.as_str()))));
        headers.into_iter().collect()
    }

    /// Written by the rule or by our own sink for the server, and no part of the message.
    fn is_ours(&self, name: &str, own_id: bool) -> bool {
        match name {
            KEY | NULL | TIMESTAMP => self.unreadable != Some(name),
            HEADERS => true,
            "Nats-Msg-Id" | "Nats-Expected-Stream" => own_id,
            _ => false,
        }
    }
}

fn header(name: &str, value: &str) -> Header {
    Header { name: Bytes::copy_from_slice(name.as_bytes()), value: Some(Bytes::copy_from_slice(value.as_bytes())) }
}

/// One word of `Portcullis-Headers`.
enum Entry {
    /// `NAME`: the next header of this name.
    Copied(String),
    /// `NAME=VALUE` or `NAME!`.
    Held(Header),
}

impl Entry {
    fn read(word: &str) -> Option<Self> {
        if let Some((name, value)) = word.split_once('=') {
            let value = Some(percent::decode(value)?.into());
            return Some(Self::Held(Header { name: percent::decode(name)?.into(), value }));
        }
        if let Some(name) = word.strip_suffix('!') {
            return Some(Self::Held(Header { name: percent::decode(name)?.into(), value: None }));
        }
        String::from_utf8(percent::decode(word)?).ok().map(Self::Copied)
    }

    fn header(self, left: &mut [(&str, std::slice::Iter<'_, HeaderValue>)]) -> Option<Header> {
        match self {
            Self::Held(header) => Some(header),
            Self::Copied(name) => {
                let at = left.binary_search_by_key(&name.as_str(), |(name, _)| *name).ok()?;
                let value = left.get_mut(at)?.1.next()?;
                Some(header(&name, value.as_str()))
            }
        }
    }
}

#[cfg(test)]
mod tests;
