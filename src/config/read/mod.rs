//! From the tree to the types. Every reader says what is wrong and gives `None`, and its caller goes on with the next key, so
//! that one pass finds all errors of a file.

mod connector;
mod destination;
mod egress;
mod fields;
mod inline;
mod kafka;
mod levels;
mod limits;
mod may_name;
mod nats;
mod node;
mod node_egress;
mod pipeline;
mod plugin;
#[cfg(test)]
pub(crate) mod recorded;
mod rules;
mod secrets;
mod values;

pub(crate) use node::node;
pub(crate) use pipeline::pipeline;

use std::path::{Path, PathBuf};

use crate::may_name::{NotListed, Purpose, Reach};
use crate::{Code, Diagnostics, Environment, Location};

/// What every reader needs.
pub(crate) struct Context<'a> {
    pub(crate) found: Diagnostics,
    pub(crate) environment: &'a dyn Environment,
    /// What the file may name; none: anything.
    pub(crate) reach: Option<&'a Reach<'a>>,
    /// Every path that was typed as one.
    pub(crate) names: Vec<PathBuf>,
    /// The folder of the file, which its relative paths are from.
    base: PathBuf,
}

impl<'a> Context<'a> {
    pub(crate) fn new(file: Option<&Path>, environment: &'a dyn Environment) -> Self {
        let base = file.and_then(Path::parent).unwrap_or(Path::new("")).to_owned();
        Self { found: Diagnostics::new(), environment, reach: None, names: Vec::new(), base }
    }

    pub(crate) fn say(&mut self, at: &Location, code: Code, message: impl Into<String>, help: impl Into<String>) {
        self.found.push(at.diagnostic(code, message).help(help));
    }

    /// Says that a file must not be named here, where that is so.
    fn may_name(&mut self, path: &Path, shown: &str, at: &Location, purpose: Purpose) -> bool {
        let not_listed = self.reach.and_then(|reach| reach.refuses_file(path, shown, purpose));
        let may = not_listed.is_none();
        if let Some(NotListed { message, help }) = not_listed {
            self.say(at, Code::FileNotListed, message, help);
        }
        may
    }

    /// A path that was typed here. Variables and flags are typed in a shell, so theirs are from its folder.
    fn resolve(&self, typed: &str, at: &Location) -> PathBuf {
        if at.line == 0 { PathBuf::from(typed) } else { self.base.join(typed) }
    }
}
