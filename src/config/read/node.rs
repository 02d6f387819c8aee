use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::Context;
use super::fields::Fields;
use super::kafka::{Profiles, connection, topic};
use super::levels::{Level, ceilings, limits, tenants};
use super::may_name::may_name;
use super::nats;
use super::node_egress::egress;
use super::values::{boolean, choice, choice_or_refused, duration, key_is_name, path, shown, text};
use crate::profile::check_kafka;
use crate::yaml::{Kind, Node as Tree};
use crate::{
    Admin, Audit, AuditMode, AuditTarget, AuditTopic, Cache, Code, Located, Log, LogFormat, LogLevel, Mode, Node,
    OnUnavailable, Profile, Setting, TapLevel, within,
};

const TAP_LEVELS: [(&str, TapLevel); 3] =
    [("off", TapLevel::Off), ("headers", TapLevel::Headers), ("payload", TapLevel::Payload)];
const MODES: [(&str, Mode); 2] = [("development", Mode::Development), ("production", Mode::Production)];

/// The root of the node's settings, layers merged. `file` is the node's file where there is one.
pub(crate) fn node(cx: &mut Context<'_>, file: Option<&Path>, tree: &Tree) -> Option<Node> {
    let mut fields = Fields::of(cx, tree, "the node's file")?;
    let mode = fields.optional(cx, "mode", |cx, node| choice(cx, node, &MODES));
    let mode = Setting::or(mode, Mode::Development);
    let profiles = fields.optional(cx, "brokers", profiles).unwrap_or_default();
    let audit_node = fields.optional(cx, "audit", |_, node| Some(node));
    let audit = audit(cx, audit_node, &profiles);
    if mode.value == Mode::Production && audit_node.is_none_or(names_no_topic) {
        let message = "mode production needs an audit topic: a local file can be changed where it lies";
        let at = mode.at.as_ref().unwrap_or(&tree.at);
        cx.say(at, Code::ProductionRefused, message, "add `audit: { topic: portcullis.audit, profile: NAME }`");
    }
    let admin_node = fields.optional(cx, "admin", |_, node| Some(node));
    let admin = admin(cx, admin_node);
    let cache_node = fields.optional(cx, "cache", |_, node| Some(node));
    let cache = cache(cx, cache_node);
    let log_node = fields.optional(cx, "log", |_, node| Some(node));
    let log = log(cx, log_node);
    let egress = fields.optional(cx, "egress", egress).unwrap_or_default();
    if let (Mode::Production, true, Some(at)) = (mode.value, egress.observe.value, &egress.observe.at) {
        let message = "mode production allows no observe mode: in it a plugin reaches what no rule allows";
        cx.say(at, Code::ProductionRefused, message, "remove it; `portcullis grants suggest` is for a desk");
    }
    let ceilings = fields.optional(cx, "ceilings", ceilings).unwrap_or_default();
    let limits = fields.optional(cx, "limits", |cx, node| limits(cx, node, Level::Node)).unwrap_or_default();
    let tenants = fields.optional(cx, "tenants", tenants).unwrap_or_default();
    let pipelines_may_name = fields.optional(cx, "pipelines_may_name", may_name);
    fields.finish(cx);
    for tenant in tenants.values() {
        within::tenant(&mut cx.found, tenant, &ceilings, &limits);
    }
    let file = file.map(Path::to_owned);
    let names = std::mem::take(&mut cx.names);
    Some(Node {
        file,
        mode,
        profiles,
        audit,
        admin,
        cache,
        log,
        egress,
        ceilings,
        limits,
        tenants,
        pipelines_may_name,
        names,
    })
}

/// Whether `audit:` is a map without a topic. Where it is no map at all that has been said.
fn names_no_topic(audit: &Tree) -> bool {
    matches!(&audit.kind, Kind::Map(entries) if !entries.iter().any(|entry| entry.key == "topic"))
}

fn profiles(cx: &mut Context<'_>, node: &Tree) -> Option<crate::Profiles> {
    let Kind::Map(entries) = &node.kind else {
        Fields::of(cx, node, "`brokers`")?;
        return None;
    };
    let mut profiles = crate::Profiles::new();
    for entry in entries {
        let legal = key_is_name(cx, &entry.key, &entry.key_at);
        if let (true, Some(profile)) = (legal, profile(cx, &entry.value)) {
            profiles.insert(entry.key.clone(), Located::new(profile, entry.key_at.clone()));
        }
    }
    Some(profiles)
}

fn profile(cx: &mut Context<'_>, node: &Tree) -> Option<Profile> {
    let mut fields = Fields::of(cx, node, "a profile of brokers")?;
    let kafka = fields.optional(cx, "kafka", |cx, node| {
        let mut fields = Fields::of(cx, node, "a Kafka profile")?;
        let connection = connection(cx, &mut fields, Profiles::No);
        fields.finish(cx);
        Some(Profile::Kafka(Box::new(connection?)))
    });
    let nats = fields.optional(cx, "nats", |cx, node| Some(Profile::Nats(Box::new(nats::profile(cx, node)?))));
    let message = "is no kind of brokers: its servers are a profile of NATS";
    fields.refuse(cx, "jetstream", Code::KeyConflict, message, "write `nats: { servers: [nats://host:4222] }`");
    fields.finish(cx);
    match (fields.entry("kafka"), fields.entry("nats")) {
        (Some(_), Some(second)) => {
            let message = "a profile is of one kind, and `nats` beside `kafka` is a second";
            cx.say(&second.key_at, Code::KeyConflict, message, "give each a name of its own");
            None
        }
        (None, None) if fields.entry("jetstream").is_none() => {
            cx.say(&node.at, Code::KeyMissing, "a profile says no kind of brokers", "allowed: kafka, nats");
            None
        }
        _ => kafka.or(nats),
    }
}

