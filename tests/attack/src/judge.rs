//! What was seen against what a vector wants: the wire first, then the guest's answers, then the evidence.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::bridge::Ended;
use crate::folder::{self, Left, Lines};
use crate::packets::Packet;
use crate::vector::{Config, Endpoint, Expected, Run, canonical};

/// Addresses that no vector may reach unless it says so.
pub(crate) const DECOYS: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3)),
];

/// The code of an operation that never became a request.
const SETTER: &str = "setter";
/// Of the texts in an explanation.
const SHOWN: usize = 600;

/// Everything that was seen of a run.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) ended: Ended,
    pub(crate) left: Left,
    pub(crate) packets: BTreeSet<Packet>,
    pub(crate) queries: BTreeSet<String>,
    pub(crate) sni: BTreeSet<String>,
    pub(crate) name_server: SocketAddr,
}

/// The line that is printed for a vector.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Verdict {
    pub(crate) id: String,
    pub(crate) ok: bool,
    pub(crate) wire: bool,
    pub(crate) code: bool,
    pub(crate) audit: bool,
    pub(crate) canary: bool,
    pub(crate) why: String,
}

impl Verdict {
    pub(crate) fn failed(id: &str, why: impl Into<String>) -> Self {
        Self { id: id.to_owned(), why: why.into(), ..Self::default() }
    }
}

/// Judges a vector that runs.
pub(crate) fn run(id: &str, run: &Run, seen: &Seen) -> Verdict {
    let results = seen.left.results.as_deref().unwrap_or_default();
    let mut wire = wire(run.packets.as_deref(), seen);
    wire.extend(unseen(run, results, seen));
    wire.extend(names("queries", &seen.queries, run.queries.as_ref(), run.queries_subset.as_ref()));
    // Letter for letter: a name on the wire is the canonical one.
    let sni = run.sni.as_ref().map(|names| names.iter().map(|name| canonical(name)).collect());
    wire.extend(different("server names", &seen.sni, sni.as_ref()));
    let mut code = end(seen);
    code.extend(answers(run, results));
    let audit = audit(run, results, &seen.left.events);
    verdict(id, [wire, code, audit, canary(&run.canary, seen)])
}

/// Judges a vector whose configuration must be refused.
pub(crate) fn config(id: &str, config: &Config, lines: Lines, seen: &Seen) -> Verdict {
    let mut wire = wire(Some(&[]), seen);
    wire.extend(different("queries", &seen.queries, Some(&BTreeSet::new())));
    let mut code = Vec::new();
    if seen.ended.code != Some(2) {
        code.push(format!("check ended with {:?}, expected 2{}", seen.ended.code, output(seen)));
    }
    let output = seen.ended.stdout.trim();
    let said: Vec<Value> = serde_json::from_str(output).unwrap_or_default();
    let is_ours = |said: &&Value| {
        let code = said.get("code").and_then(Value::as_str).unwrap_or_default();
        let line = said.get("line").and_then(Value::as_u64).unwrap_or_default();
        let file = said.get("file").and_then(Value::as_str).unwrap_or_default();
        config.refused.iter().any(|slug| slug == code)
            && file.ends_with(folder::PIPELINE)
            && (lines.first..=lines.last).contains(&line)
    };
    if !said.iter().any(|said| is_ours(&said)) {
        let (first, last, refused) = (lines.first, lines.last, config.refused.join("|"));
        code.push(format!(
            "no diagnostic {refused} at lines {first}-{last} of {}: {}",
            folder::PIPELINE,
            shown(output)
        ));
    }
    if folder::started(&seen.left) {
        code.push("messages moved".to_owned());
    }
    verdict(id, [wire, code, Vec::new(), Vec::new()])
}

fn verdict(id: &str, [wire, code, audit, canary]: [Vec<String>; 4]) -> Verdict {
    let mut verdict = Verdict {
        id: id.to_owned(),
        ok: false,
        wire: wire.is_empty(),
        code: code.is_empty(),
        audit: audit.is_empty(),
        canary: canary.is_empty(),
        why: [wire, code, audit, canary].concat().join("; "),
    };
    verdict.ok = verdict.wire && verdict.code && verdict.audit && verdict.canary;
    verdict
}

