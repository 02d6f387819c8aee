//! The policy of one plugin as it will be when its pipeline runs, without its component: what `explain` asks.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use portcullis_config::{
    Code, Diagnostic, Diagnostics, EgressGrant, EgressMode, Location, Node, Pipeline, Plugin, Setting,
};
use portcullis_net::Resolver;
use portcullis_policy::{Mode, Name, OwnEndpoints, Policy, PolicyParts, Reason, Smallest};

use super::egress::Networks;
use super::levels::Levels;
use super::own::OwnText;
use super::walk::{Answered, Asked, Walk, walk};
use super::{Options, Refusal, read};

/// A plugin that is asked about.
pub(crate) struct Subject {
    pub(crate) pipeline: String,
    pub(crate) plugin: String,
    /// Where the rules were typed, in their order; none for a plugin that has no `egress` at all.
    pub(crate) rules: Option<Vec<Location>>,
    /// Where the denies were typed: the operator's, then the tenant's.
    pub(crate) denies: Vec<Location>,
    parts: PolicyParts,
    policy: Policy,
    own: OwnText,
    /// None: no name server is asked.
    resolver: Option<Arc<Resolver>>,
}

/// What is known of the addresses of a request's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answers {
    /// Nothing.
    Unknown,
    /// These are assumed.
    Given(Vec<IpAddr>),
    /// What the name servers say; nothing where the subject has no resolver.
    Asked,
}

/// The whole answer to one question.
pub(crate) struct Explained {
    pub(crate) walk: Walk,
    /// The least grant that would allow the request as it was asked; none where no grant would.
    pub(crate) smallest: Option<Smallest>,
    /// Which endpoint of the bridge it ran into.
    pub(crate) own: Option<String>,
}

impl Subject {
    /// Reads the files as `check` does, but no component. With `resolve` the brokers' names are looked up, as they are when the
    /// pipeline starts, and a question may ask the configured name servers.
    pub(crate) fn read(file: PathBuf, plugin: &str, resolve: bool, options: &Options<'_>) -> Result<Self, Refusal> {
        let typed = read(&[file], options)?;
        let (node, pipelines, mut wrong) = (typed.node, typed.pipelines, typed.wrong);
        pipelines.iter().for_each(|pipeline| wrong.extend(node.check(pipeline)));
        if !wrong.is_empty() {
            return Err(wrong.into());
        }
        let (pipeline, plugin) = find(&pipelines, plugin).map_err(Diagnostics::from)?;
        let levels = Levels::of(&node);
        let own = OwnText::of(&node, &pipelines, options.instead.as_ref());
        let networks = Networks::new(&node, &levels, own.clone());
        let at = plugin.grants.egress.as_ref().map_or(&plugin.at, |grant| &grant.at);
        let resolver = resolve.then(|| networks.resolver(at)).transpose().map_err(Diagnostics::from)?;
        let none = EgressGrant { at: at.clone(), rules: Vec::new(), mode: Setting::default_of(EgressMode::Enforce) };
        let grant = plugin.grants.egress.as_ref().unwrap_or(&none);
        let parts = networks.parts(pipeline, grant, networks.own(resolve));
        Ok(Self {
            pipeline: pipeline.name.value.clone(),
            plugin: plugin.name.value.clone(),
            rules: plugin.grants.egress.as_ref().map(|grant| grant.rules.iter().map(|rule| rule.at.clone()).collect()),
            denies: denies(&node, pipeline),
            policy: Policy::new(parts.clone()),
            parts,
            own,
            resolver,
        })
    }

    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Decides about a request as the pipeline would, at the time 0 and with every quota free.
    pub(crate) fn explain(&self, asked: &Asked, answers: &Answers) -> Explained {
        let walk = match self.rules {
            Some(_) => walk(self.sight(&self.policy), asked, |granted| match answers {
                Answers::Unknown => Answered::Unknown,
                Answers::Given(addresses) => Answered::Addresses(addresses.clone()),
                Answers::Asked => match self.resolver.as_ref().map(|resolver| resolver.ask(granted)) {
                    None => Answered::Unknown,
                    Some(Ok(addresses)) => Answered::Addresses(addresses),
                    Some(Err((reason, code))) => Answered::Failed(reason, code),
                },
            }),
            None => Walk::absent(),
        };
        let known = match answers {
            Answers::Given(addresses) => addresses,
            _ => &walk.answers,
        };
        // Where the name has no address, a grant is not what is missing.
        let unresolved = !walk.outcome.allowed && walk.outcome.step.is_none() && self.rules.is_some();
        let smallest = if unresolved { None } else { asked.smallest(known) };
        let smallest = smallest.filter(|smallest| self.would_allow(smallest, asked, known));
        let own = self.own_endpoint(asked, &walk);
        Explained { walk, smallest, own }
    }

