//! One event of every kind, hostile where a guest may choose the text.

use std::sync::Arc;

use serde_json::json;

use crate::event::{Fact, Loss};
use crate::{
    Actor, Attempt, Budget, Code, ConfigFault, Connection, Context, DeadLetter, Decided, Denial, Destination, Disabled,
    Event, HostCall, HttpCall, HttpIntent, HttpResult, Linked, Lookup, Mode, Quarantine, Refused, Rejection, RuleRef,
    Scope, Traffic, Transport, Trap, Window,
};

pub(crate) const HOSTILE: &str = "a\nb\u{1b}[31m\u{202e}\u{0}\"\\";

pub(crate) fn context() -> Context {
    Context {
        instance_uid: "6f1c2c1e-4b0f-4a52-9d0c-6f7d0a7c9a11".to_owned(),
        hostname: "bridge-0.example".to_owned(),
        product_version: "0.1.0".to_owned(),
        wasmtime_version: "48.0.0".to_owned(),
        log_name: "portcullis.audit".to_owned(),
    }
}

pub(crate) fn plugin() -> Actor {
    let digest = format!("sha256:{}", "9f".repeat(32));
    Actor::plugin(Some(Arc::from("acme")), Arc::from("orders"), Arc::from("order-schema"), Some(digest.into()))
}

pub(crate) fn linked() -> Linked {
    Linked {
        version: Some("1.4.2".to_owned()),
        world: "portcullis:plugin/validator@0.1.0".to_owned(),
        imports: vec![
            "wasi:clocks/wall-clock.now".to_owned(),
            "portcullis:plugin/messages.[method]message.key".to_owned(),
        ],
        inert: vec!["wasi:cli/environment@0.2.12".to_owned()],
        grants: json!({"clock": "coarse", "log": "info", "share": 0.5, "most": u64::MAX, "note": HOSTILE}),
        budgets: vec![("deadline_ms", 250), ("fuel", 50_000_000), ("memory_bytes", u64::MAX)],
        mode: Mode::Buffered,
    }
}

pub(crate) fn rule() -> RuleRef {
    RuleRef { uid: Arc::from("egress[0]"), name: Arc::from("https://api.example.com:443") }
}

/// An effect that a rule allowed, to a name and its address.
pub(crate) fn decided() -> Decided {
    let destination = Destination {
        hostname: Some("api.example.com".to_owned()),
        ip: Some([93, 184, 216, 34].into()),
        port: Some(443),
    };
    Decided { destination, rule: Some(rule()), policy_version: Arc::from("sha256:aa"), observed: None, pin: None }
}

pub(crate) fn denial(attempt: Attempt, reason: &'static str) -> Denial {
    Denial {
        attempt,
        destination: Destination { hostname: None, ip: Some([169, 254, 169, 254].into()), port: Some(80) },
        reason,
        guest_code: Some("access-denied"),
        rule: None,
        policy_version: Arc::from("sha256:aa"),
        inbound: false,
        window: None,
    }
}

pub(crate) fn call(method: &str, path: &str) -> HttpCall {
    HttpCall { id: 5512, method: method.to_owned(), scheme: "https".to_owned(), path: path.to_owned() }
}

