//! Where audit events go: the adapter between the audit's writer and a topic or a file, and the watch over both.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;

use anyhow::Context as _;
use portcullis_audit::{AuditRecord, Context, FileStore, MemoryStore, Options, Receipt, Recorder, Store, StoreError};
use portcullis_config::{AuditTarget, Diagnostic, Node};
use portcullis_connector_api::{
    Bytes, Confirm, ConnectorError, Fate, Header, Headers, Message, SendError, Sink, Token,
};

use sha2::{Digest, Sha256};

use crate::telemetry::names::Metric;
use crate::telemetry::readiness::Readiness;

/// Where events go when the node names no place: in the working directory.
const DEFAULT_FILE: &str = "portcullis-audit.jsonl";
/// Events that may wait for the store.
const CAPACITY: usize = 32 * 1024;
/// Past this the pipelines take nothing more in and the lanes wait: the slices in work, two events a message, fit in the rest.
const PAUSE_AT: u64 = CAPACITY as u64 / 4;
const WATCH: Duration = Duration::from_millis(100);
const CHECK_WAIT: Duration = Duration::from_secs(10);

/// Where events go.
#[derive(Clone, Debug)]
pub enum Target {
    /// JSON lines.
    File(PathBuf),
    /// A topic.
    #[cfg(feature = "kafka")]
    Topic(Box<portcullis_connector_kafka::Connection>, String),
}

impl Target {
    /// What the node's settings say.
    ///
    /// # Errors
    /// A profile that is not declared, at its place.
    pub fn of(node: &Node) -> Result<Self, Diagnostic> {
        match node.audit.target.as_ref().map(|target| (&target.at, &target.value)) {
            None => Ok(Self::File(DEFAULT_FILE.into())),
            Some((_, AuditTarget::File(path))) => Ok(Self::File(path.clone())),
            #[cfg(feature = "kafka")]
            Some((at, AuditTarget::Topic(topic))) => {
                let connection = crate::connectors::kafka_connection(at, &topic.connection, node)?;
                Ok(Self::Topic(Box::new(connection), topic.topic.value.clone()))
            }
            #[cfg(not(feature = "kafka"))]
            Some((at, AuditTarget::Topic(_))) => Err(crate::connectors::not_built(at, "kafka")),
        }
    }

    /// For people.
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            #[cfg(feature = "kafka")]
            Self::Topic(connection, topic) => format!("topic {topic} at {}", connection.brokers),
        }
    }

    fn open(&self) -> anyhow::Result<Box<dyn Store>> {
        match self {
            Self::File(path) => {
                let store =
                    FileStore::open(path).with_context(|| format!("cannot open the audit file {}", path.display()))?;
                Ok(Box::new(store))
            }
            #[cfg(feature = "kafka")]
            Self::Topic(connection, topic) => {
                use portcullis_connector_kafka::{KafkaSink, SinkSettings, TopicRule};
                let settings = SinkSettings::new((**connection).clone(), TopicRule::Fixed(topic.clone()));
                let confirmed = Arc::new(Confirmed::default());
                let sink = KafkaSink::new(settings, confirmed.clone())?;
                sink.check(CHECK_WAIT).with_context(|| format!("the audit's {}", self.name()))?;
                Ok(Box::new(TopicStore { sink: Box::new(sink), topic: topic.clone(), confirmed }))
            }
        }
    }
}

/// A recorder with the watch over it.
pub struct Audit {
    /// Takes the events.
    pub recorder: Recorder,
    /// Confirms `audit.boot`.
    pub boot: Receipt,
    /// Set while so many events wait that the pipelines must take nothing more in.
    pub full: Arc<AtomicBool>,
}

/// Who this process is, as every event says it.
fn context(target: &Target) -> Context {
    let read = |path: &str| std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    let hostname = Some(read("/proc/sys/kernel/hostname")).filter(|name| !name.is_empty());
    let hostname = hostname.unwrap_or_else(|| "localhost".to_owned());
    // The same over restarts, different on every machine, and telling nothing of the machine's own id.
    let seed = format!("portcullis\0{}\0{hostname}", read("/etc/machine-id"));
    let digest = Sha256::digest(seed.as_bytes());
    let instance_uid = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    Context {
        instance_uid,
        hostname,
        product_version: env!("CARGO_PKG_VERSION").to_owned(),
        wasmtime_version: env!("WASMTIME_VERSION").to_owned(),
        log_name: target.name(),
    }
}

