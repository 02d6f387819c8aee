//! From the audit events of a run to the least grants under which it would have gone the same way: names where a name led to an
//! address, single ports, methods and paths as they were asked for.

mod least;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use portcullis_policy::{Class, Host, IpNet, Name, Proto, Reason, Rule, canonical_path, classify, parse_host};
use serde_json::Value;

/// Different destinations, ports, methods and paths that are kept of one file.
const MAX_DISTINCT: usize = 200_000;

/// What of the events is looked at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) pipeline: Option<String>,
    pub(crate) plugin: Option<String>,
    /// Whether what no rule allowed is granted too.
    pub(crate) denied: bool,
}

/// How often something happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Uses {
    /// By a rule.
    pub(crate) allowed: u64,
    /// By observe mode.
    pub(crate) observed: u64,
    pub(crate) denied: u64,
    /// Why enforce mode refuses, or did.
    pub(crate) reasons: BTreeSet<Reason>,
}

impl Uses {
    fn add(&mut self, other: &Self) {
        self.allowed = self.allowed.saturating_add(other.allowed);
        self.observed = self.observed.saturating_add(other.observed);
        self.denied = self.denied.saturating_add(other.denied);
        self.reasons.extend(&other.reasons);
    }
}

/// A rule with what speaks for it.
#[derive(Clone, Debug)]
pub(crate) struct Suggested {
    pub(crate) rule: Rule,
    /// What the operator must list under `egress.consent` besides.
    pub(crate) consent: Vec<IpNet>,
    pub(crate) uses: Uses,
    /// The name was looked up and never connected to, so that the port is a guess.
    pub(crate) lookup_only: bool,
}

/// The least grants of one plugin.
#[derive(Clone, Debug, Default)]
pub(crate) struct Suggestion {
    pub(crate) pipeline: String,
    pub(crate) tenant: Option<String>,
    pub(crate) plugin: String,
    /// None where the plugin has no network at all; empty where it never used it.
    pub(crate) egress: Option<Vec<Suggested>>,
    /// The values of `clock`, `log` and `random`, with the number of calls; 0 for what was granted and not used.
    pub(crate) capabilities: BTreeMap<&'static str, (String, u64)>,
    /// What is not in the list, and how often it happened.
    pub(crate) left_out: BTreeMap<String, u64>,
}

/// The other end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum To {
    Name(Name),
    Address(IpAddr),
}

/// A destination whose rule is one of its own. Answers in a special range need a rule with `addresses`, which would shut the
/// public ones out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Destination {
    to: To,
    proto: Proto,
    inside: bool,
}

/// What was asked of a destination.
#[derive(Clone, Debug, Default)]
struct Used {
    /// In a special range, of a name.
    addresses: BTreeSet<IpAddr>,
    raw: BTreeMap<u16, Uses>,
    /// Port, method, path.
    http: BTreeMap<u16, BTreeMap<String, BTreeMap<String, Uses>>>,
}

#[derive(Clone, Debug, Default)]
struct Plugin {
    destinations: BTreeMap<Destination, Used>,
    lookups: BTreeMap<Name, Uses>,
    /// The name that last led to an address.
    answers: BTreeMap<IpAddr, Name>,
    has_network: bool,
    calls: BTreeMap<&'static str, u64>,
    granted: BTreeMap<&'static str, String>,
    left_out: BTreeMap<String, u64>,
}

/// Takes the events one by one, in the order of the file.
pub(crate) struct Collector {
    wanted: Wanted,
    /// By pipeline, tenant and plugin.
    plugins: BTreeMap<(String, Option<String>, String), Plugin>,
    room: usize,
}

impl Collector {
    pub(crate) fn new(wanted: Wanted) -> Self {
        Self { wanted, plugins: BTreeMap::new(), room: MAX_DISTINCT }
    }

    /// Takes one event; those that say nothing about a grant are passed over. False when there is no room for more that
    /// differs.
    pub(crate) fn add(&mut self, event: &Value) -> bool {
        let Some(code) = text(event, "/metadata/event_code") else { return true };
        let Some(key) = self.key(event, code) else { return true };
        let plugin = self.plugins.entry(key).or_default();
        match code {
            "plugin.linked" => plugin.linked(event),
            "host.call" => plugin.call(event),
            "dns.lookup" => plugin.answered(event),
            "net.connect.allowed" | "net.udp.allowed" | "dns.allowed" | "http.allowed" => {
                let uses = match text(event, "/unmapped/egress_mode") {
                    Some("observe") => {
                        let reason = text(event, "/unmapped/would_deny").and_then(reason);
                        Uses { observed: 1, reasons: reason.into_iter().collect(), ..Uses::default() }
                    }
                    _ => Uses { allowed: 1, ..Uses::default() },
                };
                self.room = self.room.saturating_sub(plugin.asked(code, event, &uses));
            }
            _ => {
                let reason = text(event, "/status_detail").and_then(reason);
                match reason.filter(|reason| self.wanted.denied && is_grantable(*reason)) {
                    Some(reason) => {
                        let uses = Uses { denied: count(event), reasons: [reason].into(), ..Uses::default() };
                        self.room = self.room.saturating_sub(plugin.asked(code, event, &uses));
                    }
                    None => {
                        plugin.leave_out(&format!("{code} ({})", reason.map_or("other", Reason::as_str)), count(event))
                    }
                }
            }
        }
        self.room > 0
    }

