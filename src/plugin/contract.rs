//! The contract's types on the host's side, and which version of it a component speaks.

use wasmtime::component::{ComponentType, Lift, Lower, WasmList, WasmStr};

use super::error::LinkError;

/// What a plugin is, by what it exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Accepts, rejects or drops a message and cannot change it.
    Validator,
    /// May change a message.
    Enricher,
}

impl Kind {
    /// The word for logs and events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Validator => "validator",
            Self::Enricher => "enricher",
        }
    }

    /// The function that is called for each message.
    pub(super) const fn function(self) -> &'static str {
        match self {
            Self::Validator => "validate",
            Self::Enricher => "enrich",
        }
    }
}

/// The package of the contract.
pub(super) const PACKAGE: &str = "portcullis:plugin/";
/// Below 1.0 the minor version is the one that breaks.
const TRACK: &str = "0.1.";
/// What the linker and the messages to an operator say.
pub(crate) const VERSION: &str = "0.1.0";

/// The interface through which a component is called, as it spells it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) export: String,
}

impl Entry {
    pub(super) fn world(&self) -> String {
        let version = self.export.rsplit('@').next().unwrap_or(VERSION);
        format!("{PACKAGE}{}@{version}", self.kind.as_str())
    }
}

/// Finds the one interface of the contract among the exports.
pub(super) fn entry(exports: &[String], imports: &[&str]) -> Result<Entry, LinkError> {
    let names = exports.iter().map(String::as_str).chain(imports.iter().copied());
    for name in names.clone() {
        if let Some(found) = other_version(name) {
            return Err(LinkError::ContractVersion { found: found.to_owned(), expected: VERSION });
        }
    }
    let kind = |export: &String| match interface(export) {
        "portcullis:plugin/validation" => Some(Entry { kind: Kind::Validator, export: export.clone() }),
        "portcullis:plugin/enrichment" => Some(Entry { kind: Kind::Enricher, export: export.clone() }),
        _ => None,
    };
    let mut entries = exports.iter().filter_map(kind);
    let (Some(entry), None) = (entries.next(), entries.next()) else {
        return Err(LinkError::World {
            detail: "a plugin exports portcullis:plugin/validation or portcullis:plugin/enrichment, and only one of them",
            found: exports.to_vec(),
        });
    };
    if entry.kind == Kind::Validator && imports.iter().any(|import| interface(import) == "portcullis:plugin/edits") {
        return Err(LinkError::World {
            detail: "it exports portcullis:plugin/validation and imports portcullis:plugin/edits, but a validator cannot edit: \
                     its world is enricher",
            found: exports.to_vec(),
        });
    }
    Ok(entry)
}

/// The name without its version.
pub(crate) fn interface(name: &str) -> &str {
    name.split_once('@').map_or(name, |(interface, _)| interface)
}

/// The version, where the name has one.
pub(crate) fn version(name: &str) -> Option<&str> {
    name.split_once('@').map(|(_, version)| version)
}

fn other_version(name: &str) -> Option<&str> {
    let ours = name.starts_with(PACKAGE) && !version(name).is_some_and(|version| version.starts_with(TRACK));
    ours.then_some(name)
}

/// The resource `message`. Its representation is a constant, so that a call costs no entry in a resource table.
pub(crate) struct MessageHandle;

impl MessageHandle {
    pub(crate) const REPRESENTATION: u32 = 1;
}

/// What happens to the message next.
#[allow(dead_code, reason = "only the derive constructs the variants")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum Verdict {
    #[component(name = "pass")]
    Pass,
    #[component(name = "drop")]
    Drop,
    #[component(name = "reject")]
    Reject,
    #[component(name = "retry")]
    Retry,
}

/// A header on its way to the guest.
#[derive(Clone, Debug, ComponentType, Lower)]
#[component(record)]
pub(crate) struct Header {
    pub(crate) name: String,
    pub(crate) value: Option<Vec<u8>>,
}

/// A header from the guest, still in its memory: its size is checked before a byte is copied.
#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct HeaderArgument {
    pub(crate) name: WasmStr,
    pub(crate) value: Option<WasmList<u8>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(exports: &[&str], imports: &[&str]) -> Result<Entry, LinkError> {
        let exports: Vec<String> = exports.iter().map(|export| (*export).to_owned()).collect();
        entry(&exports, imports)
    }

    #[test]
    fn the_export_decides_the_kind_and_the_world() {
        let entry = of(&["portcullis:plugin/enrichment@0.1.3", "wasi:cli/run@0.2.0"], &[]).unwrap();
        assert_eq!((entry.kind, entry.world().as_str()), (Kind::Enricher, "portcullis:plugin/enricher@0.1.3"));
    }

    #[test]
    fn a_component_that_is_neither_or_both_is_refused() {
        let both = ["portcullis:plugin/enrichment@0.1.0", "portcullis:plugin/validation@0.1.0"];
        for exports in [&["wasi:cli/run@0.2.0"][..], &[], &both] {
            assert!(matches!(of(exports, &[]), Err(LinkError::World { .. })), "{exports:?}");
        }
    }

    #[test]
    fn a_validator_that_imports_edits_is_refused() {
        let refused = of(&["portcullis:plugin/validation@0.1.0"], &["portcullis:plugin/edits@0.1.0"]);
        assert!(matches!(refused, Err(LinkError::World { .. })));
    }

    #[test]
    fn another_version_of_the_contract_is_named() {
        for name in
            ["portcullis:plugin/validation@0.2.0", "portcullis:plugin/validation", "portcullis:plugin/validation@1.0.0"]
        {
            assert!(matches!(of(&[name], &[]), Err(LinkError::ContractVersion { found, .. }) if found == name));
        }
    }
}
