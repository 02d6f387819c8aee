mod reports;

use std::ffi::CString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use portcullis_connector_api::{
    Confirm, ConnectorError, ErrorKind, Message, Refusal, RefusalKind, SendError, Sink, Token,
};
use rdkafka::types::RDKafkaErrorCode as Code;

use crate::client_config::{self, TOPIC_NAME_RULE};
use crate::failure::{self, Undelivered};
use crate::native::{Destination, Producer, TopicHandle};
use crate::settings::{SinkSettings, TopicRule};

use reports::Reports;

/// The longest that the end is not noticed by the thread that polls.
const POLL: Duration = Duration::from_millis(50);
/// Between two questions whether an outage is over, and how long one may take.
const PROBE: Duration = Duration::from_millis(500);
/// For the producer's end, after which its threads are left to the end of the process.
const CLOSE: Duration = Duration::from_secs(5);

/// A producer as a sink: idempotent, `acks=all`, with Java's partitioner, and with all the time that an outage takes. See
/// the contract of [`Sink`].
///
/// A timestamp of exactly 0 is stored as 1: librdkafka takes 0 for "none given" and would store the time of sending.
pub struct KafkaSink {
    /// `None` only while dropping. Before the producer: a topic refers to it.
    topic: Option<TopicHandle>,
    producer: Option<Arc<Producer<Reports>>>,
    settings: SinkSettings,
    stop: Arc<AtomicBool>,
    ended: Mutex<Receiver<()>>,
}

impl KafkaSink {
    /// Makes the producer and the thread that confirms. Returns at once; brokers are reached later.
    ///
    /// # Errors
    /// `Configuration` for a setting that librdkafka refuses or that [`refused`](crate::refused) names, and for a topic
    /// name that Kafka does not take.
    pub fn new(settings: SinkSettings, confirm: Arc<dyn Confirm>) -> Result<Self, ConnectorError> {
        let config = client_config::sink(&settings)?;
        let name = match &settings.topic {
            TopicRule::Fixed(name) if !client_config::is_topic_name(name) => {
                let context = format!("{name:?} is no topic name: {TOPIC_NAME_RULE}");
                return Err(ConnectorError::new(ErrorKind::Configuration, context));
            }
            TopicRule::Fixed(name) => Some(name.clone()),
            TopicRule::Each(_) => None,
        };
        let producer = Arc::new(Producer::new(&config, Reports::new(confirm, name.is_none()))?);
        let topic = match &name {
            Some(name) => Some(producer.topic(name).map_err(|code| failure::error(code, format!("topic `{name}`")))?),
            None => None,
        };
        let stop = Arc::new(AtomicBool::new(false));
        let (end, ended) = sync_channel(1);
        let (polled, stopping) = (Arc::clone(&producer), Arc::clone(&stop));
        thread::Builder::new()
            .name("kafka-sink".to_owned())
            .spawn(move || run(polled, name, &stopping, &end))
            .map_err(|error| ConnectorError::new(ErrorKind::Fatal, "no thread for the sink").caused_by(error))?;
        Ok(Self { topic, producer: Some(producer), settings, stop, ended: Mutex::new(ended) })
    }

    fn producer(&self) -> Result<&Producer<Reports>, ConnectorError> {
        self.producer.as_deref().ok_or_else(|| ConnectorError::new(ErrorKind::Fatal, "the sink is closed"))
    }

    fn reports(&self) -> Option<&Reports> {
        self.producer.as_deref().map(|producer| &**producer.client().context())
    }

    fn not_sent(&self, code: Code, topic: &str) -> SendError {
        match code {
            Code::QueueFull => SendError::Full,
            // The producer is dead; why, it said before.
            Code::Fatal => SendError::Fatal(
                self.reports()
                    .and_then(Reports::fatal)
                    .unwrap_or_else(|| failure::error(code, "the producer has failed")),
            ),
            code => match failure::undelivered(code, topic, matches!(self.settings.topic, TopicRule::Each(_))) {
                Undelivered::Refused(refusal) => SendError::Refused(refusal),
                Undelivered::Failed(error) => SendError::Fatal(error),
            },
        }
    }

    fn send_to(&self, to: Destination<'_>, name: &str, message: &Message, token: Token) -> Result<(), SendError> {
        let producer = self.producer().map_err(SendError::Fatal)?;
        let reports = producer.client().context();
        if reports.is_dead() {
            return Err(self.not_sent(Code::Fatal, name));
        }
        // Before the message can be confirmed on the other thread.
        reports.sending();
        producer.produce(to, message, token).map_err(|code| {
            reports.not_sent();
            self.not_sent(code, name)
        })
    }
}

