//! What a plugin decides about a message.

use std::borrow::Cow;

/// What happens to the message next.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// The message goes on, with the edits made so far.
    Pass,
    /// The message goes nowhere and counts as done. The operator must have allowed it: `on: { drop: allow }`.
    Drop(Reason),
    /// The message is wrong; it goes where the operator's `on.reject` says, by default the dead letter queue.
    Reject(Reason),
    /// It cannot be decided now: the plugin is given the message again after a pause, as often as `on.retry` says.
    Retry(Reason),
}

/// Why a message did not pass. Both parts reach the dead letter headers, so neither may quote the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// A short stable name, at most 64 bytes; what is longer is cut by the host.
    pub code: Cow<'static, str>,
    /// A sentence for a person, at most 1 KiB; what is longer is cut by the host.
    pub detail: Cow<'static, str>,
}

impl Verdict {
    /// The message goes on.
    pub const fn pass() -> Self {
        Self::Pass
    }

    /// The message goes nowhere and counts as done.
    pub fn drop(code: impl Into<Cow<'static, str>>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::Drop(Reason::new(code, detail))
    }

    /// The message is wrong.
    pub fn reject(code: impl Into<Cow<'static, str>>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::Reject(Reason::new(code, detail))
    }

    /// Give me the message again later.
    pub fn retry(code: impl Into<Cow<'static, str>>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::Retry(Reason::new(code, detail))
    }

    /// The code of the reason; none for a message that passes.
    pub fn code(&self) -> Option<&str> {
        self.reason().map(|reason| &*reason.code)
    }

    /// The detail of the reason; none for a message that passes.
    pub fn detail(&self) -> Option<&str> {
        self.reason().map(|reason| &*reason.detail)
    }

    fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Pass => None,
            Self::Drop(reason) | Self::Reject(reason) | Self::Retry(reason) => Some(reason),
        }
    }
}

impl Reason {
    fn new(code: impl Into<Cow<'static, str>>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code: code.into(), detail: detail.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_other_than_pass_carries_its_reason() {
        let verdict = Verdict::retry("busy", format!("{} in work", 3));
        assert_eq!((verdict.code(), verdict.detail()), (Some("busy"), Some("3 in work")));
        assert_eq!(Verdict::pass().code(), None);
    }
}
