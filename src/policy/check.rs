use std::collections::HashMap;

use ipnet::IpNet;

use crate::address::{Class, block_around};
use crate::rule::RuleHost;
use crate::search::path_matches;
use crate::{Deny, Proto, Rule, RuleError};

/// Whether every request that a rule allows is also within the ceiling. A ceiling of several lines may share a rule's ports out
/// among them, nothing else.
pub fn covers(ceiling: &[Rule], rule: &Rule) -> bool {
    rule.ports.ranges().iter().all(|range| ceiling.iter().any(|above| is_above(above, rule, *range)))
}

fn is_above(above: &Rule, rule: &Rule, (low, high): (u16, u16)) -> bool {
    let proto = above.proto == rule.proto || above.proto == Proto::Tcp && rule.proto == Proto::Tls;
    let ports = above.ports.ranges().iter().any(|(from, to)| *from <= low && high <= *to);
    proto
        && ports
        && above.host.covers(&rule.host)
        && within(&above.methods, &rule.methods, |above, method| above == method)
        && within(&above.paths, &rule.paths, |above, path| path_matches(above, path))
        && within(&above.addresses, &rule.addresses, |above, net| above.contains(net))
        && (!above.sni_pin || rule.wants_hello())
}

/// An empty list means all, above as below.
fn within<T>(above: &[T], below: &[T], covers: impl Fn(&T, &T) -> bool) -> bool {
    above.is_empty() || !below.is_empty() && below.iter().all(|item| above.iter().any(|above| covers(above, item)))
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
        if !ceilings.iter().all(|ceiling| covers(ceiling, rule)) {
            let message = format!("`{rule}` reaches past the ceiling of its tenant or node");
            errors.push((number, RuleError::new("grant_above_ceiling", "allow", message)));
        }
    }
    errors
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
