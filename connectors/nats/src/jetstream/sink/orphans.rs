use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use async_nats::Client;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use portcullis_connector_api::ConnectorError;

use crate::jetstream::setup::{self, Destination};
use crate::settings::JetStreamSinkSettings;

/// For logs and `/ready`: a subject by template holds what its message brought.
pub(super) const BY_TEMPLATE: &str = "a subject by template";
/// Questions at once.
const QUESTIONS: usize = 64;
/// Behind a question that was not answered, until the next one, which goes alone.
const REST: Duration = Duration::from_secs(1);
/// Subjects that are remembered as a stream's.
const KNOWN: usize = 4096;

/// Subjects by template whose messages wait in the outbox until it is known whether a stream takes them. Over all connections:
/// on the next one they would be silent again.
#[derive(Default)]
pub(super) struct Orphans(HashMap<String, Silence>);

/// What is known of a subject without a confirmation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// The server has said that nobody listens. A stream that is there all the same has no leader at the moment.
    NoResponders,
    /// Nothing: the confirmation may be lost, or somebody listens who is no stream.
    Unknown,
}

impl Orphans {
    pub(super) fn hold(&mut self, subject: &str, silence: Silence) {
        match self.0.get_mut(subject) {
            Some(known) if silence == Silence::NoResponders => *known = silence,
            Some(_) => {}
            None => drop(self.0.insert(subject.to_owned(), silence)),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn holds(&self, subject: &str) -> bool {
        !self.0.is_empty() && self.0.contains_key(subject)
    }

    pub(super) fn let_go(&mut self, subject: &str) -> Option<Silence> {
        self.0.remove(subject)
    }
}

/// What JetStream says of a subject.
pub(super) struct Verdict {
    pub(super) subject: String,
    pub(super) asked: Instant,
    pub(super) found: Result<Destination, ConnectorError>,
}

/// Asks on a connection which subjects are a stream's, beside what is sent on it: producers may choose subjects, and those
/// that no stream takes must hold up nobody.
pub(super) struct Asker<'a> {
    client: Client,
    settings: &'a JetStreamSinkSettings,
    queue: VecDeque<String>,
    /// In the queue or asked.
    open: HashSet<String>,
    asked: FuturesUnordered<BoxFuture<'a, Verdict>>,
    known: HashSet<String>,
    /// The last question was not answered, and none goes out before this.
    rest: Option<Instant>,
}

impl<'a> Asker<'a> {
    pub(super) fn new(client: &Client, settings: &'a JetStreamSinkSettings, orphans: &Orphans) -> Self {
        let mut asker = Self {
            client: client.clone(),
            settings,
            queue: VecDeque::new(),
            open: HashSet::new(),
            asked: FuturesUnordered::new(),
            known: HashSet::new(),
            rest: None,
        };
        orphans.0.keys().for_each(|subject| asker.ask(subject));
        asker
    }

    pub(super) fn ask(&mut self, subject: &str) {
        if !self.open.contains(subject) {
            self.open.insert(subject.to_owned());
            self.queue.push_back(subject.to_owned());
        }
    }

    /// Whether JetStream has said on this connection that a stream takes it.
    pub(super) fn knows(&self, subject: &str) -> bool {
        self.known.contains(subject)
    }

    /// Whether a question was not answered and no other has been since.
    pub(super) fn is_puzzled(&self) -> bool {
        self.rest.is_some()
    }

    /// Sends the questions that are due.
    pub(super) fn go_on(&mut self) {
        let at_once = match self.rest {
            Some(until) if Instant::now() < until => return,
            Some(_) => 1,
            None => QUESTIONS,
        };
        while self.asked.len() < at_once {
            let Some(subject) = self.queue.pop_front() else { return };
            let (client, settings) = (self.client.clone(), self.settings);
            let question = async move {
                let (asked, expected) = (Instant::now(), settings.stream.as_deref());
                let connection = &settings.connection;
                let found = setup::of_subject_in_doubt(&client, connection, &subject, BY_TEMPLATE, expected).await;
                Verdict { subject, asked, found }
            };
            self.asked.push(question.boxed());
        }
    }

    /// Never comes where nothing is asked.
    pub(super) async fn verdict(&mut self) -> Verdict {
        match self.asked.next().await {
            Some(verdict) => verdict,
            None => std::future::pending().await,
        }
    }

    /// Notes what an answer says of the questions themselves. One without an answer is asked again, behind the others.
    pub(super) fn note(&mut self, verdict: &Verdict, answered: bool) {
        self.open.remove(&verdict.subject);
        if !answered {
            self.rest = Some(Instant::now() + REST);
            return self.ask(&verdict.subject);
        }
        self.rest = None;
        if matches!(verdict.found, Ok(Destination::There)) {
            if self.known.len() >= KNOWN {
                self.known.clear();
            }
            self.known.insert(verdict.subject.clone());
        }
    }
}
