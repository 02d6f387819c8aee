use bytes::BytesMut;
use portcullis_connector_api::{AssignmentId, Bytes, Channel, Defect, Header, Headers, Message, Record};

use crate::native::{NativeHeaders, NativeMessage};

/// Messages share allocations of this size. Small, because one message that stays long keeps the whole of it.
const CHUNK_BYTES: usize = 32 * 1024;
/// Above this a field has an allocation of its own, so that it neither wastes the rest of a chunk nor keeps one.
const OWN_BYTES: usize = 8 * 1024;

/// Where the bytes of messages are copied to: an allocation for many of them.
#[derive(Debug, Default)]
pub(crate) struct Arena(BytesMut);

impl Arena {
    fn copy(&mut self, bytes: &[u8]) -> Bytes {
        if bytes.is_empty() {
            return Bytes::new();
        }
        if bytes.len() > OWN_BYTES {
            return Bytes::copy_from_slice(bytes);
        }
        if self.0.capacity() < bytes.len() {
            self.0 = BytesMut::with_capacity(CHUNK_BYTES);
        }
        self.0.extend_from_slice(bytes);
        self.0.split().freeze()
    }
}

/// Copies a message out of librdkafka.
pub(crate) fn copy(native: &NativeMessage, arena: &mut Arena, assignment: AssignmentId, channel: Channel) -> Record {
    let mut defect = None;
    let headers = match native.headers() {
        Ok(None) => Headers::default(),
        Ok(Some(headers)) => copy_headers(&headers, arena, &mut defect),
        Err(code) => {
            defect = Some(format!("the headers cannot be read ({code:?})"));
            Headers::default()
        }
    };
    Record {
        message: Message {
            key: native.key().map(|key| arena.copy(key)),
            value: native.value().map(|value| arena.copy(value)),
            headers,
            timestamp: native.timestamp(),
            channel,
        },
        assignment,
        offset: native.offset(),
        redelivered: 0,
        defect: defect.map(|detail| Box::new(Defect { detail })),
    }
}

fn copy_headers(headers: &NativeHeaders<'_>, arena: &mut Arena, defect: &mut Option<String>) -> Headers {
    let headers = headers.iter().enumerate().map(|(index, (name, value))| {
        if defect.is_none() && std::str::from_utf8(name).is_err() {
            *defect = Some(format!("the name of header {} is not UTF-8", index + 1));
        }
        Header { name: arena.copy(name), value: value.map(|value| arena.copy(value)) }
    });
    headers.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_small_fields_share_one_allocation_and_a_large_one_has_its_own() {
        let mut arena = Arena::default();
        let first = arena.copy(b"first");
        let second = arena.copy(b"second");
        assert_eq!(second.as_ptr(), first.as_ptr().wrapping_add(first.len()));
        let large = arena.copy(&vec![7; OWN_BYTES + 1]);
        let third = arena.copy(b"third");
        assert_eq!(third.as_ptr(), second.as_ptr().wrapping_add(second.len()), "the large one was not in between");
        assert_eq!((&first[..], &second[..], large.len()), (&b"first"[..], &b"second"[..], OWN_BYTES + 1));
    }

    #[test]
    fn a_full_chunk_is_followed_by_a_new_one_and_both_keep_their_bytes() {
        let mut arena = Arena::default();
        let fields: Vec<Bytes> = (0..100_u8).map(|byte| arena.copy(&[byte; 1000])).collect();
        assert!(fields.iter().enumerate().all(|(index, field)| field.iter().all(|byte| usize::from(*byte) == index)));
    }
}
