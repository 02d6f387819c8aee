use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::{Host, Name, Reason};

/// Quotas.
const LAST_STEP: u8 = 7;

/// What was decided.
#[derive(Clone, Debug)]
pub enum Decision {
    /// It may happen, as the token says.
    Allow(Granted),
    /// It must not.
    Deny(Denied),
}

/// The proof that [`crate::decide`] allowed one effect. There is no other way to make one: the dialer, the resolver and the HTTP
/// sender take it and do what it says, not what the guest said.
///
/// ```compile_fail,E0451
/// use std::sync::Arc;
/// let forged = portcullis_policy::Granted {
///     effect: portcullis_policy::Effect::ClientHello,
///     rule: None,
///     pin: None,
///     policy_version: Arc::from("sha256:"),
///     observed: None,
///     hello: None,
/// };
/// ```
#[derive(Clone, Debug)]
pub struct Granted {
    pub(crate) effect: Effect,
    /// Index of the rule in the policy; none in observe mode.
    pub(crate) rule: Option<usize>,
    /// The pin that a connect or datagram was allowed by: the number of the lookup and the name.
    pub(crate) pin: Option<(u128, Name)>,
    pub(crate) policy_version: Arc<str>,
    /// In observe mode: why it would have been refused.
    pub(crate) observed: Option<Reason>,
    /// Which ClientHellos the connection may begin with; none: it may begin with anything.
    pub(crate) hello: Option<Vec<Expected>>,
}

/// A server name that a raw connection may begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    /// None for a rule about an address, which has no server name.
    pub(crate) name: Option<Name>,
    /// Index of the rule.
    pub(crate) rule: usize,
}

impl Granted {
    /// What may happen.
    pub fn effect(&self) -> &Effect {
        &self.effect
    }

    /// Index of the rule that allowed it, in the policy of [`Granted::policy_version`]; none in observe mode.
    pub fn rule(&self) -> Option<usize> {
        self.rule
    }

    /// The pin that led to the rule: the number of the lookup and the name.
    pub fn pin(&self) -> Option<(u128, &Name)> {
        self.pin.as_ref().map(|(lookup, name)| (*lookup, name))
    }

    /// The policy that allowed it.
    pub fn policy_version(&self) -> &Arc<str> {
        &self.policy_version
    }

    /// In observe mode: why it would have been refused.
    pub fn observed(&self) -> Option<Reason> {
        self.observed
    }

    /// Whether the first bytes must be shown to [`crate::decide`] (`Request::ClientHello`) before they go on.
    pub fn wants_hello(&self) -> bool {
        self.hello.is_some()
    }
}

/// What may happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A stream to this address.
    Connect(SocketAddr),
    /// A datagram to this address.
    Datagram(SocketAddr),
    /// A query for this name.
    Lookup(Name),
    /// No query: the text was an address that a rule covers.
    Literal(IpAddr),
    /// This address of an answer may be shown to the plugin and pinned.
    Answer(Name, IpAddr),
    /// An HTTP request; its dial is decided when its address is known.
    Http(HttpTarget),
    /// The bytes may go on.
    ClientHello,
}

/// A request in the one form that is compared, sent and recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpTarget {
    /// Upper case.
    pub method: String,
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Name or address.
    pub host: Host,
    /// From the authority, else 80 or 443.
    pub port: u16,
    /// Canonical path without the query.
    pub path: String,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// The first step that said no.
    pub reason: Reason,
    /// Index of the rule that came nearest, or of the deny rule that hit (then of the policy's denies).
    pub nearest: Option<usize>,
    /// What it would have reached, as far as that could be read.
    pub target: Target,
    /// The step of the order that refused, from 1.
    pub step: u8,
}

impl Denied {
    /// What the rules allow and whoever was to carry it out refuses: as the last of the steps. None: it was never decided.
    pub fn of_effect(reason: Reason, granted: Option<&Granted>) -> Self {
        Self { reason, nearest: granted.and_then(Granted::rule), target: Target::default(), step: LAST_STEP }
    }

    /// An HTTP request that was granted where it goes, and is refused for how it is written: as the first of the steps.
    pub fn of_form(reason: Reason, granted: &Granted) -> Self {
        let target = match &granted.effect {
            Effect::Http(HttpTarget { host: Host::Name(name), port, .. }) => {
                Target { name: Some(name.to_string()), port: Some(*port), ..Target::default() }
            }
            Effect::Http(HttpTarget { host: Host::Address(address), port, .. }) => {
                Target { address: Some(*address), port: Some(*port), ..Target::default() }
            }
            _ => Target::default(),
        };
        Self { reason, nearest: granted.rule(), target, step: 1 }
    }
}

/// A destination for the audit: canonical where the text could be read, never what the guest wrote otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// The name, as A-labels.
    pub name: Option<String>,
    /// The address.
    pub address: Option<IpAddr>,
    /// The port.
    pub port: Option<u16>,
}
