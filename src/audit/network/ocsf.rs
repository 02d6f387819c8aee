//! Network events in the classes Network Activity, HTTP Activity and DNS Activity.

use std::net::IpAddr;

use serde_json::{Map, Value};

use super::events::{Answer, End, Exchange, Http, Network, Refusal, Tried, What, Wire};
use super::{Traffic, Transport, Window};
use crate::code::{ALLOWED, BLOCKED, Shape};
use crate::network::rule::firewall_rule;
use crate::text::{Text, integer, object, put};

/// The action was changed and done: some of a lookup's answers were taken out.
const CORRECTED: Option<(u64, u64)> = Some((4, 12));
const HIGH: u64 = 4;
const OUTBOUND: u64 = 2;
const INBOUND: u64 = 1;

/// The code's classification with what depends on the single event.
pub(crate) fn shape(network: &Network, shape: Shape) -> Shape {
    let severity = if alerts(network) { HIGH } else { shape.severity };
    let shape = Shape { severity, ..shape };
    match &network.what {
        What::Lookup(answer) => {
            let (control, failed) = match (answer.answers.is_empty(), answer.dropped.is_empty()) {
                (_, true) => (ALLOWED, answer.reason.is_some() || answer.rcode.is_some_and(|rcode| rcode != 0)),
                (false, false) => (CORRECTED, answer.reason.is_some()),
                (true, false) => (BLOCKED, true),
            };
            Shape { control, status: if failed { 2 } else { 1 }, ..shape }
        }
        What::HttpAllowed(http) | What::Denied(Refusal { tried: Tried::Http(http), .. }) => {
            Shape { activity: activity(http), ..shape }
        }
        What::Http(http, exchange) => {
            let status = if exchange.failure.is_some() { 2 } else { 1 };
            Shape { activity: activity(http), status, ..shape }
        }
        _ => shape,
    }
}

/// What a plugin can only reach for in order to leave its sandbox wakes somebody up.
fn alerts(network: &Network) -> bool {
    let alarming = |reason: &str| matches!(reason, "addr.metadata" | "addr.self");
    match &network.what {
        What::Denied(refusal) => alarming(refusal.reason),
        What::Lookup(answer) => answer.dropped.iter().any(|(_, reason)| alarming(reason)),
        _ => false,
    }
}

/// Adds all that only network events have, and gives the message. `bridge` is the endpoint of this process.
pub(crate) fn fill(
    members: &mut Map<String, Value>,
    unmapped: &mut Map<String, Value>,
    network: &Network,
    time_ms: u64,
    bridge: Map<String, Value>,
    text: &mut Text,
) -> String {
    if alerts(network) {
        put(members, "is_alert", true);
    }
    if let Some(reason) = network.observed {
        put(unmapped, "egress_mode", "observe");
        put(unmapped, "would_deny", reason);
    }
    if let Some(rule) = firewall_rule(network, text) {
        put(members, "firewall_rule", rule);
    }
    ends(members, network, bridge, text);
    if let Some(Window { count, start_ms, end_ms }) = network.window() {
        put(members, "count", integer(count));
        span(members, start_ms, end_ms);
    }
    match &network.what {
        What::Allowed(wire) => {
            put(members, "connection_info", connection(Some(wire.id), wire.transport, OUTBOUND, network));
            match wire.transport {
                Transport::Tcp => "TCP connect allowed".to_owned(),
                Transport::Udp => "UDP datagrams to a peer allowed".to_owned(),
            }
        }
        What::Failed(wire, reason) => {
            put(members, "connection_info", connection(Some(wire.id), wire.transport, OUTBOUND, network));
            put(members, "status_detail", *reason);
            format!("TCP connect was allowed and failed: {reason}")
        }
        What::Closed(wire, traffic) => {
            moved(members, network, *wire, traffic, time_ms);
            format!("{} connection closed", word(wire.transport))
        }
        What::Traffic(wire, traffic) => {
            moved(members, network, *wire, traffic, time_ms);
            let Traffic { datagrams_out, datagrams_in, .. } = traffic;
            format!("{datagrams_out} datagrams sent and {datagrams_in} received")
        }
        What::Denied(refusal) => denied(members, network, refusal, text),
        What::LookupAllowed(name) => {
            query(members, text.untrusted(name));
            "DNS lookup allowed".to_owned()
        }
        What::Lookup(answer) => lookup(members, answer, time_ms, text),
        What::HttpAllowed(http) => {
            request(members, network, http, text);
            "HTTP request allowed".to_owned()
        }
        What::Http(http, exchange) => {
            request(members, network, http, text);
            exchanged(members, network, exchange, time_ms, text)
        }
    }
}

