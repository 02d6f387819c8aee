//! Reads and replaces single fields of a JSON text. Only the objects on the way to a field are written anew; everything else is
//! carried over as it was written. What goes wrong is a verdict with the code `not_json` (and the place, never the text) or
//! `not_an_object` (a pointer goes through a value that has no such field).

mod pointer;

use std::borrow::Cow;
use std::fmt;

pub use pointer::Pointer;
use portcullis_plugin::Verdict;
use serde::de::{Deserializer as _, MapAccess, Visitor};
pub use serde_json::value::RawValue;

/// The whole value as checked JSON text.
///
/// # Errors
/// `not_json`.
pub fn parse(bytes: &[u8]) -> Result<&RawValue, Verdict> {
    // Only the place: the error's own text can quote what it found.
    serde_json::from_slice(bytes)
        .map_err(|error| Verdict::reject("not_json", format!("line {} column {}", error.line(), error.column())))
}

/// The field at the end of the pointer; none where there is none.
///
/// # Errors
/// None for a value that was parsed.
pub fn get<'a>(value: &'a RawValue, pointer: &Pointer) -> Result<Option<&'a RawValue>, Verdict> {
    field(value, pointer.tokens())
}

/// The text with `new`, itself JSON, at the end of the pointer. Objects that are missing are made; an item of an array is replaced, or
/// appended with the token `-`.
///
/// # Errors
/// `not_an_object`.
pub fn set(text: &str, pointer: &Pointer, new: &str) -> Result<String, Verdict> {
    replaced(text, pointer.tokens(), new)
}

fn field<'a>(value: &'a RawValue, tokens: &[String]) -> Result<Option<&'a RawValue>, Verdict> {
    let Some((token, rest)) = tokens.split_first() else {
        return Ok(Some(value));
    };
    let found = match kind(value.get()) {
        // Of a name that repeats, the last one counts, as most parsers have it.
        Kind::Object => members(value.get())?.into_iter().rev().find(|(name, _)| name == token).map(|(_, field)| field),
        Kind::Array => {
            index(token).map(|index| items(value.get()).map(|items| items.get(index).copied())).transpose()?.flatten()
        }
        Kind::Other => None,
    };
    found.map_or(Ok(None), |inner| field(inner, rest))
}

/// What a field is as the value of a header: a string without its quotes, other JSON as it is written, null as null.
#[must_use]
pub fn header(field: &RawValue) -> Option<Vec<u8>> {
    match serde_json::from_str::<Option<Cow<'_, str>>>(field.get()) {
        Ok(text) => text.map(|text| text.into_owned().into_bytes()),
        Err(_) => Some(field.get().as_bytes().to_vec()),
    }
}

/// A JSON string.
#[must_use]
pub fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn replaced(text: &str, tokens: &[String], new: &str) -> Result<String, Verdict> {
    let Some((token, rest)) = tokens.split_first() else {
        return Ok(new.to_owned());
    };
    match kind(text) {
        Kind::Object => {
            let members = members(text)?;
            let place = members.iter().position(|(name, _)| name == token);
            let old = members.iter().rev().find(|(name, _)| name == token).map_or("{}", |(_, field)| field.get());
            let field = replaced(old, rest, new)?;
            let mut written: Vec<(&str, &str)> = Vec::with_capacity(members.len().saturating_add(1));
            for (position, (name, value)) in members.iter().enumerate() {
                if name != token {
                    written.push((name, value.get()));
                } else if Some(position) == place {
                    written.push((name, &field));
                }
            }
            if place.is_none() {
                written.push((token, &field));
            }
            let written = written.into_iter().map(|(name, value)| format!("{}:{value}", quote(name)));
            Ok(format!("{{{}}}", written.collect::<Vec<_>>().join(",")))
        }
        Kind::Array => {
            let items = items(text)?;
            let index = if token == "-" { Some(items.len()) } else { index(token) };
            let Some(index) = index.filter(|index| *index <= items.len() && (token == "-" || *index < items.len()))
            else {
                return Err(no_field());
            };
            let item = replaced(items.get(index).map_or("{}", |item| item.get()), rest, new)?;
            let mut written: Vec<&str> = items.iter().map(|item| item.get()).collect();
            written.splice(index..items.len().min(index.saturating_add(1)), [item.as_str()]);
            Ok(format!("[{}]", written.join(",")))
        }
        Kind::Other => Err(no_field()),
    }
}

enum Kind {
    Object,
    Array,
    Other,
}

fn kind(text: &str) -> Kind {
    match text.trim_ascii_start().as_bytes().first() {
        Some(b'{') => Kind::Object,
        Some(b'[') => Kind::Array,
        _ => Kind::Other,
    }
}

/// As RFC 6901 has it: no sign, no leading zero.
fn index(token: &str) -> Option<usize> {
    let is_plain = token.bytes().all(|byte| byte.is_ascii_digit()) && (token == "0" || !token.starts_with('0'));
    if is_plain { token.parse().ok() } else { None }
}

fn no_field() -> Verdict {
    Verdict::reject("not_an_object", "a field is to be set inside a value that has no such field")
}

fn broken(error: &serde_json::Error) -> Verdict {
    Verdict::reject("not_json", format!("line {} column {}", error.line(), error.column()))
}

fn items(text: &str) -> Result<Vec<&RawValue>, Verdict> {
    serde_json::from_str(text).map_err(|error| broken(&error))
}

fn members(text: &str) -> Result<Vec<(Cow<'_, str>, &RawValue)>, Verdict> {
    serde_json::Deserializer::from_str(text).deserialize_map(Members).map_err(|error| broken(&error))
}

/// The members in the order and as often as they are written, which a map would not keep.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry::<Name<'de>, _>()? {
            members.push((member.0.0, member.1));
        }
        Ok(members)
    }
}

/// Borrows where the name has no escapes.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    fn pointer(text: &str) -> Pointer {
        Pointer::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn what_is_not_touched_keeps_its_bytes() {
        let text = r#"{"b": 1.0, "a": [ 12345678901234567890.5 ]}"#;
        assert_eq!(
            set(text, &pointer("/c/d"), "2").unwrap(),
            r#"{"b":1.0,"a":[ 12345678901234567890.5 ],"c":{"d":2}}"#
        );
        let value = parse(text.as_bytes()).unwrap();
        assert_eq!(get(value, &pointer("/a/0")).unwrap().unwrap().get(), "12345678901234567890.5");
        assert!(get(value, &pointer("/a/1")).unwrap().is_none());
    }

    #[test]
    fn an_error_says_where_and_not_what() {
        let verdict = parse(b"{\"a\": secret}").unwrap_err();
        assert_eq!(verdict, Verdict::reject("not_json", "line 1 column 7"));
        assert_eq!(set("3", &pointer("/a"), "1").unwrap_err().code(), Some("not_an_object"));
    }
}
