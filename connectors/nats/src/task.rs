use std::sync::mpsc::{self, Receiver};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use portcullis_connector_api::{ConnectorError, ErrorKind};
use tokio::sync::watch;

use crate::runtime;

/// A connector's work, which ends when it is told to.
#[derive(Debug)]
pub(crate) struct Task {
    stop: watch::Sender<bool>,
    ended: Mutex<Receiver<()>>,
}

/// What the work sees of its end.
#[derive(Clone, Debug)]
pub(crate) struct Stop(watch::Receiver<bool>);

impl Task {
    /// On the runtime that all share.
    pub(crate) fn start<F: Future<Output = ()> + Send + 'static>(
        work: impl FnOnce(Stop) -> F,
    ) -> Result<Self, ConnectorError> {
        let (stop, stopped) = watch::channel(false);
        let (end, ended) = mpsc::sync_channel::<()>(1);
        let work = work(Stop(stopped));
        runtime::handle()?.spawn(async move {
            // Dropped at the end of the work, also by a panic, which the receiver sees.
            let _end = end;
            work.await;
        });
        Ok(Self { stop, ended: Mutex::new(ended) })
    }

    /// The same on a thread of its own. When `end` says that it is over, nothing of it is left.
    pub(crate) fn start_apart(work: impl FnOnce(Stop) + Send + 'static) -> Result<Self, ConnectorError> {
        let (stop, stopped) = watch::channel(false);
        let (end, ended) = mpsc::sync_channel::<()>(1);
        let thread = thread::Builder::new().name("nats-sink".to_owned()).spawn(move || {
            let _end = end;
            work(Stop(stopped));
        });
        thread.map_err(|error| {
            ConnectorError::new(ErrorKind::Fatal, "cannot start the thread of a sink").caused_by(error)
        })?;
        Ok(Self { stop, ended: Mutex::new(ended) })
    }

    /// Tells the work to end and waits for it. False when it is not over in time.
    pub(crate) fn end(&self, wait: Duration) -> bool {
        self.stop.send_replace(true);
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        !matches!(ended.recv_timeout(wait), Err(mpsc::RecvTimeoutError::Timeout))
    }
}

impl Stop {
    pub(crate) fn requested(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }

    /// Returns when the end is requested.
    pub(crate) async fn wait(&mut self) {
        // An error says that the connector itself is gone, which is the same.
        drop(self.0.wait_for(|stop| *stop).await);
    }

    /// Sleeps, unless the end is requested meanwhile.
    pub(crate) async fn sleep(&mut self, time: Duration) {
        drop(tokio::time::timeout(time, self.wait()).await);
    }
}
