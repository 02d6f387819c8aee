//! One connection, from its making to its end. It does not come back by itself: whoever has it knows that everything it
//! has sent went in order through one socket, and makes the next one.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::{AuthError, Client, ConnectOptions, Event, ServerError, Subscriber};
use futures_util::StreamExt;
use portcullis_connector_api::{Bytes, ConnectorError, ErrorKind};
use tokio::sync::mpsc;

use crate::failure;
use crate::settings::{Auth, Connection};
use crate::{Count, Counters};

/// Commands that wait for the socket. Few: what waits here is memory, and has its bound elsewhere in bytes.
const COMMANDS: usize = 256;
/// The server answers a question of one message within this time, or the connection is no longer one.
pub(crate) const ECHO: Duration = Duration::from_secs(5);
/// A connection over which nothing comes for two of these is over.
const PING: Duration = Duration::from_secs(10);
/// What the server says by itself is seldom, and beyond this not kept. More than async-nats keeps.
const NOTICES: usize = 256;
/// Messages under way at once where each may be denied: async-nats keeps 128 events and drops further ones without a word,
/// and a denial is the only sign that a message was not taken.
pub(crate) const CAREFUL: usize = 96;

/// A connection.
pub(crate) struct Link {
    pub(crate) client: Client,
    pub(crate) notices: mpsc::Receiver<Notice>,
}

/// What happened beside messages.
#[derive(Debug)]
pub(crate) enum Notice {
    /// The server will shut down and asks its clients to go elsewhere.
    LameDuck,
    /// A subscription was full: a message is lost.
    Dropped,
    /// A line of the server.
    Error(String),
}

/// What is wrong with how the connection is written.
pub(crate) fn judge(connection: &Connection) -> Result<(), ConnectorError> {
    let wrong = |what: String| Err(ConnectorError::new(ErrorKind::Configuration, what));
    if connection.servers.is_empty() {
        return wrong("no server is given".to_owned());
    }
    if connection.servers.iter().any(|server| server.contains('@')) {
        return wrong("a server's address has a `@` in it; a user and password belong under `auth`".to_owned());
    }
    if let Some(tls) = &connection.tls
        && tls.cert.is_some() != tls.key.is_some()
    {
        return wrong("a certificate needs its key and a key its certificate".to_owned());
    }
    match &connection.domain {
        Some(domain) => {
            crate::subject::name(domain).or_else(|what| wrong(format!("the JetStream domain is not legal: {what}")))
        }
        None => Ok(()),
    }
}

/// The turn in which servers are tried.
pub(crate) fn server_of(connection: &Connection, attempt: usize) -> &str {
    let count = connection.servers.len().max(1);
    connection.servers.get(attempt % count).map_or("", String::as_str)
}

/// Connects to the server of this attempt. `subscription` bounds the messages of each subscription.
pub(crate) async fn connect(
    connection: &Connection,
    attempt: usize,
    subscription: usize,
    counters: &Arc<Counters>,
) -> Result<Link, ConnectorError> {
    let server = server_of(connection, attempt);
    let (told, notices) = mpsc::channel(NOTICES);
    let used = Arc::new(AtomicBool::new(false));
    let options = authorized(connection, &used)?
        .name(&connection.client_name)
        .connection_timeout(connection.timeout)
        .request_timeout(Some(connection.timeout))
        .ping_interval(PING)
        .client_capacity(COMMANDS)
        .subscription_capacity(subscription)
        .retain_servers_order()
        .ignore_discovered_servers()
        // One attempt, and one more after the connection is lost, which the guard below turns away.
        .max_reconnects(1)
        .event_callback({
            let counters = Arc::clone(counters);
            move |event| {
                tell(&told, &counters, event);
                async {}
            }
        });
    let client = secured(options, connection)
        .connect(server.to_owned())
        .await
        .map_err(|error| failure::connecting(server, &error))?;
    // From here on async-nats connects no more: it would send what waits for the old socket before anything else.
    used.store(true, Ordering::Release);
    counters.add(Count::Connects, 1);
    tracing::info!(server, "connected to NATS");
    Ok(Link { client, notices })
}

fn tell(told: &mpsc::Sender<Notice>, counters: &Counters, event: Event) {
    let notice = match event {
        Event::LameDuckMode => {
            counters.add(Count::LameDuck, 1);
            Notice::LameDuck
        }
        // Not counted here: async-nats tells of a part of them when there are many.
        Event::SlowConsumer(_) => Notice::Dropped,
        Event::ServerError(ServerError::Other(line)) => Notice::Error(line),
        Event::ServerError(error) => Notice::Error(error.to_string()),
        _ => return,
    };
    if told.try_send(notice).is_err() {
        tracing::debug!("a notice of the server was not read");
    }
}

/// Who we are, asked for at each handshake and given once.
fn authorized(connection: &Connection, used: &Arc<AtomicBool>) -> Result<ConnectOptions, ConnectorError> {
    let auth = connection.auth.clone();
    // Read here first, because an unreadable file is told better than by a failed handshake.
    proof(auth.as_ref(), b"").map_err(|what| ConnectorError::new(ErrorKind::Configuration, what))?;
    let used = Arc::clone(used);
    Ok(ConnectOptions::with_auth_callback(move |nonce| {
        let proof = match used.load(Ordering::Acquire) {
            true => Err(AuthError::new("the connection is over")),
            false => proof(auth.as_ref(), &nonce).map_err(AuthError::new),
        };
        async { proof }
    }))
}

