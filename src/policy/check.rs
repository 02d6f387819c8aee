use std::collections::HashMap;

use ipnet::IpNet;

use crate::address::{Block, Class, block_around};
use crate::rule::RuleHost;
use crate::search::path_matches;
use crate::{Deny, Proto, Reason, Rule, RuleError};

/// Whether every request that a rule allows is also within the ceiling. A ceiling of several lines may share a rule's ports out
/// among them, and hold a name in one line and the special addresses of its answers in others, nothing else.
pub fn covers(ceiling: &[Rule], rule: &Rule) -> bool {
    let ranges = || rule.ports.ranges().iter();
    ranges().all(|range| ceiling.iter().any(|above| is_above(above, rule, *range)))
        && special(rule).all(|(_, net, block)| covers_answer(ceiling, rule, net, block))
}

/// The same for a lookup, which says neither what will be spoken nor where: some line must hold the host, and some line each
/// special address.
pub(crate) fn covers_host(ceiling: &[Rule], rule: &Rule) -> bool {
    ceiling.iter().any(|above| holds_host(above, rule))
        && special(rule).all(|(_, net, block)| ceiling.iter().any(|above| names(above, rule, net, block)))
}

fn is_above(above: &Rule, rule: &Rule, range: (u16, u16)) -> bool {
    holds_host(above, rule) && speaks_of(above, rule, range)
}

/// Whether a line holds the rule's host, and for a name the public addresses of its answers. A host that is itself a part of a
/// special block must be named as such.
fn holds_host(above: &Rule, rule: &Rule) -> bool {
    if let RuleHost::Net(net) = &rule.host
        && let Some(block) = special_block(net)
    {
        return names(above, rule, net, block);
    }
    let public = |net: &&IpNet| special_block(net).is_none();
    let addresses = above.addresses.is_empty()
        || !rule.addresses.is_empty()
            && rule.addresses.iter().filter(public).all(|net| above.addresses.iter().any(|above| above.contains(net)));
    above.host.covers(&rule.host) && addresses
}

/// Whether the ceiling holds what the rule does but for the host.
fn speaks_of(above: &Rule, rule: &Rule, (low, high): (u16, u16)) -> bool {
    let proto = above.proto == rule.proto || above.proto == Proto::Tcp && rule.proto == Proto::Tls;
    let ports = above.ports.ranges().iter().any(|(from, to)| *from <= low && high <= *to);
    proto
        && ports
        && within(&above.methods, &rule.methods, |above, method| above == method)
        && within(&above.paths, &rule.paths, |above, path| path_matches(above, path))
        && (!above.sni_pin || rule.wants_hello())
}

/// An empty list means all, above as below.
fn within<T>(above: &[T], below: &[T], covers: impl Fn(&T, &T) -> bool) -> bool {
    above.is_empty() || !below.is_empty() && below.iter().all(|item| above.iter().any(|above| covers(above, item)))
}

/// Whether the rule may reach a part of a special block by its name, on each of its ports.
fn covers_answer(ceiling: &[Rule], rule: &Rule, net: &IpNet, block: &Block) -> bool {
    let ranges = || rule.ports.ranges().iter();
    ranges().all(|range| ceiling.iter().any(|above| speaks_of(above, rule, *range) && names(above, rule, net, block)))
}

/// Whether a line of a ceiling names a part of a special block that holds the network: by itself, or for the rule's name. As in a
/// rule, `*` and a network that is wider than the block are about public addresses: whoever answers for a name chooses the address.
fn names(above: &Rule, rule: &Rule, net: &IpNet, block: &Block) -> bool {
    let holds = |above: &IpNet| above.contains(net) && block.covers(above);
    match &above.host {
        RuleHost::Net(above) => holds(above),
        host => host.covers(&rule.host) && above.addresses.iter().any(holds),
    }
}

/// The special ones of a rule's `addresses`, with their index and block.
fn special(rule: &Rule) -> impl Iterator<Item = (usize, &IpNet, &'static Block)> {
    rule.addresses.iter().enumerate().filter_map(|(index, net)| Some((index, net, special_block(net)?)))
}

fn special_block(net: &IpNet) -> Option<&'static Block> {
    block_around(net).filter(|block| matches!(block.class, Class::Special(_)))
}

