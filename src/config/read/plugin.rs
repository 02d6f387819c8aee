use std::time::Duration;

use super::Context;
use super::egress::egress;
use super::fields::Fields;
use super::inline::plugin_config;
use super::limits::limits;
use super::values::{boolean, choice, integer_u32, name, path, shown, text};
use crate::yaml::{Kind, Node};
use crate::{
    Clock, Code, Diagnostics, Disposition, Dispositions, EgressMode, Grants, Instance, Located, Location, Plugin,
    PluginLogLevel, Retry, Setting, parse_duration,
};

const DISPOSITIONS: [(&str, Disposition); 3] =
    [("dead_letter", Disposition::DeadLetter), ("drop", Disposition::Drop), ("stop", Disposition::Stop)];

pub(super) const PLUGIN_LOG_LEVELS: [(&str, PluginLogLevel); 4] = [
    ("debug", PluginLogLevel::Debug),
    ("info", PluginLogLevel::Info),
    ("warn", PluginLogLevel::Warn),
    ("error", PluginLogLevel::Error),
];

pub(super) const CLOCKS: [(&str, Clock); 2] = [("coarse", Clock::Coarse), ("precise", Clock::Precise)];

/// One entry of `plugins:`. `dead_letter` says whether the pipeline declares one.
pub(super) fn plugin(cx: &mut Context<'_>, node: &Node, dead_letter: bool) -> Option<Plugin> {
    let found = cx.found.len();
    let mut fields = Fields::of(cx, node, "a plugin")?;
    let name = fields.required(cx, "name", name);
    let component = fields.required(cx, "component", path);
    let digest = fields.optional(cx, "digest", digest);
    let config = fields.optional(cx, "config", plugin_config);
    // What is said of all of it is said at its key.
    let config =
        config.zip(fields.entry("config")).map(|(config, entry)| Located::new(config.value, entry.key_at.clone()));
    let on = fields.optional(cx, "on", |_, node| Some(node));
    let on = dispositions(cx, on, dead_letter);
    let grants = fields.optional(cx, "grants", grants);
    let limits_node = fields.optional(cx, "limits", |_, node| Some(node));
    // A key whose value is wrong was meant as one.
    let egress = fields.entry("grants").is_some_and(|grants| has_key(&grants.value, "egress"));
    let limits = limits(cx, limits_node, egress);
    let instances = [("lane", Instance::Lane), ("batch", Instance::Batch), ("message", Instance::Message)];
    let instance = fields.optional(cx, "instance", |cx, node| choice(cx, node, &instances));
    fields.finish(cx);
    Some(Plugin {
        at: node.at.clone(),
        name: name?,
        component: component?,
        digest,
        config,
        on,
        grants: grants.unwrap_or_default(),
        limits,
        instance: Setting::or(instance, Instance::Lane),
        is_whole: cx.found.len() == found && !cx.found.is_full() && !is_touched(node, &cx.found),
    })
}

/// Whether something of a node was wrong before it was read, or has been said of another place that shares it.
fn is_touched(node: &Node, found: &Diagnostics) -> bool {
    let said = |at: &Location| found.iter().any(|diagnostic| diagnostic.at == *at);
    said(&node.at)
        || match &node.kind {
            Kind::Broken => true,
            Kind::Scalar(_) => false,
            Kind::Seq(items) => items.iter().any(|item| is_touched(item, found)),
            Kind::Map(entries) => entries.iter().any(|entry| said(&entry.key_at) || is_touched(&entry.value, found)),
        }
}

fn has_key(node: &Node, key: &str) -> bool {
    matches!(&node.kind, Kind::Map(entries) if entries.iter().any(|entry| entry.key == key))
}

fn digest(cx: &mut Context<'_>, node: &Node) -> Option<Located<String>> {
    let digest = text(cx, node)?;
    let lower_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    let legal = digest.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && hex.chars().all(lower_hex));
    if !legal {
        let message = format!("`{}` is no digest", shown(node));
        cx.say(&digest.at, Code::ValueInvalid, message, "allowed: sha256: and 64 lower-case hexadecimal digits");
        return None;
    }
    Some(digest)
}

fn dispositions(cx: &mut Context<'_>, node: Option<&Node>, dead_letter: bool) -> Dispositions {
    let default = if dead_letter { Disposition::DeadLetter } else { Disposition::Stop };
    let mut on = Dispositions {
        reject: Setting::default_of(default),
        fault: Setting::default_of(default),
        retry: Retry {
            attempts: Setting::default_of(5),
            backoff_min: Setting::default_of(Duration::from_millis(100)),
            backoff_max: Setting::default_of(Duration::from_secs(10)),
        },
        may_drop: Setting::default_of(false),
    };
    let Some(mut fields) = node.and_then(|node| Fields::of(cx, node, "`on` of a plugin")) else { return on };
    let reject = fields.optional(cx, "reject", |cx, node| disposition(cx, node, dead_letter));
    on.reject = Setting::or(reject, default);
    let fault = fields.optional(cx, "fault", |cx, node| disposition(cx, node, dead_letter));
    on.fault = Setting::or(fault, default);
    fields.optional(cx, "retry", |cx, node| retry(cx, node, &mut on.retry));
    let may_drop = fields.optional(cx, "drop", |cx, node| choice(cx, node, &[("allow", true)]));
    on.may_drop = Setting::or(may_drop, false);
    fields.finish(cx);
    on
}