fn ends(members: &mut Map<String, Value>, network: &Network, bridge: Map<String, Value>, text: &mut Text) {
    let stranger = matches!(&network.what, What::Denied(Refusal { tried: Tried::Datagram, inbound: true, .. }));
    let (own, other) = if stranger { ("dst_endpoint", "src_endpoint") } else { ("src_endpoint", "dst_endpoint") };
    let End { hostname, ip, port } = &network.destination;
    let hostname = hostname.as_ref().map(|name| text.untrusted(name));
    let ip = ip.map(|ip| Value::from(ip.to_string()));
    let mut endpoint = Map::new();
    let mut observables = Vec::new();
    // 1: a host name, 2: an address, so that a search finds both.
    for (name, kind, value) in [("hostname", 1, hostname), ("ip", 2, ip)] {
        if let Some(value) = value {
            let path = format!("{other}.{name}");
            let observable = [("name", path.into()), ("type_id", kind.into()), ("value", value.clone())];
            observables.push(Value::Object(object(observable)));
            put(&mut endpoint, name, value);
        }
    }
    put(members, own, bridge);
    // The schema has no endpoint that is a port alone.
    if endpoint.is_empty() {
        return;
    }
    if let Some(port) = port {
        put(&mut endpoint, "port", *port);
    }
    put(members, other, endpoint);
    put(members, "observables", observables);
}

fn connection(id: Option<u64>, transport: Transport, direction: u64, network: &Network) -> Map<String, Value> {
    let number = match transport {
        Transport::Tcp => 6,
        Transport::Udp => 17,
    };
    let mut info = object([
        ("direction_id", direction.into()),
        ("protocol_name", word(transport).to_lowercase().into()),
        ("protocol_num", number.into()),
    ]);
    if let Some(id) = id {
        put(&mut info, "uid", format!("c-{id:06}"));
    }
    if let Some(ip) = network.destination.ip {
        put(&mut info, "protocol_ver_id", if ip.is_ipv4() { 4 } else { 6 });
    }
    info
}

const fn word(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "TCP",
        Transport::Udp => "UDP",
    }
}

fn moved(members: &mut Map<String, Value>, network: &Network, wire: Wire, traffic: &Traffic, time_ms: u64) {
    put(members, "connection_info", connection(Some(wire.id), wire.transport, OUTBOUND, network));
    put_traffic(members, traffic, time_ms);
}

fn put_traffic(members: &mut Map<String, Value>, traffic: &Traffic, time_ms: u64) {
    let Traffic { bytes_out, bytes_in, datagrams_out, datagrams_in, duration_ms } = *traffic;
    let mut form = object([
        ("bytes_out", integer(bytes_out)),
        ("bytes_in", integer(bytes_in)),
        ("bytes", integer(bytes_out.saturating_add(bytes_in))),
    ]);
    let datagrams = datagrams_out.saturating_add(datagrams_in);
    if datagrams > 0 {
        put(&mut form, "packets_out", integer(datagrams_out));
        put(&mut form, "packets_in", integer(datagrams_in));
        put(&mut form, "packets", integer(datagrams));
    }
    put(members, "traffic", form);
    span(members, time_ms.saturating_sub(duration_ms), time_ms);
}

fn span(members: &mut Map<String, Value>, start_ms: u64, end_ms: u64) {
    put(members, "start_time", integer(start_ms));
    put(members, "end_time", integer(end_ms));
    put(members, "duration", integer(end_ms.saturating_sub(start_ms)));
}

fn denied(members: &mut Map<String, Value>, network: &Network, refusal: &Refusal, text: &mut Text) -> String {
    let Refusal { tried, reason, guest_code, inbound, window } = refusal;
    put(members, "status_detail", *reason);
    if let Some(code) = guest_code {
        put(members, "status_code", *code);
    }
    let direction = if *inbound { INBOUND } else { OUTBOUND };
    let wire = match tried {
        Tried::Connect => Some((Transport::Tcp, direction)),
        Tried::Datagram => Some((Transport::Udp, direction)),
        Tried::Bind(transport) => Some((*transport, INBOUND)),
        Tried::Listen => Some((Transport::Tcp, INBOUND)),
        Tried::Lookup | Tried::Http(_) => None,
    };
    if let Some((transport, direction)) = wire {
        put(members, "connection_info", connection(None, transport, direction, network));
    }
    let what = match tried {
        Tried::Connect => "TCP connect",
        Tried::Datagram if *inbound => "UDP datagram from a stranger",
        Tried::Datagram => "UDP datagram",
        Tried::Bind(_) => "bind to a chosen address or port",
        Tried::Listen => "listen",
        Tried::Lookup => {
            if let Some(name) = &network.destination.hostname {
                query(members, text.untrusted(name));
            }
            put(members, "rcode_id", 5);
            "DNS lookup"
        }
        Tried::Http(http) => {
            request(members, network, http, text);
            "HTTP request"
        }
    };
    match window {
        Some(window) => format!("{what} denied {} more times in the window: {reason}", window.count),
        None => format!("{what} denied: {reason}"),
    }
}

fn query(members: &mut Map<String, Value>, name: Value) {
    // Addresses of both versions are asked for, so there is no one type.
    put(members, "query", object([("hostname", name), ("class", "IN".into()), ("opcode_id", 0.into())]));
}

