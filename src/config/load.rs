use std::path::Path;

use crate::layers::{Flags, merge};
use crate::may_name::{Reach, Reachable};
use crate::read::{self, Context};
use crate::yaml::{Document, Kind, Node as Tree, parse};
use crate::{Code, Diagnostics, Environment, Location, Node, Pipeline, ReadError, read_file};

/// No file that a person writes is larger.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads a pipeline from the bytes of its file. `file` is what errors name and what relative paths are from. It may name every
/// variable and file: this is for where no operator has a file of the node, else see [`Node::load_pipeline`].
///
/// # Errors
/// Every error of the file, in the order of their places.
pub fn load_pipeline(file: &Path, bytes: &[u8], environment: &dyn Environment) -> Result<Pipeline, Diagnostics> {
    load_pipeline_partly(file, bytes, environment).into_result()
}

/// As [`load_pipeline`], with what could be read of a file that has errors.
pub fn load_pipeline_partly(file: &Path, bytes: &[u8], environment: &dyn Environment) -> PartlyRead {
    load(file, bytes, environment, None)
}

/// What could be read of a pipeline file, with all that is wrong with it.
#[derive(Debug)]
pub struct PartlyRead {
    /// Never to be run where anything is wrong: defaults stand for what could not be read.
    pub pipeline: Option<Pipeline>,
    /// In the order of the places; nothing where all is well.
    pub wrong: Diagnostics,
    is_whole: bool,
}

impl PartlyRead {
    /// The pipeline, where nothing is wrong.
    ///
    /// # Errors
    /// Every error of the file.
    pub fn into_result(self) -> Result<Pipeline, Diagnostics> {
        let Self { pipeline, wrong, is_whole } = self;
        wrong.into_result(pipeline.filter(|_| is_whole))
    }

    /// Whether it can run.
    pub fn is_good(&self) -> bool {
        self.is_whole && self.pipeline.is_some() && self.wrong.is_empty()
    }
}

impl Node {
    /// Reads a pipeline from the bytes of its file, which may name what this node lets it name.
    ///
    /// # Errors
    /// Every error of the file, in the order of their places.
    pub fn load_pipeline(
        &self,
        file: &Path,
        bytes: &[u8],
        environment: &dyn Environment,
    ) -> Result<Pipeline, Diagnostics> {
        self.load_pipeline_partly(file, bytes, environment).into_result()
    }

    /// As [`Node::load_pipeline`], with what could be read of a file that has errors, so that its plugins can be looked at.
    pub fn load_pipeline_partly(&self, file: &Path, bytes: &[u8], environment: &dyn Environment) -> PartlyRead {
        match Reach::of(self, file) {
            Some(reach) => load(file, bytes, &Reachable { environment, reach: &reach }, Some(&reach)),
            None => load(file, bytes, environment, None),
        }
    }
}

fn load(file: &Path, bytes: &[u8], environment: &dyn Environment, reach: Option<&Reach<'_>>) -> PartlyRead {
    let mut cx = Context::new(Some(file), environment);
    cx.reach = reach;
    let read = match parse(&file.display().to_string(), bytes, environment, &mut cx.found) {
        Document::Tree(tree) => read::pipeline(&mut cx, file, &tree),
        Document::Empty(at) => {
            let message = "the file is empty";
            cx.say(&at, Code::KeyMissing, message, "a pipeline needs at least `pipeline`, `source` and `sink`");
            None
        }
        Document::Failed => None,
    };
    let is_whole = read.as_ref().is_some_and(|read| read.is_whole);
    PartlyRead { pipeline: read.map(|read| read.pipeline), wrong: cx.found, is_whole }
}

/// Reads a pipeline file; see [`load_pipeline`].
///
/// # Errors
/// Every error of the file, or that it cannot be read.
pub fn read_pipeline(file: &Path, environment: &dyn Environment) -> Result<Pipeline, Diagnostics> {
    load_pipeline(file, &configuration_bytes(file)?, environment)
}

/// The node's settings: defaults under the file (with its bytes) under variables `PORTCULLIS_*` under flags.
///
/// # Errors
/// Every error of all layers; one of a variable or flag has its name as the file.
pub fn load_node(
    file: Option<(&Path, &[u8])>,
    environment: &dyn Environment,
    flags: &Flags,
) -> Result<Node, Diagnostics> {
    let path = file.map(|(path, _)| path);
    let mut cx = Context::new(path, environment);
    let document = match file {
        Some((path, bytes)) => parse(&path.display().to_string(), bytes, environment, &mut cx.found),
        None => Document::Empty(Location::of("the node's settings")),
    };
    let lowest = match document {
        Document::Tree(tree) => tree,
        Document::Empty(at) => Tree { kind: Kind::Map(Vec::new()), at },
        Document::Failed => return cx.found.into_result(None),
    };
    let mut found = Diagnostics::new();
    let tree = merge(lowest, environment, flags, &mut found);
    cx.found.extend(found);
    let node = tree.and_then(|tree| read::node(&mut cx, path, &tree));
    cx.found.into_result(node)
}

/// The node's settings, the file read from disk; see [`discover_node`](crate::discover_node) for which.
///
/// # Errors
/// As [`load_node`], or that the file cannot be read.
pub fn read_node(file: Option<&Path>, environment: &dyn Environment, flags: &Flags) -> Result<Node, Diagnostics> {
    match file {
        Some(path) => load_node(Some((path, &configuration_bytes(path)?)), environment, flags),
        None => load_node(None, environment, flags),
    }
}

/// The bytes of a pipeline's or the node's file, for whoever wants to know later what was read.
///
/// # Errors
/// That it cannot be read, is no regular file, or is larger than a person writes.
pub fn configuration_bytes(path: &Path) -> Result<Vec<u8>, Diagnostics> {
    read_file(path, FILE_BYTES_MAX).map_err(|error| {
        let at = Location::of_file(path);
        let code = if matches!(error, ReadError::TooLarge { .. }) { Code::FileTooLarge } else { Code::FileUnreadable };
        at.diagnostic(code, format!("the file cannot be read: {error}")).into()
    })
}
