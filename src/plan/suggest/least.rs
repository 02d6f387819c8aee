//! The fewest and narrowest rules for what was asked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use portcullis_policy::{Class, IpNet, Ports, Rule, RuleHost, RuleText, classify};

use super::{Destination, Plugin, Suggested, Suggestion, To, Used, Uses};

/// More paths than this below one folder become the folder.
const SHARE: usize = 8;
/// The same for the root: its rule is one for every path.
const SHARE_ROOT: usize = 64;
/// Ports in one rule, whose text has a bound.
const PORTS: usize = 64;

/// Fills in the grants.
pub(super) fn suggestion(mut to: Suggestion, plugin: Plugin) -> Suggestion {
    let Plugin { destinations, lookups, has_network, calls, granted, left_out, .. } = plugin;
    to.left_out = left_out;
    let mut rules = Vec::new();
    for (destination, used) in &destinations {
        rules_of(destination, used, &mut rules, &mut to.left_out);
    }
    for (name, uses) in &lookups {
        let named = |rule: &Suggested| matches!(rule.rule.host(), RuleHost::Name(host) if host == name);
        if !rules.iter().any(named) {
            let allow = format!("tls://{name}");
            let text = RuleText { allow: &allow, ..RuleText::default() };
            push(&text, &BTreeSet::new(), uses, true, &mut rules, &mut to.left_out);
        }
    }
    to.egress = has_network.then_some(rules);
    for (key, usual) in [("clock", "coarse"), ("log", "info"), ("random", "true")] {
        let used = calls.get(key).copied();
        if let Some(word) = granted.get(key).cloned().or_else(|| used.map(|_| usual.to_owned())) {
            to.capabilities.insert(key, (word, used.unwrap_or(0)));
        }
    }
    to
}

fn rules_of(to: &Destination, used: &Used, rules: &mut Vec<Suggested>, left_out: &mut BTreeMap<String, u64>) {
    let host = match &to.to {
        To::Name(name) => name.to_string(),
        To::Address(IpAddr::V4(ip)) => ip.to_string(),
        To::Address(IpAddr::V6(ip)) => format!("[{ip}]"),
    };
    let mut special = used.addresses.clone();
    let addresses: Vec<String> = used.addresses.iter().map(|ip| IpNet::from(*ip).to_string()).collect();
    let addresses = (!addresses.is_empty()).then(|| addresses.iter().map(String::as_str).collect::<Vec<_>>());
    if let To::Address(ip) = to.to {
        special.insert(ip);
    }
    let origin = |ports: &str| match to.proto.default_port() {
        Some(usual) if usual.to_string() == ports => format!("{}://{host}", to.proto.as_str()),
        _ => format!("{}://{host}:{ports}", to.proto.as_str()),
    };
    let ports: Vec<(&u16, &Uses)> = used.raw.iter().collect();
    for ports in ports.chunks(PORTS) {
        let list: Vec<String> = ports.iter().map(|(port, _)| port.to_string()).collect();
        let list = Ports::parse(&list.join(",")).map_or_else(|_| list.join(","), |ports| ports.to_string());
        let allow = origin(&list);
        let dns_port = ports.iter().any(|(port, _)| **port == 53);
        let uses = sum(ports.iter().map(|(_, uses)| *uses));
        let text = RuleText { allow: &allow, addresses: addresses.clone(), dns_port, ..RuleText::default() };
        push(&text, &special, &uses, false, rules, left_out);
    }
    for (port, methods) in &used.http {
        let allow = origin(&port.to_string());
        for (methods, paths) in grouped(methods) {
            let uses = sum(paths.values());
            let text = RuleText {
                allow: &allow,
                methods: Some(methods.into_iter().collect()),
                paths: Some(paths.keys().map(String::as_str).collect()),
                addresses: addresses.clone(),
                ..RuleText::default()
            };
            push(&text, &special, &uses, false, rules, left_out);
        }
    }
}

