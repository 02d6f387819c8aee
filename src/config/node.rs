use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use portcullis_policy::Rule;

use crate::{
    Ceilings, Code, Diagnostic, Diagnostics, EgressGrant, EgressMode, KafkaConnection, LevelLimits, Located, MayName,
    NodeEgress, Pipeline, Profiles, Setting, Sink, Source, Tenant, nats_connections, nearest, within,
};

/// The node's settings: `portcullis.yaml` under the environment under the flags.
#[derive(Clone, Debug)]
pub struct Node {
    /// The file, where there is one.
    pub file: Option<PathBuf>,
    /// How strict to be.
    pub mode: Setting<Mode>,
    /// Named brokers. Their own `cluster` is never a profile.
    pub profiles: Profiles,
    /// Where audit events go.
    pub audit: Audit,
    /// The administrative listener.
    pub admin: Admin,
    /// Compiled components on disk.
    pub cache: Cache,
    /// The bridge's own log.
    pub log: Log,
    /// The network of plugins.
    pub egress: NodeEgress,
    /// The most that any plugin may be granted.
    pub ceilings: Ceilings,
    /// What all plugins may use together.
    pub limits: LevelLimits,
    /// Tenants; once one is listed, a pipeline of another is refused.
    pub tenants: BTreeMap<String, Tenant>,
    /// What pipeline files may name of this machine. Without it and without a file, anything.
    pub pipelines_may_name: Option<MayName>,
    /// Every file and folder that these settings name.
    pub(crate) names: Vec<PathBuf>,
}

/// How strict a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Anything that is safe on a desk.
    Development,
    /// Digests and an audit topic are required.
    Production,
}

/// Where audit events go and what happens when they cannot.
#[derive(Clone, Debug)]
pub struct Audit {
    /// Where to; a local file that the caller chooses when absent.
    pub target: Option<Located<AuditTarget>>,
    /// When an event must be durable.
    pub mode: Setting<AuditMode>,
    /// What happens when events cannot be written.
    pub on_unavailable: Setting<OnUnavailable>,
    /// How long writing may fail before that happens; 5 s.
    pub deadline: Setting<Duration>,
}

/// Where audit events go.
#[derive(Clone, Debug)]
pub enum AuditTarget {
    /// A topic.
    Topic(Box<AuditTopic>),
    /// A local file of JSON lines.
    File(PathBuf),
}

/// An audit topic.
#[derive(Clone, Debug)]
pub struct AuditTopic {
    /// Its name.
    pub topic: Located<String>,
    /// Its cluster.
    pub connection: KafkaConnection,
}

/// When an audit event must be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuditMode {
    /// Soon after the effect.
    Buffered,
}

/// What happens when audit events cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnUnavailable {
    /// Pipelines pause until they can.
    Pause,
}

/// The administrative listener.
#[derive(Clone, Debug)]
pub struct Admin {
    /// `/metrics`, `/live`, `/ready`; 127.0.0.1:9464. Port 0 takes a free one.
    pub listen: Setting<SocketAddr>,
    /// What `/tap` shows of messages as they pass, to whoever asks from this machine; nothing.
    pub tap: Setting<TapLevel>,
}

/// How much of a message a tap may show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TapLevel {
    /// Nothing: there are no taps.
    Off,
    /// Where it stood, how large it is, how its headers are called, what plugins answered.
    Headers,
    /// Keys, values and the values of headers too.
    Payload,
}

/// Compiled components on disk.
#[derive(Clone, Debug)]
pub struct Cache {
    /// Whether to keep them; yes.
    pub enabled: Setting<bool>,
    /// Where; the user's own cache folder when absent.
    pub dir: Option<Located<PathBuf>>,
}

/// The bridge's own log.
#[derive(Clone, Debug)]
pub struct Log {
    /// Its form.
    pub format: Setting<LogFormat>,
    /// From which level up.
    pub level: Setting<LogLevel>,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// A JSON object a line.
    Json,
}

/// The level of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// `trace`
    Trace,
    /// `debug`
    Debug,
    /// `info`
    Info,
    /// `warn`
    Warn,
    /// `error`
    Error,
}

impl LogLevel {
    /// As it is typed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

impl Node {
    /// Whether several tenants are listed, who share the processor. Who is alone shares with nobody, and then what keeps them apart would be a price
    /// for nothing.
    pub fn has_several_tenants(&self) -> bool {
        self.tenants.len() > 1
    }

    /// What is wrong with a pipeline on this node: an unlisted tenant, an undeclared profile, grants and limits that its
    /// tenant or the node does not allow, what production requires.
    pub fn check(&self, pipeline: &Pipeline) -> Diagnostics {
        let mut found = Diagnostics::new();
        if let Some(diagnostic) = self.check_tenant(pipeline) {
            found.push(diagnostic);
        }
        for connection in connections(pipeline) {
            if let Err(diagnostic) = self.resolve(connection) {
                found.push(diagnostic);
            }
        }
        for connection in nats_connections(pipeline) {
            if let Err(diagnostic) = self.resolve_nats(connection) {
                found.push(diagnostic);
            }
        }
        within::pipeline(&mut found, self, pipeline);
        for plugin in &pipeline.plugins {
            if let Some(grant) = &plugin.grants.egress {
                self.check_mode(&mut found, grant);
                self.check_rules(&mut found, pipeline, grant);
            }
        }
        if self.mode.value == Mode::Production {
            for plugin in pipeline.plugins.iter().filter(|plugin| plugin.digest.is_none()) {
                let message =
                    format!("plugin `{}` has no digest, and the node's mode is production", plugin.name.value);
                found.push(
                    plugin
                        .at
                        .diagnostic(Code::ProductionRefused, message)
                        .help("add `digest: sha256:...` of the component"),
                );
            }
        }
        found
    }

