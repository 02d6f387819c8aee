//! The configuration. A pointer or a source that makes no sense is refused when the plugin is configured, not at a message.

use std::collections::BTreeMap;

use json_fields::{Pointer, RawValue};
use serde::Deserialize;

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

impl Config {
    /// Whether a rule needs the value as JSON.
    pub(crate) fn reads_json(&self) -> bool {
        let copies_json = self.headers.copy.values().any(|source| matches!(source, Source::Json(_)));
        copies_json || !self.json.set.is_empty() || !self.json.copy.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_word_or_a_word_with_a_name() {
        let source = |text: &str| serde_json::from_str::<Source>(text).unwrap();
        assert_eq!(source("\"key\""), Source::Key);
        assert_eq!(source(r#"{"header": "x"}"#), Source::Header("x".to_owned()));
        assert!(serde_json::from_str::<Source>("\"clock\"").is_err());
    }
}
