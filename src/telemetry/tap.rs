//! `/tap`: messages as they pass, for somebody on this machine, as far as the node's file consents.
//!
//! The path never waits for a reader: a line that finds no room is counted and not shown, before anything of its message is
//! copied. A reader that takes nothing loses its tap.

mod asked;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::connect_info::Connected;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use bytes::Bytes;
use futures_util::stream::unfold;
use portcullis_config::TapLevel;
use portcullis_connector_api::Token;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::timeout;

use crate::pipeline::Taps;
use crate::pipeline::tap::{At, Seen, Watch, Watcher, line, number_of};

use asked::{Asked, Point};

/// Taps at once, over all pipelines: each costs the path a line for each message that it shows.
const MOST_TAPS: usize = 4;
/// Lines that wait for the reader are given about so many bytes.
const WAITING_BYTES: usize = 2 * 1024 * 1024;
/// So many lines are handed over in one go, every so often: no more than 2000 a second, whatever passes.
const LINES_A_TICK: usize = 100;
const TICK: Duration = Duration::from_millis(50);
const CHUNK_BYTES: usize = 256 * 1024;
/// Pieces between the tap and its connection.
const CHUNKS: usize = 2;
/// Without a message the reader gets an empty line, so that either side notices the other's end.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// A reader that takes nothing for so long has lost its tap.
const STALLED: Duration = Duration::from_secs(30);
/// How often it is told how many were not shown.
const LOSSES: Duration = Duration::from_secs(1);

/// Where taps are asked for.
pub struct TapDesk {
    level: TapLevel,
    pipelines: BTreeMap<String, Tapped>,
    open: AtomicUsize,
}

struct Tapped {
    taps: Arc<Taps>,
    plugins: Vec<String>,
}

impl TapDesk {
    /// For these pipelines with the names of their plugins.
    pub fn new(level: TapLevel, pipelines: impl Iterator<Item = (String, Vec<String>)>) -> Self {
        let tapped = |(name, plugins)| (name, Tapped { taps: Arc::default(), plugins });
        Self { level, pipelines: pipelines.map(tapped).collect(), open: AtomicUsize::new(0) }
    }

    /// Where a pipeline shows its messages.
    pub fn taps(&self, pipeline: &str) -> Arc<Taps> {
        self.pipelines.get(pipeline).map(|tapped| tapped.taps.clone()).unwrap_or_default()
    }

    fn judge(&self, caller: Caller, headers: &HeaderMap, query: &str) -> Result<(Asked, &String, &Tapped), Refused> {
        let forbidden = |why: &str| Err((StatusCode::FORBIDDEN, why.to_owned()));
        if self.level == TapLevel::Off {
            return forbidden("taps are off; `admin: { tap: headers }` in the node's file allows them");
        }
        if !caller.is_near() {
            return forbidden("taps are for this machine alone, and the connection comes from another");
        }
        if !is_addressed_directly(headers) {
            return forbidden("taps are not for web pages: ask for the address itself, without `Origin`");
        }
        let asked = Asked::parse(query).map_err(|why| (StatusCode::BAD_REQUEST, why))?;
        if asked.payload && self.level < TapLevel::Payload {
            return forbidden("the node's file allows no payload; `admin: { tap: payload }` would");
        }
        let not_found = |what: String| Err((StatusCode::NOT_FOUND, what));
        let list = |names: &mut dyn Iterator<Item = &String>| names.map(String::as_str).collect::<Vec<_>>().join(", ");
        let found = match &asked.pipeline {
            Some(name) => self.pipelines.get_key_value(name),
            None if self.pipelines.len() == 1 => self.pipelines.iter().next(),
            None => None,
        };
        let Some((name, tapped)) = found else {
            return not_found(format!("name one of the pipelines: {}", list(&mut self.pipelines.keys())));
        };
        match &asked.at {
            Point::Plugin(plugin) if !tapped.plugins.contains(plugin) => not_found(format!(
                "the pipeline `{name}` has no plugin `{plugin}`; there are source, {}sink",
                tapped.plugins.iter().map(|plugin| format!("{plugin}, ")).collect::<String>()
            )),
            _ => Ok((asked, name, tapped)),
        }
    }

    fn take_slot(&self) -> Result<(), Refused> {
        let taken =
            self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| (open < MOST_TAPS).then_some(open + 1));
        let full = || (StatusCode::SERVICE_UNAVAILABLE, format!("{MOST_TAPS} taps are open, which is the most"));
        taken.map(drop).map_err(|_| full())
    }
}

type Refused = (StatusCode, String);

/// Both ends of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    peer: SocketAddr,
    local: Option<SocketAddr>,
}

impl Connected<IncomingStream<'_, TcpListener>> for Caller {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        Self { peer: *stream.remote_addr(), local: stream.io().local_addr().ok() }
    }
}

impl Caller {
    /// Whoever calls from one of this machine's addresses to the same address is on it.
    fn is_near(self) -> bool {
        let peer = self.peer.ip().to_canonical();
        peer.is_loopback() || self.local.is_some_and(|local| local.ip().to_canonical() == peer)
    }
}