    fn check_mode(&self, found: &mut Diagnostics, grant: &EgressGrant) {
        let (EgressMode::Observe, Some(at)) = (grant.mode.value, &grant.mode.at) else { return };
        if self.mode.value == Mode::Production {
            let message = "the node's mode is production, which allows no observe mode";
            found.push(
                at.diagnostic(Code::ProductionRefused, message).help("write `egress_mode: enforce`, or remove it"),
            );
        } else if !self.egress.observe.value {
            let message = "observe mode lets through what no rule allows, and the node does not consent to that";
            let help = "an operator writes `egress: { observe: true }` into the node's file";
            found.push(at.diagnostic(Code::Other("observe.not_allowed"), message).help(help));
        }
    }

    /// Rules that can never take effect, or that the node or the tenant does not allow.
    fn check_rules(&self, found: &mut Diagnostics, pipeline: &Pipeline, grant: &EgressGrant) {
        let tenant = self.tenant_of(pipeline).map(|(_, tenant)| tenant);
        let rules: Vec<Rule> = grant.rules.iter().map(|rule| rule.rule.clone()).collect();
        let consent = values(&self.egress.consent);
        let node_deny = values(&self.egress.deny);
        let tenant_deny = tenant.map(|tenant| values(&tenant.deny)).unwrap_or_default();
        let node_ceiling = self.ceilings.egress.as_deref().map(values);
        let tenant_ceiling = tenant.and_then(|tenant| tenant.ceilings.egress.as_deref()).map(values);
        let ceilings: Vec<&[Rule]> =
            [&node_ceiling, &tenant_ceiling].into_iter().flatten().map(Vec::as_slice).collect();
        let errors = portcullis_policy::check_rules(&rules, &consent, &node_deny, &tenant_deny, &ceilings);
        for (index, error) in errors {
            let Some(rule) = grant.rules.get(index) else { continue };
            let diagnostic = rule.diagnostic(&error);
            found.push(match self.denies_and_ceilings(tenant, error.slug) {
                Some(help) if diagnostic.help.is_none() => diagnostic.help(help),
                _ => diagnostic,
            });
        }
    }

    /// Where an operator finds what a rule ran into.
    fn denies_and_ceilings(&self, tenant: Option<&Tenant>, slug: &str) -> Option<String> {
        fn list<T: std::fmt::Display>(rules: &[Located<T>]) -> impl Iterator<Item = String> {
            rules.iter().map(|rule| format!("{} ({})", rule.value, rule.at))
        }
        let (denies, ceilings) = (tenant.map(|tenant| &tenant.deny), tenant.map(|tenant| &tenant.ceilings));
        let ceilings = std::iter::once(&self.ceilings).chain(ceilings).filter_map(|level| level.egress.as_deref());
        match slug {
            "grant_overridden_by_deny" => {
                let denies = list(&self.egress.deny).chain(denies.into_iter().flat_map(|deny| list(deny)));
                Some(nearest::help("denied", None, denies))
            }
            "grant_above_ceiling" => {
                let levels: Vec<String> = ceilings.map(|level| nearest::help("within", None, list(level))).collect();
                Some(format!("allowed: {}", levels.join("; and ")))
            }
            _ => None,
        }
    }

    fn check_tenant(&self, pipeline: &Pipeline) -> Option<Diagnostic> {
        if self.tenants.is_empty() {
            return None;
        }
        let help = nearest::help("listed", pipeline.tenant.as_ref().map(|tenant| tenant.as_str()), self.tenants.keys());
        match &pipeline.tenant {
            Some(tenant) if self.tenants.contains_key(&tenant.value) => None,
            Some(tenant) => {
                let message = format!("tenant `{}` is not listed in the node's file", tenant.value);
                Some(tenant.at.diagnostic(Code::TenantUnknown, message).help(help))
            }
            None => {
                let message = "the pipeline names no `tenant`, and the node's file lists tenants";
                Some(pipeline.name.at.diagnostic(Code::TenantUnknown, message).help(help))
            }
        }
    }
}

fn values<T: Clone>(located: &[Located<T>]) -> Vec<T> {
    located.iter().map(|located| located.value.clone()).collect()
}

/// Every Kafka connection that a pipeline makes.
pub fn connections(pipeline: &Pipeline) -> impl Iterator<Item = &KafkaConnection> {
    let sources = pipeline.sources.iter().filter_map(|source| match &source.value {
        Source::Kafka(kafka) => Some(&kafka.connection),
        _ => None,
    });
    let sinks = std::iter::once(&pipeline.sink).chain(&pipeline.dead_letter).filter_map(|sink| match &sink.value {
        Sink::Kafka(kafka) => Some(&kafka.connection),
        _ => None,
    });
    sources.chain(sinks)
}
