use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::{Counters, KeyRule, SubjectRule};

/// How to reach the servers.
#[derive(Clone, Debug)]
pub struct Connection {
    /// `nats://host:port` or `tls://host:port`, at least one; tried in turn. A user or password in the address is refused.
    pub servers: Vec<String>,
    /// Who we are. Without it nobody.
    pub auth: Option<Auth>,
    /// TLS. Without it the connection is in clear text, unless the server or the address asks for TLS.
    pub tls: Option<Tls>,
    /// The name that shows in the server's connection list.
    pub client_name: String,
    /// For one attempt to connect, and for one question to the server.
    pub timeout: Duration,
    /// The JetStream domain, for an account that is reached through a leaf node.
    pub domain: Option<String>,
}

impl Connection {
    /// Clear text to these servers, as nobody.
    pub fn plain(servers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            servers: servers.into_iter().map(Into::into).collect(),
            auth: None,
            tls: None,
            client_name: "portcullis".to_owned(),
            timeout: Duration::from_secs(5),
            domain: None,
        }
    }
}

/// A text that no output shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Of this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(not shown)")
    }
}

/// Who we are to the server.
#[derive(Clone, Debug)]
pub enum Auth {
    /// A credentials file with JWT and seed, read anew for each connection.
    Credentials(PathBuf),
    /// A file that holds an nkey seed, read anew for each connection.
    NkeySeed(PathBuf),
    /// A token.
    Token(Secret),
    /// A user and a password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
}

/// Files of a TLS connection, in PEM form.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Certificates of the authorities that may sign the server's; the system's when absent.
    pub ca: Option<PathBuf>,
    /// Our certificate, for servers that ask for one.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// TLS before the server's first line, where the server is set so (`handshake_first`).
    pub first: bool,
}

/// A bound in messages and bytes; the message that passes the bytes is still taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Messages at most.
    pub messages: usize,
    /// Bytes at most.
    pub bytes: usize,
}

/// A subscription of core NATS as a source: at most once.
#[derive(Clone, Debug)]
pub struct CoreSourceSettings {
    /// The servers.
    pub connection: Connection,
    /// Subjects, with `*` for one token and `>` for all that follow.
    pub subjects: Vec<String>,
    /// Members of one queue group share the messages.
    pub queue_group: Option<String>,
    /// What becomes the key of a message that carries none.
    pub key: KeyRule,
    /// What waits for the pipeline; beyond it messages are dropped and counted, because core NATS cannot wait.
    pub window: Window,
    /// What is counted, for the caller's metrics.
    pub counters: Arc<Counters>,
}

impl CoreSourceSettings {
    /// With the defaults of everything that has one.
    pub fn new(connection: Connection, subjects: Vec<String>) -> Self {
        Self {
            connection,
            subjects,
            queue_group: None,
            key: KeyRule::default(),
            window: Window { messages: 65_536, bytes: 64 * 1024 * 1024 },
            counters: Arc::default(),
        }
    }
}

/// Publishing to core NATS: at most once.
#[derive(Clone, Debug)]
pub struct CoreSinkSettings {
    /// The servers.
    pub connection: Connection,
    /// Which subject a message goes to.
    pub subject: SubjectRule,
    /// Messages handed over and not confirmed; more is back-pressure.
    pub window: Window,
    /// What becomes of messages that were under way when a connection broke.
    pub in_doubt: InDoubt,
    /// What is counted, for the caller's metrics.
    pub counters: Arc<Counters>,
}

impl CoreSinkSettings {
    /// With the defaults of everything that has one.
    pub fn new(connection: Connection, subject: SubjectRule) -> Self {
        Self {
            connection,
            subject,
            window: Window { messages: 4096, bytes: 16 * 1024 * 1024 },
            in_doubt: InDoubt::default(),
            counters: Arc::default(),
        }
    }
}

/// What becomes of messages that were under way to core NATS when the connection broke: whether the server had taken them
/// cannot be known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InDoubt {
    /// Counted as in doubt and not sent again: at most once.
    #[default]
    Drop,
    /// Counted as in doubt and sent again: they may come twice.
    Resend,
}

/// A durable pull consumer of a stream as a source.
#[derive(Clone, Debug)]
pub struct JetStreamSourceSettings {
    /// The servers.
    pub connection: Connection,
    /// The stream.
    pub stream: String,
    /// The durable consumer.
    pub consumer: String,
    /// Creates the stream when it is not there. Without it a missing stream ends the pipeline.
    pub create_stream: Option<StreamSpec>,
    /// Creates the consumer when it is not there. Without it a missing consumer ends the pipeline.
    pub create_consumer: Option<ConsumerSpec>,
    /// Which subjects of the stream the consumer must be filtered to, and is when it is created. `None` takes whatever the
    /// consumer has, and everything when it is created.
    pub filter_subjects: Option<Vec<String>>,
    /// What becomes the key of a message that carries none.
    pub key: KeyRule,
    /// What is asked of the server and waits for the pipeline.
    pub window: Window,
    /// The server must say something within twice this while it has nothing for us.
    pub heartbeat: Duration,
    /// What is counted, for the caller's metrics.
    pub counters: Arc<Counters>,
}

