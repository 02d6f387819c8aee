//! Canonical JSON (RFC 8785, the JSON Canonicalization Scheme) for values without fractions.

use serde_json::{Map, Number, Value};
use thiserror::Error;

/// Integers past this are not exact in a JSON reader that keeps numbers as doubles.
pub(crate) const MAX_INTEGER: u64 = (1 << 53) - 1;
/// Deeper values are refused, so that a made-up value cannot exhaust the stack.
const MAX_DEPTH: usize = 64;

/// Why a value has no canonical form here.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CanonicalError {
    /// A number with a fraction or an exponent.
    #[error("number {0} is not an integer, only integers are allowed")]
    NotAnInteger(String),
    /// An integer that a JSON reader may round.
    #[error("integer {0} is outside of -(2^53-1) to 2^53-1")]
    OutOfRange(String),
    /// Arrays and objects in one another.
    #[error("the value is nested more than {MAX_DEPTH} levels deep")]
    TooDeep,
}

/// The canonical form: no white space, members sorted by the UTF-16 code units of their names, and only those characters
/// escaped that JSON demands.
///
/// # Errors
/// For numbers that are not integers within 2^53, and for nesting beyond 64 levels.
pub fn canonical(value: &Value) -> Result<Vec<u8>, CanonicalError> {
    let mut out = Vec::with_capacity(2048);
    write_value(&mut out, value, 0)?;
    Ok(out)
}

fn write_value(out: &mut Vec<u8>, value: &Value, depth: usize) -> Result<(), CanonicalError> {
    if depth > MAX_DEPTH {
        return Err(CanonicalError::TooDeep);
    }
    match value {
        Value::Null => out.extend(b"null"),
        Value::Bool(true) => out.extend(b"true"),
        Value::Bool(false) => out.extend(b"false"),
        Value::Number(number) => out.extend(integer(number)?.bytes()),
        Value::String(text) => write_text(out, text),
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_value(out, item, depth + 1)?;
            }
            out.push(b']');
        }
        Value::Object(members) => write_object(out, members, depth)?,
    }
    Ok(())
}

fn write_object(out: &mut Vec<u8>, members: &Map<String, Value>, depth: usize) -> Result<(), CanonicalError> {
    let mut sorted: Vec<_> = members.iter().collect();
    // By UTF-16 code units, not by code points: U+1F600 (d83d de00) comes before U+FB33.
    sorted.sort_by(|(left, _), (right, _)| match left.is_ascii() && right.is_ascii() {
        true => left.cmp(right),
        false => left.encode_utf16().cmp(right.encode_utf16()),
    });
    out.push(b'{');
    for (index, (name, value)) in sorted.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_text(out, name);
        out.push(b':');
        write_value(out, value, depth + 1)?;
    }
    out.push(b'}');
    Ok(())
}

fn integer(number: &Number) -> Result<String, CanonicalError> {
    let magnitude = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
    match magnitude {
        Some(0..=MAX_INTEGER) => Ok(number.to_string()),
        Some(_) => Err(CanonicalError::OutOfRange(number.to_string())),
        None => Err(CanonicalError::NotAnInteger(number.to_string())),
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    // Runs between escapes are copied whole: most of the writer's time was spent here byte by byte.
    for run in text.as_bytes().split_inclusive(|byte| is_escaped(*byte)) {
        match run.split_last() {
            Some((last, before)) if is_escaped(*last) => {
                out.extend_from_slice(before);
                write_escape(out, *last);
            }
            _ => out.extend_from_slice(run),
        }
    }
    out.push(b'"');
}

fn is_escaped(byte: u8) -> bool {
    matches!(byte, 0..=0x1f | b'"' | b'\\')
}

fn write_escape(out: &mut Vec<u8>, byte: u8) {
    match byte {
        b'"' | b'\\' => out.extend([b'\\', byte]),
        0x08 => out.extend(b"\\b"),
        b'\t' => out.extend(b"\\t"),
        b'\n' => out.extend(b"\\n"),
        0x0c => out.extend(b"\\f"),
        b'\r' => out.extend(b"\\r"),
        _ => out.extend(format!("\\u{byte:04x}").bytes()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn text(value: &Value) -> String {
        String::from_utf8(canonical(value).unwrap()).unwrap()
    }

    #[test]
    fn members_are_sorted_by_utf16_code_units() {
        let value = json!({"\u{fffd}": 6, "\u{10000}": 5, "é": 4, "b": 3, "a": 2, "": 1, "B": 0, "aa": 9});
        assert_eq!(text(&value), "{\"\":1,\"B\":0,\"a\":2,\"aa\":9,\"b\":3,\"é\":4,\"\u{10000}\":5,\"\u{fffd}\":6}");
    }

    #[test]
    fn only_what_json_demands_is_escaped_and_in_its_short_form() {
        let value = json!("\u{0}\u{8}\t\n\u{b}\u{c}\r\u{1f} \"\\/<>&'\u{7f}\u{80}\u{2028}€\u{1f600}");
        let expected = "\"\\u0000\\b\\t\\n\\u000b\\f\\r\\u001f \\\"\\\\/<>&'\u{7f}\u{80}\u{2028}€\u{1f600}\"";
        assert_eq!(text(&value), expected);
    }

    #[test]
    fn values_are_written_without_white_space() {
        let value = json!({"list": [null, true, false, 0, -1, 9_007_199_254_740_991_u64, [], {}]});
        assert_eq!(text(&value), r#"{"list":[null,true,false,0,-1,9007199254740991,[],{}]}"#);
    }

    #[test]
    fn fractions_and_inexact_integers_are_refused() {
        for number in [json!(1.5), json!(1.0), json!(1e300)] {
            assert!(matches!(canonical(&json!([number])), Err(CanonicalError::NotAnInteger(_))), "{number}");
        }
        for number in [json!(1_u64 << 53), json!(-(1_i64 << 53)), json!(u64::MAX), json!(i64::MIN)] {
            assert!(matches!(canonical(&number), Err(CanonicalError::OutOfRange(_))), "{number}");
        }
    }

    #[test]
    fn a_value_without_end_is_refused_before_the_stack_is() {
        let deep = (0..1000).fold(json!(1), |inner, _| json!([inner]));
        assert_eq!(canonical(&deep), Err(CanonicalError::TooDeep));
    }

    fn values() -> impl Strategy<Value = Value> {
        let integers = -(MAX_INTEGER as i64)..=MAX_INTEGER as i64;
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            integers.prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::hash_map(any::<String>(), inner, 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_canonical_form_is_json_of_the_same_value_and_its_own_canonical_form(value in values()) {
            let once = canonical(&value).unwrap();
            let parsed: Value = serde_json::from_slice(&once).unwrap();
            prop_assert_eq!(&parsed, &value);
            prop_assert_eq!(canonical(&parsed).unwrap(), once);
        }

        #[test]
        fn two_names_are_in_the_order_of_their_utf16_code_units(left in any::<String>(), right in any::<String>()) {
            prop_assume!(left != right);
            let form = canonical(&json!({&left: 1, &right: 2})).unwrap();
            let units = |text: &str| text.encode_utf16().collect::<Vec<_>>();
            let left_is_first = units(&left) < units(&right);
            prop_assert_eq!(form.ends_with(b":2}"), left_is_first);
        }
    }
}
