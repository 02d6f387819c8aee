//! From a request that was granted to a connection: its addresses, the decision on each, the dial.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hyper::client::conn::http1::Builder;
use portcullis_audit::{Attempt, Destination, Event, HttpResult, Traffic, Uuid};
use portcullis_policy::{Denied, Granted, Host, Reason, Request};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use wasmtime_wasi_http::io::TokioIo;

use super::failure::{Code, Failure};
use super::link::{Driver, Link, Wire};
use super::place::Try;
use super::pool::{Idle, Key, Task};
use super::sender::{Way, restricts};
use super::{Profile, headers, held};
use crate::dialer::dial;
use crate::evidence::about;
use crate::lookup::Origin;
use crate::quota::Slot;
use crate::tls;

/// Addresses of a name that are tried. Each has its part of the time for connecting.
const DIALS: usize = 4;

/// An address that a request may go to.
pub(super) struct Dial {
    pub(super) address: IpAddr,
    pub(super) granted: Granted,
    pub(super) lookup: Option<Uuid>,
    pub(super) key: Key,
    profile: Option<Profile>,
}

/// Why there is no connection.
pub(super) enum Unconnected {
    /// Nobody is there: somebody may be at another address.
    Dial(Failure),
    /// Somebody is there. What they said is an answer, also where it is not the one that was wanted.
    Tls(Failure),
}

impl Way {
    /// The addresses that may be dialled, with the decision on each; never none.
    ///
    /// # Errors
    /// Why there is none. It is recorded.
    pub(super) async fn dials(&self) -> Result<Vec<Dial>, Failure> {
        let (addresses, lookup) = match &self.target.host {
            Host::Address(address) => (vec![*address], None),
            Host::Name(_) => {
                let lookup = self.gate.resolve(&self.granted, Origin::Http);
                match timeout_at(self.times.ends, lookup).await {
                    Ok(Ok(answer)) => (interleaved(&answer.addresses), Some(answer.lookup)),
                    Ok(Err(unresolved)) => return Err(self.unresolved(unresolved.reason)),
                    Err(_) => return Err(self.unresolved(Reason::DnsTimeout)),
                }
            }
        };
        let (mut dials, mut refused) = (Vec::new(), None);
        for address in addresses {
            match self.may_dial(address) {
                Ok(granted) => dials.push(self.dial(address, granted, lookup)?),
                Err(denied) => refused = refused.or(Some(denied)),
            }
            if dials.len() == DIALS {
                break;
            }
        }
        match refused {
            _ if !dials.is_empty() => Ok(dials),
            Some(denied) => Err(self.refused(&denied)),
            None => Err(self.unresolved(Reason::DnsFailed)),
        }
    }

    fn may_dial(&self, address: IpAddr) -> Result<Granted, Denied> {
        let granted = self.gate.decide(&Request::HttpDial { http: &self.granted, address })?;
        // The rule of an address need not be the one that granted the request.
        if self.overrides && restricts(&self.egress, &granted) {
            let refused = Denied::of_form(Reason::HttpForbiddenHeader, &self.granted);
            return Err(Denied { nearest: granted.rule(), ..refused });
        }
        Ok(granted)
    }

    fn dial(&self, address: IpAddr, granted: Granted, lookup: Option<Uuid>) -> Result<Dial, Failure> {
        let profile = self.profile(&granted)?;
        let key = Key {
            address: SocketAddr::new(address, self.target.port),
            rule: granted.rule(),
            profile: profile.as_ref().map(|(number, _)| *number),
            host: self.target.host.clone(),
        };
        Ok(Dial { address, granted, lookup, key, profile })
    }

    /// A name that gave no address: refused by us, or not known to the DNS.
    fn unresolved(&self, reason: Reason) -> Failure {
        let word = reason.as_str();
        let is_refusal = ["addr.", "quota.", "rule."].iter().any(|group| word.starts_with(group));
        if is_refusal {
            return self.refused(&Denied::of_form(reason, &self.granted));
        }
        let host = Destination { hostname: self.hostname(), ip: None, port: Some(self.target.port) };
        let decided = self.egress.evidence().decided(&self.granted, host);
        let result = HttpResult {
            call: self.call.clone(),
            decided,
            connection: None,
            status: None,
            traffic: Traffic::default(),
            failure: Some(word),
            tls_version: None,
        };
        let event = Event::http_request(self.egress.evidence().actor().clone(), result);
        self.gate.record(about(event, self.source.as_ref()));
        Failure::of(reason)
    }

