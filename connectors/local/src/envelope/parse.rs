use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use portcullis_connector_api::{Bytes, Channel, Header, Headers, Message, Timestamp};
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use super::node::Node;
use super::{EnvelopeError, Expect, Line, Outcome};

const KEYS: [&str; 8] = ["key", "key_b64", "value", "value_b64", "headers", "timestamp_ms", "channel", "expect"];
/// A name that somebody else chose goes into an error, cut to this many characters.
const SHOWN_CHARACTERS: usize = 40;

/// Reads one line (without its newline, or with). `number` is its number in the file, from 1; `channel` is the message's
/// where the line names none.
///
/// # Errors
/// With the place and what is allowed, for anything but one JSON object of the known keys.
pub fn parse(line: &[u8], number: u64, channel: &Channel) -> Result<Line, EnvelopeError> {
    let error = |column: usize, what: String| EnvelopeError { line: number, column: column.max(1), what };
    let start = line.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(line.len());
    if line.get(start) != Some(&b'{') {
        return Err(error(start + 1, "a JSON object is expected".to_owned()));
    }
    let mut reader = serde_json::Deserializer::from_slice(line);
    let parsed = reader.deserialize_map(LineVisitor(channel)).and_then(|parsed| reader.end().map(|()| parsed));
    parsed.map_err(|cause| {
        let what = cause.to_string();
        let place = format!(" at line {} column {}", cause.line(), cause.column());
        error(cause.column(), what.strip_suffix(&place).unwrap_or(&what).to_owned())
    })
}

struct LineVisitor<'a>(&'a Channel);

impl<'de> Visitor<'de> for LineVisitor<'_> {
    type Value = Line;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Line, A::Error> {
        let mut line = Line { message: Message::new(self.0.clone()), expect: None };
        let mut seen = [false; KEYS.len()];
        while let Some(name) = map.next_key::<String>()? {
            let slot = KEYS.iter().position(|key| *key == name).and_then(|index| seen.get_mut(index));
            let Some(slot) = slot else {
                return Err(A::Error::custom(unknown(&name, &KEYS)));
            };
            if std::mem::replace(slot, true) {
                return Err(A::Error::custom(format!("the key `{name}` stands twice")));
            }
            let node = map.next_value::<Node>()?;
            set(&mut line, &name, node).map_err(A::Error::custom)?;
        }
        Ok(line)
    }
}

fn set(line: &mut Line, name: &str, node: Node) -> Result<(), String> {
    let message = &mut line.message;
    match name {
        "key" => message.key = only(name, message.key.take(), text(name, node)?)?,
        "key_b64" => message.key = only(name, message.key.take(), binary(name, node)?)?,
        "value" => message.value = only(name, message.value.take(), text(name, node)?)?,
        "value_b64" => message.value = only(name, message.value.take(), binary(name, node)?)?,
        "headers" => message.headers = headers(node)?,
        "timestamp_ms" => match node {
            Node::Null => {}
            Node::Integer(ms) => message.timestamp = Timestamp::Created(ms),
            other => return Err(wrong(name, &other, "milliseconds since 1970 as an integer, or null")),
        },
        "channel" => match node {
            Node::Null => {}
            Node::Text(channel) => message.channel = channel.into(),
            other => return Err(wrong(name, &other, "a string or null")),
        },
        _ => line.expect = expect(node)?,
    }
    Ok(())
}

/// The same field may stand as text or as base64, not as both.
fn only(name: &str, before: Option<Bytes>, now: Option<Bytes>) -> Result<Option<Bytes>, String> {
    match (before, now) {
        (Some(_), Some(_)) => {
            let plain = name.trim_end_matches("_b64");
            Err(format!("`{plain}` and `{plain}_b64` exclude each other"))
        }
        (before, now) => Ok(before.or(now)),
    }
}

