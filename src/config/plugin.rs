use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::{EgressGrant, Located, Location, Rate, Setting};

/// One plugin of the chain.
#[derive(Clone, Debug)]
pub struct Plugin {
    /// Where its entry begins.
    pub at: Location,
    /// Unique in the pipeline; `[a-z0-9][a-z0-9-]*`, at most 63 characters.
    pub name: Located<String>,
    /// The component file, from the folder of the pipeline file.
    pub component: Located<PathBuf>,
    /// `sha256:` and 64 lower-case hexadecimal digits.
    pub digest: Option<Located<String>>,
    /// What `configure` gets; `{}` when absent.
    pub config: Option<Located<PluginConfig>>,
    /// What happens to messages that do not pass.
    pub on: Dispositions,
    /// What it may do. Nothing that is not here.
    pub grants: Grants,
    /// What it may use.
    pub limits: Limits,
    /// How long an instance lives.
    pub instance: Setting<Instance>,
    /// Whether nothing of its entry is wrong; always so in a pipeline that runs. Else defaults stand for what is wrong.
    pub is_whole: bool,
}

/// The `config:` of a plugin as JSON, with each `$file` inlined. It may hold what came from the environment, so `Debug`
/// shows nothing of it.
#[derive(Clone, PartialEq)]
pub struct PluginConfig {
    pub(crate) json: serde_json::Value,
    /// Where variables were put in: the same without what they held.
    pub(crate) typed: Option<serde_json::Value>,
    /// Every key of its maps; of a file that is inlined none.
    pub(crate) keys: Vec<Located<String>>,
    /// The files that were inlined, in their order.
    pub(crate) files: Vec<Located<PathBuf>>,
}

impl PluginConfig {
    /// The files whose content is in it.
    pub fn files(&self) -> &[Located<PathBuf>] {
        &self.files
    }

    /// Where a key was typed that a plugin's own message speaks of: its first word that is a key which is typed once.
    pub fn place_in(&self, message: &str) -> Option<&Location> {
        let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '$');
        message.split(|c| !is_word(c)).filter(|word| !word.is_empty()).find_map(|word| {
            let mut of_word = self.keys.iter().filter(|key| key.value == word);
            match (of_word.next(), of_word.next()) {
                (Some(key), None) => Some(&key.at),
                _ => None,
            }
        })
    }

    /// The text for `configure`.
    pub fn to_json(&self) -> String {
        self.json.to_string()
    }

    /// As it was typed, with each `$file` inlined and no variable put in: what may be digested and kept.
    pub fn to_typed_json(&self) -> String {
        self.typed.as_ref().unwrap_or(&self.json).to_string()
    }
}

impl fmt::Debug for PluginConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PluginConfig(not shown)")
    }
}

/// The `on:` of a plugin, with its defaults resolved: `dead_letter` where the pipeline declares one, else `stop`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispositions {
    /// What the verdict `reject` does.
    pub reject: Setting<Disposition>,
    /// What a fault of the plugin does, exhausted retries among them.
    pub fault: Setting<Disposition>,
    /// How the verdict `retry` is followed.
    pub retry: Retry,
    /// Whether the verdict `drop` is obeyed; else it is a fault.
    pub may_drop: Setting<bool>,
}

/// What becomes of a message that does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// It goes to the dead letter queue.
    DeadLetter,
    /// It counts as done.
    Drop,
    /// The pipeline stops with it unfinished.
    Stop,
}

/// How often and how soon a message is tried again in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Tries after the first; 0 makes the verdict `retry` a fault at once.
    pub attempts: Setting<u32>,
    /// Wait before the second try; it doubles from try to try.
    pub backoff_min: Setting<Duration>,
    /// Longest wait.
    pub backoff_max: Setting<Duration>,
}

/// What the operator grants. An absent one is not linked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Log lines from this level up.
    pub log: Option<Located<PluginLogLevel>>,
    /// The clocks.
    pub clock: Option<Located<Clock>>,
    /// Random numbers: the place of `random: true`.
    pub random: Option<Location>,
    /// The network.
    pub egress: Option<EgressGrant>,
}

/// The level of a plugin's log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PluginLogLevel {
    /// `debug`
    Debug,
    /// `info`
    Info,
    /// `warn`
    Warn,
    /// `error`
    Error,
}

impl Instance {
    /// As it is typed.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lane => "lane",
            Self::Batch => "batch",
            Self::Message => "message",
        }
    }
}

impl PluginLogLevel {
    /// As it is typed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

impl Clock {
    /// As it is typed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Coarse => "coarse",
            Self::Precise => "precise",
        }
    }
}

/// How exact a plugin's clock is; a later one grants more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Clock {
    /// Steps that hide what a timing attack measures.
    Coarse,
    /// As exact as the host's.
    Precise,
}

/// How long an instance of a plugin lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instance {
    /// As long as its lane, until a fault.
    Lane,
    /// As long as a batch of messages.
    Batch,
    /// One message.
    Message,
}

/// What a plugin may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Wall time of a call; 250 ms, 2 s with egress.
    pub deadline: Setting<Duration>,
    /// Instructions of a call, about; 50,000,000.
    pub fuel: Setting<u64>,
    /// Bytes of all memories and tables of an instance; 64 MiB.
    pub memory_bytes: Setting<u64>,
    /// Bytes that a call may give back; 1 MiB.
    pub output_bytes: Setting<u64>,
    /// Bytes of log lines for one message; 64 KiB. Past it lines are cut and counted.
    pub log_bytes: Setting<u64>,
    /// Bytes of log lines a second over all instances, a minute's worth at once; 16 KiB. Past it lines are cut and counted.
    pub log_rate_bytes_s: Setting<u64>,
    /// Calls into the host for one message; 100,000.
    pub host_calls: Setting<u64>,
    /// Resource handles that an instance may hold; 4096.
    pub handles: Setting<u32>,
    /// New instances after faults; 5 a minute, then the plugin is quarantined.
    pub restarts: Setting<Rate>,
    /// Calls that may wait at once, each in an instance of its own; 1, with egress 8.
    pub concurrency: Setting<u32>,
    /// Open sockets; 8. This and what follows has an effect with egress only.
    pub connections: Setting<u32>,
    /// New connections in a time; 10/s.
    pub connects: Setting<Rate>,
    /// Name lookups in a time; 5/s.
    pub lookups: Setting<Rate>,
    /// Bytes a second out; no bound when absent.
    pub egress_bytes: Option<Located<u64>>,
    /// Bytes a second in; no bound when absent.
    pub ingress_bytes: Option<Located<u64>>,
}
