use std::borrow::Cow;

use thiserror::Error;

use crate::{Bytes, Message, Refusal, RefusalKind};

mod pattern;

use pattern::Pattern;

/// The longest topic name that Kafka takes.
const NAME_MAX_BYTES: usize = 249;

/// A destination's name: text, or text with `{{key}}`, `{{channel}}` and `{{header.NAME}}` (the last header of that name).
///
/// What a placeholder brings is chosen by whoever produced the message, so a template with placeholders reaches only names
/// that a pattern of `allow` matches. In a pattern `*` stands for one or more characters other than `.`: `orders.*` matches
/// `orders.eu` and neither `orders.` nor `orders.eu.vip`. There is no sign for several tokens at once.
#[derive(Clone, Debug)]
pub struct Template {
    text: String,
    parts: Parts,
    allow: Vec<Pattern>,
    forbidden: Vec<String>,
}

#[derive(Clone, Debug)]
enum Parts {
    /// The text is the name, checked once.
    Fixed,
    Rendered(Vec<Part>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Key,
    Channel,
    Header(String),
}

impl Template {
    /// Reads a template. Text without placeholders needs no `allow`; where it has one, the text must match it.
    ///
    /// # Errors
    /// For text that can never give a legal name, and for placeholders without a pattern that bounds them.
    pub fn parse(text: &str, allow: &[String]) -> Result<Self, TemplateError> {
        let parts = parts(text)?;
        let allow = allow.iter().map(|text| Pattern::parse(text)).collect::<Result<Vec<_>, _>>()?;
        let fixed = parts.iter().all(|part| matches!(part, Part::Literal(_)));
        if !fixed && allow.is_empty() {
            return Err(TemplateError::AllowMissing);
        }
        if fixed {
            legal(text).map_err(|what| TemplateError::Name { what: what.to_owned() })?;
            if !allow.is_empty() && !allow.iter().any(|pattern| pattern.matches(text)) {
                return Err(TemplateError::NotAllowed { name: text.to_owned(), allowed: list(&allow) });
            }
        }
        let parts = if fixed { Parts::Fixed } else { Parts::Rendered(parts) };
        Ok(Self { text: text.to_owned(), parts, allow, forbidden: Vec::new() })
    }

    /// Names that are never a result, whatever `allow` says: the audit topic, so that no message forges evidence, and the
    /// dead letter topic, so that no message forges a dead letter.
    ///
    /// # Errors
    /// [`TemplateError::Forbidden`] when the template has no placeholders and is one of them.
    pub fn forbid(mut self, names: &[String]) -> Result<Self, TemplateError> {
        if matches!(self.parts, Parts::Fixed) && names.contains(&self.text) {
            return Err(TemplateError::Forbidden { name: self.text });
        }
        self.forbidden.extend_from_slice(names);
        Ok(self)
    }

    /// The name, where it is the same for every message.
    pub fn fixed(&self) -> Option<&str> {
        matches!(self.parts, Parts::Fixed).then_some(self.text.as_str())
    }

    /// The name for this message. Without placeholders it is borrowed and costs nothing.
    ///
    /// # Errors
    /// A [`RefusalKind::Rejected`] that says which placeholder or rule it was and never what the message held.
    pub fn render(&self, message: &Message) -> Result<Cow<'_, str>, Refusal> {
        let parts = match &self.parts {
            Parts::Fixed => return Ok(Cow::Borrowed(&self.text)),
            Parts::Rendered(parts) => parts,
        };
        let mut name = String::with_capacity(self.text.len().min(NAME_MAX_BYTES));
        for part in parts {
            name.push_str(part.text(message)?);
            // A value of many megabytes is refused before it is copied together with the rest.
            if name.len() > NAME_MAX_BYTES {
                break;
            }
        }
        self.checked(&name).map_err(refused)?;
        Ok(Cow::Owned(name))
    }

    fn checked(&self, name: &str) -> Result<(), String> {
        let text = &self.text;
        legal(name).map_err(|what| format!("the template `{text}` gives a name that is not legal: {what}"))?;
        if self.forbidden.iter().any(|forbidden| forbidden == name) {
            return Err(format!("the template `{text}` gives the name of an audit or dead letter topic"));
        }
        if !self.allow.iter().any(|pattern| pattern.matches(name)) {
            let allowed = list(&self.allow);
            return Err(format!("the template `{text}` gives a name that is not allowed; allowed: {allowed}"));
        }
        Ok(())
    }
}