fn text(name: &str, node: Node) -> Result<Option<Bytes>, String> {
    match node {
        Node::Null => Ok(None),
        Node::Text(text) => Ok(Some(text.into())),
        other => Err(wrong(name, &other, "a string or null")),
    }
}

fn binary(name: &str, node: Node) -> Result<Option<Bytes>, String> {
    match node {
        Node::Null => Ok(None),
        Node::Text(text) => match STANDARD.decode(text) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(_) => Err(format!("`{name}` is not base64 of the standard alphabet with padding")),
        },
        other => Err(wrong(name, &other, "base64 in a string, or null")),
    }
}

fn headers(node: Node) -> Result<Headers, String> {
    match node {
        Node::Null => Ok(Headers::default()),
        Node::List(nodes) => nodes.into_iter().enumerate().map(|(index, node)| header(index, node)).collect(),
        other => Err(wrong("headers", &other, "a list of [name, value]")),
    }
}

fn header(index: usize, node: Node) -> Result<Header, String> {
    let place = format!("headers[{index}]");
    let pair = match node {
        Node::List(nodes) => <[Node; 2]>::try_from(nodes).map_err(|nodes| format!("a list of {}", nodes.len())),
        other => Err(other.kind().to_owned()),
    };
    let [name, value] = pair.map_err(|found| format!("`{place}` is {found}; allowed is [name, value]"))?;
    let name = part(&format!("{place}[0]"), name, "a string or {\"b64\": ...}")?;
    let value = part(&format!("{place}[1]"), value, "a string, null or {\"b64\": ...}");
    match (name, value?) {
        (Some(name), value) => Ok(Header { name, value }),
        (None, _) => Err(format!("`{place}[0]` is null; a header has a name")),
    }
}

fn part(place: &str, node: Node, allowed: &str) -> Result<Option<Bytes>, String> {
    match node {
        Node::Null => Ok(None),
        Node::Text(text) => Ok(Some(text.into())),
        Node::Object(entries) => match <[(String, Node); 1]>::try_from(entries) {
            Ok([(name, node @ Node::Text(_))]) if name == "b64" => binary(place, node),
            _ => Err(format!("`{place}` is another object than {{\"b64\": \"...\"}}; allowed is {allowed}")),
        },
        other => Err(wrong(place, &other, allowed)),
    }
}

fn expect(node: Node) -> Result<Option<Expect>, String> {
    let entries = match node {
        Node::Null => return Ok(None),
        Node::Object(entries) => entries,
        other => return Err(wrong("expect", &other, "{\"outcome\", \"reason\"}")),
    };
    let (mut outcome, mut reason) = (None, None);
    for (name, node) in entries {
        match (name.as_str(), node) {
            ("outcome", Node::Text(word)) => {
                let known = Outcome::ALL.into_iter().find(|known| known.as_str() == word);
                let allowed = Outcome::ALL.map(Outcome::as_str).join(", ");
                outcome = Some(
                    known.ok_or_else(|| format!("`expect.outcome` is `{}`; allowed are {allowed}", shown(&word)))?,
                );
            }
            ("reason", Node::Text(text)) => reason = Some(text),
            ("reason", Node::Null) => {}
            ("outcome" | "reason", other) => return Err(wrong(&format!("expect.{name}"), &other, "a string")),
            _ => return Err(unknown(&name, &["outcome", "reason"])),
        }
    }
    let outcome = outcome.ok_or("`expect` has no `outcome`")?;
    Ok(Some(Expect { outcome, reason }))
}

fn wrong(place: &str, found: &Node, allowed: &str) -> String {
    format!("`{place}` is {}; allowed is {allowed}", found.kind())
}

fn unknown(name: &str, allowed: &[&str]) -> String {
    format!("unknown key `{}`; allowed are {}", shown(name), allowed.join(", "))
}

fn shown(name: &str) -> String {
    name.chars().take(SHOWN_CHARACTERS).flat_map(char::escape_default).collect()
}
