//! What was typed: pipeline files and the node's file as typed values with positions, every error of a file at once.
//!
//! Nothing here opens a connection or loads a component. What a value means (does the component exist, can this pair give
//! that delivery) is decided later by the plan, which finds in each [`Located`] value the place to point at.
#![forbid(unsafe_code)]

mod connector;
mod diagnostic;
mod egress;
mod environment;
mod file;
mod kafka;
mod layers;
mod levels;
mod load;
mod location;
mod may_name;
mod nats;
mod nearest;
mod node;
mod pipeline;
mod plugin;
mod profile;
mod read;
mod schema;
mod secret;
mod template;
mod units;
mod within;
mod yaml;

pub use connector::{Connector, FileEnd, Format, Generator, Sink, Source};
pub use diagnostic::{Code, Diagnostic, Diagnostics};
pub use egress::{ClientCert, Dns, EgressGrant, EgressMode, EgressRule, NodeEgress, NodeTls, Roots, SecretHeader};
pub use environment::{Environment, NoEnvironment, ProcessEnvironment};
pub use file::{ReadError, read_file};
pub use kafka::{
    Cluster, Compression, Isolation, KafkaConnection, KafkaSink, KafkaSource, OutOfRange, Queue, Sasl, SaslMechanism,
    Start, Tls,
};
pub use layers::{Flags, NODE_FILE, VARIABLE_PREFIX, discover_node};
pub use levels::{Ceilings, LevelLimits, QueueLimit, Tenant};
pub use load::{
    PartlyRead, configuration_bytes, load_node, load_pipeline, load_pipeline_partly, read_node, read_pipeline,
};
pub use location::{Located, Location, Setting, SourceText};
pub use may_name::{Listed, MayName};
pub use nats::{
    ConsumerSpec, InDoubt, JetStreamSink, JetStreamSource, NatsAuth, NatsCluster, NatsConnection, NatsKey, NatsSink,
    NatsSource, NatsTls, NatsWindow, Retention, Storage, StreamSpec, nats_connections,
};
pub use node::{
    Admin, Audit, AuditMode, AuditTarget, AuditTopic, Cache, Log, LogFormat, LogLevel, Mode, Node, OnUnavailable,
    TapLevel, connections,
};
pub use pipeline::{Delivery, Order, Pipeline, Window};
pub use plugin::{
    Clock, Disposition, Dispositions, Grants, Instance, Limits, Plugin, PluginConfig, PluginLogLevel, Retry,
};
pub use profile::{Profile, Profiles};
pub use schema::{SchemaOf, schema};
pub use secret::{Secret, SecretSource};
pub use template::{Part, Template};
pub use units::{Rate, UnitError, format_duration, format_size, parse_duration, parse_rate, parse_size};

#[cfg(test)]
mod egress_tests;
#[cfg(test)]
mod levels_tests;
#[cfg(test)]
mod may_name_tests;
#[cfg(test)]
mod nats_tests;
#[cfg(test)]
mod node_tests;
#[cfg(test)]
mod pipeline_tests;
#[cfg(test)]
mod profile_tests;
#[cfg(test)]
mod vector_tests;
