//! The egress vectors that a decision alone answers, by their numbers. The runner in `tests/attack` runs them on the wire.

use portcullis_policy::*;

use crate::support::*;

const P1: &str = "93.184.216.34";

fn public() -> Policy {
    policy_of(any_public())
}

#[test]
fn a_addresses_in_every_spelling_are_refused_with_the_reason_of_their_vector() {
    for (vector, authority, reasons) in [
        ("A01", "127.0.0.1", &["addr.loopback"][..]),
        ("A04", "127.1", &["name.numeric"]),
        ("A07", "017700000001", &["name.numeric"]),
        ("A10", "0xa9fea9fe", &["name.numeric"]),
        ("A13", "[::ffff:a9fe:a9fe]", &["addr.v4_mapped"]),
        ("A16", "[fe80::1%25eth0]", &["name.invalid"]),
        ("A19", "[ok.test]", &["name.invalid"]),
        ("A22", "256.256.256.256", &["name.invalid", "name.numeric"]),
    ] {
        let refused = http(&public(), &format!("GET http://{authority}/")).unwrap_err();
        assert!(reasons.contains(&refused.reason.as_str()), "{vector}: {refused:?}");
    }
    let refused = http(&public(), "GET http://0xa9fea9fe/").unwrap_err();
    assert_eq!(refused.target.address, Some(address("169.254.169.254")), "A10: the event shows the canonical address");
}

#[test]
fn b_special_ranges_are_refused_under_a_match_all() {
    for (vector, to, reason) in [
        ("B01", "0.0.0.0:80", "addr.unspecified"),
        ("B04", "100.64.0.1:80", "addr.cgnat"),
        ("B07", "169.254.1.1:80", "addr.link_local"),
        ("B10", "168.63.129.16:80", "addr.metadata"),
        ("B13", "192.0.2.1:80", "addr.documentation"),
        ("B16", "198.18.0.1:80", "addr.benchmark"),
        ("B19", "224.0.0.1:80", "addr.multicast"),
        ("B22", "[::]:80", "addr.unspecified"),
        ("B25", "[::127.0.0.1]:80", "addr.v4_compat"),
        ("B28", "[64:ff9b:1::a9fe:a9fe]:80", "addr.nat64"),
        ("B31", "[2001:2::1]:80", "addr.benchmark"),
        ("B34", "[2002:7f00:1::1]:80", "addr.6to4"),
        ("B37", "[fc00::1]:80", "addr.ula"),
        ("B40", "[fe80::1]:80", "addr.link_local"),
    ] {
        let refused = connect(&public(), to).unwrap_err();
        assert_eq!(refused.reason.as_str(), reason, "{vector}");
        assert!(refused.step <= 4, "{vector}: {refused:?}");
    }
}

#[test]
fn b43_a_network_inside_the_private_block_grants_its_addresses() {
    let policy = policy(&["tcp://10.1.2.0/24:5432"]);
    let granted = connect(&policy, "10.1.2.3:5432").unwrap();
    assert_eq!(granted.effect(), &Effect::Connect(socket("10.1.2.3:5432")));
    assert_eq!(granted.rule(), Some(0));
    assert_eq!(reason(connect(&policy, "10.1.2.3:5433")), "rule.port");
    assert_eq!(reason(connect(&policy, "10.1.3.3:5432")), "addr.private");
}

#[test]
fn b46_a_grant_that_the_operator_denies_is_refused_at_load() {
    let deny = Rule::parse_deny("169.254.0.0/16").unwrap();
    let errors = check_rules(&[rule("tcp://169.254.169.254:80")], &[], &[deny], &[], &[]);
    assert_eq!(
        errors.iter().map(|(at, error)| (*at, error.slug)).collect::<Vec<_>>(),
        [(0, "grant_overridden_by_deny")]
    );
}

#[test]
fn c_names_match_whole_labels_in_their_canonical_form() {
    let long = format!("{}.com", vec!["a".repeat(49); 5].join("."));
    for (vector, rule, authority, expected) in [
        ("C02", "https://example.com:443", "EXAMPLE.COM", Ok("example.com")),
        ("C05", "https://example.com:443", "www.example.com", Err("rule.no_match")),
        ("C08", "https://*.example.com:443", "a.example.com", Ok("a.example.com")),
        ("C11", "https://*.example.com:443", "evil-example.com", Err("rule.no_match")),
        ("C14", "https://*.example.com:443", "*.example.com", Err("name.invalid")),
        ("C17", "https://*.example.com:443", "-a.example.com", Err("name.invalid")),
        ("C20", "https://example.com:443", "\u{435}xample.com", Err("name.invalid")),
        ("C23", "https://example.com:443", "exa\u{ad}mple.com", Err("name.invalid")),
        ("C26", "https://example.com:443", long.as_str(), Err("name.invalid")),
        ("C29", "https://example.com:443", "example.com\\@evil.test", Err("name.invalid")),
        ("C32", "https://example.com:443", "user:pw@example.com", Err("http.userinfo")),
        ("C32", "https://example.com:443", "example.com@evil.test", Err("http.userinfo")),
    ] {
        let outcome = http(&policy(&[rule]), &format!("GET https://{authority}/"));
        match (outcome, expected) {
            (Ok(granted), Ok(name)) => match granted.effect() {
                Effect::Http(target) => assert_eq!(target.host.to_string(), name, "{vector}"),
                other => panic!("{vector}: {other:?}"),
            },
            (Err(denied), Err(reason)) => {
                assert_eq!(denied.reason.as_str(), reason, "{vector}");
                assert!(!format!("{denied:?}").contains("pw"), "{vector}: a password is in {denied:?}");
            }
            (outcome, expected) => panic!("{vector}: {outcome:?}, not {expected:?}"),
        }
    }
    assert_eq!(long.len(), 253, "C26: one byte too long, with the dot at the end");
}

