//! The way of every text and number into an event.

use serde_json::{Map, Value};

use crate::canonical::MAX_INTEGER;
use crate::escape::{DETAIL_BYTES, NAME_BYTES, Untrusted, tame};

/// The most that the lists and grants of one event may take.
const LISTS_BYTES: usize = 128 * 1024;
const GRANTS_DEPTH: usize = 16;
/// What an item takes beside its text: a comma or colon, or a number's digits.
const ITEM_BYTES: usize = 20;

/// Tames everything that enters an event and remembers whether something was cut.
#[derive(Default)]
pub(crate) struct Text {
    pub(crate) truncated: bool,
    /// Bytes of lists and grants so far.
    used_bytes: usize,
}

impl Text {
    pub(crate) fn name(&mut self, text: &str) -> Value {
        self.tame(text, NAME_BYTES)
    }

    pub(crate) fn untrusted(&mut self, text: &Untrusted) -> Value {
        let tamed = text.tamed();
        self.truncated |= tamed.truncated;
        Value::String(tamed.text.into_owned())
    }

    pub(crate) fn list(&mut self, names: &[String]) -> Value {
        names.iter().map_while(|name| self.item(name, NAME_BYTES)).collect()
    }

    /// What an operator typed: text is tamed, and a number that has no exact form becomes its text.
    pub(crate) fn value(&mut self, value: &Value, depth: usize) -> Value {
        if depth > GRANTS_DEPTH || !self.room_for(1) {
            self.truncated = true;
            return Value::Null;
        }
        match value {
            Value::Null | Value::Bool(_) => value.clone(),
            Value::Number(number) => match number.as_i64() {
                Some(small) if small.unsigned_abs() <= MAX_INTEGER => value.clone(),
                _ => Value::String(number.to_string()),
            },
            Value::String(text) => self.item(text, DETAIL_BYTES).unwrap_or_default(),
            Value::Array(items) => {
                let mut tamed = Vec::new();
                for item in items {
                    // Here and not in the item: a cut list ends, it does not go on with nulls.
                    if self.used_bytes + ITEM_BYTES >= LISTS_BYTES {
                        self.truncated = true;
                        break;
                    }
                    tamed.push(self.value(item, depth + 1));
                }
                Value::Array(tamed)
            }
            Value::Object(members) => {
                let mut tamed = Map::new();
                for (name, value) in members {
                    let Some(Value::String(name)) = self.item(name, NAME_BYTES) else {
                        break;
                    };
                    let value = self.value(value, depth + 1);
                    tamed.insert(name, value);
                }
                Value::Object(tamed)
            }
        }
    }

    /// A text of a list, while there is room for it as JSON.
    fn item(&mut self, text: &str, max_bytes: usize) -> Option<Value> {
        let item = self.tame(text, max_bytes);
        let written = item.as_str().unwrap_or_default();
        let escapes = written.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count();
        self.room_for(written.len() + escapes + 2).then_some(item)
    }

    fn room_for(&mut self, bytes: usize) -> bool {
        let used = self.used_bytes.saturating_add(bytes).saturating_add(ITEM_BYTES);
        if used > LISTS_BYTES {
            self.truncated = true;
            return false;
        }
        self.used_bytes = used;
        true
    }

    fn tame(&mut self, text: &str, max_bytes: usize) -> Value {
        let tamed = tame(text, max_bytes);
        self.truncated |= tamed.truncated;
        Value::String(tamed.text.into_owned())
    }
}

/// Capped at what a JSON reader keeps exact: a limit past it means no limit.
pub(crate) fn integer(number: u64) -> Value {
    Value::from(number.min(MAX_INTEGER))
}

pub(crate) fn object<const N: usize>(members: [(&str, Value); N]) -> Map<String, Value> {
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

pub(crate) fn put(members: &mut Map<String, Value>, name: &str, value: impl Into<Value>) {
    members.insert(name.to_owned(), value.into());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_an_operator_typed_keeps_its_form_and_loses_what_has_no_exact_one() {
        let mut text = Text::default();
        let typed =
            json!({"egress": [{"allow": "https://a.example:443"}], "share": 0.5, "large": 1_u64 << 60, "on": true});
        let expected = json!({"egress": [{"allow": "https://a.example:443"}], "share": "0.5", "large": "1152921504606846976", "on": true});
        assert_eq!(text.value(&typed, 0), expected);
        assert!(!text.truncated);
    }

    #[test]
    fn lists_and_grants_without_end_are_cut_and_say_so() {
        let deep = (0..100).fold(json!(1), |inner, _| json!([inner]));
        let wide = json!(vec!["\"".repeat(4000); 1000]);
        let many = json!(vec![0; 1_000_000]);
        for value in [deep, wide, many] {
            let mut text = Text::default();
            let cut = text.value(&value, 0);
            assert!(text.truncated);
            assert!(canonical_bytes(&cut) <= LISTS_BYTES);
        }
        let mut text = Text::default();
        let list = text.list(&vec!["\u{1}".repeat(500); 10_000]);
        assert!(text.truncated && canonical_bytes(&list) <= LISTS_BYTES);
    }

    fn canonical_bytes(value: &Value) -> usize {
        crate::canonical(value).unwrap().len()
    }
}
