use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

/// Why a component was refused. Each message says what was found and what would be taken.
#[derive(Debug, Error)]
pub enum LinkError {
    /// There is no such file.
    #[error("component file {path} does not exist")]
    NotFound {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The file is there and cannot be read.
    #[error("component file {path} cannot be read: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is larger, or holds more parts, than is compiled.
    #[error("the component has {found} {what}, at most {limit} are allowed")]
    TooLarge {
        /// Which part is too many.
        what: &'static str,
        /// How many there are.
        found: u64,
        /// How many may be.
        limit: u64,
    },
    /// The file is something else.
    #[error("the file is {found}, not a WebAssembly component in binary form")]
    NotAComponent {
        /// What it is.
        found: FoundFile,
    },
    /// The digest that the operator wrote cannot be one.
    #[error("digest {found:?} is not \"sha256:\" and 64 hexadecimal digits")]
    DigestForm {
        /// What was written.
        found: String,
    },
    /// The file is not the one that the operator pinned.
    #[error("the component's digest is {found}, the pipeline pins {expected}")]
    Digest {
        /// What the operator wrote.
        expected: String,
        /// What the file has.
        found: String,
    },
    /// It is a component and not a valid one, or one that needs a WebAssembly feature that is off.
    #[error("the component is not valid here: {detail}")]
    Invalid {
        /// What the validator said, with the position in the file.
        detail: String,
    },
    /// It is a component of another world.
    #[error("the component is not a plugin: {detail}; it exports {}", list(found))]
    World {
        /// What is wrong.
        detail: &'static str,
        /// What it exports.
        found: Vec<String>,
    },
    /// It speaks another version of the contract.
    #[error("the component speaks {found}, this host offers version {expected}")]
    ContractVersion {
        /// The interface with its version.
        found: String,
        /// What this host has.
        expected: &'static str,
    },
    /// It speaks this version of the contract, and one of its functions does not.
    #[error("{}", function_text(function, found.as_deref(), expected.as_deref(), version))]
    Function {
        /// The function with its interface and version.
        function: String,
        /// Its type in the component; none where the component lacks it.
        found: Option<String>,
        /// Its type in the contract; none where the contract lacks it.
        expected: Option<String>,
        /// The contract's version.
        version: &'static str,
    },
    /// Its manifest cannot be read, or there are several.
    #[error("the manifest is not valid: {detail}")]
    Manifest {
        /// What is wrong with it.
        detail: String,
    },
    /// It has no manifest, and the node's mode is production.
    #[error("the component has no manifest, and the node's mode is production")]
    ManifestMissing,
    /// It imports what its own manifest does not ask for.
    #[error("the component imports {}, and its manifest does not ask for {}", imports.join(" and "), keys(capabilities))]
    ImportOutsideManifest {
        /// The interfaces.
        imports: Vec<String>,
        /// The grants' keys.
        capabilities: Vec<&'static str>,
    },
    /// Its manifest asks for what was not granted.
    #[error("the manifest asks for {}, which is not granted", asks.join(" and "))]
    GrantMissing {
        /// The grants' keys, or a destination.
        asks: Vec<String>,
        /// What to write.
        yaml: String,
    },
    /// It was granted more than the tenant or the node allows.
    #[error("the grant {grant} is above the ceiling of {level}, {ceiling}")]
    GrantAboveCeiling {
        /// The grant as it was typed.
        grant: String,
        /// Whose ceiling.
        level: String,
        /// The ceiling with its place.
        ceiling: String,
    },
    /// Something is not as the lock beside the pipeline says.
    #[error("not as `portcullis.lock` has it: {drift}")]
    Drift {
        /// What was locked and what is there.
        drift: String,
    },
    /// Another component of this process has the same name and version.
    #[error("the component says that it is {name}, and so does another one at {other}: {digest} and {other_digest}")]
    NameConflict {
        /// Name and version.
        name: String,
        /// Its digest.
        digest: String,
        /// The other's digest.
        other_digest: String,
        /// Where the other is named.
        other: String,
    },
    /// It imports what its grants do not name.
    #[error("the component imports {}, which is not granted; add `{yaml}` to the plugin", imports.join(" and "))]
    ImportNotGranted {
        /// The interfaces.
        imports: Vec<String>,
        /// The grants' keys, one for each.
        capabilities: Vec<&'static str>,
        /// What to write.
        yaml: String,
    },
    /// It imports what this version of the host does not offer.
    #[error("the component imports {import}: {reason}")]
    ImportNotAvailable {
        /// The interface.
        import: String,
        /// Why not.
        reason: &'static str,
    },
    /// It imports what no version of the host knows.
    #[error("the component imports {import}, which this host does not know")]
    ImportUnknown {
        /// The interface or function.
        import: String,
    },
    /// It imports a known interface in a form that this host does not have.
    #[error("the component's imports do not fit this host: {detail}")]
    Imports {
        /// What the linker said.
        detail: String,
    },
    /// The compiler refused it.
    #[error("the component cannot be compiled: {detail}")]
    Compile {
        /// What the compiler said.
        detail: String,
    },
    /// A first instance could not be made, or its `configure` refused the configuration.
    #[error("the plugin does not start: {detail}")]
    Configure {
        /// The plugin's own text, or the budget that it exceeded.
        detail: String,
    },
}

/// What a file is that is not a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundFile {
    /// No bytes at all.
    Empty,
    /// Text, perhaps a component in text form.
    Text,
    /// A core module, not wrapped as a component.
    CoreModule,
    /// Machine code: a compiled component is never taken from outside, since loading one runs it.
    Compiled,
    /// A gzip archive.
    Gzip,
    /// Anything else.
    Other,
}

impl fmt::Display for FoundFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "empty",
            Self::Text => "text",
            Self::CoreModule => "a core module (wrap it with `wasm-component-ld` or `wasm-tools component new`)",
            Self::Compiled => "a compiled artefact, which is never loaded from outside",
            Self::Gzip => "a gzip archive",
            Self::Other => "of an unknown kind",
        })
    }
}

fn keys(capabilities: &[&'static str]) -> String {
    let mut keys = capabilities.to_vec();
    keys.sort_unstable();
    keys.dedup();
    keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(" and ")
}

fn function_text(function: &str, found: Option<&str>, expected: Option<&str>, version: &str) -> String {
    match (found, expected) {
        (Some(found), Some(expected)) => format!(
            "the component does not fit version {version} of the contract: its function {function} is `{found}`, here it is \
             `{expected}`"
        ),
        (None, _) => {
            format!("the component does not fit version {version} of the contract: it lacks the function {function}")
        }
        (Some(_), None) => format!(
            "the component imports the function {function}, which version {version} of the contract does not have"
        ),
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}
