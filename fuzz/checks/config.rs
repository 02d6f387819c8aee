//! Any bytes as a pipeline and as the node's file: every error has its place, and none of them tells a secret.

use std::path::Path;

use portcullis_config::{Diagnostics, Environment, Flags, NoEnvironment, load_node, load_pipeline};

/// What every variable holds.
const VARIABLE: &str = "drawbridge-7f3a";
/// What `files/secret.txt` holds.
const FILE: &str = "portcullis-91c2";

/// A process in which every variable is set.
struct Everything;

impl Environment for Everything {
    fn var(&self, _name: &str) -> Option<String> {
        Some(VARIABLE.to_owned())
    }

    fn with_prefix(&self, _prefix: &str) -> Vec<(String, String)> {
        Vec::new()
    }
}

/// Runs bytes through both readers. `files` is the folder that relative paths in them are from.
pub(crate) fn check(files: &Path, data: &[u8]) {
    // Reading some of these has an effect on the machine.
    let text = String::from_utf8_lossy(data);
    if ["/dev", "/proc", "/sys"].iter().any(|folder| text.contains(folder)) {
        return;
    }
    let file = files.join("p.yaml");
    for environment in [&Everything as &dyn Environment, &NoEnvironment] {
        let node = load_node(Some((&file, data)), environment, &Flags::new());
        let node = match node {
            Ok(node) => {
                told_nothing(&text, &format!("{node:?}"), &[FILE]);
                node
            }
            Err(found) => {
                said(&text, &found);
                load_node(None, environment, &Flags::new()).unwrap_or_else(|found| panic!("{found}"))
            }
        };
        if let Err(found) = node.load_pipeline(&file, data, environment) {
            said(&text, &found);
        }
        match load_pipeline(&file, data, environment) {
            Ok(pipeline) => {
                told_nothing(&text, &format!("{pipeline:?}"), &[FILE]);
                let found = node.check(&pipeline);
                if !found.is_empty() {
                    said(&text, &found);
                }
            }
            Err(found) => said(&text, &found),
        }
    }
}

fn said(text: &str, found: &Diagnostics) {
    assert!(!found.is_empty() && found.len() <= 200, "{} errors", found.len());
    let lines = text.split(['\n', '\r']).count() + 1;
    for diagnostic in found {
        let at = &diagnostic.at;
        let own = at.file().ends_with("p.yaml");
        assert!(!own || at.line == 0 || at.line <= lines, "{at} of {lines} lines");
        assert!(at.line == 0 || at.col > 0, "{at}");
        assert!(!diagnostic.message.is_empty(), "{diagnostic:?}");
    }
    let rendered = found.render(false);
    assert!(!rendered.chars().any(|shown| shown.is_control() && shown != '\n'), "{rendered:?}");
    told_nothing(text, &rendered, &[VARIABLE, FILE]);
    told_nothing(text, &found.to_json().to_string(), &[VARIABLE, FILE]);
}

/// What the input itself holds is nobody's secret.
fn told_nothing(text: &str, shown: &str, secrets: &[&str]) {
    let told = secrets.iter().find(|secret| shown.contains(**secret) && !text.contains(**secret));
    assert!(told.is_none(), "{told:?} is told: {shown}");
}
