use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use wasmtime::component::{ComponentType, Lift};

use super::manifest::Wish;
use super::sums::Sums;

/// A plugin of a pipeline as the operator wrote it.
#[derive(Clone, Debug)]
pub struct PluginSpec {
    /// Its name within the pipeline.
    pub name: Arc<str>,
    /// The pipeline, for log lines.
    pub pipeline: Arc<str>,
    /// The tenant, for log lines.
    pub tenant: Arc<str>,
    /// The component file.
    pub component: PathBuf,
    /// `sha256:` and 64 hexadecimal digits: what the file must be.
    pub digest: Option<String>,
    /// What `configure` gets; `{}` where the operator wrote nothing.
    pub config_json: String,
    /// What it may use beside the message.
    pub grants: Grants,
    /// What it could do without and was not granted: linked all the same where it is imported, so that each call is refused.
    pub left_out: Vec<Wish>,
    /// What one call, or one instance, may use up.
    pub limits: Limits,
    /// What it shares with the other plugins of its tenant and of the node.
    pub sums: Sums,
}

/// What a plugin may use beside the message. What is not named here is not linked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Lines for the operator's log, from this level on.
    pub log: Option<Level>,
    /// The time.
    pub clock: Option<Clock>,
    /// Random bytes.
    pub random: bool,
    /// Whether sockets, name lookup and HTTP are linked. What they may reach is decided call by call.
    pub egress: bool,
}

/// How exact a granted clock is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Whole milliseconds: too coarse to time a cache or another tenant.
    Coarse,
    /// As exact as the machine's clock.
    Precise,
}

/// The level of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
pub enum Level {
    /// For the plugin's author.
    #[component(name = "debug")]
    Debug,
    /// What happened.
    #[component(name = "info")]
    Info,
    /// What an operator should look at.
    #[component(name = "warn")]
    Warn,
    /// What failed.
    #[component(name = "error")]
    Error,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        })
    }
}

/// What one call, or one instance, may use up. Past one of these the call ends with a fault of its own kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Wall time of a call in milliseconds, waiting in host calls included.
    pub deadline_ms: u64,
    /// Fuel of a call: about one unit an instruction.
    pub fuel: u64,
    /// Bytes of all memories and tables of an instance together.
    pub memory_bytes: u64,
    /// Bytes that a call may write into the message, summed over its edits.
    pub output_bytes: u64,
    /// Bytes of log lines, standard output and standard error that a call may write; the rest is cut and counted.
    pub log_bytes: u64,
    /// Host calls of a call.
    pub host_calls: u64,
    /// Handles that an instance may hold at once.
    pub handles: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline_ms: 250,
            fuel: 50_000_000,
            memory_bytes: 64 << 20,
            output_bytes: 1 << 20,
            log_bytes: 64 << 10,
            host_calls: 100_000,
            handles: 4096,
        }
    }
}
