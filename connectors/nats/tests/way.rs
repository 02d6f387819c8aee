//! A link between a client and a server that can stand still: what the client sends is then read by nobody, and what the
//! server says still arrives.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use portcullis_connector_nats::Connection;

use crate::server::Server;
use crate::support::LIMIT;

/// Read at once. Small, so that little is on its way inside of the link when it is held.
const CHUNK: usize = 4096;

pub(crate) struct Way {
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    now: Mutex<Now>,
    changed: Condvar,
}

#[derive(Default)]
struct Now {
    held: bool,
    /// Connections that were ever made.
    made: usize,
    /// Connections whose client has not ended its side yet, or of which something is still to be passed on.
    open: usize,
}

impl Way {
    /// To this server, for any number of connections one after the other.
    pub(crate) fn to(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, to) = (listener.local_addr().unwrap().port(), server.port);
        let state = Arc::new(State::default());
        let of = Arc::clone(&state);
        // Ends with the process.
        thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else { continue };
                let mut now = of.now.lock().unwrap();
                (now.open, now.made) = (now.open + 1, now.made + 1);
                drop(now);
                let (mut down, mut up) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || {
                    drop(std::io::copy(&mut down, &mut up));
                    drop(up.shutdown(Shutdown::Both));
                });
                let state = Arc::clone(&of);
                thread::spawn(move || state.pass(client, server));
            }
        });
        Self { port, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub(crate) fn connection(&self, server: &Server) -> Connection {
        let mut connection = server.connection();
        connection.servers = vec![self.url()];
        connection
    }

    /// How many connections there were to a server that takes them.
    pub(crate) fn made(&self) -> usize {
        self.state.now.lock().unwrap().made
    }

    /// Nothing of any client goes on.
    pub(crate) fn hold(&self) {
        self.state.now.lock().unwrap().held = true;
    }

    /// Everything goes on, and is passed on up to the end of each connection that is open now. False where one does not end.
    pub(crate) fn let_through(&self) -> bool {
        let mut now = self.state.now.lock().unwrap();
        now.held = false;
        self.state.changed.notify_all();
        let waited = self.state.changed.wait_timeout_while(now, LIMIT, |now| now.open > 0).unwrap();
        !waited.1.timed_out()
    }
}

impl State {
    fn pass(&self, mut client: TcpStream, mut server: TcpStream) {
        let mut chunk = [0; CHUNK];
        loop {
            // Also what was read already when the link was held: it waits below.
            match client.read(&mut chunk) {
                Ok(0) | Err(_) => break,
                Ok(read) => {
                    drop(self.changed.wait_while(self.now.lock().unwrap(), |now| now.held).unwrap());
                    if server.write_all(&chunk[..read]).is_err() {
                        break;
                    }
                }
            }
        }
        // The server has all of it before it sees the end, and is at its end when it ends its own side.
        drop(server.shutdown(Shutdown::Write));
        let mut rest = [0; CHUNK];
        while server.read(&mut rest).is_ok_and(|read| read > 0) {}
        self.now.lock().unwrap().open -= 1;
        self.changed.notify_all();
    }
}
