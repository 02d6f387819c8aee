//! An event in the classes of OCSF 1.8.0. Everything that an event says passes [`Text`] on its way in.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::actor::Actor;
use crate::canonical::canonical;
use crate::chain::hex;
use crate::code::{Class, Shape};
use crate::detail::Linked;
use crate::escape::{NAME_BYTES, tame};
use crate::event::{Event, Fact};
use crate::facts::fact;
use crate::source::Source;
use crate::text::{Text, integer, object, put};

/// The version of the schema.
pub(crate) const SCHEMA_VERSION: &str = "1.8.0";
const PRODUCT: &str = "portcullis";

/// Who records: the same for every event of a process.
#[derive(Clone, Debug)]
pub struct Context {
    /// Tells this installation from every other one, and stays over restarts.
    pub instance_uid: String,
    /// The machine, or the pod.
    pub hostname: String,
    /// Version of the bridge.
    pub product_version: String,
    /// Version of the WebAssembly runtime.
    pub wasmtime_version: String,
    /// Name of the audit topic, or of the file.
    pub log_name: String,
}

/// What the chain adds to an event.
pub(crate) struct Stamp<'a> {
    pub(crate) context: &'a Context,
    pub(crate) chain_uid: &'a str,
    pub(crate) provider: &'a str,
    /// Leaf hash of the event before, in hexadecimal digits.
    pub(crate) previous: &'a str,
    pub(crate) sequence: u64,
    pub(crate) uid: &'a str,
    pub(crate) logged_ms: u64,
    /// Digest of the grants of the event's plugin.
    pub(crate) policy_uid: Option<&'a str>,
}

/// The event as one JSON object.
pub(crate) fn event(stamp: &Stamp<'_>, event: &Event) -> Value {
    let mut text = Text::default();
    let shape = event.shape();
    let mut members = base(event, shape);
    let mut unmapped = object([(
        "integrity",
        Value::Object(object([
            ("chain_uid", stamp.chain_uid.into()),
            ("prev_sha256", stamp.previous.into()),
            ("alg", "SHA-256".into()),
            ("canon", "RFC8785".into()),
        ])),
    )]);
    match shape.class {
        Class::EventLog => event_log(&mut members, stamp, &mut text),
        Class::Lifecycle => lifecycle(&mut members, event, &mut text),
        Class::Api => api(&mut members, event, stamp, &mut text),
        Class::Error | Class::Network | Class::Http | Class::Dns => {
            put(&mut members, "actor", actor(&event.actor, &mut text))
        }
    }
    if let Some(policy) = policy(stamp.policy_uid, event, &mut text) {
        put(&mut members, "policy", policy);
    }
    fact(&mut members, &mut unmapped, event, stamp, &mut text);
    if let Some(trace_id) = event.trace_id {
        let trace = object([("uid", Source::trace_uid(trace_id).into())]);
        put(if shape.class.has_trace() { &mut members } else { &mut unmapped }, "trace", trace);
    }
    put(&mut members, "unmapped", unmapped);
    let metadata = metadata(stamp, event, shape, &mut text);
    put(&mut members, "metadata", metadata);
    Value::Object(members)
}

/// `<tenant>/<plugin>` of an event that is about a plugin.
pub(crate) fn subject(event: &Event) -> Option<String> {
    event.actor.plugin_path().map(|path| tame(&path, NAME_BYTES).text.into_owned())
}

/// Digest of the grants as they are recorded: what later events of the plugin point at.
pub(crate) fn policy_uid(linked: &Linked) -> String {
    let grants = Text::default().value(&linked.grants, 0);
    let form = canonical(&grants).unwrap_or_default();
    format!("sha256:{}", hex(&Sha256::digest(form)))
}

