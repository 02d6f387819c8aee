use std::sync::Arc;

use serde_json::{Value, json};

use crate::chain::Chain;
use crate::code::Code;
use crate::network::{Attempt, Connection, Decided, Denial, Destination, HttpIntent, HttpResult, Lookup, Traffic};
use crate::samples::{HOSTILE, call, context, decided, denial, lookup, plugin, rule, traffic};
use crate::{Event, HttpCall, Transport};

fn form(event: &Event) -> Value {
    let record = Chain::new(context()).link(1, event).record;
    let value: Value = serde_json::from_slice(&record.value).unwrap();
    assert_eq!(crate::schema::faults_of(&value), Vec::<String>::new(), "{value:#}");
    value
}

fn denied(denial: Denial) -> Value {
    form(&Event::denied(plugin(), denial))
}

fn numbers(value: &Value) -> [u64; 6] {
    ["class_uid", "activity_id", "action_id", "disposition_id", "severity_id", "status_id"]
        .map(|name| value[name].as_u64().unwrap())
}

fn connection(decided: Decided) -> Connection {
    Connection { id: 917, transport: Transport::Tcp, decided }
}

#[test]
fn each_code_is_classified_as_the_catalogue_says() {
    let udp = || Connection { transport: Transport::Udp, ..connection(decided()) };
    let no = |attempt| Event::denied(plugin(), denial(attempt, "rule.no_match"));
    let result = |failure| HttpResult {
        call: call("GET", "/"),
        decided: decided(),
        connection: None,
        status: None,
        traffic: traffic(),
        failure,
        tls_version: None,
    };
    let intent = HttpIntent { call: call("POST", "/"), decided: decided() };
    for (event, code, expected) in [
        (Event::connect_allowed(plugin(), connection(decided())), Code::ConnectAllowed, [4001, 1, 1, 1, 1, 1]),
        (
            Event::connect_failed(plugin(), connection(decided()), "net.failed"),
            Code::ConnectFailed,
            [4001, 4, 1, 1, 1, 2],
        ),
        (no(Attempt::Connect), Code::ConnectDenied, [4001, 5, 2, 2, 3, 2]),
        (Event::connection_closed(plugin(), udp(), traffic()), Code::ConnectionClosed, [4001, 2, 3, 17, 1, 1]),
        (Event::connect_allowed(plugin(), udp()), Code::UdpAllowed, [4001, 1, 1, 1, 1, 1]),
        (Event::udp_traffic(plugin(), udp(), traffic()), Code::UdpTraffic, [4001, 6, 3, 17, 1, 1]),
        (no(Attempt::Datagram), Code::UdpDenied, [4001, 5, 2, 2, 3, 2]),
        (no(Attempt::Bind(Transport::Tcp)), Code::BindDenied, [4001, 7, 2, 2, 3, 2]),
        (no(Attempt::Listen), Code::ListenDenied, [4001, 7, 2, 2, 3, 2]),
        (Event::dns_allowed(plugin(), "a.example", decided()), Code::DnsAllowed, [4003, 1, 1, 1, 1, 1]),
        (Event::dns_lookup(plugin(), lookup(&[[1, 1, 1, 1]], &[])), Code::DnsLookup, [4003, 2, 1, 1, 1, 1]),
        (no(Attempt::Lookup), Code::DnsDenied, [4003, 1, 2, 2, 3, 2]),
        (Event::http_allowed(plugin(), intent), Code::HttpAllowed, [4002, 6, 1, 1, 1, 1]),
        (Event::http_request(plugin(), result(None)), Code::HttpRequest, [4002, 3, 1, 1, 1, 1]),
        (Event::http_request(plugin(), result(Some("tls.version"))), Code::HttpRequest, [4002, 3, 1, 1, 1, 2]),
        (no(Attempt::Http(call("PROPFIND", "/"))), Code::HttpDenied, [4002, 99, 2, 2, 3, 2]),
    ] {
        assert_eq!(event.code(), code);
        assert_eq!(numbers(&form(&event)), expected, "{code}");
    }
}

#[test]
fn an_allowed_connect_tells_rule_pin_policy_and_both_ends() {
    let pin = uuid::Uuid::from_u128(0x99);
    let value = form(&Event::connect_allowed(plugin(), connection(Decided { pin: Some(pin), ..decided() })));
    assert_eq!(value["dst_endpoint"], json!({"hostname": "api.example.com", "ip": "93.184.216.34", "port": 443}));
    assert_eq!(value["src_endpoint"]["svc_name"], "portcullis");
    assert_eq!(
        value["connection_info"],
        json!({"uid": "c-000917", "direction_id": 2, "protocol_name": "tcp", "protocol_num": 6, "protocol_ver_id": 4})
    );
    assert_eq!(
        value["firewall_rule"],
        json!({"uid": "egress[0]", "name": "https://api.example.com:443", "match_details": [format!("dns-pin:{pin}")]})
    );
    assert_eq!(
        value["policy"],
        json!({"name": "acme/order-schema grants", "version": "sha256:aa", "is_applied": true})
    );
    assert_eq!(value["observables"][1], json!({"name": "dst_endpoint.ip", "type_id": 2, "value": "93.184.216.34"}));
}