    fn own_endpoint(&self, asked: &Asked, walk: &Walk) -> Option<String> {
        let ran_into = |stage: &&super::walk::Stage| stage.refused == Some(Reason::AddrSelf);
        let stage = walk.stages.iter().find(ran_into)?;
        let (host, port) = asked.destination()?;
        self.own.which(host, stage.address, port)
    }

    /// Whether the request would be allowed with one rule and one consent more. Denies, ceilings and the bridge's own endpoints
    /// stay as they are.
    fn would_allow(&self, smallest: &Smallest, asked: &Asked, known: &[IpAddr]) -> bool {
        let mut parts = self.parts.clone();
        parts.mode = Mode::Enforce;
        parts.rules.push(smallest.rule.clone());
        parts.consent.extend(&smallest.consent);
        let policy = Policy::new(parts);
        let walk = walk(self.sight(&policy), asked, |_| match known {
            [] => Answered::Unknown,
            known => Answered::Addresses(known.to_vec()),
        });
        walk.outcome.allowed
    }

    fn sight<'a>(&'a self, policy: &'a Policy) -> Sight<'a> {
        Sight { policy, own: &self.parts.own }
    }
}

/// A policy, and the bridge's endpoints by name.
#[derive(Clone, Copy)]
pub(crate) struct Sight<'a> {
    pub(crate) policy: &'a Policy,
    own: &'a OwnEndpoints,
}

impl<'a> Sight<'a> {
    #[cfg(test)]
    pub(crate) fn new(policy: &'a Policy, own: &'a OwnEndpoints) -> Self {
        Self { policy, own }
    }

    /// The policy where a name has these addresses: a broker of that name has them too, and the bridge knows them when it runs.
    pub(crate) fn where_name_is(&self, name: &Name, addresses: &[IpAddr]) -> Policy {
        let ports: Vec<u16> = self.own.names.iter().filter(|(own, _)| own == name).map(|(_, port)| *port).collect();
        if ports.is_empty() {
            return self.policy.clone();
        }
        let mut own = self.own.clone();
        own.sockets.extend(addresses.iter().flat_map(|ip| ports.iter().map(|port| SocketAddr::new(*ip, *port))));
        self.policy.with_own(own)
    }
}

fn denies(node: &Node, pipeline: &Pipeline) -> Vec<Location> {
    let tenant = pipeline.tenant.as_ref().and_then(|name| node.tenants.get(&name.value));
    let of_tenant = tenant.map(|tenant| tenant.deny.as_slice()).unwrap_or_default();
    node.egress.deny.iter().chain(of_tenant).map(|deny| deny.at.clone()).collect()
}

fn find<'a>(pipelines: &'a [Pipeline], name: &str) -> Result<(&'a Pipeline, &'a Plugin), Diagnostic> {
    let all = || pipelines.iter().flat_map(|pipeline| pipeline.plugins.iter().map(move |plugin| (pipeline, plugin)));
    let mut found = all().filter(|(_, plugin)| plugin.name.value == name);
    let names = || all().map(|(_, plugin)| format!("`{}`", plugin.name.value)).collect::<Vec<_>>().join(", ");
    let at = Location::of("--plugin");
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (Some(_), Some(_)) => Err(at
            .diagnostic(Code::ValueInvalid, format!("several pipelines have a plugin `{name}`"))
            .help("name the file of one of them instead of the folder")),
        (None, _) => {
            let help = if all().next().is_none() {
                "the pipeline has no plugins".to_owned()
            } else {
                format!("there is: {}", names())
            };
            Err(at.diagnostic(Code::ValueInvalid, format!("no plugin is named `{name}`")).help(help))
        }
    }
}
