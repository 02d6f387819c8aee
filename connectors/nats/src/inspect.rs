//! What a server says of itself, its streams and our rights, for whoever looks before a start. Nothing here reads or publishes
//! a message, and nothing is made.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use portcullis_connector_api::ConnectorError;
use tokio::runtime::Handle;

use crate::jetstream::look;
use crate::link::{self, Link};
use crate::settings::{Connection, JetStreamSinkSettings, JetStreamSourceSettings, Retention, Storage};
use crate::{Counters, runtime};

/// Messages of the subscription that takes answers: they are asked for one by one.
const ANSWERS: usize = 16;
/// Each costs a connection at the same time as the others; no cluster has so many.
const MAX_SERVERS: usize = 64;

/// One of the servers that the configuration names.
#[derive(Clone, Debug)]
pub struct ServerFacts {
    /// As it was typed.
    pub server: String,
    /// What it says, or why it cannot be reached.
    pub found: Result<Greeting, String>,
}

/// What a server says when a client connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Its version.
    pub version: String,
    /// Its name.
    pub name: String,
    /// Bytes of a message at most.
    pub max_payload: usize,
    /// Whether it is about to shut down.
    pub lame_duck: bool,
}

/// A stream that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamFacts {
    /// Where it is kept.
    pub storage: Storage,
    /// What leaves it.
    pub retention: Retention,
    /// Copies.
    pub replicas: u64,
    /// The subjects that it takes.
    pub subjects: Vec<String>,
    /// Messages leave it after this long; `None`: never.
    pub max_age: Option<Duration>,
    /// Within this time a message id is taken once.
    pub duplicate_window: Duration,
    /// Whether nothing can be added to it any more.
    pub sealed: bool,
    /// The server's clock, where it tells it.
    pub clock: Option<ClockReading>,
}

/// The server's clock, read between two looks at ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockReading {
    /// Ours, before the question.
    pub asked: SystemTime,
    /// The server's.
    pub server: SystemTime,
    /// Ours, when the answer was there.
    pub answered: SystemTime,
}

impl ClockReading {
    /// How far ours is from the server's at least; zero where the way of the question can explain all of it. True where
    /// ours is ahead.
    pub fn difference(&self) -> (Duration, bool) {
        match (self.asked.duration_since(self.server), self.server.duration_since(self.answered)) {
            (Ok(ahead), _) => (ahead, true),
            (_, Ok(behind)) => (behind, false),
            _ => (Duration::ZERO, false),
        }
    }
}

/// What the server lets us do, by its own list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    pub(crate) publish: Subjects,
    pub(crate) subscribe: Subjects,
}

/// Subjects with their wildcards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Subjects {
    /// `None`: every one that is not denied.
    pub(crate) allow: Option<Vec<String>>,
    pub(crate) deny: Vec<String>,
}

impl Permissions {
    /// Whether messages may be published to this subject.
    pub fn may_publish(&self, subject: &str) -> bool {
        self.publish.allows(subject)
    }

    /// Whether this subject, perhaps with wildcards, may be subscribed to.
    pub fn may_subscribe(&self, subject: &str) -> bool {
        self.subscribe.allows(subject)
    }
}

impl Subjects {
    fn allows(&self, subject: &str) -> bool {
        let allowed = self.allow.as_ref().is_none_or(|allow| allow.iter().any(|pattern| covers(pattern, subject)));
        allowed && !self.deny.iter().any(|pattern| covers(pattern, subject))
    }
}

/// A connection that asks.
pub struct Inspector {
    handle: Handle,
    link: Link,
    connection: Connection,
}

