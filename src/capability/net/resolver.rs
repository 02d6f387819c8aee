//! Asks name servers for addresses, and nothing else: no search list, no hosts file, no memory. Every query is one that a
//! policy granted. Aliases are followed here, so that their number has a bound and a stranger's record in an answer counts
//! for nothing.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsHandle, FirstAnswer};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{DnsRequestOptions, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name as DnsName, RData, Record, RecordType};
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig, system_conf};
use portcullis_policy::{Granted, Reason};
use thiserror::Error;
use tokio::runtime::Handle;

use crate::lookup::name_of;

/// Aliases that are followed one after the other.
const MAX_ALIASES: usize = 8;
/// How often a query is sent before its time is over.
const ATTEMPTS: u32 = 2;

/// Whom to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Servers {
    /// The name servers of the system's configuration, without its search list.
    System,
    /// These.
    Given(Vec<SocketAddr>),
}

/// How to ask.
#[derive(Clone, Debug)]
pub struct ResolverSettings {
    /// Whom.
    pub servers: Servers,
    /// How long a lookup may take with all its aliases and attempts.
    pub timeout: Duration,
}

/// Why there is no resolver.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ResolverError {
    /// The system's configuration cannot be read.
    #[error("the system's name servers cannot be read: {0}; name them under egress.dns.servers")]
    System(String),
    /// There is nobody to ask.
    #[error("no name server is configured; name one under egress.dns.servers")]
    NoServer,
    /// The library refused its own defaults.
    #[error("the resolver cannot be made: {0}")]
    Library(String),
}

/// Asks name servers. One for the process.
pub struct Resolver {
    pool: NameServerPool<TokioRuntimeProvider>,
    timeout: Duration,
    handle: Handle,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// What a name server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// IPv4 before IPv6, each in the order of the answer.
    pub(crate) addresses: Vec<IpAddr>,
    /// The least of all records that led there, in seconds.
    pub(crate) ttl_s: u32,
}

/// Why there is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotFound {
    pub(crate) reason: Reason,
    pub(crate) kind: Kind,
    /// The code of the name server, where it answered.
    pub(crate) rcode: Option<u16>,
}

/// What a guest may conclude from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The name has no address.
    Name,
    /// It may work later.
    Temporary,
    /// It will not work.
    Permanent,
}

