//! Where the messages of `bench pipe` come from and go to, and how a contestant is told.

use std::path::Path;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::load::{self, Arrivals};
use crate::nats::Nats;

/// From which broker to which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Route {
    /// Topics to a topic
    KafkaKafka,
    /// Topics to a stream
    KafkaJetstream,
    /// A stream to a topic
    JetstreamKafka,
}

impl Route {
    fn reads_kafka(self) -> bool {
        self != Self::JetstreamKafka
    }

    fn writes_kafka(self) -> bool {
        self != Self::KafkaJetstream
    }
}

/// Both ends of a run.
#[derive(Debug)]
pub struct Ends {
    /// From which broker to which.
    pub route: Route,
    /// No earlier run on the same broker has used it.
    pub name: String,
    /// Topics, or one stream.
    pub sources: Vec<String>,
    brokers: String,
    nats: Option<Nats>,
}

impl Ends {
    /// Starts what is missing and fills the source.
    ///
    /// # Errors
    /// When a broker refuses something.
    pub fn fill(route: Route, brokers: &str, nats_server: &Path, count: u64, value_bytes: usize) -> Result<Self> {
        let name = load::run_name()?;
        let nats = match route {
            Route::KafkaKafka => None,
            _ => Some(Nats::start(nats_server).context("a nats-server for the bench")?),
        };
        let sources = if route.reads_kafka() { load::names(&format!("{name}.in")) } else { vec![format!("{name}-in")] };
        let ends = Self { route, name, sources, brokers: brokers.to_owned(), nats };
        eprintln!("filling {} with {count} messages of {value_bytes} B", ends.sources.join(", "));
        match (&ends.nats, ends.sources.first()) {
            (Some(nats), Some(stream)) if !route.reads_kafka() => {
                nats.create(stream)?;
                nats.fill(stream, count, value_bytes)?;
            }
            _ => {
                load::create_topics(brokers, &ends.sources)?;
                load::fill(brokers, &ends.sources, count, value_bytes)?;
            }
        }
        Ok(ends)
    }

    /// Where Kafka is.
    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// Where NATS is; nowhere on a route without it.
    pub fn nats_url(&self) -> &str {
        self.nats.as_ref().map_or("nowhere", Nats::url)
    }

    /// Makes the destination of one contestant in one round.
    ///
    /// # Errors
    /// When the broker refuses it.
    pub fn create_destination(&self, name: &str) -> Result<()> {
        match &self.nats {
            Some(nats) if !self.route.writes_kafka() => nats.create(name),
            _ => load::create_topics(&self.brokers, &[name.to_owned()]),
        }
    }

    /// Forgets what a round has left, so that a long run does not fill the disk.
    ///
    /// # Errors
    /// When the broker refuses it.
    pub fn clean(&self, destination: &str, group: &str) -> Result<()> {
        match (&self.nats, self.sources.first()) {
            (Some(nats), _) if !self.route.writes_kafka() => nats.delete(destination),
            (Some(nats), Some(stream)) => {
                nats.delete_consumer(stream, group)?;
                load::delete_topics(&self.brokers, &[destination.to_owned()])
            }
            _ => load::delete_topics(&self.brokers, &[destination.to_owned()]),
        }
    }

    /// Deletes the source's topics; a stream ends with its server.
    ///
    /// # Errors
    /// When the broker refuses it.
    pub fn end(&self) -> Result<()> {
        if self.route.reads_kafka() { load::delete_topics(&self.brokers, &self.sources) } else { Ok(()) }
    }

    /// What counts the destination by the destination's own books.
    ///
    /// # Errors
    /// When the client cannot be made.
    pub fn counter(&self, destination: &str) -> Result<Box<dyn Fn() -> Result<u64> + '_>> {
        let destination = destination.to_owned();
        Ok(match &self.nats {
            Some(nats) if !self.route.writes_kafka() => Box::new(move || nats.count(&destination)),
            _ => {
                let arrivals = Arrivals::new(&self.brokers, &[destination])?;
                Box::new(move || arrivals.count())
            }
        })
    }

    /// `source` and `sink` of a pipeline.
    pub fn pipeline(&self, group: &str, destination: &str) -> String {
        let (brokers, nats) = (&self.brokers, self.nats_url());
        let source = if self.route.reads_kafka() {
            let topics = self.sources.join(", ");
            format!("kafka: {{ brokers: \"{brokers}\", topics: [{topics}], group: {group} }}")
        } else {
            let stream = self.sources.join(", ");
            format!(
                "jetstream: {{ servers: \"{nats}\", stream: {stream}, consumer: {group}, create_consumer: {{ start: earliest }} }}"
            )
        };
        let sink = if self.route.writes_kafka() {
            format!("kafka: {{ brokers: \"{brokers}\", topic: {destination}, linger: 5ms }}")
        } else {
            format!("jetstream: {{ servers: \"{nats}\", subject: {destination}, stream: {destination} }}")
        };
        format!("pipeline: bench\nsource:\n  {source}\nsink:\n  {sink}\n")
    }
}
