use std::fmt;
use std::ops::Deref;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use crate::{Code, Diagnostic};

/// The text of one file, kept for the line under which a diagnostic draws its caret.
pub struct SourceText {
    name: Arc<str>,
    lines: OnceLock<Vec<String>>,
}

impl SourceText {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.into(), lines: OnceLock::new() }
    }

    /// Gives the lines, once it is known what in them is a secret; until then none is shown.
    pub(crate) fn show(&self, lines: Vec<String>) {
        self.lines.get_or_init(|| lines);
    }

    /// The file as it was named, or the variable or flag that a value came from.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A line by its number from 1.
    pub(crate) fn line(&self, line: usize) -> Option<&str> {
        self.lines.get()?.get(line.checked_sub(1)?).map(String::as_str)
    }
}

impl fmt::Debug for SourceText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceText({:?})", self.name)
    }
}

/// A place in a file. A value from an environment variable or a flag has the name of that as its file, and line 0.
#[derive(Clone)]
pub struct Location {
    source: Arc<SourceText>,
    /// From 1; 0 where there are no lines.
    pub line: usize,
    /// From 1, in characters; 0 where there are no lines.
    pub col: usize,
}

impl Location {
    pub(crate) fn new(source: &Arc<SourceText>, line: usize, col: usize) -> Self {
        Self { source: Arc::clone(source), line, col }
    }

    /// The beginning of a file of which nothing but the name is known, or a flag (`--audit-file`).
    pub fn of(name: &str) -> Self {
        Self { source: Arc::new(SourceText::new(name)), line: 0, col: 0 }
    }

    /// The beginning of this file.
    pub fn of_file(path: &Path) -> Self {
        Self::of(&path.display().to_string())
    }

    /// The file as it was named, or the variable or flag.
    pub fn file(&self) -> &str {
        self.source.name()
    }

    /// The line, for the caret; secrets in it are masked.
    pub fn source_line(&self) -> Option<&str> {
        self.source.line(self.line)
    }

    #[cfg(test)]
    pub(crate) fn line_of_file(&self, line: usize) -> Option<String> {
        self.source.line(line).map(str::to_owned)
    }

    /// A diagnostic that points here.
    pub fn diagnostic(&self, code: Code, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(self, code, message)
    }
}

impl PartialEq for Location {
    fn eq(&self, other: &Self) -> bool {
        (self.file(), self.line, self.col) == (other.file(), other.line, other.col)
    }
}

impl Eq for Location {}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(self.file()),
            line => write!(f, "{}:{line}:{}", self.file(), self.col),
        }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A value with the place where it was typed. Derefs to the value.
#[derive(Clone, PartialEq, Eq)]
pub struct Located<T> {
    /// What was typed.
    pub value: T,
    /// Where.
    pub at: Location,
}

impl<T> Located<T> {
    /// A value of this place.
    pub fn new(value: T, at: Location) -> Self {
        Self { value, at }
    }

    /// Another value of the same place.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Located<U> {
        Located { value: f(self.value), at: self.at }
    }
}

impl<T> Deref for Located<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Located<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} @ {}", self.value, self.at)
    }
}

/// A value that has a default: the place is absent where the default holds. Derefs to the value.
#[derive(Clone, PartialEq, Eq)]
pub struct Setting<T> {
    /// What holds.
    pub value: T,
    /// Where it was typed, if it was.
    pub at: Option<Location>,
}

impl<T> Setting<T> {
    /// A value that nobody typed.
    pub fn default_of(value: T) -> Self {
        Self { value, at: None }
    }

    pub(crate) fn or(typed: Option<Located<T>>, default: T) -> Self {
        match typed {
            Some(Located { value, at }) => Self { value, at: Some(at) },
            None => Self::default_of(default),
        }
    }
}

impl<T> Deref for Setting<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Setting<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            Some(at) => write!(f, "{:?} @ {at}", self.value),
            None => write!(f, "{:?} (default)", self.value),
        }
    }
}
