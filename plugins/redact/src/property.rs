//! Whatever the value looks like, no secret is left, and what is left is what it was. The judge is a second implementation, on a tree,
//! that shares nothing with the one that is tested.

use portcullis_plugin::{Enricher, Message, Verdict};
use proptest::prelude::*;

use crate::tests::plugin;

const CONFIG: &str = r#"{"json": {"remove": ["c.card", "items[*].card", "**.pin"], "mask": ["c.*.mail", "[1].card"]}, "on_mismatch": "pass"}"#;
const KEEP: &str = r#"{"json": {"keep": ["id", "c.id", "items[*].id"], "mask": ["c.id"]}, "on_mismatch": "pass"}"#;

/// A JSON value with the spelling of everything in it.
#[derive(Debug, Clone)]
enum Tree {
    Leaf(String),
    Object(Vec<(String, String, Tree)>),
    Array(Vec<Tree>),
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Name(String),
    Item(usize),
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,4})?",
        "\"([ -!#-\\[\\]-~é😀]|\\\\u00[0-9a-f]{2}|\\\\[nrt\"\\\\/]){0,12}\"",
    ];
    leaf.prop_map(Tree::Leaf).prop_recursive(5, 64, 5, |inner| {
        let member = (name(), inner.clone()).prop_map(|((name, spelled), value)| (name, spelled, value));
        prop_oneof![
            3 => proptest::collection::vec(member, 0..6).prop_map(Tree::Object),
            1 => proptest::collection::vec(inner, 0..5).prop_map(Tree::Array),
        ]
    })
}

/// Few names, so that paths match often, each with some of its letters escaped.
fn name() -> impl Strategy<Value = (String, String)> {
    let names = proptest::sample::select(vec!["c", "card", "items", "mail", "pin", "id", "Card", "pi", "x"]);
    (names, any::<u8>()).prop_map(|(name, escaped)| {
        let letter = |(place, letter): (usize, char)| match escaped >> (place % 8) & 1 {
            1 => format!("\\u{:04X}", u32::from(letter)),
            _ => letter.to_string(),
        };
        (name.to_owned(), name.chars().enumerate().map(letter).collect())
    })
}

/// What stays of a tree, by a function that says what becomes of each place: `None` goes, `Some(text)` stands instead.
fn judged(tree: &Tree, way: &mut Vec<Step>, fate: &impl Fn(&[Step], &Tree) -> Fate) -> Option<String> {
    match fate(way, tree) {
        Fate::Gone => None,
        Fate::Instead(_) if matches!(tree, Tree::Leaf(text) if text == "null") => Some("null".to_owned()),
        Fate::Instead(text) => Some(text.to_owned()),
        Fate::Stays => Some(match tree {
            Tree::Leaf(text) => text.clone(),
            Tree::Object(members) => {
                let mut stay = Vec::new();
                for (name, spelled, value) in members {
                    way.push(Step::Name(name.clone()));
                    stay.extend(judged(value, way, fate).map(|value| format!("\"{spelled}\":{value}")));
                    way.pop();
                }
                format!("{{{}}}", stay.join(","))
            }
            Tree::Array(items) => {
                let mut stay = Vec::new();
                for (index, value) in items.iter().enumerate() {
                    way.push(Step::Item(index));
                    stay.extend(judged(value, way, fate));
                    way.pop();
                }
                format!("[{}]", stay.join(","))
            }
        }),
    }
}

enum Fate {
    Stays,
    Gone,
    Instead(&'static str),
}

fn words(way: &[Step]) -> Vec<&str> {
    way.iter()
        .map(|step| match step {
            Step::Name(name) => name.as_str(),
            Step::Item(1) => "[1]",
            Step::Item(_) => "[]",
        })
        .collect()
}

fn by_actions(way: &[Step], _: &Tree) -> Fate {
    match words(way).as_slice() {
        [.., "pin"] | ["c", "card"] | ["items", "[1]" | "[]", "card"] => Fate::Gone,
        ["c", between, "mail"] if !between.starts_with('[') => Fate::Instead("\"***\""),
        ["[1]", "card"] => Fate::Instead("\"***\""),
        _ => Fate::Stays,
    }
}

fn by_keep(way: &[Step], tree: &Tree) -> Fate {
    let is_leaf = matches!(tree, Tree::Leaf(_));
    match words(way).as_slice() {
        [] if is_leaf => Fate::Instead("null"),
        ["c", "id"] => Fate::Instead("\"***\""),
        [] | ["id", ..] | ["items", "[1]" | "[]", "id", ..] => Fate::Stays,
        ["c"] | ["items"] | ["items", "[1]" | "[]"] if !is_leaf => Fate::Stays,
        _ => Fate::Gone,
    }
}

fn text_of(tree: &Tree) -> String {
    judged(tree, &mut Vec::new(), &|_, _| Fate::Stays).unwrap()
}

/// White space at every place where it may stand, which the judge does not write.
fn spaced(text: &str, seed: u64) -> String {
    let (mut out, mut in_string, mut escaped, mut state) = (String::new(), false, false, seed | 1);
    for c in text.chars() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let blank = [" ", "", "\n", "\t ", "", "\r"][(state >> 33) as usize % 6];
        let is_mark = !in_string && "{}[]:,".contains(c);
        if is_mark {
            out.push_str(blank);
        }
        out.push(c);
        if is_mark {
            out.push_str(blank);
        }
        (in_string, escaped) = match c {
            '"' if !escaped => (!in_string, false),
            '\\' if in_string => (in_string, !escaped),
            _ => (in_string, false),
        };
    }
    out
}

