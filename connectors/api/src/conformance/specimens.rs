use crate::{Bytes, Header, Headers, Message, Timestamp};

/// Messages that each connector must carry as they are: binary and empty parts, duplicate and null headers, a name that is
/// not UTF-8, an old timestamp, a long value, a tombstone.
pub fn specimens() -> Vec<Message> {
    let every_byte: Vec<u8> = (0..=u8::MAX).collect();
    let headers = [
        Header::new("trace", Some("t-1")),
        Header::new("trace", Some("t-2")),
        Header::new("null", None::<Bytes>),
        Header::new("empty", Some("")),
        Header::new("binary", Some(every_byte.clone())),
        Header::new(&[0xff, 0xfe][..], Some("a name that is not UTF-8")),
        Header::new("trace", Some("t-1")),
    ];
    let many: Headers = (0..100).map(|number| Header::new(format!("h{}", number % 7), Some("v"))).collect();
    let full = Message {
        key: Some(every_byte.clone().into()),
        value: Some(every_byte.into()),
        headers: headers.into_iter().collect(),
        timestamp: Timestamp::Created(946_684_800_000),
        channel: "conformance".into(),
    };
    let text = "{\"a\":\n\r\t\"\\u0000 \u{10ffff}\u{2028}\"}\n";
    vec![
        Message { value: Some(text.into()), timestamp: Timestamp::Created(1), ..full.clone() },
        Message { headers: many, ..full.clone() },
        Message { value: Some(vec![b'x'; 100 * 1024].into()), headers: Headers::default(), ..full.clone() },
        Message { value: None, ..full.clone() },
        full,
    ]
}

/// Each combination of null and empty key and value, and headers of both kinds.
pub(super) fn nulls() -> Vec<Message> {
    let (null, empty) = (None, Some(Bytes::new()));
    let pairs = [(&null, &null), (&null, &empty), (&empty, &null), (&empty, &empty)];
    let headers: Headers = [Header::new("null", None::<Bytes>), Header::new("empty", Some(""))].into_iter().collect();
    let message = |(key, value): (&Option<Bytes>, &Option<Bytes>)| Message {
        key: key.clone(),
        value: value.clone(),
        headers: headers.clone(),
        ..Message::new("conformance")
    };
    pairs.into_iter().map(message).collect()
}

/// So many messages that even the narrowest connector can carry: a value of printable characters and nothing else.
pub fn minimal(count: usize) -> Vec<Message> {
    (0..count).map(|number| valued(format!("message-{number:06}"))).collect()
}

pub(super) fn valued(value: String) -> Message {
    Message { value: Some(value.into()), ..Message::new("conformance") }
}

/// Values as text, for order and for what a failure says.
pub(super) fn values(messages: &[Message]) -> Vec<String> {
    let text = |message: &Message| message.value.as_deref().map(|value| String::from_utf8_lossy(value).into_owned());
    messages.iter().map(|message| text(message).unwrap_or_else(|| "null".to_owned())).collect()
}

/// The first difference in what a message carries. A timestamp that the message did not have may be added, and the channel
/// is where it was put.
pub(super) fn same(expected: &[Message], found: &[Message]) -> Result<(), String> {
    for (index, (expected, found)) in expected.iter().zip(found).enumerate() {
        let timestamps = expected.timestamp == Timestamp::Unknown || expected.timestamp == found.timestamp;
        let parts = [
            ("key", expected.key == found.key),
            ("value", expected.value == found.value),
            ("headers", expected.headers == found.headers),
            ("timestamp", timestamps),
        ];
        if let Some((part, _)) = parts.iter().find(|(_, same)| !same) {
            return Err(format!("the {part} of message {index} changed: expected {expected:?}, found {found:?}"));
        }
    }
    if expected.len() != found.len() {
        return Err(format!("expected {} messages, found {}", expected.len(), found.len()));
    }
    Ok(())
}
