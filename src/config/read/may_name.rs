//! `pipelines_may_name` of the node's file.

use super::Context;
use super::fields::Fields;
use super::values::{list, shown, text};
use crate::may_name::{Listed, MayName};
use crate::yaml::{Kind, Node};
use crate::{Code, Located};

pub(super) fn may_name(cx: &mut Context<'_>, node: &Node) -> Option<MayName> {
    let mut fields = Fields::of(cx, node, "`pipelines_may_name`")?;
    let env = fields.optional(cx, "env", |cx, node| listing(cx, node, variable)).unwrap_or_default();
    let files = fields.optional(cx, "files", |cx, node| listing(cx, node, files)).unwrap_or_default();
    fields.finish(cx);
    Some(MayName { env, files })
}

/// An empty list says that there is none.
fn listing<T>(
    cx: &mut Context<'_>,
    node: &Node,
    read: fn(&mut Context<'_>, &Node) -> Option<Located<T>>,
) -> Option<Vec<Located<T>>> {
    match &node.kind {
        Kind::Seq(items) if items.is_empty() => Some(Vec::new()),
        _ => list(cx, node, true, read),
    }
}

fn variable(cx: &mut Context<'_>, node: &Node) -> Option<Located<String>> {
    let typed = text(cx, node)?;
    let name = typed.value.strip_suffix('*').unwrap_or(&typed.value);
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(legal) {
        let message = format!("`{}` is no name of a variable", shown(node));
        cx.say(&typed.at, Code::ValueInvalid, message, "allowed: NAME, or PREFIX* for all that begin so");
        return None;
    }
    Some(typed)
}

fn files(cx: &mut Context<'_>, node: &Node) -> Option<Located<Listed>> {
    let typed = text(cx, node)?;
    let (path, beneath) = match typed.value.strip_suffix("/**") {
        Some("") => ("/", true),
        Some(folder) => (folder, true),
        None => (typed.value.as_str(), false),
    };
    if path.contains('*') {
        let message = format!("`{}` is neither a file nor a folder", shown(node));
        cx.say(&typed.at, Code::ValueInvalid, message, "allowed: FILE, or FOLDER/** for everything beneath");
        return None;
    }
    let path = cx.resolve(path, &typed.at);
    Some(Located::new(Listed { path, beneath }, typed.at))
}
