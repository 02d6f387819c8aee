//! JetStream to Kafka as a person would write it with async-nats and rdkafka alone: a pull consumer that asks in batches,
//! and each message acknowledged after Kafka has confirmed it.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::message::Acker;
use futures_util::StreamExt;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, ProducerContext, ThreadedProducer};
use tokio::runtime::Builder;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::bare::PRODUCER;

/// Messages that one request asks for; the bridge has two requests for 500 each.
const BATCH: usize = 1000;
/// Delivered and not acknowledged; the bridge's default for a consumer that it makes. It bounds everything here.
const PENDING: i64 = 5000;

struct Delivered(Sender<Box<Acker>>);

impl ClientContext for Delivered {}

impl ProducerContext for Delivered {
    type DeliveryOpaque = Box<Acker>;

    fn delivery(&self, result: &DeliveryResult<'_>, acker: Box<Acker>) {
        if result.is_ok() {
            // There is room for all that may be delivered. Nobody takes it when the process ends; then it comes again.
            drop(self.0.try_send(acker));
        }
    }
}

/// Runs until the process is killed.
///
/// # Errors
/// When a client cannot be made or fails.
pub fn run(nats: &str, stream: &str, consumer: &str, brokers: &str, destination: &str) -> Result<()> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    for (key, value) in PRODUCER {
        config.set(*key, *value);
    }
    let (delivered, to_acknowledge) = channel(usize::try_from(PENDING)?);
    let producer: ThreadedProducer<Delivered> = config.create_with_context(Delivered(delivered))?;
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (nats, stream, consumer, destination) =
        (nats.to_owned(), stream.to_owned(), consumer.to_owned(), destination.to_owned());
    runtime.spawn(acknowledge(to_acknowledge));
    // A task of its own: the thread of `block_on` would be woken from another one for each batch.
    let forwarded = runtime.spawn(async move {
        let streams = async_nats::jetstream::new(async_nats::connect(nats).await?);
        let config = pull::Config {
            durable_name: Some(consumer),
            ack_policy: AckPolicy::Explicit,
            max_ack_pending: PENDING,
            ..Default::default()
        };
        let consumer = streams.create_consumer_on_stream(config, stream).await?;
        let mut messages = consumer.stream().max_messages_per_batch(BATCH).messages().await?;
        while let Some(message) = messages.next().await {
            let (message, acker) = message?.split();
            let mut record = BaseRecord::with_opaque_to(&destination, Box::new(acker))
                .key(message.subject.as_str())
                .payload(&*message.payload);
            while let Err((error, unsent)) = producer.send(record) {
                if !matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) {
                    return Err(error.into());
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
                record = unsent;
            }
        }
        anyhow::Ok(())
    });
    runtime.block_on(forwarded).context("the loop has panicked")??;
    bail!("the consumer has ended")
}

async fn acknowledge(mut delivered: Receiver<Box<Acker>>) {
    let mut ackers = Vec::new();
    while delivered.recv_many(&mut ackers, BATCH).await > 0 {
        for acker in ackers.drain(..) {
            if let Err(error) = acker.ack().await {
                eprintln!("not acknowledged: {error}");
            }
        }
    }
}
