//! Clusters: whether they answer, and whether their topics and our rights are what is needed.

use std::collections::BTreeMap;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use portcullis_connector_api::{ConnectorError, ErrorKind};
use portcullis_connector_kafka::inspect::{
    BrokerFacts, ClusterFacts, Found, Inspector, Rights, TopicFacts, TopicState, Unseen,
};

use super::at_once::ask_all;
use super::finding::Report;
use super::needs::{ClusterNeeds, Uses};
use super::settings;
use crate::cli::words::some;

/// Of a larger cluster the others are not dialled.
const MAX_DIALLED: usize = 64;

/// A cluster that has answered.
pub(super) struct Cluster<'a> {
    pub(super) needs: &'a ClusterNeeds,
    pub(super) inspector: Inspector,
    pub(super) facts: ClusterFacts,
    pub(super) topics: BTreeMap<String, Found>,
}

impl Cluster<'_> {
    pub(super) fn brokers(&self) -> usize {
        self.facts.brokers.len().max(1)
    }
}

/// Asks all clusters at the same time. `None` for one that does not answer.
pub(super) fn reach<'a>(needs: &'a [ClusterNeeds], wait: Duration, report: &mut Report) -> Vec<Option<Cluster<'a>>> {
    let answers = ask_all(needs, |needs: &ClusterNeeds| ask(needs, wait));
    let tell = |(needs, answer): (&'a ClusterNeeds, Result<Answer, ConnectorError>)| match answer {
        Ok(answer) => answered(needs, answer, report),
        Err(error) => {
            not_looked_at(needs, &error, report);
            None
        }
    };
    needs.iter().zip(answers).map(tell).collect()
}

fn not_looked_at(needs: &ClusterNeeds, error: &ConnectorError, report: &mut Report) {
    let topics: Vec<&str> = needs.topics.keys().map(String::as_str).collect();
    let found = format!("{error}; not looked at: {}", topics.join(", "));
    let advice = match error.kind {
        ErrorKind::Configuration => "correct `tls`, `sasl` or the setting that is named",
        _ => "start it, or correct `brokers`, its `advertised.listeners`, or the way to it",
    };
    report.fail("kafka.reachable", &needs.name, found, advice);
}

/// What one cluster has answered.
struct Answer {
    inspector: Inspector,
    facts: ClusterFacts,
    /// Brokers that cannot be reached where they say that they are.
    away: Vec<(BrokerFacts, String)>,
    topics: Result<Vec<TopicFacts>, ConnectorError>,
}

fn ask(needs: &ClusterNeeds, wait: Duration) -> Result<Answer, ConnectorError> {
    let inspector = Inspector::new(&needs.connection)?;
    let facts = inspector.cluster(wait)?;
    let away = dial(&facts.brokers, wait);
    let names: Vec<String> = needs.topics.keys().cloned().collect();
    let topics = inspector.topics(&names, wait);
    Ok(Answer { inspector, facts, away, topics })
}

/// A client is sent on from the broker that it was given to where the others say that they are: the addresses that are most
/// often wrong.
fn dial(brokers: &[BrokerFacts], wait: Duration) -> Vec<(BrokerFacts, String)> {
    let deadline = Instant::now() + wait;
    let dialled: Vec<_> = brokers
        .iter()
        .take(MAX_DIALLED)
        .map(|broker| {
            let (host, port) = (broker.host.clone(), broker.port);
            let (told, answer) = sync_channel(1);
            // A name server may take longer than we wait, and cannot be interrupted: the thread is left to itself then.
            let dialling = thread::Builder::new().name("dial".to_owned()).spawn(move || {
                // Nobody may be waiting any more.
                drop(told.send(connect(&host, port, wait)));
            });
            (broker, dialling.map(|_| answer))
        })
        .collect();
    let away = |(broker, answer): (&BrokerFacts, std::io::Result<std::sync::mpsc::Receiver<Result<(), String>>>)| {
        let answer = match answer {
            Ok(answer) => answer.recv_timeout(deadline.saturating_duration_since(Instant::now())),
            Err(error) => Ok(Err(format!("no thread to try it: {error}"))),
        };
        let why = match answer {
            Ok(Ok(())) => return None,
            Ok(Err(why)) => why,
            Err(RecvTimeoutError::Timeout) => "no answer in time".to_owned(),
            Err(RecvTimeoutError::Disconnected) => "the attempt panicked".to_owned(),
        };
        Some((broker.clone(), why))
    };
    dialled.into_iter().filter_map(away).collect()
}

fn connect(host: &str, port: u16, wait: Duration) -> Result<(), String> {
    let addresses = (host, port).to_socket_addrs().map_err(|error| format!("`{host}` has no address: {error}"))?;
    let mut last = format!("`{host}` has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, wait) {
            Ok(_) => return Ok(()),
            Err(error) => last = format!("{address}: {error}"),
        }
    }
    Err(last)
}

fn answered<'a>(needs: &'a ClusterNeeds, answer: Answer, report: &mut Report) -> Option<Cluster<'a>> {
    let Answer { inspector, facts, away, topics } = answer;
    for (broker, why) in &away {
        let found = format!("it says that it is at {}:{}, where it cannot be reached: {why}", broker.host, broker.port);
        let what = format!("{} broker {}", needs.name, broker.id);
        report.fail("kafka.broker", what, found, "correct its `advertised.listeners`, or the way to it");
    }
    let topics = match topics {
        Ok(topics) => topics,
        Err(error) => {
            not_looked_at(needs, &error, report);
            return None;
        }
    };
    let all = facts.brokers.len();
    let dialled = all.min(MAX_DIALLED);
    let rest = if dialled < all { format!(" ({} not tried)", all - dialled) } else { String::new() };
    let reachable = dialled - away.len();
    let found = format!("answers as cluster {}; {reachable} of {} reachable{rest}", facts.id, some(dialled, "broker"));
    report.ok("kafka.reachable", &needs.name, found);
    let topics = topics.into_iter().map(|topic| (topic.name, topic.found)).collect();
    Some(Cluster { needs, inspector, facts, topics })
}

