use std::time::Duration;

use super::Context;
use super::destination::{Place, destination, is_name_char};
use super::fields::Fields;
use super::values::{
    choice, duration, integer_u32, list, name, path_of_file, path_of_secret_file, secret, shown, size, text,
};
use crate::yaml::{Kind, Node};
use crate::{
    Cluster, Code, Compression, Isolation, KafkaConnection, KafkaSink, KafkaSource, Located, OutOfRange, Queue, Sasl,
    SaslMechanism, Secret, Setting, Start, Tls,
};

/// Whether a connection may say `profile:` instead of `brokers:`.
#[derive(Clone, Copy)]
pub(super) enum Profiles<'a> {
    /// The node's own profiles.
    No,
    /// Sources, sinks and the audit topic.
    Yes,
    /// A dead letter queue: without brokers it has those of this source.
    OrInherit(Option<&'a KafkaConnection>),
}

/// `kafka:` of a source. `group` is its default group.
pub(super) fn source(cx: &mut Context<'_>, node: &Node, group: Option<&str>) -> Option<KafkaSource> {
    let mut fields = Fields::of(cx, node, "a Kafka source")?;
    let connection = connection(cx, &mut fields, Profiles::Yes);
    let topics = fields.required(cx, "topics", |cx, node| list(cx, node, true, topic));
    let topics = topics.map(|topics| without_repeats(cx, topics));
    let typed_group = fields.optional(cx, "group", text);
    let starts = [("earliest", Start::Earliest), ("latest", Start::Latest)];
    let start = fields.optional(cx, "start", |cx, node| choice(cx, node, &starts));
    let ranges = [("stop", OutOfRange::Stop), ("earliest", OutOfRange::Earliest), ("latest", OutOfRange::Latest)];
    let on_out_of_range = fields.optional(cx, "on_out_of_range", |cx, node| choice(cx, node, &ranges));
    let group_instance_id = fields.optional(cx, "group_instance_id", text);
    let levels = [("read_committed", Isolation::ReadCommitted), ("read_uncommitted", Isolation::ReadUncommitted)];
    let isolation = fields.optional(cx, "isolation", |cx, node| choice(cx, node, &levels));
    let sessions = Duration::from_secs(1)..=Duration::from_secs(30 * 60);
    let session_timeout = fields.optional(cx, "session_timeout", |cx, node| duration(cx, node, sessions));
    fields.finish(cx);
    Some(KafkaSource {
        connection: connection?,
        topics: topics?,
        // Without a group and without a legal pipeline name the file is refused for the name.
        group: Setting::or(typed_group, group.unwrap_or_default().to_owned()),
        start: Setting::or(start, Start::Earliest),
        on_out_of_range: Setting::or(on_out_of_range, OutOfRange::Stop),
        group_instance_id,
        isolation: Setting::or(isolation, Isolation::ReadCommitted),
        session_timeout,
    })
}

/// `kafka:` of a sink or dead letter queue. Only where `templates` says so may the topic be one.
pub(super) fn sink(cx: &mut Context<'_>, node: &Node, profiles: Profiles<'_>, templates: bool) -> Option<KafkaSink> {
    let mut fields = Fields::of(cx, node, "a Kafka sink")?;
    let connection = connection(cx, &mut fields, profiles);
    let (topic, allow) = destination(cx, &mut fields, &TOPIC, templates);
    let compressions = [
        ("none", Compression::None),
        ("gzip", Compression::Gzip),
        ("snappy", Compression::Snappy),
        ("lz4", Compression::Lz4),
        ("zstd", Compression::Zstd),
    ];
    let compression = fields.optional(cx, "compression", |cx, node| choice(cx, node, &compressions));
    let lingers = Duration::ZERO..=Duration::from_secs(60);
    let linger = fields.optional(cx, "linger", |cx, node| duration(cx, node, lingers));
    let max_message_bytes = fields.optional(cx, "max_message_bytes", |cx, node| size(cx, node, 1000..=1_000_000_000));
    let queue = fields.optional(cx, "queue", queue);
    fields.finish(cx);
    Some(KafkaSink {
        connection: connection?,
        topic: topic?,
        allow,
        compression: Setting::or(compression, Compression::None),
        linger,
        max_message_bytes,
        queue,
    })
}