impl Inspector {
    /// Connects to each of the servers and keeps the first that answers.
    ///
    /// # Errors
    /// What is wrong with how the connection is written.
    pub fn connect(connection: &Connection) -> Result<(Vec<ServerFacts>, Option<Self>), ConnectorError> {
        link::judge(connection)?;
        let handle = runtime::handle()?;
        let counters = Arc::new(Counters::default());
        let servers = connection.servers.len().min(MAX_SERVERS);
        let attempts = (0..servers).map(|attempt| link::connect(connection, attempt, ANSWERS, &counters));
        let answers = handle.block_on(join_all(attempts));
        let mut first = None;
        let mut facts = Vec::new();
        for (server, answer) in connection.servers.iter().zip(answers) {
            let found = answer.map_err(|error| error.to_string()).map(|link| {
                let info = link.client.server_info();
                first.get_or_insert(link);
                Greeting {
                    version: info.version,
                    name: info.server_name,
                    max_payload: info.max_payload,
                    lame_duck: info.lame_duck_mode,
                }
            });
            facts.push(ServerFacts { server: server.clone(), found });
        }
        let inspector = first.map(|link| Self { handle, link, connection: connection.clone() });
        Ok((facts, inspector))
    }

    /// Whether JetStream answers for this account.
    ///
    /// # Errors
    /// Why it does not.
    pub fn jetstream(&self) -> Result<(), ConnectorError> {
        self.handle.block_on(look::account(&self.link.client, &self.connection))
    }

    /// A stream by its name; `None` when there is none.
    ///
    /// # Errors
    /// When the question is refused or not answered.
    pub fn stream(&self, name: &str) -> Result<Option<StreamFacts>, ConnectorError> {
        self.handle.block_on(look::stream(&self.link.client, &self.connection, name))
    }

    /// Whether the consumer is there, as the source needs it.
    ///
    /// # Errors
    /// When it cannot be read by the source, or the question is refused or not answered.
    pub fn consumer(&self, settings: &JetStreamSourceSettings) -> Result<bool, ConnectorError> {
        self.handle.block_on(look::consumer(&self.link.client, settings))
    }

    /// Whether a stream takes what the sink will publish.
    ///
    /// # Errors
    /// When it is another stream than the expected, or the question is refused or not answered.
    pub fn destination(&self, settings: &JetStreamSinkSettings) -> Result<bool, ConnectorError> {
        self.handle.block_on(look::destination(&self.link.client, settings))
    }

    /// What we may publish and subscribe to; `None` where the server does not say (before 2.9, or where we may not ask).
    pub fn permissions(&self) -> Option<Permissions> {
        self.handle.block_on(look::permissions(&self.link.client, self.connection.timeout))
    }
}

/// Whether everything that `subject` can stand for is in `pattern`.
fn covers(pattern: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for part in pattern.split('.') {
        match (part, tokens.next()) {
            (">", Some(_)) => return true,
            (_, None) | (_, Some(">")) => return false,
            ("*", Some(_)) => {}
            (part, Some(token)) if part == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_covers_what_every_message_of_the_subject_would_match() {
        for (pattern, subject) in [
            (">", "a"),
            ("a.*", "a.b"),
            ("a.>", "a.b.c"),
            ("a.>", "a.*"),
            ("a.*", "a.*"),
            ("a.>", "a.>"),
            ("a.b", "a.b"),
        ] {
            assert!(covers(pattern, subject), "{pattern} {subject}");
        }
        for (pattern, subject) in
            [("a.*", "a"), ("a.*", "a.b.c"), ("a.*", "a.>"), ("a.b", "a.*"), ("a.>", "a"), ("a", "b"), ("a.b", "a")]
        {
            assert!(!covers(pattern, subject), "{pattern} {subject}");
        }
    }

    #[test]
    fn a_denied_subject_is_not_allowed_by_a_wider_pattern() {
        let subjects = Subjects { allow: Some(vec!["orders.>".to_owned()]), deny: vec!["orders.eu".to_owned()] };
        assert!(subjects.allows("orders.us") && !subjects.allows("orders.eu") && !subjects.allows("other"));
        assert!(Subjects::default().allows("anything"));
        let nothing = Subjects { allow: Some(Vec::new()), deny: Vec::new() };
        assert!(!nothing.allows("anything"));
    }

    #[test]
    fn a_clock_differs_only_by_what_the_way_of_the_question_cannot_explain() {
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let reading = |server: u64| ClockReading { asked: at(100), server: at(server), answered: at(102) };
        assert_eq!(reading(101).difference(), (Duration::ZERO, false));
        assert_eq!(reading(90).difference(), (Duration::from_secs(10), true));
        assert_eq!(reading(112).difference(), (Duration::from_secs(10), false));
    }
}
