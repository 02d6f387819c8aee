//! What can be recorded. An event holds what the caller knows; its OCSF form is built on the writer's thread. No field takes
//! a payload, a header value, an environment value or a secret, and text that a guest may have chosen is kept as
//! [`Untrusted`].

use uuid::Uuid;

use crate::actor::Actor;
use crate::clock::now_ms;
use crate::code::{Code, Shape};
use crate::detail::{
    Budget, ConfigFault, Disabled, HostCall, Linked, Mode, Quarantine, Refused, Rejection, Scope, Trap,
};
use crate::escape::{CODE_BYTES, DETAIL_BYTES, NAME_BYTES, Untrusted};
use crate::network::{self, Window, events::Network};
use crate::source::Source;
use crate::uid::new_uid;

/// Something that happened, with who did it and when.
#[derive(Clone, Debug)]
pub struct Event {
    pub(crate) uid: Uuid,
    pub(crate) actor: Actor,
    /// Milliseconds since 1970, taken when the event was made.
    pub(crate) time_ms: u64,
    /// Coordinates of the record in work.
    pub(crate) source: Option<Untrusted>,
    /// The trace that the record says it is part of.
    pub(crate) trace_id: Option<[u8; 16]>,
    pub(crate) fact: Fact,
}

/// What happened, with the fields of its code.
#[derive(Clone, Debug)]
pub(crate) enum Fact {
    Boot {
        mode: Mode,
        config_sha256: Option<String>,
    },
    Stop {
        events: u64,
        lost: u64,
    },
    Loss(Loss),
    Linked(Box<Linked>),
    Rejected {
        refused: Refused,
        detail: Untrusted,
        version: Option<Untrusted>,
    },
    Stopped,
    Disabled {
        kind: &'static str,
        detail: Untrusted,
        quarantine_ms: Option<u64>,
    },
    Trapped {
        kind: &'static str,
        detail: Untrusted,
        instance: Option<Untrusted>,
        discarded: bool,
    },
    Budget(Met),
    Quarantined(Quarantined),
    HostCall(HostCall),
    ConfigRejected {
        slug: Untrusted,
        at: Untrusted,
        detail: Untrusted,
    },
    /// Boxed, because the queue moves events under its lock.
    Network(Box<Network>),
}

/// A limit that was met.
#[derive(Clone, Debug)]
pub(crate) struct Met {
    pub(crate) kind: &'static str,
    pub(crate) limit: Option<u64>,
    pub(crate) used: Option<u64>,
    pub(crate) scope: Scope,
    pub(crate) detail: Untrusted,
    pub(crate) window: Option<Window>,
}

/// A record that went to the dead letter queue.
#[derive(Clone, Debug)]
pub(crate) struct Quarantined {
    pub(crate) kind: &'static str,
    pub(crate) code: Untrusted,
    pub(crate) channel: Untrusted,
    pub(crate) letter: Option<Letter>,
    pub(crate) truncated: bool,
    pub(crate) attempts: u32,
}

/// Events that could not be recorded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Loss {
    pub(crate) reason: &'static str,
    /// Number of events.
    pub(crate) events: u64,
    /// What the lost events had counted, by code: a lost window of host calls weighs its count.
    pub(crate) by_code: Vec<(Code, u64)>,
    pub(crate) first_ms: u64,
    pub(crate) last_ms: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) queue: Untrusted,
    pub(crate) position: Untrusted,
}

impl Event {
    pub(crate) fn new(actor: Actor, fact: Fact) -> Self {
        let time_ms = now_ms();
        Self { uid: new_uid(time_ms), actor, time_ms, source: None, trace_id: None, fact }
    }

    /// `plugin.linked`: a component was linked and may run.
    pub fn plugin_linked(plugin: Actor, linked: Linked) -> Self {
        Self::new(plugin, Fact::Linked(Box::new(linked)))
    }

    /// `plugin.rejected`: a component was refused before it ran.
    pub fn plugin_rejected(plugin: Actor, rejection: Rejection) -> Self {
        let Rejection { refused, detail, version } = rejection;
        let version = version.map(|version| Untrusted::new(version, CODE_BYTES));
        Self::new(plugin, Fact::Rejected { refused, detail: Untrusted::new(detail, DETAIL_BYTES), version })
    }

    /// `plugin.stopped`: a plugin ended with its pipeline.
    pub fn plugin_stopped(plugin: Actor) -> Self {
        Self::new(plugin, Fact::Stopped)
    }

