//! Where calls that wait are driven. Sockets, timers and HTTP connections live on one runtime of the process, so that they
//! go on while a lane does something else; the guest's own instructions run on the lane's thread.

use std::io;
use std::sync::{Mutex, OnceLock, PoisonError};

use tokio::runtime::{Builder, Handle, Runtime};

use super::slices::take_short_slices;

/// Moving bytes between sockets and guests is light: what a guest computes is not done here.
const THREADS: usize = 1;

/// Never dropped: instances of the last pipeline may outlive everything else.
static RUNTIME: OnceLock<Runtime> = OnceLock::new();

/// The runtime, made when the first plugin that may wait is linked.
///
/// # Errors
/// When the system gives no thread or no event queue.
pub(crate) fn handle() -> io::Result<Handle> {
    static MAKING: Mutex<()> = Mutex::new(());
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime.handle().clone());
    }
    let _one_at_a_time = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime.handle().clone());
    }
    let made = Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("portcullis-net")
        .on_thread_start(|| {
            // A guest that computes must not hold up the bytes of others.
            if let Err(error) = take_short_slices() {
                tracing::debug!(%error, "the network of plugins may be late on a busy machine");
            }
        })
        .enable_all()
        .build()?;
    Ok(RUNTIME.get_or_init(|| made).handle().clone())
}
