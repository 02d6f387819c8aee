use std::time::Duration;

use portcullis_audit as audit;
use portcullis_audit::{
    Actor, Attempt, Connection, Context, Decided, Denial, Event, HostCall, HttpCall, HttpIntent, Linked, Lookup,
    MemoryStore, Recorder, RuleRef, Transport, Window,
};
use portcullis_policy::{Decision, Facts, OwnEndpoints, Pin, Policy, PolicyParts, Request, RuleHost, decide};
use serde_json::json;

use super::*;

const LONG: Duration = Duration::from_secs(20);

fn actor() -> Actor {
    Actor::plugin(Some("acme".into()), "orders".into(), "rates".into(), None)
}

fn decided(hostname: Option<&str>, ip: Option<&str>, port: u16, rule: Option<&str>) -> Decided {
    let destination = audit::Destination {
        hostname: hostname.map(str::to_owned),
        ip: ip.map(|ip| ip.parse().unwrap()),
        port: Some(port),
    };
    let rule = rule.map(|rule| RuleRef { uid: "egress[0]".into(), name: rule.into() });
    let observed = if rule.is_none() { Some("rule.no_match") } else { None };
    Decided { destination, rule, policy_version: "sha256:aa".into(), observed, pin: None }
}

fn connect(transport: Transport, hostname: Option<&str>, ip: &str, port: u16, rule: Option<&str>) -> Event {
    Event::connect_allowed(actor(), Connection { id: 1, transport, decided: decided(hostname, Some(ip), port, rule) })
}

fn call(method: &str, scheme: &str, path: &str) -> HttpCall {
    HttpCall { id: 1, method: method.to_owned(), scheme: scheme.to_owned(), path: path.to_owned() }
}

fn http(method: &str, host: &str, ip: &str, path: &str) -> Event {
    Event::http_allowed(
        actor(),
        HttpIntent { call: call(method, "https", path), decided: decided(Some(host), Some(ip), 443, None) },
    )
}

fn denied(
    attempt: Attempt,
    hostname: Option<&str>,
    ip: Option<&str>,
    port: Option<u16>,
    reason: &'static str,
) -> Event {
    let destination =
        audit::Destination { hostname: hostname.map(str::to_owned), ip: ip.map(|ip| ip.parse().unwrap()), port };
    let denial = Denial {
        attempt,
        destination,
        reason,
        guest_code: Some("access-denied"),
        rule: None,
        policy_version: "sha256:aa".into(),
        inbound: false,
        window: None,
    };
    Event::denied(actor(), denial)
}

/// As they stand in an audit file.
fn written(events: Vec<Event>) -> Vec<Value> {
    let context = Context {
        instance_uid: "one".to_owned(),
        hostname: "host".to_owned(),
        product_version: "0".to_owned(),
        wasmtime_version: "0".to_owned(),
        log_name: "audit".to_owned(),
    };
    let store = MemoryStore::new();
    let (recorder, _) = Recorder::start(context, audit::Options::default(), store.clone()).unwrap();
    for event in events {
        drop(recorder.record(event));
    }
    recorder.shutdown(LONG).unwrap();
    store.events()
}

fn suggest(events: &[Value], denied: bool) -> Suggestion {
    let mut collector = Collector::new(Wanted { denied, ..Wanted::default() });
    assert!(events.iter().all(|event| collector.add(event)));
    let mut suggestions = collector.end();
    assert_eq!(suggestions.len(), 1, "{suggestions:?}");
    suggestions.remove(0)
}

fn texts(suggestion: &Suggestion) -> Vec<String> {
    suggestion.egress.iter().flatten().map(|suggested| suggested.rule.yaml()).collect()
}

fn policy(suggestion: &Suggestion) -> Policy {
    let rules: Vec<_> = suggestion.egress.iter().flatten().map(|suggested| suggested.rule.clone()).collect();
    let consent = suggestion.egress.iter().flatten().flat_map(|suggested| suggested.consent.clone()).collect();
    Policy::new(PolicyParts { rules, consent, own: OwnEndpoints::default(), ..PolicyParts::default() })
}

