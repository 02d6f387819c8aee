//! The way into librdkafka and back: the only unsafe code of this crate. Every pointer is owned by exactly one type here,
//! every callback ends in a method of a safe trait, and what is lent by librdkafka is copied before its owner is touched
//! again.
#![allow(unsafe_code)]

mod consumer;
mod describe;
mod list;
mod message;
mod producer;

use std::ffi::{CStr, c_char, c_int, c_void};

use portcullis_connector_api::ConnectorError;
use rdkafka::ClientConfig;
use rdkafka::bindings as sys;
use rdkafka::client::{Client, ClientContext};
use rdkafka::config::NativeClientConfig;
use rdkafka::types::{RDKafkaErrorCode as Code, RDKafkaRespErr, RDKafkaType};

use crate::{failure, log};

pub(crate) use consumer::{Consumer, ConsumerCallbacks, Rebalance};
pub(crate) use describe::{Describer, Group, NoAnswer, Operations};
pub(crate) use list::{Answers, Partitions, Place};
pub(crate) use message::{NativeHeaders, NativeMessage};
pub(crate) use producer::{Destination, Producer, ProducerCallbacks, TopicHandle};

/// The pause of a mock cluster before the first assignment of a group, which is 3 s by itself.
pub(crate) fn set_mock_group_delay<C: ClientContext>(client: &Client<C>, delay_ms: i32) {
    // SAFETY: the client lives as long as the borrow; for a client without a mock cluster the handle is null.
    unsafe {
        let cluster = sys::rd_kafka_handle_mock_cluster(client.native_ptr());
        if !cluster.is_null() {
            sys::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, delay_ms);
        }
    }
}

/// The partition of a key among `count`, by the partitioner that every producer of ours has.
pub(crate) fn partition_of(key: &[u8], count: i32) -> i32 {
    // SAFETY: the function reads `key` with its length and nothing else: it uses neither topic nor opaque pointers.
    unsafe {
        sys::rd_kafka_msg_partitioner_murmur2(
            std::ptr::null(),
            key.as_ptr().cast(),
            key.len(),
            count.max(1),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        )
    }
}

/// Where errors of a client as a whole are reported. Called on the thread that polls the client.
pub(crate) trait ErrorCallback: ClientContext + 'static {
    /// `fatal`: the client is dead, and `code` says why.
    fn failed(&self, code: Code, reason: &str, fatal: bool);
}

fn create<C: ErrorCallback>(
    config: &ClientConfig,
    context: C,
    client_type: RDKafkaType,
    install: impl FnOnce(&NativeClientConfig),
) -> Result<Client<C>, ConnectorError> {
    let failed = |error| failure::from_rdkafka("cannot make a Kafka client", &error);
    let native = config.create_native_config().map_err(failed)?;
    // SAFETY: the configuration is ours until `Client::new` takes it. The callbacks cast the opaque pointer, which
    // `Client::new` sets to the context that the client keeps alive, to the type they were made for.
    unsafe {
        sys::rd_kafka_conf_set_error_cb(native.ptr(), Some(error_callback::<C>));
        sys::rd_kafka_conf_set_log_cb(native.ptr(), Some(log_callback));
    }
    install(&native);
    Client::new(config, native, client_type, context).map_err(failed)
}

unsafe extern "C" fn error_callback<C: ErrorCallback>(
    client: *mut sys::rd_kafka_t,
    error: c_int,
    reason: *const c_char,
    context: *mut c_void,
) {
    // SAFETY: librdkafka passes its own live client, a string that lives as long as this call, and the context that
    // `create` registered for this very type.
    unsafe {
        let context = &*context.cast::<C>();
        if error != RDKafkaRespErr::RD_KAFKA_RESP_ERR__FATAL as c_int {
            return context.failed(code_of(error), &text(reason), false);
        }
        let mut buffer = [0 as c_char; 512];
        let code = sys::rd_kafka_fatal_error(client, buffer.as_mut_ptr(), buffer.len());
        context.failed(code.into(), &text(buffer.as_ptr()), true);
    }
}

unsafe extern "C" fn log_callback(
    _client: *const sys::rd_kafka_t,
    level: c_int,
    facility: *const c_char,
    line: *const c_char,
) {
    // SAFETY: both strings live as long as this call.
    unsafe { log::forward(level, &text(facility), &text(line)) }
}

/// The callback has an integer where every other function has the enumeration. Only codes that the connector tells apart
/// are named; a transmute of an unknown number would be undefined.
fn code_of(error: c_int) -> Code {
    const TOLD_APART: [Code; 10] = [
        Code::AllBrokersDown,
        Code::Authentication,
        Code::BrokerTransportFailure,
        Code::ClusterAuthorizationFailed,
        Code::GroupAuthorizationFailed,
        Code::Resolve,
        Code::SSL,
        Code::TopicAuthorizationFailed,
        Code::UnknownTopicOrPartition,
        Code::UnsupportedSASLMechanism,
    ];
    TOLD_APART.into_iter().find(|code| *code as c_int == error).unwrap_or(Code::Fail)
}

/// # Safety
/// `string` must be null or end with a NUL.
unsafe fn text(string: *const c_char) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: not null, and the caller vouches for the NUL.
    unsafe { CStr::from_ptr(string) }.to_string_lossy().trim().to_owned()
}

/// Bytes that librdkafka lends: null is `None`, which is not empty.
///
/// # Safety
/// `bytes` must be null or point to `length` bytes that live for `'a`.
unsafe fn lent<'a>(bytes: *const c_void, length: usize) -> Option<&'a [u8]> {
    // SAFETY: the caller vouches for pointer and length; null was asked for.
    (!bytes.is_null()).then(|| unsafe { std::slice::from_raw_parts(bytes.cast(), length) })
}

fn check(error: RDKafkaRespErr) -> Result<(), Code> {
    match error {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        error => Err(error.into()),
    }
}

/// Takes the code out of an error object and frees it.
///
/// # Safety
/// `error` must be null or an object that the caller owns.
unsafe fn check_object(error: *mut sys::rd_kafka_error_t) -> Result<(), Code> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: not null and owned; not used after it was destroyed.
    let code = unsafe {
        let code = sys::rd_kafka_error_code(error);
        sys::rd_kafka_error_destroy(error);
        code
    };
    check(code)
}
