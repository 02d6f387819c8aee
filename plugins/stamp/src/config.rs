//! The configuration. A pointer or a source that makes no sense is refused when the plugin is configured, not at a message.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize, Default)]
pub(crate) struct Config {
    #[serde(default)]
    pub(crate) headers: Headers,
    #[serde(default)]
    pub(crate) json: Json,
}

#[derive(Deserialize, Default)]
pub(crate) struct Headers {
    #[serde(default)]
    pub(crate) remove: Vec<String>,
    #[serde(default)]
    pub(crate) set: BTreeMap<String, Option<String>>,
    #[serde(default)]
    pub(crate) append: Vec<Appended>,
    #[serde(default)]
    pub(crate) copy: BTreeMap<String, Source>,
}

#[derive(Deserialize)]
pub(crate) struct Appended {
    pub(crate) name: String,
    pub(crate) value: Option<String>,
}

#[derive(Deserialize, Default)]
pub(crate) struct Json {
    #[serde(default)]
    pub(crate) set: BTreeMap<Pointer, Box<RawValue>>,
    #[serde(default)]
    pub(crate) copy: BTreeMap<Pointer, Source>,
}

/// Where a copied value comes from.
#[derive(Deserialize, Debug, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Source {
    Header(String),
    Json(Pointer),
    Key,
    Channel,
    Timestamp,
}

/// A JSON Pointer (RFC 6901), taken apart.
#[derive(Deserialize, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(try_from = "String")]
pub(crate) struct Pointer(Vec<String>);

impl Config {
    /// Whether a rule needs the value as JSON.
    pub(crate) fn reads_json(&self) -> bool {
        let copies_json = self.headers.copy.values().any(|source| matches!(source, Source::Json(_)));
        copies_json || !self.json.set.is_empty() || !self.json.copy.is_empty()
    }
}

impl Pointer {
    pub(crate) fn tokens(&self) -> &[String] {
        &self.0
    }
}

impl TryFrom<String> for Pointer {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let Some(tokens) = text.strip_prefix('/') else {
            return Err(format!("`{text}` is not a JSON pointer, which begins with `/`"));
        };
        tokens.split('/').map(unescape).collect::<Option<_>>().map(Self).ok_or_else(|| {
            format!("`{text}` is not a JSON pointer: `~` is written `~0` and stands before nothing else but `1`, which means `/`")
        })
    }
}

fn unescape(token: &str) -> Option<String> {
    let mut text = String::with_capacity(token.len());
    let mut characters = token.chars();
    while let Some(character) = characters.next() {
        text.push(match character {
            '~' => match characters.next()? {
                '0' => '~',
                '1' => '/',
                _ => return None,
            },
            other => other,
        });
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_is_taken_apart_as_rfc_6901_says() {
        let pointer = Pointer::try_from("/a~1b/~0/".to_owned()).unwrap();
        assert_eq!(pointer.tokens(), ["a/b", "~", ""]);
        assert!(Pointer::try_from("id".to_owned()).is_err());
        assert!(Pointer::try_from("/a~2".to_owned()).is_err());
    }

    #[test]
    fn a_source_is_a_word_or_a_word_with_a_name() {
        let source = |text: &str| serde_json::from_str::<Source>(text).unwrap();
        assert_eq!(source("\"key\""), Source::Key);
        assert_eq!(source(r#"{"header": "x"}"#), Source::Header("x".to_owned()));
        assert!(serde_json::from_str::<Source>("\"clock\"").is_err());
    }
}
