use std::fmt;

use serde::Serialize;

use crate::Location;

/// The stable name of a kind of error. New ones may come; one that exists keeps its name and meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(into = "&'static str")]
#[non_exhaustive]
pub enum Code {
    /// `file.unreadable`: a file that is named cannot be read.
    FileUnreadable,
    /// `file.encoding`: a file is not UTF-8.
    FileEncoding,
    /// `file.too_large`: a file, or what its aliases expand to, passes the bound.
    FileTooLarge,
    /// `yaml.syntax`: not YAML.
    YamlSyntax,
    /// `yaml.unsupported`: YAML that a configuration does not need (tags, several documents, keys that are no text).
    YamlUnsupported,
    /// `key.duplicate`: a key twice in one map.
    KeyDuplicate,
    /// `key.unknown`: a key that nothing reads.
    KeyUnknown,
    /// `key.missing`: a key that must be there.
    KeyMissing,
    /// `key.conflict`: keys that exclude each other, or one that has no effect beside the others.
    KeyConflict,
    /// `type.wrong`: a list where text is expected, and the like.
    TypeWrong,
    /// `value.invalid`: the right type, a value that is not allowed.
    ValueInvalid,
    /// `name.duplicate`: two things of one name.
    NameDuplicate,
    /// `env.missing`: a variable without a value and without a default.
    EnvMissing,
    /// `env.not_listed`: a variable that the node's file does not let pipelines name.
    EnvNotListed,
    /// `file.not_listed`: a file that the node's file does not let pipelines name.
    FileNotListed,
    /// `env.syntax`: `${` without its end, or not a name.
    EnvSyntax,
    /// `limit.not_enforced`: a limit that exists in the design and is not enforced in this version.
    LimitNotEnforced,
    /// `grant.not_available`: a grant that this version cannot give.
    GrantNotAvailable,
    /// `connector.not_available`: a source or sink that this version does not have.
    ConnectorNotAvailable,
    /// `setting.not_available`: any other setting that is known and not built.
    SettingNotAvailable,
    /// `dead_letter.missing`: something goes to the dead letter queue and none is declared.
    DeadLetterMissing,
    /// `profile.unknown`: a profile that the node's file does not declare.
    ProfileUnknown,
    /// `tenant.unknown`: a tenant that the node's file does not list.
    TenantUnknown,
    /// `production.refused`: something that `mode: production` does not allow.
    ProductionRefused,
    /// The code of a later stage, such as `import.not_granted`.
    Other(&'static str),
}

impl Code {
    /// The name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FileUnreadable => "file.unreadable",
            Self::FileEncoding => "file.encoding",
            Self::FileTooLarge => "file.too_large",
            Self::YamlSyntax => "yaml.syntax",
            Self::YamlUnsupported => "yaml.unsupported",
            Self::KeyDuplicate => "key.duplicate",
            Self::KeyUnknown => "key.unknown",
            Self::KeyMissing => "key.missing",
            Self::KeyConflict => "key.conflict",
            Self::TypeWrong => "type.wrong",
            Self::ValueInvalid => "value.invalid",
            Self::NameDuplicate => "name.duplicate",
            Self::EnvMissing => "env.missing",
            Self::EnvNotListed => "env.not_listed",
            Self::FileNotListed => "file.not_listed",
            Self::EnvSyntax => "env.syntax",
            Self::LimitNotEnforced => "limit.not_enforced",
            Self::GrantNotAvailable => "grant.not_available",
            Self::ConnectorNotAvailable => "connector.not_available",
            Self::SettingNotAvailable => "setting.not_available",
            Self::DeadLetterMissing => "dead_letter.missing",
            Self::ProfileUnknown => "profile.unknown",
            Self::TenantUnknown => "tenant.unknown",
            Self::ProductionRefused => "production.refused",
            Self::Other(name) => name,
        }
    }
}