/// A page in a browser on this machine could give its own name this machine's address and read what it asks for; it cannot
/// ask under an address, and says where it is from.
fn is_addressed_directly(headers: &HeaderMap) -> bool {
    let is_port = |rest: &str| rest.strip_prefix(':').map_or(rest.is_empty(), |port| port.parse::<u16>().is_ok());
    let is_address = |host: &str| {
        host.parse::<SocketAddr>().is_ok()
            || host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok()
            || host.strip_prefix("localhost").is_some_and(is_port)
    };
    let mut hosts = headers.get_all(header::HOST).iter();
    hosts.all(|host| host.to_str().is_ok_and(is_address)) && !headers.contains_key(header::ORIGIN)
}

/// Opens a tap, or says why not.
pub(super) fn open(desk: &Arc<TapDesk>, caller: Caller, headers: &HeaderMap, query: &str) -> Response {
    let judged = desk.judge(caller, headers, query).and_then(|judged| desk.take_slot().map(|()| judged));
    let (asked, name, tapped) = match judged {
        Ok(judged) => judged,
        Err((status, why)) => return (status, format!("{why}\n")).into_response(),
    };
    let room = (WAITING_BYTES / (asked.payload_bytes().unwrap_or(0) + 1024)).clamp(16, 1024);
    let (lines, waiting) = mpsc::channel(room);
    let tap = Arc::new(Tap {
        at: asked.at.clone(),
        sample: asked.sample,
        payload_bytes: asked.payload_bytes(),
        lines,
        not_shown: AtomicU64::new(0),
    });
    let (pipeline, peer, payload) = (name.clone(), caller.peer, asked.payload);
    // With payload a person has looked at data: that is worth a line whatever else is logged.
    match payload {
        true => tracing::warn!(pipeline, at = %asked.at, %peer, payload, "a tap has begun"),
        false => tracing::info!(pipeline, at = %asked.at, %peer, payload, "a tap has begun"),
    }
    let watch = tapped.taps.add(tap.clone());
    let (chunks, body) = mpsc::channel::<Bytes>(CHUNKS);
    let session = Session {
        desk: desk.clone(),
        tap,
        pipeline,
        peer,
        shown: 0,
        why: "the bridge ends",
        watch: Some(watch),
        waiting,
    };
    tokio::spawn(session.run(asked, chunks));
    let body =
        unfold(body, async |mut body: mpsc::Receiver<Bytes>| Some((Ok::<_, Infallible>(body.recv().await?), body)));
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson"), (header::CACHE_CONTROL, "no-store")];
    (headers, Body::from_stream(body)).into_response()
}

/// What the path sees of a tap.
struct Tap {
    at: Point,
    sample: u64,
    payload_bytes: Option<usize>,
    lines: mpsc::Sender<String>,
    not_shown: AtomicU64,
}

impl Watcher for Tap {
    fn wants(&self, at: At<'_>, token: Token) -> bool {
        self.at.is(at) && number_of(token).is_multiple_of(self.sample)
    }

    fn saw(&self, at: At<'_>, seen: &Seen<'_>) {
        match self.lines.try_reserve() {
            Ok(room) => room.send(line(at, seen, self.payload_bytes).to_string()),
            Err(TrySendError::Full(())) => drop(self.not_shown.fetch_add(1, Ordering::Relaxed)),
            // It has ended, and the path will hear of it with the next slice.
            Err(TrySendError::Closed(())) => {}
        }
    }
}

/// One tap, from its begin to its end: by whatever it ends, it is taken off the path.
struct Session {
    desk: Arc<TapDesk>,
    tap: Arc<Tap>,
    pipeline: String,
    peer: SocketAddr,
    shown: u64,
    why: &'static str,
    watch: Option<Watch>,
    waiting: mpsc::Receiver<String>,
}

