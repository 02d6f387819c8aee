//! `secrets` of an egress rule: headers that the bridge puts on requests and the plugin never sees.

use super::Context;
use super::fields::Fields;
use super::values::secret_elsewhere;
use crate::yaml::{Entry, Kind, Node};
use crate::{Code, Located, Secret, SecretHeader, SecretSource};

/// Larger values do not fit the header bound of common servers.
const VALUE_BYTES_MAX: usize = 8 << 10;

/// Headers that frame or route a message; only the bridge's own HTTP client sets them.
const RESERVED: [&str; 13] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A map of header names to `{ env | file, prefix }`.
pub(super) fn secrets(cx: &mut Context<'_>, node: &Node) -> Option<Vec<SecretHeader>> {
    let Kind::Map(entries) = &node.kind else {
        Fields::of(cx, node, "`secrets`")?;
        return None;
    };
    if entries.is_empty() {
        let help = "write `authorization: { env: NAME, prefix: \"Bearer \" }`, or remove the key";
        cx.say(&node.at, Code::ValueInvalid, "`secrets` without a header", help);
    }
    Some(entries.iter().filter_map(|entry| header(cx, entry)).collect())
}

fn header(cx: &mut Context<'_>, entry: &Entry) -> Option<SecretHeader> {
    let legal = is_header(cx, entry);
    let value = value(cx, &entry.value);
    let (value, source) = value?;
    let name = Located::new(entry.key.clone(), entry.key_at.clone());
    legal.then_some(SecretHeader { name, value, source })
}

fn is_header(cx: &mut Context<'_>, entry: &Entry) -> bool {
    const NAME_BYTES_MAX: usize = 128;
    let name = entry.key.as_str();
    let shown: String = name.chars().take(60).collect();
    let token = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "!#$%&'*+-.^_`|~".contains(c);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(token) {
        let lower = name.to_ascii_lowercase();
        let help = match lower != name && !lower.is_empty() && lower.chars().all(token) {
            true => format!("write `{}`", lower.chars().take(60).collect::<String>()),
            false => "allowed: a-z, 0-9 and - in lower case, such as authorization or x-api-key".to_owned(),
        };
        cx.say(&entry.key_at, Code::ValueInvalid, format!("`{shown}` is no name of a header"), help);
        return false;
    }
    if RESERVED.contains(&name) {
        let message = format!("`{shown}` is a header that only the bridge's HTTP client sets");
        cx.say(&entry.key_at, Code::ValueInvalid, message, "use the header that the server reads its key from");
        return false;
    }
    true
}

fn value(cx: &mut Context<'_>, node: &Node) -> Option<(Located<Secret>, SecretSource)> {
    const FORMS: &str = "allowed: { env: NAME } or { file: path }, either with a prefix such as \"Bearer \"";
    match &node.kind {
        Kind::Broken => return None,
        Kind::Map(_) => {}
        _ => {
            let message = "a secret that stands in a pipeline file is none: it comes from the environment or a file";
            cx.say(&node.at, Code::TypeWrong, message, FORMS);
            return None;
        }
    }
    let mut fields = Fields::of(cx, node, "a secret")?;
    let prefix = match fields.optional(cx, "prefix", |_, node| Some(node)) {
        None => String::new(),
        Some(Node { kind: Kind::Scalar(scalar), .. }) => scalar.text.clone(),
        Some(node) => {
            let message = format!("expected text before the secret, found {}", node.describe());
            cx.say(&node.at, Code::TypeWrong, message, "such as prefix: \"Bearer \"");
            return None;
        }
    };
    let (secret, source) = secret_elsewhere(cx, node, &mut fields, FORMS)?;
    let whole = format!("{prefix}{}", secret.expose());
    let inner = |c: char| c.is_ascii_graphic() || c == ' ' || c == '\t';
    if whole.is_empty() || whole.trim() != whole || !whole.chars().all(inner) || whole.len() > VALUE_BYTES_MAX {
        let message = "the secret, with its prefix, is no value of a header";
        let help = "allowed: visible ASCII with blanks inside only, at most 8KiB; the last line break of a file is cut";
        cx.say(&node.at, Code::ValueInvalid, message, help);
        return None;
    }
    Some((Located::new(Secret::new(whole), node.at.clone()), source))
}