/// Asks the policy for what an event says that the plugin asked for.
fn allows(policy: &Policy, event: &Value) -> bool {
    let name = text(event, "/dst_endpoint/hostname").and_then(|name| match parse_host(name) {
        Ok(Host::Name(name)) => Some(name),
        _ => None,
    });
    let address: Option<IpAddr> = text(event, "/dst_endpoint/ip").map(|ip| ip.parse().unwrap());
    let pins: Vec<Pin> = name
        .iter()
        .zip(address)
        .map(|(name, address)| Pin { name: name.clone(), address, expires_ms: 1, lookup: 0 })
        .collect();
    let facts = Facts { now_ms: 0, pins: &pins, exhausted: None };
    let ask = |request: &Request<'_>| matches!(decide(policy, request, &facts), Decision::Allow(_));
    let socket = || std::net::SocketAddr::new(address.unwrap(), number(event, "/dst_endpoint/port").unwrap());
    match text(event, "/metadata/event_code").unwrap() {
        "dns.allowed" => ask(&Request::Lookup { name: text(event, "/query/hostname").unwrap() }),
        "net.connect.allowed" => ask(&Request::Connect { to: socket() }),
        "net.udp.allowed" => ask(&Request::Datagram { to: socket() }),
        "http.allowed" => {
            let authority = format!("{}:{}", name.as_ref().unwrap(), number(event, "/dst_endpoint/port").unwrap());
            let method = text(event, "/http_request/http_method").or_else(|| text(event, "/activity_name")).unwrap();
            let (scheme, path) =
                (text(event, "/http_request/url/scheme").unwrap(), text(event, "/http_request/url/path").unwrap());
            let request = Request::Http { method, scheme, authority: &authority, path };
            match decide(policy, &request, &facts) {
                Decision::Allow(http) => ask(&Request::HttpDial { http: &http, address: address.unwrap() }),
                Decision::Deny(_) => false,
            }
        }
        _ => true,
    }
}

#[test]
fn the_policy_of_the_printed_rules_allows_everything_that_was_recorded() {
    let mut events = vec![
        Event::dns_allowed(actor(), "api.test", decided(Some("api.test"), None, 0, None)),
        Event::dns_allowed(actor(), "only.test", decided(Some("only.test"), None, 0, None)),
        http("GET", "api.test", "93.184.216.34", "/v1/a"),
        http("POST", "api.test", "93.184.216.35", "/v1/b"),
        http("PROPFIND", "api.test", "93.184.216.35", "/v1/*/b"),
        http("GET", "api.test", "93.184.216.35", &format!("/long/{}", "x".repeat(2000))),
        connect(Transport::Tcp, Some("db.test"), "93.184.216.36", 5432, None),
        connect(Transport::Tcp, Some("db.test"), "93.184.216.36", 5433, None),
        connect(Transport::Tcp, Some("db.test"), "93.184.216.36", 53, None),
        connect(Transport::Tcp, Some("in.test"), "10.1.2.3", 22, Some("tcp://in.test:22")),
        connect(Transport::Tcp, Some("in.test"), "93.184.216.37", 22, None),
        connect(Transport::Tcp, None, "2606:2800::1", 8080, Some("tcp://[2606:2800::]/32:8080")),
        connect(Transport::Tcp, None, "127.0.0.1", 8080, Some("tcp://127.0.0.1:8080")),
        connect(Transport::Tcp, Some("mail.test"), "93.184.216.38", 465, Some("tls://*.test:465")),
        connect(Transport::Udp, Some("ntp.test"), "93.184.216.39", 123, None),
    ];
    events.extend((0..30).map(|id| http("GET", "many.test", "93.184.216.40", &format!("/users/{id}/orders"))));
    let written = written(events);
    let suggestion = suggest(&written, false);
    let policy = policy(&suggestion);
    for event in &written {
        assert!(allows(&policy, event), "{event:#}\n{:#?}", texts(&suggestion));
    }
    let expected = [
        r#"{ allow: "https://api.test", methods: ["GET"], paths: ["/long/", "/v1/a"] }"#,
        r#"{ allow: "https://api.test", methods: ["POST"], paths: ["/v1/b"] }"#,
        r#"{ allow: "https://api.test", methods: ["PROPFIND"], paths: ["/v1/"] }"#,
        r#"{ allow: "tcp://db.test:53,5432-5433", dns_port: true }"#,
        r#"{ allow: "tcp://in.test:22" }"#,
        r#"{ allow: "tcp://in.test:22", addresses: ["10.1.2.3/32"] }"#,
        r#"{ allow: "tls://mail.test:465" }"#,
        r#"{ allow: "https://many.test", methods: ["GET"], paths: ["/users/"] }"#,
        r#"{ allow: "udp://ntp.test:123" }"#,
        r#"{ allow: "tcp://127.0.0.1:8080" }"#,
        r#"{ allow: "tcp://[2606:2800::1]:8080" }"#,
        r#"{ allow: "tls://only.test" }"#,
    ];
    assert_eq!(texts(&suggestion), expected);
    assert_eq!((suggestion.tenant.as_deref(), suggestion.plugin.as_str()), (Some("acme"), "rates"));
    let loopback = suggestion.egress.unwrap().into_iter().find(|suggested| !suggested.consent.is_empty()).unwrap();
    assert_eq!(loopback.consent, ["127.0.0.1/32".parse::<IpNet>().unwrap()]);
}

