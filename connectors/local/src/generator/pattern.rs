use thiserror::Error;

use super::random::Random;

/// Text with placeholders: `{{seq}}` is the number of the message from 0, `{{random}}` a number of 64 bits, `{{random:N}}`
/// one from 0 to below N, `{{uuid}}` a random UUID.
#[derive(Clone, Debug)]
pub struct Pattern(Vec<Part>);

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Sequence,
    Random(Option<u64>),
    Uuid,
}

/// Why a text is not a pattern.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PatternError {
    /// Text where a placeholder begins and does not end.
    #[error("the placeholder that begins at column {column} is not closed by `}}}}`")]
    Unclosed {
        /// In characters, from 1.
        column: usize,
    },
    /// A placeholder that does not exist.
    #[error(
        "unknown placeholder `{found}` at column {column}; allowed are `seq`, `random`, `random:N` with N above 0, `uuid`"
    )]
    UnknownPlaceholder {
        /// What stands between the braces.
        found: String,
        /// In characters, from 1.
        column: usize,
    },
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// With the place of the placeholder.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            parts.push(Part::Text(before.to_owned()));
            let column = text.chars().count() - after.chars().count() - 1;
            let (inside, next) = after.split_once("}}").ok_or(PatternError::Unclosed { column })?;
            let bound = |text: &str| text.parse().ok().filter(|bound| *bound > 0);
            parts.push(match (inside.trim(), inside.trim().strip_prefix("random:").map(bound)) {
                ("seq", _) => Part::Sequence,
                ("random", _) => Part::Random(None),
                ("uuid", _) => Part::Uuid,
                (_, Some(Some(bound))) => Part::Random(Some(bound)),
                (found, _) => return Err(PatternError::UnknownPlaceholder { found: found.to_owned(), column }),
            });
            rest = next;
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Self(parts))
    }

    pub(super) fn fill(&self, number: u64, random: &mut Random) -> String {
        let mut filled = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Sequence => filled.push_str(&number.to_string()),
                Part::Random(None) => filled.push_str(&random.next().to_string()),
                Part::Random(Some(bound)) => filled.push_str(&random.below(*bound).to_string()),
                Part::Uuid => filled.push_str(&uuid(random.next(), random.next())),
            }
        }
        filled
    }
}

/// Version 4, variant 1 of RFC 9562, from these bits.
fn uuid(high: u64, low: u64) -> String {
    let (high, low) = (high & !0xf000 | 0x4000, low & !(0b11 << 62) | (0b10 << 62));
    let (a, b, c) = (high >> 32, high >> 16 & 0xffff, high & 0xffff);
    format!("{a:08x}-{b:04x}-{c:04x}-{:04x}-{:012x}", low >> 48, low & 0xffff_ffff_ffff)
}
