use std::collections::BTreeMap;

use crate::actor::Actor;
use crate::clock::now_ms;
use crate::code::Code;
use crate::escape::{CODE_BYTES, NAME_BYTES};
use crate::event::Event;
use crate::network::{Attempt, Denial, Destination, HttpCall, Transport, Window};
use crate::source::Source;

/// Kinds of refusals that are told apart in a window. Past it only code and reason tell them apart.
const MAX_KINDS: usize = 256;
/// The longest window, in milliseconds. A plugin may be refused for longer within one call.
const WINDOW_MS: u64 = 1000;

/// Exact numbers of refusals of one plugin instance, owned by it: a flood of refusals costs a number and not an event each.
/// The first of a kind is told in full at once, its repeats as one event with their count at the end of the window. A window
/// ends with [`Denials::flush`], which the owner also calls at the end, and after a second at the next refusal.
///
/// What is to be told is handed out and recorded by the owner, who knows which locks it holds and whether it may wait.
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
    source: Option<Source>,
    window: Window,
}

/// A refusal, or a number of them, that is to be recorded. Where there is no room for its event: [`Denials::untold`].
#[derive(Debug)]
pub struct Telling {
    denial: Denial,
    source: Option<Source>,
}

impl Telling {
    /// What is recorded.
    pub fn event(&self, plugin: &Actor) -> Event {
        let event = Event::denied(plugin.clone(), self.denial.clone());
        match &self.source {
            Some(source) => event.about(source.clone()),
            None => event,
        }
    }
}

impl Denials {
    /// Counts a refusal and gives what is to be recorded. `source` is the record in work, as [`Event::about`] takes it.
    #[must_use = "refusals that are not recorded are not told"]
    pub fn add(&mut self, source: Option<&Source>, mut denial: Denial) -> Vec<Telling> {
        cut(&mut denial);
        let now_ms = now_ms();
        let mut told = Vec::new();
        if now_ms.saturating_sub(self.window_start_ms) >= WINDOW_MS {
            told = self.end_window(now_ms);
        }
        let kind = self.kind_of(&denial);
        let times = denial.window.map_or(1, |window| window.count);
        match self.kinds.get_mut(&kind) {
            None => {
                self.named += usize::from(kind.to.is_some());
                self.kinds.insert(kind, None);
                told.push(Telling { denial, source: source.cloned() });
            }
            Some(Some(repeats)) => repeats.add(source, &denial, times, now_ms),
            Some(none) => {
                let window = Window { count: times, start_ms: now_ms, end_ms: now_ms };
                let denial = if kind.to.is_some() { denial } else { without_destination(denial) };
                *none = Some(Repeats { denial, source: source.cloned(), window });
            }
        }
        told
    }

    /// Ends the window and gives what is to be recorded: one event for each kind that was repeated. A kind that was not is
    /// forgotten, so that its next refusal is told in full again.
    #[must_use = "refusals that are not recorded are not told"]
    pub fn flush(&mut self) -> Vec<Telling> {
        self.end_window(now_ms())
    }

    fn end_window(&mut self, now_ms: u64) -> Vec<Telling> {
        self.window_start_ms = now_ms;
        let mut told = Vec::new();
        self.kinds.retain(|_, repeats| {
            let Some(Repeats { mut denial, source, window }) = repeats.take() else {
                return false;
            };
            denial.window = (window.count > 1).then_some(window);
            told.push(Telling { denial, source });
            true
        });
        self.named = self.kinds.keys().filter(|kind| kind.to.is_some()).count();
        told
    }

