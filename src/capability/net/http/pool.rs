//! Connections that wait for the next request. One pool for a plugin, so no other plugin ever gets one; in it a connection
//! serves only the rule, address and TLS profile it was made for. A place in the pool is looked for and never waited for: who
//! meets a lock goes on to the next shard.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, TryLockError};

use hyper::client::conn::http1::SendRequest;
use portcullis_policy::Host;
use tokio::task::JoinHandle;

use super::body::RequestBody;
use super::link::Link;

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
    pub(crate) fn put(&self, home: usize, connection: Idle) {
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

    /// Any idle connection, to make room for another.
    pub(crate) fn evict(&self, home: usize) -> Option<Idle> {
        self.from(home).find_map(|shard| {
            let oldest = Self::lock(shard, |idle| (!idle.is_empty()).then(|| idle.remove(0))).flatten()?;
            self.idle.fetch_sub(1, Ordering::Relaxed);
            Some(oldest)
        })
    }
}
