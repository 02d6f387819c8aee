use std::ffi::CStr;
use std::ptr::{self, NonNull};

use portcullis_connector_api::Timestamp;
use rdkafka::bindings as sys;
use rdkafka::types::{RDKafkaErrorCode as Code, RDKafkaRespErr};

use super::{check, lent, text};

/// A message, or an error about a partition, that a consumer has taken out of librdkafka's queue. It pins a buffer of
/// librdkafka, and all of them must be gone before the consumer is.
pub(crate) struct NativeMessage(NonNull<sys::rd_kafka_message_t>);

// SAFETY: a message is owned by one value, and librdkafka lets any thread read and destroy it.
unsafe impl Send for NativeMessage {}

impl NativeMessage {
    /// # Safety
    /// The caller hands over its own message.
    pub(super) unsafe fn own(message: *mut sys::rd_kafka_message_t) -> Option<Self> {
        NonNull::new(message).map(Self)
    }

    fn raw(&self) -> &sys::rd_kafka_message_t {
        // SAFETY: owned and alive until drop, and nothing writes to it.
        unsafe { self.0.as_ref() }
    }

    /// What this is about, when it is an error and no message.
    pub(crate) fn error(&self) -> Option<Code> {
        check(self.raw().err).err()
    }

    /// librdkafka's own words, for an error.
    pub(crate) fn error_text(&self) -> String {
        // SAFETY: for an error the payload is a string that lives with the message; the function returns it.
        unsafe { text(sys::rd_kafka_message_errstr(self.0.as_ptr())) }
    }

    /// The name of the topic; empty where an error is about none.
    pub(crate) fn topic(&self) -> &str {
        let topic = self.raw().rkt;
        if topic.is_null() {
            return "";
        }
        // SAFETY: the message keeps its topic object alive, and that its name.
        unsafe { CStr::from_ptr(sys::rd_kafka_topic_name(topic)) }.to_str().unwrap_or_default()
    }

    /// The address of the topic object: equal for two messages of one topic while both live. Never followed.
    pub(crate) fn topic_address(&self) -> usize {
        self.raw().rkt.addr()
    }

    pub(crate) fn partition(&self) -> i32 {
        self.raw().partition
    }

    pub(crate) fn offset(&self) -> i64 {
        self.raw().offset
    }

    pub(crate) fn key(&self) -> Option<&[u8]> {
        let raw = self.raw();
        // SAFETY: librdkafka keeps `key_len` bytes behind `key` as long as the message lives.
        unsafe { lent(raw.key, raw.key_len) }
    }

    pub(crate) fn value(&self) -> Option<&[u8]> {
        let raw = self.raw();
        // SAFETY: as for the key.
        unsafe { lent(raw.payload, raw.len) }
    }

    pub(crate) fn timestamp(&self) -> Timestamp {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message lives, and `kind` is written before the function returns.
        let millis = unsafe { sys::rd_kafka_message_timestamp(self.0.as_ptr(), &raw mut kind) };
        match kind {
            sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_CREATE_TIME if millis >= 0 => Timestamp::Created(millis),
            sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME if millis >= 0 => {
                Timestamp::Appended(millis)
            }
            _ => Timestamp::Unknown,
        }
    }

    /// The headers, parsed on the first call; `None` without any.
    pub(crate) fn headers(&self) -> Result<Option<NativeHeaders<'_>>, Code> {
        let mut headers = ptr::null_mut();
        // SAFETY: the message lives; it stays the owner of the headers that are returned.
        let found = unsafe { sys::rd_kafka_message_headers(self.0.as_ptr(), &raw mut headers) };
        if found == RDKafkaRespErr::RD_KAFKA_RESP_ERR__NOENT {
            return Ok(None);
        }
        check(found)?;
        Ok(NonNull::new(headers).map(|headers| NativeHeaders { headers, _message: self }))
    }
}

impl Drop for NativeMessage {
    fn drop(&mut self) {
        // SAFETY: owned, destroyed once.
        unsafe { sys::rd_kafka_message_destroy(self.0.as_ptr()) }
    }
}

/// The headers of a message in their order, duplicates included.
pub(crate) struct NativeHeaders<'a> {
    headers: NonNull<sys::rd_kafka_headers_t>,
    _message: &'a NativeMessage,
}

impl<'a> NativeHeaders<'a> {
    /// Name and value of each. The name is bytes: a broker stores any. Only what follows a NUL in it librdkafka does not
    /// show.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + '_ {
        (0..).map_while(move |index| {
            let (mut name, mut value, mut length) = (ptr::null(), ptr::null(), 0);
            // SAFETY: the headers live as long as the message; name and value point into them. Past the last one the
            // function returns an error and writes nothing.
            unsafe {
                let found = sys::rd_kafka_header_get_all(
                    self.headers.as_ptr(),
                    index,
                    &raw mut name,
                    &raw mut value,
                    &raw mut length,
                );
                check(found).ok()?;
                Some((CStr::from_ptr(name).to_bytes(), lent(value, length)))
            }
        })
    }
}
