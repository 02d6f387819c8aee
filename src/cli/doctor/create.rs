//! `--create-topics`: the topics that are missing, and no others.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use portcullis_config::parse_duration;
use portcullis_connector_api::ConnectorError;
use portcullis_connector_kafka::Topic;
use portcullis_connector_kafka::inspect::{Found, Made, TopicFacts};

use super::finding::Report;
use super::kafka::Cluster;
use super::needs::Uses;
use crate::cli::words::some;

/// Where neither the option nor a source's topic says how many.
const PARTITIONS: i32 = 6;
/// More than any broker takes; a typing mistake is found before it is made.
const MAX_PARTITIONS: i64 = 10_000;
/// Copies of a topic where there are brokers for them.
const REPLICATION: usize = 3;
/// What a broker takes where nobody says otherwise.
const USUAL_MAX_MESSAGE_BYTES: u32 = 1_048_588;
const DAY: Duration = Duration::from_secs(24 * 3600);
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// How topics are made. None of it changes a topic that is there.
#[derive(Args, Clone, Debug)]
pub(super) struct TopicArguments {
    /// Makes the Kafka topics that are missing. What is there stays as it is.
    #[arg(long)]
    pub(super) create_topics: bool,
    /// Partitions of sources, sinks and dead letters; as many as the source's topic has, else 6. The audit has one.
    #[arg(long, value_name = "N", requires = "create_topics", value_parser = clap::value_parser!(i32).range(1..=MAX_PARTITIONS))]
    partitions: Option<i32>,
    /// Copies of each partition; 3, or as many as there are brokers.
    #[arg(long, value_name = "N", requires = "create_topics", value_parser = clap::value_parser!(u16).range(1..=100))]
    replication: Option<u16>,
    /// How long sources and sinks keep messages: 12h, 7d, `forever`.
    #[arg(long, value_name = "DURATION", requires = "create_topics", default_value = "7d", value_parser = keep)]
    retention: Keep,
    /// How long dead letters are kept.
    #[arg(long, value_name = "DURATION", requires = "create_topics", default_value = "30d", value_parser = keep)]
    dead_letter_retention: Keep,
    /// How long evidence is kept.
    #[arg(long, value_name = "DURATION", requires = "create_topics", default_value = "forever", value_parser = keep)]
    audit_retention: Keep,
}

/// How long a topic keeps messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    For(Duration),
    Forever,
}

impl Keep {
    /// As `retention.ms` has it.
    fn ms(self) -> String {
        match self {
            Self::For(duration) => duration.as_millis().to_string(),
            Self::Forever => "-1".to_owned(),
        }
    }
}

fn keep(text: &str) -> Result<Keep, String> {
    if text == "forever" {
        return Ok(Keep::Forever);
    }
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok());
    match days.map(|days| DAY * days).or_else(|| parse_duration(text).ok()).filter(|kept| !kept.is_zero()) {
        Some(kept) => Ok(Keep::For(kept)),
        None => Err("a whole number above 0 with d, h, m, s or ms, such as 7d, or `forever`".to_owned()),
    }
}

