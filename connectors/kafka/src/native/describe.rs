use std::ffi::{CString, c_char, c_int};
use std::ptr::{self, NonNull};
use std::time::{Duration, Instant};

use portcullis_connector_api::ConnectorError;
use rdkafka::ClientConfig;
use rdkafka::bindings as sys;
use rdkafka::client::Client;
use rdkafka::types::{RDKafkaErrorCode as Code, RDKafkaType};
use sys::rd_kafka_admin_op_t as request;

use super::{ErrorCallback, check, check_object, create, text};

/// Beyond librdkafka's own time-out: what it says about it comes a moment later.
const GRACE_MS: i32 = 1000;

/// A request that was not answered, or answered with an error of its own.
#[derive(Debug)]
pub(crate) struct NoAnswer {
    pub(crate) code: Code,
    pub(crate) reason: String,
}

/// What a broker lets somebody do with something, as bits of [`sys::rd_kafka_AclOperation_t`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Operations(u32);

impl Operations {
    pub(crate) fn has(self, operation: sys::rd_kafka_AclOperation_t) -> bool {
        self.0 & (1 << operation as u32) != 0
    }
}

/// A cluster as one of its brokers knows it.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) id: String,
    /// Id, host and port of each broker, as it advertises them.
    pub(crate) brokers: Vec<(i32, String, u16)>,
}

/// A topic.
#[derive(Debug)]
pub(crate) struct Described {
    pub(crate) name: String,
    pub(crate) error: Option<Code>,
    /// Leader, replicas and how many of them are in sync.
    pub(crate) partitions: Vec<(bool, usize, usize)>,
    /// `None` where the broker does not say.
    pub(crate) operations: Option<Operations>,
}

/// A consumer group.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) error: Option<Code>,
    pub(crate) members: usize,
    pub(crate) operations: Option<Operations>,
}

/// A client that only asks.
pub(crate) struct Describer<C: ErrorCallback> {
    client: Client<C>,
}

impl<C: ErrorCallback> Describer<C> {
    pub(crate) fn new(config: &ClientConfig, context: C) -> Result<Self, ConnectorError> {
        Ok(Self { client: create(config, context, RDKafkaType::RD_KAFKA_PRODUCER, |_| {})? })
    }

    /// What the callbacks have kept, after those that wait were run.
    pub(crate) fn context(&self) -> &C {
        // SAFETY: the client lives; without a wait this only runs callbacks.
        unsafe { sys::rd_kafka_poll(self.client.native_ptr(), 0) };
        self.client.context()
    }

    /// Asked of any broker that the client has, the first contacts among them; what it says of the others may be wrong.
    pub(crate) fn cluster(&self, wait: Duration) -> Result<Cluster, NoAnswer> {
        let (wait_ms, deadline) = (milliseconds(wait), Instant::now() + wait);
        let client = self.client.native_ptr();
        let mut metadata = ptr::null();
        // SAFETY: the client lives. Without a topic only brokers are told.
        let asked = unsafe { sys::rd_kafka_metadata(client, 0, ptr::null_mut(), &raw mut metadata, wait_ms) };
        check(asked).map_err(|code| no_answer(code, "no answer in time"))?;
        // SAFETY: it is ours since there was no error, and is given back behind the last look at it. An empty list of brokers
        // may have no array at all.
        let brokers = unsafe {
            let found = metadata.as_ref().ok_or_else(|| no_answer(Code::Fail, "an empty answer"))?;
            let count = usize::try_from(found.broker_cnt).unwrap_or(0);
            let array = if count == 0 { &[] } else { std::slice::from_raw_parts(found.brokers, count) };
            let broker = |broker: &sys::rd_kafka_metadata_broker| {
                Some((broker.id, text(broker.host), u16::try_from(broker.port).ok()?))
            };
            let brokers = array.iter().filter_map(broker).collect();
            sys::rd_kafka_metadata_destroy(metadata);
            brokers
        };
        let left = deadline.saturating_duration_since(Instant::now());
        Ok(Cluster { id: self.client.fetch_cluster_id(left).unwrap_or_default(), brokers })
    }

