use std::time::Duration;

use super::Context;
use super::destination::{Place, destination, is_name_char};
use super::fields::Fields;
use super::kafka::{is_broker, tls_files};
use super::values::{
    boolean, choice, duration, integer_u32, list, name as profile_name, path_of_secret_file, secret, shown, size, text,
};
use crate::yaml::{Kind, Node};
use crate::{
    Code, InDoubt, JetStreamSink, JetStreamSource, Located, NatsAuth, NatsCluster, NatsConnection, NatsKey, NatsSink,
    NatsSource, NatsTls, NatsWindow, Setting,
};

mod specs;

use specs::{consumer_spec, stream_spec};

const SUBJECT_HELP: &str =
    "allowed: letters, digits, `_` and `-` in tokens with `.` between them, at most 249 characters";
const PATTERN_HELP: &str =
    "allowed: tokens with `.` between them; `*` stands for one whole token, `>` for all that follow";
const NAME_HELP: &str = "allowed: at most 255 characters, without white space, `.`, `*`, `>`, `/` and `\\`";

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    JetStream,
    Core,
    /// Of both, and named by a profile: it names none itself.
    Profile,
}

/// `jetstream:` of a source.
pub(super) fn jetstream_source(cx: &mut Context<'_>, node: &Node) -> Option<JetStreamSource> {
    let mut fields = Fields::of(cx, node, "a JetStream source")?;
    let connection = connection(cx, &mut fields, Use::JetStream);
    let stream = fields.required(cx, "stream", name);
    let consumer = fields.required(cx, "consumer", name);
    let create_stream = fields.optional(cx, "create_stream", stream_spec);
    let create_consumer = fields.optional(cx, "create_consumer", consumer_spec);
    let filter_subjects = fields.optional(cx, "filter_subjects", |cx, node| list(cx, node, true, subjects_of));
    let key = fields.optional(cx, "key", key);
    let window = fields.optional(cx, "window", window);
    let beats = Duration::from_millis(500)..=Duration::from_secs(60);
    let heartbeat = fields.optional(cx, "heartbeat", |cx, node| duration(cx, node, beats));
    fields.finish(cx);
    Some(JetStreamSource {
        connection: connection?,
        stream: stream?,
        consumer: consumer?,
        create_stream,
        create_consumer,
        filter_subjects,
        key: Setting::or(key, NatsKey::Subject),
        window,
        heartbeat,
    })
}

/// `jetstream:` of a sink or dead letter queue. Only where `templates` says so may the subject be one.
pub(super) fn jetstream_sink(cx: &mut Context<'_>, node: &Node, templates: bool) -> Option<JetStreamSink> {
    let mut fields = Fields::of(cx, node, "a JetStream sink")?;
    let connection = connection(cx, &mut fields, Use::JetStream);
    let (subject, allow) = destination(cx, &mut fields, &SUBJECT, templates);
    let stream = fields.optional(cx, "stream", name);
    let create_stream = fields.optional(cx, "create_stream", stream_spec);
    if let (Some(entry), None) = (fields.entry("create_stream"), fields.entry("stream")) {
        cx.say(&entry.key_at, Code::KeyMissing, "a stream to be made needs its name", "add `stream: NAME`");
    }
    let window = fields.optional(cx, "window", window);
    let waits = Duration::from_secs(1)..=Duration::from_secs(300);
    let ack_timeout = fields.optional(cx, "ack_timeout", |cx, node| duration(cx, node, waits));
    fields.finish(cx);
    Some(JetStreamSink {
        connection: connection?,
        subject: subject?,
        allow,
        stream,
        create_stream,
        window,
        ack_timeout,
    })
}

/// `nats:` of a source.
pub(super) fn source(cx: &mut Context<'_>, node: &Node) -> Option<NatsSource> {
    let mut fields = Fields::of(cx, node, "a NATS source")?;
    let connection = connection(cx, &mut fields, Use::Core);
    let subjects = fields.required(cx, "subjects", |cx, node| list(cx, node, true, subjects_of));
    let queue_group = fields.optional(cx, "queue_group", name);
    let key = fields.optional(cx, "key", key);
    let window = fields.optional(cx, "window", window);
    fields.finish(cx);
    Some(NatsSource {
        connection: connection?,
        subjects: subjects?,
        queue_group,
        key: Setting::or(key, NatsKey::Subject),
        window,
    })
}