#[test]
fn an_address_that_came_from_a_lookup_is_granted_by_its_name() {
    let lookup = Lookup {
        name: "db.test".to_owned(),
        decided: decided(None, None, 0, None),
        answers: vec!["93.184.216.36".parse().unwrap()],
        dropped: vec![],
        ttl_s: Some(5),
        rcode: Some(0),
        reason: None,
        duration_ms: 1,
    };
    let events = vec![
        Event::dns_lookup(actor(), lookup),
        // The pin had expired, and observe mode let it through.
        connect(Transport::Tcp, None, "93.184.216.36", 5432, None),
    ];
    assert_eq!(texts(&suggest(&written(events), false)), [r#"{ allow: "tcp://db.test:5432" }"#]);
}

#[test]
fn what_was_denied_is_granted_on_demand_only_and_never_what_no_rule_may_change() {
    let attempt = |path: &str| Attempt::Http(call("GET", "https", path));
    let repeats = Denial {
        attempt: Attempt::Http(call("GET", "https", "")),
        destination: audit::Destination { hostname: Some("a.test".to_owned()), ip: None, port: Some(443) },
        reason: "http.path",
        guest_code: None,
        rule: None,
        policy_version: "sha256:aa".into(),
        inbound: false,
        window: Some(Window { count: 7, start_ms: 1, end_ms: 2 }),
    };
    let written = written(vec![
        denied(attempt("/x"), Some("a.test"), None, Some(443), "http.path"),
        Event::denied(actor(), repeats),
        denied(attempt("/"), Some("b.test"), None, Some(443), "rule.operator_deny"),
        denied(Attempt::Connect, None, Some("169.254.169.254"), Some(80), "addr.metadata"),
        denied(Attempt::Connect, None, Some("93.184.216.34"), Some(80), "rule.no_match"),
        denied(Attempt::Lookup, Some("c.test"), None, None, "rule.no_match"),
    ]);
    let without = suggest(&written, false);
    assert_eq!(without.left_out.values().sum::<u64>(), 12);
    assert!(without.egress.is_none_or(|rules| rules.is_empty()));
    let with = suggest(&written, true);
    assert_eq!(
        texts(&with),
        [
            r#"{ allow: "https://a.test", methods: ["GET"], paths: ["/x"] }"#,
            r#"{ allow: "tcp://93.184.216.34:80" }"#,
            r#"{ allow: "tls://c.test" }"#
        ]
    );
    let left_out: Vec<_> = with.left_out.iter().map(|(what, count)| (what.as_str(), *count)).collect();
    assert_eq!(left_out.len(), 3, "{left_out:?}");
    assert!(left_out.contains(&("http.denied (rule.operator_deny)", 1)), "{left_out:?}");
    assert!(left_out.iter().any(|(what, count)| what.contains("whose destination") && *count == 7), "{left_out:?}");
}

#[test]
fn host_calls_become_the_capabilities_with_the_value_that_was_granted() {
    let calls = |operation: &str, count| {
        Event::host_call(actor(), HostCall { operation: operation.into(), count, start_ms: 1, end_ms: 2 })
    };
    let linked = Linked {
        imports: vec!["wasi:http/outgoing-handler@0.2.12.handle".to_owned()],
        grants: json!({ "clock": "precise", "random": true }),
        ..Linked::default()
    };
    let suggestion = suggest(
        &written(vec![
            Event::plugin_linked(actor(), linked),
            calls("wasi:clocks/wall-clock.now", 3),
            calls("wasi:clocks/monotonic-clock.now", 4),
            calls("portcullis:plugin/log.write", 1),
            calls("wasi:cli/exit", 1),
        ]),
        false,
    );
    let expected =
        [("clock", ("precise".to_owned(), 7)), ("log", ("info".to_owned(), 1)), ("random", ("true".to_owned(), 0))];
    assert_eq!(suggestion.capabilities, expected.into());
    assert_eq!(suggestion.egress.map(|rules| rules.len()), Some(0), "it is linked with the network and did not use it");
}

#[test]
fn many_paths_below_one_folder_become_the_folder_and_few_stay_as_they_are() {
    let fold = |paths: Vec<String>| -> Vec<String> {
        least::folded(paths.into_iter().map(|path| (path, Uses::default())).collect()).into_keys().collect()
    };
    let numbered = |count: usize, of: &str| (0..count).map(|id| of.replace("ID", &id.to_string())).collect::<Vec<_>>();
    assert_eq!(fold(numbered(8, "/v1/ID")).len(), 8);
    assert_eq!(fold(numbered(9, "/v1/ID")), ["/v1/"]);
    assert_eq!(fold(numbered(9, "/v1/ID/x")), ["/v1/"]);
    assert_eq!(fold(numbered(20, "/ID")).len(), 20, "the root is every path");
    assert_eq!(fold(numbered(65, "/ID")), ["/"]);
    let mut paths = numbered(9, "/a/b/ID");
    paths.extend(["/a/c".to_owned(), "/a/b".to_owned()]);
    assert_eq!(fold(paths), ["/a/b", "/a/b/", "/a/c"]);
    assert_eq!(fold(vec!["/a/".to_owned(), "/a/x/y".to_owned(), "/b".to_owned()]), ["/a/", "/b"]);
}

#[test]
fn events_that_somebody_made_up_change_nothing_but_what_they_say() {
    let mut collector = Collector::new(Wanted::default());
    for event in [json!(null), json!([]), json!({}), json!({ "metadata": { "event_code": "http.allowed" } })] {
        assert!(collector.add(&event));
    }
    for host in ["a\n- x", "*", "*.test", "0x7f.1", "[::1", "", "127.0.0.1/8"] {
        for path in ["/\n", "", "/../x", "//", "/a?b"] {
            let event = json!({
                "metadata": { "event_code": "http.allowed" },
                "actor": { "app_name": "rates", "invoked_by": "pipeline/orders" },
                "dst_endpoint": { "hostname": host, "port": 443 },
                "http_request": { "http_method": "GET\n", "url": { "scheme": "https", "path": path } },
            });
            assert!(collector.add(&event));
        }
    }
    let suggestion = collector.end().remove(0);
    assert_eq!(suggestion.egress.map(|rules| rules.len()), Some(0));
    assert_eq!(suggestion.left_out.values().sum::<u64>(), 35);
}

#[test]
fn every_suggested_rule_is_about_one_name_or_one_address() {
    let written = written(vec![
        connect(Transport::Tcp, Some("a.test"), "93.184.216.34", 1, Some("tcp://*.test:*")),
        connect(Transport::Tcp, None, "93.184.216.34", 2, Some("tcp://0.0.0.0/0:*")),
    ]);
    for suggested in suggest(&written, false).egress.unwrap() {
        match suggested.rule.host() {
            RuleHost::Name(_) => {}
            RuleHost::Net(net) => assert_eq!(net.prefix_len(), 32),
            host => panic!("{host}"),
        }
    }
}
