//! Where messages go: a topic or a subject, fixed or by template, with the patterns that the result of a template must match.

use super::Context;
use super::fields::Fields;
use super::values::{list, shown, text};
use crate::yaml::Node;
use crate::{Code, Located, Template, nearest};

/// Topics, or subjects.
pub(super) struct Place {
    /// The key, and the word for people.
    pub(super) key: &'static str,
    pub(super) is_legal: fn(&str) -> bool,
    /// What something illegal is not.
    pub(super) legal: &'static str,
    pub(super) help: &'static str,
}

/// A legal template, and the patterns of `allow`: empty where the place is fixed.
pub(super) type Destination = (Option<Located<Template>>, Vec<Located<String>>);

/// Reads the place's key and `allow`. Only where `templates` says so may messages choose.
pub(super) fn destination(
    cx: &mut Context<'_>,
    fields: &mut Fields<'_>,
    place: &Place,
    templates: bool,
) -> Destination {
    let chosen = fields.required(cx, place.key, |cx, node| template(cx, node, place, templates));
    let allow = fields.optional(cx, "allow", |cx, node| list(cx, node, true, |cx, node| pattern(cx, node, place.key)));
    if let Some(chosen) = &chosen {
        check_allow(cx, chosen, fields, place.key);
    }
    (chosen, allow.unwrap_or_default())
}

/// What topics and the tokens of subjects are made of.
pub(super) fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

fn template(cx: &mut Context<'_>, node: &Node, place: &Place, templates: bool) -> Option<Located<Template>> {
    let typed = text(cx, node)?;
    let template = match Template::parse(&typed.value) {
        Ok(template) => template,
        Err(message) => {
            cx.say(&typed.at, Code::ValueInvalid, message, "allowed: {{key}}, {{channel}}, {{header.NAME}}");
            return None;
        }
    };
    match template.fixed() {
        Some(name) if !(place.is_legal)(name) => {
            let message = format!("`{}` is no {}", shown(node), place.legal);
            cx.say(&typed.at, Code::ValueInvalid, message, place.help);
            None
        }
        None if !templates => {
            let what = place.key;
            let message = format!("a message must not choose where it is kept as evidence: the {what} here is fixed");
            cx.say(&typed.at, Code::ValueInvalid, message, format!("write the {what}"));
            None
        }
        _ => Some(Located::new(template, typed.at)),
    }
}

fn pattern(cx: &mut Context<'_>, node: &Node, of: &'static str) -> Option<Located<String>> {
    let pattern = text(cx, node)?;
    if !pattern.chars().all(|c| is_name_char(c) || c == '*') {
        let message = format!("`{}` is no pattern of {of}s", shown(node));
        cx.say(
            &pattern.at,
            Code::ValueInvalid,
            message,
            "allowed: letters, digits, `.`, `_`, `-`, and `*` for any characters but `.`",
        );
        return None;
    }
    Some(pattern)
}

/// `allow` is there exactly where messages choose.
fn check_allow(cx: &mut Context<'_>, template: &Located<Template>, fields: &Fields<'_>, what: &'static str) {
    match (template.fixed(), fields.entry("allow")) {
        (None, None) => {
            let message = format!("a {what} that messages choose needs `allow`");
            cx.say(
                &template.at,
                Code::KeyMissing,
                message,
                "add the patterns that the result must match, such as `allow: [\"orders.*\"]`",
            );
        }
        (Some(_), Some(entry)) => {
            let help =
                nearest::help("remove it; of effect only beside", None, ["{{key}}", "{{channel}}", "{{header.NAME}}"]);
            cx.say(&entry.key_at, Code::KeyConflict, format!("`allow` has no effect: the {what} is fixed"), help);
        }
        _ => {}
    }
}
