//! The bridge as a contestant: its binary, with files of its own in a folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::process::Contestant;

/// The schema of the quickstart's orders.
pub const ORDER_SCHEMA: &str = include_str!("../../../pipelines/schemas/order.json");

/// The configuration of json-schema with [`ORDER_SCHEMA`], on one line.
pub fn schema_config() -> String {
    let schema: serde_json::Value = serde_json::from_str(ORDER_SCHEMA).unwrap_or(true.into());
    serde_json::json!({ "schema": schema, "not_json": "pass" }).to_string()
}

/// Where the bridge's binary and the guests are.
#[derive(Clone, Debug)]
pub struct Bridge {
    program: PathBuf,
    guests: PathBuf,
}

impl Bridge {
    /// Both must be there.
    ///
    /// # Errors
    /// When one is not built.
    pub fn new(program: &Path, guests: &Path) -> Result<Self> {
        Ok(Self {
            program: program.canonicalize().context("the bridge is missing: cargo build --release")?,
            guests: guests.canonicalize().context("the guests are missing: cargo xtask guests")?,
        })
    }

    /// The `plugins:` of a pipeline that runs this guest so many times.
    pub fn plugins(&self, guest: &str, count: usize) -> String {
        let config = if guest == "json-schema" { schema_config() } else { "{}".to_owned() };
        let component = self.guests.join(format!("{guest}.wasm"));
        let plugin = |number: usize| {
            format!("  - {{ name: p{number}, component: {}, config: {config} }}\n", component.display())
        };
        match count {
            0 => String::new(),
            _ => format!("plugins:\n{}", (0..count).map(plugin).collect::<String>()),
        }
    }

    /// Starts `portcullis run` on one pipeline. Its log is `log` in the folder; compiled components are kept in `cache` where
    /// one is given, which the bridge makes itself, for its user alone.
    ///
    /// # Errors
    /// When the files cannot be written or the program cannot be started.
    pub fn start(&self, folder: &Path, pipeline: &str, cache: Option<&Path>) -> Result<Contestant> {
        let file = folder.join("bench.yaml");
        fs::write(&file, pipeline)?;
        let cache = cache.map_or_else(String::new, |cache| format!("cache: {{ dir: \"{}\" }}\n", cache.display()));
        fs::write(
            folder.join("portcullis.yaml"),
            format!(
                "audit: {{ file: \"{}\" }}\nadmin: {{ listen: \"127.0.0.1:0\" }}\npipelines_may_name: {{ files: [\"{}/**\"] }}\n{cache}",
                folder.join("audit.jsonl").display(),
                self.guests.display()
            ),
        )?;
        let mut command = Command::new(&self.program);
        command.arg("run").arg(&file);
        spawn(&mut command, folder)
    }
}

/// A pipeline from Kafka to Kafka, without plugins.
pub struct KafkaToKafka<'a> {
    /// The broker of both ends.
    pub brokers: &'a str,
    /// Topics that it reads.
    pub sources: &'a [String],
    /// The consumer group.
    pub group: &'a str,
    /// The topic that it writes.
    pub destination: &'a str,
    /// How long its producer may wait to fill a batch; as long as by default when absent.
    pub linger_ms: Option<u32>,
    /// One for each core when absent.
    pub lanes: Option<usize>,
}

impl KafkaToKafka<'_> {
    /// The file, to which plugins may be added at its end.
    pub fn yaml(&self) -> String {
        let Self { brokers, sources, group, destination, .. } = self;
        let lanes = self.lanes.map_or_else(String::new, |lanes| format!("lanes: {lanes}\n"));
        let linger = self.linger_ms.map_or_else(String::new, |linger_ms| format!(", linger: {linger_ms}ms"));
        let sources = sources.join(", ");
        format!(
            "pipeline: bench\n{lanes}source:\n  kafka: {{ brokers: \"{brokers}\", topics: [{sources}], group: {group} }}\n\
             sink:\n  kafka: {{ brokers: \"{brokers}\", topic: {destination}{linger} }}\n"
        )
    }
}

/// Starts a contestant whose standard error is `log` in the folder.
///
/// # Errors
/// When it cannot be started.
pub fn spawn(command: &mut Command, folder: &Path) -> Result<Contestant> {
    let log = fs::File::create(folder.join("log"))?;
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
    Ok(Contestant::new(child.with_context(|| format!("cannot start {:?}", command.get_program()))?))
}

/// A contestant's log.
pub fn log_of(folder: &Path) -> String {
    fs::read_to_string(folder.join("log")).unwrap_or_default()
}