/// `nats:` of a sink.
pub(super) fn sink(cx: &mut Context<'_>, node: &Node) -> Option<NatsSink> {
    let mut fields = Fields::of(cx, node, "a NATS sink")?;
    let connection = connection(cx, &mut fields, Use::Core);
    let (subject, allow) = destination(cx, &mut fields, &SUBJECT, true);
    let window = fields.optional(cx, "window", window);
    let ways = [("drop", InDoubt::Drop), ("resend", InDoubt::Resend)];
    let in_doubt = fields.optional(cx, "in_doubt", |cx, node| choice(cx, node, &ways));
    fields.finish(cx);
    Some(NatsSink {
        connection: connection?,
        subject: subject?,
        allow,
        window,
        in_doubt: Setting::or(in_doubt, InDoubt::Drop),
    })
}

/// `nats:` of a profile.
pub(super) fn profile(cx: &mut Context<'_>, node: &Node) -> Option<NatsConnection> {
    let mut fields = Fields::of(cx, node, "a NATS profile")?;
    let connection = connection(cx, &mut fields, Use::Profile);
    fields.finish(cx);
    connection
}

/// What is common to all that speaks to a NATS server. Reads its keys out of `fields`.
fn connection(cx: &mut Context<'_>, fields: &mut Fields<'_>, of: Use) -> Option<NatsConnection> {
    let profiles = of != Use::Profile;
    let servers = fields.optional(cx, "servers", |cx, node| list(cx, node, true, server));
    let profile = if profiles { fields.optional(cx, "profile", profile_name) } else { None };
    let auth = fields.optional(cx, "auth", auth);
    let tls = fields.optional(cx, "tls", tls);
    let client_name = fields.optional(cx, "client_name", text);
    let timeouts = Duration::from_millis(100)..=Duration::from_secs(60);
    let timeout = fields.optional(cx, "timeout", |cx, node| duration(cx, node, timeouts));
    let domain = if of == Use::Core {
        let message = "has no effect: only JetStream has domains";
        fields.refuse(cx, "domain", Code::KeyConflict, message, "remove it, or use `jetstream:`");
        None
    } else {
        fields.optional(cx, "domain", name)
    };
    let cluster = cluster(cx, fields, servers, profile, profiles)?;
    // What was typed and cannot be had is said already; without it the connection would be another one.
    if fields.entry("auth").is_some() && auth.is_none() || fields.entry("tls").is_some() && tls.is_none() {
        return None;
    }
    Some(NatsConnection { cluster, auth, tls, client_name, timeout, domain })
}

fn cluster(
    cx: &mut Context<'_>,
    fields: &Fields<'_>,
    servers: Option<Vec<Located<String>>>,
    profile: Option<Located<String>>,
    profiles: bool,
) -> Option<NatsCluster> {
    let named = fields.entry("profile").filter(|_| profiles);
    match (fields.entry("servers"), named) {
        (Some(_), Some(named)) => {
            cx.say(&named.key_at, Code::KeyConflict, "`profile` beside `servers`", "keep one of the two");
            None
        }
        (Some(_), None) => servers.filter(|servers| !servers.is_empty()).map(NatsCluster::Servers),
        (None, Some(_)) => {
            for key in ["auth", "tls"] {
                if let Some(entry) = fields.entry(key) {
                    let message = format!("`{key}` beside `profile` has no effect: it is the profile's");
                    cx.say(&entry.key_at, Code::KeyConflict, message, "remove it, or name `servers`");
                }
            }
            profile.map(NatsCluster::Profile)
        }
        (None, None) => {
            let (message, help) = match profiles {
                true => ("no `servers` and no `profile`", "add `servers: nats://host:4222`, or `profile: name`"),
                false => ("a profile needs `servers`", "add `servers: nats://host:4222`"),
            };
            cx.say(fields.at(), Code::KeyMissing, message, help);
            None
        }
    }
}

fn server(cx: &mut Context<'_>, node: &Node) -> Option<Located<String>> {
    let typed = text(cx, node)?;
    if typed.value.contains('@') {
        // Not shown: what stands before the `@` may be a password.
        let message = "the address of a server has no `@`: who connects stands under `auth`";
        cx.say(&typed.at, Code::ValueInvalid, message, "write `auth: { user: NAME, password: { env: NAME } }`");
        return None;
    }
    let place = typed.value.strip_prefix("nats://").or_else(|| typed.value.strip_prefix("tls://"));
    if !place.is_some_and(is_broker) {
        let message = format!("`{}` is no address of a NATS server", shown(node));
        cx.say(
            &typed.at,
            Code::ValueInvalid,
            message,
            "allowed: nats://host:port, tls://host:port; the port is 4222 when absent",
        );
        return None;
    }
    Some(typed)
}