    /// Topics by name, none twice. Asking makes none of them.
    pub(crate) fn topics(&self, names: &[String], wait: Duration) -> Result<Vec<Described>, NoAnswer> {
        let (_names, mut pointers) = c_strings(names)?;
        // SAFETY: makes a copy of the names; destroyed below, when librdkafka has copied it once more.
        let topics = unsafe { sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len()) };
        // SAFETY: collection, options and queue live through the call.
        let event = self.ask(request::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, wait, |client, options, queue| unsafe {
            sys::rd_kafka_DescribeTopics(client, topics, options, queue);
        });
        // SAFETY: ours, and not used again.
        unsafe { sys::rd_kafka_TopicCollection_destroy(topics) };
        let event = event?;
        // SAFETY: the result and everything under it belong to the event.
        unsafe {
            let result = sys::rd_kafka_event_DescribeTopics_result(event.0.as_ptr());
            let mut count = 0;
            let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
            Ok(items(topics, count).map(|topic| described(topic)).collect())
        }
    }

    pub(crate) fn group(&self, name: &str, wait: Duration) -> Result<Group, NoAnswer> {
        let (_names, mut pointers) = c_strings(&[name.to_owned()])?;
        // SAFETY: the names, the options and the queue live through the call; librdkafka copies what it keeps.
        let event =
            self.ask(request::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS, wait, |client, options, queue| unsafe {
                sys::rd_kafka_DescribeConsumerGroups(client, pointers.as_mut_ptr(), pointers.len(), options, queue);
            })?;
        // SAFETY: the result and everything under it belong to the event.
        unsafe {
            let result = sys::rd_kafka_event_DescribeConsumerGroups_result(event.0.as_ptr());
            let mut count = 0;
            let groups = sys::rd_kafka_DescribeConsumerGroups_result_groups(result, &raw mut count);
            let group = items(groups, count).next().map(|group| {
                let mut count = 0;
                let found = sys::rd_kafka_ConsumerGroupDescription_authorized_operations(group, &raw mut count);
                Group {
                    error: code_of(sys::rd_kafka_ConsumerGroupDescription_error(group)),
                    members: sys::rd_kafka_ConsumerGroupDescription_member_count(group),
                    operations: operations(found, count),
                }
            });
            group.ok_or_else(|| no_answer(Code::Fail, "the broker described no group"))
        }
    }

    /// The settings of a topic by name, without those that have no value.
    pub(crate) fn settings(&self, topic: &str, wait: Duration) -> Result<Vec<(String, String)>, NoAnswer> {
        let name = CString::new(topic).map_err(|_| no_answer(Code::InvalidTopic, "a NUL in a name"))?;
        let kind = sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC;
        // SAFETY: copies the name; destroyed below, when librdkafka has copied it once more.
        let mut resource = unsafe { sys::rd_kafka_ConfigResource_new(kind, name.as_ptr()) };
        // SAFETY: resource, options and queue live through the call.
        let event = self.ask(request::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS, wait, |client, options, queue| unsafe {
            sys::rd_kafka_DescribeConfigs(client, &raw mut resource, 1, options, queue);
        });
        // SAFETY: ours, and not used again.
        unsafe { sys::rd_kafka_ConfigResource_destroy(resource) };
        let event = event?;
        // SAFETY: the result and everything under it belong to the event.
        unsafe {
            let result = sys::rd_kafka_event_DescribeConfigs_result(event.0.as_ptr());
            let mut count = 0;
            let resources = sys::rd_kafka_DescribeConfigs_result_resources(result, &raw mut count);
            let found = items(resources.cast::<*const sys::rd_kafka_ConfigResource_t>(), count).next();
            let found = found.ok_or_else(|| no_answer(Code::Fail, "the broker described no topic"))?;
            // rdkafka's own function does not look at this error: a refused question would look like no settings.
            check(sys::rd_kafka_ConfigResource_error(found))
                .map_err(|code| no_answer(code, text(sys::rd_kafka_ConfigResource_error_string(found))))?;
            let entries = sys::rd_kafka_ConfigResource_configs(found, &raw mut count);
            let entries = items(entries.cast::<*const sys::rd_kafka_ConfigEntry_t>(), count).filter_map(|entry| {
                let value = sys::rd_kafka_ConfigEntry_value(entry);
                (!value.is_null()).then(|| (text(sys::rd_kafka_ConfigEntry_name(entry)), text(value)))
            });
            Ok(entries.collect())
        }
    }

    fn ask(
        &self,
        what: request,
        wait: Duration,
        send: impl FnOnce(*mut sys::rd_kafka_t, *const sys::rd_kafka_AdminOptions_t, *mut sys::rd_kafka_queue_t),
    ) -> Result<Event, NoAnswer> {
        let client = self.client.native_ptr();
        let wait_ms = milliseconds(wait);
        // SAFETY: makes objects that only these values own; they are given back before the client, which outlives this call.
        let (options, queue) =
            unsafe { (sys::rd_kafka_AdminOptions_new(client, what), sys::rd_kafka_queue_new(client)) };
        let none = || no_answer(Code::InvalidArgument, "librdkafka does not know the request");
        let queue = Queue(NonNull::new(queue).ok_or_else(none)?);
        let options = Options(NonNull::new(options).ok_or_else(none)?);
        let mut reason = [0 as c_char; 256];
        // SAFETY: the options are ours, and the buffer is as long as said. Both settings are known to these requests.
        unsafe {
            let options = options.0.as_ptr();
            let set =
                sys::rd_kafka_AdminOptions_set_request_timeout(options, wait_ms, reason.as_mut_ptr(), reason.len());
            check(set).map_err(|code| no_answer(code, text(reason.as_ptr())))?;
            // Settings have no rights of their own.
            if what != request::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS {
                let set = sys::rd_kafka_AdminOptions_set_include_authorized_operations(options, 1);
                check_object(set).map_err(|code| no_answer(code, "the broker's rights cannot be asked for"))?;
            }
        }
        send(client, options.0.as_ptr(), queue.0.as_ptr());
        // SAFETY: the queue is ours; the event, where there is one, becomes ours.
        let event = unsafe { sys::rd_kafka_queue_poll(queue.0.as_ptr(), wait_ms.saturating_add(GRACE_MS)) };
        let event = Event(NonNull::new(event).ok_or_else(|| no_answer(Code::OperationTimedOut, "no answer in time"))?);
        // SAFETY: the event lives, and so does its text.
        let (failed, reason) = unsafe {
            (sys::rd_kafka_event_error(event.0.as_ptr()), text(sys::rd_kafka_event_error_string(event.0.as_ptr())))
        };
        check(failed).map_err(|code| no_answer(code, reason))?;
        Ok(event)
    }
}

