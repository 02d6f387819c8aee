//! Reads what a copy rule names, from the message as it arrived.

use json_fields::RawValue;
use portcullis_plugin::{Message, Verdict};

use crate::config::Source;

/// What a source gives: bytes of a key or a header, or JSON. An absent one is `None` around it.
pub(crate) enum Found<'a> {
    Null,
    Bytes(Vec<u8>),
    Json(&'a RawValue),
}

pub(crate) fn read<'a>(
    source: &Source,
    message: &Message,
    value: Option<&'a RawValue>,
) -> Result<Option<Found<'a>>, Verdict> {
    let bytes = |bytes: Option<Vec<u8>>| bytes.map_or(Found::Null, Found::Bytes);
    Ok(match source {
        Source::Header(name) => message.header(name).map(|header| bytes(header.value)),
        Source::Json(pointer) => match value {
            Some(value) => json_fields::get(value, pointer)?.map(Found::Json),
            None => None,
        },
        Source::Key => Some(bytes(message.key())),
        Source::Channel => Some(Found::Bytes(message.channel().into_bytes())),
        Source::Timestamp => message.timestamp_ms().map(|time| Found::Bytes(time.to_string().into_bytes())),
    })
}

impl Found<'_> {
    /// As the value of a header: a JSON string without its quotes, other JSON as it is written, JSON's null as null.
    pub(crate) fn into_header(self) -> Option<Vec<u8>> {
        match self {
            Self::Null => None,
            Self::Bytes(bytes) => Some(bytes),
            Self::Json(json) => json_fields::header(json),
        }
    }

    /// As JSON text: bytes become a string.
    pub(crate) fn into_json(self) -> Result<String, Verdict> {
        match self {
            Self::Null => Ok("null".to_owned()),
            Self::Json(json) => Ok(json.get().to_owned()),
            Self::Bytes(bytes) => match String::from_utf8(bytes) {
                Ok(text) => Ok(json_fields::quote(&text)),
                Err(_) => Err(Verdict::reject("not_text", "a key or header to be copied into JSON is not UTF-8")),
            },
        }
    }
}
