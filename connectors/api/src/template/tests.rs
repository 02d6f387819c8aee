use proptest::prelude::*;

use super::*;
use crate::Header;

fn template(text: &str, allow: &[&str]) -> Result<Template, TemplateError> {
    Template::parse(text, &allow.iter().map(|&pattern| pattern.to_owned()).collect::<Vec<_>>())
}

fn message(key: Option<&[u8]>) -> Message {
    let mut message = Message::new("orders.raw");
    message.key = key.map(Bytes::copy_from_slice);
    message.headers.append(Header::new("region", Some("us")));
    message.headers.append(Header::new("region", Some("eu")));
    message.headers.append(Header::new("none", None::<Bytes>));
    message
}

fn rendered(text: &str, allow: &[&str], key: Option<&[u8]>) -> Result<String, String> {
    template(text, allow).unwrap().render(&message(key)).map(Cow::into_owned).map_err(|refusal| refusal.detail)
}

#[test]
fn a_fixed_name_is_borrowed() {
    let fixed = template("orders.clean", &[]).unwrap();
    assert!(matches!(fixed.render(&message(None)), Ok(Cow::Borrowed("orders.clean"))));
    assert_eq!(fixed.fixed(), Some("orders.clean"));
}

#[test]
fn placeholders_are_replaced_and_the_last_header_of_a_name_counts() {
    assert_eq!(rendered("clean.{{key}}", &["clean.*"], Some(b"k1")), Ok("clean.k1".to_owned()));
    assert_eq!(rendered("{{ channel }}.{{header.region}}", &["orders.raw.*"], None), Ok("orders.raw.eu".to_owned()));
}

#[test]
fn null_empty_and_binary_are_three_different_refusals() {
    let allow = &["clean.*"];
    for (key, why) in [(None, "is null"), (Some(&b""[..]), "is empty"), (Some(&[0xff][..]), "is not UTF-8")] {
        assert_eq!(rendered("clean.{{key}}", allow, key), Err(format!("`{{{{key}}}}` {why}")));
    }
    assert_eq!(rendered("clean.{{header.none}}", allow, None), Err("`{{header.none}}` is null".to_owned()));
    assert_eq!(rendered("clean.{{header.absent}}", allow, None), Err("`{{header.absent}}` is null".to_owned()));
}

#[test]
fn a_key_cannot_reach_beyond_the_patterns() {
    let allow = &["clean.*", "vip-*.x"];
    for key in ["a.b", ".", "a b", "a/b", "*", ">", "ä", "a\n"] {
        let refused = rendered("clean.{{key}}", allow, Some(key.as_bytes())).unwrap_err();
        assert!(!refused.contains(&format!("clean.{key}")), "a refusal never shows the message: {refused}");
    }
    assert_eq!(rendered("{{key}}", allow, Some(b"vip-7.x")), Ok("vip-7.x".to_owned()));
    assert!(rendered("{{key}}", allow, Some(b"vip-.x")).is_err());
    assert!(rendered("{{key}}", allow, Some(b"portcullis.audit")).is_err());
}

#[test]
fn a_result_longer_than_a_topic_name_is_refused() {
    let long = "k".repeat(244);
    assert!(rendered("x{{key}}", &["*"], Some(long.as_bytes())).is_ok());
    assert!(rendered("xxxxxx{{key}}", &["*"], Some(long.as_bytes())).unwrap_err().contains("longer than 249"));
}

#[test]
fn forbidden_names_are_never_a_result() {
    let names = ["portcullis.audit".to_owned(), "orders.dlq".to_owned()];
    let template_ = template("{{key}}", &["*.*"]).unwrap().forbid(&names).unwrap();
    assert!(template_.render(&message(Some(b"orders.clean"))).is_ok());
    assert!(template_.render(&message(Some(b"orders.dlq"))).unwrap_err().detail.contains("dead letter topic"));
    assert!(matches!(template("orders.dlq", &[]).unwrap().forbid(&names), Err(TemplateError::Forbidden { .. })));
}

#[test]
fn what_can_never_work_is_refused_when_it_is_read() {
    use TemplateError as E;
    assert_eq!(template("a.{{key", &["a.*"]).unwrap_err(), E::Unclosed { column: 3 });
    let unknown = E::UnknownPlaceholder { found: "value".to_owned(), column: 3 };
    assert_eq!(template("a.{{value}}", &["a.*"]).unwrap_err(), unknown);
    assert!(matches!(template("{{header.}}", &["*"]), Err(E::UnknownPlaceholder { .. })));
    assert_eq!(template("{{key}}", &[]).unwrap_err(), E::AllowMissing);
    for text in ["", "..", ".", "a b", "a}}", "ordres/clean"] {
        assert!(matches!(template(text, &[]), Err(E::Name { .. })), "{text:?}");
    }
    for pattern in ["", "a.**", "a.>", "a b"] {
        assert!(matches!(template("{{key}}", &[pattern]), Err(E::Pattern { .. })), "{pattern:?}");
    }
    assert!(matches!(template("a.b", &["a.c"]), Err(E::NotAllowed { .. })));
    assert!(template("a.b", &["a.*"]).is_ok());
}

/// The meaning of a pattern, said slowly: every way to give each star some characters.
fn matches_slowly(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some((b'*', rest)) => {
            let token = name.iter().take_while(|&&byte| byte != b'.').count();
            (1..=token).any(|taken| matches_slowly(rest, &name[taken..]))
        }
        Some((byte, rest)) => name.first() == Some(byte) && matches_slowly(rest, &name[1..]),
    }
}

proptest! {
    #[test]
    fn reading_and_rendering_never_panic(text in "\\PC{0,40}", pattern in "\\PC{0,20}", key in any::<Option<Vec<u8>>>()) {
        if let Ok(template) = template(&text, &[&pattern]) {
            drop(template.render(&message(key.as_deref())));
        }
    }

    #[test]
    fn no_key_yields_a_name_outside_the_patterns(
        key in proptest::option::of(prop_oneof!["[a-c.*{}>/ -]{0,12}", "\\PC{0,12}"]),
        pattern in "[a-c.]{0,3}\\*[a-c.]{0,3}(\\*[a-c]{0,2})?",
        prefix in "[a-c.]{0,3}",
    ) {
        let parsed = template(&format!("{prefix}{{{{key}}}}"), &[&pattern]);
        prop_assume!(parsed.is_ok());
        let parsed = parsed.unwrap().forbid(&["a.b".to_owned()]).unwrap();
        if let Ok(name) = parsed.render(&message(key.as_deref().map(str::as_bytes))) {
            prop_assert!(matches_slowly(pattern.as_bytes(), name.as_bytes()));
            prop_assert!(legal(&name).is_ok());
            prop_assert_ne!(name, "a.b");
        }
    }

    #[test]
    fn a_pattern_matches_exactly_what_its_definition_says(pattern in "[ab.]{0,3}(\\*[ab.]{1,3}){0,3}\\*?", name in "[ab.]{0,10}") {
        prop_assume!(!pattern.is_empty());
        let fast = Pattern::parse(&pattern).unwrap().matches(&name);
        prop_assert_eq!(fast, matches_slowly(pattern.as_bytes(), name.as_bytes()));
    }
}
