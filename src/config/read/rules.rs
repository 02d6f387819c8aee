use std::time::Duration;

use portcullis_policy::{RuleError, RuleText};

use super::Context;
use super::fields::Fields;
use super::values::{boolean, list, shown, text};
use crate::egress::RulePlaces;
use crate::yaml::{Kind, Node, Plain};
use crate::{Code, Located, Location, parse_duration};

/// The text of a rule as it is to be read, also an empty one: what is wrong with it the policy says.
pub(super) struct Typed {
    pub(super) text: String,
    pub(super) at: Location,
}

impl Typed {
    /// The rule without any field.
    pub(super) fn alone(&self) -> RuleText<'_> {
        RuleText {
            allow: &self.text,
            methods: None,
            paths: None,
            addresses: None,
            ttl: None,
            sni_pin: false,
            dns_port: false,
            dangerous: false,
        }
    }
}

pub(super) fn rule_text(cx: &mut Context<'_>, node: &Node) -> Option<Typed> {
    let found = match &node.kind {
        Kind::Broken => return None,
        Kind::Scalar(scalar) if scalar.typed.is_some() || matches!(scalar.resolve(), Plain::Text(_)) => {
            return Some(Typed { text: scalar.text.clone(), at: node.at.clone() });
        }
        _ => node.describe(),
    };
    let help = "write proto://host:port, such as \"https://api.example.com\" or \"tcp://10.1.2.3:5432\"";
    cx.say(&node.at, Code::TypeWrong, format!("expected a rule, found {found}"), help);
    None
}

/// Whether variables were put into any part of it.
pub(super) fn uses_variables(node: &Node) -> bool {
    match &node.kind {
        Kind::Scalar(scalar) => scalar.typed.is_some(),
        Kind::Seq(items) => items.iter().any(uses_variables),
        Kind::Map(entries) => entries.iter().any(|entry| uses_variables(&entry.value)),
        Kind::Broken => false,
    }
}

/// Each text of a list that may be empty, as `read` understands it. Errors are said under the policy's names.
pub(super) fn rules<T>(
    cx: &mut Context<'_>,
    node: &Node,
    read: impl Fn(&str) -> Result<T, Vec<RuleError>>,
) -> Option<Vec<Located<T>>> {
    let Kind::Seq(items) = &node.kind else {
        if !matches!(node.kind, Kind::Broken) {
            let message = format!("expected a list of rules, found {}", node.describe());
            cx.say(
                &node.at,
                Code::TypeWrong,
                message,
                "write `[\"tcp://10.0.0.0/8:22\"]`, or a line with `- ` for each",
            );
        }
        return None;
    };
    let rules = items.iter().filter_map(|item| {
        let typed = rule_text(cx, item)?;
        match read(&typed.text) {
            Ok(rule) => Some(Located::new(rule, typed.at)),
            Err(errors) => {
                let places = RulePlaces::new(&typed.at, uses_variables(item));
                errors.iter().for_each(|error| cx.found.push(places.diagnostic(error)));
                None
            }
        }
    });
    Some(rules.collect())
}

/// A list of texts, or one text.
pub(super) fn texts(
    cx: &mut Context<'_>,
    fields: &mut Fields<'_>,
    key: &'static str,
    places: &mut RulePlaces,
) -> Option<Vec<String>> {
    let (at, items) = fields.optional(cx, key, |cx, node| {
        let items: Vec<Located<String>> = list(cx, node, true, text)?;
        Some((node.at.clone(), items))
    })?;
    let (texts, item_places) = items.into_iter().map(|item| (item.value, item.at)).unzip();
    places.fields.push((key, at, item_places));
    Some(texts)
}

/// `5s..300s`, or one duration for both ends. Which ends are allowed the policy says.
pub(super) fn range(
    cx: &mut Context<'_>,
    fields: &mut Fields<'_>,
    key: &'static str,
    places: &mut RulePlaces,
) -> Option<(Duration, Duration)> {
    let (at, range) = fields.optional(cx, key, |cx, node| {
        let typed = text(cx, node)?;
        let (min, max) = typed.value.split_once("..").unwrap_or((&typed.value, &typed.value));
        let range = parse_duration(min.trim()).ok().zip(parse_duration(max.trim()).ok());
        if range.is_none() {
            let message = format!("`{}` is no range of times", shown(node));
            cx.say(&typed.at, Code::Other("ttl_invalid"), message, "allowed: shortest..longest, within 5s..300s");
        }
        Some((typed.at, range?))
    })?;
    places.fields.push((key, at, Vec::new()));
    Some(range)
}

/// `true` or `false`. One that cannot be read counts as typed, so that its absence is not said too.
pub(super) fn flag(cx: &mut Context<'_>, fields: &mut Fields<'_>, key: &'static str, places: &mut RulePlaces) -> bool {
    let flag = fields.optional(cx, key, boolean);
    match flag {
        Some(flag) => {
            places.fields.push((key, flag.at, Vec::new()));
            flag.value
        }
        None => fields.entry(key).is_some(),
    }
}
