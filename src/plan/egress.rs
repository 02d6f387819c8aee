//! The network of the plugins that have one: policies, TLS profiles and secrets made ready while the plan is made, so that
//! what is wrong with them is refused before anything runs; opened when the pipeline starts and the audit is there.

use std::cell::OnceCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use portcullis_audit::{Mode as AuditMode, Recorder};
use portcullis_config::{
    Code, Diagnostic, Diagnostics, EgressGrant, EgressMode, EgressRule, Location, Node, Pipeline, Plugin, Rate, Roots,
};
use portcullis_net::{
    Egress, NetLimits, Resolver, ResolverSettings, RuleTls, Secret, SecretHeader, Servers, Settings, TlsError,
    roots_from_pem, system_roots,
};
use portcullis_policy::{Host, Mode, OwnEndpoints, Policy, PolicyParts};
use rustls::RootCertStore;

use super::levels::Levels;
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

/// Endpoints of the bridge by text. They are looked up when a network is opened: brokers move.
#[derive(Clone, Debug, Default)]
pub(super) struct OwnText {
    /// `host:port`, as bootstrap lists have them.
    pub(super) endpoints: Vec<String>,
    pub(super) admin: Option<SocketAddr>,
}

/// The network of one plugin, not opened yet.
pub(super) struct Network {
    pub(super) policy: Policy,
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
        Policy::new(self.parts(pipeline, grant, own_endpoints(&self.own, false)))
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

    /// The endpoints of the bridge, those of names only with `look_up`.
    pub(super) fn own(&self, look_up: bool) -> OwnEndpoints {
        own_endpoints(&self.own, look_up)
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
        let mut secrets = Vec::new();
        for (index, rule) in grant.rules.iter().enumerate() {
            if let Some(roots) = &roots {
                match rule_profile(index, rule, roots) {
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
            Roots::File(path) => std::fs::read(path).map_or(Err(TlsError::NoCertificate), |pem| roots_from_pem(&pem)),
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
        let plugin: Arc<str> = linked.name().into();
        Box::new(move |recorder: &Recorder| {
            Egress::new(Settings {
                policy: Arc::new(self.policy.with_own(own_endpoints(&self.own, true))),
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
                plugin,
                pipeline: name,
            })
        })
    }
}

/// The endpoints of the bridge. With `look_up`, names of brokers are resolved the way the Kafka client resolves them; a name
/// that has no address now is still refused as a name.
fn own_endpoints(text: &OwnText, look_up: bool) -> OwnEndpoints {
    let mut own = OwnEndpoints::default();
    for endpoint in &text.endpoints {
        // The Kafka client takes the same port where none was typed.
        let (host, port) = endpoint.rsplit_once(':').unwrap_or((endpoint.as_str(), "9092"));
        let Ok(port) = port.parse::<u16>() else { continue };
        match portcullis_policy::parse_host(host) {
            Ok(Host::Address(address)) => own.sockets.push(SocketAddr::new(address, port)),
            Ok(Host::Name(name)) => own.names.push((name, port)),
            // `localhost` and the like are no names for a plugin, so only their addresses matter.
            Err(_) if host == "localhost" => {
                own.sockets.extend(
                    [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
                        .map(|ip: IpAddr| SocketAddr::new(ip, port)),
                );
            }
            Err(_) => {}
        }
        if look_up && let Ok(addresses) = (host.trim_matches(['[', ']']), port).to_socket_addrs() {
            own.sockets.extend(addresses);
        }
    }
    own.sockets.extend(text.admin);
    own.interfaces = interfaces();
    own
}

/// The addresses of this machine but those of the loopback device, which are a special range anyway.
fn interfaces() -> Vec<IpAddr> {
    let found = if_addrs::get_if_addrs().unwrap_or_default();
    found.into_iter().filter(|interface| interface.name != "lo" && !interface.is_loopback()).map(|i| i.ip()).collect()
}

fn rule_profile(index: usize, rule: &EgressRule, roots: &Arc<RootCertStore>) -> Result<Option<RuleTls>, Diagnostic> {
    if rule.ca.is_none() && rule.client_cert.is_none() {
        return Ok(None);
    }
    let ca = rule.ca.as_ref().map(|file| pem(&file.value, &file.at)).transpose()?;
    let client = match &rule.client_cert {
        Some(client) => Some((pem(&client.cert.value, &client.cert.at)?, pem(&client.key.value, &client.key.at)?)),
        None => None,
    };
    let pair = client.as_ref().map(|(cert, key)| (&cert[..], &key[..]));
    let at = rule.ca.as_ref().map_or(&rule.at, |file| &file.at);
    let profile = RuleTls::new(index, ca.as_deref(), pair, roots);
    profile.map(Some).map_err(|error| at.diagnostic(Code::Other("egress.tls"), format!("a file of the rule {error}")))
}

fn pem(path: &Path, at: &Location) -> Result<Vec<u8>, Diagnostic> {
    let unreadable = |error: String| at.diagnostic(Code::FileUnreadable, format!("{}: {error}", path.display()));
    let size = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
    if size > MAX_PEM_BYTES {
        return Err(unreadable(format!("larger than {MAX_PEM_BYTES} bytes")));
    }
    std::fs::read(path).map_err(|error| unreadable(error.to_string()))
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
