//! `portcullis plugin new`.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};

use super::sdk;
use crate::cli::{DONE, FAILED};

#[derive(Args, Clone, Debug)]
pub(crate) struct NewArguments {
    /// The plugin's name and that of its folder: lower-case letters, digits and dashes.
    name: String,
    /// Whether it only judges messages or also changes them.
    #[arg(long, value_enum)]
    kind: NewKind,
    /// The SDK of a clone of the repository (`.../plugins/sdk`) instead of a copy of this binary's.
    #[arg(long, value_name = "FOLDER")]
    sdk: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum NewKind {
    Validator,
    Enricher,
}

pub(super) fn new(arguments: &NewArguments) -> u8 {
    match made(arguments, Path::new(".")) {
        Ok(text) => {
            print!("{text}");
            DONE
        }
        Err(error) => {
            eprintln!("portcullis: {error:#}");
            FAILED
        }
    }
}

const MANIFEST: &str = include_str!("template/Cargo.toml.txt");
const CARGO_CONFIG: &str = include_str!("template/cargo-config.toml.txt");
const VALIDATOR: &str = include_str!("template/validator.rs.txt");
const ENRICHER: &str = include_str!("template/enricher.rs.txt");
const README: &str = include_str!("template/README.md.txt");
const PIPELINE: &str = include_str!("template/pipeline.yaml.txt");
const VALIDATOR_INPUT: &str = include_str!("template/validator.jsonl");
const ENRICHER_INPUT: &str = include_str!("template/enricher.jsonl");
const IGNORED: &str = "/target\n/out.jsonl\n/dead.jsonl\n/portcullis-audit.jsonl\n";

/// Makes the folder and says what to do in it.
fn made(arguments: &NewArguments, parent: &Path) -> anyhow::Result<String> {
    let name = arguments.name.as_str();
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_good = name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(is_name) && name.len() <= 63;
    if !is_good || name.ends_with('-') {
        bail!("`{name}` is no plugin's name: lower-case letters, digits and dashes, at most 63, a letter first");
    }
    let folder = parent.join(name);
    // An empty folder of this name is as good as none; anything in it is somebody's work.
    if std::fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some()) || folder.is_file() {
        bail!("{} exists and is not empty", folder.display());
    }
    let sdk_path = match &arguments.sdk {
        Some(sdk) => {
            let sdk = sdk.canonicalize().with_context(|| format!("no SDK at {}", sdk.display()))?;
            if !sdk.join("src/lib.rs").is_file() {
                bail!("{} is not the SDK: that is the folder plugins/sdk of the repository", sdk.display());
            }
            sdk.display().to_string()
        }
        None => format!("{}/plugins/sdk", sdk::FOLDER),
    };
    let (source, input) = match arguments.kind {
        NewKind::Validator => (VALIDATOR, VALIDATOR_INPUT),
        NewKind::Enricher => (ENRICHER, ENRICHER_INPUT),
    };
    let crate_name = name.replace('-', "_");
    let component = format!("target/wasm32-unknown-unknown/release/{crate_name}.wasm");
    let filled = |text: &str| {
        let text = text.replace("@NAME@", name).replace("@CRATE@", &crate_name).replace("@COMPONENT@", &component);
        text.replace("@SDK@", &serde_json::Value::from(sdk_path.as_str()).to_string())
    };
    let write = |path: &str, text: &str| {
        let file = folder.join(path);
        std::fs::create_dir_all(file.parent().unwrap_or(&folder))?;
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
    };
    write("Cargo.toml", &filled(MANIFEST))?;
    write(".cargo/config.toml", CARGO_CONFIG)?;
    write(".gitignore", IGNORED)?;
    write("src/lib.rs", &filled(source))?;
    write("input.jsonl", input)?;
    write("pipeline.yaml", &filled(PIPELINE))?;
    write("README.md", &filled(README))?;
    if arguments.sdk.is_none() {
        sdk::write(&folder).context("cannot write the SDK's copy")?;
    }
    Ok(format!(
        "{name}/ is there. In it:\n  cargo test                    # natively\n  portcullis plugin build       # the component\n  portcullis plugin test {component} --input input.jsonl\n  portcullis run pipeline.yaml\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(name: &str) -> NewArguments {
        NewArguments { name: name.to_owned(), kind: NewKind::Validator, sdk: None }
    }

    #[test]
    fn a_folder_with_somebodys_work_in_it_is_left_alone() {
        let parent = tempfile::TempDir::new().unwrap();
        std::fs::create_dir(parent.path().join("mine")).unwrap();
        std::fs::write(parent.path().join("mine/notes"), "x").unwrap();
        let error = made(&arguments("mine"), parent.path()).unwrap_err();
        assert!(error.to_string().contains("is not empty"), "{error}");
        assert_eq!(std::fs::read_dir(parent.path().join("mine")).unwrap().count(), 1);
    }

    #[test]
    fn a_name_that_would_leave_the_folder_is_refused() {
        let parent = tempfile::TempDir::new().unwrap();
        for name in ["../x", "a/b", "", "-a", "A", "a b", "a\nb"] {
            assert!(made(&arguments(name), parent.path()).is_err(), "{name}");
        }
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn nothing_of_the_templates_is_left_open() {
        let parent = tempfile::TempDir::new().unwrap();
        made(&arguments("my-check"), parent.path()).unwrap();
        for file in ["Cargo.toml", "src/lib.rs", "pipeline.yaml", "README.md"] {
            let text = std::fs::read_to_string(parent.path().join("my-check").join(file)).unwrap();
            assert!(!text.contains('@'), "{file}: {text}");
        }
        assert!(parent.path().join("my-check/portcullis/wit/messages.wit").is_file());
    }
}
