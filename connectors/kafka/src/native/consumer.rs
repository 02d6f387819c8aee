use std::collections::VecDeque;
use std::ffi::{CStr, CString, c_void};
use std::ptr::{self, NonNull};
use std::time::Duration;

use portcullis_connector_api::ConnectorError;
use rdkafka::ClientConfig;
use rdkafka::bindings as sys;
use rdkafka::client::Client;
use rdkafka::types::{RDKafkaErrorCode as Code, RDKafkaRespErr, RDKafkaType};

use super::list::{Answers, places_of};
use super::{ErrorCallback, NativeMessage, Partitions, Place, check, check_object, create};

/// What the group wants of us.
#[derive(Debug)]
pub(crate) enum Rebalance {
    /// These partitions come.
    Assign(Vec<Place>),
    /// These go; `lost` when they are somebody else's already.
    Revoke { places: Vec<Place>, lost: bool },
}

/// Where a consumer reports. All called on the thread that polls it, within [`Consumer::consume`] or
/// [`Consumer::leave`].
pub(crate) trait ConsumerCallbacks: ErrorCallback {
    /// The group waits until the partitions are assigned or unassigned. False when nobody will do that: then it is done at
    /// once, with nothing assigned.
    fn rebalance(&self, change: Rebalance) -> bool;

    /// The end of an asynchronous commit.
    fn committed(&self, result: Result<(), Code>, places: Answers);
}

/// A member of a consumer group.
///
/// rdkafka's `BaseConsumer` asks librdkafka for events; a batch call that meets a rebalance event without a callback lets
/// all partitions go. So this consumer has callbacks instead, and they only take notes: librdkafka waits for the call of
/// assign or unassign however late it comes, and what is polled meanwhile counts for `max.poll.interval.ms`.
pub(crate) struct Consumer<C: ConsumerCallbacks> {
    // Before the client: the queue refers to it.
    queue: Queue,
    client: Client<C>,
    scratch: Vec<*mut sys::rd_kafka_message_t>,
}

// SAFETY: the scratch pointers are only set within `consume`; outside it the list is empty.
unsafe impl<C: ConsumerCallbacks> Send for Consumer<C> {}

struct Queue(NonNull<sys::rd_kafka_queue_t>);

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: a reference of our own, given back once.
        unsafe { sys::rd_kafka_queue_destroy(self.0.as_ptr()) }
    }
}

impl<C: ConsumerCallbacks> Consumer<C> {
    pub(crate) fn new(config: &ClientConfig, context: C) -> Result<Self, ConnectorError> {
        let client = create(config, context, RDKafkaType::RD_KAFKA_CONSUMER, |native| {
            // SAFETY: see `create`.
            unsafe {
                sys::rd_kafka_conf_set_rebalance_cb(native.ptr(), Some(rebalance_callback::<C>));
                sys::rd_kafka_conf_set_offset_commit_cb(native.ptr(), Some(commit_callback::<C>));
            }
        })?;
        // SAFETY: the client lives; redirecting its main queue, with errors and log lines, means one queue to poll.
        let queue = unsafe {
            sys::rd_kafka_poll_set_consumer(client.native_ptr());
            sys::rd_kafka_queue_get_consumer(client.native_ptr())
        };
        let Some(queue) = NonNull::new(queue) else {
            return Err(crate::failure::error(Code::UnknownGroup, "the consumer has no queue"));
        };
        Ok(Self { queue: Queue(queue), client, scratch: Vec::new() })
    }

    pub(crate) fn client(&self) -> &Client<C> {
        &self.client
    }

    fn ptr(&self) -> *mut sys::rd_kafka_t {
        self.client.native_ptr()
    }

    /// Appends up to `count` messages and errors; waits for the first one at most for `wait`. Callbacks run within.
    pub(crate) fn consume(&mut self, into: &mut VecDeque<NativeMessage>, count: usize, wait: Duration) -> usize {
        if count == 0 {
            return 0;
        }
        let ready = self.take(into, count, Duration::ZERO);
        if ready > 0 || wait.is_zero() {
            return ready;
        }
        // librdkafka waits until the batch is full or the time is over, so what is waited for is a batch of one.
        match self.take(into, 1, wait) {
            0 => 0,
            first => first + self.take(into, count - 1, Duration::ZERO),
        }
    }

    fn take(&mut self, into: &mut VecDeque<NativeMessage>, count: usize, wait: Duration) -> usize {
        self.scratch.reserve(count);
        // SAFETY: the queue lives and there is room for `count` pointers; librdkafka hands over the messages behind as
        // many as it returns, or -1.
        let taken = unsafe {
            sys::rd_kafka_consume_batch_queue(
                self.queue.0.as_ptr(),
                i32::try_from(wait.as_millis()).unwrap_or(i32::MAX),
                self.scratch.as_mut_ptr(),
                count,
            )
        };
        let taken = usize::try_from(taken).unwrap_or(0).min(count);
        // SAFETY: so many were written.
        unsafe { self.scratch.set_len(taken) };
        // SAFETY: each was handed over to us, once.
        into.extend(self.scratch.drain(..).filter_map(|message| unsafe { NativeMessage::own(message) }));
        taken
    }

