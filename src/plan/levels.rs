//! What plugins share: the sums of their tenant and of the node. One set for each process.

use std::collections::BTreeMap;
use std::sync::Arc;

use portcullis_audit::Scope;
use portcullis_config::{LevelLimits, Located, Node};
use portcullis_flow::{Bounds, QueueLevel, QueueSum};
use portcullis_net::{Budget, BudgetLimits};

use crate::pipeline::RestartSum;
use crate::plugin::{LogRate, MemorySum, Sums, Turns};

/// The node's level and one for each tenant.
pub(super) struct Levels {
    node: Level,
    tenants: BTreeMap<String, (Level, Option<Arc<Turns>>)>,
}

struct Level {
    memory: Option<Arc<MemorySum>>,
    queue: Option<Arc<QueueSum>>,
    network: Arc<Budget>,
    log: Option<Arc<LogRate>>,
    restarts: Option<Arc<RestartSum>>,
}

impl Levels {
    pub(super) fn of(node: &Node) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let shares: Vec<u64> = node.tenants.values().map(|tenant| u64::from(tenant.cpu_share())).collect();
        let mut turns = if node.has_several_tenants() { Turns::among(cores, &shares) } else { Vec::new() }.into_iter();
        let tenants = node
            .tenants
            .iter()
            .map(|(name, tenant)| (name.clone(), (Level::new(Scope::Tenant, &tenant.limits), turns.next())));
        Self { tenants: tenants.collect(), node: Level::new(Scope::Node, &node.limits) }
    }

    /// What a plugin of the tenant shares of memory, processor and log; `log_rate_bytes_s` is its own.
    pub(super) fn sums(&self, tenant: Option<&str>, log_rate_bytes_s: u64) -> Sums {
        let of_tenant = tenant.and_then(|name| self.tenants.get(name));
        Sums {
            memory: of_tenant
                .and_then(|(level, _)| level.memory.clone())
                .into_iter()
                .chain(self.node.memory.clone())
                .collect(),
            log: std::iter::once(Arc::new(LogRate::new(Scope::Plugin, log_rate_bytes_s)))
                .chain(of_tenant.and_then(|(level, _)| level.log.clone()))
                .chain(self.node.log.clone())
                .collect(),
            turns: of_tenant.and_then(|(_, turns)| turns.clone()),
        }
    }

    /// The sums that the queue of a pipeline of the tenant counts for.
    pub(super) fn queue(&self, tenant: Option<&str>) -> Vec<Arc<QueueSum>> {
        let of_tenant = tenant.and_then(|name| self.tenants.get(name)).and_then(|(level, _)| level.queue.clone());
        of_tenant.into_iter().chain(self.node.queue.clone()).collect()
    }

    /// The sums that the lost instances of a plugin of the tenant count for.
    pub(super) fn restarts(&self, tenant: Option<&str>) -> Vec<Arc<RestartSum>> {
        let of_tenant = tenant.and_then(|name| self.tenants.get(name)).and_then(|(level, _)| level.restarts.clone());
        of_tenant.into_iter().chain(self.node.restarts.clone()).collect()
    }

    /// The budgets of the network above a plugin of the tenant.
    pub(super) fn network(&self, tenant: Option<&str>) -> Vec<Arc<Budget>> {
        let of_tenant = tenant.and_then(|name| self.tenants.get(name)).map(|(level, _)| level.network.clone());
        of_tenant.into_iter().chain([self.node.network.clone()]).collect()
    }
}

impl Level {
    fn new(scope: Scope, limits: &LevelLimits) -> Self {
        let memory = limits.memory_bytes.as_ref().map(|bytes| Arc::new(MemorySum::new(scope, bytes.value)));
        let queue = &limits.queue;
        let queue = (queue.messages.is_some() || queue.bytes.is_some()).then(|| {
            let messages = queue.messages.as_ref().map_or(usize::MAX, |limit| limit.value as usize);
            let bytes =
                queue.bytes.as_ref().map_or(usize::MAX, |limit| usize::try_from(limit.value).unwrap_or(usize::MAX));
            let level = if scope == Scope::Tenant { QueueLevel::Tenant } else { QueueLevel::Node };
            Arc::new(QueueSum::new(level, Bounds { messages, bytes }))
        });
        let rate = |rate: &portcullis_config::Rate| (rate.count, rate.per);
        let network = BudgetLimits {
            connections: limits.connections.as_ref().map(|limit| limit.value),
            connects: limits.connects.as_ref().map(|limit| rate(&limit.value)),
            lookups: limits.lookups.as_ref().map(|limit| rate(&limit.value)),
            egress_bytes_s: limits.egress_bytes.as_ref().map(|limit| limit.value),
            ingress_bytes_s: limits.ingress_bytes.as_ref().map(|limit| limit.value),
        };
        let log = limits.log_rate_bytes_s.as_ref().map(|rate| Arc::new(LogRate::new(scope, rate.value)));
        let restarts = limits
            .restarts
            .as_ref()
            .map(|Located { value, .. }| Arc::new(RestartSum::new(scope, value.count, value.per)));
        Self { memory, queue, network: Budget::new(scope, network), log, restarts }
    }
}
