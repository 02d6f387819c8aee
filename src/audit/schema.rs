//! The OCSF 1.8.0 schema, reduced to the classes of the audit, and a checker for tests: behind the feature `check`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::{Map, Value};

static SCHEMA: LazyLock<Result<Schema, String>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../tests/ocsf/ocsf-1.8.0.json")).map_err(|error| error.to_string())
});

#[derive(Deserialize)]
struct Schema {
    classes: BTreeMap<String, Shape>,
    objects: BTreeMap<String, Shape>,
}

#[derive(Deserialize)]
struct Shape {
    #[serde(default)]
    uid: u64,
    #[serde(default)]
    at_least_one: Vec<String>,
    attributes: BTreeMap<String, Attribute>,
}

#[derive(Deserialize)]
struct Attribute {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    array: bool,
    #[serde(default)]
    required: bool,
    /// The profile that brings the attribute.
    profile: Option<String>,
    /// The class has the attribute also without its profile.
    #[serde(default)]
    native: bool,
    #[serde(default, rename = "enum")]
    allowed: Vec<String>,
}

/// What is wrong with an event, as `path: fault`; empty when it is valid. Checked are required attributes (also those of
/// each declared profile), unknown attributes, attributes of profiles that are not declared, types, enumerations,
/// at-least-one constraints and the arithmetic of `type_uid` and `category_uid`.
pub fn faults_of(event: &Value) -> Vec<String> {
    let schema = match &*SCHEMA {
        Ok(schema) => schema,
        Err(error) => return vec![format!("schema: cannot be read: {error}")],
    };
    let Value::Object(members) = event else {
        return vec!["event: must be an object".to_owned()];
    };
    let class_uid = members.get("class_uid").and_then(Value::as_u64);
    let Some(class) = schema.classes.values().find(|class| Some(class.uid) == class_uid) else {
        let known: Vec<_> = schema.classes.values().map(|class| class.uid.to_string()).collect();
        return vec![format!("event.class_uid: must be one of {}", known.join(", "))];
    };
    let profiles = event.pointer("/metadata/profiles").and_then(Value::as_array);
    let profiles = profiles.into_iter().flatten().filter_map(Value::as_str).collect();
    let mut check = Check { schema, profiles, faults: Vec::new() };
    check.object(members, class, "event", true);
    check.arithmetic(members, class.uid);
    check.faults
}

struct Check<'a> {
    schema: &'a Schema,
    profiles: BTreeSet<&'a str>,
    faults: Vec<String>,
}