fn without_blanks(text: &str) -> String {
    let (mut out, mut in_string, mut escaped) = (String::new(), false, false);
    for c in text.chars() {
        if in_string || !" \n\t\r".contains(c) {
            out.push(c);
        }
        (in_string, escaped) = match c {
            '"' if !escaped => (!in_string, false),
            '\\' if in_string => (in_string, !escaped),
            _ => (in_string, false),
        };
    }
    out
}

fn run(config: &str, value: &str) -> String {
    let mut message = Message::of(value);
    assert_eq!(plugin(config).enrich(&mut message), Verdict::pass(), "{value}");
    String::from_utf8(message.value().unwrap().to_vec()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn exactly_what_the_rules_name_is_gone(tree in tree(), seed: u64) {
        let value = spaced(&text_of(&tree), seed);
        for (config, expected) in [
            (CONFIG, judged(&tree, &mut Vec::new(), &by_actions)),
            (KEEP, judged(&tree, &mut Vec::new(), &by_keep)),
        ] {
            let out = run(config, &value);
            prop_assert_eq!(without_blanks(&out), expected.unwrap());
            prop_assert!(serde_json::from_str::<serde::de::IgnoredAny>(&out).is_ok());
            prop_assert_eq!(run(config, &out), out, "a second run changes nothing");
        }
    }

    #[test]
    fn no_secret_is_left_wherever_it_stands(tree in tree(), digits in "[0-9]{16}") {
        // The secret is put into each leaf that a rule covers, as a string or as a number; the rest cannot hold it by chance.
        let secret = format!("99{digits}");
        let marked = judged_with(&tree, &mut Vec::new(), &secret);
        let out = run(CONFIG, &marked);
        prop_assert!(!out.contains(&secret), "{} -> {}", marked, out);
    }

    #[test]
    fn bytes_of_any_kind_are_json_to_both_parsers_or_to_none(
        text in "[\\[\\]{}:,\"\\\\ \n\u{0}-\u{1f}0-9a-fnrtulse.+eE-]{0,24}", cut in any::<proptest::sample::Index>(), tree in tree()
    ) {
        let whole = text_of(&tree);
        let cut = cut.index(whole.len() + 1);
        let cut = whole.get(..cut).unwrap_or_default();
        for value in [text.as_str(), cut, &format!("{cut}{text}")] {
            let ours = plugin(CONFIG).enrich(&mut Message::of(value)) == Verdict::pass();
            let theirs = serde_json::from_str::<serde_json::Value>(value);
            // Numbers stay text here, so none is too large.
            if theirs.as_ref().is_err_and(|error| error.to_string().starts_with("number out of range")) {
                continue;
            }
            let theirs = theirs.is_ok();
            prop_assert_eq!(ours, theirs, "{:?}", value);
        }
    }
}

/// As `text_of`, with the secret in every leaf below what a rule of `CONFIG` names.
fn judged_with(tree: &Tree, way: &mut Vec<Step>, secret: &str) -> String {
    let covered = (0..=way.len()).any(|length| !matches!(by_actions(&way[..length], tree), Fate::Stays));
    match tree {
        Tree::Leaf(text) if covered && text.starts_with('"') => format!("\"{secret}\""),
        Tree::Leaf(text) if covered && text != "null" => secret.to_owned(),
        Tree::Leaf(text) => text.clone(),
        Tree::Object(members) => {
            let mut parts = Vec::new();
            for (name, spelled, value) in members {
                way.push(Step::Name(name.clone()));
                parts.push(format!("\"{spelled}\":{}", judged_with(value, way, secret)));
                way.pop();
            }
            format!("{{{}}}", parts.join(","))
        }
        Tree::Array(items) => {
            let mut parts = Vec::new();
            for (index, value) in items.iter().enumerate() {
                way.push(Step::Item(index));
                parts.push(judged_with(value, way, secret));
                way.pop();
            }
            format!("[{}]", parts.join(","))
        }
    }
}