impl JetStreamSourceSettings {
    /// With the defaults of everything that has one.
    pub fn new(connection: Connection, stream: impl Into<String>, consumer: impl Into<String>) -> Self {
        Self {
            connection,
            stream: stream.into(),
            consumer: consumer.into(),
            create_stream: None,
            create_consumer: None,
            filter_subjects: None,
            key: KeyRule::default(),
            window: Window { messages: 1000, bytes: 8 * 1024 * 1024 },
            heartbeat: Duration::from_secs(5),
            counters: Arc::default(),
        }
    }
}

/// Publishing into streams with confirmation.
#[derive(Clone, Debug)]
pub struct JetStreamSinkSettings {
    /// The servers.
    pub connection: Connection,
    /// Which subject a message goes to.
    pub subject: SubjectRule,
    /// The stream that must take it (`Nats-Expected-Stream`). Without it, whichever has the subject.
    pub stream: Option<String>,
    /// Creates the stream when it is not there.
    pub create_stream: Option<StreamSpec>,
    /// The beginning of every message id: what tells this pipeline's messages from all others, such as
    /// `TENANT/PIPELINE`. The message's origin follows it.
    pub id_prefix: String,
    /// Messages handed over and not confirmed; more is back-pressure.
    pub window: Window,
    /// Without any confirmation for so long, the connection is given up and everything unconfirmed sent again.
    pub ack_timeout: Duration,
    /// What is counted, for the caller's metrics.
    pub counters: Arc<Counters>,
}

impl JetStreamSinkSettings {
    /// With the defaults of everything that has one.
    pub fn new(connection: Connection, subject: SubjectRule, id_prefix: impl Into<String>) -> Self {
        Self {
            connection,
            subject,
            stream: None,
            create_stream: None,
            id_prefix: id_prefix.into(),
            window: Window { messages: 4096, bytes: 16 * 1024 * 1024 },
            ack_timeout: Duration::from_secs(5),
            counters: Arc::default(),
        }
    }
}

/// A stream to create. One that exists is not changed.
#[derive(Clone, Debug)]
pub struct StreamSpec {
    /// The subjects that it takes.
    pub subjects: Vec<String>,
    /// Where it is kept.
    pub storage: Storage,
    /// What leaves it.
    pub retention: Retention,
    /// Copies.
    pub replicas: u8,
    /// Messages leave it after this long; never when absent.
    pub max_age: Option<Duration>,
    /// Bytes that it keeps; without bound when absent.
    pub max_bytes: Option<u64>,
    /// Within this time a message id is taken once.
    pub duplicate_window: Duration,
}

impl StreamSpec {
    /// On disk, one copy, without bounds.
    pub fn new(subjects: Vec<String>) -> Self {
        Self {
            subjects,
            storage: Storage::File,
            retention: Retention::Limits,
            replicas: 1,
            max_age: None,
            max_bytes: None,
            duplicate_window: Duration::from_secs(120),
        }
    }
}

/// Where a stream is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// On disk.
    #[default]
    File,
    /// In memory.
    Memory,
}

/// What leaves a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retention {
    /// What is beyond its limits.
    #[default]
    Limits,
    /// What every consumer has acknowledged.
    Interest,
    /// What one consumer has acknowledged.
    WorkQueue,
}

/// A consumer to create. One that exists is not changed.
#[derive(Clone, Debug)]
pub struct ConsumerSpec {
    /// Where it starts.
    pub start: Start,
    /// Without an acknowledgement or a sign of progress for so long, a message is delivered again.
    pub ack_wait: Duration,
    /// Messages delivered and not acknowledged at most, over all members.
    pub max_ack_pending: u32,
    /// Deliveries of one message at most; without bound when absent.
    pub max_deliver: Option<u32>,
}

impl Default for ConsumerSpec {
    fn default() -> Self {
        Self { start: Start::Earliest, ack_wait: Duration::from_secs(30), max_ack_pending: 5000, max_deliver: None }
    }
}

/// Where a new consumer starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the oldest message of the stream.
    #[default]
    Earliest,
    /// With the next message.
    Latest,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_in_no_debug_output() {
        let mut connection = Connection::plain(["nats://n:4222"]);
        connection.auth = Some(Auth::Password { user: "pc".into(), password: Secret::new("hunter2") });
        let source = JetStreamSourceSettings::new(connection.clone(), "S", "C");
        connection.auth = Some(Auth::Token(Secret::new("hunter2")));
        let sink = CoreSinkSettings::new(connection, SubjectRule::Fixed("s".into()));
        let shown = format!("{source:?} {sink:?}");
        assert!(shown.contains("\"pc\"") && !shown.contains("hunter2"), "{shown}");
    }
}
