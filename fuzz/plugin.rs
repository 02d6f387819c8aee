//! The pure part of the bridge's module `plugin`, from its own files. The bridge as a dependency would bring wasmtime and with
//! it ten minutes of building under the fuzzer's instrumentation, all of it beside what is fuzzed here.

#![allow(dead_code, reason = "the bridge uses all of it")]

#[path = "../src/plugin/artifact.rs"]
pub(crate) mod artifact;
#[path = "../src/plugin/error.rs"]
pub(crate) mod error;
#[path = "../src/plugin/manifest.rs"]
pub(crate) mod manifest;
#[path = "../src/plugin/signature.rs"]
pub(crate) mod signature;
#[path = "../src/plugin/text.rs"]
pub(crate) mod text;

/// In the place of `src/plugin/contract.rs`, whose types for calls need wasmtime.
pub(crate) mod contract {
    pub(crate) const PACKAGE: &str = "portcullis:plugin/";
    pub(crate) const VERSION: &str = "0.1.0";

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Kind {
        Validator,
        Enricher,
    }

    impl Kind {
        pub(crate) const fn function(self) -> &'static str {
            match self {
                Self::Validator => "validate",
                Self::Enricher => "enrich",
            }
        }
    }

    #[derive(Debug)]
    pub(crate) struct Entry {
        pub(crate) kind: Kind,
        pub(crate) export: String,
    }

    pub(crate) fn interface(name: &str) -> &str {
        name.split_once('@').map_or(name, |(interface, _)| interface)
    }
}

#[path = "checks/component.rs"]
pub(crate) mod check_component;
#[path = "checks/manifest.rs"]
pub(crate) mod check_manifest;