#[test]
fn reaching_for_metadata_or_for_the_host_itself_is_an_alert_and_nothing_else_is() {
    for (reason, alert) in [("addr.metadata", true), ("addr.self", true), ("addr.private", false)] {
        for attempt in [Attempt::Connect, Attempt::Datagram, Attempt::Http(call("GET", "/"))] {
            let value = denied(denial(attempt, reason));
            assert_eq!(value["severity_id"], if alert { 4 } else { 3 });
            assert_eq!(value.get("is_alert"), alert.then_some(&json!(true)));
        }
        let value = form(&Event::dns_lookup(plugin(), lookup(&[], &[([10, 1, 2, 3], reason)])));
        assert_eq!(value["severity_id"], if alert { 4 } else { 1 });
        assert_eq!(value.get("is_alert"), alert.then_some(&json!(true)));
    }
}

#[test]
fn a_refusal_names_what_refused_and_apart_from_it_what_came_near() {
    for (reason, uid) in [
        ("addr.metadata", "builtin/special-ranges"),
        ("addr.self", "builtin/own-endpoints"),
        ("name.invalid", "builtin/names"),
        ("capability.absent", "builtin/outbound-only"),
        ("quota.sockets", "limits"),
        ("rule.no_match", "default-deny"),
    ] {
        let value = denied(denial(Attempt::Connect, reason));
        assert_eq!((&value["firewall_rule"]["uid"], &value["status_detail"]), (&json!(uid), &json!(reason)));
        assert_eq!(value["status_code"], "access-denied");
    }
    let near =
        |reason| denied(Denial { rule: Some(rule()), ..denial(Attempt::Connect, reason) })["firewall_rule"].clone();
    assert_eq!(
        near("rule.port"),
        json!({"uid": "default-deny", "name": "default-deny", "match_details": ["nearest:egress[0] https://api.example.com:443"]})
    );
    for reason in ["rule.operator_deny", "tls.sni_mismatch", "addr.outside_rule"] {
        assert_eq!(near(reason), json!({"uid": "egress[0]", "name": "https://api.example.com:443"}));
    }
}

#[test]
fn a_datagram_from_a_stranger_has_the_stranger_as_its_source() {
    let value = denied(Denial { inbound: true, ..denial(Attempt::Datagram, "rule.no_match") });
    assert_eq!(value["src_endpoint"]["ip"], "169.254.169.254");
    assert_eq!(value["dst_endpoint"]["svc_name"], "portcullis");
    assert_eq!(value["connection_info"]["direction_id"], 1);
    assert_eq!(value["observables"][0]["name"], "src_endpoint.ip");
}

