use crate::address::{Class, classify};
use crate::case::{Case, Kind};
use crate::decision::{Decision, Denied};
use crate::{Facts, HttpTarget, Policy, Reason, Request};

/// The steps in their order.
const NAMES: [&str; 7] =
    ["syntax", "never allowed", "own endpoints", "special ranges", "denies", "allow rules", "quotas"];

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It had nothing against the request.
    Passed,
    /// It refused.
    Refused,
    /// An earlier one refused.
    NotReached,
}

/// One step of a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// From 1 to 7.
    pub number: u8,
    /// What it looks at.
    pub name: &'static str,
    /// How it ended.
    pub verdict: Verdict,
    /// One sentence; empty for a step that was not reached.
    pub detail: String,
}

/// Decides as [`crate::decide`] does, by the same code, and tells each of the seven steps.
pub fn explain(policy: &Policy, request: &Request<'_>, facts: &Facts<'_>) -> (Decision, Vec<Step>) {
    let mut told = Told(
        NAMES
            .iter()
            .zip(1..)
            .map(|(name, number)| Step { number, name, verdict: Verdict::NotReached, detail: String::new() })
            .collect(),
    );
    let decision = crate::decide::run(policy, request, facts, &mut told);
    (decision, told.0)
}

/// Whoever watches a decision. `decide` has a watcher that compiles to nothing.
pub(crate) trait Trace {
    fn passed(&mut self, step: u8, detail: impl FnOnce() -> String);
    fn refused(&mut self, step: u8, detail: impl FnOnce() -> String);
}

pub(crate) struct Silent;

impl Trace for Silent {
    fn passed(&mut self, _: u8, _: impl FnOnce() -> String) {}
    fn refused(&mut self, _: u8, _: impl FnOnce() -> String) {}
}

struct Told(Vec<Step>);

impl Told {
    fn tell(&mut self, step: u8, verdict: Verdict, detail: String) {
        if let Some(told) = self.0.iter_mut().find(|told| told.number == step) {
            (told.verdict, told.detail) = (verdict, detail);
        }
    }
}

impl Trace for Told {
    fn passed(&mut self, step: u8, detail: impl FnOnce() -> String) {
        self.tell(step, Verdict::Passed, detail());
    }

    fn refused(&mut self, step: u8, detail: impl FnOnce() -> String) {
        self.tell(step, Verdict::Refused, detail());
    }
}

impl Case<'_> {
    pub(crate) fn describe(&self) -> String {
        let host = match (&self.name, self.address) {
            (Some(name), Some(address)) => format!("{name} at {address}"),
            (Some(name), None) => name.to_string(),
            (None, Some(address)) => address.to_string(),
            (None, None) => String::new(),
        };
        let port = self.port.map(|port| format!(", port {port}")).unwrap_or_default();
        let what = match &self.kind {
            Kind::Connect(_) => "TCP to",
            Kind::Datagram(_) => "a datagram to",
            Kind::Lookup => "a lookup of",
            Kind::Answer(_) => "an answer for",
            Kind::Http(http) => return describe_http(http, &host),
            Kind::Dial(http) => return describe_http(http, &host),
            Kind::Inbound => "a listener or stranger at",
            Kind::Hello(..) => "the first bytes to",
        };
        format!("{what} {host}{port}")
    }

    pub(crate) fn describe_range(&self) -> String {
        let Some(address) = self.address else {
            return "a name; its addresses are looked at once they are known".to_owned();
        };
        match classify(address) {
            Class::Public => format!("{address} is public"),
            class => format!("{}, named by a rule", class.reason().map_or("public", Reason::as_str)),
        }
    }
}

fn describe_http(http: &HttpTarget, host: &str) -> String {
    let scheme = if http.tls { "https" } else { "http" };
    format!("{} {} by {scheme} to {host}, port {}", http.method, http.path, http.port)
}

pub(crate) fn describe_refusal(denied: &Denied, policy: &Policy) -> String {
    let reason = denied.reason;
    match denied.nearest {
        Some(number) if denied.step == 5 => match policy.denies().get(number) {
            Some(deny) => format!("{reason}: the deny `{deny}`"),
            None => reason.to_string(),
        },
        Some(number) => match policy.rule(number) {
            Some(rule) => format!("{reason}: nearest is egress[{number}] `{rule}`"),
            None => reason.to_string(),
        },
        None => reason.to_string(),
    }
}
