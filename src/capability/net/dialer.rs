use std::io;
use std::time::Duration;

use portcullis_policy::{Effect, Granted};
use tokio::net::TcpStream;

/// Opens the connection that was granted: the address is the token's and nobody else's.
///
/// # Errors
/// What the system says; `TimedOut` after `timeout`; `InvalidInput` for the token of another effect.
pub(crate) async fn dial(granted: &Granted, timeout: Duration) -> io::Result<TcpStream> {
    let Effect::Connect(address) = granted.effect() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a connect that was granted"));
    };
    let connected = tokio::time::timeout(timeout, TcpStream::connect(*address)).await;
    let stream = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    // Requests are written in one piece: waiting for more of them only costs time.
    stream.set_nodelay(true)?;
    Ok(stream)
}
