//! JSON Pointer.

use serde::Deserialize;

/// A JSON Pointer (RFC 6901), taken apart.
#[derive(Deserialize, Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[serde(try_from = "String")]
pub struct Pointer(Vec<String>);

impl Pointer {
    /// The names and places on the way, outermost first.
    #[must_use]
    pub fn tokens(&self) -> &[String] {
        &self.0
    }
}

impl TryFrom<String> for Pointer {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let Some(tokens) = text.strip_prefix('/') else {
            return Err(format!("`{text}` is not a JSON pointer, which begins with `/`"));
        };
        tokens.split('/').map(unescape).collect::<Option<_>>().map(Self).ok_or_else(|| {
            format!("`{text}` is not a JSON pointer: `~` is written `~0` and stands before nothing else but `1`, which means `/`")
        })
    }
}

fn unescape(token: &str) -> Option<String> {
    let mut text = String::with_capacity(token.len());
    let mut characters = token.chars();
    while let Some(character) = characters.next() {
        text.push(match character {
            '~' => match characters.next()? {
                '0' => '~',
                '1' => '/',
                _ => return None,
            },
            other => other,
        });
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_is_taken_apart_as_rfc_6901_says() {
        let pointer = Pointer::try_from("/a~1b/~0/".to_owned()).unwrap();
        assert_eq!(pointer.tokens(), ["a/b", "~", ""]);
        assert!(Pointer::try_from("id".to_owned()).is_err());
        assert!(Pointer::try_from("/a~2".to_owned()).is_err());
    }
}