fn disposition(cx: &mut Context<'_>, node: &Node, dead_letter: bool) -> Option<Located<Disposition>> {
    let disposition = choice(cx, node, &DISPOSITIONS)?;
    if disposition.value == Disposition::DeadLetter && !dead_letter {
        let message = "the pipeline declares no `dead_letter`";
        cx.say(
            &disposition.at,
            Code::DeadLetterMissing,
            message,
            "add `dead_letter:` to the pipeline; without it: drop, stop",
        );
        return None;
    }
    Some(disposition)
}

fn retry(cx: &mut Context<'_>, node: &Node, retry: &mut Retry) -> Option<()> {
    let mut fields = Fields::of(cx, node, "`retry`")?;
    let attempts = fields.optional(cx, "attempts", |cx, node| integer_u32(cx, node, 0..=1000));
    retry.attempts = Setting::or(attempts, retry.attempts.value);
    if let Some((min, max)) = fields.optional(cx, "backoff", backoff) {
        retry.backoff_min = Setting::or(Some(min), Duration::ZERO);
        retry.backoff_max = Setting::or(Some(max), Duration::ZERO);
    }
    fields.finish(cx);
    Some(())
}

/// `100ms..10s`, or one duration for both.
fn backoff(cx: &mut Context<'_>, node: &Node) -> Option<(Located<Duration>, Located<Duration>)> {
    const LONGEST: Duration = Duration::from_secs(3600);
    let typed = text(cx, node)?;
    let (min, max) = typed.value.split_once("..").unwrap_or((&typed.value, &typed.value));
    match (parse_duration(min.trim()), parse_duration(max.trim())) {
        (Ok(min), Ok(max)) if !min.is_zero() && min <= max && max <= LONGEST => {
            Some((Located::new(min, typed.at.clone()), Located::new(max, typed.at)))
        }
        _ => {
            let message = format!("`{}` is no backoff", shown(node));
            cx.say(
                &typed.at,
                Code::ValueInvalid,
                message,
                "allowed: shortest..longest wait, such as 100ms..10s, from 1ms to 1h",
            );
            None
        }
    }
}

fn grants(cx: &mut Context<'_>, node: &Node) -> Option<Grants> {
    let mut fields = Fields::of(cx, node, "`grants`")?;
    let log = fields.optional(cx, "log", |cx, node| choice(cx, node, &PLUGIN_LOG_LEVELS));
    let clock = fields.optional(cx, "clock", |cx, node| choice(cx, node, &CLOCKS));
    let random = fields.optional(cx, "random", random);
    let mut egress = fields.optional(cx, "egress", egress);
    let modes = [("enforce", EgressMode::Enforce), ("observe", EgressMode::Observe)];
    let mode = fields.optional(cx, "egress_mode", |cx, node| choice(cx, node, &modes));
    if let (None, Some(entry)) = (fields.entry("egress"), fields.entry("egress_mode")) {
        let message = "`egress_mode` has no effect without `egress`";
        cx.say(&entry.key_at, Code::KeyConflict, message, "add `egress: []`, or remove it");
    }
    if let Some(egress) = &mut egress {
        egress.mode = Setting::or(mode, EgressMode::Enforce);
    }
    let message = "are of one rule: they go to the hosts that it names and to no other";
    let help = "write `egress: [{ allow: \"https://...\", secrets: { authorization: { env: NAME } } }]`";
    fields.refuse(cx, "secrets", Code::GrantNotAvailable, message, help);
    for (key, message) in [
        ("kv", "is not available: a plugin keeps no state outside of its instance"),
        (
            "environment",
            "is not available: a plugin gets its settings from `config`, never from the host's environment",
        ),
        (
            "filesystem",
            "is not available: a plugin has no files; inline what it needs with `config: { x: { $file: path } }`",
        ),
    ] {
        fields.refuse(cx, key, Code::GrantNotAvailable, message, "available: log, clock, random, egress");
    }
    fields.finish(cx);
    Some(Grants { log, clock, random, egress })
}

fn random(cx: &mut Context<'_>, node: &Node) -> Option<Location> {
    let granted = boolean(cx, node)?;
    if !granted.value {
        // A key that is present links its interface, so `false` would say two things at once.
        cx.say(
            &granted.at,
            Code::ValueInvalid,
            "a grant that is not meant is left out",
            "allowed: true; else remove the key",
        );
        return None;
    }
    Some(granted.at)
}
