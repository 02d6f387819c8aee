use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use portcullis_connector_api::{Message, Refusal, RefusalKind, Template, TemplateError};

/// Names the subject of one message, or says why there is none.
pub type SubjectOf = dyn for<'a> Fn(&'a Message) -> Result<Cow<'a, str>, Refusal> + Send + Sync;

/// Which subject a message goes to.
#[derive(Clone)]
pub enum SubjectRule {
    /// Always this one.
    Fixed(String),
    /// What the function says. A subject that cannot be written concerns the message alone, which is refused.
    Each(Arc<SubjectOf>),
}

impl SubjectRule {
    /// A template of the contract's kind. What `{{key}}` and `{{header.NAME}}` bring is one token or a part of one: whoever
    /// produced the message chose it, and with a `.` in it would choose among more subjects than the operator has written.
    ///
    /// # Errors
    /// As [`Template::parse`] and [`Template::forbid`], and for a fixed text that is no subject.
    pub fn template(text: &str, allow: &[String], forbidden: &[String]) -> Result<Self, TemplateError> {
        let template = Template::parse(text, allow)?.forbid(forbidden)?;
        if let Some(subject) = template.fixed() {
            legal(subject).map_err(|what| TemplateError::Name { what: what.to_owned() })?;
            return Ok(Self::Fixed(subject.to_owned()));
        }
        let chosen = chosen_by_producers(text);
        Ok(Self::Each(Arc::new(move |message| {
            for place in &chosen {
                if place.value(message).is_some_and(|value| value.iter().any(|byte| splits(*byte))) {
                    let detail = format!("`{}` has a `.`, `*`, `>` or white space in it", place.0);
                    return Err(Refusal { kind: RefusalKind::Rejected, detail });
                }
            }
            template.render(message).map(|name| Cow::Owned(name.into_owned()))
        })))
    }

    /// The subject of this message.
    ///
    /// # Errors
    /// Why it has none that could be written to.
    pub fn of<'a>(&'a self, message: &'a Message) -> Result<Cow<'a, str>, Refusal> {
        match self {
            Self::Fixed(subject) => Ok(Cow::Borrowed(subject)),
            Self::Each(subject_of) => {
                let subject = subject_of(message)?;
                match legal(&subject) {
                    Ok(()) => Ok(subject),
                    Err(what) => Err(Refusal {
                        kind: RefusalKind::Rejected,
                        detail: format!("the message's subject is not legal: {what}"),
                    }),
                }
            }
        }
    }

    /// The subject, where it is the same for every message.
    pub fn fixed(&self) -> Option<&str> {
        match self {
            Self::Fixed(subject) => Some(subject),
            Self::Each(_) => None,
        }
    }
}

impl fmt::Debug for SubjectRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(subject) => f.debug_tuple("Fixed").field(subject).finish(),
            Self::Each(_) => f.write_str("Each"),
        }
    }
}

/// A placeholder whose value a message's producer chooses.
struct Place(String);

impl Place {
    fn value<'a>(&self, message: &'a Message) -> Option<&'a [u8]> {
        match self.0.strip_prefix("header.") {
            Some(name) => message.headers.last(name.as_bytes())?.value.as_deref(),
            None => message.key.as_deref(),
        }
    }
}

fn chosen_by_producers(template: &str) -> Vec<Place> {
    let inside = template.split("{{").skip(1).filter_map(|part| part.split_once("}}"));
    let names = inside.map(|(name, _)| name.trim()).filter(|name| *name != "channel");
    names.map(|name| Place(name.to_owned())).collect()
}

fn splits(byte: u8) -> bool {
    matches!(byte, b'.' | b'*' | b'>') || byte.is_ascii_whitespace()
}

/// What can be published to: tokens between dots, none of them empty or with a wildcard.
pub(crate) fn legal(subject: &str) -> Result<(), &'static str> {
    if subject.starts_with('$') || subject.starts_with("_INBOX.") {
        return Err("it begins with `$` or `_INBOX.`, which is the server's own");
    }
    if subject.contains(['*', '>']) {
        return Err("it has a `*` or `>` in it");
    }
    pattern(subject)
}

/// What can be subscribed to.
pub(crate) fn pattern(subject: &str) -> Result<(), &'static str> {
    if subject.split('.').any(str::is_empty) {
        return Err("it is empty or has an empty token");
    }
    if subject.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("it has white space or a control character in it");
    }
    Ok(())
}

/// What can name a stream, consumer or queue group; it becomes one token of the server's own subjects.
pub(crate) fn name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("it is empty");
    }
    if name.len() > 255 {
        return Err("it is longer than 255 bytes");
    }
    if name.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, '.' | '*' | '>' | '/' | '\\')) {
        return Err("it has white space, `.`, `*`, `>`, `/` or `\\` in it");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use portcullis_connector_api::Header;

    use super::*;

    fn keyed(key: &str) -> Message {
        Message { key: Some(key.to_owned().into()), ..Message::new("orders.eu") }
    }

    fn rule(text: &str, allow: &[&str]) -> SubjectRule {
        SubjectRule::template(text, &allow.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>(), &[]).unwrap()
    }

    #[test]
    fn a_value_that_would_choose_among_more_subjects_is_refused() {
        let rule = rule("orders.{{key}}", &["orders.*", "orders.*.*"]);
        assert_eq!(rule.of(&keyed("a")).unwrap(), "orders.a");
        for key in ["a.b", "*", ">", "a b", "a\tb", ".", "a.", ""] {
            assert_eq!(rule.of(&keyed(key)).unwrap_err().kind, RefusalKind::Rejected, "{key:?}");
        }
    }

    #[test]
    fn the_same_holds_for_headers_and_a_channel_keeps_its_tokens() {
        let by_header = rule("o.{{ header.region }}", &["o.*", "o.*.*"]);
        let mut message = keyed("k");
        message.headers.append(Header::new("region", Some("eu.vip")));
        by_header.of(&message).unwrap_err();
        message.headers.append(Header::new("region", Some("eu")));
        assert_eq!(by_header.of(&message).unwrap(), "o.eu");
        assert_eq!(rule("copy.{{channel}}", &["copy.orders.*"]).of(&message).unwrap(), "copy.orders.eu");
    }

    #[test]
    fn a_fixed_subject_is_judged_when_it_is_read() {
        for text in ["a..b", ".a", "a."] {
            assert!(SubjectRule::template(text, &[], &[]).is_err(), "{text:?}");
        }
        assert_eq!(rule("a.b", &[]).fixed(), Some("a.b"));
    }

    #[test]
    fn the_servers_own_subjects_are_no_destination() {
        for subject in ["$JS.API.STREAM.DELETE.S", "_INBOX.x", "a.>", "a b", "a..b", ""] {
            assert!(legal(subject).is_err(), "{subject:?}");
        }
        legal("orders.\u{e9}.1").unwrap();
        name("ORDERS").unwrap();
        for text in ["", "a.b", "a b", "a*", "a/b"] {
            assert!(name(text).is_err(), "{text:?}");
        }
    }
}
