//! What a dry run says of each message: who answered what, and where it would go.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use portcullis_connector_api::{Message, Token};
use serde_json::{Map, Value, json};

use super::text;
use crate::cli::Format;
use crate::connectors::Place;
use crate::pipeline::tap::{At, Departure, Seen, Sight, Watcher, answer, arrival, departure, excerpt, position};
use crate::pipeline::{Stop, Way};

/// Which end of the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Sink,
    DeadLetter,
}

/// How messages are shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    pub(super) format: Format,
    /// Up to so many bytes of each message's payload.
    pub(super) payload_bytes: Option<usize>,
}

/// Collects what is seen of each message of one pipeline, and prints it when its fate is known.
pub(super) struct Report {
    pipeline: String,
    shown: Shown,
    stop: Stop,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// As many as messages are taken, at most.
    open: HashMap<Token, Open>,
    arrived: u64,
    counts: BTreeMap<&'static str, u64>,
    withheld: u64,
}

/// A message whose fate is not known.
struct Open {
    number: u64,
    line: Map<String, Value>,
    plugins: Vec<Value>,
    /// Why it takes the way to the dead letter queue.
    departure: Option<Map<String, Value>>,
    withheld: u64,
}

impl Report {
    pub(super) fn new(pipeline: &str, shown: Shown, stop: Stop) -> Self {
        Self { pipeline: pipeline.to_owned(), shown, stop, state: Mutex::default() }
    }

    /// The sink's preview has found a place.
    pub(super) fn placed(&self, token: Token, end: End, message: &Message, place: &Place) {
        let mut destination = Map::new();
        let to = match end {
            End::Sink => "sink",
            End::DeadLetter => "dead_letter",
        };
        destination.insert("to".to_owned(), to.into());
        destination.insert(place.kind.to_owned(), place.name.as_str().into());
        if place.kind == "topic" {
            destination.insert("partition".to_owned(), place.partition.into());
        }
        if let Some(stream) = &place.stream {
            destination.insert("stream".to_owned(), stream.as_str().into());
        }
        let mut state = self.state();
        let Some(mut open) = state.open.remove(&token) else { return };
        destination.extend(open.departure.take().into_iter().flatten());
        if let (End::Sink, Some(bytes)) = (end, self.shown.payload_bytes) {
            open.line.insert("payload".to_owned(), excerpt(message, bytes));
        }
        self.finish(state, open, to, destination);
    }

    /// Prints what is left, and the sum of it.
    pub(super) fn end(&self, ended: &[String], error: Option<&str>) {
        let mut left: Vec<(Token, u64)> = self.state().open.iter().map(|(token, open)| (*token, open.number)).collect();
        left.sort_unstable_by_key(|(_, number)| *number);
        for (token, _) in left {
            let mut state = self.state();
            if let Some(open) = state.open.remove(&token) {
                self.finish(state, open, "unfinished", Map::from_iter([("to".to_owned(), "unfinished".into())]));
            }
        }
        let state = self.state();
        let mut summary = json!({ "pipeline": self.pipeline, "messages": state.arrived, "ended": ended });
        let withheld = state.withheld;
        if let Some(summary) = summary.as_object_mut() {
            for to in ["sink", "dead_letter", "dropped", "stopped", "unfinished"] {
                summary.insert(to.to_owned(), state.counts.get(to).copied().unwrap_or(0).into());
            }
            summary.insert("egress_withheld".to_owned(), withheld.into());
            summary.insert("error".to_owned(), error.into());
        }
        drop(state);
        self.print(match self.shown.format {
            Format::Json => json!({ "summary": summary }).to_string(),
            Format::Text => text::summary(&summary),
        });
    }

