//! What of a plan is allowed and yet weaker than it could be. Each says what would make it stronger.

use portcullis_config::{AuditMode, AuditTarget, Clock, Disposition, EgressMode, Mode, Order, Plugin};
use portcullis_policy::{Proto, RuleHost};

use super::guarantee::Guarantee;
use super::{LOCK_FILE, PipelinePlan, Plan, Table};

pub(super) fn of(plan: &Plan, pipeline: &PipelinePlan) -> Vec<String> {
    let config = &pipeline.config;
    let mut remarks = Vec::new();
    if pipeline.promise.guarantee == Guarantee::AtMostOnce {
        remarks.push(format!("messages can be lost: {}", pipeline.promise.why));
    }
    if config.order.value == Order::None {
        remarks.push("messages of one key may overtake each other: `order: key` keeps them".to_owned());
    }
    let has_plugins = !config.plugins.is_empty();
    if has_plugins && config.dead_letter.is_none() {
        remarks.push(
            "there is no `dead_letter`: a message that a plugin rejects, or that it fails on, stops the pipeline unless `on` says otherwise"
                .to_owned(),
        );
    }
    remarks.extend(pipeline.warnings.iter().map(|warning| format!("{}: {}", warning.at, warning.message)));
    for plugin in &config.plugins {
        let is_its = |table: &&Table| table.pipeline == config.name.value && table.plugin == plugin.name.value;
        let warnings = plan.tables.iter().find(is_its).map(|table| table.warnings.as_slice()).unwrap_or_default();
        remarks.extend(warnings.iter().map(|warning| format!("plugin {}: {warning}", plugin.name.value)));
        remarks.extend(of_plugin(plugin).into_iter().map(|remark| format!("plugin {}: {remark}", plugin.name.value)));
    }
    if has_plugins && !config.file.with_file_name(LOCK_FILE).is_file() {
        remarks.push(format!(
            "there is no {LOCK_FILE} beside the file: `portcullis link` writes one, and then `run` refuses what has drifted"
        ));
    }
    if plan.node.mode.value == Mode::Development {
        remarks.push(
            "the node's mode is development: production also requires digests, manifests and an audit topic".to_owned(),
        );
    }
    if !matches!(plan.node.audit.target.as_ref().map(|target| &target.value), Some(AuditTarget::Topic(_))) {
        remarks.push("audit events go to a local file, which whoever has this machine can change: `audit: { topic: ... }` sends them away".to_owned());
    }
    if plan.node.audit.mode.value == AuditMode::Buffered {
        remarks.push("audit events are buffered: an effect does not wait until its event is durable".to_owned());
    }
    remarks
}

fn of_plugin(plugin: &Plugin) -> Vec<String> {
    let mut remarks = Vec::new();
    if plugin.digest.is_none() {
        remarks.push("no `digest`: whoever can write its file chooses what runs".to_owned());
    }
    for (name, way) in [("reject", &plugin.on.reject), ("fault", &plugin.on.fault)] {
        if way.value == Disposition::Drop {
            remarks.push(format!("`on.{name}: drop` loses its messages and counts them as done"));
        }
    }
    if plugin.on.may_drop.value {
        remarks.push("it may drop messages".to_owned());
    }
    if plugin.grants.clock.as_ref().is_some_and(|clock| clock.value == Clock::Precise) {
        remarks.push("a precise clock helps timing attacks: `coarse` is enough to tell the time".to_owned());
    }
    let Some(egress) = &plugin.grants.egress else { return remarks };
    if egress.mode.value == EgressMode::Observe {
        remarks.push("`egress_mode: observe` lets through what no rule allows".to_owned());
    }
    for rule in &egress.rules {
        let text = rule.rule.canonical();
        if rule.rule.dangerous() {
            remarks.push(format!(
                "`{text}` is `dangerous`: it takes more hosts or ports than a rule may without that word"
            ));
        }
        let open = match (rule.rule.methods().is_empty(), rule.rule.paths().is_empty()) {
            _ if !rule.rule.proto().is_http() => None,
            (true, true) => Some("every method and every path is allowed: `methods` and `paths` narrow it"),
            (true, false) => Some("every method is allowed: `methods` narrows it"),
            (false, true) => Some("every path is allowed: `paths` narrows it"),
            (false, false) => None,
        };
        remarks.extend(open.map(|open| format!("`{text}`: {open}")));
        match rule.rule.host() {
            RuleHost::Suffix(_) => {
                remarks.push(format!("`{text}`: the labels before the suffix reach the name server and can carry data"))
            }
            RuleHost::Name(_) if rule.rule.proto() == Proto::Tcp && !rule.rule.sni_pin() => {
                remarks.push(format!("`{text}`: other sites behind the same address can be reached too"));
            }
            _ => {}
        }
    }
    remarks
}
