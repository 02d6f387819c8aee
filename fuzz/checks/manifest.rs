//! Any bytes as the manifest of a component: as its section (JSON), and as the file beside it (YAML). Stands in a descendant of
//! the module `plugin`, in the bridge's own tests as in the fuzz target.

use std::path::Path;

use portcullis_policy::Rule;

use crate::plugin::artifact::Sections;
use crate::plugin::manifest::{Claimed, Wish, find};

/// Runs bytes through both forms. `folder` is where the file is written; nobody else may write there at the same time.
pub(crate) fn check(folder: &Path, data: &[u8]) {
    let bytes = data.to_vec();
    let nowhere = Path::new("no/such/component.wasm");
    let section = find(nowhere, &Sections { root: vec![bytes.clone()], modules: Vec::new() });
    let module = find(nowhere, &Sections { root: Vec::new(), modules: vec![bytes] });
    let component = folder.join("component.wasm");
    std::fs::write(folder.join("component.wasm.manifest.yaml"), data).unwrap();
    let file = find(&component, &Sections::default());

    for read in [&section, &module, &file] {
        match read {
            Ok(claimed) => bounded(claimed.as_ref().unwrap()),
            Err(error) => {
                let shown = error.to_string();
                assert!(shown.len() <= 2048 + folder.as_os_str().len(), "{} bytes: {shown:?}", shown.len());
                assert!(!shown.chars().any(char::is_control), "{shown:?}");
            }
        }
    }
    if let (Ok(Some(section)), Ok(Some(module))) = (&section, &module) {
        assert_eq!(section, module);
    }
    // YAML takes in JSON: whoever reads the same bytes as either must read the same.
    if let (Ok(Some(section)), Ok(Some(file))) = (&section, &file) {
        assert_eq!((&section.manifest, &section.digest), (&file.manifest, &file.digest));
    }
}

fn bounded(claimed: &Claimed) {
    let manifest = &claimed.manifest;
    for word in [&manifest.name, &manifest.version] {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._+".contains(&byte);
        assert!((1..=64).contains(&word.len()) && word.bytes().all(plain), "{word:?}");
        assert!(word.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric), "{word:?}");
    }
    assert!(claimed.digest.len() == 71 && claimed.digest.starts_with("sha256:"), "{}", claimed.digest);
    assert!(manifest.asks.len() <= Wish::ALL.len());
    for (index, ask) in manifest.asks.iter().enumerate() {
        assert_eq!(manifest.asks.iter().position(|other| other.capability == ask.capability), Some(index));
        assert!((1..=512).contains(&ask.reason.len()), "{} bytes", ask.reason.len());
        assert!(!ask.reason.chars().any(char::is_control), "{:?}", ask.reason);
        assert!(ask.egress.is_empty() || ask.capability == Wish::Egress, "{ask:?}");
        assert!(ask.egress.len() <= 64 && ask.egress.iter().all(|rule| Rule::parse_ceiling(rule).is_ok()), "{ask:?}");
    }
    if let Some(schema) = &manifest.config_schema {
        assert!(schema.is_object() || schema.is_boolean());
        assert!(schema.to_string().len() <= 64 << 10);
    }
}
