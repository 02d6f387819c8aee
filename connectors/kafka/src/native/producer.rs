use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::{self, NonNull};
use std::time::Duration;

use portcullis_connector_api::{ConnectorError, Header, Headers, Message, Receipt, Timestamp, Token};
use rdkafka::ClientConfig;
use rdkafka::bindings as sys;
use rdkafka::client::Client;
use rdkafka::types::{RDKafkaErrorCode as Code, RDKafkaType};
use sys::rd_kafka_vtype_t as argument;

use super::{ErrorCallback, check, create};

// The token travels through librdkafka as a pointer that nobody follows.
const _: () = assert!(size_of::<usize>() == size_of::<u64>());

/// Where a producer reports. Called on the thread that polls it.
pub(crate) trait ProducerCallbacks: ErrorCallback {
    /// The fate of one message.
    fn delivered(&self, token: Token, topic: &str, result: Result<Receipt, Code>);
}

/// A producer.
pub(crate) struct Producer<C: ProducerCallbacks> {
    client: Client<C>,
}

impl<C: ProducerCallbacks> Producer<C> {
    pub(crate) fn new(config: &ClientConfig, context: C) -> Result<Self, ConnectorError> {
        let client = create(config, context, RDKafkaType::RD_KAFKA_PRODUCER, |native| {
            // SAFETY: see `create`.
            unsafe { sys::rd_kafka_conf_set_dr_msg_cb(native.ptr(), Some(delivery_callback::<C>)) }
        })?;
        Ok(Self { client })
    }

    pub(crate) fn client(&self) -> &Client<C> {
        &self.client
    }

    /// The topic's object, which saves librdkafka a search for every message.
    pub(crate) fn topic(&self, name: &str) -> Result<TopicHandle, Code> {
        let name = CString::new(name).map_err(|_| Code::InvalidTopic)?;
        // SAFETY: the client lives; the name is copied, and null asks for the client's own settings.
        let topic = unsafe { sys::rd_kafka_topic_new(self.client.native_ptr(), name.as_ptr(), ptr::null_mut()) };
        NonNull::new(topic).map(TopicHandle).ok_or(Code::InvalidTopic)
    }

    /// Hands a message over; its bytes are copied. `Ok` means that [`ProducerCallbacks::delivered`] will follow.
    pub(crate) fn produce(&self, to: Destination<'_>, message: &Message, token: Token) -> Result<(), Code> {
        let headers = OutgoingHeaders::of(&message.headers)?;
        let (value, value_length) = borrowed(message.value.as_deref());
        let (key, key_length) = borrowed(message.key.as_deref());
        let (kind, topic): (_, *const c_void) = match to {
            Destination::Topic(topic) => (argument::RD_KAFKA_VTYPE_RKT, topic.0.as_ptr().cast_const().cast()),
            Destination::Name(name) => (argument::RD_KAFKA_VTYPE_TOPIC, name.as_ptr().cast()),
        };
        // SAFETY: each tag is followed by the arguments that librdkafka's table names for it. Key, value and name live
        // through the call and are copied (`F_COPY`). The headers become librdkafka's only when it returns no error.
        let produced = unsafe {
            sys::rd_kafka_producev(
                self.client.native_ptr(),
                kind,
                topic,
                argument::RD_KAFKA_VTYPE_MSGFLAGS,
                sys::RD_KAFKA_MSG_F_COPY,
                argument::RD_KAFKA_VTYPE_VALUE,
                value,
                value_length,
                argument::RD_KAFKA_VTYPE_KEY,
                key,
                key_length,
                argument::RD_KAFKA_VTYPE_OPAQUE,
                ptr::without_provenance_mut::<c_void>(token.0 as usize),
                argument::RD_KAFKA_VTYPE_TIMESTAMP,
                wire_timestamp(message.timestamp),
                argument::RD_KAFKA_VTYPE_HEADERS,
                headers.ptr(),
                argument::RD_KAFKA_VTYPE_END,
            )
        };
        check(produced)?;
        headers.handed_over();
        Ok(())
    }

    /// Runs the callbacks of what has happened; waits for it at most for `wait`.
    pub(crate) fn poll(&self, wait: Duration) {
        let wait = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the client lives.
        unsafe { sys::rd_kafka_poll(self.client.native_ptr(), wait) };
    }

