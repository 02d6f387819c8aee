//! Any bytes as a component file: they are refused, or what was read of them is within its bounds. Stands in a descendant of
//! the module `plugin`, in the bridge's own tests as in the fuzz target.

use wasmparser::WasmFeatures;

use crate::plugin::artifact::Artifact;
use crate::plugin::contract::{Entry, Kind};
use crate::plugin::{manifest, signature};

/// Runs bytes through the first look at a component, before anything of it is compiled.
pub(crate) fn check(data: &[u8]) {
    let artifact = Artifact { bytes: data.to_vec(), digest: [0; 32] };
    let scan = match artifact.scan(features()) {
        Ok(scan) => scan,
        Err(error) => {
            let shown = error.to_string();
            assert!(!shown.is_empty() && shown.len() <= 2 * data.len() + 1024, "{} bytes are said", shown.len());
            return;
        }
    };
    assert!(scan.imports.len() <= 128 && scan.exports.len() <= 128 && scan.parts.len() <= 128);
    for part in &scan.parts {
        assert!((1..=8).contains(&part.depth) && part.bytes <= data.len(), "{part:?}");
        assert!(part.imports.len() <= 256 && part.imports.iter().all(|import| import.len() <= 200), "{part:?}");
        assert!(!part.imports.iter().any(|import| import.chars().any(char::is_control)), "{part:?}");
    }
    for function in scan.imported.iter().chain(&scan.exported) {
        assert!(function.shape.starts_with("func(") || function.shape.starts_with("async func("), "{function:?}");
        assert!(function.shape.len() <= 403, "{function:?}");
    }
    let sections = scan.manifests.root.iter().chain(&scan.manifests.modules);
    assert!(sections.map(Vec::len).sum::<usize>() <= data.len());
    for (kind, export) in [(Kind::Validator, "validation"), (Kind::Enricher, "enrichment")] {
        let entry = Entry { kind, export: format!("portcullis:plugin/{export}@0.1.0") };
        if let Err(error) = signature::check(&entry, &scan.imported, &scan.exported) {
            assert!(error.to_string().len() <= 2 * data.len() + 2048, "{error}");
        }
    }
    // The file beside a component that is nowhere is nowhere.
    if let Err(error) = manifest::find("no/such/component.wasm".as_ref(), &scan.manifests) {
        assert!(error.to_string().len() <= 2048, "{error}");
    }
}

/// The proposals that the engine takes, nearly: those that it turns off are off. What is on beside them is more to read.
fn features() -> WasmFeatures {
    let off = [
        WasmFeatures::GC,
        WasmFeatures::GC_TYPES,
        WasmFeatures::FUNCTION_REFERENCES,
        WasmFeatures::EXCEPTIONS,
        WasmFeatures::THREADS,
        WasmFeatures::MEMORY64,
        WasmFeatures::MULTI_MEMORY,
        WasmFeatures::STACK_SWITCHING,
        WasmFeatures::RELAXED_SIMD,
        WasmFeatures::CUSTOM_PAGE_SIZES,
        WasmFeatures::WIDE_ARITHMETIC,
        WasmFeatures::CM_ASYNC,
    ];
    off.into_iter().fold(WasmFeatures::default(), WasmFeatures::difference)
}