fn base(event: &Event, shape: Shape) -> Map<String, Value> {
    let class = shape.class.uid();
    let mut members = object([
        ("class_uid", class.into()),
        ("category_uid", (class / 1000).into()),
        ("activity_id", shape.activity.into()),
        ("type_uid", (class * 100 + shape.activity).into()),
        ("time", integer(event.time_ms)),
        ("severity_id", shape.severity.into()),
        ("status_id", shape.status.into()),
    ]);
    if let Some(name) = shape.activity_name {
        put(&mut members, "activity_name", name);
    }
    if let Some((action, disposition)) = shape.control {
        put(&mut members, "action_id", action);
        put(&mut members, "disposition_id", disposition);
    }
    members
}

fn metadata(stamp: &Stamp<'_>, event: &Event, shape: Shape, text: &mut Text) -> Map<String, Value> {
    let context = stamp.context;
    let product = object([
        ("name", PRODUCT.into()),
        ("vendor_name", "Portcullis".into()),
        ("version", text.name(&context.product_version)),
        ("uid", text.name(&context.instance_uid)),
    ]);
    let mut metadata = object([
        ("version", SCHEMA_VERSION.into()),
        ("uid", stamp.uid.into()),
        ("sequence", integer(stamp.sequence)),
        ("event_code", event.code().as_str().into()),
        ("product", Value::Object(product)),
        ("log_name", text.name(&context.log_name)),
        ("log_provider", text.name(stamp.provider)),
        ("logged_time", integer(stamp.logged_ms)),
    ]);
    if let Some(tenant) = event.actor.tenant_name() {
        put(&mut metadata, "tenant_uid", text.name(tenant));
    }
    if let Some(source) = &event.source {
        put(&mut metadata, "correlation_uid", text.untrusted(source));
    }
    let mut profiles = shape.class.profiles().to_vec();
    if event.trace_id.is_some() && shape.class.has_trace() {
        profiles.push("trace");
    }
    if !profiles.is_empty() {
        put(&mut metadata, "profiles", profiles);
    }
    if text.truncated {
        put(&mut metadata, "is_truncated", true);
    }
    metadata
}

fn event_log(members: &mut Map<String, Value>, stamp: &Stamp<'_>, text: &mut Text) {
    put(members, "log_name", text.name(&stamp.context.log_name));
    put(members, "log_provider", text.name(stamp.provider));
    put(members, "log_type_id", 99);
    put(members, "log_type", "Audit");
}

/// The plugin is what is acted on here, and the bridge is who acts.
fn lifecycle(members: &mut Map<String, Value>, event: &Event, text: &mut Text) {
    let mut app = object([("name", text.name(&event.actor.plugin_path().unwrap_or_else(|| PRODUCT.to_owned())))]);
    let version = match &event.fact {
        Fact::Linked(linked) => linked.version.as_deref().map(|version| text.name(version)),
        Fact::Rejected { version, .. } => version.as_ref().map(|version| text.untrusted(version)),
        _ => None,
    };
    if let Some(version) = version {
        put(&mut app, "version", version);
    }
    if let Some(digest) = event.actor.plugin_digest() {
        let digest = text.name(digest);
        put(&mut app, "uid", digest.clone());
        // 8: a hash, so that a search for the component finds it.
        let observable = object([("name", "app.uid".into()), ("type_id", 8.into()), ("value", digest)]);
        put(members, "observables", vec![Value::Object(observable)]);
    }
    put(members, "app", app);
    let mut who = actor(&Actor::bridge(), text);
    put(&mut who, "invoked_by", invoker(&event.actor, text));
    put(members, "actor", who);
}

fn api(members: &mut Map<String, Value>, event: &Event, stamp: &Stamp<'_>, text: &mut Text) {
    put(members, "actor", actor(&event.actor, text));
    put(members, "src_endpoint", bridge(stamp, text));
}

