use std::io;
use std::panic::catch_unwind;
use std::sync::OnceLock;

use portcullis_connector_api::{ConnectorError, ErrorKind};
use tokio::runtime::{Builder, Handle, Runtime};

/// Reading sockets and decoding headers; the messages' work is done on the lanes.
const THREADS: usize = 2;

/// The one runtime of all NATS sources of the process. It ends with the process: what has to be finished is finished by
/// each connector's own close.
pub(crate) fn handle() -> Result<Handle, ConnectorError> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        let built = Builder::new_multi_thread().worker_threads(THREADS).thread_name("nats").enable_all().build();
        built.map_err(|error| error.to_string())
    });
    match runtime {
        Ok(runtime) => Ok(runtime.handle().clone()),
        Err(error) => Err(ConnectorError::new(ErrorKind::Fatal, format!("no runtime for NATS: {error}"))),
    }
}

/// For one connection of a sink. What the sink itself does runs on the thread that has made it, the socket on another.
pub(crate) fn of_one_connection() -> Result<Runtime, ConnectorError> {
    let build = || Builder::new_multi_thread().worker_threads(1).thread_name("nats-link").enable_all().build();
    // Where the system gives no thread, tokio panics; no descriptor is an error. Both pass.
    let built = catch_unwind(build).unwrap_or_else(|_| Err(io::Error::other("the system gives no thread")));
    built.map_err(|error| ConnectorError::new(ErrorKind::Retriable, format!("no runtime for NATS: {error}")))
}
