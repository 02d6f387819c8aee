//! Kafka as a source and as a sink, on librdkafka through rdkafka.
//!
//! rdkafka's own consumer is not used: it takes one message a call, panics on a header name that is not UTF-8, and hides
//! which topic and partition an error is about. The module `native` drives librdkafka's batch calls instead, and is the
//! only one with unsafe code.

mod admin;
mod client_config;
mod failure;
pub mod inspect;
mod log;
mod native;
mod preview;
mod record;
mod refused;
mod settings;
mod sink;
mod source;
mod test_broker;

pub use admin::{Topic, advertised_brokers, create_topics, missing_topics};
pub use preview::{Destination, Preview};
pub use refused::{REFUSED, refused};
pub use settings::{
    Compression, Connection, Isolation, Membership, OutOfRange, Sasl, SinkSettings, SourceSettings, Start, Tls,
    TopicOf, TopicRule,
};
pub use sink::KafkaSink;
pub use source::KafkaSource;
pub use test_broker::TestBroker;