    /// The plugin of an event that is looked at.
    fn key(&self, event: &Value, code: &str) -> Option<(String, Option<String>, String)> {
        let known = matches!(
            code,
            "plugin.linked"
                | "host.call"
                | "dns.lookup"
                | "dns.allowed"
                | "dns.denied"
                | "net.connect.allowed"
                | "net.connect.denied"
                | "net.udp.allowed"
                | "net.udp.denied"
                | "http.allowed"
                | "http.denied"
        );
        let path = if code == "plugin.linked" { "/app/name" } else { "/actor/app_name" };
        let path = text(event, path).filter(|_| known)?;
        let plugin = path.rsplit_once('/').map_or(path, |(_, plugin)| plugin);
        let pipeline = text(event, "/actor/invoked_by")?.strip_prefix("pipeline/")?;
        let fits = |wanted: &Option<String>, name: &str| wanted.as_ref().is_none_or(|wanted| wanted == name);
        let is_wanted = fits(&self.wanted.pipeline, pipeline) && fits(&self.wanted.plugin, plugin);
        let tenant = text(event, "/metadata/tenant_uid").map(str::to_owned);
        is_wanted.then(|| (pipeline.to_owned(), tenant, plugin.to_owned()))
    }

    /// The grants of each plugin, in the order of the names.
    pub(crate) fn end(self) -> Vec<Suggestion> {
        let suggestion = |((pipeline, tenant, plugin), seen): ((String, Option<String>, String), Plugin)| {
            least::suggestion(Suggestion { pipeline, tenant, plugin, ..Suggestion::default() }, seen)
        };
        self.plugins.into_iter().map(suggestion).collect()
    }
}

impl Plugin {
    fn linked(&mut self, event: &Value) {
        let data = event.pointer("/policy/data");
        let imports = data.and_then(|data| data.get("imports_linked")).and_then(Value::as_array);
        let is_network = |import: &Value| {
            import
                .as_str()
                .is_some_and(|import| import.starts_with("wasi:sockets/") || import.starts_with("wasi:http/"))
        };
        let grants = data.and_then(|data| data.get("grants"));
        self.has_network |= imports.is_some_and(|imports| imports.iter().any(is_network))
            || grants.is_some_and(|grants| grants.get("egress").is_some());
        for (key, words) in [("clock", &["coarse", "precise"][..]), ("log", &["debug", "info", "warn", "error"])] {
            let word = grants.and_then(|grants| grants.get(key)).and_then(Value::as_str);
            if let Some(word) = words.iter().find(|known| Some(**known) == word) {
                self.granted.insert(key, (*word).to_owned());
            }
        }
        if grants.and_then(|grants| grants.get("random")).is_some() {
            self.granted.insert("random", "true".to_owned());
        }
    }

    fn call(&mut self, event: &Value) {
        let operation = text(event, "/api/operation").unwrap_or_default();
        let key = match operation.split(['/', '.']).next() {
            Some("wasi:clocks") => "clock",
            Some("wasi:random") => "random",
            _ if operation.starts_with("portcullis:plugin/log") => "log",
            _ => return,
        };
        let calls = self.calls.entry(key).or_default();
        *calls = calls.saturating_add(count(event));
    }

    fn answered(&mut self, event: &Value) {
        let name = text(event, "/query/hostname").and_then(|name| parse_host(name).ok());
        let (Some(Host::Name(name)), Some(answers)) = (name, event.get("answers").and_then(Value::as_array)) else {
            return;
        };
        let addresses = answers.iter().filter_map(|answer| text(answer, "/rdata")?.parse::<IpAddr>().ok());
        for address in addresses.take(64) {
            if self.answers.len() < MAX_DISTINCT || self.answers.contains_key(&address) {
                self.answers.insert(address, name.clone());
            }
        }
    }

