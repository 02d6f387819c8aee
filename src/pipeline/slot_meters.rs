//! A plugin's metrics, resolved once for each lane.

use std::collections::HashMap;

use metrics::{Counter, Gauge, Histogram};
use portcullis_audit::Scope;

use super::Identity;
use super::chain::Tally;
use crate::telemetry::names::Metric;

pub(super) struct SlotMeters {
    pass: Counter,
    drop: Counter,
    reject: Counter,
    retry: Counter,
    fault: Counter,
    time: Counter,
    pub(super) restarts: Counter,
    pub(super) log_cut: Counter,
    pub(super) quarantined: Gauge,
    pub(super) memory: Gauge,
    pub(super) fuel: Histogram,
    pub(super) turn_wait: Counter,
    /// `allowed`, `denied`, `quota`.
    egress: [Counter; 3],
    labels: [String; 2],
    /// By kind and scope, each made when its limit is met first.
    limits: HashMap<(&'static str, &'static str), Counter>,
}

impl SlotMeters {
    pub(super) fn new(identity: &Identity, plugin: &str) -> Self {
        let labels = [("pipeline", &*identity.name), ("plugin", plugin)];
        let calls = |verdict| Metric::PluginCalls.counter(&[labels[0], labels[1], ("verdict", verdict)]);
        Self {
            pass: calls("pass"),
            drop: calls("drop"),
            reject: calls("reject"),
            retry: calls("retry"),
            fault: calls("fault"),
            time: Metric::PluginTime.counter(&labels),
            restarts: Metric::PluginRestarts.counter(&labels),
            log_cut: Metric::PluginLogCut.counter(&labels),
            quarantined: Metric::PluginQuarantined.gauge(&labels),
            memory: Metric::PluginMemory.gauge(&labels),
            fuel: Metric::PluginFuel.histogram(&labels),
            turn_wait: Metric::PluginTurnWait.counter(&labels),
            limits: HashMap::new(),
            labels: labels.map(|(_, value)| value.to_owned()),
            egress: ["allowed", "denied", "quota"]
                .map(|outcome| Metric::Egress.counter(&[labels[0], labels[1], ("outcome", outcome)])),
        }
    }

    /// The numbers are the plugin's own, over all lanes.
    pub(super) fn tell_egress(&self, decisions: [u64; 3]) {
        for (counter, count) in self.egress.iter().zip(decisions) {
            counter.absolute(count);
        }
    }

    /// How often a limit was met.
    pub(super) fn limit(&mut self, kind: &'static str, scope: Scope) -> &Counter {
        let [pipeline, plugin] = &self.labels;
        let scope = scope.as_str();
        self.limits.entry((kind, scope)).or_insert_with(|| limit(pipeline, plugin, kind, scope))
    }

    pub(super) fn add(&self, tally: &Tally) {
        let counters = [
            (&self.pass, tally.pass),
            (&self.drop, tally.drop),
            (&self.reject, tally.reject),
            (&self.retry, tally.retry),
            (&self.fault, tally.fault),
            (&self.time, u64::try_from(tally.time.as_nanos()).unwrap_or(u64::MAX)),
        ];
        for (counter, amount) in counters {
            if amount > 0 {
                counter.increment(amount);
            }
        }
    }
}

/// How often a limit of a pipeline was met; `plugin` is `source` where it is of no plugin.
pub(super) fn limit(pipeline: &str, plugin: &str, kind: &'static str, scope: &'static str) -> Counter {
    Metric::LimitsMet.counter(&[("pipeline", pipeline), ("plugin", plugin), ("kind", kind), ("scope", scope)])
}
