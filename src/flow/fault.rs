use std::error::Error;
use std::fmt;
use std::str::FromStr;

/// Why a message left the pipeline other than through its sink. One closed list for dead letter headers, metric labels and
/// audit events, so that a number on a dashboard finds its records and its evidence by the same word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FaultKind {
    /// A plugin's verdict was `reject`.
    Rejected,
    /// The plugin trapped: a panic, an unreachable instruction, an access out of bounds.
    Trap,
    /// The call took more wall time than its deadline, waiting in host calls included.
    Deadline,
    /// The call used more fuel than one call may.
    Fuel,
    /// The plugin asked for more memory or table space than its instance may hold.
    Memory,
    /// The plugin's call stack grew past its limit.
    Stack,
    /// What the plugin made of the message is larger than its output limit.
    Output,
    /// The call made more host calls than one call may.
    HostCalls,
    /// The plugin held more handles at once than it may.
    Handles,
    /// The plugin used a capability in a way that its grants do not allow.
    CapabilityDenied,
    /// A quota of a granted capability is used up.
    Quota,
    /// The source's record cannot be read as a message.
    Decode,
    /// The message is larger than the sink takes.
    Oversize,
    /// The sink will never take this message, for another reason than its size.
    SinkRejected,
    /// A plugin asked for one more retry than it may.
    RetriesExhausted,
    /// A new instance of the plugin refused its configuration.
    Configure,
}

impl FaultKind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Self; 16] = [
        Self::Rejected,
        Self::Trap,
        Self::Deadline,
        Self::Fuel,
        Self::Memory,
        Self::Stack,
        Self::Output,
        Self::HostCalls,
        Self::Handles,
        Self::CapabilityDenied,
        Self::Quota,
        Self::Decode,
        Self::Oversize,
        Self::SinkRejected,
        Self::RetriesExhausted,
        Self::Configure,
    ];

    /// The word that headers, labels and events carry: a stable interface.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Trap => "trap",
            Self::Deadline => "deadline",
            Self::Fuel => "fuel",
            Self::Memory => "memory",
            Self::Stack => "stack",
            Self::Output => "output",
            Self::HostCalls => "host_calls",
            Self::Handles => "handles",
            Self::CapabilityDenied => "capability_denied",
            Self::Quota => "quota",
            Self::Decode => "decode",
            Self::Oversize => "oversize",
            Self::SinkRejected => "sink_rejected",
            Self::RetriesExhausted => "retries_exhausted",
            Self::Configure => "configure",
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for FaultKind {
    type Err = UnknownFaultKind;

    fn from_str(text: &str) -> Result<Self, UnknownFaultKind> {
        let known = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        known.ok_or_else(|| UnknownFaultKind(text.to_owned()))
    }
}

/// A word that is none of [`FaultKind::ALL`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownFaultKind(pub String);

impl fmt::Display for UnknownFaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no fault kind is called {:?}, allowed are", self.0)?;
        FaultKind::ALL.iter().try_for_each(|kind| write!(f, " {kind}"))
    }
}

impl Error for UnknownFaultKind {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_again_by_its_word() {
        for (index, kind) in FaultKind::ALL.into_iter().enumerate() {
            assert_eq!(kind.as_str().parse(), Ok(kind));
            assert_eq!(FaultKind::ALL.iter().position(|other| *other == kind), Some(index));
        }
    }

    #[test]
    fn an_unknown_word_is_refused_with_the_list() {
        let error = "Trap".parse::<FaultKind>().unwrap_err().to_string();
        assert!(error.contains("\"Trap\"") && error.contains(" retries_exhausted "), "{error}");
    }
}