    pub(crate) fn subscribe(&self, topics: &[String]) -> Result<(), Code> {
        let list = list(topics.iter().map(|topic| (topic.as_str(), -1, Place::NONE)))?;
        // SAFETY: client and list live; the list is copied.
        check(unsafe { sys::rd_kafka_subscribe(self.ptr(), list.ptr()) })
    }

    /// Takes what the group has assigned, each partition with its start.
    pub(crate) fn assign<'a>(&self, places: impl IntoIterator<Item = (&'a str, i32, i64)>) -> Result<(), Code> {
        let list = list(places)?;
        // SAFETY: client and list live; the list is copied.
        unsafe {
            if is_cooperative(self.ptr()) {
                check_object(sys::rd_kafka_incremental_assign(self.ptr(), list.ptr()))
            } else {
                check(sys::rd_kafka_assign(self.ptr(), list.ptr()))
            }
        }
    }

    /// Lets these go. Where the group does not know single partitions, all.
    pub(crate) fn unassign<'a>(&self, places: impl IntoIterator<Item = (&'a str, i32, i64)>) -> Result<(), Code> {
        let list = list(places)?;
        // SAFETY: client and list live; the list is copied.
        unsafe { unassign(self.ptr(), list.ptr()) }
    }

    /// Starts to commit these next offsets; [`ConsumerCallbacks::committed`] gets the broker's answer.
    pub(crate) fn commit<'a>(&self, places: impl IntoIterator<Item = (&'a str, i32, i64)>) -> Result<(), Code> {
        let list = list(places)?;
        // SAFETY: client and list live; the list is copied.
        check(unsafe { sys::rd_kafka_commit(self.ptr(), list.ptr(), 1) })
    }

    /// Commits these next offsets and waits for the broker's answer, unlike librdkafka's own synchronous commit not for
    /// ever.
    pub(crate) fn commit_now<'a>(
        &self,
        places: impl IntoIterator<Item = (&'a str, i32, i64)>,
        limit: Duration,
    ) -> Result<Answers, Code> {
        let list = list(places)?;
        // SAFETY: client, list and queue live through the call; the event is ours, and what it lends is copied before it
        // is destroyed. An answer that comes after the queue is gone is dropped by librdkafka.
        unsafe {
            let queue = NonNull::new(sys::rd_kafka_queue_new(self.ptr())).ok_or(Code::CriticalSystemResource)?;
            let queue = Queue(queue);
            check(sys::rd_kafka_commit_queue(self.ptr(), list.ptr(), queue.0.as_ptr(), None, ptr::null_mut()))?;
            let event = sys::rd_kafka_queue_poll(queue.0.as_ptr(), millis(limit));
            if event.is_null() {
                return Err(Code::OperationTimedOut);
            }
            let result = check(sys::rd_kafka_event_error(event));
            let places = places_of(sys::rd_kafka_event_topic_partition_list(event));
            sys::rd_kafka_event_destroy(event);
            result.map(|()| places)
        }
    }

    /// The group's positions in these partitions; [`Place::NONE`] where it has none.
    pub(crate) fn committed<'a>(
        &self,
        places: impl IntoIterator<Item = (&'a str, i32)>,
        limit: Duration,
    ) -> Result<Vec<Place>, Code> {
        let list = list(places.into_iter().map(|(topic, partition)| (topic, partition, Place::NONE)))?;
        // SAFETY: client and list live; the offsets are written into the list.
        check(unsafe { sys::rd_kafka_committed(self.ptr(), list.ptr(), millis(limit)) })?;
        list.places().into_iter().map(|(place, result)| result.map(|()| place)).collect()
    }

    /// Goes to these places. Returns before it is done; what was fetched before does not come any more.
    pub(crate) fn seek<'a>(&self, places: impl IntoIterator<Item = (&'a str, i32, i64)>) -> Result<(), Code> {
        let list = list(places)?;
        // SAFETY: client and list live; the error object is ours.
        unsafe { check_object(sys::rd_kafka_seek_partitions(self.ptr(), list.ptr(), 0)) }
    }

    pub(crate) fn pause<'a>(&self, places: impl IntoIterator<Item = (&'a str, i32)>) -> Result<(), Code> {
        let list = list(places.into_iter().map(|(topic, partition)| (topic, partition, Place::NONE)))?;
        // SAFETY: client and list live.
        check(unsafe { sys::rd_kafka_pause_partitions(self.ptr(), list.ptr()) })
    }

    pub(crate) fn resume<'a>(&self, places: impl IntoIterator<Item = (&'a str, i32)>) -> Result<(), Code> {
        let list = list(places.into_iter().map(|(topic, partition)| (topic, partition, Place::NONE)))?;
        // SAFETY: client and list live.
        check(unsafe { sys::rd_kafka_resume_partitions(self.ptr(), list.ptr()) })
    }

    /// The oldest and the next offset of a partition as the last fetch told them; asks nobody.
    pub(crate) fn cached_range(&self, topic: &str, partition: i32) -> Option<(i64, i64)> {
        let topic = CString::new(topic).ok()?;
        let (mut low, mut high) = (Place::NONE, Place::NONE);
        // SAFETY: client and name live; both numbers are written before the function returns.
        let known = unsafe {
            sys::rd_kafka_get_watermark_offsets(self.ptr(), topic.as_ptr(), partition, &raw mut low, &raw mut high)
        };
        (known == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && low >= 0 && high >= 0).then_some((low, high))
    }

    /// Leaves the group and polls until librdkafka says that it has, at most until `is_over`. False when it has not.
    pub(crate) fn leave(&mut self, is_over: impl Fn() -> bool) -> bool {
        let mut late = VecDeque::new();
        // SAFETY: client and queue live; the error object is ours.
        let closing = unsafe { check_object(sys::rd_kafka_consumer_close_queue(self.ptr(), self.queue.0.as_ptr())) };
        if closing.is_err() {
            return false;
        }
        // SAFETY: the client lives.
        while unsafe { sys::rd_kafka_consumer_closed(self.ptr()) } == 0 {
            if is_over() {
                return false;
            }
            self.take(&mut late, 64, Duration::from_millis(20));
            late.clear();
        }
        true
    }
}

