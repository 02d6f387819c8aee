//! The ways in which a value could slip through, each as a message that tries it. `secret` must never come out.

use portcullis_plugin::{Enricher, Message, Verdict};

use crate::Redact;
use crate::tests::{KEY, plugin};

const CARD: &str = r#"{"json": {"remove": ["items[*].card", "customer.card"]}}"#;

/// What leaves, or the code of the rejection. Neither may hold the secret, nor may the detail.
fn outcome(config: &str, value: impl Into<Vec<u8>>) -> String {
    let mut message = Message::of(value);
    let verdict = plugin(config).enrich(&mut message);
    assert!(!format!("{verdict:?}").contains("secret"), "{verdict:?}");
    let outcome = match &verdict {
        Verdict::Pass => String::from_utf8_lossy(message.value().unwrap_or_default()).into_owned(),
        other => other.code().unwrap_or_default().to_owned(),
    };
    assert!(!outcome.contains("secret"), "{outcome}");
    outcome
}

#[test]
fn a_name_that_repeats_is_redacted_each_time() {
    let value = r#"{"customer": {"card": "secret1", "a": 1, "card": "secret2"}, "customer": {"card": ["secret3"]}}"#;
    assert_eq!(outcome(CARD, value), r#"{"customer": { "a": 1}, "customer": {}}"#);
    assert_eq!(
        outcome(r#"{"json": {"mask": ["a"]}}"#, r#"{"a":"secret","a":{"a":"secret"},"\u0061":"secret"}"#),
        r#"{"a":"***","a":"***","\u0061":"***"}"#
    );
}

#[test]
fn a_name_in_another_spelling_is_the_same_name() {
    for name in ["card", r"\u0063ard", r"c\u0061r\u0064", r"\u0063\u0061\u0072\u0064"] {
        assert_eq!(outcome(CARD, format!(r#"{{"customer":{{"{name}":"secret"}}}}"#)), r#"{"customer":{}}"#);
    }
    let odd = r#"{"json": {"remove": ["[\"a/\\\"\u00e9😀\"]"]}}"#;
    for name in ["a/\\\"é😀", r#"a\/\"\u00E9\ud83d\uDE00"#] {
        assert_eq!(outcome(odd, format!(r#"{{"{name}":"secret"}}"#)), "{}");
    }
}

#[test]
fn a_field_in_another_shape_than_the_path_says_is_refused() {
    for value in [
        r#"{"items": {"card": "secret"}}"#,
        r#"{"items": {"0": {"card": "secret"}}}"#,
        r#"{"items": [[{"card": "secret"}]]}"#,
        r#"{"items": ["secret"]}"#,
        r#"{"items": "card=secret"}"#,
        r#"{"customer": [{"card": "secret"}]}"#,
        r#"{"customer": "secret"}"#,
        r#"[{"customer": {"card": "secret"}}]"#,
        r#""secret""#,
        // Behind a good one: each is looked at.
        r#"{"customer": {"card": "secret"}, "customer": ["secret"]}"#,
    ] {
        assert_eq!(outcome(CARD, value), "mismatch", "{value}");
    }
    // What is not there cannot slip.
    for value in ["null", "{}", r#"{"customer":null,"items":null}"#, r#"{"items":[null,{}]}"#, r#"{"items":[]}"#] {
        assert_eq!(outcome(CARD, value), value);
    }
}

#[test]
fn what_is_not_strict_json_is_refused() {
    for value in [
        "",
        "secret",
        r#"{"customer": {"card": "secret"}"#,
        r#"{"customer": {"card": "secret"}} {"customer": {"card": "secret"}}"#,
        r#"{"customer": {card: "secret"}}"#,
        r#"{"customer": {'card': "secret"}}"#,
        r#"{"customer": {/**/"card": "secret"}}"#,
        r#"{"customer": {"card": "secret",}}"#,
        r#"{"customer": {"card\ud800": "secret"}}"#,
        r#"{"customer": {"c\x61rd": "secret"}}"#,
        "{\"customer\": {\"card\n\": \"secret\"}}",
        "\u{feff}{\"customer\": {\"card\": \"secret\"}}",
        r#"{"customer": {"n": 01, "card": "secret"}}"#,
        r#"{"a": "secret}"#,
    ] {
        assert_eq!(outcome(CARD, value), "not_json", "{value}");
    }
    assert_eq!(outcome(CARD, b"{\"customer\":{\"c\xc1\xa1rd\":\"secret\"}}".to_vec()), "not_json");
    let utf16 = r#"{"customer":{"card":"secret"}}"#.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<_>>();
    assert_eq!(outcome(CARD, utf16), "not_json");
}

#[test]
fn a_field_below_the_greatest_depth_is_refused_and_exhausts_no_stack() {
    let deep = |depth: usize| format!("{}{{\"card\":\"secret\"}}{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    let anywhere = r#"{"json": {"remove": ["**.card"]}}"#;
    assert!(outcome(anywhere, deep(127)).ends_with(&format!("{{}}{}", "}".repeat(127))));
    assert_eq!(outcome(anywhere, deep(128)), "too_deep");
    assert_eq!(outcome(anywhere, deep(100_000)), "too_deep");
    assert_eq!(outcome(CARD, "[".repeat(1_000_000)), "mismatch");
    assert_eq!(outcome(r#"{"json": {"remove": ["a"]}}"#, format!("{{\"a\":{}", "[".repeat(1_000_000))), "too_deep");
}

#[test]
fn any_depth_reaches_through_objects_and_arrays_and_below_what_it_found() {
    let config = r#"{"json": {"mask": ["**.card"], "remove": ["**.wallet.pin"]}}"#;
    let value = r#"{"card":"secret","a":[{"card":{"card":"secret"}},[[{"b":{"card":["secret"]}}]]],"wallet":{"wallet":{"pin":"secret"},"pin":"secret"}}"#;
    let expected = r#"{"card":"***","a":[{"card":"***"},[[{"b":{"card":"***"}}]]],"wallet":{"wallet":{}}}"#;
    assert_eq!(outcome(config, value), expected);
}

#[test]
fn only_what_is_named_is_kept() {
    let config = r#"{"json": {"keep": ["id", "customer.country", "items[*].sku", "list[0]"]}}"#;
    let value = r#"{"secret":"secret","id":{"any":1},"customer":{"name":"secret","country":"CH","country ":"secret"},
        "items":[{"sku":"A","card":"secret"},"secret",["secret"],{"sku":"B"}],"list":[1,"secret"],"Id":"secret"}"#;
    let expected = r#"{"id":{"any":1},"customer":{"country":"CH"},
        "items":[{"sku":"A"},[],{"sku":"B"}],"list":[1]}"#;
    assert_eq!(outcome(config, value), expected);
    for value in
        [r#"{"customer":"secret"}"#, r#"{"customer":["secret"]}"#, r#"{"items":{"sku":"secret"}}"#, r#"["secret"]"#]
    {
        assert!(
            ["{}", r#"{"customer":[]}"#, r#"{"items":{}}"#, "[]"].contains(&outcome(config, value).as_str()),
            "{value}"
        );
    }
    assert_eq!(outcome(config, "\"secret\""), "mismatch");
    assert_eq!(outcome(r#"{"json": {"keep": ["id"]}, "on_mismatch": "pass"}"#, "\"secret\""), "null");
    assert_eq!(outcome(r#"{"json": {"keep": []}}"#, r#"{"secret":"secret"}"#), "{}");
}

#[test]
fn of_several_rules_the_strictest_is_taken_and_none_undoes_another() {
    let config = format!(
        r#"{{"json": {{"keep": ["a", "c.d"], "hash": ["a", "c"], "mask": ["*.x", "a.y"], "remove": ["a.y", "a.z"]}}, "hash_key": "{KEY}"}}"#
    );
    let value = r#"{"a":{"x":"secret","y":"secret","z":"secret"},"c":{"d":"secret"}}"#;
    let out = outcome(&config, value);
    assert_eq!(out.len(), r#"{"a":"","c":""}"#.len() + 128, "both are hashed as a whole: {out}");
    let config = r#"{"json": {"mask": ["a.*", "a.b.c"], "remove": ["a.b"]}}"#;
    assert_eq!(outcome(config, r#"{"a":{"b":{"c":"secret"},"e":"secret"}}"#), r#"{"a":{"e":"***"}}"#);
}

#[test]
fn a_header_that_repeats_is_redacted_each_time_and_the_key_too() {
    let message = || {
        let message = Message::of("not json").with_key("secret").with_header("card", "secret").with_header("a", "1");
        message.with_header("card", "secret").with_null_header("card").with_header("Card", "2").with_header("a", "3")
    };
    let run = |config: &str| {
        let mut message = message();
        assert_eq!(plugin(config).enrich(&mut message), Verdict::pass());
        let text = |bytes: Option<Vec<u8>>| bytes.map_or("null".to_owned(), |bytes| String::from_utf8(bytes).unwrap());
        let headers: Vec<String> =
            message.headers().into_iter().map(|header| format!("{}={}", header.name, text(header.value))).collect();
        (headers.join(" "), text(message.key()))
    };
    let (headers, key) = run(r#"{"headers": {"mask": ["card"]}, "message_key": "mask"}"#);
    assert_eq!((headers.as_str(), key.as_str()), ("card=*** a=1 card=*** card=null Card=2 a=3", "***"));
    let (headers, key) = run(r#"{"headers": {"remove": ["card"]}, "message_key": "remove"}"#);
    assert_eq!((headers.as_str(), key.as_str()), ("a=1 Card=2 a=3", "null"));
    let (headers, _) = run(r#"{"headers": {"keep": ["a"]}}"#);
    assert_eq!(headers, "a=1 a=3");
    let (headers, key) =
        run(&format!(r#"{{"headers": {{"hash": ["card"]}}, "message_key": "hash", "hash_key": "{KEY}"}}"#));
    assert!(
        !headers.contains("secret") && headers.contains(&format!("card={key}")) && key.len() == 64,
        "{headers} {key}"
    );
}

#[test]
fn the_key_of_the_hash_is_in_no_error() {
    let refused = |config: String| Redact::configure(&config).err().unwrap();
    let short = refused(r#"{"json": {"hash": ["a"]}, "hash_key": "secret"}"#.to_owned());
    assert!(short.contains("6 bytes") && !short.contains("secret"), "{short}");
    let number = refused(format!(r#"{{"json": {{"hash": ["a"]}}, "hash_key": {}}}"#, "4711".repeat(4)));
    assert!(number.contains("not a text") && !number.contains("4711"), "{number}");
    assert!(refused(r#"{"json": {"hash": ["a"]}}"#.to_owned()).contains("missing"));
}

#[test]
fn a_rejected_message_was_not_half_edited() {
    let config = r#"{"json": {"remove": ["a"]}, "headers": {"remove": ["h"]}, "message_key": "remove"}"#;
    let original = Message::of("{\"a\":1,}").with_key("k").with_header("h", "1");
    let mut message = original.clone();
    assert_eq!(plugin(config).enrich(&mut message), Verdict::reject("not_json", "at byte 7"));
    assert_eq!(message, original);
}
