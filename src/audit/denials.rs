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
                let denial = if kind.to.is_some() { denial } else { without_destination(denial) };
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

/// What the repeats of a kind without a destination have in common.
fn without_destination(denial: Denial) -> Denial {
    let attempt = match denial.attempt {
        Attempt::Http(call) => Attempt::Http(HttpCall { method: String::new(), path: String::new(), ..call }),
        attempt => attempt,
    };
    Denial { attempt, destination: Destination::default(), rule: None, ..denial }
}

fn event(plugin: &Actor, source: Option<&str>, denial: Denial) -> Event {
    let event = Event::denied(plugin.clone(), denial);
    match source {
        Some(source) => event.about(source),
        None => event,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use serde_json::Value;

    use super::*;
    use crate::samples::{call, context, denial, plugin};
    use crate::{MemoryStore, Options};

    fn recorded(refuse: impl FnOnce(&Recorder, &mut Denials)) -> Vec<Value> {
        let store = MemoryStore::new();
        let (recorder, _) = Recorder::start(context(), Options::default(), store.clone()).unwrap();
        // Far in the future, so that a slow machine ends no window on its own.
        let mut denials = Denials { window_start_ms: u64::MAX, ..Denials::default() };
        refuse(&recorder, &mut denials);
        denials.flush(&recorder, &plugin());
        recorder.shutdown(Duration::from_secs(20)).unwrap();
        let mut events = store.events();
        events.retain(|event| event["status_detail"].is_string());
        for event in &events {
            assert_eq!(crate::schema::faults_of(event), Vec::<String>::new(), "{event:#}");
        }
        events
    }

    fn times(event: &Value) -> u64 {
        event["count"].as_u64().unwrap_or(1)
    }

    fn to(host: &str, attempt: Attempt) -> Denial {
        let destination = Destination { hostname: Some(host.to_owned()), ip: None, port: None };
        Denial { destination, ..denial(attempt, "rule.no_match") }
    }

    #[test]
    fn the_first_of_a_kind_is_told_at_once_and_its_repeats_as_one_number() {
        let events = recorded(|recorder, denials| {
            for _ in 0..1043 {
                denials.add(recorder, &plugin(), Some("p/t-0@1"), denial(Attempt::Connect, "addr.metadata"));
            }
            denials.add(recorder, &plugin(), None, denial(Attempt::Connect, "rule.no_match"));
        });
        assert_eq!(events.iter().map(times).collect::<Vec<_>>(), [1, 1, 1042]);
        let repeats = &events[2];
        assert_eq!(repeats["status_detail"], "addr.metadata");
        assert_eq!(repeats["dst_endpoint"]["ip"], "169.254.169.254");
        assert_eq!(repeats["metadata"]["correlation_uid"], "p/t-0@1");
        assert_eq!(repeats["message"], "TCP connect denied 1042 more times in the window: addr.metadata");
        assert!(repeats["start_time"].as_u64() <= repeats["end_time"].as_u64());
    }

    #[test]
    fn over_many_windows_and_kinds_the_events_sum_to_the_refusals() {
        let reasons = ["rule.no_match", "rule.port", "addr.private"];
        let events = recorded(|recorder, denials| {
            for number in 0..10_000_usize {
                let host = format!("host-{}.example", number % 301);
                let attempt = if number % 2 == 0 { Attempt::Lookup } else { Attempt::Http(call("GET", "/")) };
                let reason = reasons[number % 3];
                denials.add(recorder, &plugin(), None, Denial { reason, ..to(&host, attempt) });
                if number % 1777 == 0 {
                    denials.flush(recorder, &plugin());
                }
            }
        });
        for (index, reason) in reasons.iter().enumerate() {
            let of = events.iter().filter(|event| event["status_detail"] == *reason);
            assert_eq!(of.map(times).sum::<u64>(), (index..10_000).step_by(3).count() as u64, "{reason}");
        }
        assert!(events.len() < 7000, "{} events for 10000 refusals", events.len());
    }

    #[test]
    fn a_guest_that_makes_up_destinations_gets_256_of_them_told_and_the_rest_counted() {
        let events = recorded(|recorder, denials| {
            for number in 0..5000 {
                let attempt = Attempt::Http(call("GET", &format!("/{number}")));
                denials.add(recorder, &plugin(), None, to(&format!("{number}.example"), attempt));
            }
        });
        assert_eq!(events.iter().map(times).sum::<u64>(), 5000);
        // One of every destination told, the first without a place, and the number of the rest.
        assert_eq!(events.len(), 256 + 1 + 1);
        let rest = &events[257];
        assert_eq!(times(rest), 5000 - 257);
        assert!(rest.get("dst_endpoint").is_none() && rest["http_request"].get("url").is_none(), "{rest:#}");
        let hosts: BTreeSet<&str> =
            events.iter().filter_map(|event| event["dst_endpoint"]["hostname"].as_str()).collect();
        assert_eq!(hosts.len(), 257);
    }

    #[test]
    fn what_differs_between_repeats_is_not_told_of_them() {
        let events = recorded(|recorder, denials| {
            for number in 0..3 {
                let attempt = Attempt::Http(call("GET", &format!("/{number}")));
                denials.add(recorder, &plugin(), Some(&format!("p/t-0@{number}")), to("a.example", attempt));
            }
        });
        assert_eq!(events[0]["http_request"]["url"]["path"], "/0");
        let repeats = &events[1];
        assert!(repeats["metadata"].get("correlation_uid").is_none());
        assert!(repeats["http_request"].get("uid").is_none() && repeats["http_request"]["url"].get("path").is_none());
        assert_eq!(repeats["http_request"]["url"]["url_string"], "https://a.example");
    }

    #[test]
    fn a_quiet_window_makes_the_next_refusal_a_first_again_and_a_loud_one_does_not() {
        let events = recorded(|recorder, denials| {
            let mut add = |times| {
                for _ in 0..times {
                    denials.add(recorder, &plugin(), None, denial(Attempt::Listen, "capability.absent"));
                }
                denials.flush(recorder, &plugin());
                denials.window_start_ms = u64::MAX;
            };
            // Told in full; 4 repeats; nothing new in full; after silence in full again.
            [1, 5, 3, 0, 1].into_iter().for_each(&mut add);
        });
        assert_eq!(events.iter().map(times).collect::<Vec<_>>(), [1, 1, 4, 3, 1]);
    }
}
