//! NATS: core subjects and JetStream, each as a source and as a sink, on async-nats.
//!
//! Two things of async-nats are not used. Its reconnection sends what was still queued before anything else, so messages
//! that were under way on the old connection would come behind later ones: here a connection lives once, and the sink
//! sends what is unconfirmed again, in order, on the next. Its pull stream asks for a fixed number of messages: here the
//! source asks for what it has room for.

mod backoff;
mod carry;
mod counters;
mod failure;
mod health;
mod inspect;
mod jetstream;
mod link;
mod outbox;
mod percent;
mod pubsub;
mod runtime;
mod sessions;
mod settings;
mod subject;
mod task;

pub use carry::KeyRule;
pub use counters::{Count, Counters};
pub use inspect::{ClockReading, Greeting, Inspector, Permissions, ServerFacts, StreamFacts};
pub use jetstream::{
    JETSTREAM_SINK_EXEMPTIONS, JETSTREAM_SOURCE_EXEMPTIONS, JetStreamReader, JetStreamSink, JetStreamSource,
};
pub use pubsub::{CORE_SINK_EXEMPTIONS, CORE_SOURCE_EXEMPTIONS, CoreSink, CoreSource};
pub use settings::{
    Auth, Connection, ConsumerSpec, CoreSinkSettings, CoreSourceSettings, InDoubt, JetStreamSinkSettings,
    JetStreamSourceSettings, Retention, Secret, Start, Storage, StreamSpec, Tls, Window,
};
pub use subject::{SubjectOf, SubjectRule};
