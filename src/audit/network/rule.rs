//! Which rule an event names as the one that decided.

use serde_json::{Map, Value};

use super::RuleRef;
use super::events::{Network, What};
use crate::text::{Text, object, put};

pub(crate) fn firewall_rule(network: &Network, text: &mut Text) -> Option<Map<String, Value>> {
    let mut details = Vec::new();
    let mut form = match (&network.what, &network.rule) {
        (What::Denied(refusal), Some(rule)) if is_of_a_rule(refusal.reason) => named(rule, text),
        (What::Denied(refusal), nearest) => {
            if let Some(rule) = nearest {
                // Not as the rule itself: it is not the one that refused.
                details.push(text.name(&format!("nearest:{} {}", rule.uid, rule.name)));
            }
            builtin(refusal.reason)
        }
        (_, Some(rule)) => named(rule, text),
        (_, None) if network.observed.is_some() => object([("uid", "observe".into()), ("name", "observe".into())]),
        (_, None) => return None,
    };
    if let Some(uid) = network.pin {
        details.push(format!("dns-pin:{uid}").into());
    }
    if let What::Lookup(answer) = &network.what {
        details.extend(answer.dropped.iter().map(|(ip, reason)| Value::from(format!("dropped:{ip}:{reason}"))));
    }
    if !details.is_empty() {
        put(&mut form, "match_details", details);
    }
    Some(form)
}

fn named(rule: &RuleRef, text: &mut Text) -> Map<String, Value> {
    object([("uid", text.name(&rule.uid)), ("name", text.name(&rule.name))])
}

/// Whether a typed rule refused, and not the lack of one.
fn is_of_a_rule(reason: &str) -> bool {
    matches!(reason, "rule.operator_deny" | "rule.ceiling" | "rule.dns_port" | "addr.outside_rule")
        || reason.starts_with("tls.")
}

fn builtin(reason: &str) -> Map<String, Value> {
    let (uid, name) = match reason.split_once('.') {
        Some(("addr", "self")) => ("builtin/own-endpoints", format!("deny {reason}")),
        Some(("addr", _)) => ("builtin/special-ranges", format!("deny {reason}")),
        Some(("name", _)) => ("builtin/names", format!("deny {reason}")),
        Some(("quota", _)) => ("limits", format!("deny {reason}")),
        Some(("capability", _)) => ("builtin/outbound-only", format!("deny {reason}")),
        _ => ("default-deny", "default-deny".to_owned()),
    };
    object([("uid", uid.into()), ("name", name.into())])
}