/// Packets to where none may go.
fn wire(allowed: Option<&[Endpoint]>, seen: &Seen) -> Vec<String> {
    let forbidden = |packet: &&Packet| match allowed {
        // The name server's own answers, and questions to it.
        _ if packet.from == seen.name_server || packet.to == seen.name_server => false,
        Some(allowed) => !allowed.iter().any(|endpoint| endpoint.covers(packet.to)),
        None => DECOYS.contains(&packet.to.ip()) || packet.to.ip().is_loopback(),
    };
    // The same packet from another port says nothing new.
    let found: BTreeSet<String> = seen.packets.iter().filter(forbidden).map(Packet::to_string).collect();
    found.into_iter().collect()
}

/// A success that nothing on the wire explains is none.
fn unseen(run: &Run, results: &[Value], seen: &Seen) -> Option<String> {
    let allowed = run.packets.as_deref().filter(|packets| !packets.is_empty())?;
    let sends = |op: &str| matches!(op, "tcp" | "tcp-name" | "udp" | "http" | "open-sockets");
    let op = |at: usize| run.ops.get(at).and_then(|op| op.get("op")).and_then(Value::as_str).unwrap_or_default();
    let succeeded = results.iter().enumerate().any(|(at, result)| is_ok(result) && sends(op(at)));
    let arrived = seen.packets.iter().any(|packet| allowed.iter().any(|endpoint| endpoint.covers(packet.to)));
    (succeeded && !arrived).then(|| "an operation succeeded and nothing was on the wire".to_owned())
}

fn names(
    what: &str,
    found: &BTreeSet<String>,
    exactly: Option<&BTreeSet<String>>,
    at_most: Option<&BTreeSet<String>>,
) -> Vec<String> {
    let canonical =
        |names: &BTreeSet<String>| -> BTreeSet<String> { names.iter().map(|name| canonical(name)).collect() };
    let mut wrong: Vec<String> = different(what, found, exactly.map(canonical).as_ref()).into_iter().collect();
    if let Some(most) = at_most.map(canonical)
        && !found.is_subset(&most)
    {
        wrong.push(format!("{what}: {found:?}, expected at most {most:?}"));
    }
    wrong
}

fn different(what: &str, found: &BTreeSet<String>, wanted: Option<&BTreeSet<String>>) -> Option<String> {
    let wanted = wanted.filter(|wanted| *wanted != found)?;
    Some(format!("{what}: {found:?}, expected {wanted:?}"))
}

/// How the process ended, and whether the message arrived.
fn end(seen: &Seen) -> Vec<String> {
    let mut wrong = Vec::new();
    match seen.ended.code {
        Some(0) => {}
        None => wrong.push(format!("the bridge did not end in {:?}{}", seen.ended.took, output(seen))),
        Some(code) => wrong.push(format!("the bridge ended with {code}{}", output(seen))),
    }
    if seen.left.results.is_none() {
        wrong.push(format!("the probe's message did not arrive; dead letters: {}", shown(&seen.left.dead.join(" "))));
    }
    wrong
}

fn output(seen: &Seen) -> String {
    let errors = seen.ended.stderr.trim();
    let from = errors.len().saturating_sub(SHOWN);
    // From the end, since that says why.
    let from = (from..=errors.len()).find(|at| errors.is_char_boundary(*at)).unwrap_or_default();
    format!(": {}", errors.get(from..).unwrap_or_default())
}

fn answers(run: &Run, results: &[Value]) -> Vec<String> {
    let mut wrong = Vec::new();
    if results.len() != run.results.len() {
        wrong.push(format!("{} results, expected {}", results.len(), run.results.len()));
    }
    for (at, (expected, result)) in run.results.iter().zip(results).enumerate() {
        if let Some(why) = answer(expected, result) {
            wrong.push(format!("result {at}: {why}: {}", shown(&result.to_string())));
        }
    }
    wrong
}

