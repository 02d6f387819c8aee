use std::fs;
use std::path::{Path, PathBuf};

use crate::{Environment, Located, NODE_FILE, Node};

/// `pipelines_may_name` of the node's file: what of this machine a pipeline file may name. Whoever edits a pipeline chooses
/// where its messages and requests go, so what it may name it may send away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MayName {
    /// Variables; a name that ends in `*` stands for all that begin so.
    pub env: Vec<Located<String>>,
    /// Files beside those that lie beneath the pipeline file's own folder.
    pub files: Vec<Located<Listed>>,
}

/// One item of `files`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// A file, or a folder.
    pub path: PathBuf,
    /// Whether everything beneath is meant, as `FOLDER/**`.
    pub beneath: bool,
}

/// What one pipeline file may name.
pub(crate) struct Reach<'a> {
    env: &'a [Located<String>],
    /// Without links, as all that follow.
    listed: Vec<Listed>,
    folder: Option<PathBuf>,
    node_file: Option<PathBuf>,
    /// Files that the node's file names, its keys and passwords among them.
    of_node: Vec<PathBuf>,
    /// Where an operator would list something.
    place: String,
}

/// What is done with a file that is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Anything but what follows.
    Plain,
    /// Its content is sent to somebody as a secret: where it lies is no consent to that.
    Secret,
}

/// Why something must not be named.
pub(crate) struct NotListed {
    pub(crate) message: String,
    pub(crate) help: String,
}

impl<'a> Reach<'a> {
    /// Of a pipeline file on this node; none where no operator has said anything, as at a desk.
    pub(crate) fn of(node: &'a Node, file: &Path) -> Option<Self> {
        if node.file.is_none() && node.pipelines_may_name.is_none() {
            return None;
        }
        let (env, files) = match &node.pipelines_may_name {
            Some(may_name) => (may_name.env.as_slice(), may_name.files.as_slice()),
            None => (&[][..], &[][..]),
        };
        let listed = files.iter().filter_map(|listed| {
            let path = real(&listed.value.path)?;
            Some(Listed { path, beneath: listed.value.beneath })
        });
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Some(Self {
            env,
            listed: listed.collect(),
            folder: real(folder),
            node_file: node.file.as_deref().and_then(real),
            of_node: node.names.iter().filter_map(|path| real(path)).collect(),
            place: node.file.as_ref().map_or_else(|| NODE_FILE.to_owned(), |file| file.display().to_string()),
        })
    }

    fn refuses_variable(&self, name: &str) -> Option<NotListed> {
        let is_listed = self.env.iter().any(|listed| match listed.value.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => listed.value == name,
        });
        (!is_listed).then(|| NotListed {
            message: format!("the variable `{name}` is not among those that pipelines may name"),
            help: format!("an operator adds it to {}: `pipelines_may_name: {{ env: [{name}] }}`", self.place),
        })
    }

    /// `shown` is the path as it was typed.
    pub(crate) fn refuses_file(&self, path: &Path, shown: &str, purpose: Purpose) -> Option<NotListed> {
        let help =
            |item: &str| format!("an operator adds it to {}: `pipelines_may_name: {{ files: [{item}] }}`", self.place);
        let Some(real) = real(path) else {
            let message = format!("`{shown}` is a link that leads nowhere, and pipelines may not name where that is");
            return Some(NotListed { message, help: help("FILE") });
        };
        if self.node_file.as_ref() == Some(&real) {
            let message = format!("`{shown}` is the node's own file, which no pipeline may name");
            return Some(NotListed { message, help: "a file with what the plugin needs can lie beside it".to_owned() });
        }
        let is_listed = |listed: &Listed| match listed.beneath {
            true => real.starts_with(&listed.path),
            false => real == listed.path,
        };
        if self.listed.iter().any(is_listed) {
            return None;
        }
        let is_inside = self.folder.as_ref().is_some_and(|folder| real.starts_with(folder));
        let is_of_node = self.of_node.iter().any(|own| real.starts_with(own));
        let why = match (is_inside, is_of_node, purpose) {
            (true, false, Purpose::Plain) => return None,
            (_, true, _) => "is a file of the node itself",
            (true, _, Purpose::Secret) => "is the source of a secret",
            (false, ..) => "lies outside of the folder of this file",
        };
        let message = format!("`{shown}` {why}, and is not among the files that pipelines may name");
        // What a variable held is not shown.
        let item = if shown.contains("${") { "FILE".to_owned() } else { real.display().to_string() };
        Some(NotListed { message, help: help(&item) })
    }
}

/// The variables of a process, as far as a pipeline file may name them.
pub(crate) struct Reachable<'a> {
    pub(crate) environment: &'a dyn Environment,
    pub(crate) reach: &'a Reach<'a>,
}

impl Environment for Reachable<'_> {
    fn var(&self, name: &str) -> Option<String> {
        if self.refuses(name).is_some() { None } else { self.environment.var(name) }
    }

    fn with_prefix(&self, _prefix: &str) -> Vec<(String, String)> {
        Vec::new()
    }

    fn refuses(&self, name: &str) -> Option<(String, String)> {
        let not_listed = self.reach.refuses_variable(name).filter(|_| !self.environment.is_given(name))?;
        Some((not_listed.message, not_listed.help))
    }
}

/// Where a path really leads, links followed: also one that is not there yet, such as the file of a sink. None where a link
/// leads nowhere: whoever creates that file would create it somewhere else.
fn real(path: &Path) -> Option<PathBuf> {
    let mut missing = Vec::new();
    let mut there = path;
    loop {
        if there.as_os_str().is_empty() {
            there = Path::new(".");
        }
        if let Ok(real) = fs::canonicalize(there) {
            return Some(missing.iter().rev().fold(real, |path, name| path.join(name)));
        }
        if fs::symlink_metadata(there).is_ok_and(|metadata| metadata.is_symlink()) {
            return None;
        }
        // `..` is no name, so nothing that is missing can lead up again.
        missing.push(there.file_name()?);
        there = there.parent()?;
    }
}
