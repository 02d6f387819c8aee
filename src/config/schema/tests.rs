use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::read::recorded::{Keys, recorded};
use crate::{Flags, NoEnvironment, load_node, load_pipeline};

/// Every map that a pipeline file can have, empty where that is enough to be asked for its keys.
const PIPELINES: &[&str] = &[
    "pipeline: p\nqueue: {}\nwindow: {}\nsource: [{ kafka: { tls: {}, sasl: { password: { env: NOT_SET } } } }, { file: {} }, { stdio: {} }, { generator: {} }]\nplugins: [{ on: { retry: {} }, grants: { egress: [{ client_cert: {}, secrets: { a: { env: NOT_SET } } }] }, limits: {} }]\nsink: { kafka: { queue: {} } }\ndead_letter: { file: {} }\n",
    "pipeline: p\nsource: { stdio: {} }\nsink: { stdio: {} }\n",
    "pipeline: p\nsource: [{ nats: { auth: {}, tls: {}, window: {} } }, { jetstream: { create_stream: {}, create_consumer: {} } }]\nsink: { nats: {} }\ndead_letter: { jetstream: {} }\n",
];

const NODE: &str = "brokers: { main: { kafka: {} }, streams: { nats: {} } }\naudit: { topic: a }\nadmin: {}\ncache: {}\nlog: {}\negress: { dns: {}, tls: {} }\nceilings: {}\nlimits: { queue: {} }\ntenants: { a: { ceilings: {}, limits: {} } }\npipelines_may_name: {}\n";

/// What the reader calls a map of free keys: their values have a schema, they have none.
const FREE: [&str; 5] = ["`brokers`", "`headers`", "`librdkafka`", "`secrets`", "`tenants`"];

fn asked_for() -> BTreeSet<Keys> {
    recorded(|| {
        for pipeline in PIPELINES {
            drop(load_pipeline(Path::new("p.yaml"), pipeline.as_bytes(), &NoEnvironment));
        }
        drop(load_node(Some((Path::new("n.yaml"), NODE.as_bytes())), &NoEnvironment, &Flags::new()));
    })
}

fn titled() -> BTreeSet<Keys> {
    let definitions: Map<String, Value> = serde_json::from_str(DEFINITIONS).unwrap();
    let maps = definitions.values().filter(|definition| definition["title"].is_string());
    let keys = |definition: &Value| {
        let keys = definition["properties"].as_object().unwrap().keys().cloned().collect();
        Keys { what: definition["title"].as_str().unwrap().to_owned(), keys }
    };
    maps.map(keys).collect()
}

#[test]
fn the_schema_has_exactly_the_keys_that_the_reader_asks_for() {
    let asked: BTreeSet<Keys> = asked_for().into_iter().filter(|map| !FREE.contains(&map.what.as_str())).collect();
    let titled = titled();
    let of = |maps: BTreeSet<&Keys>| maps.into_iter().cloned().collect::<Vec<_>>();
    assert_eq!(of(asked.difference(&titled).collect()), [], "the reader asks for these and the schema has others");
    assert_eq!(of(titled.difference(&asked).collect()), [], "the schema has these and the reader asks for others");
}

#[test]
fn every_reference_leads_to_a_definition_and_every_key_of_a_file_says_what_it_means() {
    for of in [SchemaOf::Pipeline, SchemaOf::Node] {
        let schema = schema(of);
        let mut names = Vec::new();
        references(&schema, &mut names);
        for name in names {
            assert!(schema["$defs"][&name].is_object(), "{name}");
        }
    }
    let definitions: Map<String, Value> = serde_json::from_str(DEFINITIONS).unwrap();
    for (name, definition) in definitions.iter().filter(|(_, definition)| definition["title"].is_string()) {
        for (key, property) in definition["properties"].as_object().unwrap() {
            assert!(says_what_it_means(property, &definitions), "{name}.{key}");
        }
    }
}

/// By itself or by what it refers to; the definition of a form (`250ms`, `16MiB`) says how it is written and no more.
fn says_what_it_means(property: &Value, definitions: &Map<String, Value>) -> bool {
    const FORMS: [&str; 8] =
        ["variable", "path", "duration", "durations", "size", "rate", "rate_with_unit", "bytes_a_second"];
    if property["description"].is_string() {
        return true;
    }
    let name = property["$ref"].as_str().and_then(|at| at.strip_prefix("#/$defs/"));
    name.is_some_and(|name| !FORMS.contains(&name) && says_what_it_means(&definitions[name], definitions))
}