/// Makes what is missing, sources first: a sink has as many partitions as what feeds it.
pub(super) fn create(
    clusters: &mut [Option<Cluster<'_>>],
    arguments: &TopicArguments,
    wait: Duration,
    report: &mut Report,
) {
    for end in clusters.iter().flatten().flat_map(|cluster| &cluster.needs.templates) {
        report.skip("topic.made", end, "its topic is chosen for each message: none was made for it");
    }
    for sources in [true, false] {
        for index in 0..clusters.len() {
            let missing = missing(clusters, index, sources, arguments);
            if let Some(Some(cluster)) = clusters.get_mut(index) {
                tell_kept(cluster, sources, report);
                make(cluster, &missing, wait, report);
            }
        }
    }
}

fn tell_kept(cluster: &Cluster<'_>, sources: bool, report: &mut Report) {
    for (name, uses) in cluster.needs.topics.iter().filter(|(_, uses)| uses.is_read() == sources) {
        if let Some(Found::There(_)) = cluster.topics.get(name) {
            report.kept("topic.made", format!("topic {name} ({})", uses.words()), "it is there, and was left as it is");
        }
    }
}

fn missing(
    clusters: &[Option<Cluster<'_>>],
    index: usize,
    sources: bool,
    arguments: &TopicArguments,
) -> Vec<(Topic, String)> {
    let Some(Some(cluster)) = clusters.get(index) else { return Vec::new() };
    let is_missing = |name: &String| matches!(cluster.topics.get(name), Some(Found::Missing));
    let wanted = cluster.needs.topics.iter().filter(|(name, uses)| uses.is_read() == sources && is_missing(name));
    wanted
        .map(|(name, uses)| {
            let mut topic = Topic::new(name, partitions(clusters, uses, arguments));
            let copies = arguments.replication.map_or(cluster.brokers().min(REPLICATION), usize::from);
            topic.replication = u16::try_from(copies).ok();
            topic.settings = settings(uses, arguments, copies);
            (topic, uses.words())
        })
        .collect()
}

fn partitions(clusters: &[Option<Cluster<'_>>], uses: &Uses, arguments: &TopicArguments) -> i32 {
    if uses.is_audit {
        // One, so that the chain is read in order.
        return 1;
    }
    let of_source = |(cluster, topic): &(usize, String)| match clusters.get(*cluster)?.as_ref()?.topics.get(topic)? {
        Found::There(state) => i32::try_from(state.partitions).ok(),
        _ => None,
    };
    let fed_by = || uses.fed_by.iter().filter_map(of_source).max();
    arguments.partitions.or_else(fed_by).unwrap_or(PARTITIONS)
}

fn settings(uses: &Uses, arguments: &TopicArguments, copies: usize) -> Vec<(String, String)> {
    let kept = match (uses.is_audit, uses.dead_letters_of.is_empty()) {
        (true, _) => arguments.audit_retention,
        (false, false) => arguments.dead_letter_retention,
        (false, true) => arguments.retention,
    };
    let mut settings = vec![("retention.ms".to_owned(), kept.ms())];
    let mut set = |key: &str, value: String| settings.push((key.to_owned(), value));
    // Said, and not left to the cluster: its own default could compact or bound them.
    set("cleanup.policy", "delete".to_owned());
    if uses.is_audit {
        set("retention.bytes", "-1".to_owned());
    }
    if copies >= REPLICATION {
        set("min.insync.replicas", "2".to_owned());
    }
    if uses.max_message_bytes > USUAL_MAX_MESSAGE_BYTES {
        set("max.message.bytes", uses.max_message_bytes.to_string());
    }
    settings
}

fn make(cluster: &mut Cluster<'_>, topics: &[(Topic, String)], wait: Duration, report: &mut Report) {
    if topics.is_empty() {
        return;
    }
    let new: Vec<Topic> = topics.iter().map(|(topic, _)| topic.clone()).collect();
    let made = match cluster.inspector.create(&new, wait) {
        Ok(made) => made,
        Err(error) => {
            let found = format!("topics were asked for and it is not known whether they were made: {error}");
            report.fail("topic.made", &cluster.needs.name, found, "run it again: what was made is left as it is");
            return;
        }
    };
    let mut seen = Vec::new();
    for (name, result) in made {
        let Some((topic, words)) = topics.iter().find(|(topic, _)| topic.name == name) else { continue };
        let what = format!("topic {name} ({words})");
        match result {
            Made::Made => {
                report.made("topic.made", what, with(topic));
                seen.push(name);
            }
            Made::Existed => {
                report.kept("topic.made", what, "somebody has made it meanwhile; it was left as it is");
                seen.push(name);
            }
            Made::Refused(why) => {
                let why = format!("it does not exist, and the cluster does not make it: {why}");
                cluster.topics.insert(name, Found::Failed(why));
            }
        }
    }
    wait_for(cluster, &seen, wait);
}

/// `6 partitions, replication factor 3, retention.ms=604800000`.
fn with(topic: &Topic) -> String {
    let copies = topic.replication.unwrap_or_default();
    let settings: Vec<String> = topic.settings.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let partitions = some(usize::try_from(topic.partitions).unwrap_or(0), "partition");
    format!("made with {partitions}, replication factor {copies}, {}", settings.join(", "))
}

/// A cluster confirms a topic before all of its brokers know it and each partition has a leader.
fn wait_for(cluster: &mut Cluster<'_>, names: &[String], wait: Duration) {
    let deadline = Instant::now() + wait;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let answer = cluster.inspector.topics(names, left.max(ASK_AGAIN));
        if settled(&mut cluster.topics, names, answer, left.is_zero()) {
            return;
        }
        thread::sleep(ASK_AGAIN);
    }
}

/// Takes what a cluster says of topics that are known to be made, and says whether that is the last word. Where they are not to
/// be seen they are not said to be missing: nobody should make them again.
fn settled(
    topics: &mut BTreeMap<String, Found>,
    names: &[String],
    answer: Result<Vec<TopicFacts>, ConnectorError>,
    is_last: bool,
) -> bool {
    let facts = match answer {
        Ok(facts) => facts,
        Err(error) => {
            let failed = Found::Failed(format!("it is made, and was not looked at: {error}"));
            topics.extend(names.iter().map(|name| (name.clone(), failed.clone())));
            return true;
        }
    };
    let is_ready = |found: &Found| matches!(found, Found::There(state) if state.leaderless == 0);
    let all_ready = facts.iter().all(|topic| is_ready(&topic.found));
    for topic in facts {
        let found = match topic.found {
            Found::Missing if is_last => Found::Failed("it is made, and was not to be seen in time".to_owned()),
            found => found,
        };
        topics.insert(topic.name, found);
    }
    all_ready || is_last
}

#[cfg(test)]
mod tests {
    use portcullis_connector_api::ErrorKind;
    use portcullis_connector_kafka::inspect::TopicState;

    use super::*;

    #[test]
    fn a_topic_that_was_made_is_never_called_missing_when_the_cluster_says_no_more_of_it() {
        let names = ["t".to_owned()];
        let missing = || Ok(vec![TopicFacts { name: "t".to_owned(), found: Found::Missing }]);
        let there = |leaderless| {
            let state = TopicState { partitions: 1, leaderless, replicas: 1, in_sync: 1, rights: None };
            Ok(vec![TopicFacts { name: "t".to_owned(), found: Found::There(state) }])
        };
        let mut topics = BTreeMap::from([("t".to_owned(), Found::Missing)]);
        assert!(!settled(&mut topics, &names, missing(), false), "it is asked for again");
        assert!(!settled(&mut topics, &names, there(1), false), "it has no leader yet");
        let gone = Err(ConnectorError::new(ErrorKind::Retriable, "the broker went away"));
        assert!(settled(&mut topics, &names, gone, false));
        assert!(matches!(&topics["t"], Found::Failed(why) if why.contains("went away")), "{topics:?}");
        assert!(settled(&mut topics, &names, missing(), true));
        assert!(matches!(&topics["t"], Found::Failed(why) if why.contains("not to be seen")), "{topics:?}");
        assert!(settled(&mut topics, &names, there(0), false));
        assert!(matches!(&topics["t"], Found::There(_)), "{topics:?}");
    }

    #[test]
    fn retention_is_read_in_days_hours_and_for_ever() {
        assert_eq!(keep("7d").unwrap().ms(), "604800000");
        assert_eq!(keep("12h").unwrap().ms(), "43200000");
        assert_eq!(keep("forever").unwrap().ms(), "-1");
        for wrong in ["", "7", "d", "-1d", "0d", "0ms", "7 days"] {
            assert!(keep(wrong).is_err(), "{wrong}");
        }
    }
}
