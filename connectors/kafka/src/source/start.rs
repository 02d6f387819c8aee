//! Where a partition starts that was just assigned. Always an explicit place: librdkafka's own default would jump
//! silently.

use std::time::Duration;

use portcullis_connector_api::{ConnectorError, ErrorKind};
use rdkafka::types::RDKafkaErrorCode as Code;

use super::notes::Notes;
use super::trouble;
use crate::failure;
use crate::native::{Consumer, Place};
use crate::settings::{Membership, OutOfRange, SourceSettings, Start};

/// The bound of each question to the broker. The next poll asks again.
const LIMIT: Duration = Duration::from_secs(2);

/// A partition with its start and the group's position in it ([`Place::NONE`] without one).
pub(super) struct Beginning {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) start: i64,
    pub(super) committed: i64,
}

/// Finds the start of each of these partitions.
pub(super) fn beginnings(
    consumer: &Consumer<Notes>,
    settings: &SourceSettings,
    places: &[Place],
) -> Result<Vec<Beginning>, ConnectorError> {
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let mut found: Vec<Beginning> =
        committed(consumer, places.iter().map(|place| (place.topic.as_str(), place.partition)))?
            .into_iter()
            .map(|place| Beginning {
                start: if place.offset >= 0 { place.offset } else { Place::BEGINNING },
                committed: place.offset,
                topic: place.topic,
                partition: place.partition,
            })
            .collect();
    if settings.start == Start::Latest {
        let mut topics: Vec<String> =
            found.iter().filter(|place| place.committed < 0).map(|place| place.topic.clone()).collect();
        topics.sort_unstable();
        topics.dedup();
        for topic in topics {
            let ends = first_start(consumer, &topic, settings.membership)?;
            for place in found.iter_mut().filter(|place| place.topic == topic && place.committed < 0) {
                if let Some(end) = ends.iter().find(|end| end.partition == place.partition) {
                    (place.start, place.committed) = (end.offset, end.offset);
                }
            }
        }
    }
    Ok(found)
}

/// Every partition of these topics.
pub(super) fn partitions(consumer: &Consumer<Notes>, topics: &[String]) -> Result<Vec<Place>, ConnectorError> {
    let mut places = Vec::new();
    for topic in topics {
        let failed = |code| failure::error(code, format!("topic `{topic}` does not exist or must not be read"));
        let partitions = partitions_of(consumer, topic)?.map_err(failed)?;
        let place = |partition: i32| Place { topic: topic.clone(), partition, offset: Place::NONE };
        places.extend(partitions.into_iter().map(place));
    }
    Ok(places)
}

/// The numbers of a topic's partitions, or what a broker says instead of them.
fn partitions_of(consumer: &Consumer<Notes>, topic: &str) -> Result<Result<Vec<i32>, Code>, ConnectorError> {
    let failed = |error| failure::from_rdkafka(&format!("cannot ask for the partitions of `{topic}`"), &error);
    let metadata = consumer.client().fetch_metadata(Some(topic), LIMIT).map_err(failed)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    Ok(match found.and_then(|found| found.error()).map(Code::from) {
        Some(code) => Err(code),
        None => Ok(found.into_iter().flat_map(|found| found.partitions()).map(|found| found.id()).collect()),
    })
}

/// Moves what starts outside of its partition to where a member would go on, as the settings say. A member learns it from
/// the first fetch and lets the partition go for a moment; an onlooker has nobody to give it to.
pub(super) fn within_range(
    consumer: &Consumer<Notes>,
    settings: &SourceSettings,
    beginnings: &mut [Beginning],
) -> Result<(), ConnectorError> {
    for place in beginnings.iter_mut().filter(|place| place.committed >= 0) {
        let (topic, partition, position) = (&place.topic, place.partition, place.committed);
        let failed = |error| failure::from_rdkafka(&format!("cannot ask for the range of `{topic}`"), &error);
        let (low, high) = consumer.client().fetch_watermarks(topic, partition, LIMIT).map_err(failed)?;
        if (low..=high).contains(&place.start) {
            continue;
        }
        place.start = match settings.out_of_range {
            OutOfRange::Earliest => Place::BEGINNING,
            OutOfRange::Latest => Place::END,
            OutOfRange::Stop => {
                let range = trouble::range(low, high);
                let found = trouble::out_of_range(&settings.group, (topic, partition), position, &range);
                return Err(trouble::gone(&found));
            }
        };
    }
    Ok(())
}

/// The ends of all partitions of a topic, written down as the group's positions, where the group has no position in any
/// of them; else nothing.
///
/// All partitions and not only our own, and before the first message: otherwise the next rebalance would find a position
/// in one partition and none in its quiet neighbour, take that for a partition that was added later, and repeat its
/// whole history. An onlooker writes nothing down.
fn first_start(consumer: &Consumer<Notes>, topic: &str, membership: Membership) -> Result<Vec<Place>, ConnectorError> {
    let partitions = partitions_of(consumer, topic)?.map_err(|code| match code {
        // It is assigned, so there is one; not every broker knows yet of a topic that was made a moment ago.
        Code::UnknownTopic | Code::UnknownTopicOrPartition => {
            let what = format!("the broker does not know the partitions of `{topic}` ({code:?})");
            ConnectorError::new(ErrorKind::Retriable, what)
        }
        code => failure::error(code, format!("cannot ask for the partitions of `{topic}`")),
    })?;
    let has_position = |places: &[Place]| places.iter().any(|place| place.offset >= 0);
    if has_position(&committed(consumer, partitions.iter().map(|partition| (topic, *partition)))?) {
        return Ok(Vec::new());
    }
    let mut ends = Vec::new();
    for partition in &partitions {
        let failed = |error| failure::from_rdkafka(&format!("cannot ask for the end of `{topic}`"), &error);
        let (_, end) = consumer.client().fetch_watermarks(topic, *partition, LIMIT).map_err(failed)?;
        ends.push(Place { topic: topic.to_owned(), partition: *partition, offset: end });
    }
    if membership == Membership::Onlooker {
        return Ok(ends);
    }
    // Another member may have started in the same moment; its positions count.
    let now = committed(consumer, partitions.iter().map(|partition| (topic, *partition)))?;
    if has_position(&now) {
        return Ok(now.into_iter().filter(|place| place.offset >= 0).collect());
    }
    let places = ends.iter().map(|end| (topic, end.partition, end.offset));
    if let Err(code) = consumer.commit_now(places, LIMIT) {
        // The group may be in a new rebalance, which waits for this assignment: so it is taken all the same.
        tracing::warn!(topic, ?code, "the start at the end of the topic was not written down");
    }
    Ok(ends)
}

fn committed<'a>(
    consumer: &Consumer<Notes>,
    places: impl IntoIterator<Item = (&'a str, i32)>,
) -> Result<Vec<Place>, ConnectorError> {
    consumer.committed(places, LIMIT).map_err(|code| match code {
        // An unknown partition here is one that was deleted meanwhile.
        Code::UnknownPartition => failure::error(Code::UnknownTopicOrPartition, "an assigned partition is gone"),
        code => failure::error(code, "cannot ask for the group's positions"),
    })
}
