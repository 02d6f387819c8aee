//! What was found, and how it is printed.

use serde::Serialize;
use serde_json::json;

use crate::cli::Format;
use crate::plugin::tame;

/// Brokers choose parts of the text.
const MAX_TEXT_BYTES: usize = 4096;

/// What became of one thing that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// As it should be.
    Ok,
    /// It works, and could lose something or break.
    Warn,
    /// It does not work, or loses something.
    Fail,
    /// It was made now.
    Made,
    /// It was there and was left alone.
    Kept,
    /// It cannot be known.
    Skip,
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Made => "made",
            Self::Kept => "kept",
            Self::Skip => "skip",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) status: Status,
    /// A word for programs.
    pub(super) check: &'static str,
    pub(super) what: String,
    pub(super) found: String,
    /// What to do about it.
    #[serde(rename = "do")]
    pub(super) advice: Option<String>,
}

impl Finding {
    fn line(&self) -> String {
        let mut text = format!("{}: {}", self.what, self.found);
        if let Some(advice) = &self.advice {
            text.push_str(&format!("; {advice}"));
        }
        format!("{:<4} {}", self.status.as_str(), tame(&text, MAX_TEXT_BYTES))
    }
}

/// All of them; for people, each is printed when it is found.
pub(super) struct Report {
    format: Format,
    findings: Vec<Finding>,
}

impl Report {
    pub(super) fn new(format: Format) -> Self {
        Self { format, findings: Vec::new() }
    }

    pub(super) fn add(&mut self, finding: Finding) {
        if self.format == Format::Text {
            println!("{}", finding.line());
        }
        self.findings.push(finding);
    }

    fn note(&mut self, status: Status, check: &'static str, what: impl Into<String>, found: impl Into<String>) {
        self.add(Finding { status, check, what: what.into(), found: found.into(), advice: None });
    }

    pub(super) fn ok(&mut self, check: &'static str, what: impl Into<String>, found: impl Into<String>) {
        self.note(Status::Ok, check, what, found);
    }

    #[cfg(feature = "kafka")]
    pub(super) fn made(&mut self, check: &'static str, what: impl Into<String>, found: impl Into<String>) {
        self.note(Status::Made, check, what, found);
    }

    #[cfg(feature = "kafka")]
    pub(super) fn kept(&mut self, check: &'static str, what: impl Into<String>, found: impl Into<String>) {
        self.note(Status::Kept, check, what, found);
    }

    pub(super) fn skip(&mut self, check: &'static str, what: impl Into<String>, found: impl Into<String>) {
        self.note(Status::Skip, check, what, found);
    }

    pub(super) fn warn(
        &mut self,
        check: &'static str,
        what: impl Into<String>,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) {
        let advice = Some(advice.into());
        self.add(Finding { status: Status::Warn, check, what: what.into(), found: found.into(), advice });
    }

    pub(super) fn fail(
        &mut self,
        check: &'static str,
        what: impl Into<String>,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) {
        let advice = Some(advice.into());
        self.add(Finding { status: Status::Fail, check, what: what.into(), found: found.into(), advice });
    }

    /// Prints what is printed at the end, and says whether nothing failed.
    pub(super) fn end(&self) -> bool {
        let count = |status| self.findings.iter().filter(|finding| finding.status == status).count();
        let (failed, warned) = (count(Status::Fail), count(Status::Warn));
        match self.format {
            Format::Text => println!("{failed} fail, {warned} warn, {} ok", count(Status::Ok)),
            Format::Json => {
                let all = json!({ "ok": failed == 0, "fail": failed, "warn": warned, "findings": self.findings });
                println!("{all}");
            }
        }
        failed == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_whatever_a_broker_wrote_into_it() {
        let finding = Finding {
            status: Status::Ok,
            check: "kafka",
            what: "kafka a:1".to_owned(),
            found: "no\nok   forged\u{1b}[2K".to_owned(),
            advice: Some("do this".to_owned()),
        };
        let line = finding.line();
        assert_eq!(line.lines().count(), 1);
        assert!(line.starts_with("ok   kafka a:1: no\\n") && line.ends_with("; do this"), "{line}");
        assert!(!line.contains('\u{1b}'), "{line}");
    }
}