/// Opens the store and starts the writer. `config_sha256` is what `audit.boot` says of the configuration.
///
/// # Errors
/// When the topic does not exist, the broker cannot be reached or the file cannot be opened: nothing may run then.
pub fn start(
    target: &Target,
    deadline: Duration,
    readiness: Readiness,
    config_sha256: Option<String>,
) -> anyhow::Result<Audit> {
    let store = target.open()?;
    let options = Options { capacity: CAPACITY, deadline, config_sha256, ..Options::default() };
    let (recorder, boot) = Recorder::start(context(target), options, store)?;
    let full = Arc::new(AtomicBool::new(false));
    watch(&recorder, full.clone(), readiness)?;
    Ok(Audit { recorder, boot, full })
}

/// A recorder whose events stay in this process, for trials of a component.
///
/// # Errors
/// When the system gives no thread.
pub(crate) fn in_memory(store: MemoryStore) -> anyhow::Result<Recorder> {
    let context = context(&Target::File("memory".into()));
    Ok(Recorder::start(context, Options { capacity: CAPACITY, ..Options::default() }, store)?.0)
}

/// Shows the audit's state in metrics and on `/ready`, for as long as anybody else holds a recorder.
fn watch(recorder: &Recorder, full: Arc<AtomicBool>, readiness: Readiness) -> std::io::Result<()> {
    let alive = Arc::downgrade(&full);
    let recorder = recorder.clone();
    drop(full);
    std::thread::Builder::new().name("audit-watch".into()).spawn(move || {
        let lost = Metric::AuditLost.counter(&[]);
        while let Some(full) = Weak::upgrade(&alive) {
            let status = recorder.status();
            full.store(status.recorded.saturating_sub(status.confirmed) > PAUSE_AT, Ordering::Relaxed);
            drop(full);
            for (code, count) in &status.by_code {
                Metric::AuditEvents.counter(&[("code", code.as_str())]).absolute(*count);
            }
            lost.absolute(status.lost_events);
            readiness.report("audit", status.fault);
            std::thread::sleep(WATCH);
        }
    })?;
    Ok(())
}

/// The audit topic, through the same sink that messages take, on a producer of its own.
struct TopicStore {
    sink: Box<dyn Sink>,
    topic: String,
    confirmed: Arc<Confirmed>,
}

impl Store for TopicStore {
    fn append(&mut self, record: &AuditRecord) -> Result<(), StoreError> {
        let mut message = Message::new(self.topic.as_str());
        message.key = Some(Bytes::copy_from_slice(record.key.as_bytes()));
        message.value = Some(Bytes::copy_from_slice(&record.value));
        message.headers = record
            .headers
            .iter()
            .map(|(name, value)| Header::new(Bytes::from_static(name.as_bytes()), Some(value.clone())))
            .collect::<Headers>();
        match self.sink.send(&message, Token(record.sequence)) {
            Ok(()) => Ok(()),
            Err(SendError::Full) => {
                self.sink.wait_for_room(WATCH);
                Err(StoreError::Unavailable("the producer's queue is full".to_owned()))
            }
            Err(error) => Err(StoreError::Unavailable(error.to_string())),
        }
    }

    fn confirmed(&mut self, wait: Duration) -> Result<u64, StoreError> {
        let state = self.confirmed.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = state.contiguous;
        let nothing_new = |state: &mut State| state.contiguous == before && state.failed.is_none();
        let waited = self.confirmed.moved.wait_timeout_while(state, wait, nothing_new);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match state.failed.take() {
            Some(failure) => Err(StoreError::Unavailable(failure)),
            None => Ok(state.contiguous),
        }
    }
}

/// What the producer's thread has reported.
#[derive(Default)]
struct Confirmed {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
struct State {
    /// Every record up to this one is stored.
    contiguous: u64,
    /// Beyond a gap. Bounded by the producer's queue.
    beyond: BTreeSet<u64>,
    failed: Option<String>,
}

impl Confirm for Confirmed {
    fn confirm(&self, token: Token, fate: Fate) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match fate {
            Fate::Stored(_) => {
                state.beyond.insert(token.0);
                loop {
                    let next = state.contiguous + 1;
                    if !state.beyond.remove(&next) {
                        break;
                    }
                    state.contiguous = next;
                }
            }
            Fate::Refused(refusal) => state.failed = Some(refusal.to_string()),
            Fate::Failed(error) => state.failed = Some(describe(&error)),
        }
        drop(state);
        self.moved.notify_all();
    }
}

fn describe(error: &ConnectorError) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_the_audit_says_how_many_events_wait() {
        let page = include_str!("../docs/audit.md");
        let sentence = format!("events wait ({CAPACITY} of them); at a quarter of that the pipelines take nothing");
        assert!(page.contains(&sentence), "{sentence}");
        assert_eq!(PAUSE_AT * 4, CAPACITY as u64);
    }
}
