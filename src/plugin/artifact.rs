//! A component file before it is compiled: its bytes, their digest, and what it imports and exports.

use std::ops::Range;
use std::path::Path;

use portcullis_config::{ReadError, read_file};
use sha2::{Digest, Sha256};
use wasmparser::component_types::ComponentEntityType;
use wasmparser::{ComponentExternName, ComponentTypeRef, Parser, Payload, Validator};
use wasmtime::WasmFeatures;

use super::error::{FoundFile, LinkError};
use super::manifest;
use super::signature::{Function, Printer};
use super::text::tame;

/// The largest component file, in bytes. A Python plugin has 40 MB.
const MAX_FILE_BYTES: u64 = 64 << 20;
/// Core modules and nested components. A Python plugin has 38.
const MAX_PARTS: u64 = 128;
/// Imports of the root. A full WASI 0.2 world has 28.
const MAX_IMPORTS: u64 = 128;
/// Exports of the root.
const MAX_EXPORTS: u64 = 128;
/// Components inside components.
const MAX_DEPTH: u64 = 8;
/// Imports of a nested part that are shown.
const MAX_NOTED_IMPORTS: usize = 256;
/// Bytes of the name of one of them.
const MAX_NOTED_BYTES: usize = 200;

/// The bytes of a component with their digest. Read once: what was digested is what is compiled, whatever happens to the
/// file meanwhile.
pub(super) struct Artifact {
    pub(super) bytes: Vec<u8>,
    pub(super) digest: [u8; 32],
}

impl Artifact {
    pub(super) fn read(path: &Path) -> Result<Self, LinkError> {
        let bytes = read_file(path, MAX_FILE_BYTES).map_err(|error| match error {
            ReadError::TooLarge { bytes_max: limit } => LinkError::TooLarge { what: "bytes", found: limit + 1, limit },
            error if error.is_not_found() => LinkError::NotFound { path: path.to_owned() },
            error => LinkError::Read { path: path.to_owned(), source: error.into() },
        })?;
        let digest = Sha256::digest(&bytes).into();
        Ok(Self { bytes, digest })
    }

    /// As operators write it.
    pub(super) fn digest_text(&self) -> String {
        digest_text(&self.digest)
    }

    pub(super) fn expect_digest(&self, expected: &str) -> Result<(), LinkError> {
        let digits = expected.strip_prefix("sha256:").unwrap_or_default();
        if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(LinkError::DigestForm { found: expected.to_owned() });
        }
        let found = self.digest_text();
        if expected.eq_ignore_ascii_case(&found) {
            return Ok(());
        }
        Err(LinkError::Digest { expected: expected.to_owned(), found })
    }

    /// Validates the component and lists what it imports and exports. Nothing of it is compiled or run.
    pub(super) fn scan(&self, features: WasmFeatures) -> Result<Scan, LinkError> {
        require_component(&self.bytes)?;
        let mut scan = names(&self.bytes)?;
        let types = Validator::new_with_features(features).validate_all(&self.bytes).map_err(invalid)?;
        let types = types.as_ref();
        for import in &mut scan.imports {
            let item = types.component_item_for_import(&import.name);
            let Some(ComponentEntityType::Instance(id)) = item.map(|item| item.ty) else { continue };
            let Some(instance) = types.get(id) else { continue };
            let functions = instance.exports.iter().filter(|(_, item)| matches!(item.ty, ComponentEntityType::Func(_)));
            import.functions = functions.map(|(name, _)| name.clone()).collect();
        }
        let printer = Printer::new(types, scan.imports.iter().map(|import| import.name.as_str()));
        scan.imported = scan.imports.iter().flat_map(|import| printer.imported(&import.name)).collect();
        scan.exported = scan.exports.iter().flat_map(|export| printer.exported(export)).collect();
        Ok(scan)
    }
}

/// What a component asks for and offers at its root. Nested components can only get what the root imports.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) imports: Vec<Import>,
    pub(super) exports: Vec<String>,
    /// The functions of the contract that it imports, with their types.
    pub(super) imported: Vec<Function>,
    /// Those that it exports.
    pub(super) exported: Vec<Function>,
    pub(super) manifests: Sections,
    /// What is nested in it, at any depth.
    pub(super) parts: Vec<Part>,
}

