//! The URL with fields of the message in it.

use json_fields::{Pointer, RawValue};
use portcullis_plugin::Verdict;
use serde::Deserialize;

/// The longest URL, in bytes.
const MAX_URL_BYTES: usize = 4096;

/// A URL template, checked: a field can only stand where it cannot change who is asked.
#[derive(Deserialize, Debug, PartialEq, Eq)]
#[serde(try_from = "String")]
pub(crate) struct Template(Vec<Part>);

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Segment(Pointer),
    Query(Pointer),
}

impl TryFrom<String> for Template {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let Some(rest) = rest else {
            return Err(format!("`{text}` begins with neither `https://` nor `http://`"));
        };
        let host = rest.find(['/', '?']).map_or(rest, |end| rest.get(..end).unwrap_or(rest));
        if host.is_empty() || host.contains("{{") {
            return Err(format!("the host of `{text}` is not a fixed one"));
        }
        let mut parts = Vec::new();
        let (mut rest, mut in_query) = (text.as_str(), false);
        loop {
            let (fixed, field) = match rest.split_once("{{") {
                Some((fixed, more)) => (fixed, Some(more)),
                None => (rest, None),
            };
            if fixed.contains(['#', '{', '}', '\\']) || !fixed.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(format!("`{text}` has a character that a URL does not have, or a fragment"));
            }
            in_query |= fixed.contains('?');
            parts.push(Part::Text(fixed.to_owned()));
            let Some(field) = field else { return Ok(Self(parts)) };
            let Some((pointer, more)) = field.split_once("}}") else {
                return Err(format!("`{text}` has a `{{{{` without its `}}}}`"));
            };
            let pointer = Pointer::try_from(pointer.to_owned())?;
            parts.push(if in_query { Part::Query(pointer) } else { Part::Segment(pointer) });
            rest = more;
        }
    }
}

impl Template {
    /// The URL for a message; none where a field is absent or has no text.
    pub(crate) fn expand(&self, value: &RawValue) -> Result<Option<String>, Verdict> {
        let mut url = String::new();
        for part in &self.0 {
            let (pointer, in_path) = match part {
                Part::Text(text) => {
                    url.push_str(text);
                    continue;
                }
                Part::Segment(pointer) => (pointer, true),
                Part::Query(pointer) => (pointer, false),
            };
            let Some(text) = json_fields::get(value, pointer)?.and_then(scalar) else { return Ok(None) };
            // The bridge refuses such a path in any form; here the message is told why.
            if in_path && (text.is_empty() || text.contains(['/', '\\']) || text.chars().any(char::is_control)) {
                return Err(bad_value("a field of the URL is no path segment"));
            }
            escape(&text, &mut url);
            if url.len() > MAX_URL_BYTES {
                return Err(bad_value("the URL would be too long"));
            }
        }
        // Of two fields side by side each can be one dot.
        let path = url.split('?').next().unwrap_or_default();
        if path.split('/').any(|segment| matches!(segment, "." | "..")) {
            return Err(bad_value("a field of the URL is no path segment"));
        }
        Ok(Some(url))
    }
}

fn bad_value(detail: &'static str) -> Verdict {
    Verdict::reject("bad_value", detail)
}

/// The text of a string, a number or a boolean.
fn scalar(field: &RawValue) -> Option<String> {
    match field.get().as_bytes().first() {
        Some(b'"') => json_fields::header(field).and_then(|bytes| String::from_utf8(bytes).ok()),
        Some(b'{' | b'[' | b'n') | None => None,
        Some(_) => Some(field.get().to_owned()),
    }
}

/// Percent-encodes everything but the unreserved characters of RFC 3986.
fn escape(text: &str, url: &mut String) {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or('0');
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            url.push(char::from(byte));
        } else {
            url.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(template: &str, value: &str) -> Result<Option<String>, Verdict> {
        Template::try_from(template.to_owned()).unwrap().expand(json_fields::parse(value.as_bytes()).unwrap())
    }

    #[test]
    fn a_field_becomes_one_segment_or_one_query_value() {
        let url =
            expand("https://a.test/v1/{{/c}}/x?d={{/d}}&n={{/n}}", r#"{"c": "€ R", "d": "a/b&c=d#e", "n": 1.50}"#);
        assert_eq!(url.unwrap().unwrap(), "https://a.test/v1/%E2%82%AC%20R/x?d=a%2Fb%26c%3Dd%23e&n=1.50");
    }

    #[test]
    fn a_field_cannot_leave_its_segment() {
        for value in ["..", ".", "", "a/b", "a\\\\b", "a\\u0000"] {
            let verdict = expand("https://a.test/v1/{{/c}}", &format!(r#"{{"c": "{value}"}}"#)).unwrap_err();
            assert_eq!(verdict.code(), Some("bad_value"), "{value}");
        }
        assert!(expand("https://a.test/v1/{{/c}}{{/c}}", r#"{"c": "."}"#).is_err());
        assert!(expand("https://a.test/v1/{{/c}}", &format!(r#"{{"c": "{}"}}"#, "x".repeat(5000))).is_err());
    }

    #[test]
    fn a_field_without_text_is_absent() {
        for value in ["{}", r#"{"c": null}"#, r#"{"c": ["x"]}"#, r#"{"c": {}}"#, "3"] {
            assert_eq!(expand("https://a.test/{{/c}}", value), Ok(None), "{value}");
        }
    }

    #[test]
    fn a_template_that_could_ask_someone_else_is_refused() {
        for template in [
            "https://{{/host}}/x",
            "https://a.test{{/host}}",
            "{{/url}}",
            "ftp://a.test/x",
            "https:///x",
            "https://a.test/{{/c",
            "https://a.test/{{c}}",
            "https://a.test/#{{/c}}",
            "https://a.test/a b",
        ] {
            assert!(Template::try_from(template.to_owned()).is_err(), "{template}");
        }
    }
}
