//! From the tree to the types. Every reader says what is wrong and gives `None`, and its caller goes on with the next key, so
//! that one pass finds all errors of a file.

mod connector;
mod egress;
mod fields;
mod inline;
mod kafka;
mod levels;
mod limits;
mod node;
mod node_egress;
mod pipeline;
mod plugin;
mod rules;
mod secrets;
mod values;

pub(crate) use inline::read_bounded;
pub(crate) use node::node;
pub(crate) use pipeline::pipeline;

use std::path::{Path, PathBuf};

use crate::{Code, Diagnostics, Environment, Location};

/// What every reader needs.
pub(crate) struct Context<'a> {
    pub(crate) found: Diagnostics,
    pub(crate) environment: &'a dyn Environment,
    /// The folder of the file, which its relative paths are from.
    base: PathBuf,
}

impl<'a> Context<'a> {
    pub(crate) fn new(file: Option<&Path>, environment: &'a dyn Environment) -> Self {
        let base = file.and_then(Path::parent).unwrap_or(Path::new("")).to_owned();
        Self { found: Diagnostics::new(), environment, base }
    }

    pub(crate) fn say(&mut self, at: &Location, code: Code, message: impl Into<String>, help: impl Into<String>) {
        self.found.push(at.diagnostic(code, message).help(help));
    }

    /// A path that was typed here. Variables and flags are typed in a shell, so theirs are from its folder.
    fn resolve(&self, typed: &str, at: &Location) -> PathBuf {
        if at.line == 0 { PathBuf::from(typed) } else { self.base.join(typed) }
    }
}
