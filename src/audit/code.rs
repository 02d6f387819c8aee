use std::fmt;

/// What happened. The word of each code (`metadata.event_code`, `ce_type`) is a stable interface: rules in a SIEM name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Code {
    /// The first event of a chain.
    AuditBoot,
    /// The last event of a chain that ended on purpose.
    AuditStop,
    /// Events that could not be recorded, counted exactly.
    AuditLoss,
    /// A component was linked and may run.
    PluginLinked,
    /// A component was refused before it ran.
    PluginRejected,
    /// A plugin ended with its pipeline.
    PluginStopped,
    /// A plugin was quarantined after too many faults.
    PluginDisabled,
    /// A plugin's call ended in a trap.
    PluginTrapped,
    /// A plugin's call went past a limit.
    BudgetExceeded,
    /// A record went to the dead letter queue.
    RecordQuarantined,
    /// A granted host function was called, counted over a window.
    HostCall,
}

/// The OCSF classes of the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    EventLog,
    Lifecycle,
    Api,
    Error,
}

impl Class {
    pub(crate) const fn uid(self) -> u64 {
        match self {
            Self::EventLog => 1008,
            Self::Lifecycle => 6002,
            Self::Api => 6003,
            Self::Error => 6008,
        }
    }

    /// The name in the schema's address; `actvity` is spelled so in OCSF 1.8.0.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::EventLog => "event_log_actvity",
            Self::Lifecycle => "application_lifecycle",
            Self::Api => "api_activity",
            Self::Error => "application_error",
        }
    }

    /// The profiles that an event of this class declares. The actor belongs to the profile `host` in the classes that do
    /// not have it by themselves.
    pub(crate) const fn profiles(self) -> &'static [&'static str] {
        match self {
            Self::EventLog => &[],
            Self::Api => &["security_control"],
            Self::Lifecycle | Self::Error => &["security_control", "host"],
        }
    }
}

/// How a code is classified in OCSF: numbers of the schema's enumerations.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) class: Class,
    pub(crate) activity: u64,
    /// The name of an activity that the class does not list (99).
    pub(crate) activity_name: Option<&'static str>,
    pub(crate) severity: u64,
    /// 1 success, 2 failure.
    pub(crate) status: u64,
    /// Action and disposition of the profile `security_control`.
    pub(crate) control: Option<(u64, u64)>,
}

const ALLOWED: Option<(u64, u64)> = Some((1, 1));
const BLOCKED: Option<(u64, u64)> = Some((2, 2));
const QUARANTINED: Option<(u64, u64)> = Some((2, 3));
const ERROR: Option<(u64, u64)> = Some((2, 27));

impl Code {
    /// Every code.
    pub const ALL: [Self; 11] = [
        Self::AuditBoot,
        Self::AuditStop,
        Self::AuditLoss,
        Self::PluginLinked,
        Self::PluginRejected,
        Self::PluginStopped,
        Self::PluginDisabled,
        Self::PluginTrapped,
        Self::BudgetExceeded,
        Self::RecordQuarantined,
        Self::HostCall,
    ];

    /// The word of the code.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AuditBoot => "audit.boot",
            Self::AuditStop => "audit.stop",
            Self::AuditLoss => "audit.loss",
            Self::PluginLinked => "plugin.linked",
            Self::PluginRejected => "plugin.rejected",
            Self::PluginStopped => "plugin.stopped",
            Self::PluginDisabled => "plugin.disabled",
            Self::PluginTrapped => "plugin.trapped",
            Self::BudgetExceeded => "budget.exceeded",
            Self::RecordQuarantined => "record.quarantined",
            Self::HostCall => "host.call",
        }
    }

    pub(crate) fn shape(self) -> Shape {
        let row = |class, activity, severity, status, control| Shape {
            class,
            activity,
            activity_name: None,
            severity,
            status,
            control,
        };
        let other = |name, shape| Shape { activity_name: Some(name), ..shape };
        match self {
            Self::AuditBoot => row(Class::EventLog, 6, 1, 1, None),
            Self::AuditStop => row(Class::EventLog, 7, 1, 1, None),
            Self::AuditLoss => other("Loss", row(Class::EventLog, 99, 5, 2, None)),
            Self::PluginLinked => row(Class::Lifecycle, 3, 1, 1, ALLOWED),
            Self::PluginRejected => row(Class::Lifecycle, 3, 4, 2, BLOCKED),
            Self::PluginStopped => row(Class::Lifecycle, 4, 1, 1, ALLOWED),
            Self::PluginDisabled => row(Class::Lifecycle, 7, 3, 1, QUARANTINED),
            Self::PluginTrapped => row(Class::Error, 1, 4, 2, ERROR),
            Self::BudgetExceeded => row(Class::Error, 1, 3, 2, BLOCKED),
            Self::RecordQuarantined => other("Reject", row(Class::Api, 99, 2, 2, QUARANTINED)),
            Self::HostCall => row(Class::Api, 2, 1, 1, ALLOWED),
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
