//! Checks each value against a JSON Schema (draft 2020-12).
//!
//! ```yaml
//! config:
//!   schema: { $file: schemas/order.json }   # inlined by the host; `true` passes every JSON value
//!   null_value: reject                      # or pass: what becomes of a tombstone
//!   not_json: reject                        # or pass: what becomes of a value that is not JSON
//!   assert_formats: false                   # true: `format` is checked; by the standard it is only an annotation
//! ```
//!
//! Codes: `null_value`, `not_json`, `schema`. The detail of `schema` names where and which keyword, never a value, and of the names
//! in the message only those that the schema itself names.

mod detail;
#[cfg(target_arch = "wasm32")]
mod seed;

use std::collections::BTreeSet;

use jsonschema::Draft;
use portcullis_plugin::{Message, Validator, Verdict, export_validator, parse_config};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Config {
    schema: Value,
    #[serde(default)]
    null_value: Disposition,
    #[serde(default)]
    not_json: Disposition,
    #[serde(default)]
    assert_formats: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Disposition {
    #[default]
    Reject,
    Pass,
}

struct JsonSchema {
    schema: jsonschema::Validator,
    names: BTreeSet<String>,
    null_value: Disposition,
    not_json: Disposition,
}

portcullis_plugin::manifest! {
    validator,
    config_schema: r#"{
        "type": "object",
        "required": ["schema"],
        "additionalProperties": false,
        "properties": {
            "schema": { "type": ["object", "boolean"] },
            "null_value": { "enum": ["reject", "pass"] },
            "not_json": { "enum": ["reject", "pass"] },
            "assert_formats": { "type": "boolean" }
        }
    }"#,
}

export_validator!(JsonSchema);

impl Validator for JsonSchema {
    fn configure(json: &str) -> Result<Self, String> {
        let config: Config = parse_config(json)?;
        let schema = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .should_validate_formats(config.assert_formats)
            .should_ignore_unknown_formats(!config.assert_formats)
            .build(&config.schema)
            .map_err(|error| format!("config.schema{}: {error}", error.instance_path()))?;
        let names = detail::names(&config.schema);
        Ok(Self { schema, names, null_value: config.null_value, not_json: config.not_json })
    }