fn lookup(members: &mut Map<String, Value>, answer: &Answer, time_ms: u64, text: &mut Text) -> String {
    let Answer { name, answers, dropped, ttl_s, rcode, reason, duration_ms } = answer;
    query(members, text.untrusted(name));
    let all = answers.iter().chain(dropped.iter().map(|(ip, _)| ip)).map(|ip| {
        let kind = if ip.is_ipv4() { "A" } else { "AAAA" };
        let mut form = object([("rdata", ip.to_string().into()), ("type", kind.into()), ("class", "IN".into())]);
        if let Some(ttl_s) = ttl_s {
            put(&mut form, "ttl", *ttl_s);
        }
        Value::Object(form)
    });
    let all: Vec<_> = all.collect();
    if !all.is_empty() {
        put(members, "answers", all);
    }
    if let Some(rcode) = rcode {
        // The codes of the schema's enumeration are those of the DNS; 99 is any other.
        let known = matches!(rcode, 0..=11 | 16..=25);
        put(members, "rcode_id", if known { *rcode } else { 99 });
        if !known {
            put(members, "rcode", rcode.to_string());
        }
    }
    // The addresses of a lookup that is refused as a whole are refused for a reason, which is then the lookup's.
    let refused = dropped.first().filter(|_| answers.is_empty()).map(|(_, reason)| *reason);
    if let Some(reason) = reason.or(refused) {
        put(members, "status_detail", reason);
    }
    put(members, "query_time", integer(time_ms.saturating_sub(*duration_ms)));
    if rcode.is_some() {
        put(members, "response_time", integer(time_ms));
    }
    let total = answers.len() + dropped.len();
    match reason {
        Some(reason) => format!("DNS lookup failed: {reason}"),
        None => format!("DNS lookup answered; {} of {total} addresses usable", answers.len()),
    }
}

/// What the class lists, as (method, activity).
const METHODS: [(&str, u64); 9] = [
    ("CONNECT", 1),
    ("DELETE", 2),
    ("GET", 3),
    ("HEAD", 4),
    ("OPTIONS", 5),
    ("POST", 6),
    ("PUT", 7),
    ("TRACE", 8),
    ("PATCH", 9),
];

fn activity(http: &Http) -> u64 {
    let method = http.method.tamed().text;
    match METHODS.iter().find(|(known, _)| *known == method) {
        Some((_, activity)) => *activity,
        None if method.is_empty() => 0,
        None => 99,
    }
}

fn request(members: &mut Map<String, Value>, network: &Network, http: &Http, text: &mut Text) {
    let mut request = Map::new();
    // Of repeats that were counted, each had an id of its own.
    if network.window().is_none() {
        put(&mut request, "uid", format!("r-{}", http.id));
    }
    match activity(http) {
        0 => {}
        99 => put(members, "activity_name", text.untrusted(&http.method)),
        _ => put(&mut request, "http_method", text.untrusted(&http.method)),
    }
    if let Some(url) = url(network, http, text) {
        put(&mut request, "url", url);
    }
    put(members, "http_request", request);
}

/// The schema has no URL without a path or the whole text, and there is none of repeats whose paths differ.
fn url(network: &Network, http: &Http, text: &mut Text) -> Option<Map<String, Value>> {
    let End { hostname, ip, port } = &network.destination;
    let name = hostname.as_ref().map(|name| text.untrusted(name));
    let host = name.or_else(|| ip.map(|ip| ip.to_string().into()));
    let mut url = Map::new();
    if !http.path.is_empty() {
        put(&mut url, "path", text.untrusted(&http.path));
    } else if let Some(host) = host.as_ref().and_then(Value::as_str) {
        let host =
            if host.parse().is_ok_and(|ip: IpAddr| ip.is_ipv6()) { format!("[{host}]") } else { host.to_owned() };
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let origin = format!("{}://{host}{port}", http.scheme.tamed().text);
        put(&mut url, "url_string", text.name(&origin));
    } else {
        return None;
    }
    if !http.scheme.is_empty() {
        put(&mut url, "scheme", text.untrusted(&http.scheme));
    }
    if let Some(host) = host {
        put(&mut url, "hostname", host);
    }
    if let Some(port) = port {
        put(&mut url, "port", *port);
    }
    Some(url)
}

fn exchanged(
    members: &mut Map<String, Value>,
    network: &Network,
    exchange: &Exchange,
    time_ms: u64,
    text: &mut Text,
) -> String {
    let Exchange { connection: id, status, traffic, failure, tls_version } = exchange;
    if id.is_some() {
        put(members, "connection_info", connection(*id, Transport::Tcp, OUTBOUND, network));
    }
    if let Some(code) = status {
        put(members, "http_response", object([("code", (*code).into())]));
    }
    if let Some(version) = tls_version {
        let mut tls = object([("version", (*version).into())]);
        if let Some(name) = &network.destination.hostname {
            put(&mut tls, "sni", text.untrusted(name));
        }
        put(members, "tls", tls);
    }
    put_traffic(members, traffic, time_ms);
    match failure {
        Some(reason) => {
            put(members, "status_detail", *reason);
            format!("HTTP request failed: {reason}")
        }
        None => "HTTP request completed".to_owned(),
    }
}

#[cfg(test)]
mod tests;
