use std::collections::BTreeMap;

use crate::actor::Actor;
use crate::clock::now_ms;
use crate::code::Code;
use crate::event::Event;
use crate::network::{Attempt, Denial, Destination, HttpCall, Transport, Window};
use crate::recorder::Recorder;

/// Kinds of refusals that are told apart in a window. Past it only code and reason tell them apart.
const MAX_KINDS: usize = 256;
/// The longest window, in milliseconds. A plugin may be refused for longer within one call.
const WINDOW_MS: u64 = 1000;

/// Exact numbers of refusals of one plugin instance, owned by it: no lock, and a flood of refusals costs a number and not an
/// event each. The first of a kind is recorded in full at once, its repeats as one event with their count at the end of the
/// window. A window ends with [`Denials::flush`], which the owner also calls at the end, and after a second at the next
/// refusal.
#[derive(Debug, Default)]
pub struct Denials {
    kinds: BTreeMap<Kind, Option<Repeats>>,
    /// How many of the kinds name a destination.
    named: usize,
    window_start_ms: u64,
}

/// What must agree for a refusal to be a repeat.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    code: Code,
    reason: &'static str,
    /// None once there are too many.
    to: Option<To>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct To {
    destination: Destination,
    transport: Option<Transport>,
    method: Option<String>,
    inbound: bool,
}

#[derive(Debug)]
struct Repeats {
    denial: Denial,
    source: Option<String>,
    window: Window,
}

impl Denials {
    /// Counts a refusal. `source` is the record in work, as [`Event::about`] takes it.
    pub fn add(&mut self, recorder: &Recorder, plugin: &Actor, source: Option<&str>, denial: Denial) {
        let now_ms = now_ms();
        if now_ms.saturating_sub(self.window_start_ms) >= WINDOW_MS {
            self.end_window(recorder, plugin, now_ms);
        }
        let kind = self.kind_of(&denial);
        let times = denial.window.map_or(1, |window| window.count);
        match self.kinds.get_mut(&kind) {
            None => {
                self.named += usize::from(kind.to.is_some());
                self.kinds.insert(kind, None);
                recorder.record(event(plugin, source, denial));
            }
            Some(Some(repeats)) => repeats.add(source, &denial, times, now_ms),
            Some(none) => {
                let window = Window { count: times, start_ms: now_ms, end_ms: now_ms };
                let known = kind.to.is_some();
                let destination = if known { denial.destination.clone() } else { Destination::default() };
                let denial = Denial { destination, ..denial };
                *none = Some(Repeats { denial, source: source.map(str::to_owned), window });
            }
        }
    }

    /// Ends the window: records one event for each kind that was repeated. A kind that was not is forgotten, so that its next
    /// refusal is told in full again.
    pub fn flush(&mut self, recorder: &Recorder, plugin: &Actor) {
        self.end_window(recorder, plugin, now_ms());
    }

    fn end_window(&mut self, recorder: &Recorder, plugin: &Actor, now_ms: u64) {
        self.window_start_ms = now_ms;
        self.kinds.retain(|_, repeats| {
            let Some(Repeats { mut denial, source, window }) = repeats.take() else {
                return false;
            };
            denial.window = (window.count > 1).then_some(window);
            recorder.record(event(plugin, source.as_deref(), denial));
            true
        });
        self.named = self.kinds.keys().filter(|kind| kind.to.is_some()).count();
    }

    fn kind_of(&self, denial: &Denial) -> Kind {
        let (code, transport, method) = match &denial.attempt {
            Attempt::Connect => (Code::ConnectDenied, None, None),
            Attempt::Datagram => (Code::UdpDenied, None, None),
            Attempt::Bind(transport) => (Code::BindDenied, Some(*transport), None),
            Attempt::Listen => (Code::ListenDenied, None, None),
            Attempt::Lookup => (Code::DnsDenied, None, None),
            Attempt::Http(call) => (Code::HttpDenied, None, Some(call.method.clone())),
        };
        let to = To { destination: denial.destination.clone(), transport, method, inbound: denial.inbound };
        let named = Kind { code, reason: denial.reason, to: Some(to) };
        if self.named < MAX_KINDS || self.kinds.contains_key(&named) { named } else { Kind { to: None, ..named } }
    }
}

impl Repeats {
    /// What does not hold for all of them is not told.
    fn add(&mut self, source: Option<&str>, denial: &Denial, times: u64, now_ms: u64) {
        self.window.count += times;
        self.window.end_ms = self.window.end_ms.max(now_ms);
        if self.source.as_deref() != source {
            self.source = None;
        }
        if let (Attempt::Http(own), Attempt::Http(HttpCall { path, .. })) = (&mut self.denial.attempt, &denial.attempt)
            && own.path != *path
        {
            own.path.clear();
        }
    }
}

fn event(plugin: &Actor, source: Option<&str>, denial: Denial) -> Event {
    let event = Event::denied(plugin.clone(), denial);
    match source {
        Some(source) => event.about(source),
        None => event,
    }
}