fn answer(expected: &Expected, result: &Value) -> Option<String> {
    if expected.any {
        return None;
    }
    if is_ok(result) != expected.ok {
        return Some(if expected.ok { "not ok" } else { "ok, expected a refusal" }.to_owned());
    }
    if !expected.ok {
        let code = code(result);
        let meets = expected.codes.is_empty() || expected.codes.iter().any(|wanted| wanted == code);
        return (!meets).then(|| format!("`{code}`, expected {}", expected.codes.join("|")));
    }
    let number = |name: &str| detail(result, name).and_then(Value::as_u64);
    if expected.status.is_some() && number("status") != expected.status {
        return Some(format!("status {:?}, expected {:?}", number("status"), expected.status));
    }
    if expected.opened.is_some() && number("opened") != expected.opened {
        return Some(format!("opened {:?}, expected {:?}", number("opened"), expected.opened));
    }
    let addresses = addresses(result);
    if let Some(wanted) = &expected.addresses {
        let found = addresses.as_deref().map(|found| found.iter().copied().collect::<BTreeSet<_>>());
        if found.as_ref() != Some(wanted) {
            return Some(format!("addresses {found:?}, expected {wanted:?}"));
        }
    }
    match (expected.max_addresses, addresses.map(|addresses| addresses.len())) {
        (Some(most), found) if found.is_none_or(|found| found > most) => {
            Some(format!("{found:?} addresses, expected at most {most}"))
        }
        _ => None,
    }
}

fn is_ok(result: &Value) -> bool {
    result.get("ok").and_then(Value::as_bool).unwrap_or_default()
}

fn code(result: &Value) -> &str {
    result.get("code").and_then(Value::as_str).unwrap_or_default()
}

/// A field of the result's detail.
fn detail<'a>(result: &'a Value, name: &str) -> Option<&'a Value> {
    result.get("detail").and_then(|detail| detail.get(name)).or_else(|| result.get(name))
}

/// `None` where the probe named none or something that is no address.
fn addresses(result: &Value) -> Option<Vec<IpAddr>> {
    let listed = detail(result, "addresses").or_else(|| result.get("detail"))?.as_array()?;
    listed.iter().map(|address| address.as_str()?.parse().ok()).collect()
}

fn audit(run: &Run, results: &[Value], events: &[Value]) -> Vec<String> {
    let excused = u64::try_from(results.iter().filter(|result| code(result) == SETTER).count()).unwrap_or_default();
    let mut wrong = Vec::new();
    for wanted in &run.events {
        let mut others = BTreeMap::new();
        let mut found = 0u64;
        for event in events {
            let reason = event.get("status_detail").and_then(Value::as_str).unwrap_or_default();
            let count = event.get("count").and_then(Value::as_u64).unwrap_or(1);
            if event.pointer("/metadata/event_code").and_then(Value::as_str) != Some(&wanted.code) {
                continue;
            }
            if wanted.reasons.is_empty() || wanted.reasons.iter().any(|wanted| wanted == reason) {
                found = found.saturating_add(count);
            } else {
                *others.entry(reason).or_insert(0u64) += count;
            }
        }
        if found > wanted.count || found < wanted.count.saturating_sub(excused) {
            let reasons = wanted.reasons.join("|");
            let others = if others.is_empty() { String::new() } else { format!(" (other reasons: {others:?})") };
            wrong.push(format!("{} {} {reasons}, expected {}{others}", found, wanted.code, wanted.count));
        }
    }
    if !wrong.is_empty() {
        let pointer = |event: &Value| event.pointer("/metadata/event_code").and_then(Value::as_str).map(str::to_owned);
        let codes: Vec<String> = events.iter().filter_map(pointer).collect();
        wrong.push(format!("the audit has {}", shown(&codes.join(" "))));
    }
    wrong
}