    /// Ends every message that waits or is under way: its report says so.
    pub(crate) fn purge(&self) {
        // SAFETY: the client lives; the flags are librdkafka's own, so it cannot refuse them.
        unsafe {
            sys::rd_kafka_purge(self.client.native_ptr(), sys::RD_KAFKA_PURGE_F_QUEUE | sys::RD_KAFKA_PURGE_F_INFLIGHT);
        }
    }
}

/// Where a message goes.
#[derive(Clone, Copy)]
pub(crate) enum Destination<'a> {
    /// Resolved once.
    Topic(&'a TopicHandle),
    /// Searched by name.
    Name(&'a CStr),
}

/// A topic of a producer; must be gone before its producer.
pub(crate) struct TopicHandle(NonNull<sys::rd_kafka_topic_t>);

// SAFETY: librdkafka counts references to a topic and locks it itself.
unsafe impl Send for TopicHandle {}
// SAFETY: the same.
unsafe impl Sync for TopicHandle {}

impl Drop for TopicHandle {
    fn drop(&mut self) {
        // SAFETY: a reference of our own, given back once.
        unsafe { sys::rd_kafka_topic_destroy(self.0.as_ptr()) }
    }
}

/// Headers in librdkafka's form, until it takes them.
struct OutgoingHeaders(*mut sys::rd_kafka_headers_t);

impl OutgoingHeaders {
    fn of(headers: &Headers) -> Result<Self, Code> {
        if headers.is_empty() {
            return Ok(Self(ptr::null_mut()));
        }
        // SAFETY: makes an object that only this value owns.
        let list = Self(unsafe { sys::rd_kafka_headers_new(headers.len()) });
        for Header { name, value } in headers {
            let (value, length) = borrowed(value.as_deref());
            // SAFETY: the list is ours; name and value are copied with the lengths given, so that neither needs to end
            // with a NUL or be text. A null value stays null.
            let added = unsafe {
                sys::rd_kafka_header_add(
                    list.0,
                    name.as_ptr().cast::<c_char>(),
                    isize::try_from(name.len()).map_err(|_| Code::MessageSizeTooLarge)?,
                    value,
                    isize::try_from(length).map_err(|_| Code::MessageSizeTooLarge)?,
                )
            };
            check(added)?;
        }
        Ok(list)
    }

    fn ptr(&self) -> *mut sys::rd_kafka_headers_t {
        self.0
    }

    fn handed_over(mut self) {
        self.0 = ptr::null_mut();
    }
}

impl Drop for OutgoingHeaders {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: still ours.
            unsafe { sys::rd_kafka_headers_destroy(self.0) }
        }
    }
}

/// Null for null; what is empty gets an address, because librdkafka tells the two apart by it.
fn borrowed(bytes: Option<&[u8]>) -> (*const c_void, usize) {
    bytes.map_or((ptr::null(), 0), |bytes| (bytes.as_ptr().cast(), bytes.len()))
}

unsafe extern "C" fn delivery_callback<C: ProducerCallbacks>(
    _client: *mut sys::rd_kafka_t,
    message: *const sys::rd_kafka_message_t,
    context: *mut c_void,
) {
    // SAFETY: librdkafka passes a message that lives as long as this call, with its topic, and the context that `create`
    // registered for this very type.
    unsafe {
        let context = &*context.cast::<C>();
        let Some(message) = message.as_ref() else { return };
        let token = Token(message._private.addr() as u64);
        match check(message.err) {
            Ok(()) => {
                let offset = (message.offset >= 0).then_some(message.offset);
                context.delivered(token, "", Ok(Receipt { partition: Some(message.partition), offset }));
            }
            Err(code) => {
                let topic =
                    if message.rkt.is_null() { c"" } else { CStr::from_ptr(sys::rd_kafka_topic_name(message.rkt)) };
                context.delivered(token, &topic.to_string_lossy(), Err(code));
            }
        }
    }
}

/// librdkafka reads 0 as "none given" and would store the time of sending: one millisecond off is the smaller lie.
fn wire_timestamp(timestamp: Timestamp) -> i64 {
    match timestamp.millis() {
        Some(0) => 1,
        Some(ms) => ms,
        None => 0,
    }
}