fn queue(cx: &mut Context<'_>, node: &Node) -> Option<Queue> {
    let mut fields = Fields::of(cx, node, "the `queue` of a Kafka sink")?;
    let messages = fields.optional(cx, "messages", |cx, node| integer_u32(cx, node, 1..=10_000_000));
    let bytes = fields.optional(cx, "bytes", |cx, node| size(cx, node, 1 << 10..=2 << 30));
    fields.finish(cx);
    Some(Queue { messages, bytes })
}

/// What is common to all that speaks to a cluster. Reads its keys out of `fields`.
pub(super) fn connection(
    cx: &mut Context<'_>,
    fields: &mut Fields<'_>,
    profiles: Profiles<'_>,
) -> Option<KafkaConnection> {
    let brokers = fields.optional(cx, "brokers", brokers);
    let profile = match profiles {
        Profiles::No => None,
        _ => fields.optional(cx, "profile", name),
    };
    let tls = fields.optional(cx, "tls", |cx, node| Some(Located::new(tls(cx, node)?, node.at.clone())));
    let sasl = fields.optional(cx, "sasl", |cx, node| Some(Located::new(sasl(cx, node)?, node.at.clone())));
    let client_id = fields.optional(cx, "client_id", text);
    let librdkafka = fields.optional(cx, "librdkafka", passthrough).unwrap_or_default();
    let own = |cluster| KafkaConnection { cluster, tls, sasl, client_id, librdkafka };

    let (has_brokers, has_profile) = (fields.entry("brokers"), fields.entry("profile"));
    if let (Profiles::Yes | Profiles::OrInherit(_), Some(_), Some(profile)) = (profiles, has_brokers, has_profile) {
        cx.say(&profile.key_at, Code::KeyConflict, "`profile` beside `brokers`", "keep one of the two");
        return None;
    }
    if let (Some(_), Profiles::Yes | Profiles::OrInherit(_)) = (has_profile, profiles) {
        let message = "beside `profile` has no effect: it is the profile's";
        for key in ["tls", "sasl"] {
            if let Some(entry) = fields.entry(key) {
                cx.say(&entry.key_at, Code::KeyConflict, format!("`{key}` {message}"), "remove it, or name `brokers`");
            }
        }
        return profile.map(Cluster::Profile).map(own);
    }
    if has_brokers.is_some() {
        return brokers.map(Cluster::Brokers).map(own);
    }
    match profiles {
        Profiles::OrInherit(Some(source)) => Some(inherit(cx, fields, source, own(source.cluster.clone()))),
        Profiles::OrInherit(None) => {
            let message = "a dead letter queue needs `brokers` or `profile` where no single Kafka source lends its own";
            cx.say(fields.at(), Code::KeyMissing, message, "add `brokers: host:port`, or `profile: name`");
            None
        }
        Profiles::Yes => {
            cx.say(
                fields.at(),
                Code::KeyMissing,
                "no `brokers` and no `profile`",
                "add `brokers: host:port`, or `profile: name`",
            );
            None
        }
        Profiles::No => {
            cx.say(fields.at(), Code::KeyMissing, "a profile needs `brokers`", "add `brokers: host:port`");
            None
        }
    }
}

/// The dead letter queue's connection on the source's cluster. Settings under `librdkafka` are a consumer's and stay there.
fn inherit(
    cx: &mut Context<'_>,
    fields: &Fields<'_>,
    source: &KafkaConnection,
    own: KafkaConnection,
) -> KafkaConnection {
    for key in ["tls", "sasl"] {
        if let Some(entry) = fields.entry(key) {
            let message =
                format!("`{key}` without `brokers`: the dead letter queue has those of the source, with its {key}");
            cx.say(&entry.key_at, Code::KeyConflict, message, "remove it, or name `brokers`");
        }
    }
    let client_id = own.client_id.or_else(|| source.client_id.clone());
    KafkaConnection { tls: source.tls.clone(), sasl: source.sasl.clone(), client_id, ..own }
}

/// `host:port,host:port`, or a list of them.
fn brokers(cx: &mut Context<'_>, node: &Node) -> Option<Located<String>> {
    let typed = list(cx, node, true, text)?;
    let mut all = Vec::new();
    for text in &typed {
        for broker in text.value.split(',').map(str::trim) {
            if !is_broker(broker) {
                cx.say(
                    &text.at,
                    Code::ValueInvalid,
                    "not a list of brokers",
                    "allowed: host:port, several with commas between them",
                );
                return None;
            }
            all.push(broker);
        }
    }
    (!all.is_empty()).then(|| Located::new(all.join(","), node.at.clone()))
}