/// Strings that must appear in nothing that leaves the process, beside what was sent to where it was allowed.
fn canary(strings: &[String], seen: &Seen) -> Vec<String> {
    let names = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join("\n");
    let wire = [("a query", names(&seen.queries)), ("a server name", names(&seen.sni))];
    let wire = wire.iter().map(|(place, text)| (*place, text.as_str()));
    let files = seen.left.texts.iter().map(|(name, text)| (name.as_str(), text.as_str()));
    let mut wrong = Vec::new();
    for (place, text) in files.chain(wire) {
        for canary in strings.iter().filter(|canary| contains(text, canary)) {
            wrong.push(format!("`{canary}` is in {place}"));
        }
    }
    wrong
}

/// As it is, and as JSON would write it.
fn contains(text: &str, canary: &str) -> bool {
    let escaped = Value::from(canary).to_string();
    let escaped = escaped.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(&escaped);
    !canary.is_empty() && (text.contains(canary) || text.contains(escaped))
}

fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}...", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::packets::Transport;

    fn seen(results: Value, events: &[Value], packets: &[&str]) -> Seen {
        let packet = |to: &&str| Packet {
            transport: Transport::Tcp,
            to: to.parse().unwrap(),
            from: "10.0.0.1:40000".parse().unwrap(),
        };
        Seen {
            ended: Ended { code: Some(0), stdout: String::new(), stderr: String::new(), took: Duration::ZERO },
            left: Left { results: results.as_array().cloned(), events: events.to_vec(), ..Left::default() },
            packets: packets.iter().map(packet).collect(),
            queries: BTreeSet::new(),
            sni: BTreeSet::new(),
            name_server: "192.0.2.53:53".parse().unwrap(),
        }
    }

    fn wanted(value: Value) -> Run {
        serde_json::from_value(value).unwrap()
    }

    /// wire, code, audit, canary
    fn judged(run: &Run, seen: &Seen) -> (bool, bool, bool, bool) {
        let verdict = super::run("X", run, seen);
        assert_eq!(verdict.ok, verdict.why.is_empty(), "{verdict:?}");
        (verdict.wire, verdict.code, verdict.audit, verdict.canary)
    }

    #[test]
    fn a_packet_to_a_decoy_fails_although_the_guest_was_refused() {
        let run = wanted(json!({"ops":[{"op":"tcp"}],"results":[{"ok":false,"codes":["access-denied"]}],"packets":[]}));
        let refused = json!([{"ok":false,"code":"access-denied"}]);
        assert_eq!(judged(&run, &seen(refused.clone(), &[], &[])), (true, true, true, true));
        assert_eq!(judged(&run, &seen(refused.clone(), &[], &["127.0.0.1:80"])), (false, true, true, true));
        assert_eq!(judged(&run, &seen(refused, &[], &["192.0.2.53:53"])), (true, true, true, true));
    }

    #[test]
    fn an_operation_that_succeeds_without_a_packet_fails() {
        let run = wanted(json!({"ops":[{"op":"tcp"}],"results":[{"ok":true}],"packets":["1.2.3.4:5"]}));
        assert_eq!(judged(&run, &seen(json!([{"ok":true}]), &[], &[])), (false, true, true, true));
        assert_eq!(judged(&run, &seen(json!([{"ok":true}]), &[], &["1.2.3.4:5"])), (true, true, true, true));
    }

    #[test]
    fn every_expectation_of_a_result_is_looked_at() {
        let expected = |value: Value| -> Expected { serde_json::from_value(value).unwrap() };
        let cases = [
            (json!({"ok":true,"status":200}), json!({"ok":true,"detail":{"status":200}}), true),
            (json!({"ok":true,"status":200}), json!({"ok":true,"detail":{"status":302}}), false),
            (json!({"ok":true,"status":200}), json!({"ok":true}), false),
            (json!({"ok":true,"opened":3}), json!({"ok":true,"detail":{"opened":4}}), false),
            (json!({"ok":true,"addresses":["::1"]}), json!({"ok":true,"detail":["0:0::1"]}), true),
            (json!({"ok":true,"addresses":["::1"]}), json!({"ok":true,"detail":{"addresses":["::1","::2"]}}), false),
            (json!({"ok":true,"max_addresses":1}), json!({"ok":true,"detail":["1.2.3.4"]}), true),
            (json!({"ok":true,"max_addresses":1}), json!({"ok":true,"detail":["1.2.3.4","::1"]}), false),
            (json!({"ok":true,"max_addresses":1}), json!({"ok":true}), false),
            (json!({"ok":false,"codes":["a","b"]}), json!({"ok":false,"code":"b"}), true),
            (json!({"ok":false,"codes":["a","b"]}), json!({"ok":false,"code":"c"}), false),
            (json!({"ok":false,"codes":["a"]}), json!({"ok":true}), false),
            (json!({"any":true}), json!({"ok":false,"code":"c"}), true),
        ];
        for (wanted, result, meets) in cases {
            assert_eq!(answer(&expected(wanted.clone()), &result).is_none(), meets, "{wanted} {result}");
        }
    }

    #[test]
    fn events_are_counted_and_a_setter_owes_none() {
        let event = |reason: &str, count: u64| json!({"metadata":{"event_code":"http.denied"},"status_detail":reason,"count":count});
        let run = wanted(json!({"ops":[],"results":[{"ok":false},{"ok":false}],
            "events":[{"code":"http.denied","reasons":["a","b"],"count":2}]}));
        let two = json!([{"ok":false,"code":"x"},{"ok":false,"code":"x"}]);
        let audit = |results: &Value, events: &[Value]| judged(&run, &seen(results.clone(), events, &[])).2;
        assert!(audit(&two, &[event("a", 2)]));
        assert!(audit(&two, &[event("a", 1), event("b", 1), event("c", 9)]));
        assert!(!audit(&two, &[event("a", 1)]));
        assert!(!audit(&two, &[event("a", 3)]));
        let setter = json!([{"ok":false,"code":"x"},{"ok":false,"code":"setter"}]);
        assert!(audit(&setter, &[event("a", 1)]));
        assert!(!audit(&setter, &[]));
    }

    #[test]
    fn names_are_compared_exactly_or_as_a_bound() {
        let mut seen = seen(json!([]), &[], &[]);
        seen.queries = ["a.test".to_owned()].into();
        for (run, fits) in [
            (json!({"ops":[],"queries":["A.test."]}), true),
            (json!({"ops":[],"queries":[]}), false),
            (json!({"ops":[],"queries_subset":["a.test","b.test"]}), true),
            (json!({"ops":[],"queries_subset":["b.test"]}), false),
            (json!({"ops":[]}), true),
            (json!({"ops":[],"sni":["a.test"]}), false),
        ] {
            assert_eq!(judged(&wanted(run.clone()), &seen).0, fits, "{run}");
        }
    }

    #[test]
    fn a_canary_is_found_in_files_and_in_queries() {
        let run = wanted(json!({"ops":[],"canary":["pw\"@"]}));
        let mut seen = seen(json!([]), &[], &[]);
        assert!(judged(&run, &seen).3);
        seen.left.texts.push(("audit.jsonl".into(), r#"{"name":"pw\"@x"}"#.into()));
        assert!(!judged(&run, &seen).3);
        seen.left.texts.clear();
        seen.queries.insert("pw\"@x".into());
        assert!(!judged(&run, &seen).3);
    }

    #[test]
    fn a_refused_configuration_names_the_rule_by_its_line() {
        let config: Config = serde_json::from_value(json!({"egress":["*"],"refused":["match_all"]})).unwrap();
        let judged = |code: i32, slug: &str, line: u64| {
            let mut seen = seen(Value::Null, &[], &[]);
            seen.ended.code = Some(code);
            seen.ended.stdout = json!([{"code":slug,"file":"pipeline.yaml","line":line}]).to_string();
            super::config("J01", &config, Lines { first: 14, last: 14 }, &seen).ok
        };
        assert!(judged(2, "match_all", 14));
        assert!(!judged(0, "match_all", 14));
        assert!(!judged(2, "match_all", 13));
        assert!(!judged(2, "key.unknown", 14));
    }
}
