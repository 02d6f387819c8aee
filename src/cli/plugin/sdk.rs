//! The SDK as this binary carries it: until it is published, a new plugin brings a copy along, in the places that it has in the
//! repository.

use std::path::Path;

/// Where the copy stands in a plugin's folder.
pub(super) const FOLDER: &str = "portcullis";

macro_rules! files {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../../", $path)))),*]
    };
}

/// By path from the repository's root.
const FILES: &[(&str, &str)] = files![
    "wit/edits.wit",
    "wit/enrichment.wit",
    "wit/log.wit",
    "wit/messages.wit",
    "wit/validation.wit",
    "wit/worlds.wit",
    "plugins/sdk/Cargo.toml",
    "plugins/sdk/macros/Cargo.toml",
    "plugins/sdk/macros/src/expand.rs",
    "plugins/sdk/macros/src/lib.rs",
    "plugins/sdk/macros/src/manifest.rs",
    "plugins/sdk/src/bindings.rs",
    "plugins/sdk/src/clock.rs",
    "plugins/sdk/src/config.rs",
    "plugins/sdk/src/error.rs",
    "plugins/sdk/src/http.rs",
    "plugins/sdk/src/http/codes.rs",
    "plugins/sdk/src/http/guest.rs",
    "plugins/sdk/src/http/native.rs",
    "plugins/sdk/src/http/url.rs",
    "plugins/sdk/src/lib.rs",
    "plugins/sdk/src/log.rs",
    "plugins/sdk/src/message.rs",
    "plugins/sdk/src/message/guest.rs",
    "plugins/sdk/src/message/native.rs",
    "plugins/sdk/src/net.rs",
    "plugins/sdk/src/net/convert.rs",
    "plugins/sdk/src/net/guest.rs",
    "plugins/sdk/src/net/native.rs",
    "plugins/sdk/src/plugin.rs",
    "plugins/sdk/src/random.rs",
    "plugins/sdk/src/verdict.rs",
    "plugins/sdk/wit/deps/clocks.wit",
    "plugins/sdk/wit/deps/http.wit",
    "plugins/sdk/wit/deps/io.wit",
    "plugins/sdk/wit/deps/random.wit",
    "plugins/sdk/wit/deps/sockets.wit",
    "plugins/sdk/wit/worlds.wit",
];

/// The workspace that the SDK takes its versions and lints from.
const WORKSPACE: &str = include_str!("../../../plugins/Cargo.toml");

/// Writes the copy beneath the folder.
pub(super) fn write(folder: &Path) -> std::io::Result<()> {
    let root = folder.join(FOLDER);
    for (path, text) in FILES {
        let file = root.join(path);
        std::fs::create_dir_all(file.parent().unwrap_or(&root))?;
        std::fs::write(file, text)?;
    }
    std::fs::write(root.join("plugins/Cargo.toml"), workspace())
}

/// Without the members that are not copied.
fn workspace() -> String {
    let of_sdk = |line: &str| match line {
        line if line.starts_with("members = ") => "members = [\"sdk\", \"sdk/macros\"]".to_owned(),
        line => line.to_owned(),
    };
    let is_copied = |line: &&str| !line.starts_with("json-fields = ");
    WORKSPACE.lines().filter(is_copied).map(|line| of_sdk(line) + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(folder: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if !path.ends_with("README.md") {
                found.push(path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().to_str().unwrap().to_owned());
            }
        }
    }

    #[test]
    fn the_copy_has_every_file_of_the_sdk_and_of_the_contract() {
        let mut found = Vec::new();
        for folder in ["wit", "plugins/sdk"] {
            walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut found);
        }
        let mut listed: Vec<&str> = FILES.iter().map(|(path, _)| *path).collect();
        found.sort_unstable();
        listed.sort_unstable();
        assert_eq!(listed, found);
    }

    #[test]
    fn the_copied_workspace_names_only_what_is_copied() {
        let workspace = workspace();
        assert!(workspace.contains("members = [\"sdk\", \"sdk/macros\"]"), "{workspace}");
        assert!(!workspace.contains("json-fields") && workspace.contains("portcullis-plugin = { path = \"sdk\" }"));
    }
}
