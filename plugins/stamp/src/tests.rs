use portcullis_plugin::{Message, Verdict, parse_config};

use crate::config::Config;
use crate::stamp;

fn stamped(mut message: Message, config: &str) -> (Verdict, Message) {
    let config: Config = parse_config(config).unwrap();
    let verdict = stamp(&mut message, &config);
    (verdict, message)
}

fn value(text: &str, config: &str) -> String {
    let (verdict, message) = stamped(Message::of(text).with_key("k1").with_header("trace", "t\"1"), config);
    assert_eq!(verdict, Verdict::pass());
    String::from_utf8(message.value().unwrap().to_vec()).unwrap()
}

fn headers(message: &Message) -> Vec<(String, Option<String>)> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    message.headers().into_iter().map(|header| (header.name, header.value.map(text))).collect()
}

fn pairs(pairs: &[(&str, Option<&str>)]) -> Vec<(String, Option<String>)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned))).collect()
}

#[test]
fn headers_are_removed_set_appended_and_copied_in_this_order() {
    let message = Message::of("not json").with_key("k").with_channel("orders").with_timestamp_ms(-5);
    let message = message.with_header("old", "o").with_header("keep", "1").with_header("old", "o2");
    let (verdict, message) = stamped(
        message,
        r#"{"headers": {
            "remove": ["old"],
            "set": {"keep": "2", "null": null},
            "append": [{"name": "keep", "value": "3"}],
            "copy": {"new": {"header": "old"}, "none": {"header": "absent"}, "k": "key", "c": "channel", "t": "timestamp"}
        }}"#,
    );
    assert_eq!(verdict, Verdict::pass());
    let expected = [
        ("keep", Some("2")),
        ("null", None),
        ("keep", Some("3")),
        ("c", Some("orders")),
        ("k", Some("k")),
        ("new", Some("o2")),
        ("t", Some("-5")),
    ];
    assert_eq!(headers(&message), pairs(&expected));
    assert_eq!(message.value(), Some(&b"not json"[..]));
}

#[test]
fn without_rules_nothing_changes() {
    let message = Message::of([0xff, 0x00]).with_key("k").with_null_header("h").with_header("h", "");
    assert_eq!(stamped(message.clone(), "{}"), (Verdict::pass(), message));
}

#[test]
fn json_fields_are_copied_to_headers_as_text() {
    let config = r#"{"headers": {"copy": {
        "s": {"json": "/a/s"}, "n": {"json": "/a/n"}, "o": {"json": "/a"}, "i": {"json": "/l/1"}, "z": {"json": "/z"}, "x": {"json": "/x"}
    }}}"#;
    let text = r#"{"a": {"s": "q\"é", "n": 1.50}, "l": [1, true], "z": null}"#;
    let (verdict, message) = stamped(Message::of(text), config);
    assert_eq!(verdict, Verdict::pass());
    let expected = [
        ("i", Some("true")),
        ("n", Some("1.50")),
        ("o", Some(r#"{"s": "q\"é", "n": 1.50}"#)),
        ("s", Some("q\"é")),
        ("z", None),
    ];
    assert_eq!(headers(&message), pairs(&expected));
    assert_eq!(message.value(), Some(text.as_bytes()));
}

#[test]
fn what_no_rule_touches_keeps_its_bytes() {
    let text = r#"{"b": 1.0, "a": {"z": 123456789012345678901234567890,  "y": [ 1e400 ]}, "m": {"v": 1}}"#;
    let config = r#"{"json": {"set": {"/m/v": 2, "/m/w": "x"}}}"#;
    assert_eq!(
        value(text, config),
        r#"{"b":1.0,"a":{"z": 123456789012345678901234567890,  "y": [ 1e400 ]},"m":{"v":2,"w":"x"}}"#
    );
}

#[test]
fn objects_that_are_missing_are_made() {
    let config = r#"{"json": {"set": {"/meta/a/b": {"c": [1]}}, "copy": {"/meta/key": "key", "/meta/trace": {"header": "trace"}}}}"#;
    assert_eq!(value("{}", config), r#"{"meta":{"a":{"b":{"c": [1]}},"key":"k1","trace":"t\"1"}}"#);
}

#[test]
fn an_item_of_an_array_is_replaced_or_appended() {
    assert_eq!(value("[1, 2, 3]", r#"{"json": {"set": {"/1": "x"}}}"#), r#"[1,"x",3]"#);
    assert_eq!(value("[1]", r#"{"json": {"set": {"/-": 2}}}"#), "[1,2]");
    assert_eq!(value(r#"[{"a": 1}]"#, r#"{"json": {"set": {"/0/a": 2}}}"#), r#"[{"a":2}]"#);
}

#[test]
fn a_name_that_repeats_is_one_name_after_it_was_set() {
    assert_eq!(value(r#"{"a": 1, "b": 2, "\u0061": 3}"#, r#"{"json": {"set": {"/a": 4}}}"#), r#"{"a":4,"b":2}"#);
}

#[test]
fn a_pointer_through_another_value_rejects_the_message_unchanged() {
    for (text, pointer) in [("{\"a\": 1}", "/a/b"), ("[1]", "/1"), ("[1]", "/01"), ("[1]", "/x"), ("3", "/a")] {
        let config = format!(r#"{{"json": {{"set": {{"{pointer}": 1}}}}, "headers": {{"set": {{"h": "1"}}}}}}"#);
        let (verdict, message) = stamped(Message::of(text), &config);
        assert_eq!(verdict.code(), Some("not_an_object"), "{text} {pointer}");
        assert_eq!(message, Message::of(text));
    }
}

#[test]
fn a_json_rule_rejects_a_value_that_is_not_json_and_says_only_where() {
    for text in ["", "{\"a\": secret}", "{} {}", "[1,]"] {
        let (verdict, _) = stamped(Message::of(text), r#"{"json": {"set": {"/a": 1}}}"#);
        assert_eq!(verdict.code(), Some("not_json"), "{text}");
        assert!(!verdict.detail().unwrap().contains("secret"));
    }
}

#[test]
fn a_tombstone_stays_a_tombstone_and_gets_its_headers() {
    let config =
        r#"{"json": {"set": {"/a": 1}}, "headers": {"set": {"h": "1"}, "copy": {"id": {"json": "/id"}, "k": "key"}}}"#;
    let (verdict, message) = stamped(Message::tombstone(), config);
    assert_eq!((verdict, message.value()), (Verdict::pass(), None));
    assert_eq!(headers(&message), pairs(&[("h", Some("1")), ("k", None)]));
}

#[test]
fn bytes_that_are_not_text_do_not_get_into_json() {
    let (verdict, _) = stamped(Message::of("{}").with_key([0xff]), r#"{"json": {"copy": {"/k": "key"}}}"#);
    assert_eq!(verdict.code(), Some("not_text"));
}

#[test]
fn a_misspelt_rule_is_refused() {
    for config in [
        r#"{"header": {}}"#,
        r#"{"headers": {"append": [{"name": "a", "values": "b"}]}}"#,
        r#"{"json": {"set": {"id": 1}}}"#,
    ] {
        assert!(parse_config::<Config>(config).is_err(), "{config}");
    }
}