/// Whether it is `host` or `host:port`.
pub(super) fn is_broker(broker: &str) -> bool {
    let legal_host = |host: &str| {
        let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        match address {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')),
        }
    };
    let port_of = |text: &str| {
        text.rsplit_once(':').filter(|(host, _)| !host.ends_with(':')).map(|(h, p)| (h.to_owned(), p.to_owned()))
    };
    match port_of(broker) {
        Some((host, port)) if !broker.ends_with(']') => {
            let digits = port.chars().all(|c| c.is_ascii_digit());
            legal_host(&host) && digits && port.parse::<u16>().is_ok_and(|port| port > 0)
        }
        _ => legal_host(broker),
    }
}

fn tls(cx: &mut Context<'_>, node: &Node) -> Option<Tls> {
    let mut fields = Fields::of(cx, node, "`tls`")?;
    let files = tls_files(cx, &mut fields);
    fields.finish(cx);
    Some(files)
}

/// What `tls` of Kafka and of NATS have in common. Reads its keys out of `fields`.
pub(super) fn tls_files(cx: &mut Context<'_>, fields: &mut Fields<'_>) -> Tls {
    let ca = fields.optional(cx, "ca", path_of_file);
    let cert = fields.optional(cx, "cert", path_of_file);
    let key = fields.optional(cx, "key", path_of_secret_file);
    if let (Some(entry), None) | (None, Some(entry)) = (fields.entry("cert"), fields.entry("key")) {
        cx.say(&entry.key_at, Code::KeyConflict, "`cert` and `key` belong together", "give both, or none");
    }
    let message = "cannot be switched: a certificate that is not verified protects nothing";
    fields.refuse(cx, "verify", Code::SettingNotAvailable, message, "name the authority that signed it with `ca`");
    Tls { ca, cert, key }
}

fn sasl(cx: &mut Context<'_>, node: &Node) -> Option<Sasl> {
    let mut fields = Fields::of(cx, node, "`sasl`")?;
    let mechanisms = [
        ("PLAIN", SaslMechanism::Plain),
        ("SCRAM-SHA-256", SaslMechanism::ScramSha256),
        ("SCRAM-SHA-512", SaslMechanism::ScramSha512),
    ];
    let mechanism = fields.required(cx, "mechanism", |cx, node| choice(cx, node, &mechanisms));
    let username = fields.required(cx, "username", text);
    let password = fields.required(cx, "password", secret);
    fields.finish(cx);
    Some(Sasl { mechanism: mechanism?, username: username?, password: password? })
}

/// The `librdkafka:` map. Which of its keys are refused only the connector knows.
fn passthrough(cx: &mut Context<'_>, node: &Node) -> Option<Vec<(Located<String>, Located<Secret>)>> {
    let Kind::Map(entries) = &node.kind else {
        Fields::of(cx, node, "`librdkafka`")?;
        return None;
    };
    let settings = entries.iter().filter_map(|entry| {
        let value = secret(cx, &entry.value)?;
        Some((Located::new(entry.key.clone(), entry.key_at.clone()), value))
    });
    Some(settings.collect())
}

const TOPIC_HELP: &str = "allowed: letters, digits, `.`, `_` and `-`, at most 249 characters";

const TOPIC: Place = Place { key: "topic", is_legal: is_topic, legal: "topic name", help: TOPIC_HELP };

/// A topic by its name.
pub(super) fn topic(cx: &mut Context<'_>, node: &Node) -> Option<Located<String>> {
    let topic = text(cx, node)?;
    if !is_topic(&topic.value) {
        let message = format!("`{}` is no topic name", shown(node));
        cx.say(&topic.at, Code::ValueInvalid, message, TOPIC_HELP);
        return None;
    }
    Some(topic)
}

fn is_topic(name: &str) -> bool {
    (1..=249).contains(&name.len()) && name != "." && name != ".." && name.chars().all(is_name_char)
}

fn without_repeats(cx: &mut Context<'_>, topics: Vec<Located<String>>) -> Vec<Located<String>> {
    let mut seen = std::collections::HashSet::new();
    for topic in &topics {
        if !seen.insert(topic.value.as_str()) {
            let message = format!("topic `{}` is already in the list", topic.value);
            cx.say(&topic.at, Code::NameDuplicate, message, "remove one of the two");
        }
    }
    topics
}
