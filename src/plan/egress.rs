//! The network of the plugins that have one: policies, TLS profiles and secrets made ready while the plan is made, so that
//! what is wrong with them is refused before anything runs; opened when the pipeline starts and the audit is there.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use portcullis_audit::{Mode as AuditMode, Recorder};
use portcullis_config::{
    Code, Diagnostic, Diagnostics, EgressGrant, EgressMode, EgressRule, Location, Node, Pipeline, Plugin, Rate, Roots,
    read_file,
};
use portcullis_net::{
    Effects, Egress, NetLimits, Resolver, ResolverSettings, RuleTls, Secret, SecretHeader, Servers, Settings, TlsError,
    roots_from_pem, system_roots,
};
use portcullis_policy::{Mode, OwnEndpoints, Policy, PolicyParts};
use rustls::RootCertStore;

use super::levels::Levels;
use super::locked::digest_text;
use super::own::OwnText;
use crate::pipeline::EgressMaker;
use crate::plugin::{LinkedPlugin, waiting_handle};

/// The largest certificate or key file that is read, in bytes.
const MAX_PEM_BYTES: u64 = 4 << 20;

/// What the networks of one process share.
pub(super) struct Networks<'a> {
    node: &'a Node,
    levels: &'a Levels,
    /// What the bridge itself connects to or listens on, as it was typed.
    own: OwnText,
    resolver: OnceCell<Result<Arc<Resolver>, String>>,
    roots: OnceCell<Result<Arc<RootCertStore>, TlsError>>,
}

/// The network of one plugin, not opened yet.
pub(super) struct Network {
    pub(super) policy: Policy,
    /// What was read of the files that rules name, as a lock has it.
    pub(super) files: BTreeMap<String, String>,
    own: OwnText,
    rule_tls: Vec<RuleTls>,
    secrets: Vec<SecretHeader>,
    roots: Arc<RootCertStore>,
    resolver: Arc<Resolver>,
    limits: NetLimits,
    parents: Vec<Arc<portcullis_net::Budget>>,
}

impl<'a> Networks<'a> {
    pub(super) fn new(node: &'a Node, levels: &'a Levels, own: OwnText) -> Self {
        Self { node, levels, own, resolver: OnceCell::new(), roots: OnceCell::new() }
    }

    /// The policy of a plugin's grant, before any address of the bridge is known.
    pub(super) fn policy(&self, pipeline: &Pipeline, grant: &EgressGrant) -> Policy {
        Policy::new(self.parts(pipeline, grant, self.own.typed()))
    }

    /// What the policy of a plugin's grant is made of.
    pub(super) fn parts(&self, pipeline: &Pipeline, grant: &EgressGrant, own: OwnEndpoints) -> PolicyParts {
        let rules = |rules: &[portcullis_config::Located<portcullis_policy::Rule>]| -> Vec<_> {
            rules.iter().map(|rule| rule.value.clone()).collect()
        };
        let denies = |denies: &[portcullis_config::Located<portcullis_policy::Deny>]| -> Vec<_> {
            denies.iter().map(|deny| deny.value.clone()).collect()
        };
        let tenant = pipeline.tenant.as_ref().and_then(|name| self.node.tenants.get(&name.value));
        PolicyParts {
            rules: grant.rules.iter().map(|rule| rule.rule.clone()).collect(),
            node_deny: denies(&self.node.egress.deny),
            tenant_deny: tenant.map(|tenant| denies(&tenant.deny)).unwrap_or_default(),
            node_ceiling: self.node.ceilings.egress.as_deref().map(rules),
            tenant_ceiling: tenant.and_then(|tenant| tenant.ceilings.egress.as_deref()).map(rules),
            own,
            consent: self.node.egress.consent.iter().map(|net| net.value).collect(),
            mode: match grant.mode.value {
                EgressMode::Enforce => Mode::Enforce,
                EgressMode::Observe => Mode::Observe,
            },
        }
    }

    /// The endpoints of the bridge, with the addresses of their names only with `look_up`. No cluster is asked.
    pub(super) fn own(&self, look_up: bool) -> OwnEndpoints {
        if look_up { self.own.looked_up() } else { self.own.typed() }
    }

    /// Everything about a plugin's network that can be wrong before it is used.
    pub(super) fn network(&self, pipeline: &Pipeline, plugin: &Plugin) -> Result<Option<Network>, Diagnostics> {
        let Some(grant) = &plugin.grants.egress else { return Ok(None) };
        let mut wrong = Diagnostics::new();
        let mut keep = |result: Result<_, Diagnostic>| result.map_err(|diagnostic| wrong.push(diagnostic)).ok();
        let resolver = keep(self.resolver(&grant.at));
        let needs_roots = grant.rules.iter().any(|rule| rule.rule.proto() == portcullis_policy::Proto::Https);
        let roots = if needs_roots { self.roots(&grant.at) } else { Ok(Arc::new(RootCertStore::empty())) };
        let roots = roots.map_err(|diagnostic| wrong.push(diagnostic)).ok();
        let mut rule_tls = Vec::new();
        let mut files = BTreeMap::new();
        let mut secrets = Vec::new();
        for (index, rule) in grant.rules.iter().enumerate() {
            if let Some(roots) = &roots {
                match rule_profile(index, rule, roots, &mut files) {
                    Ok(profile) => rule_tls.extend(profile),
                    Err(diagnostic) => wrong.push(diagnostic),
                }
            }
            for secret in &rule.secrets {
                let bytes = Secret::new(secret.value.value.expose().as_bytes().to_vec());
                match SecretHeader::new(index, secret.name.as_str(), bytes) {
                    Ok(header) => secrets.push(header),
                    Err(error) => wrong.push(secret.value.at.diagnostic(Code::ValueInvalid, error.to_string())),
                }
            }
        }
        let (Some(resolver), Some(roots), true) = (resolver, roots, wrong.is_empty()) else { return Err(wrong) };
        Ok(Some(Network {
            policy: self.policy(pipeline, grant),
            files,
            own: self.own.clone(),
            rule_tls,
            secrets,
            roots,
            resolver,
            limits: limits(&plugin.limits),
            parents: self.levels.network(pipeline.tenant.as_ref().map(|tenant| tenant.as_str())),
        }))
    }

