use portcullis_policy::{Deny, Rule};

use crate::{Clock, Located, Location, PluginLogLevel, Rate};

/// A tenant of the node's file.
#[derive(Clone, Debug)]
pub struct Tenant {
    /// The place of its name.
    pub at: Location,
    /// The most that its plugins may be granted.
    pub ceilings: Ceilings,
    /// What its plugins may use together.
    pub limits: LevelLimits,
    /// What none of its plugins reaches, whatever it was granted.
    pub deny: Vec<Located<Deny>>,
}

impl Tenant {
    /// Its weight where tenants compete for CPU time; 1 when absent.
    pub fn cpu_share(&self) -> u32 {
        self.limits.cpu_share.as_ref().map_or(1, |share| share.value)
    }
}

/// The most that a level lets its plugins be granted. What is absent has no ceiling at this level.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ceilings {
    /// Every egress rule must lie within one of these; an empty list allows no rule at all.
    pub egress: Option<Vec<Located<Rule>>>,
    /// The most exact clock; `None` inside: no clock.
    pub clock: Option<Located<Option<Clock>>>,
    /// Whether random numbers may be granted.
    pub random: Option<Located<bool>>,
    /// The lowest level of log lines; `None` inside: no log.
    pub log: Option<Located<Option<PluginLogLevel>>>,
}

/// What the plugins of a level (a tenant, the node) may use together. What is absent has no bound at this level.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LevelLimits {
    /// Bytes of all memories and tables of all instances.
    pub memory_bytes: Option<Located<u64>>,
    /// Tenants only: weight where tenants compete for CPU time, 1 to 1000.
    pub cpu_share: Option<Located<u32>>,
    /// Open sockets.
    pub connections: Option<Located<u32>>,
    /// New connections in a time.
    pub connects: Option<Located<Rate>>,
    /// Name lookups in a time.
    pub lookups: Option<Located<Rate>>,
    /// Bytes a second out.
    pub egress_bytes: Option<Located<u64>>,
    /// Bytes a second in.
    pub ingress_bytes: Option<Located<u64>>,
    /// Bytes of log lines a second.
    pub log_rate_bytes_s: Option<Located<u64>>,
    /// Instances lost to faults in a time.
    pub restarts: Option<Located<Rate>>,
    /// What may wait for the lanes of all pipelines.
    pub queue: QueueLimit,
}

/// A bound of the queues of a level.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueLimit {
    /// Messages.
    pub messages: Option<Located<u32>>,
    /// Bytes of keys, values and headers.
    pub bytes: Option<Located<u64>>,
}
