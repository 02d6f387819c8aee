//! What only one code has in its OCSF form: message, status and the free part.

use serde_json::{Map, Value};

use crate::detail::{HostCall, Mode, Scope};
use crate::escape::Untrusted;
use crate::event::{Event, Fact, Loss, Met, Quarantined};
use crate::network::{self, Window};
use crate::ocsf::{Stamp, bridge};
use crate::text::{Text, integer, object, put};

/// Adds what the fact says.
pub(crate) fn fact(
    members: &mut Map<String, Value>,
    unmapped: &mut Map<String, Value>,
    event: &Event,
    stamp: &Stamp<'_>,
    text: &mut Text,
) {
    let message = match &event.fact {
        Fact::Boot { mode, config_sha256 } => boot(unmapped, *mode, config_sha256.as_deref(), stamp, text),
        Fact::Stop { events, lost } => {
            put(unmapped, "stop", object([("events", integer(*events)), ("lost", integer(*lost))]));
            format!("audit chain {} stopped", stamp.chain_uid)
        }
        Fact::Loss(loss) => {
            losses(members, unmapped, loss);
            "audit events could not be recorded".to_owned()
        }
        Fact::Linked(_) => "plugin component linked".to_owned(),
        Fact::Rejected { refused, detail, .. } => {
            status(members, refused.as_str().into(), text.untrusted(detail));
            format!("component refused before it ran: {}", refused.as_str())
        }
        Fact::Stopped => "plugin stopped with its pipeline".to_owned(),
        Fact::Disabled { kind, detail, quarantine_ms } => {
            status(members, (*kind).into(), text.untrusted(detail));
            if let Some(ms) = quarantine_ms {
                put(unmapped, "quarantine", object([("duration_ms", integer(*ms))]));
            }
            "plugin quarantined after too many faults".to_owned()
        }
        Fact::Trapped { kind, detail, instance, discarded } => {
            status(members, (*kind).into(), text.untrusted(detail));
            let mut about = object([("discarded", (*discarded).into())]);
            if let Some(id) = instance {
                put(&mut about, "id", text.untrusted(id));
            }
            put(unmapped, "instance", about);
            format!("plugin call trapped: {kind}")
        }
        Fact::Budget(met) => budget(members, unmapped, met, text),
        Fact::Quarantined(record) => quarantined(members, unmapped, record, event.source.as_ref(), text),
        Fact::HostCall(calls) => host_call(members, calls, stamp, text),
        Fact::ConfigRejected { slug, at, detail } => {
            let resource = object([("type", "configuration".into()), ("name", text.untrusted(at))]);
            let api = object([
                ("operation", "portcullis.config.load".into()),
                ("service", Value::Object(object([("name", "portcullis.config".into())]))),
            ]);
            put(members, "api", api);
            put(members, "resources", vec![Value::Object(resource)]);
            status(members, text.untrusted(slug), text.untrusted(detail));
            "configuration refused".to_owned()
        }
        Fact::Network(network) => {
            let bridge = bridge(stamp, text);
            network::ocsf::fill(members, unmapped, network, event.time_ms, bridge, text)
        }
    };
    put(members, "message", message);
}

fn boot(
    unmapped: &mut Map<String, Value>,
    mode: Mode,
    config_sha256: Option<&str>,
    stamp: &Stamp<'_>,
    text: &mut Text,
) -> String {
    let context = stamp.context;
    let mut boot = object([
        ("portcullis_version", text.name(&context.product_version)),
        ("wasmtime", text.name(&context.wasmtime_version)),
        ("mode", mode.as_str().into()),
    ]);
    if let Some(digest) = config_sha256 {
        put(&mut boot, "config_sha256", text.name(digest));
    }
    put(unmapped, "boot", boot);
    format!("audit chain {} started", stamp.chain_uid)
}

