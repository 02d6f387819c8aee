//! The configuration, and what it is made into once, when the plugin is configured.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::path::{MAX_PATHS, Path};
use crate::pseudonym::Replacement;
use crate::rules::{Action, Rules};

/// HMAC-SHA256 is as strong as its key, up to the length of its hash.
const MIN_KEY_BYTES: usize = 32;
const DEFAULT_MASK: &str = "***";

/// As it is typed.
#[derive(Deserialize)]
pub(crate) struct Typed {
    #[serde(default)]
    json: Lists,
    #[serde(default)]
    headers: Lists,
    #[serde(default)]
    message_key: KeyRule,
    mask_with: Option<String>,
    hash_key: Option<Secret>,
    #[serde(default)]
    on_unparsable: Disposition,
    #[serde(default)]
    on_mismatch: Disposition,
}

/// Without `keep` everything is kept that no other list names; with an empty one nothing is.
#[derive(Deserialize, Default)]
struct Lists {
    keep: Option<Vec<String>>,
    #[serde(default)]
    remove: Vec<String>,
    #[serde(default)]
    mask: Vec<String>,
    #[serde(default)]
    hash: Vec<String>,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum KeyRule {
    #[default]
    Keep,
    Remove,
    Mask,
    Hash,
}

/// What becomes of a value that cannot be redacted.
#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Disposition {
    #[default]
    Reject,
    Pass,
    DropValue,
}

/// A text whose value no error quotes.
struct Secret(String);

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Asked for a text, serde would quote a number in its error; and a key of digits alone is a number in YAML.
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self(text)),
            _ => Err(serde::de::Error::custom("hash_key is not a text; digits need quotes")),
        }
    }
}

/// The rules for headers, by exact names.
#[derive(Default)]
pub(crate) struct Headers {
    pub(crate) keep: Option<Vec<String>>,
    pub(crate) actions: Vec<(String, Action)>,
}

/// As it is used.
pub(crate) struct Config {
    pub(crate) json: Rules,
    pub(crate) headers: Headers,
    pub(crate) message_key: Option<Action>,
    pub(crate) replacement: Replacement,
    pub(crate) on_unparsable: Disposition,
    pub(crate) on_mismatch: Disposition,
}

impl Config {
    pub(crate) fn resolve(typed: Typed) -> Result<Self, String> {
        let message_key = match typed.message_key {
            KeyRule::Keep => None,
            KeyRule::Remove => Some(Action::Remove),
            KeyRule::Mask => Some(Action::Mask),
            KeyRule::Hash => Some(Action::Hash),
        };
        let hashes =
            !typed.json.hash.is_empty() || !typed.headers.hash.is_empty() || matches!(message_key, Some(Action::Hash));
        let key = match &typed.hash_key {
            Some(Secret(key)) if key.len() < MIN_KEY_BYTES => {
                return Err(format!("config.hash_key: {} bytes, at least {MIN_KEY_BYTES} are needed", key.len()));
            }
            None if hashes => return Err("config.hash_key: missing, and something is to be hashed".to_owned()),
            key => key.as_ref().map(|Secret(key)| key.as_bytes()),
        };
        let replacement = Replacement::new(typed.mask_with.as_deref().unwrap_or(DEFAULT_MASK), key);
        let (json, headers) = (typed.json.paths()?, typed.headers.names()?);
        if json.is_empty() && headers.is_empty() && message_key.is_none() {
            return Err("config: names nothing to redact".to_owned());
        }
        let (on_unparsable, on_mismatch) = (typed.on_unparsable, typed.on_mismatch);
        Ok(Self { json, headers, message_key, replacement, on_unparsable, on_mismatch })
    }
}

impl Lists {
    fn actions(&self) -> impl Iterator<Item = (&'static str, Action, &String)> {
        let remove = self.remove.iter().map(|text| ("remove", Action::Remove, text));
        let mask = self.mask.iter().map(|text| ("mask", Action::Mask, text));
        remove.chain(mask).chain(self.hash.iter().map(|text| ("hash", Action::Hash, text)))
    }

    fn paths(&self) -> Result<Rules, String> {
        let parse =
            |list: &str, text: &str| Path::parse(text).map_err(|error| format!("config.json.{list}: `{text}` {error}"));
        let mut actions = Vec::new();
        for (list, action, text) in self.actions() {
            actions.push((action, parse(list, text)?));
        }
        let keep = match &self.keep {
            Some(texts) => Some(texts.iter().map(|text| parse("keep", text)).collect::<Result<Vec<_>, _>>()?),
            None => None,
        };
        if actions.len().saturating_add(keep.as_ref().map_or(0, Vec::len)) > MAX_PATHS {
            return Err(format!("config.json: more than {MAX_PATHS} paths"));
        }
        if let Some(path) = keep.iter().flatten().find(|path| path.has_any_depth()) {
            return Err(format!(
                "config.json.keep: `{path}` has `**`, which would keep the names of everything on the way"
            ));
        }
        if let Some(keep) = &keep {
            for (_, path) in &actions {
                if !keep.iter().any(|kept| kept.may_meet(path)) {
                    return Err(format!(
                        "config.json: `{path}` is not among what `keep` names, so it is removed already"
                    ));
                }
            }
        }
        Ok(Rules::new(actions, keep))
    }

    fn names(self) -> Result<Headers, String> {
        let mut actions: Vec<(String, Action)> = Vec::new();
        for (list, action, name) in self.actions() {
            if actions.iter().any(|(other, _)| other == name) {
                return Err(format!("config.headers.{list}: `{name}` is named twice"));
            }
            if self.keep.as_ref().is_some_and(|keep| !keep.contains(name)) {
                return Err(format!(
                    "config.headers.{list}: `{name}` is not among what `keep` names, so it is removed already"
                ));
            }
            actions.push((name.clone(), action));
        }
        Ok(Headers { keep: self.keep, actions })
    }
}

impl Headers {
    pub(crate) fn is_empty(&self) -> bool {
        self.keep.is_none() && self.actions.is_empty()
    }
}
