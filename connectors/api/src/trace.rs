use std::fmt;

use crate::Headers;

const TRACEPARENT: &[u8] = b"traceparent";
/// `00-` and 32, 16 and 2 digits with a dash between them.
const LENGTH: usize = 55;
/// What the specification sets aside so that no sender ever has it.
const INVALID_VERSION: u8 = 0xff;

/// The trace that a message is part of, as its sender says it in W3C Trace Context's header `traceparent` (level 1, section
/// 3.2). A claim of whoever sent the message, and no evidence. It holds numbers and no text: what is shown of it is always
/// 32 and 16 lower-case hexadecimal digits, whatever the header held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The whole trace, through all systems.
    pub trace_id: TraceId<16>,
    /// The step of it that sent the message; the specification calls it the parent's id.
    pub span_id: TraceId<8>,
}

/// A number of a trace. Shown as lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceId<const BYTES: usize>(pub [u8; BYTES]);

impl Trace {
    /// The trace of a message with these headers. None where there is no such header, where it is not valid, and where there
    /// are two: of those nobody can say which is meant. The name counts in any case, since clients of NATS change it.
    pub fn of(headers: &Headers) -> Option<Self> {
        let mut found = headers.iter().filter(|header| header.name.eq_ignore_ascii_case(TRACEPARENT));
        match (found.next(), found.next()) {
            (Some(only), None) => Self::parse(only.value.as_deref()?),
            _ => None,
        }
    }

    /// Reads a header's value, and never more than its beginning.
    fn parse(text: &[u8]) -> Option<Self> {
        let (fields, rest) = text.split_at_checked(LENGTH)?;
        let [version] = digits(fields.get(..2)?)?;
        let has_end = match version {
            INVALID_VERSION => false,
            0 => rest.is_empty(),
            // A later version may have more to say, behind another dash.
            _ => matches!(rest, [] | [b'-', ..]),
        };
        let has_dashes = [2, 35, 52].iter().all(|place| fields.get(*place) == Some(&b'-'));
        let trace_id = digits(fields.get(3..35)?)?;
        let span_id = digits(fields.get(36..52)?)?;
        let [_flags] = digits(fields.get(53..)?)?;
        let are_set = trace_id != [0; 16] && span_id != [0; 8];
        (has_end && has_dashes && are_set).then_some(Self { trace_id: TraceId(trace_id), span_id: TraceId(span_id) })
    }
}

/// Two lower-case hexadecimal digits a byte; upper-case ones are not valid.
fn digits<const BYTES: usize>(text: &[u8]) -> Option<[u8; BYTES]> {
    let value = |digit: &u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut number = [0; BYTES];
    if text.len() != 2 * BYTES {
        return None;
    }
    for (byte, pair) in number.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = value(high)? << 4 | value(low)?;
    }
    Some(number)
}