pub(crate) fn lookup(answers: &[[u8; 4]], dropped: &[([u8; 4], &'static str)]) -> Lookup {
    Lookup {
        name: "api.example.com".to_owned(),
        decided: Decided { destination: Destination::default(), ..decided() },
        answers: answers.iter().map(|ip| (*ip).into()).collect(),
        dropped: dropped.iter().map(|(ip, reason)| ((*ip).into(), *reason)).collect(),
        ttl_s: Some(60),
        rcode: Some(0),
        reason: None,
        duration_ms: 9,
    }
}

pub(crate) fn traffic() -> Traffic {
    Traffic { bytes_out: 1830, bytes_in: 52_210, duration_ms: 812, ..Traffic::default() }
}

/// Network events as they should be, and with everything in them that a guest may choose made hostile.
fn network_events() -> Vec<Event> {
    let text = || HOSTILE.repeat(1000);
    let hostile = || Destination { hostname: Some(text()), ip: Some(std::net::Ipv6Addr::LOCALHOST.into()), port: None };
    let window = Some(Window { count: u64::MAX, start_ms: 5, end_ms: 9 });
    let connection = |transport| Connection { id: 917, transport, decided: decided() };
    let observed = || Decided {
        destination: hostile(),
        rule: None,
        observed: Some("rule.no_match"),
        pin: Some(uuid::Uuid::from_u128(99)),
        ..decided()
    };
    let strange = || Connection { id: u64::MAX, transport: Transport::Udp, decided: observed() };
    let endless =
        Traffic { bytes_out: u64::MAX, bytes_in: 1, datagrams_out: u64::MAX, datagrams_in: 2, duration_ms: 7 };
    let result = |call, decided| HttpResult {
        call,
        decided,
        connection: Some(917),
        status: Some(200),
        traffic: traffic(),
        failure: None,
        tls_version: Some("1.3"),
    };
    let failed = HttpResult {
        connection: None,
        status: None,
        failure: Some("tls.untrusted"),
        tls_version: None,
        ..result(call("POST", "/v1/enrich"), decided())
    };
    let hostile_call = || HttpCall { id: 1, method: text(), scheme: text(), path: format!("/{}?token=1", text()) };
    let denied = |attempt, reason| Event::denied(plugin(), denial(attempt, reason));
    let repeated = |attempt, destination| {
        let rule = Some(rule());
        Event::denied(plugin(), Denial { destination, rule, window, ..denial(attempt, "rule.no_match") })
    };
    let from_a_stranger = Denial { inbound: true, ..denial(Attempt::Datagram, "rule.no_match") };
    vec![
        Event::connect_allowed(plugin(), connection(Transport::Tcp)).about("orders/orders.raw-7@184467"),
        Event::connect_allowed(plugin(), strange()),
        Event::connect_failed(plugin(), connection(Transport::Tcp), "net.failed"),
        Event::connection_closed(plugin(), connection(Transport::Tcp), traffic()),
        Event::connection_closed(plugin(), strange(), endless),
        Event::udp_traffic(plugin(), strange(), endless),
        denied(Attempt::Connect, "addr.metadata"),
        denied(Attempt::Datagram, "rule.dns_port"),
        denied(Attempt::Bind(Transport::Udp), "capability.absent"),
        denied(Attempt::Listen, "capability.absent"),
        denied(Attempt::Lookup, "rule.no_match"),
        denied(Attempt::Http(call("GET", "")), "addr.self"),
        denied(Attempt::Http(hostile_call()), "name.invalid"),
        repeated(Attempt::Connect, Destination::default()),
        repeated(Attempt::Lookup, hostile()),
        repeated(Attempt::Http(call("", "")), Destination::default()),
        repeated(Attempt::Http(HttpCall { path: String::new(), ..hostile_call() }), hostile()),
        Event::denied(plugin(), from_a_stranger),
        Event::dns_allowed(plugin(), "api.example.com", Decided { destination: Destination::default(), ..decided() }),
        Event::dns_allowed(plugin(), text(), observed()),
        Event::dns_lookup(plugin(), lookup(&[[93, 184, 216, 34]], &[([10, 1, 2, 3], "addr.private")])),
        Event::dns_lookup(plugin(), Lookup { name: text(), ..lookup(&[[93, 184, 216, 34]; 500], &[]) }),
        Event::dns_lookup(plugin(), Lookup { rcode: Some(4096), reason: Some("dns.failed"), ..lookup(&[], &[]) }),
        Event::dns_lookup(plugin(), Lookup { rcode: None, reason: Some("dns.timeout"), ..lookup(&[], &[]) }),
        Event::http_allowed(plugin(), HttpIntent { call: call("PATCH", "/v1/enrich"), decided: decided() }),
        Event::http_allowed(plugin(), HttpIntent { call: hostile_call(), decided: observed() }),
        Event::http_request(plugin(), result(call("POST", "/v1/enrich"), decided())),
        Event::http_request(plugin(), result(hostile_call(), observed())),
        Event::http_request(plugin(), failed),
    ]
}

/// Every kind that can be built, the variants of each included.
pub(crate) fn every_event() -> Vec<Event> {
    let unknown = Actor::plugin(None, Arc::from("orders"), Arc::from("fx"), None);
    let source = "orders/orders.raw-7@184467";
    let text = || HOSTILE.repeat(1000);
    let loss = Loss { reason: "queue.full", events: 2, by_code: vec![(Code::HostCall, 900)], first_ms: 5, last_ms: 9 };
    let letter = DeadLetter { queue: "orders.dlq".to_owned(), position: "orders.dlq-2@991".to_owned() };
    let quarantine = |dead_letter| Quarantine {
        channel: "orders.raw".to_owned(),
        dead_letter,
        kind: "rejected",
        code: text(),
        truncated: true,
        attempts: 3,
    };
    let budget =
        |limit, used, detail| Budget { kind: "fuel", limit, used, scope: Scope::Invocation, detail, window: None };
    let calls =
        HostCall { operation: Arc::from("wasi:clocks/wall-clock.now"), count: u64::MAX, start_ms: 5, end_ms: 9 };
    let trap = Trap { kind: "trap", detail: text(), instance: Some(text()), discarded: true };
    let disabled = Disabled { kind: "memory", detail: text(), quarantine_ms: Some(60_000) };
    let refused = |refused| Rejection { refused, detail: text(), version: Some(text()) };
    let fault = ConfigFault { slug: "public_suffix".to_owned(), at: "orders.yaml:12:9".to_owned(), detail: text() };
    let quota = |scope| Budget {
        kind: "quota.connect_rate",
        limit: Some(10),
        used: None,
        scope,
        detail: String::new(),
        window: None,
    };
    let mut events = vec![
        Event::new(Actor::bridge(), Fact::Boot { mode: Mode::Strict, config_sha256: Some("bb22".to_owned()) }),
        Event::new(Actor::bridge(), Fact::Boot { mode: Mode::Buffered, config_sha256: None }),
        Event::new(Actor::bridge(), Fact::Stop { events: 3, lost: 0 }),
        Event::new(Actor::bridge(), Fact::Loss(loss)),
        Event::plugin_linked(plugin(), linked()),
        Event::plugin_linked(unknown.clone(), Linked::default()),
        Event::plugin_rejected(plugin(), refused(Refused::ImportDenied)),
        Event::plugin_rejected(
            unknown.clone(),
            Rejection { refused: Refused::Unreadable, detail: String::new(), version: None },
        ),
        Event::plugin_stopped(plugin()),
        Event::plugin_disabled(plugin(), disabled),
        Event::plugin_trapped(plugin(), trap).about(source),
        Event::plugin_trapped(unknown, Trap { kind: "trap", detail: String::new(), instance: None, discarded: false }),
        Event::budget_exceeded(plugin(), budget(Some(50_000_000), Some(u64::MAX), String::new())).about(source),
        Event::budget_exceeded(plugin(), budget(None, None, text())).about(text()),
        Event::record_quarantined(plugin(), source, quarantine(Some(letter))),
        Event::record_quarantined(Actor::pipeline(None, Arc::from("orders")), text(), quarantine(None)),
        Event::host_call(plugin(), calls),
        Event::budget_exceeded(plugin(), quota(Scope::Plugin)),
        Event::budget_exceeded(plugin(), quota(Scope::Tenant)),
        Event::budget_exceeded(plugin(), quota(Scope::Node)),
        Event::budget_exceeded(Actor::pipeline(Some("acme".into()), "orders".into()), quota(Scope::Pipeline)),
        Event::config_rejected(Actor::pipeline(None, Arc::from("orders")), fault),
        Event::config_rejected(Actor::bridge(), ConfigFault { slug: text(), at: text(), detail: String::new() }),
    ];
    events.extend(network_events());
    events
}
