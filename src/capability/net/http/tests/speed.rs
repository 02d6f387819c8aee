//! What the way costs beside the same client without it. Run by hand: `cargo test --release --workspace --lib -- --ignored
//! --nocapture cost_of_a_request`.

use std::time::Instant;

use hyper::client::conn::http1;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use wasmtime_wasi_http::io::TokioIo;

use super::*;
use crate::support::rule;

const ROUND: u32 = 250;
const ROUNDS: usize = 20;

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// A server on a runtime of its own: its time is the same for both.
fn server(runtime: &Runtime) -> SocketAddr {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                }
            });
        }
    });
    address
}

#[test]
#[ignore = "a measurement"]
fn cost_of_a_request_over_a_reused_connection() {
    let (servers, egress) = (runtime(), runtime());
    let address = server(&servers);
    let allow = format!("http://{address}");
    // As a lane has it: its own thread waits on the shared runtime.
    let _context = egress.enter();
    let (client, bench) = Client::rules(&[rule(&allow)]);

    let stream = egress.block_on(TcpStream::connect(address)).unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut sender, connection) = egress.block_on(http1::handshake(TokioIo::new(stream))).unwrap();
    egress.spawn(connection);
    let request = || http::Request::get("/").header("host", address.to_string()).body(full(b"")).unwrap();
    let mut plain = || {
        egress.block_on(async {
            sender.ready().await.unwrap();
            let answer = sender.send_request(request()).await.unwrap();
            answer.into_body().collect().await.unwrap().to_bytes()
        });
    };
    let mut again = {
        let stream = egress.block_on(TcpStream::connect(address)).unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = egress.block_on(http1::handshake(TokioIo::new(stream))).unwrap();
        egress.spawn(connection);
        Some(sender)
    };
    // WASI's resource for an answer that is to come is a task, whoever makes it.
    let mut spawned = || {
        let (request, mut sender) = (request(), again.take().unwrap());
        let task = egress.spawn(async move {
            sender.ready().await.unwrap();
            (sender.send_request(request).await.unwrap(), sender)
        });
        let answer = egress.block_on(async {
            let (answer, sender) = task.await.unwrap();
            answer.into_body().collect().await.unwrap().to_bytes();
            sender
        });
        again = Some(answer);
    };
    let ours = || {
        let job = client.guest.ask(&client.gate, get(address, "/"), RequestOptions::default()).unwrap();
        // As `handle` does it.
        let task = egress.spawn(async move { job.run().await });
        egress.block_on(async { task.await.unwrap().unwrap().into_body().collect().await.unwrap().to_bytes() });
    };
    let time = |run: &mut dyn FnMut()| {
        let begun = Instant::now();
        (0..ROUND).for_each(|_| run());
        begun.elapsed() / ROUND
    };
    let mut ours = ours;
    let mut times = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        times[0].push(time(&mut plain));
        times[1].push(time(&mut spawned));
        times[2].push(time(&mut ours));
    }
    // The thread that builds and chains the events has a core of its own only where there is one. Here its store fails, so
    // that events wait in the queue and it sleeps: what is left is what the request itself costs.
    let told = bench.events().len();
    assert_eq!(told, 2 * usize::try_from(ROUND).unwrap() * ROUNDS, "an intent and a result each");
    bench.store.set_unavailable(true);
    for round in 0..12 {
        let once = time(&mut ours);
        if round > 4 {
            times[3].push(once);
        }
    }
    bench.store.set_unavailable(false);
    times.iter_mut().for_each(|times| times.sort());
    for (name, part) in [("median", 2), ("least", usize::MAX)] {
        let [plain, spawned, ours, alone] = times.each_ref().map(|times| times[times.len() / part]);
        let ratio = |time: Duration| time.as_secs_f64() / plain.as_secs_f64();
        println!("{name}: plain {plain:?}, in a task {spawned:?} ({:.2}),", ratio(spawned));
        println!("  ours {ours:?} ({:.2}), without the audit's thread {alone:?} ({:.2})", ratio(ours), ratio(alone));
    }
}
