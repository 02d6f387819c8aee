//! Text that a guest chose goes to logs, headers and audit events only through here.

use std::borrow::Cow;

/// Escapes what could forge a line or fool a terminal (control characters, line separators, bidirectional overrides) and
/// cuts the result to `max_bytes` at a character.
pub(crate) fn tame(text: &str, max_bytes: usize) -> Cow<'_, str> {
    if text.chars().any(is_unsafe) {
        let mut escaped = String::with_capacity(text.len().min(max_bytes));
        for character in text.chars() {
            if is_unsafe(character) {
                escaped.extend(character.escape_default());
            } else {
                escaped.push(character);
            }
            if escaped.len() > max_bytes {
                break;
            }
        }
        escaped.truncate(cut(&escaped, max_bytes).len());
        return Cow::Owned(escaped);
    }
    Cow::Borrowed(cut(text, max_bytes))
}

/// The longest beginning of `text` that is not longer than `max_bytes` and ends at a character.
pub(crate) fn cut(text: &str, max_bytes: usize) -> &str {
    let end = text.floor_char_boundary(max_bytes);
    text.get(..end).unwrap_or_default()
}

fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_forge_a_line_is_escaped() {
        assert_eq!(tame("a\nb\u{1b}[31m\u{202e}c", 100), "a\\nb\\u{1b}[31m\\u{202e}c");
        assert!(matches!(tame("größe", 100), Cow::Borrowed("größe")));
    }

    #[test]
    fn a_cut_never_splits_a_character_and_never_exceeds_the_limit() {
        assert_eq!(tame("größe", 3), "gr");
        for max_bytes in 0..40 {
            assert!(tame("\n\né\u{2028}ö\n", max_bytes).len() <= max_bytes);
        }
    }
}