impl Part {
    fn text<'a>(&'a self, message: &'a Message) -> Result<&'a str, Refusal> {
        match self {
            Self::Literal(text) => Ok(text),
            Self::Key => required(message.key.as_ref(), || "{{key}}".to_owned()),
            Self::Channel => Ok(&message.channel),
            Self::Header(name) => {
                let value = message.headers.last(name.as_bytes()).and_then(|header| header.value.as_ref());
                required(value, || format!("{{{{header.{name}}}}}"))
            }
        }
    }
}

/// Why a text is not a template.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TemplateError {
    /// Text where a placeholder begins and does not end.
    #[error("the placeholder that begins at column {column} is not closed by `}}}}`")]
    Unclosed {
        /// In characters, from 1.
        column: usize,
    },
    /// A placeholder that does not exist.
    #[error("unknown placeholder `{found}` at column {column}; allowed are `key`, `channel` and `header.NAME`")]
    UnknownPlaceholder {
        /// What stands between the braces.
        found: String,
        /// In characters, from 1.
        column: usize,
    },
    /// Placeholders and nothing that bounds what they reach.
    #[error("a template with placeholders needs `allow`, the patterns that its result must match")]
    AllowMissing,
    /// A pattern that could not match a name.
    #[error("the pattern `{pattern}` in `allow` is not legal: {what}")]
    Pattern {
        /// As written.
        pattern: String,
        /// What is wrong.
        what: String,
    },
    /// Fixed text that is no name, or fixed parts that no name can contain.
    #[error("not a legal name: {what}")]
    Name {
        /// What is wrong.
        what: String,
    },
    /// Fixed text outside its own patterns.
    #[error("`{name}` is not in `allow`: {allowed}")]
    NotAllowed {
        /// The name.
        name: String,
        /// The patterns, separated by commas.
        allowed: String,
    },
    /// Fixed text that is the audit or dead letter topic.
    #[error("`{name}` is an audit or dead letter topic and cannot be a destination")]
    Forbidden {
        /// The name.
        name: String,
    },
}

fn parts(text: &str) -> Result<Vec<Part>, TemplateError> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((literal, after)) = rest.split_once("{{") {
        push_literal(&mut parts, literal)?;
        let column = text.chars().count() - after.chars().count() - 1;
        let (inside, next) = after.split_once("}}").ok_or(TemplateError::Unclosed { column })?;
        parts.push(match inside.trim() {
            "key" => Part::Key,
            "channel" => Part::Channel,
            other => match other.strip_prefix("header.") {
                Some(name) if !name.is_empty() => Part::Header(name.to_owned()),
                _ => return Err(TemplateError::UnknownPlaceholder { found: other.to_owned(), column }),
            },
        });
        rest = next;
    }
    push_literal(&mut parts, rest)?;
    Ok(parts)
}

fn push_literal(parts: &mut Vec<Part>, text: &str) -> Result<(), TemplateError> {
    if text.is_empty() {
        return Ok(());
    }
    characters(text).map_err(|what| TemplateError::Name { what })?;
    parts.push(Part::Literal(text.to_owned()));
    Ok(())
}

/// The rules of a Kafka topic name. They are narrower than those of a NATS subject, so both take what passes.
fn legal(name: &str) -> Result<(), &'static str> {
    match name {
        "" => Err("it is empty"),
        "." | ".." => Err("it is `.` or `..`"),
        _ if name.len() > NAME_MAX_BYTES => Err("it is longer than 249 bytes"),
        _ if !name.bytes().all(is_legal) => Err("it has a character other than letters, digits, `.`, `_` and `-`"),
        _ => Ok(()),
    }
}

fn characters(text: &str) -> Result<(), String> {
    match text.chars().find(|c| !u8::try_from(*c).is_ok_and(is_legal)) {
        None => Ok(()),
        Some(found) => Err(format!("found {found:?}; allowed are ASCII letters, digits, `.`, `_` and `-`")),
    }
}

fn is_legal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

fn required(value: Option<&Bytes>, placeholder: impl Fn() -> String) -> Result<&str, Refusal> {
    let refuse = |what: &str| refused(format!("`{}` is {what}", placeholder()));
    let value = value.ok_or_else(|| refuse("null"))?;
    if value.is_empty() {
        return Err(refuse("empty"));
    }
    std::str::from_utf8(value).map_err(|_| refuse("not UTF-8"))
}

fn refused(detail: String) -> Refusal {
    Refusal { kind: RefusalKind::Rejected, detail }
}

fn list(patterns: &[Pattern]) -> String {
    patterns.iter().map(Pattern::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
