use portcullis_plugin::{Enricher, Message, Verdict};

use crate::Redact;

pub(crate) const KEY: &str = "0123456789abcdef0123456789abcdef";

pub(crate) fn plugin(config: &str) -> Redact {
    Redact::configure(config).unwrap_or_else(|error| panic!("{error}"))
}

fn redacted(config: &str, value: &str) -> String {
    let mut message = Message::of(value);
    assert_eq!(plugin(config).enrich(&mut message), Verdict::pass(), "{value}");
    String::from_utf8(message.value().unwrap().to_vec()).unwrap()
}

#[test]
fn what_no_rule_names_keeps_its_bytes() {
    let config = r#"{"json": {"remove": ["customer.address.street", "items[*].card"], "mask": ["email"]}}"#;
    let value = "\r\n{ \"n\" : 1.0, \"big\":123456789012345678901234567890.50e+007 ,\t\"s\":\"\\u00e9\\/é\", \"email\" : \"x\",\n \
                 \"customer\":{\"address\":{ \"street\" : \"x\" , \"zip\":  \"01\" }}, \"items\":[ {\"card\":1, \"sku\":-0} , {} ] } ";
    let expected = "\r\n{ \"n\" : 1.0, \"big\":123456789012345678901234567890.50e+007 ,\t\"s\":\"\\u00e9\\/é\", \"email\" : \"***\",\n \
                    \"customer\":{\"address\":{ \"zip\":  \"01\" }}, \"items\":[ { \"sku\":-0} , {} ] } ";
    assert_eq!(redacted(config, value), expected);
    assert_eq!(redacted(config, expected), expected, "a second run changes nothing");
}

