use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::store::{AuditRecord, Store, StoreError};

/// A store in memory, for tests. Its clones share what was stored and can make it fail.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    records: Vec<AuditRecord>,
    unavailable: bool,
    withholding: bool,
}

impl MemoryStore {
    /// An empty store that works.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on refuses everything, or works again.
    pub fn set_unavailable(&self, unavailable: bool) {
        self.lock().unavailable = unavailable;
    }

    /// From now on takes records and confirms none, or confirms them again.
    pub fn set_withholding(&self, withholding: bool) {
        self.lock().withholding = withholding;
        self.shared.changed.notify_all();
    }

    /// Every record in the order of arrival, repeated ones included.
    pub fn records(&self) -> Vec<AuditRecord> {
        self.lock().records.clone()
    }

    /// The stored values, parsed; null where one is not JSON.
    pub fn events(&self) -> Vec<Value> {
        self.lock().records.iter().map(|record| serde_json::from_slice(&record.value).unwrap_or_default()).collect()
    }

    /// Waits until `enough` says so of the stored records. False when it has not within `timeout`.
    pub fn wait_until(&self, timeout: Duration, enough: impl Fn(&[AuditRecord]) -> bool) -> bool {
        let missing = |inner: &mut Inner| !enough(&inner.records);
        let waited = self.shared.changed.wait_timeout_while(self.lock(), timeout, missing);
        let (inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
        enough(&inner.records)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.shared.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn append(&mut self, record: &AuditRecord) -> Result<(), StoreError> {
        let mut inner = self.lock();
        if inner.unavailable {
            return Err(StoreError::Unavailable("switched off".to_owned()));
        }
        inner.records.push(record.clone());
        drop(inner);
        self.shared.changed.notify_all();
        Ok(())
    }

    fn confirmed(&mut self, wait: Duration) -> Result<u64, StoreError> {
        let until = Instant::now() + wait;
        let mut inner = self.lock();
        while inner.withholding {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(0);
            }
            inner = self.shared.changed.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        if inner.unavailable {
            return Err(StoreError::Unavailable("switched off".to_owned()));
        }
        Ok(inner.records.last().map_or(0, |record| record.sequence))
    }
}
