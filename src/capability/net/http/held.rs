//! What one instance can make the host hold by HTTP. The guest's memory limit does not see it, so each text is bounded where
//! the guest sets it, and the resources that hold the texts are counted:
//!
//! | resource | at most |
//! |---|---|
//! | fields | 48 KiB as upstream counts them and 256 fields: 116 KiB with the map around them |
//! | request | its fields, method 32 bytes, scheme 64, authority 512, path and query 8 KiB |
//! | body of a request | 64 KiB that wait for the connection |
//! | future of an answer | a request that passed the bounds of one (32 KiB, 128 fields), its path twice, 64 KiB of its body, 4 KiB of trailers |
//! | answer, its body, its trailers | 32 KiB of head in 128 fields, one frame of 64 KiB, both in memory of their own |
//!
//! None of them is above [`RESOURCE_BYTES`], and an instance has at most a sixteenth as many as it may have handles, or
//! [`LEAST`]: 256 with the default of 4096 handles, which is 48 MiB. Connections are counted by `connections` and have their
//! buffers beside that.

use wasmtime::component::ResourceTableError;

/// A method as a guest may set it.
pub(crate) const METHOD_BYTES: usize = 32;
/// A host name of 253 bytes and a port would need 259. Above that there is room for what is no name, or has user information
/// before it: such a request is decided and recorded, where a setter only says no.
pub(crate) const AUTHORITY_BYTES: usize = 512;
/// Path with query.
pub(crate) const PATH_BYTES: usize = 8 << 10;
/// Fields of one map while the guest makes it. Above the bound of a request, so that a request that is somewhat too large is
/// refused with a code and does not cost the instance.
pub(crate) const FIELDS_MADE: usize = 256;
/// One write to a body. Upstream keeps two of them before the connection has taken the first.
pub(crate) const CHUNK_BYTES: usize = 32 << 10;
/// Trailers of a request, as bytes and as fields.
pub(crate) const TRAILERS: (usize, usize) = (4 << 10, 16);
/// What hyper may read ahead, and with it the largest frame of an answer.
pub(crate) const READ_BYTES: usize = 64 << 10;

/// The most that a resource holds. Only the tests need it as a number: it follows from the bounds above.
#[cfg(test)]
pub(crate) const RESOURCE_BYTES: usize = 192 << 10;

/// One of so many handles may be HTTP's.
const SHARE: usize = 16;
/// Enough for several requests at once, however few handles there are.
const LEAST: usize = 64;

/// The HTTP resources of an instance.
#[derive(Debug)]
pub(crate) struct Held {
    live: usize,
    most: usize,
}

impl Held {
    pub(crate) fn new(most: usize) -> Self {
        Self { live: 0, most }
    }

    /// How many an instance with so many handles may have.
    pub(crate) fn most(handles: u32) -> usize {
        usize::try_from(handles).map_or(LEAST, |handles| (handles / SHARE).max(LEAST))
    }

    /// One more is in the table.
    ///
    /// # Errors
    /// When it is one too many. The call must end with this error, and its instance with it: the resource is in the table.
    pub(crate) fn add(&mut self) -> Result<(), ResourceTableError> {
        self.live += 1;
        if self.live > self.most { Err(ResourceTableError::Full) } else { Ok(()) }
    }

    /// One has left the table.
    pub(crate) fn remove(&mut self) {
        self.live = self.live.saturating_sub(1);
    }

    #[cfg(test)]
    pub(crate) fn live(&self) -> usize {
        self.live
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sixteenth_of_the_handles_is_https_and_never_less_than_a_few_requests_need() {
        assert_eq!([5, 1024, 4096, 1_000_000].map(Held::most), [64, 64, 256, 62_500]);
        assert_eq!(Held::most(4096) * RESOURCE_BYTES, 48 << 20, "what the manual says");
        let mut held = Held::new(1);
        assert!(held.add().is_ok());
        held.remove();
        assert!(held.add().is_ok());
        assert!(matches!(held.add(), Err(ResourceTableError::Full)));
    }
}