impl<const BYTES: usize> fmt::Display for TraceId<BYTES> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl<const BYTES: usize> fmt::Debug for TraceId<BYTES> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Header;

    /// The specification's own example.
    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn of(values: &[(&str, Option<&[u8]>)]) -> Option<String> {
        let header = |(name, value): &(&str, Option<&[u8]>)| Header::new((*name).to_owned(), value.map(<[u8]>::to_vec));
        let trace = Trace::of(&values.iter().map(header).collect())?;
        Some(format!("{} {}", trace.trace_id, trace.span_id))
    }

    fn read(text: &str) -> Option<String> {
        of(&[("traceparent", Some(text.as_bytes()))])
    }

    #[test]
    fn the_examples_of_the_specification_are_read() {
        let ids = Some("4bf92f3577b34da6a3ce929d0e0e4736 00f067aa0ba902b7".to_owned());
        assert_eq!(read(VALID), ids);
        // Not sampled, and flags that nobody has given a meaning yet.
        for flags in ["00", "02", "ff"] {
            assert_eq!(read(&format!("{}{flags}", &VALID[..53])), ids, "{flags}");
        }
        assert_eq!(
            read("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            Some("0af7651916cd43dd8448eb211c80319c b7ad6b7169203331".to_owned())
        );
    }

    #[test]
    fn a_later_version_is_read_as_far_as_this_one_goes_and_ff_is_none() {
        let version = |version: &str, more: &str| read(&format!("{version}{}{more}", &VALID[2..])).is_some();
        for later in ["01", "cc", "fe", "0f"] {
            assert!(version(later, "") && version(later, "-") && version(later, "-what-the-future-brings"), "{later}");
            assert!(!version(later, "."), "{later}: a dash must follow");
            assert!(!version(later, "0-x"), "{later}: flags of three digits");
        }
        assert!(!version("ff", "") && !version("ff", "-x"));
        assert!(!version("00", "-") && !version("00", "-x"), "version 00 ends there");
        assert!(!version("FE", "") && !version("0", "") && !version("000", "") && !version("", ""));
    }

    #[test]
    fn what_is_not_valid_is_no_trace() {
        let zero_trace = format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32));
        let zero_span = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", "0".repeat(16));
        let long = format!("{VALID}{}", "a".repeat(1 << 20));
        let later = format!("01{}-{}", &VALID[2..], "\n".repeat(1 << 20));
        let upper = VALID.to_uppercase();
        let one_upper = VALID.replacen('b', "B", 1);
        let (new_line, spaced, within) = (format!("{VALID}\n"), format!(" {VALID}"), VALID.replace("4bf9", "4b\nf"));
        for text in [&zero_trace, &zero_span, &long, &upper, &one_upper, &new_line, &spaced, &within, "", "00", "-"] {
            assert_eq!(read(text), None, "{}", &text[..text.len().min(80)]);
        }
        assert!(read(&later).is_some(), "what follows a later version's fields is not looked at");
        assert_eq!(of(&[("traceparent", None)]), None, "null");
        assert_eq!(of(&[("traceparent", Some(&[0xff; 55]))]), None, "no text");
    }

    #[test]
    fn each_byte_but_those_of_the_numbers_must_be_what_it_is() {
        for place in 0..LENGTH {
            let mut text = VALID.as_bytes().to_vec();
            for byte in [b'g', b'A', b' ', b'\n', 0, b'_', 0x80] {
                text[place] = byte;
                assert_eq!(of(&[("traceparent", Some(&text))]), None, "{place}: {byte:#x}");
            }
            // Where a digit is expected a dash is none, and the other way round.
            text[place] = if VALID.as_bytes()[place] == b'-' { b'0' } else { b'-' };
            assert_eq!(of(&[("traceparent", Some(&text))]), None, "{place}");
            assert_eq!(of(&[("traceparent", Some(&VALID.as_bytes()[..place]))]), None, "cut at {place}");
        }
    }

    #[test]
    fn two_headers_are_none_and_the_name_counts_in_any_case() {
        let valid = Some(VALID.as_bytes());
        assert!(of(&[("a", valid), ("Traceparent", valid), ("tracestate", Some(b"x=1"))]).is_some());
        assert_eq!(of(&[("traceparent", valid), ("traceparent", valid)]), None);
        assert_eq!(of(&[("traceparent", valid), ("TRACEPARENT", None)]), None);
        assert_eq!(of(&[("traceparent ", valid), ("trace-parent", valid)]), None);
        assert_eq!(of(&[]), None);
    }

    proptest! {
        #[test]
        fn whatever_a_header_holds_what_is_shown_is_digits(
            bytes in proptest::collection::vec(any::<u8>(), 0..80),
            at in 0..60_usize,
            byte in any::<u8>(),
        ) {
            let mut flipped = VALID.as_bytes().to_vec();
            if let Some(place) = flipped.get_mut(at) { *place = byte; }
            for value in [bytes, flipped] {
                if let Some(shown) = of(&[("traceparent", Some(&value))]) {
                    prop_assert_eq!(shown.len(), 32 + 1 + 16);
                    prop_assert!(shown.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b' ')));
                    prop_assert_eq!(&shown.as_bytes()[..32], &value[3..35]);
                }
            }
        }
    }
}
