//! Components made by hand: what they try is refused before anything of them is compiled, or leads nowhere.

use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};
use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{LiftLowerAbi, ManglingAndAbi, Resolve};

use super::super::artifact::Scan;
use super::*;
use crate::plugin::SandboxOptions;

/// The contract as one text.
pub(crate) fn contract() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("wit");
    // The file with the package's name comes first.
    let files = ["messages", "edits", "log", "validation", "enrichment", "worlds"];
    files.map(|name| std::fs::read_to_string(folder.join(format!("{name}.wit"))).unwrap()).concat()
}

/// A component of a world, with functions that do nothing.
fn component_of(contract: &str, world: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    resolve.push_str("contract.wit", contract).unwrap();
    let package = resolve.push_str("made.wit", &format!("package made:by-hand;\nworld made {{ {world} }}")).unwrap();
    let world = resolve.select_world(&[package], Some("made")).unwrap();
    let mut module = dummy_module(&resolve, world, ManglingAndAbi::Legacy(LiftLowerAbi::Sync));
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().validate(false).encode().unwrap()
}

pub(crate) fn scan_of_world(contract: &str, world: &str) -> Scan {
    let bytes = component_of(contract, world);
    Artifact { bytes, digest: [0; 32] }.scan(sandbox().engine().get_wasm_features()).unwrap()
}

fn sandbox() -> &'static Sandbox {
    static SANDBOX: OnceLock<Arc<Sandbox>> = OnceLock::new();
    SANDBOX.get_or_init(|| Sandbox::new(SandboxOptions::default()).unwrap())
}

fn examine(bytes: Vec<u8>) -> Result<Examined, LinkError> {
    let digest = Sha256::digest(&bytes).into();
    sandbox().examine(&ComponentFile::of("no/such/file.wasm".into(), Artifact { bytes, digest }))
}

fn validator(more: &str) -> Vec<u8> {
    component_of(&contract(), &format!("include portcullis:plugin/validator@0.1.0; {more}"))
}

/// The component with one section more.
fn with(mut component: Vec<u8>, id: u8, body: &[u8]) -> Vec<u8> {
    component.push(id);
    leb128(&mut component, body.len());
    component.extend_from_slice(body);
    component
}

