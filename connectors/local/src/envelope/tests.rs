use portcullis_connector_api::{Bytes, Channel, Header, Message, Timestamp};
use proptest::prelude::*;

use super::*;

fn read(line: &str) -> Result<Line, EnvelopeError> {
    parse(line.as_bytes(), 7, &Channel::from("from-the-file"))
}

fn printed(line: &Line) -> String {
    let mut out = Vec::new();
    line.print(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_full_line_is_read_field_by_field() {
    let text = r#" {"key_b64":"/wA=","value":"{\"id\":1}","headers":[["a","1"],["a",null],[{"b64":"/w=="},{"b64":"AA=="}],["e",""]],
        "timestamp_ms":-5,"channel":"orders","expect":{"outcome":"reject","reason":"schema"}} "#;
    let line = read(text).unwrap();
    let message = &line.message;
    assert_eq!(message.key.as_deref(), Some(&[0xff, 0][..]));
    assert_eq!(message.value.as_deref(), Some(&br#"{"id":1}"#[..]));
    let headers: Vec<_> = message.headers.iter().map(|header| (&header.name[..], header.value.as_deref())).collect();
    let expected: [(&[u8], Option<&[u8]>); 4] =
        [(b"a", Some(b"1")), (b"a", None), (&[0xff], Some(&[0])), (b"e", Some(b""))];
    assert_eq!(headers, expected);
    assert_eq!((message.timestamp, message.channel.as_str()), (Timestamp::Created(-5), "orders"));
    assert_eq!(line.expect, Some(Expect { outcome: Outcome::Reject, reason: Some("schema".to_owned()) }));
}

#[test]
fn absent_and_null_are_null_and_an_empty_string_is_empty() {
    for text in ["{}", r#"{"key":null,"value":null}"#, r#"{"key_b64":null,"value_b64":null,"headers":null}"#] {
        assert_eq!(read(text).unwrap().message, Message::new("from-the-file"), "{text}");
    }
    let empty = read(r#"{"key":"","value_b64":""}"#).unwrap().message;
    assert_eq!((empty.key, empty.value), (Some(Bytes::new()), Some(Bytes::new())));
}

#[test]
fn what_is_wrong_is_named_with_its_place_and_what_is_allowed() {
    let table = [
        ("", 1, "a JSON object is expected"),
        ("  [1]", 3, "a JSON object is expected"),
        (r#"{"key": broken"#, 9, "expected value"),
        (
            r#"{"kee":"k"}"#,
            6,
            "unknown key `kee`; allowed are key, key_b64, value, value_b64, headers, timestamp_ms, channel, expect",
        ),
        (r#"{"key":"a","key":"b"}"#, 16, "the key `key` stands twice"),
        (r#"{"key":"a","key_b64":"YQ=="}"#, 28, "`key` and `key_b64` exclude each other"),
        (r#"{"value":{"id":1}}"#, 18, "`value` is an object; allowed is a string or null"),
        (r#"{"value_b64":"a"}"#, 17, "`value_b64` is not base64 of the standard alphabet with padding"),
        (
            r#"{"timestamp_ms":1.5}"#,
            20,
            "`timestamp_ms` is a number that is not a 64-bit integer; allowed is milliseconds since 1970 as an integer, or null",
        ),
        (r#"{"headers":[["a"]]}"#, 19, "`headers[0]` is a list of 1; allowed is [name, value]"),
        (r#"{"headers":[["a","b"],[null,"b"]]}"#, 34, "`headers[1][0]` is null; a header has a name"),
        (
            r#"{"headers":[["a",{"hex":"00"}]]}"#,
            32,
            "`headers[0][1]` is another object than {\"b64\": \"...\"}; allowed is a string, null or {\"b64\": ...}",
        ),
        (r#"{"expect":{"outcome":"lost"}}"#, 29, "`expect.outcome` is `lost`; allowed are pass, drop, reject, fault"),
        (r#"{"expect":{}}"#, 13, "`expect` has no `outcome`"),
        (r#"{"expect":{"result":"pass"}}"#, 28, "unknown key `result`; allowed are outcome, reason"),
        (r#"{"value":"a"} x"#, 15, "trailing characters"),
    ];
    for (text, column, what) in table {
        let error = read(text).unwrap_err();
        assert_eq!(error, EnvelopeError { line: 7, column, what: what.to_owned() }, "{text}");
    }
}

#[test]
fn an_error_shows_no_value() {
    for text in [r#""secret""#, r#"{"value":["secret"]}"#, r#"{"value_b64":"secret"}"#, r#"{"headers":"secret"}"#] {
        assert!(!read(text).unwrap_err().to_string().contains("secret"), "{text}");
    }
}

#[test]
fn an_appended_timestamp_is_read_as_a_created_one() {
    let mut message = Message::new("a");
    message.timestamp = Timestamp::Appended(9);
    assert_eq!(read(&printed(&Line { message, expect: None })).unwrap().message.timestamp, Timestamp::Created(9));
}

fn bytes() -> impl Strategy<Value = Option<Bytes>> {
    proptest::option::of(prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..30).prop_map(Bytes::from),
        any::<String>().prop_map(Bytes::from),
    ])
}

prop_compose! {
    fn message()(
        key in bytes(),
        value in bytes(),
        headers in proptest::collection::vec((bytes(), bytes()), 0..5),
        timestamp in proptest::option::of(any::<i64>()),
        channel in any::<String>(),
    ) -> Message {
        let mut message = Message::new(channel);
        message.key = key;
        message.value = value;
        message.headers =
            headers.into_iter().map(|(name, value)| Header { name: name.unwrap_or_default(), value }).collect();
        message.timestamp = timestamp.map_or(Timestamp::Unknown, Timestamp::Created);
        message
    }
}

proptest! {
    #[test]
    fn what_is_printed_is_read_as_the_same(
        message in message(),
        expect in proptest::option::of((0..4_usize, proptest::option::of(any::<String>()))),
    ) {
        let expect = expect.map(|(outcome, reason)| Expect { outcome: Outcome::ALL[outcome], reason });
        let line = Line { message, expect };
        let text = printed(&line);
        prop_assert!(!text.contains('\n'));
        prop_assert_eq!(read(&text).unwrap(), line);
    }

    #[test]
    fn no_bytes_make_the_parser_panic(
        line in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..60),
            "\\{[\"a-z_0-9:,\\[\\]{}nul. -]{0,60}\\}".prop_map(String::into_bytes),
        ],
    ) {
        if let Err(error) = parse(&line, 1, &Channel::from("a")) {
            prop_assert!(error.column >= 1 && error.column <= line.len() + 1);
        }
    }
}