    pub(super) fn resolver(&self, at: &Location) -> Result<Arc<Resolver>, Diagnostic> {
        let made = self.resolver.get_or_init(|| {
            let dns = &self.node.egress.dns;
            let servers = match &dns.servers[..] {
                [] => Servers::System,
                servers => Servers::Given(servers.iter().map(|server| server.value).collect()),
            };
            let handle = waiting_handle().map_err(|error| error.to_string())?;
            let settings = ResolverSettings { servers, timeout: dns.timeout.value };
            Resolver::new(settings, handle).map_err(|error| error.to_string())
        });
        made.clone().map_err(|error| {
            at.diagnostic(Code::Other("egress.dns"), format!("no name server can be asked: {error}"))
                .help("name them in the node's file: `egress: { dns: { servers: [\"10.0.0.2:53\"] } }`")
        })
    }

    fn roots(&self, at: &Location) -> Result<Arc<RootCertStore>, Diagnostic> {
        let made = self.roots.get_or_init(|| match &self.node.egress.tls.roots.value {
            Roots::System => system_roots(),
            Roots::File(path) => {
                read_file(path, MAX_PEM_BYTES).map_or(Err(TlsError::NoCertificate), |pem| roots_from_pem(&pem))
            }
        });
        made.as_ref().map(Arc::clone).map_err(|error| {
            let roots = match &self.node.egress.tls.roots.value {
                Roots::System => "the system's certificates".to_owned(),
                Roots::File(path) => path.display().to_string(),
            };
            at.diagnostic(Code::Other("egress.tls"), format!("{roots}: {error}"))
                .help("`egress: { tls: { roots: FILE } }` of the node's file names a PEM file")
        })
    }
}

impl Network {
    /// What opens it, once.
    pub(super) fn maker(self, pipeline: &Pipeline, linked: &LinkedPlugin) -> EgressMaker {
        let tenant: Option<Arc<str>> = pipeline.tenant.as_ref().map(|tenant| tenant.as_str().into());
        let name: Arc<str> = pipeline.name.as_str().into();
        let actor = crate::pipeline::actor(tenant.as_ref(), &name, linked);
        Box::new(move |recorder: &Recorder, effects: Effects| {
            let settings = Settings {
                policy: Arc::new(self.policy.with_own(self.own.complete())),
                rule_tls: self.rule_tls,
                secrets: self.secrets,
                roots: self.roots,
                limits: self.limits,
                parents: self.parents,
                actor,
                recorder: recorder.clone(),
                mode: AuditMode::Buffered,
                resolver: self.resolver,
                tenant: tenant.unwrap_or_default(),
            };
            Egress::new(settings, effects)
        })
    }
}

fn rule_profile(
    index: usize,
    rule: &EgressRule,
    roots: &Arc<RootCertStore>,
    files: &mut BTreeMap<String, String>,
) -> Result<Option<RuleTls>, Diagnostic> {
    if rule.ca.is_none() && rule.client_cert.is_none() {
        return Ok(None);
    }
    let ca = rule.ca.as_ref().map(|file| pem(&file.value, &file.at)).transpose()?;
    let client = match &rule.client_cert {
        Some(client) => Some((pem(&client.cert.value, &client.cert.at)?, pem(&client.key.value, &client.key.at)?)),
        None => None,
    };
    // Not of the key: a digest of a secret is a means to try out guesses.
    let read = [("ca", ca.as_ref()), ("client_cert", client.as_ref().map(|(cert, _)| cert))];
    for (key, bytes) in read.into_iter().filter_map(|(key, bytes)| Some((key, bytes?))) {
        files.insert(format!("egress[{index}].{key}"), digest_text(bytes));
    }
    let pair = client.as_ref().map(|(cert, key)| (&cert[..], &key[..]));
    let at = rule.ca.as_ref().map_or(&rule.at, |file| &file.at);
    let profile = RuleTls::new(index, ca.as_deref(), pair, roots);
    profile.map(Some).map_err(|error| at.diagnostic(Code::Other("egress.tls"), format!("a file of the rule {error}")))
}

fn pem(path: &Path, at: &Location) -> Result<Vec<u8>, Diagnostic> {
    read_file(path, MAX_PEM_BYTES)
        .map_err(|error| at.diagnostic(Code::FileUnreadable, format!("{}: {error}", path.display())))
}

fn limits(limits: &portcullis_config::Limits) -> NetLimits {
    let rate = |rate: &Rate| -> (u32, Duration) { (rate.count, rate.per) };
    NetLimits {
        connections: limits.connections.value,
        connects: rate(&limits.connects.value),
        lookups: rate(&limits.lookups.value),
        egress_bytes_s: limits.egress_bytes.as_ref().map(|limit| limit.value),
        ingress_bytes_s: limits.ingress_bytes.as_ref().map(|limit| limit.value),
        handles: limits.handles.value,
    }
}
