//! One pipeline as a lock holds it, made from what was linked, and what differs between two of them.

use std::collections::BTreeMap;
use std::path::Path;

use portcullis_config::{
    EgressRule, Grants, Instance, Limits, Location, Pipeline, Plugin, SecretSource, format_duration, format_size,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::lock::{Drift, folder};
use crate::plugin::Examined;

/// A pipeline in a lock.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct LockedPipeline {
    /// The name of its file in the lock's folder.
    pub(crate) file: String,
    pub(crate) tenant: Option<String>,
    /// In the order of the chain.
    pub(crate) plugins: Vec<LockedPlugin>,
}

/// A plugin in a lock.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct LockedPlugin {
    pub(crate) name: String,
    /// From the lock's folder.
    pub(crate) component: String,
    pub(crate) digest: String,
    pub(crate) manifest: Option<LockedManifest>,
    pub(crate) world: String,
    /// By function, sorted.
    pub(crate) imports: Vec<String>,
    /// In one spelling; `egress[0]` is the first rule.
    pub(crate) grants: BTreeMap<String, String>,
    pub(crate) budgets: BTreeMap<String, String>,
    /// The digest of the egress policy: its rules with the denies and ceilings over them.
    pub(crate) policy: Option<String>,
    /// The digest of the configuration as it was typed, with the files that it inlines and without what variables hold.
    #[serde(default)]
    pub(crate) config: Option<String>,
    /// The digests of the files that rules name: `egress[0].ca`, and of `client_cert` the certificate.
    #[serde(default)]
    pub(crate) files: BTreeMap<String, String>,
}

/// A manifest in a lock.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct LockedManifest {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) digest: String,
}

impl LockedPipeline {
    pub(crate) fn new(pipeline: &Pipeline, plugins: Vec<LockedPlugin>) -> Self {
        let file = pipeline.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { file, tenant: pipeline.tenant.as_ref().map(|tenant| tenant.value.clone()), plugins }
    }

    /// What differs in `found`.
    pub(crate) fn drift(&self, found: &Self) -> Vec<Drift> {
        let mut drifts = Vec::new();
        let mut differs = |plugin: Option<&str>, what: &str, was: &str, is: &str| {
            let text = format!("`{what}` was {was}, now it is {is}");
            drifts.push(Drift { plugin: plugin.map(str::to_owned), what: what.to_owned(), text });
        };
        if self.tenant != found.tenant {
            differs(None, "tenant", or_none(self.tenant.as_deref()), or_none(found.tenant.as_deref()));
        }
        let names = |pipeline: &Self| pipeline.plugins.iter().map(|plugin| plugin.name.clone()).collect::<Vec<_>>();
        if names(self) != names(found) {
            differs(None, "plugins", &list(&names(self)), &list(&names(found)));
        }
        for plugin in &found.plugins {
            if let Some(locked) = self.plugins.iter().find(|locked| locked.name == plugin.name) {
                locked.drift(plugin, &mut |what, was, is| differs(Some(&plugin.name), what, was, is));
            }
        }
        drifts
    }
}

impl LockedPlugin {
    pub(crate) fn new(
        pipeline: &Pipeline,
        plugin: &Plugin,
        limits: &Limits,
        examined: &Examined,
        policy: Option<String>,
        files: BTreeMap<String, String>,
    ) -> Self {
        let from = folder(&pipeline.file);
        let component = plugin.component.strip_prefix(&from).unwrap_or(&plugin.component);
        let functions = examined.imports.iter().flat_map(|import| {
            let of = |function| format!("{}.{function}", import.interface);
            import.functions.iter().map(of)
        });
        let mut imports: Vec<String> = functions.collect();
        imports.sort_unstable();
        Self {
            name: plugin.name.value.clone(),
            component: component.to_string_lossy().into_owned(),
            digest: examined.digest.clone(),
            manifest: examined.claimed.as_ref().map(|claimed| LockedManifest {
                name: claimed.manifest.name.clone(),
                version: claimed.manifest.version.clone(),
                digest: claimed.digest.clone(),
            }),
            world: examined.world.clone(),
            imports,
            grants: grants(&plugin.grants, &from),
            budgets: budgets(limits, plugin.instance.value, plugin.grants.egress.is_some()),
            policy,
            config: plugin.config.as_ref().map(|config| digest_text(config.to_typed_json().as_bytes())),
            files,
        }
    }