fn list<'a>(places: impl IntoIterator<Item = (&'a str, i32, i64)>) -> Result<Partitions, Code> {
    Partitions::of(places).ok_or(Code::CriticalSystemResource)
}

fn millis(limit: Duration) -> i32 {
    i32::try_from(limit.as_millis()).unwrap_or(i32::MAX)
}

/// # Safety
/// `client` must be a live consumer.
unsafe fn is_cooperative(client: *mut sys::rd_kafka_t) -> bool {
    // SAFETY: the caller vouches for the client; the string is static.
    unsafe {
        let protocol = sys::rd_kafka_rebalance_protocol(client);
        !protocol.is_null() && CStr::from_ptr(protocol).to_bytes() == b"COOPERATIVE"
    }
}

/// # Safety
/// `client` must be a live consumer and `list` a live list.
unsafe fn unassign(
    client: *mut sys::rd_kafka_t,
    list: *const sys::rd_kafka_topic_partition_list_t,
) -> Result<(), Code> {
    // SAFETY: the caller vouches for both; null means no partition at all.
    unsafe {
        if is_cooperative(client) {
            check_object(sys::rd_kafka_incremental_unassign(client, list))
        } else {
            check(sys::rd_kafka_assign(client, ptr::null()))
        }
    }
}

/// Answers an assignment without taking any of it.
///
/// # Safety
/// `client` must be a live consumer.
unsafe fn assign_nothing(client: *mut sys::rd_kafka_t) -> Result<(), Code> {
    let nothing = list([])?;
    // SAFETY: the caller vouches for the client; the list lives through the call.
    unsafe {
        if is_cooperative(client) {
            check_object(sys::rd_kafka_incremental_assign(client, nothing.ptr()))
        } else {
            check(sys::rd_kafka_assign(client, ptr::null()))
        }
    }
}

unsafe extern "C" fn rebalance_callback<C: ConsumerCallbacks>(
    client: *mut sys::rd_kafka_t,
    error: RDKafkaRespErr,
    list: *mut sys::rd_kafka_topic_partition_list_t,
    context: *mut c_void,
) {
    // SAFETY: librdkafka passes its own live client, a list that lives as long as this call, and the context that `create`
    // registered for this very type. The queue reference is given back.
    unsafe {
        let context = &*context.cast::<C>();
        let partitions = places_of(list).into_iter().map(|(place, _)| place).collect();
        let comes = error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        let accepted = context.rebalance(if comes {
            Rebalance::Assign(partitions)
        } else {
            Rebalance::Revoke { places: partitions, lost: sys::rd_kafka_assignment_lost(client) == 1 }
        });
        if !accepted {
            let answered = if comes { assign_nothing(client) } else { unassign(client, list) };
            if let Err(code) = answered {
                tracing::debug!(?code, "a rebalance at the end was not answered");
            }
        }
        // A batch call would go on waiting for messages; the group must not wait with it.
        let queue = sys::rd_kafka_queue_get_consumer(client);
        if !queue.is_null() {
            sys::rd_kafka_queue_yield(queue);
            sys::rd_kafka_queue_destroy(queue);
        }
    }
}

unsafe extern "C" fn commit_callback<C: ConsumerCallbacks>(
    _client: *mut sys::rd_kafka_t,
    error: RDKafkaRespErr,
    list: *mut sys::rd_kafka_topic_partition_list_t,
    context: *mut c_void,
) {
    // SAFETY: as for a rebalance.
    unsafe {
        let context = &*context.cast::<C>();
        context.committed(check(error), places_of(list));
    }
}
