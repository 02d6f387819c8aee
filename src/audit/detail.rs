//! What a caller tells of an event, one type for each code that needs one.

use std::sync::Arc;

use serde_json::Value;

use crate::network::Window;

/// How strictly the audit is tied to the effects of a plugin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// Before an allowed external effect its event is durable here.
    Strict,
    /// Before an allowed external effect its event is durable in the audit topic.
    AckFirst,
    /// Events wait in a bounded queue.
    #[default]
    Buffered,
    /// Only for plugins without grants.
    BestEffort,
}

impl Mode {
    /// The word of the mode, as the configuration spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::AckFirst => "ack_first",
            Self::Buffered => "buffered",
            Self::BestEffort => "best_effort",
        }
    }
}

/// What was linked: the proof of what a plugin could do.
#[derive(Clone, Debug, Default)]
pub struct Linked {
    /// The component's own version, where it tells one.
    pub version: Option<String>,
    /// The world with its version: `portcullis:plugin/validator@0.1.0`.
    pub world: String,
    /// Functions of the host that the component really imports and that were linked: `wasi:clocks/wall-clock.now`.
    pub imports: Vec<String>,
    /// Interfaces that were linked as empty versions because a toolchain imports them: they grant nothing.
    pub inert: Vec<String>,
    /// The grants as the operator typed them, as a JSON object. Must not hold a secret's value.
    pub grants: Value,
    /// Limits by name with the unit in the name: `("memory_bytes", 67108864)`.
    pub budgets: Vec<(&'static str, u64)>,
    /// The audit mode that the pipeline runs under.
    pub mode: Mode,
}

/// Why a component was refused before it ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refused {
    /// The file is not there or cannot be read.
    Unreadable,
    /// The file, or a part of it, is larger than is compiled.
    TooLarge,
    /// The file is something else.
    NotAComponent,
    /// The file is not the one that the operator pinned.
    DigestMismatch,
    /// The component is not valid, or needs a feature that is off.
    Invalid,
    /// It is a component of another world.
    WorldMismatch,
    /// It speaks another version of the contract.
    ContractVersion,
    /// It imports what its grants do not name.
    ImportDenied,
    /// It imports what this version of the host does not offer.
    ImportNotAvailable,
    /// It imports what the host does not know, or in a form that it does not have.
    ImportUnknown,
    /// The compiler refused it.
    CompileFailed,
    /// It refused its configuration, or could not be started.
    ConfigureFailed,
    /// Its manifest cannot be read, or there are several.
    ManifestInvalid,
    /// It imports what its manifest does not ask for.
    ManifestMissingImport,
    /// Its manifest asks for what the operator did not grant.
    GrantMissing,
    /// Its grants are above what the tenant or the node allows any plugin.
    GrantAboveCeiling,
    /// It, its grants or its limits differ from the lock file.
    LockDrift,
    /// Another component has its name and version.
    NameConflict,
    /// Its egress rules have no meaning together.
    PolicyInvalid,
}

impl Refused {
    /// The `status_code` of the event.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "component.unreadable",
            Self::TooLarge => "component.too_large",
            Self::NotAComponent => "not_a_component",
            Self::DigestMismatch => "digest.mismatch",
            Self::Invalid => "component.invalid",
            Self::WorldMismatch => "world.mismatch",
            Self::ContractVersion => "contract.version",
            Self::ImportDenied => "import.denied",
            Self::ImportNotAvailable => "import.not_available",
            Self::ImportUnknown => "import.unknown",
            Self::CompileFailed => "compile.failed",
            Self::ConfigureFailed => "configure.failed",
            Self::ManifestInvalid => "manifest.invalid",
            Self::ManifestMissingImport => "manifest.import",
            Self::GrantMissing => "grant.missing",
            Self::GrantAboveCeiling => "grant.ceiling",
            Self::LockDrift => "lock.drift",
            Self::NameConflict => "name.conflict",
            Self::PolicyInvalid => "policy.invalid",
        }
    }
}

/// A component that was refused.
#[derive(Clone, Debug)]
pub struct Rejection {
    /// Why.
    pub refused: Refused,
    /// Which import, which digest, which world.
    pub detail: String,
    /// The component's own version, where it tells one.
    pub version: Option<String>,
}

/// A plugin that was quarantined.
#[derive(Clone, Debug)]
pub struct Disabled {
    /// The kind of the last fault. `'static`, so that a guest cannot choose it.
    pub kind: &'static str,
    /// The last fault.
    pub detail: String,
    /// For how long, in milliseconds; none until the pipeline is started again.
    pub quarantine_ms: Option<u64>,
}

/// A call that ended in a trap.
#[derive(Clone, Debug)]
pub struct Trap {
    /// The kind, such as `trap.unreachable`. `'static`, so that a guest cannot choose it.
    pub kind: &'static str,
    /// What the runtime said.
    pub detail: String,
    /// Which instance.
    pub instance: Option<String>,
    /// Whether the instance was thrown away.
    pub discarded: bool,
}

/// A limit that was met.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Which limit: a fault kind. `'static`, so that a guest cannot choose it.
    pub kind: &'static str,
    /// The limit in its own unit.
    pub limit: Option<u64>,
    /// How much was used, where it is known.
    pub used: Option<u64>,
    /// What the limit is counted over.
    pub scope: Scope,
    /// What the host said; empty for the default text.
    pub detail: String,
    /// How often it was met, where the event stands for several times.
    pub window: Option<Window>,
}

/// What a limit is counted over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// One call.
    Invocation,
    /// One instance.
    Instance,
    /// All instances of the plugin.
    Plugin,
    /// What one source of the pipeline has brought in.
    Pipeline,
    /// All plugins of the tenant.
    Tenant,
    /// The whole process.
    Node,
}

impl Scope {
    /// The word in the event.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invocation => "invocation",
            Self::Instance => "instance",
            Self::Plugin => "plugin",
            Self::Pipeline => "pipeline",
            Self::Tenant => "tenant",
            Self::Node => "node",
        }
    }
}

/// A record that went to the dead letter queue. There is no field for the sentence that explains it: validators quote the
/// value in it. The dead letter has it.
#[derive(Clone, Debug)]
pub struct Quarantine {
    /// Topic or subject that the record came from.
    pub channel: String,
    /// Where its dead letter is.
    pub dead_letter: Option<DeadLetter>,
    /// The fault kind. `'static`, so that a guest cannot choose it.
    pub kind: &'static str,
    /// The plugin's own code for a rejection, else the kind.
    pub code: String,
    /// Whether the dead letter had to leave the value out.
    pub truncated: bool,
    /// How often it was tried.
    pub attempts: u32,
}

/// Where a dead letter was stored.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// Topic or file.
    pub queue: String,
    /// `topic-partition@offset`, or the queue's name where the sink tells no position.
    pub position: String,
}

/// A configuration that was refused.
#[derive(Clone, Debug)]
pub struct ConfigFault {
    /// Which rule it breaks: `public_suffix`.
    pub slug: String,
    /// Where: `orders.yaml:12:9`.
    pub at: String,
    /// What is wrong. Must not hold a secret's value.
    pub detail: String,
}

/// Calls of one host function over a window.
#[derive(Clone, Debug)]
pub struct HostCall {
    /// Interface and function: `wasi:clocks/wall-clock.now`.
    pub operation: Arc<str>,
    /// Exact number of calls.
    pub count: u64,
    /// Begin of the window, milliseconds since 1970.
    pub start_ms: u64,
    /// End of the window, milliseconds since 1970.
    pub end_ms: u64,
}
