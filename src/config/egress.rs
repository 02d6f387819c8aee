use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use portcullis_policy::{Deny, IpNet, Rule, RuleError};

use crate::{Code, Diagnostic, Located, Location, Secret, SecretSource, Setting};

/// `grants.egress` of a plugin. Its presence links the network interfaces; without a rule they refuse every call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressGrant {
    /// The place of the list.
    pub at: Location,
    /// In the order of the file; `egress[0]` of the audit is the first.
    pub rules: Vec<EgressRule>,
    /// `egress_mode`, enforce when absent.
    pub mode: Setting<EgressMode>,
}

/// What the allow list does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EgressMode {
    /// What no rule allows is refused.
    Enforce,
    /// What no rule allows is let through and recorded as such; hard refusals stay. Needs the node's consent.
    Observe,
}

/// One item of `grants.egress`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressRule {
    /// Where the item begins.
    pub at: Location,
    /// What may be reached.
    pub rule: Rule,
    /// PEM file of the only roots that are trusted for this rule, from the folder of the pipeline file.
    pub ca: Option<Located<PathBuf>>,
    /// What the bridge shows to servers that ask for a certificate.
    pub client_cert: Option<ClientCert>,
    /// Headers that the bridge puts on the plugin's requests and that the plugin never sees; no name twice.
    pub secrets: Vec<SecretHeader>,
    pub(crate) places: RulePlaces,
}

/// A client certificate and its key, both PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCert {
    /// The chain, from the folder of the pipeline file.
    pub cert: Located<PathBuf>,
    /// The private key, from the folder of the pipeline file.
    pub key: Located<PathBuf>,
}

/// A header whose value a plugin must not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretHeader {
    /// A lower-case token, none that frames a message or routes it.
    pub name: Located<String>,
    /// The whole value, `prefix` included: visible ASCII and inner blanks, at most 8 KiB.
    pub value: Located<Secret>,
    /// Where it comes from.
    pub source: SecretSource,
}

/// Where the parts of a rule were typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RulePlaces {
    pub(crate) item: Location,
    /// Whether variables were put in: what they held is not shown.
    pub(crate) variables: bool,
    /// The value of a key and, where it is a list, its items.
    pub(crate) fields: Vec<(&'static str, Location, Vec<Location>)>,
}

impl RulePlaces {
    /// Of a rule whose fields are not known yet.
    pub(crate) fn new(at: &Location, variables: bool) -> Self {
        Self { item: at.clone(), variables, fields: Vec::new() }
    }

    /// An error of the rule, under the policy's own name for it.
    pub(crate) fn diagnostic(&self, error: &RuleError) -> Diagnostic {
        let (at, code) = (self.of(error.field, error.index), Code::Other(error.slug));
        // The policy quotes what it read.
        if self.variables {
            let message = format!("the rule, with its variables put in, is refused for its `{}`", error.field);
            return at.diagnostic(code, message).help("written without variables it gets the full message");
        }
        let diagnostic = at.diagnostic(code, error.message.clone());
        match error.help.as_deref().or(form(error.slug)) {
            Some(help) => diagnostic.help(help),
            None => diagnostic,
        }
    }

    /// The most exact place that is known of a field of the rule.
    pub(crate) fn of(&self, field: &str, index: Option<usize>) -> &Location {
        let Some((_, at, items)) = self.fields.iter().find(|(name, ..)| *name == field) else { return &self.item };
        index.and_then(|index| items.get(index)).unwrap_or(at)
    }
}

/// What to write, where the policy's own message cannot know it better.
fn form(slug: &str) -> Option<&'static str> {
    Some(match slug {
        "match_all" => {
            "write one rule for each host: `https://api.example.com`, `https://*.example.com`, `tcp://10.0.0.0/24:5432`"
        }
        "public_suffix" => {
            "write the domain that is meant: `https://*.example.com`, or one name: `https://api.example.com`"
        }
        "port_missing" => "write the port behind the host: `tcp://db.example.com:5432`, `udp://ntp.example.com:123`",
        "wildcard_partial" => "write `https://*.example.com` for every name below example.com, or each name by itself",
        "scheme_unknown" => {
            "write `https://host`, `http://host`, `tls://host:port`, `tcp://host:port` or `udp://host:port`"
        }
        "name_invalid" => "write a host by its name or address, such as `https://api.example.com`",
        _ => return None,
    })
}

impl EgressRule {
    /// The place of a field of the rule (`allow`, `methods`, `addresses` ...), or of an item of it; that of the rule where
    /// the field was not typed.
    pub fn place(&self, field: &str, index: Option<usize>) -> &Location {
        self.places.of(field, index)
    }

    /// An error of the policy about this rule, at its place and under the policy's own name for it.
    pub fn diagnostic(&self, error: &RuleError) -> Diagnostic {
        self.places.diagnostic(error)
    }
}

/// The node's `egress`.
#[derive(Clone, Debug)]
pub struct NodeEgress {
    /// Where names are looked up.
    pub dns: Dns,
    /// Whom TLS trusts where a rule has no `ca`.
    pub tls: NodeTls,
    /// What no plugin of this node reaches, whatever it was granted.
    pub deny: Vec<Located<Deny>>,
    /// Parts of the loopback, link-local and metadata ranges that rules may name.
    pub consent: Vec<Located<IpNet>>,
    /// Whether `egress_mode: observe` is to be had; no.
    pub observe: Setting<bool>,
}

/// Where names are looked up.
#[derive(Clone, Debug)]
pub struct Dns {
    /// In this order, at most 8; the system's servers when empty.
    pub servers: Vec<Located<SocketAddr>>,
    /// For one lookup with all its queries; 5 s.
    pub timeout: Setting<Duration>,
}

/// TLS of the requests of plugins.
#[derive(Clone, Debug)]
pub struct NodeTls {
    /// System when absent.
    pub roots: Setting<Roots>,
}

/// Whose certificates are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roots {
    /// What the system trusts.
    System,
    /// Only what this PEM file holds, from the folder of the node's file.
    File(PathBuf),
}

impl Default for NodeEgress {
    fn default() -> Self {
        Self {
            dns: Dns { servers: Vec::new(), timeout: Setting::default_of(Duration::from_secs(5)) },
            tls: NodeTls { roots: Setting::default_of(Roots::System) },
            deny: Vec::new(),
            consent: Vec::new(),
            observe: Setting::default_of(false),
        }
    }
}
