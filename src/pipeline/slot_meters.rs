//! A plugin's metrics, resolved once for each lane.

use metrics::{Counter, Gauge, Histogram};

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
    /// `allowed`, `denied`, `quota`.
    egress: [Counter; 3],
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
