use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portcullis_audit::{Actor, Mode, Recorder, Scope};
use portcullis_policy::{Decision, Denied, Facts, Granted, Pin, Policy, Quota, Reason, Request, Rule};

use crate::evidence::Evidence;
use crate::http::{HttpEgress, SecretHeader};
use crate::lookup::PluginAnswers;
use crate::quota::{Budget, BudgetLimits, Budgets, clock_ms};
use crate::resolver::Resolver;
use crate::tls::RuleTls;

/// What a plugin of a running pipeline may reach and how it is recorded. All instances of the plugin share one.
pub struct Egress {
    settings: Settings,
    /// The plugin's own budget and then its parents'.
    budgets: Budgets,
    evidence: Evidence,
    /// Connections that wait for the next request, TLS profiles, headers.
    pub(crate) http: Arc<HttpEgress>,
    /// What lookups gave, for all instances.
    answers: Mutex<PluginAnswers>,
    /// How many requests were refused although the policy allows them; none where those are carried out.
    withheld: Option<AtomicU64>,
}

/// Of what an [`Egress`] is made.
pub struct Settings {
    /// Rules, denies, ceilings.
    pub policy: Arc<Policy>,
    /// What the rules say about TLS; the index of a rule in the policy finds it.
    pub rule_tls: Vec<RuleTls>,
    /// Headers that the host adds.
    pub secrets: Vec<SecretHeader>,
    /// The issuers that HTTPS trusts where a rule names none.
    pub roots: Arc<rustls::RootCertStore>,
    /// The plugin's own limits.
    pub limits: NetLimits,
    /// The budgets above the plugin: tenant, node.
    pub parents: Vec<Arc<Budget>>,
    /// Whose effects they are.
    pub actor: Actor,
    /// Where they are recorded.
    pub recorder: Recorder,
    /// How strictly: with `strict` and `ack_first` the event of an effect is confirmed before the effect.
    pub mode: Mode,
    /// Asks the name servers.
    pub resolver: Arc<Resolver>,
    /// Of the plugin.
    pub tenant: Arc<str>,
}

/// What a plugin may use of the network. Rates are a number in a period, which is also how much may come at once.
#[derive(Clone, Copy, Debug)]
pub struct NetLimits {
    /// Open connections and UDP sockets of all instances.
    pub connections: u32,
    /// Connects in a period.
    pub connects: (u32, Duration),
    /// Lookups in a period.
    pub lookups: (u32, Duration),
    /// Bytes a second that leave; none: no limit.
    pub egress_bytes_s: Option<u64>,
    /// Bytes a second that come in; none: no limit.
    pub ingress_bytes_s: Option<u64>,
    /// Entries of the resource table that one instance may have.
    pub handles: u32,
}

/// What becomes of what the policy allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effects {
    /// It happens.
    Real,
    /// It is refused and counted, and nothing leaves: a trial.
    Withheld,
}

impl Egress {
    /// For one plugin of a pipeline.
    pub fn new(settings: Settings, effects: Effects) -> Arc<Self> {
        let withheld = (effects == Effects::Withheld).then(AtomicU64::default);
        let limits = BudgetLimits::from(settings.limits);
        let budgets = Budgets::new(Budget::new(Scope::Plugin, limits), &settings.parents);
        let Settings { recorder, actor, mode, policy, .. } = &settings;
        let evidence = Evidence::new(recorder.clone(), actor.clone(), *mode, policy);
        let http = HttpEgress::new(&settings);
        Arc::new(Self { settings, budgets, evidence, http, answers: Mutex::default(), withheld })
    }

    /// What it was made of.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The one place that decides.
    pub(crate) fn decide(
        &self,
        request: &Request<'_>,
        pins: &[Pin],
        exhausted: Option<Quota>,
    ) -> Result<Granted, Denied> {
        let facts = Facts { now_ms: clock_ms(), pins, exhausted };
        match portcullis_policy::decide(&self.settings.policy, request, &facts) {
            Decision::Allow(granted) => match &self.withheld {
                None => Ok(granted),
                Some(withheld) => {
                    withheld.fetch_add(1, Ordering::Relaxed);
                    Err(Denied::of_effect(Reason::CapabilityAbsent, Some(&granted)))
                }
            },
            Decision::Deny(denied) => Err(denied),
        }
    }

    pub(crate) fn budgets(&self) -> &Budgets {
        &self.budgets
    }

    /// How many requests were allowed, denied, and denied for want of room since the network was opened.
    pub fn decisions(&self) -> [u64; 3] {
        self.evidence.decisions()
    }

    /// How often each limit of a level was met since the network was opened, as its audit events name it: what was refused for
    /// it, and what had to wait. Those that never were are left out.
    pub fn limits_met(&self) -> impl Iterator<Item = (&'static str, Scope, u64)> {
        self.evidence.limits_met()
    }

    /// How many requests were refused only because this is a trial without effects.
    pub fn withheld(&self) -> u64 {
        self.withheld.as_ref().map_or(0, |withheld| withheld.load(Ordering::Relaxed))
    }

    pub(crate) fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// The rule that granted; none in observe mode.
    pub(crate) fn rule(&self, granted: &Granted) -> Option<&Rule> {
        granted.rule().and_then(|index| self.settings.policy.rules().get(index))
    }

    pub(crate) fn answers(&self) -> MutexGuard<'_, PluginAnswers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