    fn drift(&self, found: &Self, differs: &mut dyn FnMut(&str, &str, &str)) {
        let mut compare = |what: &str, was: &str, is: &str| {
            if was != is {
                differs(what, was, is);
            }
        };
        compare("component", &self.component, &found.component);
        compare("digest", &self.digest, &found.digest);
        let manifest = |plugin: &Self| {
            let of = |manifest: &LockedManifest| format!("{} {} {}", manifest.name, manifest.version, manifest.digest);
            plugin.manifest.as_ref().map_or_else(|| NONE.to_owned(), of)
        };
        compare("manifest", &manifest(self), &manifest(found));
        compare("world", &self.world, &found.world);
        compare("imports", &list(&self.imports), &list(&found.imports));
        for (key, was, is) in pairs(&self.grants, &found.grants) {
            compare(&format!("grants.{key}"), was, is);
        }
        // Locks of earlier versions have the bounds of a network also of plugins that have none.
        let has_network = found.grants.keys().any(|key| key.starts_with("egress"));
        let budgets = pairs(&self.budgets, &found.budgets);
        for (key, was, is) in budgets.filter(|(key, ..)| has_network || !OF_NETWORK.contains(key)) {
            compare(&format!("limits.{key}"), was, is);
        }
        compare("config", or_none(self.config.as_deref()), or_none(found.config.as_deref()));
        for (key, was, is) in pairs(&self.files, &found.files) {
            compare(&format!("grants.{key}"), was, is);
        }
        // The rules say it better where they differ themselves; what is left is a deny or a ceiling above them.
        if self.grants == found.grants {
            compare("policy", or_none(self.policy.as_deref()), or_none(found.policy.as_deref()));
        }
    }
}

const NONE: &str = "none";

/// As a lock has it.
pub(super) fn digest_text(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

fn or_none(text: Option<&str>) -> &str {
    text.unwrap_or(NONE)
}

fn list(names: &[String]) -> String {
    if names.is_empty() { NONE.to_owned() } else { names.join(", ") }
}

/// Every key of both, with both values.
fn pairs<'a>(
    one: &'a BTreeMap<String, String>,
    other: &'a BTreeMap<String, String>,
) -> impl Iterator<Item = (&'a str, &'a str, &'a str)> {
    let keys: std::collections::BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    keys.into_iter().map(move |key| {
        let of = |map: &'a BTreeMap<String, String>| or_none(map.get(key).map(String::as_str));
        (key.as_str(), of(one), of(other))
    })
}

fn grants(grants: &Grants, from: &Path) -> BTreeMap<String, String> {
    let mut map = BTreeMap::new();
    let mut put = |key: &str, text: String| drop(map.insert(key.to_owned(), text));
    if let Some(log) = &grants.log {
        put("log", log.as_str().to_owned());
    }
    if let Some(clock) = &grants.clock {
        put("clock", clock.as_str().to_owned());
    }
    if grants.random.is_some() {
        put("random", "true".to_owned());
    }
    if let Some(egress) = &grants.egress {
        let mode = match egress.mode.value {
            portcullis_config::EgressMode::Enforce => "enforce",
            portcullis_config::EgressMode::Observe => "observe",
        };
        put("egress_mode", mode.to_owned());
        for (index, rule) in egress.rules.iter().enumerate() {
            put(&format!("egress[{index}]"), rule_text(rule, from));
        }
    }
    map
}

/// A rule with what is done for it; of a secret its header's name and where it comes from, never what it is.
fn rule_text(rule: &EgressRule, from: &Path) -> String {
    let path = |path: &Path| path.strip_prefix(from).unwrap_or(path).display().to_string();
    let mut text = rule.rule.canonical();
    if let Some(ca) = &rule.ca {
        text.push_str(&format!(" ca {}", path(ca)));
    }
    if let Some(cert) = &rule.client_cert {
        text.push_str(&format!(" client_cert {} {}", path(&cert.cert), path(&cert.key)));
    }
    for secret in &rule.secrets {
        let source = match &secret.source {
            SecretSource::Env(name) => format!("env {name}"),
            SecretSource::File(file) => format!("file {}", path(file)),
        };
        text.push_str(&format!(" secret {} {source}", secret.name.value));
    }
    text
}

/// The budgets that bound a network.
const OF_NETWORK: [&str; 5] = ["connections", "connects", "lookups", "egress_bytes", "ingress_bytes"];

