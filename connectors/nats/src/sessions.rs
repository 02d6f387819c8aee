//! Connection after connection: what all sources and sinks have in common. A session is what one of them does with one
//! connection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis_connector_api::{ConnectorError, ErrorKind};

use crate::backoff::Backoff;
use crate::failure::{self, Said};
use crate::health::Health;
use crate::link::{self, Link, Notice};
use crate::settings::Connection;
use crate::task::Stop;
use crate::{Count, Counters};

/// A server that is being restarted refuses us while it does not know all of its accounts yet. Once it has worked, only this
/// long of nothing but refusals is taken for a change that nobody undoes.
const REFUSED: Duration = Duration::from_secs(60);

/// Why a session is over.
pub(crate) enum End {
    Stopped,
    Lost(String),
    Dead(ConnectorError),
}

impl End {
    pub(crate) fn lost() -> Self {
        Self::Lost("the connection to NATS is lost".to_owned())
    }

    /// Whoever writes to the server waits too long.
    pub(crate) fn stuck(waited: Duration) -> Self {
        Self::Lost(format!("the server has taken nothing for {} ms", waited.as_millis()))
    }

    pub(crate) fn configuration(what: String) -> Self {
        Self::Dead(ConnectorError::new(ErrorKind::Configuration, what))
    }

    /// Of an error that another connection may mend, or not.
    pub(crate) fn of(error: ConnectorError) -> Self {
        match error.kind {
            ErrorKind::Retriable => Self::Lost(error.context),
            _ => Self::Dead(error),
        }
    }
}

/// A source or sink, to which connections are given.
pub(crate) trait Sessions: Send + Sync {
    fn connection(&self) -> &Connection;

    fn counters(&self) -> &Arc<Counters>;

    fn health(&self) -> &Health;

    /// Bounds the messages of each subscription.
    fn capacity(&self) -> usize;

    /// What is done with a connection until its end.
    fn session(&mut self, link: Link, backoff: &mut Backoff, stop: Stop) -> impl Future<Output = End> + Send;

    /// What was under way on a connection is not known to have arrived.
    fn broken(&mut self) {}

    /// There will be no connection any more: whoever waits is told.
    fn died(&mut self, error: &ConnectorError);
}

/// Until the end is requested or nothing can mend it.
pub(crate) async fn run(mut of: impl Sessions, mut stop: Stop) {
    let mut backoff = Backoff::new();
    let mut refused: Option<Instant> = None;
    for attempt in 0.. {
        let linked = tokio::select! {
            linked = link::connect(of.connection(), attempt, of.capacity(), of.counters()) => linked,
            () = stop.wait() => return,
        };
        let end = match linked {
            Ok(link) => {
                refused = None;
                let end = of.session(link, &mut backoff, stop.clone()).await;
                of.counters().add(Count::Disconnects, 1);
                end
            }
            Err(error) if error.kind == ErrorKind::Configuration && of.health().has_begun() => {
                let since = *refused.get_or_insert_with(Instant::now);
                if since.elapsed() < REFUSED { End::Lost(error.context) } else { End::Dead(error) }
            }
            Err(error) => {
                refused = None;
                End::of(error)
            }
        };
        match end {
            End::Stopped => return,
            End::Lost(why) => of.health().troubled(why),
            End::Dead(error) => return of.died(&error),
        }
        of.broken();
        stop.sleep(backoff.pause()).await;
        if stop.requested() {
            return;
        }
    }
}

/// What a notice means to a session.
pub(crate) enum Heard {
    /// A subscription was full.
    Dropped,
    /// The account must not publish to this.
    NoPublish(String),
    /// The account must not subscribe to this.
    NoSubscribe(String),
    /// Nothing but a line in the log.
    Nothing,
}

/// A server that will shut down is left where there is another. The only one is stayed with: it may come back.
pub(crate) fn heard(notice: Notice, connection: &Connection) -> Result<Heard, End> {
    match notice {
        Notice::LameDuck if connection.servers.len() > 1 => {
            return Err(End::Lost("the server is about to shut down".to_owned()));
        }
        Notice::LameDuck => tracing::warn!("the only NATS server that is given is about to shut down"),
        Notice::Dropped => return Ok(Heard::Dropped),
        Notice::Error(line) => match failure::said(&line) {
            Said::NoPublish(subject) => return Ok(Heard::NoPublish(subject)),
            Said::NoSubscribe(subject) => return Ok(Heard::NoSubscribe(subject)),
            Said::NoReply(subject) => {
                return Err(End::configuration(format!("the account must not ask for answers on `{subject}`")));
            }
            Said::Other => tracing::warn!("the server says: {line}"),
        },
    }
    Ok(Heard::Nothing)
}