/// This process as an end of a connection.
pub(crate) fn bridge(stamp: &Stamp<'_>, text: &mut Text) -> Map<String, Value> {
    let context = stamp.context;
    object([
        ("uid", text.name(&context.instance_uid)),
        ("hostname", text.name(&context.hostname)),
        ("svc_name", PRODUCT.into()),
    ])
}

fn actor(actor: &Actor, text: &mut Text) -> Map<String, Value> {
    let name = actor.plugin_path().unwrap_or_else(|| PRODUCT.to_owned());
    let mut who = object([("app_name", text.name(&name)), ("invoked_by", invoker(actor, text))]);
    if let Some(digest) = actor.plugin_digest() {
        put(&mut who, "app_uid", text.name(digest));
    }
    who
}

fn invoker(actor: &Actor, text: &mut Text) -> Value {
    match actor.pipeline_name() {
        Some(pipeline) => text.name(&format!("pipeline/{pipeline}")),
        None => PRODUCT.into(),
    }
}

fn policy(uid: Option<&str>, event: &Event, text: &mut Text) -> Option<Map<String, Value>> {
    let path = event.actor.plugin_path()?;
    let version = match &event.fact {
        Fact::Network(network) => Some(&network.policy_version),
        _ => None,
    };
    if uid.is_none() && version.is_none() {
        return None;
    }
    let mut policy = object([("name", text.name(&format!("{path} grants"))), ("is_applied", true.into())]);
    if let Some(uid) = uid {
        put(&mut policy, "uid", uid);
    }
    if let Some(version) = version {
        put(&mut policy, "version", text.name(version));
    }
    if let Fact::Linked(linked) = &event.fact {
        let budgets = linked.budgets.iter().map(|(name, limit)| ((*name).to_owned(), integer(*limit)));
        let data = object([
            ("world", text.name(&linked.world)),
            ("imports_linked", text.list(&linked.imports)),
            ("imports_inert", text.list(&linked.inert)),
            ("grants", text.value(&linked.grants, 0)),
            ("budgets", Value::Object(budgets.collect())),
            ("audit_mode", linked.mode.as_str().into()),
        ]);
        put(&mut policy, "data", data);
    }
    Some(policy)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::escape::DETAIL_BYTES;
    use crate::samples::{HOSTILE, context, every_event, linked, plugin};
    use crate::{Code, DeadLetter, HostCall, Quarantine};

    fn built(fact: &Event, policy_uid: Option<&str>) -> Value {
        let context = context();
        let stamp = Stamp {
            context: &context,
            chain_uid: "portcullis/i/7/p0",
            provider: "portcullis/i/7",
            previous: "00",
            sequence: 42,
            uid: "u",
            logged_ms: 9,
            policy_uid,
        };
        event(&stamp, fact)
    }

    fn texts<'a>(value: &'a Value, into: &mut Vec<&'a str>) {
        match value {
            Value::String(text) => into.push(text),
            Value::Array(items) => items.iter().for_each(|item| texts(item, into)),
            Value::Object(members) => members.iter().for_each(|(name, item)| {
                into.push(name);
                texts(item, into);
            }),
            _ => {}
        }
    }

    #[test]
    fn no_text_of_any_event_is_long_or_holds_a_character_that_acts() {
        for event in every_event() {
            let value = built(&event, Some("sha256:00"));
            let mut found = Vec::new();
            texts(&value, &mut found);
            for text in found {
                assert!(text.len() <= DETAIL_BYTES, "{}: {text}", event.code());
                assert_eq!(tame(text, DETAIL_BYTES).text, text, "{}", event.code());
            }
        }
    }

    #[test]
    fn a_cut_text_is_marked() {
        let marked = |event: &Event| built(event, None)["metadata"]["is_truncated"] == true;
        let of = |code: &str| Quarantine {
            channel: "orders.raw".to_owned(),
            dead_letter: None,
            kind: "rejected",
            code: code.to_owned(),
            truncated: false,
            attempts: 1,
        };
        assert!(marked(&Event::record_quarantined(plugin(), "p/t-0@1", of(&HOSTILE.repeat(9)))));
        assert!(!marked(&Event::record_quarantined(plugin(), "p/t-0@1", of("schema"))));
    }

    #[test]
    fn linking_tells_what_the_plugin_could_do() {
        let event = Event::plugin_linked(plugin(), linked());
        let value = built(&event, Some("sha256:00"));
        let data = &value["policy"]["data"];
        assert_eq!(value["app"]["name"], "acme/order-schema");
        assert_eq!(value["app"]["uid"], format!("sha256:{}", "9f".repeat(32)));
        assert_eq!(value["actor"], json!({"app_name": "portcullis", "invoked_by": "pipeline/orders"}));
        assert_eq!(data["world"], "portcullis:plugin/validator@0.1.0");
        assert_eq!(data["imports_linked"][0], "wasi:clocks/wall-clock.now");
        assert_eq!(data["grants"]["clock"], "coarse");
        assert_eq!(data["budgets"]["fuel"], 50_000_000);
        assert_eq!(data["audit_mode"], "buffered");
    }

    #[test]
    fn a_quarantined_record_is_named_by_where_it_was_and_where_it_is() {
        let letter = DeadLetter { queue: "orders.dlq".to_owned(), position: "orders.dlq-2@991".to_owned() };
        let quarantine = Quarantine {
            channel: "orders.raw".to_owned(),
            dead_letter: Some(letter),
            kind: "rejected",
            code: "schema".to_owned(),
            truncated: true,
            attempts: 2,
        };
        let value = built(&Event::record_quarantined(plugin(), "orders/orders.raw-7@184467", quarantine), None);
        assert_eq!(value["metadata"]["correlation_uid"], "orders/orders.raw-7@184467");
        assert_eq!(value["api"]["request"]["uid"], "orders/orders.raw-7@184467");
        assert_eq!(
            value["resources"],
            json!([
                {"type": "source.record", "name": "orders.raw", "uid": "orders.raw-7@184467"},
                {"type": "dead_letter.record", "name": "orders.dlq", "uid": "orders.dlq-2@991"},
            ])
        );
        assert_eq!(value["status_code"], "schema");
        assert_eq!(value["unmapped"]["quarantine"], json!({"fault": "rejected", "truncated": true, "attempts": 2}));
    }

    #[test]
    fn a_trace_is_told_in_the_schemas_place_where_the_class_has_one() {
        let source = || Source { trace_id: Some([0xab; 16]), ..Source::from("orders/t-0@1") };
        for event in every_event() {
            let class = event.shape().class;
            let value = built(&event.about(source()), None);
            let (place, other) = match class {
                Class::Api | Class::Http => ("/trace/uid", "/unmapped/trace"),
                _ => ("/unmapped/trace/uid", "/trace"),
            };
            assert_eq!(value.pointer(place), Some(&json!("ab".repeat(16))), "{value:#}");
            assert!(value.pointer(other).is_none(), "{value:#}");
            assert_eq!(crate::schema::faults_of(&value), Vec::<String>::new(), "{value:#}");
        }
    }

    #[test]
    fn a_window_of_host_calls_tells_count_begin_and_end() {
        let calls =
            HostCall { operation: "wasi:clocks/wall-clock.now".into(), count: 1000, start_ms: 5000, end_ms: 6000 };
        let value = built(&Event::host_call(plugin(), calls), None);
        assert_eq!(value["api"]["service"]["name"], "wasi:clocks/wall-clock");
        let numbers = ["count", "start_time", "end_time", "duration"].map(|name| value[name].as_u64().unwrap());
        assert_eq!(numbers, [1000, 5000, 6000, 1000]);
    }

    #[test]
    fn the_samples_hold_every_code() {
        let events = every_event();
        for code in Code::ALL {
            assert!(events.iter().any(|event| event.code() == code), "{code}");
        }
    }
}