/// Every rule goes the way of one that somebody typed.
fn push(
    text: &RuleText<'_>,
    special: &BTreeSet<IpAddr>,
    uses: &Uses,
    lookup_only: bool,
    rules: &mut Vec<Suggested>,
    left_out: &mut BTreeMap<String, u64>,
) {
    match Rule::parse(text) {
        Ok(rule) => {
            let needs = |ip: &IpAddr| matches!(classify(*ip), Class::Special(special) if special.needs_consent());
            let consent = special.iter().copied().filter(needs).map(IpNet::from).collect();
            rules.push(Suggested { rule, consent, uses: uses.clone(), lookup_only });
        }
        Err(errors) => {
            let slug = errors.first().map_or("rule_invalid", |error| error.slug);
            let count = left_out.entry(format!("a destination that no rule can name ({slug})")).or_default();
            *count = count.saturating_add(uses.allowed + uses.observed + uses.denied);
        }
    }
}

fn sum<'a>(uses: impl Iterator<Item = &'a Uses>) -> Uses {
    let mut total = Uses::default();
    uses.for_each(|uses| total.add(uses));
    total
}

/// Paths by the methods that they were asked for with: a rule allows each of its methods on each of its paths.
fn grouped(methods: &BTreeMap<String, BTreeMap<String, Uses>>) -> BTreeMap<BTreeSet<&str>, BTreeMap<String, Uses>> {
    let mut by_path: BTreeMap<String, (BTreeSet<&str>, Uses)> = BTreeMap::new();
    for (method, paths) in methods {
        for (path, uses) in folded(paths.clone()) {
            let (methods, total) = by_path.entry(path).or_default();
            methods.insert(method);
            total.add(&uses);
        }
    }
    let mut groups: BTreeMap<BTreeSet<&str>, BTreeMap<String, Uses>> = BTreeMap::new();
    for (path, (methods, uses)) in by_path {
        groups.entry(methods).or_default().insert(path, uses);
    }
    groups
}

/// Many paths below one folder become the folder, the deepest folders first; a path below a folder that is there goes into it.
pub(super) fn folded(mut paths: BTreeMap<String, Uses>) -> BTreeMap<String, Uses> {
    let deepest = paths.keys().map(|path| path.matches('/').count()).max().unwrap_or(0);
    for depth in (1..=deepest).rev() {
        let mut below: BTreeMap<&str, usize> = BTreeMap::new();
        for folder in paths.keys().filter_map(|path| folder(path, depth)) {
            *below.entry(folder).or_default() += 1;
        }
        let most = if depth == 1 { SHARE_ROOT } else { SHARE };
        let full: BTreeSet<String> =
            below.into_iter().filter(|(_, count)| *count > most).map(|(folder, _)| folder.to_owned()).collect();
        if full.is_empty() {
            continue;
        }
        let mut next: BTreeMap<String, Uses> = BTreeMap::new();
        for (path, uses) in paths {
            let into = folder(&path, depth).filter(|folder| full.contains(*folder)).unwrap_or(&path).to_owned();
            next.entry(into).or_default().add(&uses);
        }
        paths = next;
    }
    let mut kept: BTreeMap<String, Uses> = BTreeMap::new();
    let mut last: Option<String> = None;
    // A folder stands right before everything in it.
    for (path, uses) in paths {
        match &last {
            Some(folder) if path.starts_with(folder.as_str()) => kept.entry(folder.clone()).or_default().add(&uses),
            _ => {
                last = path.ends_with('/').then(|| path.clone());
                kept.insert(path, uses);
            }
        }
    }
    kept
}

/// The folder of a path that ends with its slash number `depth`, from 1; none for what is not below one.
fn folder(path: &str, depth: usize) -> Option<&str> {
    let (at, _) = path.match_indices('/').nth(depth.checked_sub(1)?)?;
    path.get(..=at).filter(|folder| folder.len() < path.len())
}

/// The narrowest path that a rule can hold: no `*`, and of a path that was cut only whole folders.
pub(super) fn ruled(path: &str, cut: bool) -> &str {
    let end = if cut { Some(path.len()) } else { path.find('*') };
    let Some(end) = end else { return path };
    let slash = path.get(..end).and_then(|before| before.rfind('/')).map_or(0, |slash| slash + 1);
    path.get(..slash).unwrap_or("/")
}
