use portcullis_connector_api::{Bytes, Channel, Defect, Message, Refusal, RefusalKind};

use crate::envelope;
use crate::line_reader::RawLine;

/// What a line of a file or stream is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One message in the JSON form of [`envelope`]. Blank lines are skipped.
    #[default]
    JsonLines,
    /// One value, its bytes as they are without the newline; a blank line is an empty value. There is no place for a key,
    /// headers and a timestamp: a sink leaves them out. A value that is null or contains a newline is refused.
    Lines,
}

impl Format {
    /// The message of a line, with its defect where it is none; nothing for a blank line of JSON.
    pub(crate) fn read(self, raw: &RawLine<'_>, channel: &Channel) -> Option<(Message, Option<Defect>)> {
        let value = Bytes::copy_from_slice(raw.bytes);
        let with_value = |value| Message { value: Some(value), ..Message::new(channel.clone()) };
        if let Some(length) = raw.cut_from_bytes {
            let detail = format!("line {}: {length} bytes; at most {} are allowed", raw.number, raw.bytes.len());
            return Some((with_value(value), Some(Defect { detail })));
        }
        match self {
            Self::Lines => Some((with_value(value), None)),
            Self::JsonLines if raw.bytes.iter().all(u8::is_ascii_whitespace) => None,
            Self::JsonLines => match envelope::parse(raw.bytes, raw.number, channel) {
                Ok(line) => Some((line.message, None)),
                Err(error) => Some((with_value(value), Some(Defect { detail: error.to_string() }))),
            },
        }
    }

    /// Appends the message with its newline.
    pub(crate) fn write(self, message: &Message, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let refused = |detail: &str| Refusal { kind: RefusalKind::Rejected, detail: detail.to_owned() };
        match (self, &message.value) {
            (Self::JsonLines, _) => envelope::print(message, out),
            (Self::Lines, None) => {
                return Err(refused("a null value cannot be a line; the format `jsonl` can hold it"));
            }
            (Self::Lines, Some(value)) if value.contains(&b'\n') => {
                return Err(refused("a value with a newline cannot be a line; the format `jsonl` can hold it"));
            }
            (Self::Lines, Some(value)) => out.extend_from_slice(value),
        }
        out.push(b'\n');
        Ok(())
    }
}