#[test]
fn c35_a_name_in_another_script_is_not_looked_up_and_shown_as_its_a_label() {
    for rules in [&["tcp://example.com:443"][..], &["tcp://xn--xample-2of.com:443"]] {
        let refused = lookup(&policy(rules), "\u{435}xample.com").unwrap_err();
        assert_eq!(refused.reason, Reason::RuleNoMatch);
        assert_eq!(refused.target.name.as_deref(), Some("xn--xample-2of.com"));
    }
}

#[test]
fn d01_a_connect_to_an_answer_is_allowed_by_its_pin() {
    let policy = policy(&["tcp://ok.test:443"]);
    let granted = lookup(&policy, "ok.test").unwrap();
    let shown = answer(&policy, &granted, P1).unwrap();
    let Effect::Answer(name, at) = shown.effect() else { panic!("{shown:?}") };
    let pins = [Pin { name: name.clone(), address: *at, expires_ms: 60_000, lookup: 42 }];
    let facts = Facts { now_ms: 1, pins: &pins, exhausted: None };
    let to = Request::Connect { to: socket("93.184.216.34:443") };
    let granted = outcome_with(&policy, &to, &facts).unwrap();
    assert_eq!(granted.pin().map(|(lookup, name)| (lookup, name.as_str())), Some((42, "ok.test")));
}

#[test]
fn d_lookups_and_their_answers() {
    let ok = policy(&["tcp://ok.test:443"]);
    assert_eq!(reason(lookup(&ok, "mzxw6ytboi5dcmrt.ok.test")), "rule.no_match", "D04");

    let private = policy(&["tcp://priv.test:443"]);
    let granted = lookup(&private, "priv.test").unwrap();
    assert_eq!(reason(answer(&private, &granted, "10.1.2.3")), "addr.private", "D07");

    let rebind = policy(&["https://rebind.test:443"]);
    let granted = http(&rebind, "GET https://rebind.test/").unwrap();
    assert_eq!(dial(&rebind, &granted, P1).unwrap().effect(), &Effect::Connect(socket("93.184.216.34:443")), "D10");
    assert_eq!(reason(dial(&rebind, &granted, "127.0.0.1")), "addr.loopback", "D10");

    let dns = policy(&["udp://ok.test:53"]);
    let pins = [pin("ok.test", P1, 10)];
    let facts = Facts { pins: &pins, ..NO_FACTS };
    let to = Request::Datagram { to: socket("93.184.216.34:53") };
    assert_eq!(reason(outcome_with(&dns, &to, &facts)), "rule.dns_port", "D22");

    let ranged = policy_of(vec![within("https://svc.internal.test:443", &["10.96.0.0/12"])]);
    let granted = http(&ranged, "GET https://svc.internal.test/").unwrap();
    assert!(dial(&ranged, &granted, "10.96.4.5").is_ok(), "D25");
    assert_eq!(reason(dial(&ranged, &granted, P1)), "addr.outside_rule", "D25");
    assert_eq!(reason(dial(&ranged, &granted, "10.0.0.5")), "addr.private", "D25");
}

#[test]
fn d13_a_client_hello_for_another_host_on_a_shared_address_is_refused_where_the_rule_pins_the_name() {
    let to = Request::Connect { to: socket("93.184.216.34:443") };
    let pins = [pin("ok.test", P1, 10)];
    let facts = Facts { pins: &pins, ..NO_FACTS };
    let pinned = RuleText { allow: "tcp://ok.test:443", sni_pin: true, ..RuleText::default() };
    for (rule, expected) in [
        (rule_of(&pinned), Some("tls.sni_mismatch")),
        (rule("tls://ok.test"), Some("tls.sni_mismatch")),
        (rule("tcp://ok.test:443"), None),
    ] {
        let policy = policy_of(vec![rule]);
        let connect = &outcome_with(&policy, &to, &facts).unwrap();
        assert_eq!(connect.wants_hello(), expected.is_some());
        let hello = |hello| outcome(&policy, &Request::ClientHello { connect, hello });
        assert!(hello(Hello::Name("OK.test")).is_ok());
        assert_eq!(hello(Hello::Name("other.test")).err().map(|denied| denied.reason.as_str()), expected);
    }
}

