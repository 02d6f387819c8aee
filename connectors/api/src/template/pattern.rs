use super::{TemplateError, characters};

/// A name with `*` for one or more characters of one dot-separated token.
#[derive(Clone, Debug)]
pub(super) struct Pattern(String);

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, TemplateError> {
        let illegal = |what: &str| TemplateError::Pattern { pattern: text.to_owned(), what: what.to_owned() };
        if text.is_empty() {
            return Err(illegal("it is empty"));
        }
        if text.contains("**") {
            return Err(illegal("`*` stands beside `*`; one `*` is one token or a part of one"));
        }
        characters(&text.replace('*', "")).map_err(|what| illegal(&format!("{what}, and `*`")))?;
        Ok(Self(text.to_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn matches(&self, name: &str) -> bool {
        let mut tokens = name.split('.');
        let all = self.0.split('.').all(|pattern| tokens.next().is_some_and(|token| token_matches(pattern, token)));
        all && tokens.next().is_none()
    }
}

/// Takes the leftmost place for each piece between two stars, which is right because a star further to the right can take
/// up whatever is left over.
fn token_matches(pattern: &str, token: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == token;
    };
    let Some(mut left) = token.strip_prefix(first) else {
        return false;
    };
    let mut pieces = rest.split('*').peekable();
    while let Some(piece) = pieces.next() {
        // A star stands for at least one character. A name is ASCII here; one that is not cannot be cut and matches nothing.
        let Some(after) = left.get(1..) else {
            return false;
        };
        if pieces.peek().is_none() {
            return after.ends_with(piece);
        }
        let Some((_, next)) = after.split_once(piece) else {
            return false;
        };
        left = next;
    }
    false
}