impl Sink for KafkaSink {
    fn send(&self, message: &Message, token: Token) -> Result<(), SendError> {
        match (&self.settings.topic, &self.topic) {
            (TopicRule::Fixed(name), Some(topic)) => self.send_to(Destination::Topic(topic), name, message, token),
            (TopicRule::Each(topic_of), _) => {
                let name = topic_of(message).map_err(SendError::Refused)?;
                let rejected = || {
                    let detail = format!("{name:?} is no topic name: {TOPIC_NAME_RULE}");
                    SendError::Refused(Refusal { kind: RefusalKind::Rejected, detail })
                };
                if !client_config::is_topic_name(&name) {
                    return Err(rejected());
                }
                let c_name = CString::new(name.as_bytes()).map_err(|_| rejected())?;
                self.send_to(Destination::Name(&c_name), &name, message, token)
            }
            (TopicRule::Fixed(_), None) => {
                Err(SendError::Fatal(ConnectorError::new(ErrorKind::Fatal, "the sink is closed")))
            }
        }
    }

    fn wait_for_room(&self, wait: Duration) {
        if let Some(reports) = self.reports() {
            reports.wait_for_confirmation(wait);
        }
    }

    fn unconfirmed(&self) -> u64 {
        self.reports().map_or(0, Reports::unconfirmed)
    }

    fn not_ready(&self) -> Option<String> {
        self.reports().and_then(Reports::outage)
    }

    fn drain(&self, wait: Duration) -> u64 {
        let deadline = Instant::now() + wait;
        let Some(reports) = self.reports() else { return 0 };
        loop {
            let left = reports.unconfirmed();
            let time = deadline.saturating_duration_since(Instant::now());
            if left == 0 || time.is_zero() {
                return left;
            }
            reports.wait_for_confirmation(time);
        }
    }

    fn abandon(&self) {
        let Some(producer) = self.producer.as_deref() else { return };
        // First: what a lane hands over meanwhile is then refused here, or purged by the thread that polls.
        producer.client().context().abandon();
        producer.purge();
    }

    fn check(&self, wait: Duration) -> Result<(), ConnectorError> {
        let producer = self.producer()?;
        let name = match &self.settings.topic {
            TopicRule::Fixed(name) => Some(name.as_str()),
            TopicRule::Each(_) => None,
        };
        // librdkafka asks for its producer id after each answer, else every 500 ms. The first answer comes over the connection
        // to the bootstrap broker, which it then closes: without a second one the first message would wait for that.
        let client = producer.client();
        let deadline = Instant::now() + wait;
        let left = || deadline.saturating_duration_since(Instant::now());
        let metadata = client.fetch_metadata(name, wait).and_then(|_| client.fetch_metadata(name, left()));
        // What the other thread has learned meanwhile says more than the time-out here.
        let reports = producer.client().context();
        let metadata = metadata.map_err(|error| {
            let unreachable = || failure::from_rdkafka("cannot reach the brokers of the sink", &error);
            reports.fatal().unwrap_or_else(|| match reports.outage() {
                Some(outage) => ConnectorError::new(ErrorKind::Retriable, outage),
                None => unreachable(),
            })
        })?;
        let Some(name) = name else { return Ok(()) };
        let error =
            metadata.topics().iter().find(|topic| topic.name() == name).map(|topic| topic.error().map(Code::from));
        match error {
            Some(None) => Ok(()),
            Some(Some(Code::LeaderNotAvailable)) => Err(failure::error(
                Code::LeaderNotAvailable,
                format!("topic `{name}` has a partition without a leader"),
            )),
            Some(Some(code)) => Err(ConnectorError::new(
                ErrorKind::Configuration,
                format!("cannot write to topic `{name}`: it does not exist or must not be seen ({code:?})"),
            )),
            None => Err(ConnectorError::new(ErrorKind::Configuration, format!("topic `{name}` does not exist"))),
        }
    }
}

impl Drop for KafkaSink {
    fn drop(&mut self) {
        self.topic = None;
        self.producer = None;
        self.stop.store(true, Ordering::Release);
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        if ended.recv_timeout(CLOSE).is_err() {
            tracing::warn!("a producer did not end in time; its threads stay until the process ends");
        }
    }
}

/// Confirms what was delivered until the sink is dropped; then ends every message that is left, so that each token is
/// confirmed once, and the producer, which can wait for ever (confluentinc/librdkafka#4674 and others).
fn run(producer: Arc<Producer<Reports>>, topic: Option<String>, stop: &AtomicBool, end: &SyncSender<()>) {
    let reports = Arc::clone(producer.client().context());
    let mut next_probe = Instant::now();
    while !stop.load(Ordering::Acquire) {
        producer.poll(POLL);
        reports.wake();
        if reports.is_dead() && reports.unconfirmed() > 0 {
            producer.purge();
        }
        // librdkafka says when the last broker goes, and nothing when one comes back. A delivery would show it.
        if reports.is_out() && reports.unconfirmed() == 0 && next_probe <= Instant::now() {
            next_probe = Instant::now() + PROBE;
            if producer.client().fetch_metadata(topic.as_deref(), PROBE).is_ok() {
                reports.recovered();
            }
        }
    }
    let deadline = Instant::now() + CLOSE / 2;
    while reports.unconfirmed() > 0 && Instant::now() < deadline {
        producer.purge();
        producer.poll(Duration::from_millis(5));
    }
    reports.wake();
    drop(producer);
    if end.send(()).is_err() {
        tracing::debug!("nobody waited for the producer's end");
    }
}