fn budget(members: &mut Map<String, Value>, unmapped: &mut Map<String, Value>, met: &Met, text: &mut Text) -> String {
    let Met { kind, limit, used, scope, detail, window } = met;
    if let Some(Window { count, start_ms, end_ms }) = window {
        put(members, "count", integer(*count));
        put(members, "start_time", integer(*start_ms));
        put(members, "end_time", integer(*end_ms));
    }
    let parts = [("limit", limit), ("used", used)];
    let numbers: Vec<_> = parts.iter().filter_map(|(name, of)| Some((*name, (**of)?))).collect();
    let default = || numbers.iter().map(|(name, of)| format!("{name}={of}")).collect::<Vec<_>>().join(" ");
    let detail = if detail.is_empty() { default().into() } else { text.untrusted(detail) };
    status(members, (*kind).into(), detail);
    let mut budget = object([("kind", (*kind).into()), ("scope", scope.as_str().into())]);
    budget.extend(numbers.into_iter().map(|(name, of)| (name.to_owned(), integer(of))));
    put(unmapped, "budget", budget);
    match scope {
        // What is past it is left out, and the message passes.
        Scope::Invocation if *kind == "log.bytes" => format!("{kind} limit of a call met"),
        Scope::Invocation | Scope::Instance => format!("{kind} limit exceeded; {} terminated", scope.as_str()),
        Scope::Plugin | Scope::Pipeline | Scope::Tenant | Scope::Node => {
            format!("{kind} limit of the {} met", scope.as_str())
        }
    }
}

fn losses(members: &mut Map<String, Value>, unmapped: &mut Map<String, Value>, loss: &Loss) {
    put(members, "count", integer(loss.events));
    put(members, "start_time", integer(loss.first_ms));
    put(members, "end_time", integer(loss.last_ms));
    let by_code = loss.by_code.iter().map(|(code, weight)| (code.as_str().to_owned(), integer(*weight)));
    let loss = object([("reason", loss.reason.into()), ("by_code", Value::Object(by_code.collect()))]);
    put(unmapped, "loss", loss);
}

fn quarantined(
    members: &mut Map<String, Value>,
    unmapped: &mut Map<String, Value>,
    record: &Quarantined,
    source: Option<&Untrusted>,
    text: &mut Text,
) -> String {
    let Quarantined { kind, code, channel, letter, truncated, attempts } = record;
    let source = source.map(|source| text.untrusted(source)).unwrap_or_default();
    let path = source.as_str().unwrap_or_default();
    // Without the pipeline: the coordinates alone, as the broker's tools spell them.
    let record = path.split_once('/').map_or(path, |(_, record)| record).to_owned();
    let resource = |kind: &str, name, uid| Value::Object(object([("type", kind.into()), ("name", name), ("uid", uid)]));
    let mut resources = vec![resource("source.record", text.untrusted(channel), record.into())];
    if let Some(letter) = letter {
        resources.push(resource("dead_letter.record", text.untrusted(&letter.queue), text.untrusted(&letter.position)));
    }
    let request = object([("uid", source)]);
    let api = object([
        ("operation", "portcullis.record.reject".into()),
        ("service", Value::Object(object([("name", "portcullis.pipeline".into())]))),
        ("request", Value::Object(request)),
    ]);
    put(members, "api", api);
    put(members, "resources", resources);
    put(members, "status_code", text.untrusted(code));
    let quarantine = object([
        ("fault", (*kind).into()),
        ("truncated", (*truncated).into()),
        ("attempts", u64::from(*attempts).into()),
    ]);
    put(unmapped, "quarantine", quarantine);
    format!("record taken out of the pipeline ({kind}) and written to the dead letter queue")
}

fn host_call(members: &mut Map<String, Value>, calls: &HostCall, stamp: &Stamp<'_>, text: &mut Text) -> String {
    let operation = text.name(&calls.operation);
    let name = operation.as_str().unwrap_or_default().to_owned();
    let service = name.rsplit_once('.').map_or(name.as_str(), |(interface, _)| interface);
    let api = object([
        ("service", Value::Object(object([("name", service.into())]))),
        ("request", Value::Object(object([("uid", format!("{}/agg/{}", stamp.chain_uid, stamp.sequence).into())]))),
        ("operation", operation),
    ]);
    put(members, "api", api);
    put(members, "count", integer(calls.count));
    put(members, "start_time", integer(calls.start_ms));
    put(members, "end_time", integer(calls.end_ms));
    put(members, "duration", integer(calls.end_ms.saturating_sub(calls.start_ms)));
    format!("{name} called {} times in the window", calls.count)
}

fn status(members: &mut Map<String, Value>, code: Value, detail: Value) {
    put(members, "status_code", code);
    if detail.as_str() != Some("") {
        put(members, "status_detail", detail);
    }
}