impl Resolver {
    /// Queries run on the runtime of `handle`.
    ///
    /// # Errors
    /// When there is no name server, or the system's configuration cannot be read.
    pub fn new(settings: ResolverSettings, handle: Handle) -> Result<Arc<Self>, ResolverError> {
        let servers = match settings.servers {
            Servers::Given(servers) => servers.into_iter().map(server).collect(),
            Servers::System => {
                let system = system_conf::read_system_conf();
                let (config, _options) = system.map_err(|error| ResolverError::System(error.to_string()))?;
                config.into_parts().2
            }
        };
        if servers.is_empty() {
            return Err(ResolverError::NoServer);
        }
        let mut options = ResolverOpts::default();
        options.timeout = settings.timeout / ATTEMPTS;
        options.attempts = 1;
        options.cache_size = 0;
        options.try_tcp_on_error = true;
        let tls = TlsConfig::new().map_err(|error| ResolverError::Library(error.to_string()))?;
        let context = Arc::new(PoolContext::new(options, tls));
        let pool = NameServerPool::from_config(servers, context, TokioRuntimeProvider::default());
        Ok(Arc::new(Self { pool, timeout: settings.timeout, handle }))
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Asks for the IPv4 and IPv6 addresses of the name that was granted at the same time. Must run on the resolver's runtime.
    ///
    /// # Errors
    /// Why there is none; `dns.failed` without a query for the token of another effect than a lookup or an HTTP request.
    pub(crate) async fn lookup(&self, granted: &Granted) -> Result<Found, NotFound> {
        let Some(name) = name_of(granted) else {
            return Err(NotFound { reason: Reason::DnsFailed, kind: Kind::Permanent, rcode: None });
        };
        let dns_name = DnsName::from_ascii(name.as_str());
        let Ok(mut dns_name) = dns_name else {
            return Err(NotFound { reason: Reason::NameInvalid, kind: Kind::Permanent, rcode: None });
        };
        dns_name.set_fqdn(true);
        let both = async {
            tokio::join!(self.follow(dns_name.clone(), RecordType::A), self.follow(dns_name.clone(), RecordType::AAAA))
        };
        match tokio::time::timeout(self.timeout, both).await {
            Ok((v4, v6)) => merge(v4, v6),
            Err(_) => Err(TIMED_OUT),
        }
    }

    /// From alias to alias, within an answer and with another query where an answer ends with one.
    async fn follow(&self, name: DnsName, kind: RecordType) -> Result<Found, NotFound> {
        let mut chain = Chain { target: name, aliases: 0, ttl_s: u32::MAX };
        loop {
            let (records, code) = self.query(chain.target.clone(), kind).await?;
            let before = chain.aliases;
            if let Some(found) = chain.walk(&records, kind)? {
                return Ok(found);
            }
            if code == ResponseCode::NXDomain || chain.aliases == before {
                return Err(no_address(code));
            }
        }
    }

    async fn query(&self, name: DnsName, kind: RecordType) -> Result<(Vec<Record>, ResponseCode), NotFound> {
        let mut attempt = 1;
        loop {
            let mut options = DnsRequestOptions::default();
            options.use_edns = true;
            let answer = self.pool.lookup(Query::query(name.clone(), kind), options).first_answer().await;
            let error = match answer {
                Ok(response) => return Ok((response.answers.clone(), response.response_code)),
                Err(error) => error,
            };
            match error {
                NetError::Dns(DnsError::NoRecordsFound(none)) => return Err(no_address(none.response_code)),
                NetError::Dns(DnsError::ResponseCode(code)) => return Err(no_address(code)),
                _ if attempt < ATTEMPTS => attempt += 1,
                NetError::Timeout => return Err(TIMED_OUT),
                other => {
                    tracing::debug!(error = %other, "a name server could not be asked");
                    return Err(NotFound { reason: Reason::DnsFailed, kind: Kind::Temporary, rcode: None });
                }
            }
        }
    }
}

const TIMED_OUT: NotFound = NotFound { reason: Reason::DnsTimeout, kind: Kind::Temporary, rcode: None };

fn server(address: SocketAddr) -> NameServerConfig {
    let (mut udp, mut tcp) = (ConnectionConfig::udp(), ConnectionConfig::tcp());
    (udp.port, tcp.port) = (address.port(), address.port());
    NameServerConfig::new(address.ip(), true, vec![udp, tcp])
}

fn no_address(code: ResponseCode) -> NotFound {
    let kind = match code {
        ResponseCode::NXDomain | ResponseCode::NoError => Kind::Name,
        ResponseCode::ServFail => Kind::Temporary,
        _ => Kind::Permanent,
    };
    NotFound { reason: Reason::DnsFailed, kind, rcode: Some(u16::from(code)) }
}

/// Where a chain of aliases has come to.
struct Chain {
    target: DnsName,
    aliases: usize,
    ttl_s: u32,
}

impl Chain {
    /// Goes on through one answer, whose records may be in any order. Only records of the target count.
    fn walk(&mut self, records: &[Record], kind: RecordType) -> Result<Option<Found>, NotFound> {
        loop {
            let here = || records.iter().filter(|record| record.name == self.target);
            let addresses: Vec<IpAddr> = here().filter_map(|record| address(record, kind)).collect();
            if !addresses.is_empty() {
                let ttl = here().filter(|record| record.record_type() == kind).map(|record| record.ttl).min();
                return Ok(Some(Found { addresses, ttl_s: self.ttl_s.min(ttl.unwrap_or(0)) }));
            }
            let alias = here().find_map(|record| match &record.data {
                RData::CNAME(alias) => Some((alias.0.clone(), record.ttl)),
                _ => None,
            });
            let Some((target, ttl)) = alias else { return Ok(None) };
            self.aliases += 1;
            if self.aliases > MAX_ALIASES {
                return Err(NotFound { reason: Reason::DnsCnameDepth, kind: Kind::Permanent, rcode: Some(0) });
            }
            self.ttl_s = self.ttl_s.min(ttl);
            self.target = target;
        }
    }
}

fn address(record: &Record, kind: RecordType) -> Option<IpAddr> {
    match (&record.data, kind) {
        (RData::A(address), RecordType::A) => Some(IpAddr::V4(address.0)),
        (RData::AAAA(address), RecordType::AAAA) => Some(IpAddr::V6(address.0)),
        _ => None,
    }
}

/// Half an answer is an answer: a name without IPv6 is no failure.
fn merge(v4: Result<Found, NotFound>, v6: Result<Found, NotFound>) -> Result<Found, NotFound> {
    match (v4, v6) {
        (Ok(mut v4), Ok(v6)) => {
            v4.addresses.extend(v6.addresses);
            Ok(Found { ttl_s: v4.ttl_s.min(v6.ttl_s), ..v4 })
        }
        (Ok(found), Err(_)) | (Err(_), Ok(found)) => Ok(found),
        // Of two failures the one that says more: that there is no such name only where both say so.
        (Err(v4), Err(v6)) => Err(if v4.kind == Kind::Name { v6 } else { v4 }),
    }
}

#[cfg(test)]
#[path = "tests/resolver.rs"]
mod tests;