fn budgets(limits: &Limits, instance: Instance, network: bool) -> BTreeMap<String, String> {
    let instance = instance.as_str();
    let speed = |bytes: &portcullis_config::Located<u64>| format!("{}/s", format_size(bytes.value));
    let rows = [
        ("deadline", Some(format_duration(limits.deadline.value))),
        ("fuel", Some(limits.fuel.value.to_string())),
        ("memory", Some(format_size(limits.memory_bytes.value))),
        ("output", Some(format_size(limits.output_bytes.value))),
        ("log", Some(format_size(limits.log_bytes.value))),
        ("log_rate", Some(format!("{}/s", format_size(limits.log_rate_bytes_s.value)))),
        ("host_calls", Some(limits.host_calls.value.to_string())),
        ("handles", Some(limits.handles.value.to_string())),
        ("restarts", Some(limits.restarts.value.to_string())),
        ("concurrency", Some(limits.concurrency.value.to_string())),
        ("connections", Some(limits.connections.value.to_string())),
        ("connects", Some(limits.connects.value.to_string())),
        ("lookups", Some(limits.lookups.value.to_string())),
        ("egress_bytes", limits.egress_bytes.as_ref().map(speed)),
        ("ingress_bytes", limits.ingress_bytes.as_ref().map(speed)),
        ("instance", Some(instance.to_owned())),
    ];
    let rows = rows.into_iter().filter(|(key, _)| network || !OF_NETWORK.contains(key));
    rows.filter_map(|(key, text)| Some((key.to_owned(), text?))).collect()
}

/// Where an operator typed, or would have to type, what a drift is about.
pub(crate) fn place<'a>(pipeline: &'a Pipeline, drift: &Drift, limits: Option<&'a Limits>) -> &'a Location {
    let plugin = drift.plugin.as_ref();
    let plugin = plugin.and_then(|name| pipeline.plugins.iter().find(|plugin| plugin.name.value == *name));
    let Some(plugin) = plugin else {
        return match drift.what.as_str() {
            "tenant" => pipeline.tenant.as_ref().map_or(&pipeline.name.at, |tenant| &tenant.at),
            _ => &pipeline.name.at,
        };
    };
    let found = match drift.what.split_once('.') {
        Some(("grants", key)) => place_of_grant(&plugin.grants, key),
        Some(("limits", key)) => limits.and_then(|limits| place_of_limit(limits, plugin, key)),
        _ if drift.what == "policy" => plugin.grants.egress.as_ref().map(|egress| &egress.at),
        _ if drift.what == "config" => plugin.config.as_ref().map(|config| &config.at),
        _ if drift.what == "digest" => plugin.digest.as_ref().map(|digest| &digest.at),
        _ => None,
    };
    found.unwrap_or(match drift.what.as_str() {
        "component" | "digest" | "manifest" | "world" | "imports" => &plugin.component.at,
        _ => &plugin.at,
    })
}

fn place_of_grant<'a>(grants: &'a Grants, key: &str) -> Option<&'a Location> {
    match key {
        "log" => grants.log.as_ref().map(|log| &log.at),
        "clock" => grants.clock.as_ref().map(|clock| &clock.at),
        "random" => grants.random.as_ref(),
        "egress_mode" => grants.egress.as_ref().map(|egress| egress.mode.at.as_ref().unwrap_or(&egress.at)),
        rule => {
            let (index, file) = rule.strip_prefix("egress[")?.split_once(']')?;
            let egress = grants.egress.as_ref()?;
            let Some(rule) = egress.rules.get(index.parse::<usize>().ok()?) else { return Some(&egress.at) };
            let file = match file {
                ".ca" => rule.ca.as_ref().map(|ca| &ca.at),
                ".client_cert" => rule.client_cert.as_ref().map(|client| &client.cert.at),
                _ => None,
            };
            Some(file.unwrap_or(&rule.at))
        }
    }
}

fn place_of_limit<'a>(limits: &'a Limits, plugin: &'a Plugin, key: &str) -> Option<&'a Location> {
    match key {
        "deadline" => limits.deadline.at.as_ref(),
        "fuel" => limits.fuel.at.as_ref(),
        "memory" => limits.memory_bytes.at.as_ref(),
        "output" => limits.output_bytes.at.as_ref(),
        "log" => limits.log_bytes.at.as_ref(),
        "log_rate" => limits.log_rate_bytes_s.at.as_ref(),
        "host_calls" => limits.host_calls.at.as_ref(),
        "handles" => limits.handles.at.as_ref(),
        "restarts" => limits.restarts.at.as_ref(),
        "concurrency" => limits.concurrency.at.as_ref(),
        "connections" => limits.connections.at.as_ref(),
        "connects" => limits.connects.at.as_ref(),
        "lookups" => limits.lookups.at.as_ref(),
        "egress_bytes" => limits.egress_bytes.as_ref().map(|bytes| &bytes.at),
        "ingress_bytes" => limits.ingress_bytes.as_ref().map(|bytes| &bytes.at),
        "instance" => plugin.instance.at.as_ref(),
        _ => None,
    }
}
