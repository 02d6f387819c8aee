//! What an operator could write under `grants:` so that a plugin works: a rule for each place that its manifest or its
//! configuration names. Where neither names one it is a rule with a place to fill in, which no reader takes for a real one.

use portcullis_policy::{Rule, RuleText};
use serde_json::Value;

use crate::plugin::{Examined, Wish};

/// What stands for a host in a rule that somebody has to complete. No name has such a character, so a rule that was left as it
/// is is refused.
const HOST: &str = "<host>";
/// More than these would be a list that nobody reads before it is granted.
const NAMED_MAX: usize = 8;

/// The least that an operator could write under `grants:`.
pub(crate) fn least(wish: Wish, destinations: &[String], examined: &Examined) -> String {
    match wish {
        Wish::Log => "log: info".to_owned(),
        Wish::Clock => "clock: coarse".to_owned(),
        Wish::Random => "random: true".to_owned(),
        Wish::Egress if destinations.is_empty() => format!("egress: [{}]", items(&[to_complete(examined)])),
        Wish::Egress => format!("egress: [{}]", items(destinations)),
    }
}

/// The items of an egress list.
pub(crate) fn items(destinations: &[String]) -> String {
    let items: Vec<String> = destinations.iter().map(|to| format!("{{ allow: \"{to}\" }}")).collect();
    items.join(", ")
}

/// What to say beside a suggestion that has a place to fill in.
pub(crate) fn to_fill_in(suggestion: &str) -> Option<&'static str> {
    suggestion.contains(HOST).then_some(
        "`<host>` stands for a host that it may reach, since nothing names one; with `egress: []` it is linked, and every call is refused",
    )
}

/// The form of a rule by what the component imports.
fn to_complete(examined: &Examined) -> String {
    let imports = |prefix: &str| examined.imports.iter().any(|import| import.interface.starts_with(prefix));
    let is_udp = imports("wasi:sockets/udp") && !imports("wasi:sockets/tcp");
    match (imports("wasi:sockets/"), imports("wasi:http/"), is_udp) {
        (true, false, true) => format!("udp://{HOST}:<port>"),
        (true, false, false) => format!("tcp://{HOST}:<port>"),
        _ => format!("https://{HOST}"),
    }
}

/// The places that the URLs of a configuration name, as rules. It is given as it was typed, since a suggestion is printed and
/// a variable may hold a secret.
pub(crate) fn named(config: &str) -> Vec<String> {
    let mut rules = Vec::new();
    if let Ok(value) = serde_json::from_str(config) {
        walk(&value, &mut rules);
    }
    rules
}

fn walk(value: &Value, rules: &mut Vec<String>) {
    match value {
        Value::String(text) => {
            let rule = rule_of(text).filter(|rule| rules.len() < NAMED_MAX && !rules.contains(rule));
            rules.extend(rule);
        }
        Value::Array(items) => items.iter().for_each(|item| walk(item, rules)),
        Value::Object(entries) => entries.values().for_each(|item| walk(item, rules)),
        _ => {}
    }
}

fn rule_of(text: &str) -> Option<String> {
    let text = &with_defaults(text);
    let (scheme, rest) = text.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let allow = format!("{scheme}://{}", rest.get(..end)?);
    // What is no rule by itself, such as a URL with a password or a variable in it, is nothing to suggest.
    let rule = Rule::parse(&RuleText { allow: &allow, ..RuleText::default() }).ok()?;
    Some(rule.to_string())
}

/// With the default of each variable that has one: it stands in the file.
fn with_defaults(text: &str) -> String {
    let mut pieces = text.split("${");
    let mut filled = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        match piece.split_once('}').and_then(|(variable, rest)| Some((variable.split_once(":-")?.1, rest))) {
            Some((default, rest)) => filled.extend([default, rest]),
            None => filled.extend(["${", piece]),
        }
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_urls_of_a_configuration_become_rules_and_what_may_be_a_secret_does_not() {
        let config = r#"{ "url": "https://rates.example.com/v1/{base}?x=1", "more": ["http://a.example.com:8080", "https://rates.example.com/v2"],
            "secret": "https://user:word@b.example.com/", "variable": "https://${HOST}/x", "text": "see https", "number": 3 }"#;
        // The order is that of the keys.
        assert_eq!(named(config), ["http://a.example.com:8080", "https://rates.example.com"]);
        assert_eq!(named(r#"["${RATES:-https://a.example.com}/v1/{x}"]"#), ["https://a.example.com"]);
        assert_eq!(named("no json"), [""; 0]);
        let many: Vec<String> = (0..50).map(|number| format!("\"https://h{number}.example.com\"")).collect();
        assert_eq!(named(&format!("[{}]", many.join(","))).len(), NAMED_MAX);
    }

    #[test]
    fn a_place_to_fill_in_is_no_rule() {
        for form in ["https://<host>", "tcp://<host>:<port>", "udp://<host>:<port>"] {
            assert!(Rule::parse(&RuleText { allow: form, ..RuleText::default() }).is_err(), "{form}");
        }
    }
}