/// The sections of the manifest, by where they are.
#[derive(Debug, Default)]
pub(super) struct Sections {
    /// Of the component itself.
    pub(super) root: Vec<Vec<u8>>,
    /// Of its own core modules, where a linker puts them. What lies deeper belongs to somebody else.
    pub(super) modules: Vec<Vec<u8>>,
}

/// A core module or a component inside the component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// 1 for those of the root.
    pub depth: usize,
    /// Whether it is a core module.
    pub is_module: bool,
    /// In bytes.
    pub bytes: usize,
    /// What it names as its imports. It gets what its parent gives it, and no more than the root was given.
    pub imports: Vec<String>,
}

/// One import of the root.
#[derive(Debug)]
pub(super) struct Import {
    pub(super) name: String,
    pub(super) shape: Shape,
    /// What is really used of an interface: toolchains import interfaces whole and for a type only.
    pub(super) functions: Vec<String>,
}

/// What is imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Interface,
    /// A name for a type: no way out of the sandbox.
    Type,
    /// A bare function, a module or a component: not part of the contract.
    Other,
}

/// The first pass, over the structure alone, so that the bounds hold before the validator builds anything.
fn names(bytes: &[u8]) -> Result<Scan, LinkError> {
    let mut scan = Scan::default();
    // The parts that are open, outermost first, as places in `scan.parts`.
    let mut open: Vec<usize> = Vec::new();
    for payload in Parser::new(0).parse_all(bytes) {
        let inner = open.last().copied();
        match payload.map_err(invalid)? {
            Payload::ModuleSection { unchecked_range: range, .. } => {
                enter(&mut scan.parts, &mut open, true, bytes, &range)?;
            }
            Payload::ComponentSection { unchecked_range: range, .. } => {
                enter(&mut scan.parts, &mut open, false, bytes, &range)?;
            }
            Payload::End(_) => {
                open.pop();
            }
            Payload::CustomSection(section) if section.name() == manifest::SECTION => {
                let of_module =
                    matches!(open.as_slice(), [part] if scan.parts.get(*part).is_some_and(|part| part.is_module));
                let sections = match open.is_empty() {
                    true => &mut scan.manifests.root,
                    false if of_module => &mut scan.manifests.modules,
                    false => continue,
                };
                within("bytes of manifest", section.data().len() as u64, manifest::MAX_BYTES as u64)?;
                within("manifests", sections.len() as u64 + 1, MAX_PARTS)?;
                sections.push(section.data().to_vec());
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import.map_err(invalid)?;
                    note(&mut scan.parts, inner, || format!("{}.{}", import.module, import.name));
                }
            }
            Payload::ComponentImportSection(section) if inner.is_some() => {
                for import in section {
                    let import = import.map_err(invalid)?;
                    note(&mut scan.parts, inner, || import.name.name.to_owned());
                }
            }
            Payload::ComponentImportSection(section) => {
                within("imports", scan.imports.len() as u64 + u64::from(section.count()), MAX_IMPORTS)?;
                for import in section {
                    let import = import.map_err(invalid)?;
                    plain_name(&import.name)?;
                    let shape = match import.ty {
                        ComponentTypeRef::Instance(_) => Shape::Interface,
                        ComponentTypeRef::Type(_) => Shape::Type,
                        _ => Shape::Other,
                    };
                    scan.imports.push(Import { name: import.name.name.to_owned(), shape, functions: Vec::new() });
                }
            }
            Payload::ComponentExportSection(section) if inner.is_none() => {
                within("exports", scan.exports.len() as u64 + u64::from(section.count()), MAX_EXPORTS)?;
                for export in section {
                    scan.exports.push(export.map_err(invalid)?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(scan)
}

fn enter(
    parts: &mut Vec<Part>,
    open: &mut Vec<usize>,
    is_module: bool,
    bytes: &[u8],
    range: &Range<usize>,
) -> Result<(), LinkError> {
    // Where a file ends between two sections of a part, parser and validator take the part for whole.
    if range.end > bytes.len() {
        let detail = format!("a part of it reaches to byte {}, and the file has {} bytes", range.end, bytes.len());
        return Err(LinkError::Invalid { detail });
    }
    within("modules and components", parts.len() as u64 + 1, MAX_PARTS)?;
    within("levels of components", open.len() as u64 + 1, MAX_DEPTH)?;
    open.push(parts.len());
    parts.push(Part { depth: open.len(), is_module, bytes: range.len(), imports: Vec::new() });
    Ok(())
}

/// For people who look at a component: cut where nobody would read on.
fn note(parts: &mut [Part], part: Option<usize>, name: impl FnOnce() -> String) {
    if let Some(part) = part.and_then(|part| parts.get_mut(part))
        && part.imports.len() < MAX_NOTED_IMPORTS
    {
        part.imports.push(tame(&name(), MAX_NOTED_BYTES).into_owned());
    }
}

/// An import can say that it stands for an interface under another name. What it reaches would then not be what it is
/// called, so such a name is refused whatever it says.
fn plain_name(name: &ComponentExternName<'_>) -> Result<(), LinkError> {
    if name.implements.is_none() && name.external_id.is_none() && name.version_suffix.is_none() {
        return Ok(());
    }
    Err(LinkError::ImportUnknown { import: name.name.to_owned() })
}

fn require_component(bytes: &[u8]) -> Result<(), LinkError> {
    let found = match bytes {
        [] => FoundFile::Empty,
        [b'\0', b'a', b's', b'm', _, _, 1, 0, ..] => return Ok(()),
        [b'\0', b'a', b's', b'm', 1, 0, 0, 0, ..] => FoundFile::CoreModule,
        [0x1f, 0x8b, ..] => FoundFile::Gzip,
        [0x7f, b'E', b'L', b'F', ..] => FoundFile::Compiled,
        _ if is_text(bytes) => FoundFile::Text,
        _ => FoundFile::Other,
    };
    Err(LinkError::NotAComponent { found })
}

fn is_text(bytes: &[u8]) -> bool {
    let beginning = bytes.get(..256).unwrap_or(bytes);
    !beginning.iter().any(|byte| byte.is_ascii_control() && !byte.is_ascii_whitespace())
}

fn within(what: &'static str, found: u64, limit: u64) -> Result<(), LinkError> {
    if found <= limit { Ok(()) } else { Err(LinkError::TooLarge { what, found, limit }) }
}

fn invalid(error: wasmparser::BinaryReaderError) -> LinkError {
    LinkError::Invalid { detail: error.to_string() }
}

/// As operators write it.
pub(super) fn digest_text(digest: &[u8; 32]) -> String {
    format!("sha256:{}", hexadecimal(digest))
}

/// Lower-case digits.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(bytes: &[u8]) -> FoundFile {
        match require_component(bytes) {
            Err(LinkError::NotAComponent { found }) => found,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_file_that_is_no_component_is_named_for_what_it_is() {
        assert_eq!(found(b""), FoundFile::Empty);
        assert_eq!(found(b"(component)"), FoundFile::Text);
        assert_eq!(found(b"\0asm\x01\0\0\0"), FoundFile::CoreModule);
        assert_eq!(found(b"\x7fELF\x02"), FoundFile::Compiled);
        assert_eq!(found(&[0x1f, 0x8b, 8]), FoundFile::Gzip);
        assert_eq!(found(&[0xff, 0, 7]), FoundFile::Other);
    }

    #[test]
    fn a_digest_is_compared_whole_and_its_form_is_checked() {
        let artifact = Artifact { bytes: Vec::new(), digest: Sha256::digest(b"").into() };
        let text = artifact.digest_text();
        assert!(artifact.expect_digest(&text).is_ok());
        let other = text.replace('e', "f");
        assert!(matches!(artifact.expect_digest(&other), Err(LinkError::Digest { found, .. }) if found == text));
        for form in ["", "sha256:", "sha256:zz", text.trim_start_matches("sha256:"), &text[..60]] {
            assert!(matches!(artifact.expect_digest(form), Err(LinkError::DigestForm { .. })), "{form}");
        }
    }

    #[test]
    fn broken_and_nested_binaries_are_refused_before_the_validator_builds_anything() {
        let features = WasmFeatures::default();
        let component = |body: &[u8]| {
            let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
            bytes.extend_from_slice(body);
            bytes
        };
        let scan = |bytes: Vec<u8>| Artifact { bytes, digest: [0; 32] }.scan(features);
        assert!(matches!(scan(component(&[0xff])), Err(LinkError::Invalid { .. })));
        assert!(scan(component(&[])).unwrap().exports.is_empty());
        let nested = (0..10_u8).fold(component(&[]), |inner, _| {
            let mut section = vec![4, inner.len() as u8];
            section.extend_from_slice(&inner);
            component(&section)
        });
        assert!(matches!(scan(nested), Err(LinkError::TooLarge { what: "levels of components", .. })));
    }
}