#[test]
fn a_lookup_tells_every_answer_and_which_the_plugin_did_not_see() {
    let of = |answers: &[[u8; 4]], dropped: &[([u8; 4], &'static str)]| {
        let value = form(&Event::dns_lookup(plugin(), lookup(answers, dropped)));
        let numbers = numbers(&value);
        (value, [numbers[2], numbers[3], numbers[5]])
    };
    let (value, control) = of(&[[93, 184, 216, 34]], &[([10, 1, 2, 3], "addr.private")]);
    assert_eq!(control, [4, 12, 1]);
    assert_eq!(value["query"]["hostname"], "api.example.com");
    assert_eq!(value["answers"][1], json!({"rdata": "10.1.2.3", "type": "A", "class": "IN", "ttl": 60}));
    assert_eq!(value["firewall_rule"]["match_details"], json!(["dropped:10.1.2.3:addr.private"]));
    assert_eq!(value["message"], "DNS lookup answered; 1 of 2 addresses usable");
    assert!(value.get("status_detail").is_none());
    let (value, control) = of(&[], &[([127, 0, 0, 1], "addr.loopback"), ([10, 1, 2, 3], "addr.private")]);
    assert_eq!(control, [2, 2, 2]);
    assert_eq!(value["status_detail"], "addr.loopback");
    let (value, control) = of(&[[1, 1, 1, 1]], &[]);
    assert_eq!((control, &value["rcode_id"]), ([1, 1, 1], &json!(0)));
}

#[test]
fn a_lookup_that_failed_says_how() {
    let failed = |rcode, reason| form(&Event::dns_lookup(plugin(), Lookup { rcode, reason, ..lookup(&[], &[]) }));
    let value = failed(Some(2), Some("dns.cname_depth"));
    assert_eq!((&value["rcode_id"], &value["status_detail"]), (&json!(2), &json!("dns.cname_depth")));
    assert_eq!((&value["status_id"], &value["action_id"]), (&json!(2), &json!(1)));
    let value = failed(None, Some("dns.timeout"));
    assert!(value.get("rcode_id").is_none() && value.get("response_time").is_none());
    assert_eq!(failed(Some(3), None)["status_id"], 2);
    assert_eq!(
        (&failed(Some(4095), None)["rcode_id"], &failed(Some(4095), None)["rcode"]),
        (&json!(99), &json!("4095"))
    );
}

#[test]
fn bytes_datagrams_and_time_are_told_at_the_end() {
    let traffic = Traffic { bytes_out: 10, bytes_in: 32, datagrams_out: 1, datagrams_in: 2, duration_ms: 812 };
    let udp = Connection { transport: Transport::Udp, ..connection(decided()) };
    let value = form(&Event::udp_traffic(plugin(), udp, traffic));
    assert_eq!(
        value["traffic"],
        json!({"bytes_out": 10, "bytes_in": 32, "bytes": 42, "packets_out": 1, "packets_in": 2, "packets": 3})
    );
    assert_eq!(value["duration"], 812);
    assert_eq!(value["end_time"], value["time"]);
    assert_eq!(value["start_time"].as_u64().unwrap() + 812, value["end_time"].as_u64().unwrap());
}

#[test]
fn a_request_tells_its_method_path_status_and_tls_and_never_its_query() {
    let result = HttpResult {
        call: call("POST", "/v1/enrich?token=s3cret#part"),
        decided: decided(),
        connection: Some(917),
        status: Some(200),
        traffic: traffic(),
        failure: None,
        tls_version: Some("1.3"),
    };
    let value = form(&Event::http_request(plugin(), result));
    assert_eq!(
        value["http_request"],
        json!({"uid": "r-5512", "http_method": "POST",
            "url": {"scheme": "https", "hostname": "api.example.com", "port": 443, "path": "/v1/enrich"}})
    );
    assert_eq!(value["http_response"], json!({"code": 200}));
    assert_eq!(value["tls"], json!({"version": "1.3", "sni": "api.example.com"}));
    assert_eq!(value["connection_info"]["uid"], "c-000917");
    assert!(!value.to_string().contains("s3cret"));
}

#[test]
fn a_method_or_scheme_that_a_guest_made_up_is_shown_escaped() {
    let odd = HttpCall { id: 1, method: HOSTILE.to_owned(), scheme: HOSTILE.to_owned(), path: "/".to_owned() };
    let value = denied(denial(Attempt::Http(odd), "rule.scheme"));
    assert_eq!(value["activity_name"], crate::tame(HOSTILE, 64).text.as_ref());
    assert!(value["http_request"].get("http_method").is_none());
    assert_eq!(value["http_request"]["url"]["scheme"], crate::tame(HOSTILE, 64).text.as_ref());
}

#[test]
fn observe_mode_says_what_would_have_refused() {
    let observed = Decided { rule: None, observed: Some("rule.no_match"), ..decided() };
    let value = form(&Event::connect_allowed(plugin(), connection(observed)));
    assert_eq!(value["unmapped"]["egress_mode"], "observe");
    assert_eq!(value["unmapped"]["would_deny"], "rule.no_match");
    assert_eq!(value["firewall_rule"]["uid"], "observe");
    assert!(value.get("status_detail").is_none(), "it was allowed");
    let value = form(&Event::connect_allowed(plugin(), connection(decided())));
    assert!(value["unmapped"].get("egress_mode").is_none());
}

#[test]
fn a_request_to_an_address_of_version_6_has_brackets_in_its_url() {
    let destination = Destination { hostname: None, ip: Some("2001:db8::1".parse().unwrap()), port: Some(8443) };
    let value = denied(Denial { destination, ..denial(Attempt::Http(call("GET", "")), "addr.documentation") });
    assert_eq!(value["http_request"]["url"]["url_string"], "https://[2001:db8::1]:8443");
    assert_eq!(value["http_request"]["url"]["hostname"], "2001:db8::1");
}

#[test]
fn the_policy_of_the_decision_is_told_beside_the_grants_of_the_link() {
    let mut chain = Chain::new(context());
    chain.link(1, &Event::plugin_linked(plugin(), crate::samples::linked()));
    let later = Decided { policy_version: Arc::from("sha256:bb"), ..decided() };
    let record = chain.link(2, &Event::connect_allowed(plugin(), connection(later))).record;
    let value: Value = serde_json::from_slice(&record.value).unwrap();
    assert_eq!(value["policy"]["version"], "sha256:bb");
    assert!(value["policy"]["uid"].as_str().unwrap().starts_with("sha256:"));
}
