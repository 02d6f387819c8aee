//! The rules for JSON fields.

use json_fields::{RawValue, set};
use portcullis_plugin::{Message, Verdict};

use crate::config::Json;
use crate::source;

/// The text after every rule; none where there is no rule.
pub(crate) fn edit(message: &Message, value: &RawValue, rules: &Json) -> Result<Option<String>, Verdict> {
    let mut edited: Option<String> = None;
    for (pointer, new) in &rules.set {
        edited = Some(set(edited.as_deref().unwrap_or(value.get()), pointer, new.get())?);
    }
    for (pointer, source) in &rules.copy {
        if let Some(found) = source::read(source, message, Some(value))? {
            let new = found.into_json()?;
            edited = Some(set(edited.as_deref().unwrap_or(value.get()), pointer, &new)?);
        }
    }
    Ok(edited)
}
