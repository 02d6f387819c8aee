//! The rules for headers and for the key.

use portcullis_plugin::{Header, Message};

use crate::config::Headers;
use crate::pseudonym::Replacement;
use crate::rules::Action;

/// What to write instead of what the message has.
pub(crate) enum Edited<T> {
    No,
    To(T),
}

/// The headers as they are to be. Each one of a name that repeats is edited, at its place.
pub(crate) fn edited(message: &Message, rules: &Headers, replacement: &Replacement) -> Edited<Vec<Header>> {
    if rules.is_empty() {
        return Edited::No;
    }
    let old = message.headers();
    let mut changed = false;
    let mut new = Vec::with_capacity(old.len());
    for mut header in old {
        let action = rules.actions.iter().find(|(name, _)| *name == header.name).map(|(_, action)| *action);
        let is_kept = rules.keep.as_ref().is_none_or(|keep| keep.contains(&header.name));
        if !is_kept || action == Some(Action::Remove) {
            changed = true;
            continue;
        }
        if let (Some(action), Some(value)) = (action, &header.value) {
            header.value = replacement.bytes(action, value);
            changed = true;
        }
        new.push(header);
    }
    if changed { Edited::To(new) } else { Edited::No }
}

/// Setting one by its name would fold those of the same name into one, so all are written anew.
pub(crate) fn replace_all(message: &mut Message, headers: &[Header]) {
    let mut old: Vec<String> = message.headers().into_iter().map(|header| header.name).collect();
    old.sort_unstable();
    old.dedup();
    for name in &old {
        message.remove_header(name);
    }
    for header in headers {
        message.append_header(&header.name, header.value.as_deref());
    }
}

pub(crate) fn edit_key(message: &mut Message, action: Action, replacement: &Replacement) {
    if let Some(key) = message.key() {
        message.set_key(replacement.bytes(action, &key).as_deref());
    }
}
