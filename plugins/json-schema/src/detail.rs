//! What a rejection says. It goes to headers of the dead letter queue, so nothing of the payload may be in it.

use std::collections::BTreeSet;

use jsonschema::ValidationError;
use serde_json::Value;

/// One mistake often causes the others; a person needs the first few.
const MOST_ERRORS: usize = 5;

/// Every name that the schema contains. A name of the message that is not among them is the sender's own text.
pub(crate) fn names(schema: &Value) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut open = vec![schema];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(members) => {
                names.extend(members.keys().cloned());
                open.extend(members.values());
            }
            Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
    names
}

/// `/lines/1/sku: pattern; /amount: minimum`, with `*` for a name that the schema does not name.
pub(crate) fn describe<'a>(errors: impl Iterator<Item = ValidationError<'a>>, names: &BTreeSet<String>) -> String {
    let described: Vec<String> = errors
        .take(MOST_ERRORS)
        .map(|error| format!("{}: {}", place(error.instance_path().as_str(), names), keyword(&error)))
        .collect();
    described.join("; ")
}

/// What refuses is often the schema `false` under a keyword, as in `"additionalProperties": false`: that keyword is what the author wrote.
fn keyword(error: &ValidationError<'_>) -> String {
    let keyword = error.kind().keyword();
    let mut schema_path = error.schema_path().as_str().rsplit('/');
    match (schema_path.next(), schema_path.next()) {
        // Under these the last token is a name of the author's, however it reads.
        (_, Some("properties" | "patternProperties" | "dependentSchemas" | "$defs")) => keyword.to_owned(),
        (Some(last), _) if keyword == "falseSchema" && SCHEMAS.contains(&last) => last.to_owned(),
        _ => keyword.to_owned(),
    }
}

/// The keywords whose value is one schema.
const SCHEMAS: [&str; 8] = [
    "additionalProperties",
    "unevaluatedProperties",
    "propertyNames",
    "items",
    "unevaluatedItems",
    "then",
    "else",
    "$ref",
];

fn place(pointer: &str, names: &BTreeSet<String>) -> String {
    let mut place = String::new();
    for token in pointer.split('/').skip(1) {
        // Longer than any index of a message can be, digits are a number that the sender chose.
        let is_index = token.len() <= 7 && !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_digit());
        let is_known = is_index || names.contains(&token.replace("~1", "/").replace("~0", "~"));
        place.push('/');
        place.push_str(if is_known { token } else { "*" });
    }
    if place.is_empty() { "/".to_owned() } else { place }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_schema_does_not_name_are_hidden() {
        let names = names(&serde_json::json!({"properties": {"a/b": {}, "lines": {"items": [{"x": 1}]}}}));
        assert_eq!(place("/a~1b/0/card 4111", &names), "/a~1b/0/*");
        assert_eq!(place("/4111111111111111", &names), "/*");
        assert_eq!(place("", &names), "/");
    }
}