#[test]
fn d19_and_h03_an_exhausted_quota_is_the_last_reason() {
    let policy = policy(&["tcp://ok.test:443", "tcp://93.184.216.34:443"]);
    let facts = |quota| Facts { exhausted: Some(quota), ..NO_FACTS };
    let request = Request::Lookup { name: "ok.test" };
    assert_eq!(reason(outcome_with(&policy, &request, &facts(Quota::Lookups))), "quota.dns");
    let request = Request::Connect { to: socket("93.184.216.34:443") };
    assert_eq!(reason(outcome_with(&policy, &request, &facts(Quota::Connects))), "quota.connect_rate");
    let request = Request::Connect { to: socket("93.184.216.34:444") };
    assert_eq!(reason(outcome_with(&policy, &request, &facts(Quota::Sockets))), "rule.port");
}

#[test]
fn d28_a_link_local_range_needs_the_operators_consent() {
    let rules = [within("https://svc.internal.test:80", &["169.254.0.0/16"])];
    let slugs = |consent: &[IpNet]| {
        check_rules(&rules, consent, &[], &[], &[]).into_iter().map(|(_, error)| error.slug).collect::<Vec<_>>()
    };
    assert_eq!(slugs(&[]), ["grant_special_range"]);
    assert!(slugs(&["169.254.0.0/16".parse().unwrap()]).is_empty());
    assert_eq!(slugs(&["0.0.0.0/0".parse().unwrap()]), ["grant_special_range"], "a match-all is no consent to a block");
}

#[test]
fn e_sockets() {
    let tcp = policy(&["tcp://93.184.216.34:443"]);
    for at in ["127.0.0.1:8080", "0.0.0.0:8080"] {
        let request = Request::Inbound { transport: Transport::Tcp, address: socket(at) };
        let refused = outcome(&tcp, &request).unwrap_err();
        assert_eq!(refused.reason, Reason::CapabilityAbsent, "E03");
        assert_eq!(refused.target.port, Some(8080), "E03");
    }
    let udp = policy(&["udp://93.184.216.34:9000"]);
    assert_eq!(reason(datagram(&udp, "93.184.216.35:9000")), "rule.no_match", "E06");
    let request = Request::Inbound { transport: Transport::Udp, address: socket("93.184.216.35:9000") };
    assert_eq!(reason(outcome(&udp, &request)), "capability.absent", "E09");
    assert_eq!(reason(connect(&tcp, "93.184.216.34:0")), "name.port_invalid", "E12");
    assert_eq!(reason(datagram(&public(), "239.1.1.1:5000")), "addr.multicast", "E18");
    assert_eq!(reason(datagram(&public(), "255.255.255.255:9")), "addr.broadcast", "E18");
}

#[test]
fn e15_a_decision_names_the_policy_that_made_it() {
    let (before, after) = (policy(&["tcp://93.184.216.34:443"]), policy(&[]));
    assert_ne!(before.version(), after.version());
    let granted = connect(&before, "93.184.216.34:443").unwrap();
    assert_eq!(granted.policy_version(), before.version());
    assert_eq!(reason(connect(&after, "93.184.216.34:443")), "rule.no_match");
}

#[test]
fn f_http() {
    let ok = policy(&["https://ok.test:443"]);
    assert!(http(&ok, "GET https://ok.test/redirect-to-loopback").is_ok(), "F01");
    assert_eq!(reason(http(&ok, "GET http://127.0.0.1/")), "addr.loopback", "F01: the second request would be its own");
    let get = RuleText { allow: "https://ok.test:443", methods: Some(vec!["GET"]), ..RuleText::default() };
    assert_eq!(reason(http(&policy_of(vec![rule_of(&get)]), "POST https://ok.test/")), "http.method", "F10");
    assert_eq!(reason(http(&ok, "GET http://ok.test:80/")), "rule.scheme", "F13");
    for scheme in ["ftp", "file", "unix"] {
        let refused = http(&ok, &format!("GET {scheme}://ok.test/")).unwrap_err();
        assert_eq!(refused.reason, Reason::RuleScheme, "F25");
        assert_eq!(refused.target.name.as_deref(), Some("ok.test"), "F25");
    }
}

#[test]
fn j_configuration_that_is_refused() {
    for (vector, allow, slug, suggestion) in [
        ("J01", "*", "match_all", ""),
        ("J04", "https://*example.com", "wildcard_partial", ""),
        ("J07", "https://*.com", "public_suffix", ""),
        ("J10", "https://EXAMPLE.com.", "non_canonical", "https://example.com"),
        ("J13", "https://example.com:0", "port_invalid", ""),
        ("J16", "tcp://0x7f000001:80", "address_noncanonical", "127.0.0.1"),
        ("J19", "tcp://[::ffff:10.0.0.1]:80", "address_embedding", ""),
        ("J22", "https://*.127.0.0.1", "wildcard_address", ""),
    ] {
        let errors = Rule::parse(&RuleText { allow, ..RuleText::default() }).unwrap_err();
        let slugs: Vec<_> = errors.iter().map(|error| error.slug).collect();
        assert_eq!(slugs, [slug], "{vector}: {errors:?}");
        assert!(errors[0].message.contains(suggestion), "{vector}: {errors:?}");
    }
}
