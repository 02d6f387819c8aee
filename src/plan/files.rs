//! Which files a command line means: pipelines in folders, and the node's files that lie beside them.

use std::path::{Path, PathBuf};

use portcullis_config::{Code, Diagnostic, Diagnostics, Location};

/// Files as named; of a folder, its `*.yaml` and `*.yml` but the node's own. With what is wrong with the folders.
pub(super) fn of_pipelines(named: &[PathBuf]) -> (Vec<PathBuf>, Diagnostics) {
    let mut files = Vec::new();
    let mut wrong = Diagnostics::new();
    for path in named {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        match yaml_files(path) {
            Ok(found) if !found.is_empty() => files.extend(found),
            Ok(_) => wrong.push(
                Location::of_file(path)
                    .diagnostic(Code::FileUnreadable, "the folder holds no pipeline (*.yaml, *.yml)"),
            ),
            Err(error) => wrong.push(
                Location::of_file(path).diagnostic(Code::FileUnreadable, format!("cannot read the folder: {error}")),
            ),
        }
    }
    (files, wrong)
}

fn yaml_files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let is_yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        let is_node = path.file_name().is_some_and(|name| name == portcullis_config::NODE_FILE);
        if is_yaml && !is_node && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Node's files beside pipelines that are not the first one's: nobody reads them, and whoever wrote ceilings into one would
/// not learn it.
pub(super) fn unread_nodes(files: &[PathBuf], used: Option<&Path>) -> Vec<Diagnostic> {
    let same = |one: &Path, other: &Path| {
        one == other || one.canonicalize().ok().is_some_and(|one| other.canonicalize().is_ok_and(|other| one == other))
    };
    let mut known: Vec<PathBuf> = used.map(Path::to_owned).into_iter().collect();
    let mut unread = Vec::new();
    for (file, beside) in
        files.iter().filter_map(|file| Some((file, portcullis_config::discover_node(None, Some(file))?)))
    {
        if known.iter().any(|known| same(known, &beside)) {
            continue;
        }
        let instead = used.map_or_else(
            || "nothing is read as the node's file, since there is none beside the first pipeline".to_owned(),
            |used| format!("the node's file is {}, beside the first pipeline", used.display()),
        );
        let message = format!("it lies beside {} and is not read: {instead}", file.display());
        let help =
            "`--node FILE` says which one holds for all of them; pipelines of two nodes are checked and run one by one";
        unread.push(Location::of_file(&beside).diagnostic(Code::Other("node.unread"), message).help(help));
        known.push(beside);
    }
    unread
}
