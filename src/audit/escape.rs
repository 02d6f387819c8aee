//! Text that somebody else chose (a guest, a broker, a file name) enters an event only through [`tame`].

use std::borrow::Cow;

/// The longest reason or status code, in bytes.
pub(crate) const CODE_BYTES: usize = 64;
/// The longest detail of a fault, in bytes.
pub(crate) const DETAIL_BYTES: usize = 1024;
/// The longest name of a thing that the operator or a broker named, in bytes.
pub(crate) const NAME_BYTES: usize = 512;

/// Text that is safe to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tamed<'a> {
    /// The text, escaped and cut.
    pub text: Cow<'a, str>,
    /// Whether something was cut off.
    pub truncated: bool,
}

/// Escapes what could forge a line, colour a terminal or reorder what a reviewer reads, and cuts the result to `max_bytes`,
/// never inside a character and never inside an escape. A backslash stays as it is, so that taming twice changes nothing.
pub fn tame(text: &str, max_bytes: usize) -> Tamed<'_> {
    // Nearly every text: all bytes are looked at, since that takes less than to stop at the first that is not plain.
    if text.len() <= max_bytes && text.bytes().fold(true, |plain, byte| plain & matches!(byte, b' '..=b'~')) {
        return Tamed { text: Cow::Borrowed(text), truncated: false };
    }
    if !text.chars().take(max_bytes).any(is_unsafe) {
        let end = text.floor_char_boundary(max_bytes);
        return Tamed { text: Cow::Borrowed(text.get(..end).unwrap_or_default()), truncated: end < text.len() };
    }
    let mut escaped = String::with_capacity(max_bytes.min(text.len().saturating_mul(2)));
    for character in text.chars() {
        let before = escaped.len();
        if is_unsafe(character) {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
        if escaped.len() > max_bytes {
            escaped.truncate(before);
            return Tamed { text: Cow::Owned(escaped), truncated: true };
        }
    }
    Tamed { text: Cow::Owned(escaped), truncated: false }
}

/// Text as it was handed in, cut at once so that a full queue stays small. Only its tamed form can be read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Untrusted {
    text: String,
    max_bytes: usize,
    cut: bool,
}

impl Untrusted {
    pub(crate) fn new(text: impl Into<String>, max_bytes: usize) -> Self {
        let mut text = text.into();
        let end = text.floor_char_boundary(max_bytes);
        let cut = end < text.len();
        if cut {
            text.truncate(end);
            text.shrink_to_fit();
        }
        Self { text, max_bytes, cut }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    pub(crate) fn tamed(&self) -> Tamed<'_> {
        let mut tamed = tame(&self.text, self.max_bytes);
        tamed.truncated |= self.cut;
        tamed
    }
}

fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            // Arabic letter mark, zero-width characters and direction marks.
            '\u{61c}' | '\u{200b}'..='\u{200f}'
            // Line and paragraph separator, bidirectional embeddings and overrides.
            | '\u{2028}'..='\u{202e}'
            // Invisible operators, bidirectional isolates, deprecated format characters.
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            // Tags: invisible text inside text.
            | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_could_forge_a_line_or_reorder_it_is_escaped() {
        let tamed = tame("a\nb\u{1b}[31m\u{202e}c\u{0}\u{7f}\u{85}", 100);
        assert_eq!(tamed.text, "a\\nb\\u{1b}[31m\\u{202e}c\\u{0}\\u{7f}\\u{85}");
        assert!(!tamed.truncated);
    }

    #[test]
    fn harmless_text_is_not_copied() {
        assert!(matches!(tame("größe \\n 日本", 100).text, Cow::Borrowed("größe \\n 日本")));
    }

    #[test]
    fn a_cut_keeps_characters_and_escapes_whole() {
        assert_eq!(tame("größe", 3), Tamed { text: "gr".into(), truncated: true });
        assert_eq!(tame("ab\u{202e}cd", 9), Tamed { text: "ab".into(), truncated: true });
        assert_eq!(tame("ab\u{202e}", 10), Tamed { text: "ab\\u{202e}".into(), truncated: false });
    }

    #[test]
    fn text_that_was_cut_on_the_way_in_says_so() {
        let text = Untrusted::new("é".repeat(100), 33);
        assert_eq!(text.tamed(), Tamed { text: "é".repeat(16).into(), truncated: true });
        assert!(!Untrusted::new("short", 33).tamed().truncated);
    }

    proptest! {
        #[test]
        fn tamed_text_is_short_safe_and_stable(text in any::<String>(), max_bytes in 0_usize..80) {
            let once = tame(&text, max_bytes);
            prop_assert!(once.text.len() <= max_bytes);
            prop_assert!(!once.text.chars().any(is_unsafe));
            let twice = tame(&once.text, max_bytes);
            prop_assert_eq!(&twice.text, &once.text);
            prop_assert!(!twice.truncated);
        }
    }
}