fn leb128(bytes: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Where a section ends, at any depth, and whether one of the root's ends there.
fn section_ends(component: &[u8]) -> Vec<(usize, bool)> {
    let mut ends = Vec::new();
    let mut depth = 0;
    for payload in wasmparser::Parser::new(0).parse_all(component) {
        let payload = payload.unwrap();
        if let wasmparser::Payload::End(end) = payload {
            // That of a part is the end of a section of its parent.
            depth -= i32::from(depth > 0);
            ends.push((end, depth == 0));
        } else if let Some((_, range)) = payload.as_section() {
            ends.push((range.end, depth == 0));
        }
        let begins =
            matches!(payload, wasmparser::Payload::ModuleSection { .. } | wasmparser::Payload::ComponentSection { .. });
        depth += i32::from(begins);
    }
    ends
}

#[test]
fn a_component_that_is_cut_off_anywhere_is_invalid_or_a_shorter_whole() {
    let features = sandbox().engine().get_wasm_features();
    let guests = ["touch", "uses-wasi", "smuggles-a-component"].map(|name| {
        // No step divides another: each guest is cut at other places beside the ends of its sections.
        (std::fs::read(crate::plugin::tests::guest(name)).unwrap(), 211)
    });
    let nested =
        with(validator(""), COMPONENT, &with(wat::parse_str("(component)").unwrap(), MODULE, &module_with(b"\0")));
    for (bytes, step) in guests.into_iter().chain([(validator(""), 1), (nested, 1)]) {
        let ends = section_ends(&bytes);
        let of_root: Vec<usize> = ends.iter().filter(|(_, of_root)| *of_root).map(|(end, _)| *end).collect();
        let near = ends.iter().flat_map(|(end, _)| [end - 1, *end, end + 1]);
        for length in near.chain((0..bytes.len()).step_by(step)).filter(|length| *length < bytes.len()) {
            let artifact = Artifact { bytes: bytes[..length].to_vec(), digest: [0; 32] };
            let scan = artifact.scan(features);
            // Eight bytes are a component without a section.
            let is_whole = length == 8 || of_root.contains(&length);
            assert!(scan.is_err() || is_whole, "{length} of {} bytes", bytes.len());
        }
        assert!(Artifact { bytes, digest: [0; 32] }.scan(features).is_ok());
    }
}

const CUSTOM: u8 = 0;
const MODULE: u8 = 1;
const COMPONENT: u8 = 4;

fn manifest_section(name: &str) -> Vec<u8> {
    let mut body = vec![manifest::SECTION.len() as u8];
    body.extend_from_slice(manifest::SECTION.as_bytes());
    body.extend_from_slice(
        format!(r#"{{"manifest":1,"name":"{name}","version":"1.0.0","world":"validator"}}"#).as_bytes(),
    );
    body
}

fn module_with(body: &[u8]) -> Vec<u8> {
    with(b"\0asm\x01\0\0\0".to_vec(), CUSTOM, body)
}

#[test]
fn what_a_component_imports_is_counted_by_function_and_not_by_interface() {
    let examined = examine(validator("import portcullis:plugin/log@0.1.0;")).unwrap();
    assert_eq!((examined.kind, examined.world.as_str()), (Kind::Validator, "portcullis:plugin/validator@0.1.0"));
    let log = examined.imports.iter().find(|import| import.interface.contains("/log")).unwrap();
    assert_eq!((log.functions.as_slice(), log.takes), (&["write".to_owned()][..], Takes::Grant(Wish::Log)));
    assert_eq!(examined.claimed, None);
    let messages = examined.imports.iter().find(|import| import.interface.contains("/messages")).unwrap();
    assert_eq!(messages.takes, Takes::Nothing);
}

#[test]
fn a_component_that_smuggles_another_one_gets_nothing_that_its_root_does_not_import() {
    let smuggler =
        wat::parse_str(r#"(component (import "wasi:sockets/tcp@0.2.0" (instance (export "connect" (func)))))"#)
            .unwrap();
    let examined = examine(with(validator(""), COMPONENT, &smuggler)).unwrap();
    assert!(examined.imports.iter().all(|import| import.takes == Takes::Nothing), "{:?}", examined.imports);
    let asks_for_sockets = |part: &&Part| part.imports.contains(&"wasi:sockets/tcp@0.2.0".to_owned());
    let nested = examined.parts.iter().find(asks_for_sockets).unwrap();
    assert_eq!((nested.depth, nested.is_module), (1, false));
}

#[test]
fn a_smuggled_component_or_module_cannot_be_started_without_what_it_imports() {
    for text in [
        r#"(component
            (component $inner (import "wasi:sockets/tcp@0.2.0" (instance (export "connect" (func)))))
            (instance (instantiate $inner)))"#,
        r#"(component
            (core module $inner (import "wasi:sockets/tcp@0.2.0" "connect" (func)))
            (core instance (instantiate $inner)))"#,
    ] {
        let refused = examine(wat::parse_str(text).unwrap());
        assert!(matches!(&refused, Err(LinkError::Invalid { detail }) if detail.contains("missing")), "{refused:?}");
    }
}

#[test]
fn an_import_under_another_name_is_unknown_whatever_its_type() {
    let unknown = |bytes: Vec<u8>| {
        let examined = examine(bytes).unwrap();
        examined.imports.into_iter().find(|import| import.takes == Takes::Unknown).map(|import| import.interface)
    };
    assert_eq!(unknown(validator("import tcp: interface { connect: func(); }")).as_deref(), Some("tcp"));
    assert_eq!(unknown(validator("import connect: func();")).as_deref(), Some("connect"));
    let renamed = format!("{}\n", contract()).replace("interface log", "interface logs");
    let renamed = component_of(
        &renamed.replace("import log;", "import logs;"),
        "include portcullis:plugin/validator@0.1.0; import portcullis:plugin/logs@0.1.0;",
    );
    assert!(matches!(examine(renamed), Err(LinkError::Function { function, .. }) if function.contains("/logs@0.1.0")));
}

#[test]
fn an_import_that_says_to_stand_for_an_interface_is_refused() {
    let text =
        r#"(component (import "tcp" (implements "wasi:sockets/tcp@0.2.0") (instance (export "connect" (func)))))"#;
    let bytes = wat::parse_str(text).unwrap();
    assert!(matches!(examine(bytes), Err(LinkError::ImportUnknown { import }) if import == "tcp"));
}

#[test]
fn a_manifest_is_read_from_the_component_or_one_of_its_modules_and_from_nowhere_deeper() {
    let name = |bytes: Vec<u8>| examine(bytes).map(|examined| examined.claimed.map(|claimed| claimed.manifest.name));
    let in_module = |component, name: &str| with(component, MODULE, &module_with(&manifest_section(name)));
    assert_eq!(name(validator("")).unwrap(), None);
    assert_eq!(name(in_module(validator(""), "a")).unwrap().as_deref(), Some("a"));
    let both = with(in_module(validator(""), "a"), CUSTOM, &manifest_section("b"));
    assert_eq!(name(both).unwrap().as_deref(), Some("b"));
    let twice = in_module(in_module(validator(""), "a"), "b");
    assert!(matches!(name(twice), Err(LinkError::Manifest { detail }) if detail.contains("2 sections")));
    let twice = with(with(validator(""), CUSTOM, &manifest_section("a")), CUSTOM, &manifest_section("b"));
    assert!(matches!(name(twice), Err(LinkError::Manifest { .. })));
    let empty = wat::parse_str("(component)").unwrap();
    let deeper = with(validator(""), COMPONENT, &in_module(with(empty, CUSTOM, &manifest_section("x")), "y"));
    assert_eq!(name(deeper).unwrap(), None, "what is nested speaks for itself, not for the plugin");
}

#[test]
fn a_manifest_of_another_world_is_refused() {
    let enricher = component_of(&contract(), "include portcullis:plugin/enricher@0.1.0;");
    let refused = examine(with(enricher, CUSTOM, &manifest_section("a")));
    assert!(
        matches!(refused, Err(LinkError::Manifest { detail }) if detail.contains("`validator`") && detail.contains("`enricher`"))
    );
}

#[test]
fn a_manifest_that_is_too_large_is_refused_before_it_is_copied() {
    let mut body = vec![manifest::SECTION.len() as u8];
    body.extend_from_slice(manifest::SECTION.as_bytes());
    body.resize(body.len() + manifest::MAX_BYTES + 1, b' ');
    let refused = examine(with(validator(""), CUSTOM, &body));
    assert!(matches!(refused, Err(LinkError::TooLarge { what: "bytes of manifest", .. })));
}