    fn validate(&mut self, message: &Message) -> Verdict {
        let Some(bytes) = message.value() else {
            return match self.null_value {
                Disposition::Pass => Verdict::pass(),
                Disposition::Reject => Verdict::reject("null_value", "the value is null"),
            };
        };
        let value: Value = match serde_json::from_slice(bytes) {
            Ok(value) => value,
            Err(_) if self.not_json == Disposition::Pass => return Verdict::pass(),
            // Only the place: the error's own text can quote what it found.
            Err(error) => {
                return Verdict::reject("not_json", format!("line {} column {}", error.line(), error.column()));
            }
        };
        if self.schema.is_valid(&value) {
            return Verdict::pass();
        }
        Verdict::reject("schema", detail::describe(self.schema.iter_errors(&value), &self.names))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: &str = r##"{"schema": {
        "type": "object",
        "required": ["id", "amount"],
        "properties": {
            "id": {"type": "integer"},
            "amount": {"type": "number", "minimum": 0},
            "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}}
        },
        "additionalProperties": {"type": "string"},
        "$defs": {"line": {"properties": {"sku": {"type": "string", "pattern": "^[A-Z]+$"}}}}
    }}"##;

    fn plugin(config: &str) -> JsonSchema {
        JsonSchema::configure(config).unwrap_or_else(|error| panic!("{error}"))
    }

    fn order(value: &str) -> Verdict {
        plugin(ORDER).validate(&Message::of(value))
    }

    #[test]
    fn a_value_that_fits_the_schema_passes() {
        assert_eq!(order(r#"{"id": 1, "amount": 2.5, "lines": [{"sku": "AB"}], "note": "x"}"#), Verdict::pass());
    }

    #[test]
    fn a_rejection_names_the_places_and_the_keywords() {
        let verdict = order(r#"{"id": "1", "amount": -1, "lines": [{"sku": "AB"}, {"sku": "ab"}]}"#);
        assert_eq!(verdict.code(), Some("schema"));
        let detail = verdict.detail().unwrap();
        for part in ["/id: type", "/amount: minimum", "/lines/1/sku: pattern"] {
            assert!(detail.contains(part), "{detail}");
        }
    }

    #[test]
    fn a_rejection_quotes_nothing_of_the_message() {
        let verdict = order(r#"{"id": 1, "amount": 1, "secret-name": {"x": "secret"}}"#);
        assert_eq!(verdict, Verdict::reject("schema", "/*: type"));
    }

    #[test]
    fn whichever_keyword_refuses_the_place_and_the_keyword_are_all_that_is_said() {
        for (schema, value, detail) in [
            (r#"{"properties": {"a": {"type": "integer"}}}"#, r#"{"a": "secret"}"#, "/a: type"),
            (r#"{"properties": {"a": {"enum": ["x"]}}}"#, r#"{"a": "secret"}"#, "/a: enum"),
            (r#"{"properties": {"a": {"const": 1}}}"#, r#"{"a": "secret"}"#, "/a: const"),
            (r#"{"properties": {"a": {"pattern": "^x"}}}"#, r#"{"a": "secret"}"#, "/a: pattern"),
            (r#"{"properties": {"a": {"maxLength": 2}}}"#, r#"{"a": "secret"}"#, "/a: maxLength"),
            (r#"{"properties": {"a": false}}"#, r#"{"a": "secret"}"#, "/a: falseSchema"),
            (r#"{"properties": {"a": {"items": {"multipleOf": 2}}}}"#, r#"{"a": [2, 4711]}"#, "/a/1: multipleOf"),
            (r##"{"items": {"$ref": "#/$defs/d"}, "$defs": {"d": {"minimum": 9999}}}"##, "[4711]", "/0: minimum"),
            (r#"{"anyOf": [{"type": "integer"}, {"type": "null"}]}"#, r#""secret""#, "/: anyOf"),
            (r#"{"oneOf": [{"type": "string"}, {"minLength": 1}]}"#, r#""secret""#, "/: oneOf"),
            (r#"{"not": {"type": "string"}}"#, r#""secret""#, "/: not"),
            (r#"{"propertyNames": {"maxLength": 2}}"#, r#"{"secret": 1}"#, "/: propertyNames"),
            (r#"{"additionalProperties": false}"#, r#"{"secret": 1}"#, "/: additionalProperties"),
            (r#"{"properties": {"items": false}}"#, r#"{"items": "secret"}"#, "/items: falseSchema"),
            (r#"{"prefixItems": [true], "items": false}"#, r#"[1, "secret"]"#, "/1: items"),
            (r#"{"unevaluatedProperties": false}"#, r#"{"secret": 1}"#, "/: unevaluatedProperties"),
            (r#"{"patternProperties": {"^s": {"type": "null"}}}"#, r#"{"secret": "secret"}"#, "/*: type"),
            (r#"{"uniqueItems": true}"#, r#"["secret", "secret"]"#, "/: uniqueItems"),
            (r#"{"contains": {"const": 1}}"#, r#"["secret"]"#, "/: contains"),
            (r#"{"dependentRequired": {"a": ["b"]}}"#, r#"{"a": "secret"}"#, "/: required"),
            (r#"{"if": {"type": "string"}, "then": {"maxLength": 2}}"#, r#""secret""#, "/: maxLength"),
        ] {
            let verdict = plugin(&format!(r#"{{"schema": {schema}}}"#)).validate(&Message::of(value));
            assert_eq!(verdict, Verdict::reject("schema", detail), "{schema}");
        }
    }

    #[test]
    fn what_is_missing_is_said_at_the_object_that_misses_it() {
        assert_eq!(order(r#"{"id": 1}"#), Verdict::reject("schema", "/: required"));
    }

    #[test]
    fn a_value_that_is_not_json_is_rejected_with_the_place_alone() {
        assert_eq!(order("{\"id\": secret}"), Verdict::reject("not_json", "line 1 column 8"));
        assert_eq!(order("").code(), Some("not_json"));
        assert_eq!(order("{} {}").code(), Some("not_json"));
    }

    #[test]
    fn a_nesting_without_end_is_not_json_and_does_not_exhaust_the_stack() {
        assert_eq!(order(&"[".repeat(100_000)).code(), Some("not_json"));
    }

    #[test]
    fn a_tombstone_is_rejected_unless_the_operator_lets_it_pass() {
        assert_eq!(plugin(ORDER).validate(&Message::tombstone()).code(), Some("null_value"));
        let mut lenient = plugin(r#"{"schema": {"type": "object"}, "null_value": "pass"}"#);
        assert_eq!(lenient.validate(&Message::tombstone()), Verdict::pass());
    }

    #[test]
    fn the_schema_true_with_both_dispositions_passes_everything() {
        let mut all = plugin(r#"{"schema": true, "null_value": "pass", "not_json": "pass"}"#);
        for message in [Message::tombstone(), Message::of(""), Message::of([0xff, 0x00]), Message::of("[1]")] {
            assert_eq!(all.validate(&message), Verdict::pass());
        }
    }

    #[test]
    fn formats_are_checked_only_where_the_operator_asks_for_it() {
        let mut lax = plugin(r#"{"schema": {"format": "date-time"}}"#);
        assert_eq!(lax.validate(&Message::of("\"yesterday\"")), Verdict::pass());
        let mut strict = plugin(r#"{"schema": {"format": "date-time"}, "assert_formats": true}"#);
        assert_eq!(strict.validate(&Message::of("\"yesterday\"")), Verdict::reject("schema", "/: format"));
        assert_eq!(strict.validate(&Message::of("\"2024-02-29T12:00:00Z\"")), Verdict::pass());
    }

    #[test]
    fn a_wrong_configuration_is_refused_with_its_place() {
        let refused = |config: &str| JsonSchema::configure(config).err().unwrap();
        assert!(refused("{}").contains("schema"), "{}", refused("{}"));
        assert!(refused(r#"{"schema": true, "nulls": 1}"#).contains("unknown key nulls"));
        let error = refused(r#"{"schema": {"properties": {"a": {"type": "text"}}}}"#);
        assert!(error.starts_with("config.schema/properties/a/type: \"text\""), "{error}");
        assert!(!refused(r#"{"schema": {"$ref": "https://example.com/order.json"}}"#).is_empty());
    }
}
