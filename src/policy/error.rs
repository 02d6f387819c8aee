use thiserror::Error;

/// Why a rule is no rule. The slug is a stable interface.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct RuleError {
    /// The kind, for example `port_invalid`.
    pub slug: &'static str,
    /// The field of the rule: `allow`, `paths` ...
    pub field: &'static str,
    /// Which item of a list.
    pub index: Option<usize>,
    /// One sentence.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

impl RuleError {
    pub(crate) fn new(slug: &'static str, field: &'static str, message: impl Into<String>) -> Self {
        Self { slug, field, index: None, message: message.into(), help: None }
    }

    pub(crate) fn at(mut self, index: usize) -> Self {
        self.index = Some(index);
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}
