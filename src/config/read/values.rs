use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::Context;
use super::fields::Fields;
use crate::file::irregular;
use crate::may_name::Purpose;
use crate::yaml::{Kind, Node, Plain, Scalar};
use crate::{
    Code, Located, Location, Rate, Secret, SecretSource, format_duration, format_size, nearest, parse_duration,
    parse_rate, parse_size,
};

/// The scalar of a node that is one.
fn scalar<'n>(cx: &mut Context<'_>, node: &'n Node, expected: &str) -> Option<&'n Scalar> {
    match &node.kind {
        Kind::Scalar(scalar) if !node.is_null() => Some(scalar),
        Kind::Broken => None,
        _ => {
            cx.say(
                &node.at,
                Code::TypeWrong,
                format!("expected {expected}, found {}", node.describe()),
                "remove the key to have its default, or give it a value",
            );
            None
        }
    }
}

fn invalid(cx: &mut Context<'_>, at: &Location, message: String, help: impl Into<String>) {
    cx.say(at, Code::ValueInvalid, message, help);
}

/// Text that is not empty. A number, or a truth value, that was typed without quotes is more often a mistake than text.
pub(super) fn text(cx: &mut Context<'_>, node: &Node) -> Option<Located<String>> {
    let scalar = scalar(cx, node, "text")?;
    if scalar.typed.is_none() && !matches!(scalar.resolve(), Plain::Text(_)) {
        let message = format!("expected text, found {}", scalar.resolve().describe());
        cx.say(&node.at, Code::TypeWrong, message, format!("in quotes it is text: \"{}\"", scalar.shown()));
        return None;
    }
    if scalar.text.trim().is_empty() {
        invalid(cx, &node.at, "expected text, found none".to_owned(), "remove the key, or give it a value");
        return None;
    }
    if scalar.text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        invalid(cx, &node.at, "a control character in a text".to_owned(), "remove it");
        return None;
    }
    Some(Located::new(scalar.text.clone(), node.at.clone()))
}

/// Any text, also an empty one.
pub(super) fn any_text(cx: &mut Context<'_>, node: &Node) -> Option<Located<String>> {
    match &node.kind {
        Kind::Scalar(scalar) if scalar.text.is_empty() && !node.is_null() => {
            Some(Located::new(String::new(), node.at.clone()))
        }
        _ => text(cx, node),
    }
}

/// A name of ours: it becomes a metric label, a client id and part of a message id.
pub(super) fn name(cx: &mut Context<'_>, node: &Node) -> Option<Located<String>> {
    let name = text(cx, node)?;
    if !is_name(&name.value) {
        let message = format!("`{}` is no name", shown(node));
        invalid(cx, &name.at, message, NAME_HELP);
        return None;
    }
    Some(name)
}

const NAME_HELP: &str = "allowed: a-z, 0-9 and -, beginning with a letter or digit, at most 63 characters";

fn is_name(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !name.starts_with('-') && (1..=63).contains(&name.len()) && name.chars().all(legal)
}

/// A key of a map that names something of ours.
pub(super) fn key_is_name(cx: &mut Context<'_>, key: &str, at: &Location) -> bool {
    let legal = is_name(key);
    if !legal {
        invalid(cx, at, format!("`{}` is no name", key.chars().take(60).collect::<String>()), NAME_HELP);
    }
    legal
}

/// What messages may show of a scalar.
pub(super) fn shown(node: &Node) -> String {
    match &node.kind {
        Kind::Scalar(scalar) => scalar.shown(),
        _ => node.describe().to_owned(),
    }
}

/// One of a closed list.
pub(super) fn choice<T: Copy>(cx: &mut Context<'_>, node: &Node, choices: &[(&'static str, T)]) -> Option<Located<T>> {
    choice_or_refused(cx, node, choices, &[])
}

