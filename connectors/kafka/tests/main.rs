//! The Kafka connector against librdkafka's test broker and against a real cluster.

mod cluster;
mod mock;
mod scenarios;
mod support;
mod trial;
