//! A component before anything of it is compiled: what it is, what it imports function by function, what it says of itself.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::artifact::{Artifact, Import, Part, Scan, Shape};
use super::contract::{Entry, Kind, entry};
use super::engine::Sandbox;
use super::error::LinkError;
use super::manifest::{self, Claimed, Wish};
use super::signature;
use crate::capability::{self, Need};

/// The bytes of a component file, read once and looked through once: what was examined is what is linked, whatever happens to
/// the file meanwhile.
pub struct ComponentFile {
    path: PathBuf,
    pub(super) artifact: Artifact,
    scanned: OnceLock<Scanned>,
}

/// A component that fits the contract.
pub(super) struct Scanned {
    pub(super) scan: Scan,
    pub(super) entry: Entry,
}

/// What a component is and could do.
#[derive(Clone, Debug)]
pub struct Examined {
    /// `sha256:` and the digest of its bytes.
    pub digest: String,
    /// What it is.
    pub kind: Kind,
    /// The world with the version that it speaks.
    pub world: String,
    /// The interfaces of which it imports a function. What it imports for a type alone leads nowhere.
    pub imports: Vec<Imported>,
    /// What it exports.
    pub exports: Vec<String>,
    /// The core modules and components inside it.
    pub parts: Vec<Part>,
    /// Its manifest, where it has one.
    pub claimed: Option<Claimed>,
}

/// An interface that a component imports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// With its version.
    pub interface: String,
    /// The functions that are really imported; empty for an import that is no interface.
    pub functions: Vec<String>,
    /// What it takes to link it.
    pub takes: Takes,
}

/// What it takes to link an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Nothing: the message in work.
    Nothing,
    /// Nothing: it leads nowhere.
    Inert,
    /// A grant.
    Grant(Wish),
    /// A version of this host that has it.
    NotAvailable(&'static str),
    /// This host does not know it.
    Unknown,
}

impl ComponentFile {
    /// Reads a file whole.
    ///
    /// # Errors
    /// It cannot be read, or is larger than a component may be.
    pub fn read(path: &Path) -> Result<Self, LinkError> {
        Ok(Self::of(path.to_owned(), Artifact::read(path)?))
    }

    pub(super) fn of(path: PathBuf, artifact: Artifact) -> Self {
        Self { path, artifact, scanned: OnceLock::new() }
    }

    /// `sha256:` and the digest of the bytes.
    pub fn digest(&self) -> String {
        self.artifact.digest_text()
    }

    /// Compares the digest with the one that an operator wrote.
    ///
    /// # Errors
    /// It is another one, or what was written is none.
    pub fn expect_digest(&self, expected: &str) -> Result<(), LinkError> {
        self.artifact.expect_digest(expected)
    }

    /// Validates the component at the first time; nothing of it is compiled or run.
    pub(super) fn scanned(&self, sandbox: &Sandbox) -> Result<&Scanned, LinkError> {
        if let Some(scanned) = self.scanned.get() {
            return Ok(scanned);
        }
        let scan = self.artifact.scan(sandbox.engine().get_wasm_features())?;
        let names: Vec<&str> = scan.imports.iter().map(|import| import.name.as_str()).collect();
        let entry = entry(&scan.exports, &names)?;
        Ok(self.scanned.get_or_init(|| Scanned { scan, entry }))
    }
}

impl Sandbox {
    /// Validates a component and finds out what it is. Nothing of it is compiled or run.
    ///
    /// # Errors
    /// It is no plugin of this version of the contract, or its manifest is not valid.
    pub fn examine(&self, file: &ComponentFile) -> Result<Examined, LinkError> {
        let Scanned { scan, entry } = file.scanned(self)?;
        signature::check(entry, &scan.imported, &scan.exported)?;
        let claimed = manifest::find(&file.path, &scan.manifests)?;
        if let Some(claimed) = &claimed
            && claimed.manifest.world != entry.kind
        {
            let (said, is) = (claimed.manifest.world.as_str(), entry.kind.as_str());
            let detail =
                format!("it says that the component is of the world `{said}`, and its exports are those of `{is}`");
            return Err(LinkError::Manifest { detail });
        }
        Ok(Examined {
            digest: file.digest(),
            kind: entry.kind,
            world: entry.world(),
            imports: scan.imports.iter().filter_map(|import| imported(import, entry.kind)).collect(),
            exports: scan.exports.clone(),
            parts: scan.parts.clone(),
            claimed,
        })
    }
}

fn imported(import: &Import, kind: Kind) -> Option<Imported> {
    let takes = match import.shape {
        Shape::Type => return None,
        Shape::Other => Takes::Unknown,
        Shape::Interface if import.functions.is_empty() => return None,
        Shape::Interface => match capability::decide(&import.name) {
            Need::Always => Takes::Nothing,
            Need::EnricherOnly if kind == Kind::Enricher => Takes::Nothing,
            Need::Inert => Takes::Inert,
            Need::Grant(capability) => wish(capability.as_str()).map_or(Takes::Unknown, Takes::Grant),
            Need::NotAvailable(reason) => Takes::NotAvailable(reason),
            Need::EnricherOnly | Need::Unknown => Takes::Unknown,
        },
    };
    Some(Imported { interface: import.name.clone(), functions: import.functions.clone(), takes })
}

fn wish(key: &str) -> Option<Wish> {
    Wish::ALL.into_iter().find(|wish| wish.as_str() == key)
}

#[cfg(test)]
pub(super) mod tests;