/// Everything that is asked of a cluster that answers.
pub(super) fn check(cluster: &Cluster<'_>, wait: Duration, report: &mut Report) {
    for (name, uses) in &cluster.needs.topics {
        let what = format!("topic {name} ({})", uses.words());
        match cluster.topics.get(name) {
            Some(Found::There(state)) => topic(cluster, (name, &what), uses, state, wait, report),
            Some(Found::Missing) => {
                let advice = "`portcullis doctor --create-topics` makes it";
                report.fail("topic.exists", what, format!("it does not exist on {}", cluster.needs.name), advice);
            }
            Some(Found::Hidden) => {
                let advice = format!("allow this principal `Describe` and {} on it", needed(uses));
                report.fail("topic.exists", what, "the broker does not let us see whether it exists", advice);
            }
            Some(Found::Failed(why)) => {
                report.fail("topic.exists", what, why, "correct what the broker names, or allow this principal more");
            }
            None => report.fail("topic.exists", what, "the broker said nothing about it", "look at the broker's log"),
        }
    }
    for (group, pipelines) in &cluster.needs.groups {
        check_group(cluster, group, pipelines, wait, report);
    }
    for end in &cluster.needs.templates {
        let found = "its topic is chosen for each message: which topics must exist is not known, none was looked for";
        report.skip("topic.template", end, found);
    }
}

fn topic(
    cluster: &Cluster<'_>,
    (name, what): (&str, &str),
    uses: &Uses,
    state: &TopicState,
    wait: Duration,
    report: &mut Report,
) {
    let TopicState { partitions, leaderless, replicas, .. } = *state;
    if leaderless == 0 {
        report.ok("topic.exists", what, format!("{}, replication factor {replicas}", some(partitions, "partition")));
    } else {
        let found =
            format!("{leaderless} of {} without a leader: nobody reads or writes them", some(partitions, "partition"));
        report.fail("topic.exists", what, found, "start the brokers that hold their replicas");
    }
    check_rights(what, uses, state.rights, report);
    match cluster.inspector.settings(name, wait) {
        Ok(found) => settings::judge(name, uses, state, &found).into_iter().for_each(|judged| {
            report.add(judged.of(what));
        }),
        Err(Unseen::NotAuthorized) => {
            let found = "cannot be seen: this principal has no `DescribeConfigs`, so nothing in them was checked";
            report.warn(
                "topic.settings",
                format!("{what} settings"),
                found,
                "allow it, or look with another principal",
            );
        }
        Err(Unseen::Failed(why)) => {
            let found = format!("cannot be seen: {why}; nothing in them was checked");
            report.warn("topic.settings", format!("{what} settings"), found, "look at the broker's log");
        }
    }
}

fn needed(uses: &Uses) -> &'static str {
    match (uses.is_read(), uses.is_written()) {
        (true, true) => "`Read` and `Write`",
        (true, false) => "`Read`",
        _ => "`Write`",
    }
}

/// What the broker itself lists as allowed.
fn check_rights(what: &str, uses: &Uses, rights: Option<Rights>, report: &mut Report) {
    let what = format!("{what} rights");
    let Some(rights) = rights else {
        let found = format!("the broker does not say what this principal may do; {} not checked", needed(uses));
        return report.skip("topic.rights", what, found);
    };
    let needs = [(uses.is_read(), rights.read, "Read"), (uses.is_written(), rights.write, "Write")];
    let missing: Vec<&str> = needs.iter().filter(|(needs, has, _)| *needs && !has).map(|(.., name)| *name).collect();
    if !missing.is_empty() {
        let found = format!("the broker does not allow this principal `{}`", missing.join("` and `"));
        return report.fail("topic.rights", what, found, format!("allow it {} on the topic", needed(uses)));
    }
    if uses.is_audit && (rights.delete || rights.alter_configs) {
        let found = "it may be written, and also deleted or altered, by the principal that writes it";
        let advice = "give it a principal of its own with `Write` and `Describe` only (without an authorizer everybody may do everything)";
        return report.warn("topic.rights", what, found, advice);
    }
    report.ok("topic.rights", what, format!("{} allowed", needed(uses)));
}

fn check_group(cluster: &Cluster<'_>, group: &str, pipelines: &[String], wait: Duration, report: &mut Report) {
    let what = format!("group {group} (source of {})", pipelines.join(" and "));
    let refused = "the broker does not allow this principal `Read` on the group";
    match cluster.inspector.group(group, wait) {
        Ok(found) => match found.rights {
            Some(rights) if !rights.read => {
                report.fail("group.rights", what, refused, "allow it `Read` on the group");
            }
            Some(_) => {
                report.ok("group.rights", what, format!("may be joined; {} now", some(found.members, "member")));
            }
            None => report.skip("group.rights", what, "the broker does not say whether we may join it; not checked"),
        },
        Err(Unseen::NotAuthorized) => report.fail("group.rights", what, refused, "allow it `Read` on the group"),
        Err(Unseen::Failed(why)) => {
            report.warn(
                "group.rights",
                what,
                format!("cannot be seen: {why}; not checked"),
                "look at the broker's log",
            );
        }
    }
}
