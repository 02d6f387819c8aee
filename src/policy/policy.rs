use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use sha2::{Digest as _, Sha256};

use crate::address::block_of;
use crate::bucket::Sizes;
use crate::check::covers;
use crate::index::Index;
use crate::own::Own;
use crate::rule::RuleHost;
use crate::{Deny, Name, Rule};

/// Whether a request without a rule is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// It is.
    #[default]
    Enforce,
    /// It is let through and recorded as such. Syntax, hard ranges, own endpoints, special ranges, denies, ceilings and quotas hold.
    Observe,
}

/// What a policy is made of.
#[derive(Clone, Debug, Default)]
pub struct PolicyParts {
    /// What the plugin may reach.
    pub rules: Vec<Rule>,
    /// What the operator denies.
    pub node_deny: Vec<Deny>,
    /// What the tenant denies.
    pub tenant_deny: Vec<Deny>,
    /// What any plugin of the node may reach at most; none: no bound.
    pub node_ceiling: Option<Vec<Rule>>,
    /// What any plugin of the tenant may reach at most; none: no bound.
    pub tenant_ceiling: Option<Vec<Rule>>,
    /// What belongs to the bridge itself.
    pub own: OwnEndpoints,
    /// Loopback, link-local and metadata ranges that a rule may name.
    pub consent: Vec<IpNet>,
    /// Enforce or observe.
    pub mode: Mode,
}

/// Endpoints that no plugin reaches, because the bridge stands behind them or trusts them.
#[derive(Clone, Debug, Default)]
pub struct OwnEndpoints {
    /// Brokers, registries, the admin and the metrics listener. One on an unspecified, a loopback or an interface's address is on
    /// every loopback address: who listens on several is not seen from outside.
    pub sockets: Vec<SocketAddr>,
    /// The same by name.
    pub names: Vec<(Name, u16)>,
    /// The addresses of this machine but loopback ones, whatever the port.
    pub interfaces: Vec<IpAddr>,
}

/// All rules about one plugin, ready to decide. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Policy {
    pub(crate) inner: Arc<Inner>,
    pub(crate) own: Arc<Own>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    version: Arc<str>,
    rules: Vec<Rule>,
    denies: Vec<Deny>,
    pub(crate) ceilings: Vec<Vec<Rule>>,
    /// Whether the rule of the same index is within every ceiling.
    within: Vec<bool>,
    consent: Vec<IpNet>,
    pub(crate) mode: Mode,
    pub(crate) allow: Index,
    pub(crate) deny: Index,
}

impl Policy {
    /// Sorts the parts so that a decision does not depend on how many rules there are.
    pub fn new(parts: PolicyParts) -> Self {
        Self::with_sizes(parts, Sizes::USUAL)
    }

    pub(crate) fn with_sizes(parts: PolicyParts, sizes: Sizes) -> Self {
        let PolicyParts { rules, node_deny, tenant_deny, node_ceiling, tenant_ceiling, own, consent, mode } = parts;
        let version = version(&rules, [&node_deny, &tenant_deny], [&node_ceiling, &tenant_ceiling], &consent, mode);
        let ceilings: Vec<_> = [node_ceiling, tenant_ceiling].into_iter().flatten().collect();
        let within: Vec<_> = rules.iter().map(|rule| ceilings.iter().all(|ceiling| covers(ceiling, rule))).collect();
        let denies: Vec<_> = node_deny.into_iter().chain(tenant_deny).collect();
        let allow = Index::of_rules(&rules, &within, sizes);
        let deny = Index::of_denies(&denies);
        let inner = Inner { version, rules, denies, ceilings, within, consent, mode, allow, deny };
        Self { inner: Arc::new(inner), own: Arc::new(Own::new(own)) }
    }

    /// `sha256:` and 64 hexadecimal digits over everything that was written for it; the bridge's own endpoints are not.
    pub fn version(&self) -> &Arc<str> {
        &self.inner.version
    }

    /// The allow rules, as they were given.
    pub fn rules(&self) -> &[Rule] {
        &self.inner.rules
    }

    /// The denies: the operator's, then the tenant's.
    pub fn denies(&self) -> &[Deny] {
        &self.inner.denies
    }

    /// Whether requests without a rule are refused.
    pub fn mode(&self) -> Mode {
        self.inner.mode
    }

    /// How long a pin of the name lives at least and at most: the lowest of each among the rules with a `ttl` that hold the name,
    /// whichever of them asks, since all of them use the same pin. None where no rule says so.
    pub fn pin_ttl(&self, name: &Name) -> Option<(Duration, Duration)> {
        let host = RuleHost::Name(name.clone());
        let ttls = self.rules().iter().filter(|rule| rule.host.covers(&host)).filter_map(Rule::ttl);
        ttls.reduce(|(least, most), (min, max)| (least.min(min), most.min(max)))
    }

    /// The same rules beside other endpoints of the bridge: brokers move.
    #[must_use]
    pub fn with_own(&self, own: OwnEndpoints) -> Self {
        Self { inner: Arc::clone(&self.inner), own: Arc::new(Own::new(own)) }
    }

    pub(crate) fn rule(&self, index: usize) -> Option<&Rule> {
        self.inner.rules.get(index)
    }

    pub(crate) fn is_within_ceilings(&self, index: usize) -> bool {
        self.inner.within.get(index).copied().unwrap_or(false)
    }

    /// Whether the operator listed a range that holds the address and is a part of the block around it.
    pub(crate) fn consents(&self, address: IpAddr) -> bool {
        let Some(block) = block_of(address) else { return true };
        self.inner.consent.iter().any(|net| net.contains(&address) && block.covers(net))
    }
}

fn version(
    rules: &[Rule],
    denies: [&Vec<Deny>; 2],
    ceilings: [&Option<Vec<Rule>>; 2],
    consent: &[IpNet],
    mode: Mode,
) -> Arc<str> {
    let mut digest = Sha256::new();
    // Each line is preceded by its kind and length, so that no text can pass for two lines or for another kind.
    let mut line = |kind: &str, text: &str| {
        digest.update(kind);
        digest.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
        digest.update(text);
    };
    line("mode", if mode == Mode::Observe { "observe" } else { "enforce" });
    for rule in rules {
        line("allow", &rule.canonical());
    }
    for (kind, denies) in ["node deny", "tenant deny"].into_iter().zip(denies) {
        for deny in denies {
            line(kind, &deny.to_string());
        }
    }
    for (kind, ceiling) in ["node ceiling", "tenant ceiling"].into_iter().zip(ceilings) {
        if let Some(ceiling) = ceiling {
            line(kind, "");
            for rule in ceiling {
                line(kind, &rule.canonical());
            }
        }
    }
    for net in consent {
        line("consent", &net.to_string());
    }
    digest.finalize().iter().fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}")).into()
}
