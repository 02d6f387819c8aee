//! Reads and replaces single fields of a JSON text. Only the objects on the way to a field are written anew; everything else is
//! carried over as it was written.

use std::borrow::Cow;
use std::fmt;

use portcullis_plugin::{Message, Verdict};
use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::config::Json;
use crate::source;

/// The whole value as checked JSON text.
pub(crate) fn parse(bytes: &[u8]) -> Result<&RawValue, Verdict> {
    // Only the place: the error's own text can quote what it found.
    serde_json::from_slice(bytes)
        .map_err(|error| Verdict::reject("not_json", format!("line {} column {}", error.line(), error.column())))
}

/// The text after every rule; none where there is no rule.
pub(crate) fn edit(message: &Message, value: &RawValue, rules: &Json) -> Result<Option<String>, Verdict> {
    let mut edited: Option<String> = None;
    for (pointer, new) in &rules.set {
        edited = Some(set(edited.as_deref().unwrap_or(value.get()), pointer.tokens(), new.get())?);
    }
    for (pointer, source) in &rules.copy {
        if let Some(found) = source::read(source, message, Some(value))? {
            let new = found.into_json()?;
            edited = Some(set(edited.as_deref().unwrap_or(value.get()), pointer.tokens(), &new)?);
        }
    }
    Ok(edited)
}

/// The field at the end of the tokens; none where there is none.
pub(crate) fn get<'a>(value: &'a RawValue, tokens: &[String]) -> Result<Option<&'a RawValue>, Verdict> {
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
    found.map_or(Ok(None), |field| get(field, rest))
}

/// A JSON string.
pub(crate) fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The text with `new` at the end of the tokens. Objects that are missing are made; an item of an array is replaced, or appended with
/// the token `-`.
fn set(text: &str, tokens: &[String], new: &str) -> Result<String, Verdict> {
    let Some((token, rest)) = tokens.split_first() else {
        return Ok(new.to_owned());
    };
    match kind(text) {
        Kind::Object => {
            let members = members(text)?;
            let place = members.iter().position(|(name, _)| name == token);
            let old = members.iter().rev().find(|(name, _)| name == token).map_or("{}", |(_, field)| field.get());
            let field = set(old, rest, new)?;
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
            let item = set(items.get(index).map_or("{}", |item| item.get()), rest, new)?;
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
