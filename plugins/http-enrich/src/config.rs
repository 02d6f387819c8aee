//! The configuration.

use std::collections::BTreeMap;

use json_fields::Pointer;
use serde::Deserialize;

use crate::template::Template;

#[derive(Deserialize)]
pub(crate) struct Config {
    pub(crate) url: Template,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// From the response into the message.
    pub(crate) take: BTreeMap<Pointer, Target>,
    #[serde(default = "one_second")]
    pub(crate) timeout_ms: u32,
    #[serde(default = "small")]
    pub(crate) max_body_bytes: usize,
    pub(crate) cache: Option<Bounds>,
    #[serde(default)]
    pub(crate) on_missing: OnMissing,
    #[serde(default)]
    pub(crate) on_error: OnError,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Target {
    Field(Pointer),
    Header { header: String },
}

#[derive(Deserialize)]
pub(crate) struct Bounds {
    #[serde(default = "a_thousand")]
    pub(crate) entries: usize,
    #[serde(default = "a_minute")]
    pub(crate) ttl_ms: u64,
}

#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnMissing {
    #[default]
    Reject,
    Pass,
}

#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnError {
    #[default]
    Retry,
    Reject,
    Pass,
}

fn one_second() -> u32 {
    1000
}

fn small() -> usize {
    64 << 10
}

fn a_thousand() -> usize {
    1000
}

fn a_minute() -> u64 {
    60_000
}

/// Beyond this the entries' own keys would be most of a plugin's memory.
const MAX_ENTRIES: usize = 100_000;

impl Config {
    /// What would make no sense at any message.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.take.is_empty() {
            return Err("config: `take` is empty: nothing would come of a request".to_owned());
        }
        if self.timeout_ms == 0 || self.max_body_bytes == 0 {
            return Err("config: `timeout_ms` and `max_body_bytes` are at least 1".to_owned());
        }
        match &self.cache {
            Some(bounds) if bounds.ttl_ms == 0 || !(1..=MAX_ENTRIES).contains(&bounds.entries) => {
                Err(format!("config: `cache` has 1 to {MAX_ENTRIES} `entries` and a `ttl_ms` of at least 1"))
            }
            _ => Ok(()),
        }
    }
}
