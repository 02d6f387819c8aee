//! Connections that wait for the next request. One pool for a plugin, so no other plugin ever gets one; in it a connection
//! serves only the rule, address and TLS profile it was made for. A place in the pool is looked for and never waited for: who
//! meets a lock goes on to the next shard. A connection that waits holds a place in the budgets, and is closed when a request
//! of the same tenant needs that.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError, Weak};

use hyper::client::conn::http1::SendRequest;
use portcullis_audit::Scope;
use portcullis_policy::Host;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::HttpEgress;
use super::body::RequestBody;
use super::link::Link;
use crate::quota::Budget;

/// Lists that the instances of a plugin begin at in turn.
const SHARDS: usize = 8;
/// Idle connections for one key in one shard.
const IDLE_FOR_KEY: usize = 8;
/// Idle connections of a plugin.
const IDLE: usize = 64;

/// What a connection may be used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) address: SocketAddr,
    /// None in observe mode.
    pub(crate) rule: Option<usize>,
    /// The TLS profile; none without TLS.
    pub(crate) profile: Option<u32>,
    pub(crate) host: Host,
}

/// A connection with nothing in work. Dropping it closes it.
#[derive(Debug)]
pub(crate) struct Idle {
    pub(crate) key: Key,
    pub(crate) sender: SendRequest<RequestBody>,
    pub(crate) link: Arc<Link>,
    pub(crate) tls_version: Option<&'static str>,
    pub(crate) task: Task,
    /// Since when it waits.
    pub(crate) since: Instant,
}

/// The task that drives a connection; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Task(pub(crate) JoinHandle<()>);

impl Task {
    /// Ends it and waits until its socket is closed and its slot given back.
    pub(crate) async fn end(mut self) {
        self.0.abort();
        // An error only says that it was aborted.
        (&mut self.0).await.unwrap_or(());
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Pool {
    shards: Box<[Mutex<Vec<Idle>>]>,
    idle: AtomicUsize,
    homes: AtomicUsize,
}

impl Pool {
    pub(crate) fn new() -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::new(Vec::new())).collect();
        Self { shards, idle: AtomicUsize::new(0), homes: AtomicUsize::new(0) }
    }

    /// Where a new instance begins to look.
    pub(crate) fn home(&self) -> usize {
        self.homes.fetch_add(1, Ordering::Relaxed) % SHARDS
    }

    fn from(&self, home: usize) -> impl Iterator<Item = &Mutex<Vec<Idle>>> {
        self.shards.iter().cycle().skip(home % SHARDS).take(SHARDS)
    }

    fn lock<T>(shard: &Mutex<Vec<Idle>>, with: impl FnOnce(&mut Vec<Idle>) -> T) -> Option<T> {
        match shard.try_lock() {
            Ok(mut idle) => Some(with(&mut idle)),
            Err(TryLockError::Poisoned(idle)) => Some(with(&mut idle.into_inner())),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// A connection for the key that is not known to be closed.
    pub(crate) fn take(&self, home: usize, key: &Key) -> Option<Idle> {
        self.from(home).find_map(|shard| {
            let found = Self::lock(shard, |idle| {
                self.forget_closed(idle);
                // The one that was used last is the least likely to have been closed by the server.
                let last = idle.iter().rposition(|one| one.key == *key)?;
                Some(idle.remove(last))
            });
            let found = found.flatten()?;
            self.idle.fetch_sub(1, Ordering::Relaxed);
            Some(found)
        })
    }

    /// Connections that the server or their time has ended.
    fn forget_closed(&self, idle: &mut Vec<Idle>) {
        let before = idle.len();
        idle.retain(|one| !one.sender.is_closed());
        self.idle.fetch_sub(before - idle.len(), Ordering::Relaxed);
    }

    /// Keeps a connection, or closes it where there is no room.
    pub(crate) fn put(&self, home: usize, mut connection: Idle) {
        connection.since = Instant::now();
        let room = |idle: usize| (idle < IDLE).then_some(idle + 1);
        if self.idle.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_err() {
            self.from(home).for_each(|shard| {
                Self::lock(shard, |idle| self.forget_closed(idle));
            });
            return;
        }
        let mut connection = Some(connection);
        for shard in self.from(home) {
            let kept = Self::lock(shard, |idle| {
                if let Some(one) =
                    connection.take_if(|one| idle.iter().filter(|i| i.key == one.key).count() < IDLE_FOR_KEY)
                {
                    idle.push(one);
                }
            });
            if kept.is_some() {
                break;
            }
        }
        if connection.is_some() {
            self.idle.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Since when the connection waits that waits longest, and its shard.
    fn longest(&self) -> Option<(Instant, &Mutex<Vec<Idle>>)> {
        let of = |shard: &Mutex<Vec<Idle>>| {
            let idle = shard.lock().unwrap_or_else(PoisonError::into_inner);
            idle.iter().map(|one| one.since).min()
        };
        self.shards.iter().filter_map(|shard| Some((of(shard)?, shard))).min_by_key(|(since, _)| *since)
    }

    /// The connection that waits longest, to make room for another. Another request may have taken it meanwhile: then the
    /// next one.
    pub(crate) fn evict(&self) -> Option<Idle> {
        let (_, shard) = self.longest()?;
        let mut idle = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = idle.iter().enumerate().min_by_key(|(_, one)| one.since).map(|(at, _)| at)?;
        self.idle.fetch_sub(1, Ordering::Relaxed);
        Some(idle.remove(oldest))
    }
}

/// With whom a pool shares places in the budgets.
pub(crate) struct Kin {
    pub(crate) tenant: Arc<str>,
    /// The budgets above the plugin.
    pub(crate) budgets: Vec<Arc<Budget>>,
}

impl Kin {
    fn is_of(&self, other: &Self) -> bool {
        let shared = |budget: &Arc<Budget>| other.budgets.iter().any(|own| Arc::ptr_eq(own, budget));
        self.tenant == other.tenant && self.budgets.iter().any(shared)
    }
}

/// The pools of all plugins that live. Looked at only when a budget has no room.
static POOLS: Mutex<Vec<Weak<HttpEgress>>> = Mutex::new(Vec::new());

pub(crate) fn enrol(http: &Arc<HttpEgress>) {
    let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    pools.retain(|pool| pool.strong_count() > 0);
    pools.push(Arc::downgrade(http));
}

/// Takes the idle connection that waits longest of those whose place would be one in the budget that has no room: the
/// plugin's own, or any of the tenant's plugins. Never another tenant's, who would pay for it with a connect.
pub(crate) fn evict(own: &Arc<HttpEgress>, exhausted: Scope) -> Option<Idle> {
    if exhausted == Scope::Plugin {
        return own.pool.evict();
    }
    let pools: Vec<_> = {
        let pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
        pools.iter().filter_map(Weak::upgrade).filter(|other| other.kin.is_of(&own.kin)).collect()
    };
    let longest = pools.iter().filter_map(|http| Some((http.pool.longest()?.0, http)));
    longest.min_by_key(|(since, _)| *since).and_then(|(_, http)| http.pool.evict())
}
