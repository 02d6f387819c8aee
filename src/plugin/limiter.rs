use std::sync::Arc;

use wasmtime::ResourceLimiter;

use super::fault::HostFault;
use super::sums::MemorySum;

/// What the host keeps for one element of a table, in bytes.
const TABLE_ELEMENT_BYTES: u64 = 8;
/// Core instances of one component. Python's has 38.
const MAX_INSTANCES: usize = 128;
/// Memories of one component.
const MAX_MEMORIES: usize = 8;
/// Tables of one component: up to two for each instance.
const MAX_TABLES: usize = 256;

/// Bounds the sum over all memories and tables of an instance. wasmtime's own limiter bounds each by itself, so that eight
/// memories would make eight times the limit.
#[derive(Debug)]
pub(super) struct Limiter {
    limit_bytes: u64,
    used_bytes: u64,
    /// The last growth, to take it back when the system has no memory for it.
    last_bytes: u64,
    /// What the tenant and the node use together; this instance's part is given back when it ends.
    sums: Vec<Arc<MemorySum>>,
}

impl Limiter {
    pub(super) fn new(limit_bytes: u64, sums: Vec<Arc<MemorySum>>) -> Self {
        Self { limit_bytes, used_bytes: 0, last_bytes: 0, sums }
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.used_bytes
    }

    /// An error and not `Ok(false)`: a guest that meets a failed growth aborts with a message of its own language, and the
    /// operator would read "unreachable" instead of "memory".
    fn grow(&mut self, more_bytes: u64) -> wasmtime::Result<bool> {
        let wanted = self.used_bytes.saturating_add(more_bytes);
        if wanted > self.limit_bytes {
            return Err(HostFault::Memory { limit: self.limit_bytes, wanted }.into());
        }
        for (index, sum) in self.sums.iter().enumerate() {
            if !sum.take(more_bytes) {
                self.sums.iter().take(index).for_each(|taken| taken.give_back(more_bytes));
                return Err(HostFault::SharedMemory { scope: sum.scope(), limit: sum.limit_bytes() }.into());
            }
        }
        self.used_bytes = wanted;
        self.last_bytes = more_bytes;
        Ok(true)
    }

    fn take_back(&mut self) {
        self.used_bytes = self.used_bytes.saturating_sub(self.last_bytes);
        self.sums.iter().for_each(|sum| sum.give_back(self.last_bytes));
        self.last_bytes = 0;
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.sums.iter().for_each(|sum| sum.give_back(self.used_bytes));
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        self.grow(desired.saturating_sub(current) as u64)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back();
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        self.grow((desired.saturating_sub(current) as u64).saturating_mul(TABLE_ELEMENT_BYTES))
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back();
        Ok(())
    }

    fn instances(&self) -> usize {
        MAX_INSTANCES
    }

    fn tables(&self) -> usize {
        MAX_TABLES
    }

    fn memories(&self) -> usize {
        MAX_MEMORIES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_and_tables_share_one_limit() {
        let mut limiter = Limiter::new(2 << 16, Vec::new());
        assert!(limiter.memory_growing(0, 1 << 16, None).unwrap());
        assert!(limiter.table_growing(0, 1000, None).unwrap());
        let refused = limiter.memory_growing(1 << 16, 2 << 16, None).unwrap_err();
        let fault = refused.downcast_ref::<HostFault>();
        assert_eq!(fault, Some(&HostFault::Memory { limit: 2 << 16, wanted: (2 << 16) + 8000 }));
        assert_eq!(limiter.used_bytes(), (1 << 16) + 8000);
    }

    #[test]
    fn a_growth_that_the_system_refuses_is_not_counted() {
        let mut limiter = Limiter::new(1 << 20, Vec::new());
        assert!(limiter.memory_growing(0, 1 << 16, None).unwrap());
        limiter.memory_grow_failed(wasmtime::Error::msg("no memory")).unwrap();
        assert_eq!(limiter.used_bytes(), 0);
    }

    #[test]
    fn instances_of_one_tenant_share_its_sum_and_give_it_back() {
        let tenant = Arc::new(MemorySum::new(portcullis_audit::Scope::Tenant, 3 << 16));
        let node = Arc::new(MemorySum::new(portcullis_audit::Scope::Node, 1 << 30));
        let sums = vec![node.clone(), tenant.clone()];
        let mut one = Limiter::new(1 << 20, sums.clone());
        let mut other = Limiter::new(1 << 20, sums);
        assert!(one.memory_growing(0, 2 << 16, None).unwrap());
        let refused = other.memory_growing(0, 2 << 16, None).unwrap_err();
        let shared = HostFault::SharedMemory { scope: portcullis_audit::Scope::Tenant, limit: 3 << 16 };
        assert_eq!(refused.downcast_ref::<HostFault>(), Some(&shared));
        assert!(node.take((1 << 30) - (2 << 16)), "what the tenant refused was given back to the node");
        node.give_back((1 << 30) - (2 << 16));
        drop(one);
        assert!(other.memory_growing(0, 2 << 16, None).unwrap());
    }
}
