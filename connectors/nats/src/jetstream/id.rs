use portcullis_connector_api::Origin;

use crate::carry::ID_BEGIN;
use crate::percent;

/// Composes the ids by which a stream knows a message that comes twice.
#[derive(Debug)]
pub(super) struct Ids {
    begin: String,
    /// For messages without an origin. Of this process and sink alone.
    own: String,
}

impl Ids {
    pub(super) fn new(prefix: &str) -> Self {
        let mut begin = ID_BEGIN.to_owned();
        percent::encode_into(&mut begin, prefix.as_bytes(), &[]);
        let own = format!("{begin}/-/{}", nonce());
        Self { begin, own }
    }

    /// The same for the same output of the same source message, whatever process sends it.
    pub(super) fn of(&self, origin: &Origin<'_>) -> String {
        let mut id = String::with_capacity(self.begin.len() + origin.source.len() + origin.channel.len() + 48);
        id.push_str(&self.begin);
        for name in [origin.source, origin.channel] {
            id.push('/');
            // A `/` in a name would let two sources compose one id.
            percent::encode_into(&mut id, name.as_bytes(), b"/");
        }
        let Origin { partition, offset, stamp, output, .. } = origin;
        id.push_str(&format!("/{partition}/{offset}/{stamp:x}/{output}"));
        id
    }

    /// For a message that has no origin: the stream knows it again only when this sink itself sends it twice.
    pub(super) fn without_origin(&self, number: u64) -> String {
        format!("{}/{number}", self.own)
    }
}

/// Different in each process and for each sink, without a source of randomness of its own.
fn nonce() -> String {
    use std::hash::{BuildHasher, RandomState};
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{:016x}{:08x}", RandomState::new().hash_one(time), std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_sources_never_compose_the_same_id() {
        let ids = Ids::new("acme/orders");
        let origin = Origin { source: "c", channel: "a", partition: 1, offset: 2, stamp: 255, output: 0 };
        assert_eq!(ids.of(&origin), "portcullis/acme/orders/c/a/1/2/ff/0");
        assert_eq!(ids.of(&Origin { channel: "a/1", ..origin }), "portcullis/acme/orders/c/a%2F1/1/2/ff/0");
        assert_eq!(ids.of(&Origin { source: "c/a", ..origin }), "portcullis/acme/orders/c%2Fa/a/1/2/ff/0");
        assert!(ids.of(&Origin { channel: "\u{e9} b", ..origin }).is_ascii());
        assert_ne!(Ids::new("p").without_origin(1), Ids::new("p").without_origin(1));
    }
}