    /// Counts what was given to be recorded and found no room: it is told with the repeats, at the end of the window.
    pub fn untold(&mut self, Telling { denial, source }: Telling) {
        let now_ms = now_ms();
        let window = denial.window.unwrap_or(Window { count: 1, start_ms: now_ms, end_ms: now_ms });
        let kind = self.kind_of(&denial);
        let is_named = kind.to.is_some();
        self.named += usize::from(is_named && !self.kinds.contains_key(&kind));
        match self.kinds.entry(kind).or_default() {
            Some(repeats) => {
                repeats.window.start_ms = repeats.window.start_ms.min(window.start_ms);
                repeats.add(source.as_ref(), &denial, window.count, window.end_ms);
            }
            none => {
                let denial = if is_named { denial } else { without_destination(denial) };
                *none = Some(Repeats { denial, source, window });
            }
        }
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
    fn add(&mut self, source: Option<&Source>, denial: &Denial, times: u64, now_ms: u64) {
        self.window.count += times;
        self.window.end_ms = self.window.end_ms.max(now_ms);
        if self.source.as_ref() != source {
            self.source = None;
        }
        if let (Attempt::Http(own), Attempt::Http(HttpCall { path, .. })) = (&mut self.denial.attempt, &denial.attempt)
            && own.path != *path
        {
            own.path.clear();
        }
    }
}

/// A kind is kept for as long as a window and longer, so that none may hold text of any length. One character more is left
/// than an event tells, so that the event still says that something was cut.
fn cut(denial: &mut Denial) {
    if let Attempt::Http(call) = &mut denial.attempt {
        cut_text(&mut call.method, CODE_BYTES);
        cut_text(&mut call.scheme, CODE_BYTES);
        cut_text(&mut call.path, NAME_BYTES);
    }
    if let Some(hostname) = &mut denial.destination.hostname {
        cut_text(hostname, NAME_BYTES);
    }
}

fn cut_text(text: &mut String, told_bytes: usize) {
    let most = told_bytes + char::MAX.len_utf8();
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
        text.shrink_to_fit();
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use serde_json::Value;

    use super::*;
    use crate::samples::{call, context, denial, plugin};
    use crate::{MemoryStore, Options, Recorder};

    /// Refusals that are recorded as they are told.
    struct Told {
        recorder: Recorder,
        denials: Denials,
    }

    impl Told {
        fn add(&mut self, source: Option<&str>, denial: Denial) {
            let told = self.denials.add(source.map(Source::from).as_ref(), denial);
            told.iter().for_each(|told| drop(self.recorder.record(told.event(&plugin()))));
        }

        fn flush(&mut self) {
            let told = self.denials.flush();
            told.iter().for_each(|told| drop(self.recorder.record(told.event(&plugin()))));
        }
    }

    fn recorded(refuse: impl FnOnce(&mut Told)) -> Vec<Value> {
        let store = MemoryStore::new();
        let (recorder, _) = Recorder::start(context(), Options::default(), store.clone()).unwrap();
        // Far in the future, so that a slow machine ends no window on its own.
        let denials = Denials { window_start_ms: u64::MAX, ..Denials::default() };
        let mut told = Told { recorder, denials };
        refuse(&mut told);
        told.flush();
        told.recorder.shutdown(Duration::from_secs(20)).unwrap();
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
        let events = recorded(|denials| {
            for _ in 0..1043 {
                denials.add(Some("p/t-0@1"), denial(Attempt::Connect, "addr.metadata"));
            }
            denials.add(None, denial(Attempt::Connect, "rule.no_match"));
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
        let events = recorded(|denials| {
            for number in 0..10_000_usize {
                let host = format!("host-{}.example", number % 301);
                let attempt = if number % 2 == 0 { Attempt::Lookup } else { Attempt::Http(call("GET", "/")) };
                let reason = reasons[number % 3];
                denials.add(None, Denial { reason, ..to(&host, attempt) });
                if number % 1777 == 0 {
                    denials.flush();
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
        let events = recorded(|denials| {
            for number in 0..5000 {
                let attempt = Attempt::Http(call("GET", &format!("/{number}")));
                denials.add(None, to(&format!("{number}.example"), attempt));
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
    fn what_found_no_room_is_told_later_and_the_sum_is_exact() {
        let mut denials = Denials { window_start_ms: u64::MAX, ..Denials::default() };
        // Two firsts of a kind, and more destinations than are told apart.
        for number in 0..700 {
            let told = denials.add(Some(&"p/t-0@1".into()), to(&format!("{}.example", number % 350), Attempt::Connect));
            told.into_iter().for_each(|told| denials.untold(told));
        }
        for _ in 0..3 {
            let told = denials.flush();
            assert!(told.len() <= MAX_KINDS + 1, "{} events", told.len());
            told.into_iter().for_each(|told| denials.untold(told));
        }
        let events = recorded(|told| {
            denials.window_start_ms = u64::MAX;
            told.denials = denials;
        });
        assert_eq!(events.iter().map(times).sum::<u64>(), 700);
        assert_eq!(events[0]["metadata"]["correlation_uid"], "p/t-0@1");
    }

    #[test]
    fn no_kind_holds_more_text_than_an_event_tells() {
        let long = "é".repeat(1 << 20);
        let mut denials = Denials::default();
        for _ in 0..2 {
            let call = HttpCall { scheme: long.clone(), ..call(&long, &long) };
            drop(denials.add(None, to(&long, Attempt::Http(call))));
        }
        let (kind, repeats) = denials.kinds.first_key_value().unwrap();
        let (kept, repeats) = (kind.to.as_ref().unwrap(), repeats.as_ref().unwrap());
        let Attempt::Http(HttpCall { method, scheme, path, .. }) = &repeats.denial.attempt else { panic!("HTTP") };
        let hostnames = [&kept.destination, &repeats.denial.destination].map(|to| to.hostname.as_ref().unwrap());
        for held in [kept.method.as_ref().unwrap(), method, scheme, path].into_iter().chain(hostnames) {
            assert!(held.capacity() <= 600, "{} bytes", held.capacity());
        }
        assert_eq!((denials.kinds.len(), repeats.window.count), (1, 1), "still a repeat of the same kind");

        let events = recorded(|denials| {
            denials.add(None, to("a.example", Attempt::Http(call(&"M".repeat(70), "/"))));
        });
        assert_eq!(events[0]["activity_name"], "M".repeat(64));
        assert_eq!(events[0]["metadata"]["is_truncated"], true);
    }

    #[test]
    fn what_differs_between_repeats_is_not_told_of_them() {
        let events = recorded(|denials| {
            for number in 0..3 {
                let attempt = Attempt::Http(call("GET", &format!("/{number}")));
                denials.add(Some(&format!("p/t-0@{number}")), to("a.example", attempt));
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
        let events = recorded(|denials| {
            let mut add = |times| {
                for _ in 0..times {
                    denials.add(None, denial(Attempt::Listen, "capability.absent"));
                }
                denials.flush();
                denials.denials.window_start_ms = u64::MAX;
            };
            // Told in full; 4 repeats; nothing new in full; after silence in full again.
            [1, 5, 3, 0, 1].into_iter().for_each(&mut add);
        });
        assert_eq!(events.iter().map(times).collect::<Vec<_>>(), [1, 1, 4, 3, 1]);
    }
}