struct Queue(NonNull<sys::rd_kafka_queue_t>);

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: ours, given back once.
        unsafe { sys::rd_kafka_queue_destroy(self.0.as_ptr()) }
    }
}

struct Options(NonNull<sys::rd_kafka_AdminOptions_t>);

impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: ours, given back once.
        unsafe { sys::rd_kafka_AdminOptions_destroy(self.0.as_ptr()) }
    }
}

/// An answer.
struct Event(NonNull<sys::rd_kafka_event_t>);

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: ours, given back once.
        unsafe { sys::rd_kafka_event_destroy(self.0.as_ptr()) }
    }
}

/// # Safety
/// `topic` must live through the call.
unsafe fn described(topic: *const sys::rd_kafka_TopicDescription_t) -> Described {
    // SAFETY: everything that is read belongs to the topic.
    unsafe {
        let mut count = 0;
        let partitions = sys::rd_kafka_TopicDescription_partitions(topic, &raw mut count);
        let partitions = items(partitions, count).map(|partition| {
            let (mut replicas, mut in_sync) = (0, 0);
            sys::rd_kafka_TopicPartitionInfo_replicas(partition, &raw mut replicas);
            sys::rd_kafka_TopicPartitionInfo_isr(partition, &raw mut in_sync);
            (!sys::rd_kafka_TopicPartitionInfo_leader(partition).is_null(), replicas, in_sync)
        });
        let partitions = partitions.collect();
        let found = sys::rd_kafka_TopicDescription_authorized_operations(topic, &raw mut count);
        Described {
            name: text(sys::rd_kafka_TopicDescription_name(topic)),
            error: code_of(sys::rd_kafka_TopicDescription_error(topic)),
            partitions,
            operations: operations(found, count),
        }
    }
}

/// # Safety
/// `found` must be null or point to `count` operations.
unsafe fn operations(found: *const sys::rd_kafka_AclOperation_t, count: usize) -> Option<Operations> {
    if found.is_null() {
        return None;
    }
    // Read as numbers: an operation that is newer than the bindings is no value of their enumeration.
    // SAFETY: not null, and the caller vouches for the count; the enumeration has the layout of the number.
    let found = (0..count).map(|index| unsafe { found.cast::<u32>().add(index).read() });
    Some(Operations(found.filter(|operation| *operation < u32::BITS).fold(0, |all, one| all | (1 << one))))
}

/// # Safety
/// `error` must be null or live through the call.
unsafe fn code_of(error: *const sys::rd_kafka_error_t) -> Option<Code> {
    // SAFETY: null was asked for first.
    (!error.is_null()).then(|| unsafe { sys::rd_kafka_error_code(error) }).and_then(|code| check(code).err())
}

/// What an array of librdkafka points to. An empty one may have no array at all.
///
/// # Safety
/// `array` must be null or hold `count` pointers that live as long as what is made of them.
unsafe fn items<T>(array: *mut *const T, count: usize) -> impl Iterator<Item = *const T> {
    let count = if array.is_null() { 0 } else { count };
    // SAFETY: not null where the count is above zero, and the caller vouches for it.
    (0..count).map(move |index| unsafe { array.add(index).read() })
}

/// The texts and where they are; the second is good as long as the first.
fn c_strings(names: &[String]) -> Result<(Vec<CString>, Vec<*const c_char>), NoAnswer> {
    let owned: Result<Vec<CString>, _> = names.iter().map(|name| CString::new(name.as_str())).collect();
    let owned = owned.map_err(|_| no_answer(Code::InvalidArgument, "a NUL in a name"))?;
    let pointers = owned.iter().map(|name| name.as_ptr()).collect();
    Ok((owned, pointers))
}

fn milliseconds(wait: Duration) -> c_int {
    c_int::try_from(wait.as_millis()).unwrap_or(c_int::MAX - GRACE_MS).max(1)
}

fn no_answer(code: Code, reason: impl Into<String>) -> NoAnswer {
    NoAnswer { code, reason: reason.into() }
}