impl Check<'_> {
    fn object(&mut self, members: &Map<String, Value>, shape: &Shape, path: &str, is_event: bool) {
        for (name, attribute) in &shape.attributes {
            if attribute.required && !members.contains_key(name) && self.declares(attribute) {
                self.fault(path, &format!("missing required {name}"));
            }
        }
        for (name, value) in members {
            let path = format!("{path}.{name}");
            let Some(attribute) = shape.attributes.get(name) else {
                self.fault(&path, "unknown attribute");
                continue;
            };
            if is_event && !attribute.native && !self.declares(attribute) {
                let profile = attribute.profile.as_deref().unwrap_or_default();
                self.fault(&path, &format!("needs profile {profile}"));
            }
            match (attribute.array, value) {
                (true, Value::Array(items)) => items.iter().for_each(|item| self.value(item, attribute, &path)),
                (true, _) => self.fault(&path, "must be an array"),
                (false, value) => self.value(value, attribute, &path),
            }
        }
        let one_of = &shape.at_least_one;
        if !one_of.is_empty() && !one_of.iter().any(|name| members.contains_key(name)) {
            self.fault(path, &format!("needs at least one of {}", one_of.join(", ")));
        }
    }

    fn value(&mut self, value: &Value, attribute: &Attribute, path: &str) {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if !attribute.allowed.is_empty() && !attribute.allowed.contains(&text) {
            self.fault(path, &format!("{text} is not in the enumeration"));
        }
        let schema = self.schema;
        match attribute.kind.as_str() {
            "object" | "json_t" | "float_t" => {}
            "integer_t" | "long_t" | "timestamp_t" if !value.is_i64() && !value.is_u64() => {
                self.fault(path, "must be an integer");
            }
            "port_t" if value.as_u64().is_none_or(|port| port > 65_535) => self.fault(path, "must be a port"),
            "boolean_t" if !value.is_boolean() => self.fault(path, "must be a boolean"),
            "integer_t" | "long_t" | "timestamp_t" | "port_t" | "boolean_t" => {}
            kind => match (schema.objects.get(kind), value) {
                (Some(shape), Value::Object(members)) => self.object(members, shape, path, false),
                (Some(_), _) => self.fault(path, &format!("must be an object ({kind})")),
                (None, Value::String(_)) => {}
                (None, _) => self.fault(path, &format!("must be a string ({kind})")),
            },
        }
    }

    fn arithmetic(&mut self, members: &Map<String, Value>, class_uid: u64) {
        let number = |name| members.get(name).and_then(Value::as_u64);
        if number("type_uid") != number("activity_id").map(|activity| class_uid * 100 + activity) {
            self.fault("event.type_uid", "must be class_uid * 100 + activity_id");
        }
        if number("category_uid") != Some(class_uid / 1000) {
            self.fault("event.category_uid", "must be class_uid / 1000");
        }
    }

    fn declares(&self, attribute: &Attribute) -> bool {
        attribute.profile.as_deref().is_none_or(|profile| self.profiles.contains(profile))
    }

    fn fault(&mut self, path: &str, fault: &str) {
        self.faults.push(format!("{path}: {fault}"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::chain::Chain;
    use crate::samples::{context, every_event};

    const EXAMPLES: &str = include_str!("../../tests/ocsf/examples.jsonl");

    fn examples() -> Vec<Value> {
        EXAMPLES.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The first example with one change.
    fn broken(change: impl FnOnce(&mut Value)) -> Vec<String> {
        let mut event = examples().swap_remove(0);
        change(&mut event);
        faults_of(&event)
    }

    fn remove(event: &mut Value, name: &str) {
        event.as_object_mut().unwrap().remove(name).unwrap();
    }

    type Change = fn(&mut Value);

    #[test]
    fn each_kind_of_mistake_is_found_and_named() {
        let cases: [(&str, Change); 17] = [
            ("event: missing required time", |event| remove(event, "time")),
            ("event: missing required metadata", |event| remove(event, "metadata")),
            ("event.metadata: missing required product", |event| remove(&mut event["metadata"], "product")),
            ("event: needs at least one of dst_endpoint, src_endpoint", |event| {
                remove(event, "src_endpoint");
                remove(event, "dst_endpoint");
            }),
            ("event.dst_endpoint: needs at least one of ip,", |event| event["dst_endpoint"] = json!({"port": 443})),
            ("event.colour: unknown attribute", |event| event["colour"] = json!(1)),
            ("event.metadata.payload: unknown attribute", |event| event["metadata"]["payload"] = json!("x")),
            ("event.severity_id: 7 is not in the enumeration", |event| event["severity_id"] = json!(7)),
            ("event.action_id: 7 is not in the enumeration", |event| event["action_id"] = json!(7)),
            ("event.disposition_id: needs profile security_control", |event| {
                event["metadata"]["profiles"] = json!(["host"]);
            }),
            ("event.time: must be an integer", |event| event["time"] = json!("now")),
            ("event.message: must be a string", |event| event["message"] = json!(1)),
            ("event.is_alert: must be a boolean", |event| event["is_alert"] = json!(1)),
            ("event.actor: must be an object", |event| event["actor"] = json!("me")),
            ("event.observables: must be an array", |event| event["observables"] = json!({})),
            ("event.dst_endpoint.port: must be a port", |event| event["dst_endpoint"]["port"] = json!(65_536)),
            ("event.type_uid: must be class_uid * 100 + activity_id", |event| event["activity_id"] = json!(2)),
        ];
        for (expected, change) in cases {
            let faults = broken(change);
            assert!(faults.iter().any(|fault| fault.starts_with(expected)), "{expected}: {faults:?}");
        }
        assert_eq!(
            broken(|event| event["category_uid"] = json!(5)).len(),
            2,
            "not in the enumeration, and the wrong one"
        );
        assert_eq!(broken(|event| event["class_uid"] = json!(2004)).len(), 1);
        assert_eq!(faults_of(&json!([1])), ["event: must be an object"]);
        assert_eq!(faults_of(&Value::Null).len(), 1);
    }

    #[test]
    fn valid_events_that_were_written_by_hand_have_no_faults() {
        let examples = examples();
        assert!(examples.len() >= 4);
        for event in examples {
            assert_eq!(faults_of(&event), Vec::<String>::new(), "{event}");
        }
    }

    #[test]
    fn every_event_that_can_be_built_is_valid() {
        let mut chain = Chain::new(context());
        for (sequence, event) in (1..).zip(every_event()) {
            let link = chain.link(sequence, &event);
            assert!(!link.substituted, "{event:?}");
            let value: Value = serde_json::from_slice(&link.record.value).unwrap();
            assert_eq!(faults_of(&value), Vec::<String>::new(), "{value:#}");
            assert_eq!(value["metadata"]["event_code"], event.code().as_str());
        }
    }
}
