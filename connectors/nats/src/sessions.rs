//! Connection after connection: what all sources and sinks have in common. A session is what one of them does with one
//! connection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis_connector_api::{ConnectorError, ErrorKind};

use crate::backoff::Backoff;
use crate::failure::{self, Said};
use crate::health::{Health, Worse};
use crate::link::{self, Link, Notice};
use crate::settings::Connection;
use crate::task::Stop;
use crate::{Count, Counters, runtime};

/// A server that is being restarted refuses us while it does not know all of its accounts yet. Once it has worked, only this
/// long of nothing but refusals is taken for a change that nobody undoes.
const REFUSED: Duration = Duration::from_secs(60);
/// For the tasks of a connection that is over; they end at their next step. A name that is being looked up is not waited for.
const SHUTDOWN: Duration = Duration::from_secs(1);
/// Until the system is asked again for what it did not have for a connection.
const SHORTAGE: Duration = Duration::from_millis(250);

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

/// Until the end is requested or nothing can mend it. For a source, which leaves the server in its own time.
pub(crate) async fn run(mut of: impl Sessions, mut stop: Stop) {
    let mut tries = Tries::new();
    loop {
        let end = tries.next(&mut of, &mut stop).await;
        if !goes_on(&mut of, end) {
            return;
        }
    }
}

/// The same for a sink, on the thread of its own: each connection has a runtime and ends with it. async-nats sends what
/// waits inside of it for as long as its tasks live, also when nobody holds the client any more. After a link has stood still
/// that would come behind what the next connection has sent, or the next owner of a partition.
pub(crate) fn run_apart(mut of: impl Sessions, mut stop: Stop) {
    let mut tries = Tries::new();
    loop {
        let end = match runtime::of_one_connection() {
            Ok(runtime) => {
                let end = runtime.block_on(tries.next(&mut of, &mut stop));
                runtime.shutdown_timeout(SHUTDOWN);
                end
            }
            Err(_) if stop.requested() => return,
            Err(error) => {
                std::thread::sleep(SHORTAGE);
                End::Lost(error.context)
            }
        };
        if !goes_on(&mut of, end) {
            return;
        }
    }
}

/// Ends a session wherever it waits, as soon as the end is requested.
pub(crate) async fn until_stopped(mut stop: Stop, session: impl Future<Output = End>) -> End {
    tokio::select! {
        biased;
        () = stop.wait() => End::Stopped,
        end = session => end,
    }
}

fn goes_on(of: &mut impl Sessions, end: End) -> bool {
    match end {
        End::Stopped => return false,
        End::Dead(error) => {
            of.died(&error);
            return false;
        }
        End::Lost(why) => of.health().troubled(why),
    }
    of.broken();
    true
}

/// The attempts to connect so far.
struct Tries {
    count: usize,
    backoff: Backoff,
    /// Since when there is nothing but refusals.
    refused: Option<Instant>,
}

impl Tries {
    fn new() -> Self {
        Self { count: 0, backoff: Backoff::new(), refused: None }
    }

    /// One connection, after a pause where there was one before.
    async fn next(&mut self, of: &mut impl Sessions, stop: &mut Stop) -> End {
        if self.count > 0 {
            stop.sleep(self.backoff.pause()).await;
        }
        if stop.requested() {
            return End::Stopped;
        }
        let linked = tokio::select! {
            linked = link::connect(of.connection(), self.count, of.capacity(), of.counters()) => linked,
            () = stop.wait() => return End::Stopped,
        };
        self.count = self.count.wrapping_add(1);
        match linked {
            Ok(link) => {
                self.refused = None;
                of.health().connected();
                let end = of.session(link, &mut self.backoff, stop.clone()).await;
                of.counters().add(Count::Disconnects, 1);
                end
            }
            Err(error) if error.kind == ErrorKind::Configuration && of.health().has_begun() => {
                let since = *self.refused.get_or_insert_with(Instant::now);
                if since.elapsed() < REFUSED { End::Lost(error.context) } else { End::Dead(error) }
            }
            Err(error) => {
                self.refused = None;
                End::of(error)
            }
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
pub(crate) fn heard(notice: Notice, connection: &Connection, health: &Health) -> Result<Heard, End> {
    match notice {
        Notice::LameDuck if connection.servers.len() > 1 => {
            return Err(End::Lost("the server is about to shut down".to_owned()));
        }
        Notice::LameDuck => health.worse(Worse::LameDuck),
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
