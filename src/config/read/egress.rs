//! `grants.egress` of a plugin: rules, what belongs to their requests, and errors of rules under the names that
//! [`portcullis_policy`] gives them.

use portcullis_policy::{Proto, Rule, RuleError, RuleText};

use super::Context;
use super::fields::Fields;
use super::rules::{flag, range, rule_text, texts, uses_variables};
use super::secrets::secrets;
use super::values::{path, path_of_file, path_of_secret_file};
use crate::egress::RulePlaces;
use crate::yaml::{Kind, Node};
use crate::{ClientCert, Code, EgressGrant, EgressMode, EgressRule, Setting};

/// `egress:`, a list of rules that may be empty.
pub(super) fn egress(cx: &mut Context<'_>, node: &Node) -> Option<EgressGrant> {
    let items = match &node.kind {
        Kind::Seq(items) => items,
        Kind::Broken => return None,
        _ => {
            let message = format!("expected a list of rules, found {}", node.describe());
            let help = "write `- { allow: \"https://api.example.com\" }`; `[]` links the network and allows nothing";
            cx.say(&node.at, Code::TypeWrong, message, help);
            return None;
        }
    };
    let rules = items.iter().filter_map(|item| rule(cx, item)).collect();
    Some(EgressGrant { at: node.at.clone(), rules, mode: Setting::default_of(EgressMode::Enforce) })
}

/// A map, or the text of `allow` alone.
fn rule(cx: &mut Context<'_>, node: &Node) -> Option<EgressRule> {
    if matches!(node.kind, Kind::Scalar(_)) {
        let allow = rule_text(cx, node)?;
        let places = RulePlaces::new(&node.at, uses_variables(node));
        let rule = parsed(cx, &allow.alone(), &places)?;
        return Some(EgressRule {
            at: node.at.clone(),
            rule,
            ca: None,
            client_cert: None,
            secrets: Vec::new(),
            places,
        });
    }
    let mut fields = Fields::of(cx, node, "an egress rule")?;
    let mut places = RulePlaces::new(&node.at, uses_variables(node));
    let allow = fields.required(cx, "allow", rule_text);
    if let Some(allow) = &allow {
        places.fields.push(("allow", allow.at.clone(), Vec::new()));
    }
    let methods = texts(cx, &mut fields, "methods", &mut places);
    let paths = texts(cx, &mut fields, "paths", &mut places);
    let addresses = texts(cx, &mut fields, "addresses", &mut places);
    let ttl = range(cx, &mut fields, "ttl", &mut places);
    let sni_pin = flag(cx, &mut fields, "sni_pin", &mut places);
    let dns_port = flag(cx, &mut fields, "dns_port", &mut places);
    let dangerous = flag(cx, &mut fields, "dangerous", &mut places);
    let ca = fields.optional(cx, "ca", path);
    let client_cert = fields.optional(cx, "client_cert", client_cert);
    let secrets = fields.optional(cx, "secrets", secrets).unwrap_or_default();
    fields.finish(cx);
    let allow = allow?;
    let text = RuleText {
        allow: &allow.text,
        methods: methods.as_deref().map(borrowed),
        paths: paths.as_deref().map(borrowed),
        addresses: addresses.as_deref().map(borrowed),
        ttl,
        sni_pin,
        dns_port,
        dangerous,
    };
    let rule = parsed(cx, &text, &places)?;
    fits(cx, &fields, &rule)?;
    Some(EgressRule { at: node.at.clone(), rule, ca, client_cert, secrets, places })
}

fn borrowed(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

fn parsed(cx: &mut Context<'_>, text: &RuleText<'_>, places: &RulePlaces) -> Option<Rule> {
    let errors: Vec<RuleError> = match Rule::parse(text) {
        Ok(rule) => return Some(rule),
        Err(errors) => errors,
    };
    for error in &errors {
        cx.found.push(places.diagnostic(error));
    }
    None
}

fn client_cert(cx: &mut Context<'_>, node: &Node) -> Option<ClientCert> {
    let mut fields = Fields::of(cx, node, "`client_cert`")?;
    let cert = fields.required(cx, "cert", path_of_file);
    let key = fields.required(cx, "key", path_of_secret_file);
    fields.finish(cx);
    Some(ClientCert { cert: cert?, key: key? })
}

/// What belongs to requests that the bridge itself sends has no effect on other rules, and a secret on a connection that
/// anybody on the way can read is none for long.
fn fits(cx: &mut Context<'_>, fields: &Fields<'_>, rule: &Rule) -> Option<()> {
    let proto = rule.proto();
    let mut fits = Some(());
    let mut conflict = |cx: &mut Context<'_>, key: &str, message: String, help: &str| {
        if let Some(entry) = fields.entry(key) {
            cx.say(&entry.key_at, Code::KeyConflict, message, help);
            fits = None;
        }
    };
    for key in ["ca", "client_cert"] {
        if proto != Proto::Https {
            let message =
                format!("`{key}` has no effect on a rule for {}: the bridge speaks TLS for https only", proto.as_str());
            conflict(cx, key, message, "use `https://`, or remove it");
        }
    }
    if !proto.is_http() {
        let proto = proto.as_str();
        let message = format!("`secrets` have no effect on a rule for {proto}: they are headers of HTTP requests");
        conflict(cx, "secrets", message, "use `https://`, or remove it");
    } else if proto == Proto::Http && !rule.dangerous() {
        let message = "`secrets` on a rule for http would go over the wire in clear".to_owned();
        conflict(cx, "secrets", message, "use `https://`; `dangerous: true` sends them all the same");
    }
    fits
}
