//! The JSON Schema of both files, for editors: they complete keys, show what each means and mark what is wrong while it is typed.
//!
//! It knows keys, types and words. What only the reader can know (does the profile exist, is the rule canonical) is its own.

use serde_json::{Map, Value, json};

/// Every definition, by name. Those that have a title are maps; a test holds their keys against what the reader asks for.
const DEFINITIONS: &str = include_str!("schema/definitions.json");

/// Which file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaOf {
    /// A pipeline file.
    Pipeline,
    /// The node's file.
    Node,
}

/// The schema of a file, in the dialect 2020-12 of <https://json-schema.org/draft/2020-12/schema>.
pub fn schema(of: SchemaOf) -> Value {
    let definitions: Map<String, Value> = serde_json::from_str(DEFINITIONS).unwrap_or_default();
    let root = match of {
        SchemaOf::Pipeline => "pipeline",
        SchemaOf::Node => "node",
    };
    let mut needed = vec![root.to_owned()];
    let mut next = 0;
    while let Some(name) = needed.get(next).cloned() {
        if let Some(definition) = definitions.get(&name) {
            references(definition, &mut needed);
        }
        next += 1;
    }
    let used: Map<String, Value> = definitions.into_iter().filter(|(name, _)| needed.contains(name)).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$ref": format!("#/$defs/{root}"),
        "$defs": used,
    })
}

fn references(value: &Value, names: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            if let Some(name) = map.get("$ref").and_then(Value::as_str).and_then(|at| at.strip_prefix("#/$defs/"))
                && !names.iter().any(|known| known == name)
            {
                names.push(name.to_owned());
            }
            map.values().for_each(|value| references(value, names));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, names)),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
