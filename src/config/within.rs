//! A level can only lower the one above: what a plugin or a tenant typed is held against its tenant and the node, and what
//! nobody typed is lowered to them.

use portcullis_policy::{Rule, covers};

use crate::{
    Ceilings, Clock, Code, Diagnostics, Grants, LevelLimits, Limits, Located, Location, Node, Pipeline, Plugin,
    QueueLimit, Rate, Setting, Tenant, Window, format_size,
};

const ABOVE_CEILING: Code = Code::Other("grant_above_ceiling");

/// A level above a plugin.
struct Level<'a> {
    /// With its article.
    name: String,
    ceilings: &'a Ceilings,
    limits: &'a LevelLimits,
}

impl Node {
    /// The tenant of a pipeline with its name; none where the pipeline names none or one that is not listed.
    pub fn tenant_of<'a>(&'a self, pipeline: &Pipeline) -> Option<(&'a str, &'a Tenant)> {
        let (name, tenant) = self.tenants.get_key_value(pipeline.tenant.as_ref()?.as_str())?;
        Some((name, tenant))
    }

    /// The limits that hold for a plugin: its own, where a default is above what its tenant or the node has, that.
    pub fn limits_of(&self, pipeline: &Pipeline, plugin: &Plugin) -> Limits {
        let mut limits = plugin.limits.clone();
        for level in self.levels(pipeline) {
            lower(&mut limits.memory_bytes, level.limits.memory_bytes.as_ref());
            lower(&mut limits.log_rate_bytes_s, level.limits.log_rate_bytes_s.as_ref());
            lower(&mut limits.connections, level.limits.connections.as_ref());
            lower_rate(&mut limits.connects, level.limits.connects.as_ref());
            lower_rate(&mut limits.lookups, level.limits.lookups.as_ref());
            lower_or_set(&mut limits.egress_bytes, level.limits.egress_bytes.as_ref());
            lower_or_set(&mut limits.ingress_bytes, level.limits.ingress_bytes.as_ref());
        }
        limits
    }

    /// The queue of a pipeline: its own, where a default is above what its tenant or the node has, that.
    pub fn queue_of(&self, pipeline: &Pipeline) -> Window {
        let mut queue = pipeline.queue.clone();
        for level in self.levels(pipeline) {
            lower(&mut queue.messages, level.limits.queue.messages.as_ref());
            lower(&mut queue.bytes, level.limits.queue.bytes.as_ref());
        }
        queue
    }

    /// The node, then the tenant.
    fn levels(&self, pipeline: &Pipeline) -> impl Iterator<Item = Level<'_>> {
        let node = Level { name: "the node".to_owned(), ceilings: &self.ceilings, limits: &self.limits };
        let tenant = self.tenant_of(pipeline).map(|(name, tenant)| Level {
            name: format!("tenant `{name}`"),
            ceilings: &tenant.ceilings,
            limits: &tenant.limits,
        });
        std::iter::once(node).chain(tenant)
    }
}

fn lower<T: Ord + Copy>(setting: &mut Setting<T>, bound: Option<&Located<T>>) {
    if let Some(bound) = bound.filter(|bound| bound.value < setting.value) {
        *setting = Setting { value: bound.value, at: Some(bound.at.clone()) };
    }
}

fn lower_rate(setting: &mut Setting<Rate>, bound: Option<&Located<Rate>>) {
    if let Some(bound) = bound.filter(|bound| an_hour(bound.value) < an_hour(setting.value)) {
        *setting = Setting { value: bound.value, at: Some(bound.at.clone()) };
    }
}

fn lower_or_set(own: &mut Option<Located<u64>>, bound: Option<&Located<u64>>) {
    if let Some(bound) = bound.filter(|bound| own.as_ref().is_none_or(|own| bound.value < own.value)) {
        *own = Some(bound.clone());
    }
}

/// Rates of different times in one unit. Every time divides an hour.
fn an_hour(rate: Rate) -> u64 {
    u64::from(rate.count) * 3600 / rate.per.as_secs().max(1)
}

/// What a tenant has above the node.
pub(crate) fn tenant(found: &mut Diagnostics, tenant: &Tenant, node_ceilings: &Ceilings, node_limits: &LevelLimits) {
    let node = Level { name: "the node".to_owned(), ceilings: node_ceilings, limits: node_limits };
    limits(found, &tenant.limits, &node);
    ceilings(found, &tenant.ceilings, &node);
    let Some(above) = &node_ceilings.egress else { return };
    let above: Vec<Rule> = above.iter().map(|rule| rule.value.clone()).collect();
    for rule in tenant.ceilings.egress.iter().flatten().filter(|rule| !covers(&above, rule)) {
        // Not quoted: a variable may be in it, and the caret shows the line as it was typed.
        let message = "this rule is above the `ceilings.egress` of the node";
        found.push(rule.at.diagnostic(ABOVE_CEILING, message).help("a tenant can only have less than its node"));
    }
}

