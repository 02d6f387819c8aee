use std::io;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

/// One event as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// Its number in the chain, from 1 on without a gap.
    pub sequence: u64,
    /// The chain's uid: the record's key, so that a chain stays in one partition.
    pub key: Arc<str>,
    /// The event as canonical JSON.
    pub value: Vec<u8>,
    /// The CloudEvents headers of binary mode.
    pub headers: Vec<(&'static str, String)>,
}

/// Where events are kept. Owned by the writer's thread alone.
pub trait Store: Send {
    /// Takes a record, in the order of `sequence`. May keep it in memory until [`Store::confirmed`]. After an error of
    /// either function the writer appends everything that was not confirmed again, byte for byte: a reader knows a
    /// repeated record by its sequence.
    ///
    /// # Errors
    /// When the store cannot take it now. The writer keeps the record, waits and tries again: a store never drops one.
    fn append(&mut self, record: &AuditRecord) -> Result<(), StoreError>;

    /// The highest sequence up to which every record is durable; 0 before the first. Waits at most `wait` for progress.
    ///
    /// # Errors
    /// When a record that was appended will not become durable without being appended again.
    fn confirmed(&mut self, wait: Duration) -> Result<u64, StoreError>;
}

impl<S: Store + ?Sized> Store for Box<S> {
    fn append(&mut self, record: &AuditRecord) -> Result<(), StoreError> {
        (**self).append(record)
    }

    fn confirmed(&mut self, wait: Duration) -> Result<u64, StoreError> {
        (**self).confirmed(wait)
    }
}

/// Why a store could not take or keep a record. Every one is tried again.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store is away; what it said.
    #[error("the audit store is unavailable: {0}")]
    Unavailable(String),
    /// The file system refused.
    #[error("the audit file cannot be written: {0}")]
    Io(#[from] io::Error),
}
