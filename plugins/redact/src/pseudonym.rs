//! What stands in the place of a value.

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::rules::Action;
use crate::scan::contents;

/// The text of a mask, and the keyed hash.
pub(crate) struct Replacement {
    mask: String,
    mask_json: String,
    /// Already keyed: each hash begins with a copy.
    hmac: Option<Hmac<Sha256>>,
}

impl Replacement {
    pub(crate) fn new(mask: &str, key: Option<&[u8]>) -> Self {
        // HMAC takes a key of any length, so this is none only without one.
        let hmac = key.and_then(|key| Hmac::new_from_slice(key).ok());
        Self { mask: mask.to_owned(), mask_json: serde_json::Value::from(mask).to_string(), hmac }
    }

    /// For a JSON value: a string counts by its contents, however it is escaped.
    pub(crate) fn json(&self, action: Action, text: &str) -> String {
        match action {
            Action::Hash if text.starts_with('"') => format!("\"{}\"", self.hash(contents(text).as_bytes())),
            Action::Hash => format!("\"{}\"", self.hash(text.as_bytes())),
            Action::Mask | Action::Remove => self.mask_json.clone(),
        }
    }

    /// For the bytes of a header or a key; none where it is to become null.
    pub(crate) fn bytes(&self, action: Action, bytes: &[u8]) -> Option<Vec<u8>> {
        match action {
            Action::Hash => Some(self.hash(bytes).into_bytes()),
            Action::Mask => Some(self.mask.clone().into_bytes()),
            Action::Remove => None,
        }
    }

    fn hash(&self, bytes: &[u8]) -> String {
        // The configuration is refused where something is hashed without a key; should that ever fail, nothing slips through.
        let Some(mut hmac) = self.hmac.clone() else { return self.mask.clone() };
        hmac.update(bytes);
        hmac.finalize().into_bytes().iter().flat_map(|byte| [byte >> 4, byte & 0x0f]).filter_map(digit).collect()
    }
}

fn digit(value: u8) -> Option<char> {
    char::from_digit(u32::from(value), 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_hmac_sha256_as_rfc_4231_has_it() {
        // Its test case 1, whose key is shorter than what the configuration takes.
        let replacement = Replacement::new("", Some(&[0x0b; 20]));
        let expected = "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7";
        assert_eq!(replacement.bytes(Action::Hash, b"Hi There"), Some(expected.as_bytes().to_vec()));
        assert_eq!(replacement.json(Action::Hash, r#""Hi \u0054here""#), format!("\"{expected}\""));
    }
}