    /// Keeps what was asked for, and tells how much that was new.
    fn asked(&mut self, code: &str, event: &Value, uses: &Uses) -> usize {
        self.has_network = true;
        let kept = match code {
            "dns.allowed" | "dns.denied" => self.looked_up(event, uses),
            "http.allowed" | "http.denied" => self.requested(event, uses),
            _ => self.connected(code, event, uses),
        };
        kept.unwrap_or_else(|| {
            let total = uses.allowed.saturating_add(uses.observed).saturating_add(uses.denied);
            self.leave_out(&format!("{code} whose destination the event does not tell as a rule needs it"), total);
            0
        })
    }

    fn looked_up(&mut self, event: &Value, uses: &Uses) -> Option<usize> {
        let name = text(event, "/query/hostname").or_else(|| text(event, "/dst_endpoint/hostname"))?;
        let Ok(Host::Name(name)) = parse_host(name) else { return None };
        let new = !self.lookups.contains_key(&name);
        self.lookups.entry(name).or_default().add(uses);
        Some(usize::from(new))
    }

    fn connected(&mut self, code: &str, event: &Value, uses: &Uses) -> Option<usize> {
        let proto = match text(event, "/firewall_rule/name") {
            _ if code.starts_with("net.udp.") => Proto::Udp,
            Some(rule) if rule.starts_with("tls://") && uses.allowed > 0 => Proto::Tls,
            _ => Proto::Tcp,
        };
        let port = number(event, "/dst_endpoint/port")?;
        let used = self.destination(event, proto)?;
        let new = !used.raw.contains_key(&port);
        used.raw.entry(port).or_default().add(uses);
        Some(usize::from(new))
    }

    fn requested(&mut self, event: &Value, uses: &Uses) -> Option<usize> {
        let url = event.pointer("/http_request/url")?;
        let proto = match text(url, "/scheme")? {
            "https" => Proto::Https,
            "http" => Proto::Http,
            _ => return None,
        };
        let method = text(event, "/http_request/http_method").or_else(|| text(event, "/activity_name"));
        let method = method?.to_ascii_uppercase();
        let truncated = event.pointer("/metadata/is_truncated").is_some_and(|flag| flag == true);
        let asked = text(url, "/path")?;
        let path = least::ruled(asked, truncated);
        canonical_path(path).ok()?;
        if path == "/" && asked != path {
            return None;
        }
        let port = number(event, "/dst_endpoint/port").or_else(|| number(url, "/port"))?;
        let used = self.destination(event, proto)?;
        let paths = used.http.entry(port).or_default().entry(method).or_default();
        let new = !paths.contains_key(path);
        paths.entry(path.to_owned()).or_default().add(uses);
        Some(usize::from(new))
    }

    /// The destination of an event, by its name where it has one, also where only an earlier lookup tells it.
    fn destination(&mut self, event: &Value, proto: Proto) -> Option<&mut Used> {
        let ip = text(event, "/dst_endpoint/ip").and_then(|ip| ip.parse::<IpAddr>().ok());
        let host = text(event, "/dst_endpoint/hostname").map(parse_host).transpose().ok()?;
        let to = match (host, ip) {
            (Some(Host::Name(name)), _) => To::Name(name),
            (Some(Host::Address(ip)), _) => To::Address(ip),
            (None, Some(ip)) => self.answers.get(&ip).map_or(To::Address(ip), |name| To::Name(name.clone())),
            (None, None) => return None,
        };
        let special = ip.filter(|ip| matches!((&to, classify(*ip)), (To::Name(_), Class::Special(_))));
        let used = self.destinations.entry(Destination { to, proto, inside: special.is_some() }).or_default();
        used.addresses.extend(special);
        Some(used)
    }

    fn leave_out(&mut self, what: &str, times: u64) {
        let count = self.left_out.entry(what.to_owned()).or_default();
        *count = count.saturating_add(times);
    }
}

/// Whether a rule of the plugin would have changed the decision.
fn is_grantable(reason: Reason) -> bool {
    let word = reason.as_str();
    let of_the_list = word.starts_with("rule.") || matches!(reason, Reason::HttpMethod | Reason::HttpPath);
    of_the_list && !matches!(reason, Reason::RuleOperatorDeny | Reason::RuleCeiling)
}

fn reason(word: &str) -> Option<Reason> {
    Reason::ALL.iter().copied().find(|reason| reason.as_str() == word)
}

fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str)
}

fn number(value: &Value, pointer: &str) -> Option<u16> {
    value.pointer(pointer).and_then(Value::as_u64).and_then(|number| u16::try_from(number).ok())
}

fn count(event: &Value) -> u64 {
    event.get("count").and_then(Value::as_u64).unwrap_or(1)
}

#[cfg(test)]
mod tests;
