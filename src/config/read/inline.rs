use std::path::Path;

use serde_json::{Map, Number, Value};

use super::Context;
use super::values::path;
use crate::yaml::{Document, Kind, Node, Plain, Scalar, parse_literal};
use crate::{Code, Diagnostics, Located, Location, PluginConfig, ReadError};

/// A schema or table that is inlined. Larger ones would be copied into every instance of the plugin.
const INLINE_BYTES_MAX: u64 = 4 << 20;

/// The `config:` of a plugin: any YAML, with `{ $file: path }` replaced by what the file holds.
pub(super) fn plugin_config(cx: &mut Context<'_>, node: &Node) -> Option<Located<PluginConfig>> {
    Some(Located::new(value(cx, node)?, node.at.clone()))
}

fn value(cx: &mut Context<'_>, node: &Node) -> Option<PluginConfig> {
    match &node.kind {
        Kind::Broken => None,
        Kind::Scalar(scalar) => {
            let json = plain(cx, scalar, &node.at)?;
            let typed = scalar.typed.as_ref().map(|typed| Value::from(typed.as_str()));
            // A text that looks like a variable is not locked as one.
            let literal =
                || json.as_str().filter(|text| text.contains("${")).map(|text| text.replace('$', "$$").into());
            Some(PluginConfig { typed: typed.or_else(literal), json, keys: Vec::new(), files: Vec::new() })
        }
        Kind::Seq(items) => {
            // All items are read before one that failed ends it, so that every error is said.
            let items: Vec<Option<PluginConfig>> = items.iter().map(|item| value(cx, item)).collect();
            items.into_iter().collect::<Option<Vec<_>>>().map(|items| joined(items, |items| items.collect()))
        }
        Kind::Map(entries) => match entries.as_slice() {
            [entry] if entry.key == "$file" => file(cx, &entry.value),
            entries => {
                let values: Vec<Option<PluginConfig>> = entries.iter().map(|entry| value(cx, &entry.value)).collect();
                let keys = || entries.iter().map(|entry| entry.key.clone());
                let values = values.into_iter().collect::<Option<Vec<_>>>();
                values.map(|values| {
                    let mut map = joined(values, |values| Value::Object(keys().zip(values).collect::<Map<_, _>>()));
                    map.keys.extend(entries.iter().map(|entry| Located::new(entry.key.clone(), entry.key_at.clone())));
                    map
                })
            }
        },
    }
}

/// One value of several.
fn joined(mut parts: Vec<PluginConfig>, join: impl Fn(&mut dyn Iterator<Item = Value>) -> Value) -> PluginConfig {
    let has_variables = parts.iter().any(|part| part.typed.is_some());
    let as_typed = |part: &PluginConfig| part.typed.as_ref().unwrap_or(&part.json).clone();
    let typed = has_variables.then(|| join(&mut parts.iter().map(as_typed)));
    let keys = parts.iter_mut().flat_map(|part| std::mem::take(&mut part.keys)).collect();
    let files = parts.iter_mut().flat_map(|part| std::mem::take(&mut part.files)).collect();
    PluginConfig { json: join(&mut parts.into_iter().map(|part| part.json)), typed, keys, files }
}

fn plain(cx: &mut Context<'_>, scalar: &Scalar, at: &Location) -> Option<Value> {
    match scalar.resolve() {
        Plain::Null => Some(Value::Null),
        Plain::Bool(value) => Some(Value::Bool(value)),
        Plain::Unsigned(number) => Some(number.into()),
        Plain::Negative(number) => Some(number.into()),
        Plain::Text(text) => Some(text.into()),
        Plain::Float(number) => {
            let number = Number::from_f64(number).map(Value::Number);
            if number.is_none() {
                let message = format!("`{}` has no JSON form, and a plugin gets JSON", scalar.shown());
                cx.say(at, Code::ValueInvalid, message, "in quotes it is text");
            }
            number
        }
    }
}

fn file(cx: &mut Context<'_>, node: &Node) -> Option<PluginConfig> {
    let file = path(cx, node)?;
    let bytes = read_file(cx, &file.value, &file.at, INLINE_BYTES_MAX)?;
    let extension = file.value.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let json = match extension {
        "json" => json(cx, &file, &bytes),
        "yaml" | "yml" => yaml(cx, &file, &bytes),
        _ => {
            let message = format!("`{}` is neither JSON nor YAML by its name", file.value.display());
            cx.say(&file.at, Code::ValueInvalid, message, "allowed: .json, .yaml, .yml");
            None
        }
    }?;
    Some(PluginConfig { json, typed: None, keys: Vec::new(), files: vec![file] })
}

fn json(cx: &mut Context<'_>, file: &Located<std::path::PathBuf>, bytes: &[u8]) -> Option<Value> {
    match serde_json::from_slice(bytes) {
        Ok(value) => Some(value),
        Err(error) => {
            // serde_json's own text repeats line and column, and quotes no value.
            let message = error.to_string();
            let message = message.split(" at line ").next().unwrap_or_default();
            let (line, col) = (error.line(), error.column());
            let message = format!("{}:{line}:{col}: not JSON: {message}", file.value.display());
            cx.say(&file.at, Code::ValueInvalid, message, "mend the file that is named here");
            None
        }
    }
}

fn yaml(cx: &mut Context<'_>, file: &Located<std::path::PathBuf>, bytes: &[u8]) -> Option<Value> {
    let mut found = Diagnostics::new();
    let document = parse_literal(&file.value.display().to_string(), bytes, &mut found);
    cx.found.extend(found);
    match document {
        Document::Tree(node) => literal(cx, &node),
        Document::Empty(_) => Some(Value::Null),
        Document::Failed => None,
    }
}

/// As `value`, without files in files: a file that names itself would have no end.
fn literal(cx: &mut Context<'_>, node: &Node) -> Option<Value> {
    match &node.kind {
        Kind::Seq(items) => items.iter().map(|item| literal(cx, item)).collect::<Option<Vec<_>>>().map(Value::Array),
        Kind::Map(entries) => entries
            .iter()
            .map(|entry| Some((entry.key.clone(), literal(cx, &entry.value)?)))
            .collect::<Option<Map<_, _>>>()
            .map(Value::Object),
        Kind::Scalar(scalar) => plain(cx, scalar, &node.at),
        Kind::Broken => None,
    }
}

/// The bytes of a file that a configuration names.
pub(super) fn read_file(cx: &mut Context<'_>, path: &Path, at: &Location, bytes_max: u64) -> Option<Vec<u8>> {
    match crate::read_file(path, bytes_max) {
        Ok(bytes) => Some(bytes),
        Err(ReadError::TooLarge { bytes_max }) => {
            let message = format!("`{}` holds more than {}", path.display(), crate::format_size(bytes_max));
            cx.say(at, Code::FileTooLarge, message, "use a smaller file");
            None
        }
        Err(error) => {
            let message = format!("cannot read `{}`: {error}", path.display());
            cx.say(at, Code::FileUnreadable, message, "a relative path is from the folder of the file that names it");
            None
        }
    }
}