fn proof(auth: Option<&Auth>, nonce: &[u8]) -> Result<async_nats::Auth, String> {
    let mut proof = async_nats::Auth::new();
    let read = |path: &std::path::Path| {
        fs::read_to_string(path).map_err(|error| format!("cannot read `{}`: {error}", path.display()))
    };
    match auth {
        None => {}
        Some(Auth::Token(token)) => proof.token = Some(token.expose().to_owned()),
        Some(Auth::Password { user, password }) => {
            proof.username = Some(user.clone());
            proof.password = Some(password.expose().to_owned());
        }
        Some(Auth::NkeySeed(path)) => {
            let text = read(path)?;
            let seed = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
            let pair = key_pair(seed.unwrap_or_default(), path)?;
            proof.signature = Some(sign(&pair, nonce, path)?);
            proof.nkey = Some(pair.public_key());
        }
        Some(Auth::Credentials(path)) => {
            let text = read(path)?;
            let part = |name| section(&text, name).ok_or_else(|| format!("`{}` has no {name}", path.display()));
            proof.signature = Some(sign(&key_pair(part("USER NKEY SEED")?, path)?, nonce, path)?);
            proof.jwt = Some(part("NATS USER JWT")?.to_owned());
        }
    }
    Ok(proof)
}

fn key_pair(seed: &str, path: &std::path::Path) -> Result<nkeys::KeyPair, String> {
    // The library's error may quote the seed.
    nkeys::KeyPair::from_seed(seed).map_err(|_| format!("`{}` holds no nkey seed", path.display()))
}

fn sign(pair: &nkeys::KeyPair, nonce: &[u8], path: &std::path::Path) -> Result<Vec<u8>, String> {
    pair.sign(nonce).map_err(|_| format!("the seed in `{}` cannot sign", path.display()))
}

/// The line between `-----BEGIN NAME-----` and its end.
fn section<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| line.starts_with("---") && line.contains("BEGIN") && line.contains(name))?;
    lines.find(|line| !line.is_empty()).filter(|line| !line.starts_with("---"))
}

fn secured(mut options: ConnectOptions, connection: &Connection) -> ConnectOptions {
    let Some(tls) = &connection.tls else { return options };
    options = options.require_tls(true);
    if let Some(ca) = &tls.ca {
        options = options.add_root_certificates(ca.clone());
    }
    if let (Some(cert), Some(key)) = (&tls.cert, &tls.key) {
        options = options.add_client_certificate(cert.clone(), key.clone());
    }
    if tls.first { options.tls_first() } else { options }
}

/// What becomes of it in time. A server that takes no bytes any more stops whoever writes, and says nothing.
pub(crate) async fn within<T, E>(limit: Duration, what: impl Future<Output = Result<T, E>>) -> Option<Result<T, E>> {
    tokio::time::timeout(limit, what).await.ok()
}

/// A way to and from the server: what was sent to it before is behind when it comes back. async-nats's `flush` only says
/// that bytes were given to the socket.
pub(crate) struct Echo {
    subject: async_nats::Subject,
    subscriber: Subscriber,
}

impl Echo {
    pub(crate) async fn new(client: &Client) -> Option<Self> {
        let subject = async_nats::Subject::from(client.new_inbox());
        let subscriber = client.subscribe(subject.clone()).await.ok()?;
        Some(Self { subject, subscriber })
    }

    pub(crate) async fn send(&self, client: &Client, number: u64) -> Option<()> {
        let published = client.publish(self.subject.clone(), Bytes::copy_from_slice(&number.to_be_bytes()));
        within(ECHO, published).await?.ok()
    }

    /// There and back.
    pub(crate) async fn round_trip(&mut self, client: &Client) -> Option<()> {
        self.send(client, 0).await?;
        tokio::time::timeout(ECHO, self.next()).await.ok()?.map(drop)
    }

    /// The number that came back; `None` when the connection is over.
    pub(crate) async fn next(&mut self) -> Option<u64> {
        let message = self.subscriber.next().await?;
        Some(message.payload.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes)))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_credentials_file_is_read_and_none_of_it_is_in_an_error() {
        let pair = nkeys::KeyPair::new_user();
        let seed = pair.seed().unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(
            file,
            "-----BEGIN NATS USER JWT-----\na.b.c\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
        .unwrap();
        let given = proof(Some(&Auth::Credentials(file.path().to_owned())), b"nonce").unwrap();
        assert_eq!(given.jwt.as_deref(), Some("a.b.c"));
        pair.verify(b"nonce", &given.signature.unwrap()).unwrap();
        let mut broken = tempfile::NamedTempFile::new().unwrap();
        write!(broken, "{}X", &seed[..seed.len() - 1]).unwrap();
        let error = proof(Some(&Auth::NkeySeed(broken.path().to_owned())), b"nonce").err().unwrap();
        assert!(error.contains("no nkey seed") && !error.contains(&seed[..8]), "{error}");
    }

    #[test]
    fn a_password_in_an_address_is_refused_without_being_shown() {
        let error = judge(&Connection::plain(["nats://pc:hunter2@n:4222"])).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Configuration);
        assert!(!error.to_string().contains("hunter2"));
    }
}