/// What is wrong with rules that were read one by one, with the index of the rule: duplicates (`rule_duplicate`), rules that a deny
/// takes back (`grant_overridden_by_deny`), ranges that the operator did not consent to (`grant_special_range`), and rules that
/// reach past a ceiling (`grant_above_ceiling`).
pub fn check_rules(
    rules: &[Rule],
    consent: &[IpNet],
    node_deny: &[Deny],
    tenant_deny: &[Deny],
    ceilings: &[&[Rule]],
) -> Vec<(usize, RuleError)> {
    let mut errors = Vec::new();
    let mut seen = HashMap::new();
    for (number, rule) in rules.iter().enumerate() {
        if let Some(first) = seen.insert(rule.canonical(), number) {
            let message = format!("`{rule}` stands in egress[{first}] already");
            errors.push((number, RuleError::new("rule_duplicate", "allow", message)));
            continue;
        }
        if let Some((who, deny)) = denied(rule, node_deny, tenant_deny) {
            let message = format!("`{rule}` never takes effect, because the {who} denies `{deny}`");
            errors.push((number, RuleError::new("grant_overridden_by_deny", "allow", message)));
            continue;
        }
        errors.extend(without_consent(rule, consent).map(|error| (number, error)));
        errors.extend(above_ceilings(rule, ceilings).into_iter().map(|error| (number, error)));
    }
    errors
}

/// Each address that a ceiling does not name, where the rule is within it otherwise.
fn above_ceilings(rule: &Rule, ceilings: &[&[Rule]]) -> Vec<RuleError> {
    let above: Vec<_> = ceilings.iter().filter(|ceiling| !covers(ceiling, rule)).collect();
    let outside = |(_, net, block): &(usize, &IpNet, &Block)| {
        above.iter().any(|ceiling| !covers_answer(ceiling, rule, net, block))
    };
    let addresses: Vec<_> = special(rule).filter(outside).collect();
    let public = Rule { addresses: Vec::new(), ..rule.clone() };
    let rest = above.iter().all(|ceiling| covers(ceiling, &public));
    match (above.is_empty(), rest && !addresses.is_empty()) {
        (true, _) => Vec::new(),
        (false, false) => {
            let message = format!("`{rule}` reaches past the ceiling of its tenant or node");
            let past = RuleError::new("grant_above_ceiling", "allow", message);
            vec![unnamed_host(rule, &above).unwrap_or(past)]
        }
        (false, true) => {
            let error = |(index, net, block)| unnamed(rule, net, block, "addresses").at(index);
            addresses.into_iter().map(error).collect()
        }
    }
}

/// The rule's own host, where that is what some ceiling does not name: `*` stands there and seems to hold it.
fn unnamed_host(rule: &Rule, above: &[&&[Rule]]) -> Option<RuleError> {
    let RuleHost::Net(net) = &rule.host else { return None };
    let block = special_block(net)?;
    let is_unnamed = above.iter().any(|ceiling| !covers_answer(ceiling, rule, net, block));
    is_unnamed.then(|| unnamed(rule, net, block, "allow"))
}

fn unnamed(rule: &Rule, net: &IpNet, block: &Block, field: &'static str) -> RuleError {
    let kind = block.class.reason().map_or("special", Reason::as_str);
    let line = Rule::bare(rule.proto, RuleHost::Net(*net), rule.ports.clone());
    let message = format!("`{net}` is {kind}, and the ceiling of the tenant or node does not name it");
    let help = format!("leave it out, or an operator adds \"{line}\" to `ceilings.egress`");
    RuleError::new("grant_above_ceiling", field, message).help(help)
}

fn denied<'a>(rule: &Rule, node: &'a [Deny], tenant: &'a [Deny]) -> Option<(&'static str, &'a Deny)> {
    let all = node.iter().map(|deny| ("operator", deny)).chain(tenant.iter().map(|deny| ("tenant", deny)));
    all.into_iter().find(|(_, deny)| {
        let answers =
            !rule.addresses.is_empty() && rule.addresses.iter().all(|net| deny.host.covers(&RuleHost::Net(*net)));
        deny.forbids(rule.proto) && deny.ports.covers(&rule.ports) && (deny.host.covers(&rule.host) || answers)
    })
}

fn without_consent<'a>(rule: &'a Rule, consent: &'a [IpNet]) -> impl Iterator<Item = RuleError> {
    let own = if let RuleHost::Net(net) = &rule.host { Some((net, "allow", None)) } else { None };
    let answers = rule.addresses.iter().enumerate().map(|(index, net)| (net, "addresses", Some(index)));
    own.into_iter().chain(answers).filter_map(move |(net, field, index)| {
        let block = block_around(net)?;
        let Class::Special(special) = block.class else { return None };
        if !special.needs_consent() || consent.iter().any(|consent| consent.contains(net) && block.covers(consent)) {
            return None;
        }
        let message = format!("`{net}` is {}, and the operator has not consented to it", special.reason());
        let error = RuleError::new("grant_special_range", field, message);
        let error = error.help(format!("egress: {{ consent: [\"{net}\"] }} in portcullis.yaml"));
        Some(match index {
            Some(index) => error.at(index),
            None => error,
        })
    })
}