#[test]
fn no_comma_is_left_behind() {
    let config = r#"{"json": {"remove": ["a", "l[0]", "l[2]"]}}"#;
    for (value, expected) in [
        (r#"{"a":1}"#, "{}"),
        (r#"{"a":1,"b":2}"#, r#"{"b":2}"#),
        (r#"{"b":2,"a":1}"#, r#"{"b":2}"#),
        (r#"{"a":0,"b":2,"a":1,"c":3,"a":4}"#, r#"{"b":2,"c":3}"#),
        (r#"{"l":[1]}"#, r#"{"l":[]}"#),
        (r#"{"l":[1,2,3,4]}"#, r#"{"l":[2,4]}"#),
    ] {
        assert_eq!(redacted(config, value), expected);
    }
}

#[test]
fn a_hash_is_the_same_for_the_same_value_and_depends_on_the_key() {
    let config = |key: &str| format!(r#"{{"json": {{"hash": ["*"]}}, "hash_key": "{key}"}}"#);
    let value = r#"{"a":"Jo","b":"\u004ao","c":"jo","d":7,"e":7.0,"f":null,"g":{"x": 1}}"#;
    let out: serde_json::Value = serde_json::from_str(&redacted(&config(KEY), value)).unwrap();
    assert_eq!(out["a"], out["b"]);
    assert!(out["a"] != out["c"] && out["d"] != out["e"]);
    assert!(out["f"].is_null(), "a null has nothing to hide");
    // Made with another implementation: printf Jo | openssl dgst -sha256 -hmac $KEY
    assert_eq!(out["a"], "35454a9c4e693225ed89920d4502c28d16de49968fe7d4634f32ffc5d2affb2a");
    assert_eq!(redacted(&config(KEY), value), redacted(&config(KEY), value));
    let other = redacted(&config(&KEY.replace('0', "1")), value);
    assert!(!other.contains(out["a"].as_str().unwrap()));
}

#[test]
fn a_mask_is_the_text_that_the_operator_chose() {
    let config = r#"{"json": {"mask": ["a", "b"]}, "mask_with": "\"gone\""}"#;
    assert_eq!(redacted(config, r#"{"a":[1,2],"b":null,"c":""}"#), r#"{"a":"\"gone\"","b":null,"c":""}"#);
}

#[test]
fn what_becomes_of_a_value_that_cannot_be_parsed_is_the_operators_choice() {
    let run = |dispositions: &str, value: &str| {
        let mut message = Message::of(value).with_header("h", "1");
        let config = format!(r#"{{"json": {{"remove": ["a.b"]}}, "headers": {{"remove": ["h"]}}, {dispositions}}}"#);
        let verdict = plugin(&config).enrich(&mut message);
        (verdict.code().map(str::to_owned), message.value().map(<[u8]>::to_vec), message.headers().len())
    };
    let bytes = |text: &str| Some(text.as_bytes().to_vec());
    assert_eq!(run(r#""on_unparsable": "pass""#, "<a/>"), (None, bytes("<a/>"), 0));
    assert_eq!(run(r#""on_unparsable": "drop_value""#, "<a/>"), (None, None, 0));
    assert_eq!(run(r#""on_unparsable": "pass""#, r#"{"a":1}"#), (Some("mismatch".to_owned()), bytes(r#"{"a":1}"#), 1));
    assert_eq!(run(r#""on_mismatch": "drop_value""#, r#"{"a":1}"#), (None, None, 0));
    assert_eq!(run(r#""on_mismatch": "pass""#, r#"{"a":1}"#), (None, bytes(r#"{"a":1}"#), 0));
    assert_eq!(
        run(r#""on_mismatch": "pass""#, r#"{"a":[{"b":1}],"a":{"b":1}}"#),
        (None, bytes(r#"{"a":[{"b":1}],"a":{}}"#), 0)
    );
}

#[test]
fn a_detail_names_the_path_of_the_configuration() {
    let mut message = Message::of(r#"{"items": {"4111": 1}}"#);
    let verdict = plugin(r#"{"json": {"remove": ["items[*].card"]}}"#).enrich(&mut message);
    assert_eq!(
        verdict,
        Verdict::reject("mismatch", "the path items[*].card leads into an object where it has an item")
    );
}

#[test]
fn a_tombstone_stays_one_and_loses_its_headers() {
    let mut message = Message::tombstone().with_header("h", "1");
    let verdict = plugin(r#"{"json": {"keep": ["a"]}, "headers": {"keep": []}}"#).enrich(&mut message);
    assert_eq!((verdict, message), (Verdict::pass(), Message::tombstone()));
}

#[test]
fn without_a_rule_for_json_the_value_is_not_looked_at() {
    let mut message = Message::of([0xff]).with_header("h", "1").with_header("i", "2");
    assert_eq!(plugin(r#"{"headers": {"remove": ["h"]}}"#).enrich(&mut message), Verdict::pass());
    assert_eq!(message, Message::of([0xff]).with_header("i", "2"));
}

#[test]
fn a_configuration_that_would_redact_less_than_it_seems_is_refused() {
    let refused = |config: &str| Redact::configure(config).err().unwrap_or_else(|| panic!("{config}"));
    for (config, what) in [
        ("{}", "nothing to redact"),
        (r#"{"json": {"mask_with": ["a"]}}"#, "unknown key"),
        (r#"{"json": {"remove": ["$.a"]}}"#, "config.json.remove: `$.a` has the name `$`"),
        (r#"{"json": {"keep": ["**.id"]}}"#, "config.json.keep"),
        (
            r#"{"json": {"keep": ["id"], "hash": ["email"]}, "hash_key": "0123456789abcdef0123456789abcdef"}"#,
            "not among",
        ),
        (r#"{"headers": {"keep": ["a"], "mask": ["b"]}}"#, "not among"),
        (r#"{"headers": {"mask": ["b"], "remove": ["b"]}}"#, "named twice"),
        (r#"{"message_key": "hash"}"#, "hash_key"),
        (r#"{"message_key": "drop"}"#, "unknown variant"),
    ] {
        assert!(refused(config).contains(what), "{config}: {}", refused(config));
    }
    let many: Vec<String> = (0..257).map(|number| format!("\"a{number}\"")).collect();
    assert!(refused(&format!(r#"{{"json": {{"remove": [{}]}}}}"#, many.join(","))).contains("256"));
}