/// One of a closed list; others are known and refused with their reason.
pub(super) fn choice_or_refused<T: Copy>(
    cx: &mut Context<'_>,
    node: &Node,
    choices: &[(&'static str, T)],
    refused: &[(&'static str, &'static str)],
) -> Option<Located<T>> {
    let names = || choices.iter().map(|(name, _)| *name);
    let scalar = scalar(cx, node, &format!("one of {}", names().collect::<Vec<_>>().join(", ")))?;
    if let Some((_, value)) = choices.iter().find(|(name, _)| *name == scalar.text) {
        return Some(Located::new(*value, node.at.clone()));
    }
    let known = refused.iter().find(|(name, _)| *name == scalar.text);
    let (code, message) = match known {
        Some((name, reason)) => (Code::SettingNotAvailable, format!("`{name}` {reason}")),
        None => (Code::ValueInvalid, format!("`{}` is not allowed here", scalar.shown())),
    };
    // What a variable held is compared and not shown.
    let found = (known.is_none() && scalar.typed.is_none()).then_some(scalar.text.as_str());
    cx.say(&node.at, code, message, nearest::help("allowed", found, names()));
    None
}

/// A whole number.
pub(super) fn integer(cx: &mut Context<'_>, node: &Node, range: RangeInclusive<u64>) -> Option<Located<u64>> {
    let scalar = scalar(cx, node, "a whole number")?;
    let unquoted = Scalar { plain: scalar.plain || scalar.typed.is_some(), ..scalar.clone() };
    let help = format!("allowed: {} to {}", range.start(), range.end());
    match unquoted.resolve() {
        Plain::Unsigned(number) if range.contains(&number) => Some(Located::new(number, node.at.clone())),
        Plain::Unsigned(_) | Plain::Negative(_) | Plain::Float(_) => {
            invalid(cx, &node.at, format!("`{}` is out of range", scalar.shown()), help);
            None
        }
        _ => {
            let digits = scalar.text.chars().filter(|c| *c != '_').all(|c| c.is_ascii_digit());
            let hint = if digits { "; write digits only, without quotes and without `_`" } else { "" };
            let message = format!("expected a whole number, found `{}`", scalar.shown());
            cx.say(&node.at, Code::TypeWrong, message, format!("{help}{hint}"));
            None
        }
    }
}

/// A whole number of 32 bits.
pub(super) fn integer_u32(cx: &mut Context<'_>, node: &Node, range: RangeInclusive<u32>) -> Option<Located<u32>> {
    let located = integer(cx, node, u64::from(*range.start())..=u64::from(*range.end()))?;
    u32::try_from(located.value).ok().map(|value| Located::new(value, located.at))
}

/// `true` or `false`.
pub(super) fn boolean(cx: &mut Context<'_>, node: &Node) -> Option<Located<bool>> {
    let scalar = scalar(cx, node, "true or false")?;
    let unquoted = Scalar { plain: scalar.plain || scalar.typed.is_some(), ..scalar.clone() };
    if let Plain::Bool(value) = unquoted.resolve() {
        return Some(Located::new(value, node.at.clone()));
    }
    let message = format!("expected true or false, found `{}`", scalar.shown());
    cx.say(&node.at, Code::TypeWrong, message, "allowed: true, false");
    None
}

/// A duration within bounds.
pub(super) fn duration(
    cx: &mut Context<'_>,
    node: &Node,
    range: RangeInclusive<Duration>,
) -> Option<Located<Duration>> {
    let scalar = scalar(cx, node, "a duration")?;
    let allowed = format!("allowed: {} to {}", format_duration(*range.start()), format_duration(*range.end()));
    match parse_duration(&scalar.text) {
        Ok(duration) if range.contains(&duration) => Some(Located::new(duration, node.at.clone())),
        Ok(_) => {
            invalid(cx, &node.at, format!("`{}` is out of range", scalar.shown()), allowed);
            None
        }
        Err(error) => {
            invalid(cx, &node.at, format!("`{}` is no duration: {error}", scalar.shown()), allowed);
            None
        }
    }
}

/// A number of bytes within bounds.
pub(super) fn size(cx: &mut Context<'_>, node: &Node, range: RangeInclusive<u64>) -> Option<Located<u64>> {
    let scalar = scalar(cx, node, "a size")?;
    let allowed = format!("allowed: {} to {}", format_size(*range.start()), format_size(*range.end()));
    match parse_size(&scalar.text) {
        Ok(size) if range.contains(&size) => Some(Located::new(size, node.at.clone())),
        Ok(_) => {
            invalid(cx, &node.at, format!("`{}` is out of range", scalar.shown()), allowed);
            None
        }
        Err(error) => {
            invalid(cx, &node.at, format!("`{}` is no size: {error}", scalar.shown()), allowed);
            None
        }
    }
}

/// A rate; a number alone is a second's where `per_second` says so.
pub(super) fn rate(cx: &mut Context<'_>, node: &Node, per_second: bool) -> Option<Located<Rate>> {
    let scalar = scalar(cx, node, "a rate")?;
    let alone = per_second && !scalar.text.is_empty() && scalar.text.chars().all(|c| c.is_ascii_digit());
    let parsed = if alone { parse_rate(&format!("{}/s", scalar.text)) } else { parse_rate(&scalar.text) };
    match parsed {
        Ok(rate) => Some(Located::new(rate, node.at.clone())),
        Err(error) => {
            invalid(
                cx,
                &node.at,
                format!("`{}` is no rate: {error}", scalar.shown()),
                "allowed: 100/s, 5/min, 10/h and the like",
            );
            None
        }
    }
}

/// A path, from the folder of the file, that the file may name.
pub(super) fn path(cx: &mut Context<'_>, node: &Node) -> Option<Located<PathBuf>> {
    path_for(cx, node, Purpose::Plain)
}

/// The same for a file that another library opens: a pipe would make it wait.
pub(super) fn path_of_file(cx: &mut Context<'_>, node: &Node) -> Option<Located<PathBuf>> {
    file_for(cx, node, Purpose::Plain)
}

/// The same for a file that proves to somebody who we are: where it lies is no consent to that.
pub(super) fn path_of_secret_file(cx: &mut Context<'_>, node: &Node) -> Option<Located<PathBuf>> {
    file_for(cx, node, Purpose::Secret)
}

fn file_for(cx: &mut Context<'_>, node: &Node, purpose: Purpose) -> Option<Located<PathBuf>> {
    let path = path_for(cx, node, purpose)?;
    if let Some(error) = irregular(&path) {
        cx.say(&path.at, Code::FileUnreadable, format!("cannot read `{}`: {error}", shown(node)), "name a file");
        return None;
    }
    Some(path)
}

fn path_for(cx: &mut Context<'_>, node: &Node, purpose: Purpose) -> Option<Located<PathBuf>> {
    let typed = text(cx, node)?;
    let path = cx.resolve(&typed.value, &typed.at);
    cx.names.push(path.clone());
    cx.may_name(&path, &shown(node), &typed.at, purpose).then(|| Located::new(path, typed.at))
}

/// Each item of a list that is not empty; a value alone is a list of one where `single` says so.
pub(super) fn list<'n, T>(
    cx: &mut Context<'_>,
    node: &'n Node,
    single: bool,
    mut read: impl FnMut(&mut Context<'_>, &'n Node) -> Option<T>,
) -> Option<Vec<T>> {
    match &node.kind {
        Kind::Seq(items) if items.is_empty() => {
            invalid(cx, &node.at, "an empty list".to_owned(), "give it at least one item");
            None
        }
        Kind::Seq(items) => Some(items.iter().filter_map(|item| read(cx, item)).collect()),
        Kind::Broken => None,
        _ if single && !node.is_null() => read(cx, node).map(|item| vec![item]),
        _ => {
            let message = format!("expected a list, found {}", node.describe());
            cx.say(&node.at, Code::TypeWrong, message, "write `[a, b]`, or a line with `- ` for each item");
            None
        }
    }
}

/// A password: text, `{ env: NAME }` or `{ file: path }`. No message shows any of it.
pub(super) fn secret(cx: &mut Context<'_>, node: &Node) -> Option<Located<Secret>> {
    const FORMS: &str = "allowed: { env: NAME }, { file: path }, or text with ${NAME}";
    match &node.kind {
        Kind::Broken => None,
        // `password: 12345` means the text.
        Kind::Scalar(scalar) if !scalar.text.is_empty() => {
            Some(Located::new(Secret::new(scalar.text.clone()), node.at.clone()))
        }
        Kind::Map(_) => {
            let mut fields = Fields::of(cx, node, "a secret")?;
            secret_elsewhere(cx, node, &mut fields, FORMS).map(|(secret, _)| secret)
        }
        _ => {
            cx.say(&node.at, Code::TypeWrong, format!("expected a secret, found {}", node.describe()), FORMS);
            None
        }
    }
}

/// `env` or `file` of a map that may have other keys, which were asked for before.
pub(super) fn secret_elsewhere(
    cx: &mut Context<'_>,
    node: &Node,
    fields: &mut Fields<'_>,
    forms: &str,
) -> Option<(Located<Secret>, SecretSource)> {
    let variable = fields.optional(cx, "env", text);
    let file = fields.optional(cx, "file", |cx, node| path_for(cx, node, Purpose::Secret));
    let both = (fields.entry("env").is_some(), fields.entry("file").is_some());
    if both.0 == both.1 {
        cx.say(&node.at, Code::KeyConflict, "a secret comes from one place", forms);
        return None;
    }
    fields.finish(cx);
    let (value, source) = match (variable, file) {
        (Some(name), _) => (secret_variable(cx, &name)?, SecretSource::Env(name.value)),
        (None, Some(file)) => (secret_file(cx, &file)?, SecretSource::File(file.value)),
        (None, None) => return None,
    };
    Some((Located::new(Secret::new(value), node.at.clone()), source))
}

fn secret_variable(cx: &mut Context<'_>, name: &Located<String>) -> Option<String> {
    if let Some((message, help)) = cx.environment.refuses(&name.value) {
        cx.say(&name.at, Code::EnvNotListed, message, help);
        return None;
    }
    let value = cx.environment.var(&name.value).filter(|value| !value.is_empty());
    if value.is_none() {
        let message = format!("the environment variable `{}` is not set", name.value);
        cx.say(&name.at, Code::EnvMissing, message, "set it");
    }
    value
}

fn secret_file(cx: &mut Context<'_>, file: &Located<PathBuf>) -> Option<String> {
    const SECRET_BYTES_MAX: u64 = 64 << 10;
    let text = super::inline::read_file(cx, &file.value, &file.at, SECRET_BYTES_MAX)?;
    let text = match String::from_utf8(text) {
        Ok(text) => text,
        Err(_) => {
            cx.say(&file.at, Code::FileEncoding, "the file of this secret is not UTF-8", "save it as UTF-8");
            return None;
        }
    };
    // Editors and `echo` end a file with a line break that is not part of the password.
    let value = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    if value.is_empty() {
        cx.say(&file.at, Code::ValueInvalid, "the file of this secret is empty", "write the secret into it");
        return None;
    }
    Some(value.to_owned())
}