    /// `plugin.disabled`: a plugin was quarantined after too many faults.
    pub fn plugin_disabled(plugin: Actor, disabled: Disabled) -> Self {
        let Disabled { kind, detail, quarantine_ms } = disabled;
        Self::new(plugin, Fact::Disabled { kind, detail: Untrusted::new(detail, DETAIL_BYTES), quarantine_ms })
    }

    /// `plugin.trapped`: a call ended in a trap. Add the record in work with [`Event::about`].
    pub fn plugin_trapped(plugin: Actor, trap: Trap) -> Self {
        let Trap { kind, detail, instance, discarded } = trap;
        let instance = instance.map(|instance| Untrusted::new(instance, CODE_BYTES));
        Self::new(plugin, Fact::Trapped { kind, detail: Untrusted::new(detail, DETAIL_BYTES), instance, discarded })
    }

    /// `budget.exceeded`: a call met a limit, or a pipeline. Add the record in work with [`Event::about`].
    pub fn budget_exceeded(actor: Actor, budget: Budget) -> Self {
        let Budget { kind, limit, used, scope, detail, window } = budget;
        let detail = Untrusted::new(detail, DETAIL_BYTES);
        Self::new(actor, Fact::Budget(Met { kind, limit, used, scope, detail, window }))
    }

    /// `record.quarantined`: a record went to the dead letter queue. `source` is `pipeline/topic-partition@offset`.
    pub fn record_quarantined(actor: Actor, source: impl Into<Source>, quarantine: Quarantine) -> Self {
        let Quarantine { channel, dead_letter, kind, code, truncated, attempts } = quarantine;
        let name = |text| Untrusted::new(text, NAME_BYTES);
        let letter = dead_letter.map(|letter| Letter { queue: name(letter.queue), position: name(letter.position) });
        let code = Untrusted::new(code, CODE_BYTES);
        let fact = Quarantined { kind, code, channel: name(channel), letter, truncated, attempts };
        Self::new(actor, Fact::Quarantined(fact)).about(source)
    }

    /// `host.call`: calls of a granted host function over a window. [`crate::Counts`] makes these.
    pub fn host_call(plugin: Actor, calls: HostCall) -> Self {
        Self::new(plugin, Fact::HostCall(calls))
    }

    /// `config.rejected`: a configuration was refused, and what ran before goes on.
    pub fn config_rejected(actor: Actor, fault: ConfigFault) -> Self {
        let ConfigFault { slug, at, detail } = fault;
        let [slug, at] = [slug, at].map(|text| Untrusted::new(text, NAME_BYTES));
        Self::new(actor, Fact::ConfigRejected { slug, at, detail: Untrusted::new(detail, DETAIL_BYTES) })
    }

    /// A UUID of version 7, made with the event and told as its `metadata.uid`, so that a later event can point at this one.
    /// A clone is the same event.
    pub fn uid(&self) -> Uuid {
        self.uid
    }

    /// Names the record in work, as `pipeline/topic-partition@offset`, and its trace.
    #[must_use]
    pub fn about(mut self, source: impl Into<Source>) -> Self {
        let Source { coordinates, trace_id } = source.into();
        self.source = Some(Untrusted::new(&*coordinates, NAME_BYTES));
        self.trace_id = trace_id;
        self
    }

    /// What happened.
    pub fn code(&self) -> Code {
        match &self.fact {
            Fact::Boot { .. } => Code::AuditBoot,
            Fact::Stop { .. } => Code::AuditStop,
            Fact::Loss(_) => Code::AuditLoss,
            Fact::Linked(_) => Code::PluginLinked,
            Fact::Rejected { .. } => Code::PluginRejected,
            Fact::Stopped => Code::PluginStopped,
            Fact::Disabled { .. } => Code::PluginDisabled,
            Fact::Trapped { .. } => Code::PluginTrapped,
            Fact::Budget(_) => Code::BudgetExceeded,
            Fact::Quarantined(_) => Code::RecordQuarantined,
            Fact::HostCall(_) => Code::HostCall,
            Fact::ConfigRejected { .. } => Code::ConfigRejected,
            Fact::Network(network) => network.code(),
        }
    }

    /// How the event is classified in OCSF.
    pub(crate) fn shape(&self) -> Shape {
        let shape = self.code().shape();
        match &self.fact {
            Fact::Network(network) => network::ocsf::shape(network, shape),
            _ => shape,
        }
    }

    /// How many occurrences the event stands for.
    pub(crate) fn weight(&self) -> u64 {
        match &self.fact {
            Fact::HostCall(calls) => calls.count,
            Fact::Network(network) => network.weight(),
            Fact::Budget(Met { window: Some(window), .. }) => window.count,
            _ => 1,
        }
    }
}
