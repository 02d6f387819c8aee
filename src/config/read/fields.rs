use super::Context;
use crate::yaml::{Entry, Kind, Node};
use crate::{Code, Location, nearest};

/// A map that is read key by key. The keys that are asked for are the keys that are allowed.
pub(super) struct Fields<'n> {
    entries: &'n [Entry],
    at: &'n Location,
    /// What the map is, with its article.
    what: &'static str,
    known: Vec<&'static str>,
    refused: Vec<&'static str>,
}

impl<'n> Fields<'n> {
    /// `None` when the node is no map.
    pub(super) fn of(cx: &mut Context<'_>, node: &'n Node, what: &'static str) -> Option<Self> {
        let entries = match &node.kind {
            Kind::Map(entries) => entries,
            Kind::Broken => return None,
            _ => {
                let message = format!("{what} is a map, found {}", node.describe());
                cx.say(&node.at, Code::TypeWrong, message, "write `key: value` lines, or `{ key: value }`");
                return None;
            }
        };
        Some(Self { entries, at: &node.at, what, known: Vec::new(), refused: Vec::new() })
    }

    /// Where the map begins.
    pub(super) fn at(&self) -> &'n Location {
        self.at
    }

    /// The entry of a key, whether it was asked for or not.
    pub(super) fn entry(&self, key: &str) -> Option<&'n Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// Allows keys that are not read, because something else about the map is wrong already.
    pub(super) fn allow(&mut self, keys: &[&'static str]) {
        self.known.extend(keys);
    }

    /// Reads a key that may be absent. `None` also when its value was wrong.
    pub(super) fn optional<T>(
        &mut self,
        cx: &mut Context<'_>,
        key: &'static str,
        read: impl FnOnce(&mut Context<'_>, &'n Node) -> Option<T>,
    ) -> Option<T> {
        self.known.push(key);
        let entry = self.entry(key)?;
        read(cx, &entry.value)
    }

    /// Reads a key that must be there.
    pub(super) fn required<T>(
        &mut self,
        cx: &mut Context<'_>,
        key: &'static str,
        read: impl FnOnce(&mut Context<'_>, &'n Node) -> Option<T>,
    ) -> Option<T> {
        if self.entry(key).is_none() {
            cx.say(self.at, Code::KeyMissing, format!("{} needs `{key}`", self.what), format!("add `{key}:`"));
        }
        self.optional(cx, key, read)
    }

    /// Refuses a key that is known and not to be had here.
    pub(super) fn refuse(&mut self, cx: &mut Context<'_>, key: &'static str, code: Code, message: &str, help: &str) {
        self.refused.push(key);
        if let Some(entry) = self.entry(key) {
            cx.say(&entry.key_at, code, format!("`{key}` {message}"), help);
        }
    }

    /// Refuses what nobody asked for.
    pub(super) fn finish(&self, cx: &mut Context<'_>) {
        #[cfg(test)]
        super::recorded::record(self.what, &self.known);
        for entry in self.entries {
            let key = entry.key.as_str();
            if !self.known.contains(&key) && !self.refused.contains(&key) && key != "<<" {
                let message = format!("{} has no key `{}`", self.what, key.chars().take(60).collect::<String>());
                cx.say(&entry.key_at, Code::KeyUnknown, message, nearest::help("allowed", Some(key), &self.known));
            }
        }
    }
}