    pub(super) fn refused(&self, denied: &Denied) -> Failure {
        let failure = Failure::of(denied.reason);
        self.gate.refused(Attempt::Http(self.call.clone()), denied, Some(failure.code.as_str()));
        failure
    }

    pub(super) fn hostname(&self) -> Option<String> {
        match &self.target.host {
            Host::Name(name) => Some(name.to_string()),
            Host::Address(_) => None,
        }
    }

    fn profile(&self, granted: &Granted) -> Result<Option<Profile>, Failure> {
        if !self.target.tls {
            return Ok(None);
        }
        let profile = self.http.profile(&self.egress, granted.rule());
        profile.map(Some).ok_or(Failure::new(Reason::TlsVersion, Code::TlsProtocol))
    }

    /// Dials the address of the token, and nothing else.
    pub(super) async fn connect(&self, slot: Slot, dial_to: &Dial, try_it: &Try) -> Result<Idle, Unconnected> {
        let left = try_it.until.saturating_duration_since(Instant::now());
        let stream = dial(&dial_to.granted, left / try_it.addresses.max(1)).await;
        let stream = stream.map_err(|error| Unconnected::Dial(Failure::of_connect(&error)))?;
        let link = Link::new(self.times.ends);
        link.serve(Some(self.gate.clone()));
        let wire = Wire::new(stream, Arc::clone(&link), self.egress.budgets(), slot);
        let opened = match &dial_to.profile {
            None => open(wire, link, &dial_to.key, None).await,
            Some(profile) => self.secured(wire, link, dial_to, profile, try_it.until).await,
        };
        opened.map_err(Unconnected::Tls)
    }

    async fn secured(
        &self,
        wire: Wire,
        link: Arc<Link>,
        dial_to: &Dial,
        (_, config): &Profile,
        until: Instant,
    ) -> Result<Idle, Failure> {
        let name = tls::server_name(&self.target.host).ok_or(Failure::of(Reason::NameInvalid))?;
        let handshake = timeout_at(until, TlsConnector::from(Arc::clone(config)).connect(name, wire)).await;
        let late = |_| Failure::of(Reason::TimeConnect);
        let stream = handshake.map_err(late)?.map_err(|error| Failure::of_handshake(&error))?;
        let version = tls::version(stream.get_ref().1);
        open(stream, link, &dial_to.key, version).await
    }
}

/// The two families in turn, each in the order of the answer: a family that this machine has no way out for costs one try.
fn interleaved(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let first_is_v4 = addresses.first().is_some_and(IpAddr::is_ipv4);
    let of = |v4: bool| addresses.iter().copied().filter(move |address| address.is_ipv4() == v4);
    let (mut first, mut second) = (of(first_is_v4), of(!first_is_v4));
    let mut all = Vec::with_capacity(addresses.len());
    while all.len() < addresses.len() {
        all.extend(first.next());
        all.extend(second.next());
    }
    all
}

/// HTTP/1.1 on a connection, driven by a task of its own.
async fn open<S>(stream: S, link: Arc<Link>, key: &Key, tls_version: Option<&'static str>) -> Result<Idle, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new();
    builder.max_headers(headers::FIELDS).max_header_size(headers::SECTION_BYTES).max_buf_size(held::READ_BYTES);
    let opened = builder.handshake(TokioIo::new(stream)).await;
    let (sender, connection) = opened.map_err(|error| Failure::of_hyper(&error, false))?;
    let task = Task(tokio::spawn(Driver::new(connection, Arc::clone(&link))));
    Ok(Idle { key: key.clone(), sender, link, tls_version, task, since: Instant::now() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_tried_in_turn_and_each_in_its_own_order() {
        let addresses = |text: &str| text.split(' ').map(|one| one.parse().unwrap()).collect::<Vec<IpAddr>>();
        let order = |text: &str| interleaved(&addresses(text));
        assert_eq!(order("1.0.0.1 1.0.0.2 1.0.0.3 2::1 2::2"), addresses("1.0.0.1 2::1 1.0.0.2 2::2 1.0.0.3"));
        assert_eq!(order("2::1 1.0.0.1 1.0.0.2"), addresses("2::1 1.0.0.1 1.0.0.2"));
        assert!(interleaved(&[]).is_empty());
    }
}