fn audit(cx: &mut Context<'_>, node: Option<&Tree>, profiles: &crate::Profiles) -> Audit {
    let mut audit = Audit {
        target: None,
        mode: Setting::default_of(AuditMode::Buffered),
        on_unavailable: Setting::default_of(OnUnavailable::Pause),
        deadline: Setting::default_of(Duration::from_secs(5)),
    };
    let Some((node, mut fields)) = node.and_then(|node| Some((node, Fields::of(cx, node, "`audit`")?))) else {
        return audit;
    };
    let target = audit_target(cx, &mut fields, profiles);
    audit.target = target.map(|target| Located::new(target, node.at.clone()));
    let not_built = "is not built yet: events are written soon after the effect, not before it";
    let refused = [("strict", not_built), ("ack_first", not_built), ("best_effort", "is not built yet")];
    let mode = fields
        .optional(cx, "mode", |cx, node| choice_or_refused(cx, node, &[("buffered", AuditMode::Buffered)], &refused));
    audit.mode = Setting::or(mode, AuditMode::Buffered);
    let refused = [("dead_letter", "is not built yet"), ("shutdown", "is not built yet")];
    let on_unavailable = fields.optional(cx, "on_unavailable", |cx, node| {
        choice_or_refused(cx, node, &[("pause", OnUnavailable::Pause)], &refused)
    });
    audit.on_unavailable = Setting::or(on_unavailable, OnUnavailable::Pause);
    let deadlines = Duration::from_millis(100)..=Duration::from_secs(600);
    let deadline = fields.optional(cx, "deadline", |cx, node| duration(cx, node, deadlines));
    audit.deadline = Setting::or(deadline, audit.deadline.value);
    fields.finish(cx);
    audit
}

const CONNECTION_KEYS: [&str; 6] = ["profile", "brokers", "tls", "sasl", "client_id", "librdkafka"];

fn audit_target(cx: &mut Context<'_>, fields: &mut Fields<'_>, profiles: &crate::Profiles) -> Option<AuditTarget> {
    let topic = fields.optional(cx, "topic", topic);
    let file = fields.optional(cx, "file", path);
    if let (Some(_), Some(file)) = (fields.entry("topic"), fields.entry("file")) {
        fields.allow(&CONNECTION_KEYS);
        cx.say(
            &file.key_at,
            Code::KeyConflict,
            "`file` beside `topic`: audit events go to one place",
            "keep one of the two",
        );
        return None;
    }
    if fields.entry("topic").is_none() {
        fields.allow(&CONNECTION_KEYS);
        for key in CONNECTION_KEYS {
            let message = "has no effect without `topic`";
            fields.refuse(cx, key, Code::KeyConflict, message, "add `topic: NAME`, or remove it");
        }
        return file.map(|file| AuditTarget::File(file.value));
    }
    let connection = connection(cx, fields, Profiles::Yes);
    if let Some(crate::Cluster::Profile(name)) = connection.as_ref().map(|connection| &connection.cluster)
        && let Err(diagnostic) = check_kafka(profiles, name)
    {
        cx.found.push(diagnostic);
    }
    Some(AuditTarget::Topic(Box::new(AuditTopic { topic: topic?, connection: connection? })))
}

fn admin(cx: &mut Context<'_>, node: Option<&Tree>) -> Admin {
    let default = SocketAddr::from(([127, 0, 0, 1], 9464));
    let mut admin = Admin { listen: Setting::default_of(default), tap: Setting::default_of(TapLevel::Off) };
    let Some(mut fields) = node.and_then(|node| Fields::of(cx, node, "`admin`")) else { return admin };
    admin.listen = Setting::or(fields.optional(cx, "listen", listen), default);
    let tap = fields.optional(cx, "tap", |cx, node| choice(cx, node, &TAP_LEVELS));
    admin.tap = Setting::or(tap, TapLevel::Off);
    fields.finish(cx);
    admin
}

fn listen(cx: &mut Context<'_>, node: &Tree) -> Option<Located<SocketAddr>> {
    let typed = text(cx, node)?;
    if let Ok(address) = typed.value.parse() {
        return Some(Located::new(address, typed.at));
    }
    let message = format!("`{}` is no address to listen on", shown(node));
    cx.say(
        &typed.at,
        Code::ValueInvalid,
        message,
        "allowed: IP:PORT, such as 127.0.0.1:9464 or [::1]:9464; port 0 takes a free one",
    );
    None
}

fn cache(cx: &mut Context<'_>, node: Option<&Tree>) -> Cache {
    let mut cache = Cache { enabled: Setting::default_of(true), dir: None };
    let Some(mut fields) = node.and_then(|node| Fields::of(cx, node, "`cache`")) else { return cache };
    cache.enabled = Setting::or(fields.optional(cx, "enabled", boolean), true);
    cache.dir = fields.optional(cx, "dir", path);
    fields.finish(cx);
    cache
}

fn log(cx: &mut Context<'_>, node: Option<&Tree>) -> Log {
    let mut log = Log { format: Setting::default_of(LogFormat::Text), level: Setting::default_of(LogLevel::Info) };
    let Some(mut fields) = node.and_then(|node| Fields::of(cx, node, "`log`")) else { return log };
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let format = fields.optional(cx, "format", |cx, node| choice(cx, node, &formats));
    log.format = Setting::or(format, LogFormat::Text);
    let levels = [LogLevel::Trace, LogLevel::Debug, LogLevel::Info, LogLevel::Warn, LogLevel::Error];
    let levels = levels.map(|level| (level.as_str(), level));
    let level = fields.optional(cx, "level", |cx, node| choice(cx, node, &levels));
    log.level = Setting::or(level, LogLevel::Info);
    fields.finish(cx);
    log
}