/// What a pipeline and its plugins have above the levels over them, but for their egress rules.
pub(crate) fn pipeline(found: &mut Diagnostics, node: &Node, pipeline: &Pipeline) {
    for level in node.levels(pipeline) {
        let queue = QueueLimit { messages: typed(&pipeline.queue.messages), bytes: typed(&pipeline.queue.bytes) };
        limits(found, &LevelLimits { queue, ..LevelLimits::default() }, &level);
        for plugin in &pipeline.plugins {
            limits(found, &typed_limits(&plugin.limits), &level);
            ceilings(found, &granted(&plugin.grants), &level);
        }
    }
}

/// What somebody typed; a default is lowered instead.
fn typed<T: Clone>(setting: &Setting<T>) -> Option<Located<T>> {
    setting.at.clone().map(|at| Located::new(setting.value.clone(), at))
}

fn typed_limits(limits: &Limits) -> LevelLimits {
    LevelLimits {
        memory_bytes: typed(&limits.memory_bytes),
        cpu_share: None,
        connections: typed(&limits.connections),
        connects: typed(&limits.connects),
        lookups: typed(&limits.lookups),
        egress_bytes: limits.egress_bytes.clone(),
        ingress_bytes: limits.ingress_bytes.clone(),
        log_rate_bytes_s: typed(&limits.log_rate_bytes_s),
        restarts: typed(&limits.restarts),
        queue: QueueLimit::default(),
    }
}

fn granted(grants: &Grants) -> Ceilings {
    Ceilings {
        egress: None,
        clock: grants.clock.clone().map(|clock| clock.map(Some)),
        random: grants.random.clone().map(|at| Located::new(true, at)),
        log: grants.log.clone().map(|log| log.map(Some)),
    }
}

fn limits(found: &mut Diagnostics, own: &LevelLimits, level: &Level<'_>) {
    for ((key, own), (_, above)) in amounts(own).into_iter().zip(amounts(level.limits)) {
        if let (Some(own), Some(above)) = (own, above)
            && own.amount > above.amount
        {
            let message = format!("`{key}` {} is above the {} of {}", own.shown, above.shown, level.name);
            let help = format!("allowed: up to {} ({})", above.shown, above.at);
            found.push(own.at.diagnostic(Code::Other("limit.above_ceiling"), message).help(help));
        }
    }
}

/// A limit with its place and as a person reads it.
struct Amount<'a> {
    at: &'a Location,
    amount: u64,
    shown: String,
}

fn amounts(limits: &LevelLimits) -> [(&'static str, Option<Amount<'_>>); 10] {
    fn of<T>(limit: &Option<Located<T>>, read: impl Fn(&T) -> (u64, String)) -> Option<Amount<'_>> {
        let limit = limit.as_ref()?;
        let (amount, shown) = read(&limit.value);
        Some(Amount { at: &limit.at, amount, shown })
    }
    let count = |count: &u32| (u64::from(*count), count.to_string());
    let size = |bytes: &u64| (*bytes, format_size(*bytes));
    let speed = |bytes: &u64| (*bytes, format!("{}/s", format_size(*bytes)));
    let rate = |rate: &Rate| (an_hour(*rate), rate.to_string());
    [
        ("memory", of(&limits.memory_bytes, size)),
        ("connections", of(&limits.connections, count)),
        ("connects", of(&limits.connects, rate)),
        ("lookups", of(&limits.lookups, rate)),
        ("egress_bytes", of(&limits.egress_bytes, speed)),
        ("ingress_bytes", of(&limits.ingress_bytes, speed)),
        ("log_rate", of(&limits.log_rate_bytes_s, speed)),
        ("restarts", of(&limits.restarts, rate)),
        ("queue.messages", of(&limits.queue.messages, count)),
        ("queue.bytes", of(&limits.queue.bytes, size)),
    ]
}

/// Clock, random numbers and log. `none` is below everything.
fn ceilings(found: &mut Diagnostics, own: &Ceilings, level: &Level<'_>) {
    let mut above = |own: &Location, ceiling: &Location, key: &str, allowed: &str| {
        let message = format!("this `{key}` is above the ceiling of {}", level.name);
        let help = format!("allowed: {allowed} ({ceiling})");
        found.push(own.diagnostic(ABOVE_CEILING, message).help(help));
    };
    if let (Some(own), Some(ceiling)) = (&own.clock, &level.ceilings.clock)
        && own.value > ceiling.value
    {
        above(&own.at, &ceiling.at, "clock", ceiling.value.map_or("none", Clock::as_str));
    }
    if let (Some(own), Some(ceiling)) = (&own.random, &level.ceilings.random)
        && own.value
        && !ceiling.value
    {
        above(&own.at, &ceiling.at, "random", "none");
    }
    if let (Some(own), Some(ceiling)) = (&own.log, &level.ceilings.log)
        && let Some(wanted) = own.value
        && ceiling.value.is_none_or(|lowest| wanted < lowest)
    {
        let allowed = ceiling.value.map_or("none".to_owned(), |lowest| format!("{} and above", lowest.as_str()));
        above(&own.at, &ceiling.at, "log", &allowed);
    }
}
