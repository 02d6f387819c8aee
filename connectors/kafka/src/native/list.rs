use std::ffi::{CStr, CString};
use std::ptr::NonNull;

use rdkafka::bindings as sys;
use rdkafka::types::RDKafkaErrorCode as Code;

use super::check;

/// A partition with an offset, as librdkafka's lists hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    /// [`Place::BEGINNING`], [`Place::END`], [`Place::NONE`] or an offset.
    pub(crate) offset: i64,
}

impl Place {
    pub(crate) const BEGINNING: i64 = sys::RD_KAFKA_OFFSET_BEGINNING as i64;
    pub(crate) const END: i64 = sys::RD_KAFKA_OFFSET_END as i64;
    pub(crate) const NONE: i64 = sys::RD_KAFKA_OFFSET_INVALID as i64;
}

/// Places, each with what happened to it.
pub(crate) type Answers = Vec<(Place, Result<(), Code>)>;

/// A list that librdkafka reads and writes.
pub(crate) struct Partitions(NonNull<sys::rd_kafka_topic_partition_list_t>);

impl Partitions {
    /// A list of these. Names with a NUL, which no topic has, are left out.
    pub(crate) fn of<'a>(places: impl IntoIterator<Item = (&'a str, i32, i64)>) -> Option<Self> {
        // SAFETY: makes an object that only this value owns.
        let list = unsafe { sys::rd_kafka_topic_partition_list_new(8) };
        let list = Self(NonNull::new(list)?);
        for (topic, partition, offset) in places {
            let Ok(topic) = CString::new(topic) else { continue };
            // SAFETY: the list is ours, the name is copied, and the element that is returned lives in the list until it
            // grows again.
            unsafe {
                let element = sys::rd_kafka_topic_partition_list_add(list.ptr(), topic.as_ptr(), partition);
                if let Some(element) = element.as_mut() {
                    element.offset = offset;
                }
            }
        }
        Some(list)
    }

    pub(super) fn ptr(&self) -> *mut sys::rd_kafka_topic_partition_list_t {
        self.0.as_ptr()
    }

    /// What the list holds now, each with its own error.
    pub(crate) fn places(&self) -> Answers {
        // SAFETY: the list lives as long as self.
        unsafe { places_of(self.ptr()) }
    }
}

impl Drop for Partitions {
    fn drop(&mut self) {
        // SAFETY: made in `of`, destroyed once.
        unsafe { sys::rd_kafka_topic_partition_list_destroy(self.ptr()) }
    }
}

/// Copies a list. An empty one has no array at all, so the count is asked first.
///
/// # Safety
/// `list` must be null or a list that lives as long as the call.
pub(super) unsafe fn places_of(list: *const sys::rd_kafka_topic_partition_list_t) -> Answers {
    // SAFETY: the caller vouches for the list; librdkafka keeps `cnt` elements behind `elems` when `cnt` is above zero, and
    // each has a name that ends with a NUL.
    unsafe {
        let Some(list) = list.as_ref() else { return Vec::new() };
        let count = usize::try_from(list.cnt).unwrap_or(0);
        if count == 0 || list.elems.is_null() {
            return Vec::new();
        }
        std::slice::from_raw_parts(list.elems, count)
            .iter()
            .map(|element| {
                let topic = CStr::from_ptr(element.topic).to_string_lossy().into_owned();
                (Place { topic, partition: element.partition, offset: element.offset }, check(element.err))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_gives_back_what_was_put_in_and_an_empty_one_nothing() {
        assert!(Partitions::of([]).unwrap().places().is_empty());
        let list = Partitions::of([("a", 3, 7), ("b", 0, Place::BEGINNING)]).unwrap();
        let places = list.places();
        assert_eq!(places.len(), 2);
        assert_eq!(places[0].0, Place { topic: "a".into(), partition: 3, offset: 7 });
        assert_eq!(places[1].0.offset, Place::BEGINNING);
        assert!(places.iter().all(|(_, result)| result.is_ok()));
    }
}