impl From<Code> for &'static str {
    fn from(code: Code) -> Self {
        code.as_str()
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One error of a configuration: where, what was found, what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Which kind.
    pub code: Code,
    /// Where.
    pub at: Location,
    /// What was found and why it cannot be; never a secret.
    pub message: String,
    /// What is allowed, or what to do.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error at this place.
    pub fn new(at: &Location, code: Code, message: impl Into<String>) -> Self {
        Self { code, at: at.clone(), message: message.into(), help: None }
    }

    /// The same with what is allowed.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The form for people: `file:line:col: error[code]: message`, the line, a caret under the place, the help. Ends with
    /// a line break.
    pub fn render(&self, colours: bool) -> String {
        let (bold, red, blue, reset) =
            if colours { ("\x1b[1m", "\x1b[1;31m", "\x1b[1;34m", "\x1b[0m") } else { ("", "", "", "") };
        let mut text = format!(
            "{bold}{}{reset}: {red}error[{}]{reset}: {}\n",
            visible(&self.at.to_string()),
            self.code,
            visible(&self.message)
        );
        if let Some(line) = self.at.source_line() {
            let (shown, caret) = window(line, self.at.col);
            let margin = self.at.line.to_string().len();
            text.push_str(&format!("{blue}{} |{reset} {shown}\n", self.at.line));
            text.push_str(&format!("{:margin$} {blue}|{reset} {}{red}^{reset}\n", "", " ".repeat(caret)));
        }
        if let Some(help) = &self.help {
            text.push_str(&format!("  {bold}help{reset}: {}\n", visible(help)));
        }
        text
    }

    /// The form for programs: `{code, file, line, col, message, help}`.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "code": self.code.as_str(),
            "file": self.at.file(),
            "line": self.at.line,
            "col": self.at.col,
            "message": self.message,
            "help": self.help,
        })
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

/// The errors of a file, or of several, in the order of their places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics(Vec<Diagnostic>);

/// Past this many the rest says nothing new, and an alias bomb must not become an error bomb.
const DIAGNOSTICS_MAX: usize = 200;

impl Diagnostics {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one; the same error at the same place counts once, and past 200 none is added.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        if self.0.len() < DIAGNOSTICS_MAX && !self.0.contains(&diagnostic) {
            self.0.push(diagnostic);
        }
    }

    /// Adds those of another file or stage.
    pub fn extend(&mut self, others: Diagnostics) {
        others.0.into_iter().for_each(|diagnostic| self.push(diagnostic));
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether no more are taken, so that what is not here may be wrong all the same.
    pub(crate) fn is_full(&self) -> bool {
        self.0.len() >= DIAGNOSTICS_MAX
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// In order.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }

    /// The form for people, one after the other.
    pub fn render(&self, colours: bool) -> String {
        self.0.iter().map(|diagnostic| diagnostic.render(colours)).collect()
    }

    /// The form for programs: an array.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::Value::Array(self.0.iter().map(Diagnostic::to_json).collect())
    }

    /// `Err` where there is any error, sorted by place.
    ///
    /// # Errors
    /// These.
    pub fn into_result<T>(mut self, value: Option<T>) -> Result<T, Self> {
        self.0.sort_by(|one, other| {
            let place = |d: &Diagnostic| (d.at.file().to_owned(), d.at.line, d.at.col);
            place(one).cmp(&place(other))
        });
        match value {
            Some(value) if self.is_empty() => Ok(value),
            _ => Err(self),
        }
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self(vec![diagnostic])
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// A terminal obeys control characters that somebody typed into a file, so none is printed as it is.
fn visible(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' => ' ',
            c if c.is_control() || is_bidirectional(c) => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// Characters that make a line read otherwise than it is.
fn is_bidirectional(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The part of a line around a column (from 1) that fits a terminal, and how many columns stand before the place.
fn window(line: &str, col: usize) -> (String, usize) {
    const BEFORE: usize = 60;
    const WIDTH: usize = 110;
    let place = col.saturating_sub(1);
    let skipped = place.saturating_sub(BEFORE);
    let cut = |c: char| if c == '\t' { " ".to_owned() } else { visible(&c.to_string()) };
    let shown: String = line.trim_end().chars().skip(skipped).take(WIDTH).map(cut).collect();
    let prefix = if skipped > 0 { "..." } else { "" };
    (format!("{prefix}{shown}"), place - skipped + prefix.len())
}
