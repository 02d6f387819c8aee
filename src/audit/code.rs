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
    /// A stream may be connected; before the first packet.
    ConnectAllowed,
    /// A stream that was allowed could not be connected.
    ConnectFailed,
    /// A stream was refused.
    ConnectDenied,
    /// A connection has ended.
    ConnectionClosed,
    /// Datagrams may be sent to a peer; before the first.
    UdpAllowed,
    /// Datagrams with a peer, counted over a window.
    UdpTraffic,
    /// A datagram was refused.
    UdpDenied,
    /// A bind to a chosen address was refused.
    BindDenied,
    /// A listener was refused.
    ListenDenied,
    /// A name may be looked up; before the query.
    DnsAllowed,
    /// A name was looked up.
    DnsLookup,
    /// A lookup was refused before any query.
    DnsDenied,
    /// An HTTP request may be sent; before it leaves.
    HttpAllowed,
    /// An HTTP request has ended.
    HttpRequest,
    /// An HTTP request was refused.
    HttpDenied,
    /// A configuration was refused.
    ConfigRejected,
}

/// The OCSF classes of the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    EventLog,
    Lifecycle,
    Api,
    Error,
    Network,
    Http,
    Dns,
}

impl Class {
    pub(crate) const fn uid(self) -> u64 {
        match self {
            Self::EventLog => 1008,
            Self::Lifecycle => 6002,
            Self::Api => 6003,
            Self::Error => 6008,
            Self::Network => 4001,
            Self::Http => 4002,
            Self::Dns => 4003,
        }
    }

    /// The name in the schema's address; `actvity` is spelled so in OCSF 1.8.0.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::EventLog => "event_log_actvity",
            Self::Lifecycle => "application_lifecycle",
            Self::Api => "api_activity",
            Self::Error => "application_error",
            Self::Network => "network_activity",
            Self::Http => "http_activity",
            Self::Dns => "dns_activity",
        }
    }

    /// The profiles that an event of this class declares. The actor belongs to the profile `host` in the classes that do
    /// not have it by themselves.
    pub(crate) const fn profiles(self) -> &'static [&'static str] {
        match self {
            Self::EventLog => &[],
            Self::Api => &["security_control"],
            Self::Lifecycle | Self::Error | Self::Network | Self::Http | Self::Dns => &["security_control", "host"],
        }
    }

    /// Whether an event of this class has a place for a trace, by the profile `trace`.
    pub(crate) const fn has_trace(self) -> bool {
        matches!(self, Self::Api | Self::Http)
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

pub(crate) const ALLOWED: Option<(u64, u64)> = Some((1, 1));
pub(crate) const BLOCKED: Option<(u64, u64)> = Some((2, 2));
const QUARANTINED: Option<(u64, u64)> = Some((2, 3));
const LOGGED: Option<(u64, u64)> = Some((3, 17));
const REJECTED: Option<(u64, u64)> = Some((2, 25));
const ERROR: Option<(u64, u64)> = Some((2, 27));

impl Code {
    /// Every code.
    pub const ALL: [Self; 27] = [
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
        Self::ConnectAllowed,
        Self::ConnectFailed,
        Self::ConnectDenied,
        Self::ConnectionClosed,
        Self::UdpAllowed,
        Self::UdpTraffic,
        Self::UdpDenied,
        Self::BindDenied,
        Self::ListenDenied,
        Self::DnsAllowed,
        Self::DnsLookup,
        Self::DnsDenied,
        Self::HttpAllowed,
        Self::HttpRequest,
        Self::HttpDenied,
        Self::ConfigRejected,
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
            Self::ConnectAllowed => "net.connect.allowed",
            Self::ConnectFailed => "net.connect.failed",
            Self::ConnectDenied => "net.connect.denied",
            Self::ConnectionClosed => "net.close",
            Self::UdpAllowed => "net.udp.allowed",
            Self::UdpTraffic => "net.udp.traffic",
            Self::UdpDenied => "net.udp.denied",
            Self::BindDenied => "net.bind.denied",
            Self::ListenDenied => "net.listen.denied",
            Self::DnsAllowed => "dns.allowed",
            Self::DnsLookup => "dns.lookup",
            Self::DnsDenied => "dns.denied",
            Self::HttpAllowed => "http.allowed",
            Self::HttpRequest => "http.request",
            Self::HttpDenied => "http.denied",
            Self::ConfigRejected => "config.rejected",
        }
    }

    /// Its place in [`Self::ALL`].
    pub(crate) const fn index(self) -> usize {
        self as usize
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
            Self::ConnectAllowed => row(Class::Network, 1, 1, 1, ALLOWED),
            Self::ConnectFailed => row(Class::Network, 4, 1, 2, ALLOWED),
            Self::ConnectDenied => row(Class::Network, 5, 3, 2, BLOCKED),
            Self::ConnectionClosed => row(Class::Network, 2, 1, 1, LOGGED),
            Self::UdpAllowed => row(Class::Network, 1, 1, 1, ALLOWED),
            Self::UdpTraffic => row(Class::Network, 6, 1, 1, LOGGED),
            Self::UdpDenied => row(Class::Network, 5, 3, 2, BLOCKED),
            Self::BindDenied => row(Class::Network, 7, 3, 2, BLOCKED),
            Self::ListenDenied => row(Class::Network, 7, 3, 2, BLOCKED),
            Self::DnsAllowed => row(Class::Dns, 1, 1, 1, ALLOWED),
            Self::DnsLookup => row(Class::Dns, 2, 1, 1, ALLOWED),
            Self::DnsDenied => row(Class::Dns, 1, 3, 2, BLOCKED),
            Self::HttpAllowed => row(Class::Http, 99, 1, 1, ALLOWED),
            Self::HttpRequest => row(Class::Http, 99, 1, 1, ALLOWED),
            Self::HttpDenied => row(Class::Http, 99, 3, 2, BLOCKED),
            Self::ConfigRejected => row(Class::Api, 3, 3, 2, REJECTED),
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_listed_at_its_place() {
        for (place, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code.index(), place, "{code}");
        }
    }
}
