use std::path::Path;

use crate::layers::{Flags, merge};
use crate::read::{self, Context};
use crate::yaml::{Document, Kind, Node as Tree, parse};
use crate::{Code, Diagnostics, Environment, Location, Node, Pipeline, format_size};

/// No file that a person writes is larger.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads a pipeline from the bytes of its file. `file` is what errors name and what relative paths are from.
///
/// # Errors
/// Every error of the file, in the order of their places.
pub fn load_pipeline(file: &Path, bytes: &[u8], environment: &dyn Environment) -> Result<Pipeline, Diagnostics> {
    let mut cx = Context::new(Some(file), environment);
    let pipeline = match parse(&file.display().to_string(), bytes, environment, &mut cx.found) {
        Document::Tree(tree) => read::pipeline(&mut cx, file, &tree),
        Document::Empty(at) => {
            let message = "the file is empty";
            cx.say(&at, Code::KeyMissing, message, "a pipeline needs at least `pipeline`, `source` and `sink`");
            None
        }
        Document::Failed => None,
    };
    cx.found.into_result(pipeline)
}

/// Reads a pipeline file.
///
/// # Errors
/// Every error of the file, or that it cannot be read.
pub fn read_pipeline(file: &Path, environment: &dyn Environment) -> Result<Pipeline, Diagnostics> {
    load_pipeline(file, &read_file(file)?, environment)
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
        Some(path) => load_node(Some((path, &read_file(path)?)), environment, flags),
        None => load_node(None, environment, flags),
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, Diagnostics> {
    let at = Location::of_file(path);
    match read::read_bounded(path, FILE_BYTES_MAX) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => {
            let message = format!("the file holds more than {}", format_size(FILE_BYTES_MAX));
            Err(at.diagnostic(Code::FileTooLarge, message).into())
        }
        Err(error) => Err(at.diagnostic(Code::FileUnreadable, format!("cannot be read: {error}")).into()),
    }
}
