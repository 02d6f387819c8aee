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
///
/// What was charged is never taken back before the instance ends: wasmtime tells of a growth that failed without saying which
/// one, and the wrong one taken back would be memory that nobody counts. So what exceeds the memory's own maximum is refused
/// before it is charged, and what the system refuses ends the call and with it the instance.
#[derive(Debug)]
pub(super) struct Limiter {
    limit_bytes: u64,
    used_bytes: u64,
    /// What the tenant and the node use together; this instance's part is given back when it ends.
    sums: Vec<Arc<MemorySum>>,
}

impl Limiter {
    pub(super) fn new(limit_bytes: u64, sums: Vec<Arc<MemorySum>>) -> Self {
        Self { limit_bytes, used_bytes: 0, sums }
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.used_bytes
    }

    /// An error and not `Ok(false)`: a guest that meets a failed growth aborts with a message of its own language, and the
    /// operator would read "unreachable" instead of "memory".
    fn grow(&mut self, more_bytes: u64, is_possible: bool) -> wasmtime::Result<bool> {
        let wanted = self.used_bytes.saturating_add(more_bytes);
        if wanted > self.limit_bytes {
            return Err(HostFault::Memory { limit: self.limit_bytes, wanted }.into());
        }
        if !is_possible {
            return Ok(false);
        }
        for (index, sum) in self.sums.iter().enumerate() {
            if !sum.take(more_bytes) {
                self.sums.iter().take(index).for_each(|taken| taken.give_back(more_bytes));
                return Err(HostFault::SharedMemory { scope: sum.scope(), limit: sum.limit_bytes() }.into());
            }
        }
        self.used_bytes = wanted;
        Ok(true)
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.sums.iter().for_each(|sum| sum.give_back(self.used_bytes));
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let is_possible = maximum.is_none_or(|maximum| desired <= maximum);
        self.grow(desired.saturating_sub(current) as u64, is_possible)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        Err(HostFault::NoMemory.into())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let is_possible = maximum.is_none_or(|maximum| desired <= maximum);
        self.grow((desired.saturating_sub(current) as u64).saturating_mul(TABLE_ELEMENT_BYTES), is_possible)
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        Err(HostFault::NoMemory.into())
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
    fn a_growth_past_the_memorys_own_maximum_fails_and_costs_nothing() {
        let mut limiter = Limiter::new(1 << 20, Vec::new());
        assert!(!limiter.memory_growing(0, 3 << 16, Some(2 << 16)).unwrap());
        assert!(!limiter.table_growing(0, 11, Some(10)).unwrap());
        assert_eq!(limiter.used_bytes(), 0);
        assert!(limiter.memory_growing(0, 2 << 16, Some(2 << 16)).unwrap());
        assert_eq!(limiter.used_bytes(), 2 << 16);
    }

    #[test]
    fn whatever_growths_fail_in_whatever_order_nothing_that_is_used_is_uncounted() {
        const PAGE: usize = 1 << 16;
        let tenant = Arc::new(MemorySum::new(portcullis_audit::Scope::Tenant, 24 * PAGE as u64));
        // Each digit of a sequence is a step: what wasmtime can ask and report, in any order.
        for sequence in 0..6_u32.pow(6) {
            let mut limiter = Limiter::new(32 * PAGE as u64, vec![Arc::clone(&tenant)]);
            let mut memory = 0;
            let mut is_ended = false;
            for step in (0..6).map(|place| sequence / 6_u32.pow(place) % 6) {
                let wanted = match step {
                    0 => memory + PAGE,
                    1 => memory + 4 * PAGE,
                    2 => memory + 17 * PAGE,
                    3 => 21 * PAGE,
                    _ => memory,
                };
                match step {
                    0..=3 => match limiter.memory_growing(memory, wanted, Some(20 * PAGE)) {
                        Ok(true) => memory = wanted,
                        Ok(false) => assert!(wanted > 20 * PAGE),
                        Err(_) => is_ended = true,
                    },
                    4 => is_ended |= limiter.memory_grow_failed(wasmtime::Error::msg("no memory")).is_err(),
                    _ => is_ended |= limiter.table_grow_failed(wasmtime::Error::msg("no memory")).is_err(),
                }
                assert!(limiter.used_bytes() >= memory as u64, "sequence {sequence}");
                if is_ended {
                    break;
                }
            }
            drop(limiter);
            assert!(tenant.take(24 * PAGE as u64), "sequence {sequence}: all of it was given back");
            tenant.give_back(24 * PAGE as u64);
        }
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