    fn arrived(&self, seen: &Seen<'_>, arrival: Map<String, Value>) {
        let mut line = Map::from_iter([("pipeline".to_owned(), Value::from(self.pipeline.as_str()))]);
        if let Some(stood) = &seen.position {
            line.insert("source".to_owned(), position(stood));
        }
        line.extend(arrival);
        let mut state = self.state();
        state.arrived += 1;
        let number = state.arrived;
        let open = Open { number, line, plugins: Vec::new(), departure: None, withheld: 0 };
        state.open.insert(seen.token, open);
    }

    fn left(&self, token: Token, left: &Departure<'_>) {
        let reason = departure(left, self.shown.payload_bytes.is_some());
        let to = match left.way {
            Way::DeadLetter => {
                if let Some(open) = self.state().open.get_mut(&token) {
                    open.departure = Some(reason);
                }
                return;
            }
            Way::Drop => "dropped",
            Way::Stop => "stopped",
        };
        self.over(token, to, reason);
    }

    fn over(&self, token: Token, to: &'static str, reason: Map<String, Value>) {
        let mut state = self.state();
        let Some(open) = state.open.remove(&token) else { return };
        let mut destination = Map::from_iter([("to".to_owned(), Value::from(to))]);
        destination.extend(reason);
        self.finish(state, open, to, destination);
    }

    fn finish(&self, mut state: MutexGuard<'_, State>, open: Open, to: &'static str, destination: Map<String, Value>) {
        *state.counts.entry(to).or_default() += 1;
        state.withheld += open.withheld;
        drop(state);
        let mut line = open.line;
        line.insert("plugins".to_owned(), Value::Array(open.plugins));
        line.insert("destination".to_owned(), Value::Object(destination));
        if open.withheld > 0 {
            // A plugin that was let out might have answered otherwise.
            line.insert("egress_withheld".to_owned(), open.withheld.into());
        }
        let line = Value::Object(line);
        self.print(match self.shown.format {
            Format::Json => line.to_string(),
            Format::Text => text::message(&line),
        });
    }

    /// Whoever reads may have gone: then there is nobody to run for.
    fn print(&self, text: String) {
        if writeln!(std::io::stdout().lock(), "{text}").is_err() {
            self.stop.request();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher for Report {
    fn wants(&self, _: At<'_>, _: Token) -> bool {
        true
    }

    fn saw(&self, at: At<'_>, seen: &Seen<'_>) {
        match (&seen.sight, at) {
            (Sight::Arrived { message, redelivered, defect }, _) => {
                self.arrived(seen, arrival(message, *redelivered, *defect, self.shown.payload_bytes));
            }
            (Sight::Answered(answered), At::Plugin(plugin)) => {
                if let Some(open) = self.state().open.get_mut(&seen.token) {
                    let mut line = Map::from_iter([("plugin".to_owned(), Value::from(plugin))]);
                    line.extend(answer(answered, self.shown.payload_bytes.is_some()));
                    open.plugins.push(Value::Object(line));
                    open.withheld += answered.withheld;
                }
            }
            (Sight::Left(departure), _) => self.left(seen.token, departure),
            (Sight::Dropped, _) => self.over(seen.token, "dropped", Map::new()),
            // The preview says where to, and there is nothing that was stored.
            (Sight::Sent { .. } | Sight::Stored(_) | Sight::Lettered(_) | Sight::Answered(_), _) => {}
        }
    }
}

/// The first line: what this run does not do.
pub(super) fn begin(shown: Shown, allow_egress: bool, audit: &str) {
    let line = match shown.format {
        Format::Json => json!({ "dry_run": {
            "egress": if allow_egress { "allowed" } else { "withheld" },
            "audit": if allow_egress { Value::from(audit) } else { Value::Null },
        } })
        .to_string(),
        Format::Text => text::begin(allow_egress, audit),
    };
    // Whoever does not read this reads nothing that follows either, which is noticed there.
    drop(writeln!(std::io::stdout().lock(), "{line}"));
}

/// For a pipeline's taps.
pub(super) fn watcher(report: &Arc<Report>) -> Arc<dyn Watcher> {
    report.clone()
}