impl Session {
    async fn run(mut self, asked: Asked, chunks: mpsc::Sender<Bytes>) {
        let ends = Instant::now() + asked.lasts;
        let begin = json!({ "tap": {
            "pipeline": self.pipeline, "at": asked.at.to_string(), "sample": asked.sample, "payload": asked.payload,
        } });
        let mut chunk = format!("{begin}\n");
        let (mut spoke, mut told, mut told_at) = (Instant::now(), 0, Instant::now());
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.why = loop {
            tick.tick().await;
            self.collect(&mut chunk, asked.limit);
            let is_enough = asked.limit.is_some_and(|limit| self.shown >= limit);
            let over = if is_enough { Some("limit") } else { (Instant::now() >= ends).then_some("time") };
            let not_shown = self.tap.not_shown.load(Ordering::Relaxed);
            if not_shown > told && (over.is_some() || told_at.elapsed() >= LOSSES) {
                (told, told_at) = (not_shown, Instant::now());
                chunk.push_str(&format!("{}\n", json!({ "not_shown": not_shown })));
            }
            if let Some(why) = over {
                chunk.push_str(&format!(
                    "{}\n",
                    json!({ "end": { "why": why, "shown": self.shown, "not_shown": not_shown } })
                ));
            }
            if chunk.is_empty() && spoke.elapsed() >= HEARTBEAT {
                chunk.push('\n');
            }
            if !chunk.is_empty() {
                spoke = Instant::now();
                match timeout(STALLED, chunks.send(Bytes::from(std::mem::take(&mut chunk)))).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => break "the reader has gone",
                    Err(_) => break "the reader took nothing",
                }
            }
            if let Some(why) = over {
                break why;
            }
            if chunks.is_closed() {
                break "the reader has gone";
            }
        };
    }

    fn collect(&mut self, chunk: &mut String, limit: Option<u64>) {
        for _ in 0..LINES_A_TICK {
            if chunk.len() >= CHUNK_BYTES || limit.is_some_and(|limit| self.shown >= limit) {
                return;
            }
            let Ok(line) = self.waiting.try_recv() else { return };
            chunk.push_str(&line);
            chunk.push('\n');
            self.shown += 1;
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.watch = None;
        self.desk.open.fetch_sub(1, Ordering::Relaxed);
        let not_shown = self.tap.not_shown.load(Ordering::Relaxed);
        let (shown, why) = (self.shown, self.why);
        tracing::info!(pipeline = self.pipeline, peer = %self.peer, shown, not_shown, why, "a tap has ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    fn near() -> Caller {
        Caller { peer: "127.0.0.1:5".parse().unwrap(), local: Some("127.0.0.1:9464".parse().unwrap()) }
    }

    fn desk(level: TapLevel) -> TapDesk {
        TapDesk::new(level, [("p".to_owned(), vec!["check".to_owned()])].into_iter())
    }

    fn refusal(desk: &TapDesk, caller: Caller, headers: &HeaderMap, query: &str) -> (u16, String) {
        let refused = desk.judge(caller, headers, query).err().unwrap();
        (refused.0.as_u16(), refused.1)
    }

    #[test]
    fn without_the_nodes_consent_there_is_no_tap_and_no_payload() {
        let none = HeaderMap::new();
        let (status, why) = refusal(&desk(TapLevel::Off), near(), &none, "at=source");
        assert!(status == 403 && why.contains("admin: { tap: headers }"), "{why}");
        let (status, why) = refusal(&desk(TapLevel::Headers), near(), &none, "at=source&payload=true");
        assert!(status == 403 && why.contains("admin: { tap: payload }"), "{why}");
        assert!(desk(TapLevel::Headers).judge(near(), &none, "at=check").is_ok());
        assert!(desk(TapLevel::Payload).judge(near(), &none, "at=sink&payload=true").is_ok());
    }

    #[test]
    fn whoever_calls_from_elsewhere_or_from_a_web_page_sees_nothing() {
        let desk = desk(TapLevel::Payload);
        let caller = |peer: &str, local: &str| Caller { peer: peer.parse().unwrap(), local: local.parse().ok() };
        let none = HeaderMap::new();
        assert_eq!(refusal(&desk, caller("10.0.0.7:5", "10.0.0.5:9464"), &none, "at=source").0, 403);
        assert!(desk.judge(caller("10.0.0.5:5", "10.0.0.5:9464"), &none, "at=source").is_ok());
        assert!(desk.judge(caller("[::ffff:127.0.0.1]:5", ""), &none, "at=source").is_ok());
        for (name, value) in [
            (header::HOST, "rebound.example:9464"),
            (header::HOST, "rebound.example"),
            (header::HOST, "127.0.0.1.example:80"),
            (header::ORIGIN, "http://127.0.0.1:9464"),
        ] {
            let headers = headers(&[(name, value)]);
            assert_eq!(refusal(&desk, near(), &headers, "at=source").0, 403, "{value}");
        }
        for host in ["127.0.0.1:9464", "127.0.0.1", "localhost:9464", "localhost", "[::1]:9464", "[::1]", "::1"] {
            assert!(desk.judge(near(), &headers(&[(header::HOST, host)]), "at=source").is_ok(), "{host}");
        }
    }

    #[test]
    fn a_fifth_tap_and_an_unknown_place_are_refused_with_what_there_is() {
        let desk = desk(TapLevel::Headers);
        for _ in 0..MOST_TAPS {
            desk.take_slot().unwrap();
        }
        assert_eq!(desk.take_slot().unwrap_err().0.as_u16(), 503);
        let none = HeaderMap::new();
        let (status, why) = refusal(&desk, near(), &none, "at=chek");
        assert!(status == 404 && why.contains("source, check, sink"), "{why}");
        let (status, why) = refusal(&desk, near(), &none, "at=source&pipeline=q");
        assert!(status == 404 && why.contains(": p"), "{why}");
        assert_eq!(refusal(&desk, near(), &none, "at=source&sample=0").0, 400);
    }
}