fn auth(cx: &mut Context<'_>, node: &Node) -> Option<NatsAuth> {
    const FORMS: &str = "allowed: one of `credentials: FILE`, `nkey: FILE`, `token`, `user` with `password`";
    let mut fields = Fields::of(cx, node, "`auth`")?;
    let credentials = fields.optional(cx, "credentials", path_of_secret_file);
    let nkey = fields.optional(cx, "nkey", path_of_secret_file);
    let token = fields.optional(cx, "token", secret);
    let user = fields.optional(cx, "user", text);
    let password = fields.optional(cx, "password", secret);
    fields.finish(cx);
    if let (Some(entry), None) | (None, Some(entry)) = (fields.entry("user"), fields.entry("password")) {
        cx.say(&entry.key_at, Code::KeyConflict, "`user` and `password` belong together", "give both");
        return None;
    }
    let given = ["credentials", "nkey", "token", "user"].map(|key| fields.entry(key).is_some());
    if given.into_iter().filter(|given| *given).count() != 1 {
        cx.say(&node.at, Code::KeyConflict, "who connects is proved in one way", FORMS);
        return None;
    }
    credentials
        .map(NatsAuth::Credentials)
        .or_else(|| nkey.map(NatsAuth::Nkey))
        .or_else(|| token.map(NatsAuth::Token))
        .or_else(|| user.zip(password).map(|(user, password)| NatsAuth::Password { user, password }))
}

fn tls(cx: &mut Context<'_>, node: &Node) -> Option<NatsTls> {
    let mut fields = Fields::of(cx, node, "`tls` of NATS")?;
    let files = tls_files(cx, &mut fields);
    let first = fields.optional(cx, "first", boolean);
    fields.finish(cx);
    Some(NatsTls { files, first: Setting::or(first, false) })
}

const SUBJECT: Place =
    Place { key: "subject", is_legal: is_subject, legal: "subject to publish to", help: SUBJECT_HELP };

fn is_subject(subject: &str) -> bool {
    let characters = subject.chars().all(is_name_char);
    characters && subject.len() <= 249 && subject.split('.').all(|token| !token.is_empty())
}

/// A subject with wildcards. One inside a token is text to the server, which nobody means.
fn subjects_of(cx: &mut Context<'_>, node: &Node) -> Option<Located<String>> {
    let pattern = text(cx, node)?;
    let mut tokens = pattern.value.split('.').rev();
    let plain = |token: &str| {
        let legal = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '*' | '>');
        !token.is_empty() && token.chars().all(legal)
    };
    let last = tokens.next().is_some_and(|token| matches!(token, "*" | ">") || plain(token));
    if !last || !tokens.all(|token| token == "*" || plain(token)) {
        let message = format!("`{}` is no pattern of subjects", shown(node));
        cx.say(&pattern.at, Code::ValueInvalid, message, PATTERN_HELP);
        return None;
    }
    Some(pattern)
}

/// What names a stream, consumer, queue group or domain.
fn name(cx: &mut Context<'_>, node: &Node) -> Option<Located<String>> {
    let name = text(cx, node)?;
    let legal = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '.' | '*' | '>' | '/' | '\\');
    if name.value.len() > 255 || !name.value.chars().all(legal) {
        let message = format!("`{}` is no name in NATS", shown(node));
        cx.say(&name.at, Code::ValueInvalid, message, NAME_HELP);
        return None;
    }
    Some(name)
}

/// `null` is what it says, quoted or not.
fn key(cx: &mut Context<'_>, node: &Node) -> Option<Located<NatsKey>> {
    match &node.kind {
        Kind::Scalar(scalar) if node.is_null() || scalar.text == "null" => {
            Some(Located::new(NatsKey::Null, node.at.clone()))
        }
        _ => choice(cx, node, &[("subject", NatsKey::Subject), ("null", NatsKey::Null)]),
    }
}

fn window(cx: &mut Context<'_>, node: &Node) -> Option<NatsWindow> {
    let mut fields = Fields::of(cx, node, "the `window` of NATS")?;
    let messages = fields.optional(cx, "messages", |cx, node| integer_u32(cx, node, 1..=1_000_000));
    let bytes = fields.optional(cx, "bytes", |cx, node| size(cx, node, 1 << 10..=2 << 30));
    fields.finish(cx);
    Some(NatsWindow { messages, bytes })
}
