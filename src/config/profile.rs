use std::collections::BTreeMap;

use crate::{Cluster, Code, Diagnostic, KafkaConnection, Located, NatsCluster, NatsConnection, Node, nearest};

/// How to reach brokers, under a name: credentials stay in the node's file, and pipelines name them.
#[derive(Clone, Debug)]
pub enum Profile {
    /// A Kafka cluster.
    Kafka(Box<KafkaConnection>),
    /// NATS servers, for core NATS and JetStream.
    Nats(Box<NatsConnection>),
}

/// By name. None of them names another one.
pub type Profiles = BTreeMap<String, Located<Profile>>;

/// A kind of profile that something needs.
struct Needed<T> {
    /// The profile as that kind.
    of: fn(&Profile) -> Option<&T>,
    /// The kind for people: "a Kafka cluster is needed".
    what: &'static str,
    /// What a profile is that is not of it.
    other: &'static str,
}

impl Profile {
    /// As a Kafka cluster.
    pub fn kafka(&self) -> Option<&KafkaConnection> {
        match self {
            Self::Kafka(connection) => Some(connection),
            Self::Nats(_) => None,
        }
    }

    /// As NATS servers.
    pub fn nats(&self) -> Option<&NatsConnection> {
        match self {
            Self::Nats(connection) => Some(connection),
            Self::Kafka(_) => None,
        }
    }
}

impl Node {
    /// The connection with its profile put in: what it has itself stays, the rest is the profile's.
    ///
    /// # Errors
    /// The profile is not declared, or is no Kafka cluster.
    pub fn resolve(&self, connection: &KafkaConnection) -> Result<KafkaConnection, Diagnostic> {
        let Cluster::Profile(name) = &connection.cluster else {
            return Ok(connection.clone());
        };
        let mut resolved = self.profile(name, &KAFKA)?.clone();
        resolved.client_id = connection.client_id.clone().or(resolved.client_id);
        resolved.librdkafka.retain(|(key, _)| !connection.librdkafka.iter().any(|(own, _)| own.value == key.value));
        resolved.librdkafka.extend(connection.librdkafka.iter().cloned());
        Ok(resolved)
    }

    /// As [`Node::resolve`], of a connection to NATS.
    ///
    /// # Errors
    /// The profile is not declared, or is not of NATS; or the connection names a JetStream domain of its own, where the
    /// profile's credentials would act in an account's other JetStream.
    pub fn resolve_nats(&self, connection: &NatsConnection) -> Result<NatsConnection, Diagnostic> {
        let NatsCluster::Profile(name) = &connection.cluster else {
            return Ok(connection.clone());
        };
        let mut resolved = self.profile(name, &NATS)?.clone();
        if let Some(domain) = &connection.domain {
            let message = "`domain` beside `profile`: whose credentials are used says where, and that is the profile";
            let help = format!("remove it, or write `domain` into the profile `{}`", name.value);
            return Err(domain.at.diagnostic(Code::KeyConflict, message).help(help));
        }
        resolved.client_name = connection.client_name.clone().or(resolved.client_name);
        resolved.timeout = connection.timeout.clone().or(resolved.timeout);
        Ok(resolved)
    }

    fn profile<'a, T>(&'a self, name: &Located<String>, needed: &Needed<T>) -> Result<&'a T, Diagnostic> {
        let file = self.file.as_ref().map(|file| file.display().to_string());
        find(
            &self.profiles,
            name,
            needed,
            &format!(" of {}", file.as_deref().unwrap_or("the node's file (there is none)")),
        )
    }
}

const KAFKA: Needed<KafkaConnection> = Needed { of: Profile::kafka, what: "a Kafka cluster", other: "a NATS profile" };
const NATS: Needed<NatsConnection> = Needed { of: Profile::nats, what: "NATS", other: "a Kafka profile" };

/// Whether the name is that of a Kafka cluster, said in the file that declares them.
pub(crate) fn check_kafka(profiles: &Profiles, name: &Located<String>) -> Result<(), Diagnostic> {
    find(profiles, name, &KAFKA, "").map(drop)
}

fn find<'a, T>(
    profiles: &'a Profiles,
    name: &Located<String>,
    needed: &Needed<T>,
    place: &str,
) -> Result<&'a T, Diagnostic> {
    let Needed { of, what, other: kind } = needed;
    let found = profiles.get(&name.value);
    if let Some(profile) = found.and_then(|profile| of(&profile.value)) {
        return Ok(profile);
    }
    let fitting = profiles.iter().filter(|(_, profile)| of(&profile.value).is_some()).map(|(name, _)| name);
    let (message, help) = match found {
        Some(other) => (
            format!("profile `{}`, declared at {}, is {kind}, and {what} is needed", name.value, other.at),
            nearest::help(&format!("of {what}"), None, fitting),
        ),
        None => (
            format!("profile `{}` is not declared under `brokers`{place}", name.value),
            nearest::help("declared", Some(name.as_str()), fitting),
        ),
    };
    Err(name.at.diagnostic(Code::ProfileUnknown, message).help(help))
}
