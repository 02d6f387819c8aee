//! Servers on loopback that remember what reached them: decoys that must hear nothing, and servers that misbehave. Each
//! connection has a thread; all of them end with the value.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::wait::wait_until;

/// What a connection or a bomb may cost at most.
const MAX_SEEN_BYTES: usize = 64 << 10;
const MAX_BOMB_BYTES: usize = 512 << 20;
const MAX_LIFE: Duration = Duration::from_secs(60);
/// How soon a thread sees that its server has ended.
const TICK: Duration = Duration::from_millis(50);

/// What a server does with the head of a request.
pub(crate) enum Answer {
    /// Sends it, and waits for the next request.
    Whole(String),
    /// Sends a head and then a body without an end, as fast as it can.
    Bomb,
    /// Sends a head and then a byte every so often.
    Drip(Duration),
    /// Says nothing and keeps the connection.
    Silence,
}

/// A TCP server on a free port of 127.0.0.1.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    ended: AtomicBool,
    sent: AtomicUsize,
    open: AtomicUsize,
    /// What came in on each connection, from its begin.
    seen: Mutex<Vec<Vec<u8>>>,
    answer: Box<dyn Fn(&str) -> Answer + Send + Sync>,
}

impl Server {
    /// Accepts, remembers and says nothing.
    pub(crate) fn decoy() -> Self {
        Self::start(|_| Answer::Silence)
    }

    /// The same at an address of the test's choice.
    pub(crate) fn decoy_at(address: SocketAddr) -> Self {
        Self::start_at(address, |_| Answer::Silence)
    }

    /// Speaks HTTP/1.1: `answer` gets the head of each request, up to its empty line.
    pub(crate) fn start(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), answer)
    }

    fn start_at(address: SocketAddr, answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            ended: AtomicBool::new(false),
            sent: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            seen: Mutex::default(),
            answer: Box::new(answer),
        });
        let own = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &own));
        Self { address, shared }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.seen.lock().unwrap().len()
    }

    /// Connections that nobody has closed yet.
    pub(crate) fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Bytes that it has sent.
    pub(crate) fn sent(&self) -> usize {
        self.shared.sent.load(Ordering::SeqCst)
    }

    /// What came in on each connection, as text.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.shared.seen.lock().unwrap().iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.ended.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { return };
        let number = {
            let mut seen = shared.seen.lock().unwrap();
            seen.push(Vec::new());
            seen.len() - 1
        };
        let shared = Arc::clone(shared);
        shared.open.fetch_add(1, Ordering::SeqCst);
        thread::spawn(move || {
            // A client that goes away ends the talk; that is no failure of the server.
            drop(talk(stream, number, &shared));
            shared.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

fn talk(mut stream: TcpStream, number: usize, shared: &Shared) -> std::io::Result<()> {
    stream.set_read_timeout(Some(TICK))?;
    stream.set_write_timeout(Some(MAX_LIFE))?;
    let until = Instant::now() + MAX_LIFE;
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    while !shared.ended.load(Ordering::SeqCst) && Instant::now() < until {
        let count = match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(error) => return Err(error),
        };
        head.extend_from_slice(&buffer[..count]);
        {
            let mut seen = shared.seen.lock().unwrap();
            let room = MAX_SEEN_BYTES.saturating_sub(seen[number].len());
            seen[number].extend_from_slice(&buffer[..count.min(room)]);
        }
        if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&head[..end]).into_owned();
            head.drain(..end + 4);
            send(&mut stream, (shared.answer)(&text), shared)?;
        }
        if head.len() > MAX_SEEN_BYTES {
            head.clear();
        }
    }
    Ok(())
}

fn send(stream: &mut TcpStream, answer: Answer, shared: &Shared) -> std::io::Result<()> {
    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut put = |bytes: &[u8]| {
        stream.write_all(bytes)?;
        shared.sent.fetch_add(bytes.len(), Ordering::SeqCst);
        Ok::<(), std::io::Error>(())
    };
    match answer {
        Answer::Silence => Ok(()),
        Answer::Whole(text) => put(text.as_bytes()),
        Answer::Bomb => {
            put(HEAD)?;
            let chunk = [b"10000\r\n".as_slice(), &vec![b'x'; 0x10000], b"\r\n"].concat();
            while !shared.ended.load(Ordering::SeqCst) && shared.sent.load(Ordering::SeqCst) < MAX_BOMB_BYTES {
                put(&chunk)?;
            }
            Ok(())
        }
        Answer::Drip(pause) => {
            put(HEAD)?;
            let until = Instant::now() + MAX_LIFE;
            while Instant::now() < until && !wait_until(pause, || shared.ended.load(Ordering::SeqCst)) {
                put(b"1\r\nx\r\n")?;
            }
            Ok(())
        }
    }
}

/// An answer with a status line's rest, more header lines (each with its end) and a body.
pub(crate) fn response(status: &str, headers: &str, body: &str) -> Answer {
    Answer::Whole(format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len()))
}

/// Who sent what.
type Letters = Vec<(SocketAddr, Vec<u8>)>;

/// A UDP socket on a free port of 127.0.0.1 that remembers who sent what.
pub(crate) struct Mailbox {
    pub(crate) address: SocketAddr,
    socket: Arc<UdpSocket>,
    ended: Arc<AtomicBool>,
    seen: Arc<Mutex<Letters>>,
}

impl Mailbox {
    /// `answers` gets the sender, the datagram and the socket, once for each datagram.
    pub(crate) fn start(answers: impl Fn(SocketAddr, &[u8], &UdpSocket) + Send + 'static) -> Self {
        let socket = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        socket.set_read_timeout(Some(TICK)).unwrap();
        let own = Self {
            address: socket.local_addr().unwrap(),
            socket: Arc::clone(&socket),
            ended: Arc::default(),
            seen: Arc::default(),
        };
        let (ended, seen) = (Arc::clone(&own.ended), Arc::clone(&own.seen));
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            while !ended.load(Ordering::SeqCst) {
                if let Ok((count, from)) = socket.recv_from(&mut buffer) {
                    seen.lock().unwrap().push((from, buffer[..count].to_vec()));
                    answers(from, &buffer[..count], &socket);
                }
            }
        });
        own
    }

    /// Says nothing.
    pub(crate) fn decoy() -> Self {
        Self::start(|_, _, _| {})
    }

    pub(crate) fn seen(&self) -> Vec<(SocketAddr, Vec<u8>)> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn send(&self, bytes: &[u8], to: SocketAddr) {
        self.socket.send_to(bytes, to).unwrap();
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
    }
}
