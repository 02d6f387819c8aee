use std::collections::HashSet;
use std::fmt;
use std::ops::Deref;
use std::sync::{Mutex, OnceLock, PoisonError};

use bytes::Bytes;

/// The name of a topic or subject. Derefs to `str`.
///
/// Every message carries one, made on the source's thread and dropped on a lane's. Counting references to one shared name
/// from several threads costs more than the whole rest of the hand-over, so a source whose names are few takes
/// [`Channel::interned`], which is copied without any counting.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Channel(Bytes);

impl Channel {
    /// A name that lives as long as the process. Only for names whose number the configuration bounds (Kafka topics),
    /// never for names that a producer chooses (NATS subjects).
    pub fn interned(name: &str) -> Self {
        static NAMES: OnceLock<Mutex<HashSet<&'static str>>> = OnceLock::new();
        let mut names = NAMES.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        let name = names.get(name).copied().unwrap_or_else(|| {
            let name: &'static str = Box::leak(name.into());
            names.insert(name);
            name
        });
        Self(Bytes::from_static(name.as_bytes()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        // Every constructor takes a str, so the empty default is never reached.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl Deref for Channel {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl From<&str> for Channel {
    fn from(name: &str) -> Self {
        Self(Bytes::copy_from_slice(name.as_bytes()))
    }
}

impl From<String> for Channel {
    fn from(name: String) -> Self {
        Self(Bytes::from(name))
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}
