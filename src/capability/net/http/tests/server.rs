use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::support::PATIENCE;

/// What a server does after a request.
#[derive(Clone)]
pub(super) enum Step {
    Write(Vec<u8>),
    /// Waits for the client to go away.
    Wait,
    Close,
    /// Waits until the test lets it go on.
    Permit(Arc<Semaphore>),
}

#[derive(Default)]
struct Seen {
    accepted: AtomicUsize,
    gone: AtomicUsize,
    requests: Mutex<Vec<String>>,
}

/// Answers each request with the steps that its head gives.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    seen: Arc<Seen>,
}

impl Server {
    pub(super) async fn start(answer: impl Fn(&str) -> Vec<Step> + Send + Sync + 'static) -> Self {
        Self::listen(None, answer).await
    }

    pub(super) async fn tls(
        config: Arc<rustls::ServerConfig>,
        answer: impl Fn(&str) -> Vec<Step> + Send + Sync + 'static,
    ) -> Self {
        Self::listen(Some(config.into()), answer).await
    }

    /// Says these bytes to whoever connects, and no more.
    pub(super) async fn raw(bytes: &'static [u8]) -> Self {
        let (listener, server) = Self::bind().await;
        let seen = Arc::clone(&server.seen);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                seen.accepted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    stream.write_all(bytes).await.unwrap();
                    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.unwrap_or(0);
                });
            }
        });
        server
    }

    async fn bind() -> (TcpListener, Self) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, Self { address, seen: Arc::default() })
    }

    async fn listen(tls: Option<TlsAcceptor>, answer: impl Fn(&str) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let (listener, server) = Self::bind().await;
        let (seen, answer) = (Arc::clone(&server.seen), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                seen.accepted.fetch_add(1, Ordering::SeqCst);
                let (seen, answer, tls) = (Arc::clone(&seen), Arc::clone(&answer), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, &seen, &*answer).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &seen, &*answer).await;
                            }
                        }
                    }
                    seen.gone.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        server
    }

    pub(super) fn accepted(&self) -> usize {
        self.seen.accepted.load(Ordering::SeqCst)
    }

    /// Connections that have ended.
    pub(super) fn gone(&self) -> usize {
        self.seen.gone.load(Ordering::SeqCst)
    }

    /// Head and body of each request.
    pub(super) fn requests(&self) -> Vec<String> {
        self.seen.requests.lock().unwrap().clone()
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    seen: &Seen,
    answer: &(dyn Fn(&str) -> Vec<Step> + Sync),
) {
    let mut buffer = Vec::new();
    loop {
        let Some(head_end) = more(&mut stream, &mut buffer, |all| find(all, b"\r\n\r\n").map(|at| at + 4)).await else {
            return;
        };
        let head = String::from_utf8_lossy(&buffer[..head_end]).to_lowercase();
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse::<usize>().ok());
        let chunked = head.contains("transfer-encoding: chunked");
        let steps = answer(&head);
        // A server that answers before the request has ended does not read on.
        let end = match steps.first() {
            Some(Step::Write(bytes)) if bytes.starts_with(b"EARLY") => Some(head_end),
            _ if chunked => {
                more(&mut stream, &mut buffer, |all| find(&all[head_end..], b"0\r\n\r\n").map(|at| head_end + at + 5))
                    .await
            }
            _ => {
                let end = head_end + length.unwrap_or(0);
                more(&mut stream, &mut buffer, |all| (all.len() >= end).then_some(end)).await
            }
        };
        let Some(end) = end else { return };
        let request: Vec<u8> = buffer.drain(..end).collect();
        seen.requests.lock().unwrap().push(String::from_utf8_lossy(&request).into_owned());
        for step in steps {
            match step {
                Step::Write(bytes) => {
                    let bytes = bytes.strip_prefix(b"EARLY").unwrap_or(&bytes);
                    if stream.write_all(bytes).await.is_err() {
                        return;
                    }
                }
                Step::Wait => {
                    more(&mut stream, &mut Vec::new(), |_| None).await;
                    return;
                }
                Step::Close => return,
                Step::Permit(permits) => permits.acquire().await.unwrap().forget(),
            }
        }
    }
}

/// Reads until there is something to find, or nothing more.
async fn more<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut Vec<u8>,
    found: impl Fn(&[u8]) -> Option<usize>,
) -> Option<usize> {
    loop {
        if let Some(at) = found(buffer) {
            return Some(at);
        }
        stream.read_buf(buffer).await.ok().filter(|read| *read > 0)?;
    }
}

fn find(all: &[u8], what: &[u8]) -> Option<usize> {
    all.windows(what.len()).position(|window| window == what)
}

/// An answer with a text.
pub(super) fn text(text: &str) -> Vec<Step> {
    answer(&format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len()))
}

pub(super) fn answer(bytes: &str) -> Vec<Step> {
    vec![Step::Write(bytes.as_bytes().to_vec())]
}

/// Waits for what another task does.
pub(super) async fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
