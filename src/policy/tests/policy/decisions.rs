use std::time::Duration;

use portcullis_policy::*;

use crate::support::*;

const P1: &str = "93.184.216.34";

fn reasons(policy: &Policy, requests: &[(&str, &str)]) {
    for (request, expected) in requests {
        assert_eq!(reason(http(policy, request)), *expected, "{request}");
    }
}

#[test]
fn the_nearest_miss_names_the_reason() {
    let text = RuleText {
        allow: "https://api.test",
        methods: Some(vec!["GET"]),
        paths: Some(vec!["/v1/", "/health"]),
        ..RuleText::default()
    };
    let policy = policy_of(vec![rule_of(&text), rule("tcp://raw.test:443"), rule("http://plain.test:8080")]);
    reasons(
        &policy,
        &[
            ("POST https://api.test/v1/x", "http.method"),
            ("GET https://api.test/v2/x", "http.path"),
            ("GET https://api.test/v1", "http.path"),
            ("GET https://api.test/health/x", "http.path"),
            ("GET https://api.test:8443/v1/x", "rule.port"),
            ("GET http://api.test:443/v1/x", "rule.scheme"),
            ("GET https://raw.test/", "rule.proto"),
            ("GET https://raw.test:444/", "rule.port"),
            ("GET https://plain.test/", "rule.scheme"),
            ("GET https://none.test/", "rule.no_match"),
            ("CONNECT https://api.test/v1/x", "http.method"),
            ("trace https://api.test/v1/x", "http.method"),
            ("G\tT https://api.test/v1/x", "http.method"),
            ("GET https://api.test/v1/../x", "http.path_noncanonical"),
        ],
    );
    let granted = http(&policy, "get HTTPS://API.test:443/v1/x?q=1").unwrap();
    let Effect::Http(target) = granted.effect() else { panic!("{granted:?}") };
    assert_eq!((target.method.as_str(), target.tls, target.port, target.path.as_str()), ("GET", true, 443, "/v1/x"));
    let denied = http(&policy, "POST https://api.test/v1/x").unwrap_err();
    assert_eq!((denied.nearest, denied.step), (Some(0), 6));
}

#[test]
fn raw_sockets_miss_by_transport_port_and_pin() {
    let policy = policy(&["tcp://93.184.216.34:443", "tcp://ok.test:5432", "udp://ok.test:9000"]);
    assert_eq!(reason(datagram(&policy, "93.184.216.34:443")), "rule.proto");
    assert_eq!(reason(connect(&policy, "93.184.216.34:80")), "rule.port");
    assert_eq!(reason(connect(&policy, "93.184.216.35:5432")), "dns.unpinned");
    assert_eq!(reason(datagram(&policy, "93.184.216.35:9000")), "dns.unpinned");
    assert_eq!(reason(datagram(&policy, "93.184.216.35:5432")), "rule.no_match");
    let pins = [pin("ok.test", P1, 100)];
    let at = |now_ms, to: &str| {
        let facts = Facts { now_ms, pins: &pins, exhausted: None };
        outcome_with(&policy, &Request::Connect { to: socket(to) }, &facts)
    };
    assert!(at(99, "93.184.216.34:5432").is_ok());
    assert_eq!(reason(at(100, "93.184.216.34:5432")), "dns.pin_expired");
    assert_eq!(reason(at(99, "93.184.216.34:5433")), "rule.port");
    assert_eq!(reason(at(99, "93.184.216.34:9000")), "rule.proto");
    assert_eq!(reason(at(99, "93.184.216.35:5432")), "dns.unpinned", "a pin of another address is none");
    assert_eq!(at(100, "93.184.216.34:5432").unwrap_err().target.name.as_deref(), Some("ok.test"));
}

#[test]
fn a_name_rule_is_not_about_addresses_and_a_network_not_about_names() {
    let names = policy(&["https://ok.test"]);
    assert_eq!(reason(http(&names, "GET https://93.184.216.34/")), "dns.unpinned");
    let nets = policy(&["https://93.184.216.0/24", "tcp://93.184.216.0/24:443"]);
    assert_eq!(reason(http(&nets, "GET https://ok.test/")), "rule.no_match");
    assert_eq!(reason(lookup(&nets, "ok.test")), "rule.no_match");
    let granted = http(&nets, "GET https://93.184.216.34/").unwrap();
    assert!(dial(&nets, &granted, P1).is_ok());
    assert_eq!(
        reason(dial(&nets, &granted, "93.184.216.35")),
        "rule.no_match",
        "a literal is dialled as it was written"
    );
}

#[test]
fn a_lookup_of_an_address_is_answered_as_it_is_where_a_rule_covers_it() {
    let policy = policy(&["udp://10.1.2.0/24:9000", "https://[2606:2800::1]"]);
    assert_eq!(lookup(&policy, "10.1.2.3").unwrap().effect(), &Effect::Literal(address("10.1.2.3")));
    assert!(lookup(&policy, "2606:2800:0::1").is_ok());
    assert_eq!(reason(lookup(&policy, "10.1.3.3")), "addr.private");
    assert_eq!(reason(lookup(&policy, P1)), "rule.no_match");
    assert_eq!(reason(lookup(&policy, "127.0.0.1")), "addr.loopback");
    assert_eq!(reason(lookup(&policy, "[2606:2800::1]")), "name.invalid");
    assert_eq!(reason(lookup(&policy, "fe80::1%1")), "name.invalid");
}

#[test]
fn a_match_all_beside_an_explicit_private_rule_does_not_widen_it() {
    let policy = policy_of(vec![dangerous("tcp://0.0.0.0/0:*"), rule("tcp://10.1.2.0/24:5432")]);
    assert_eq!(connect(&policy, "10.1.2.3:5432").unwrap().rule(), Some(1));
    assert_eq!(reason(connect(&policy, "10.1.2.3:80")), "rule.port");
    assert_eq!(reason(connect(&policy, "10.9.9.9:5432")), "addr.private");
}

#[test]
fn loopback_link_local_and_metadata_need_consent_for_exactly_that_block() {
    let rules = || {
        vec![
            rule("tcp://127.0.0.1:80"),
            rule("tcp://169.254.0.0/16:80"),
            rule("tcp://169.254.169.254:81"),
            rule("tcp://[fe80::/10]:80"),
        ]
    };
    let consenting = |consent: &[&str]| {
        let consent = consent.iter().map(|net| net.parse().unwrap()).collect();
        Policy::new(PolicyParts { rules: rules(), consent, ..PolicyParts::default() })
    };
    for consent in [&[][..], &["0.0.0.0/0", "::/0"]] {
        let policy = consenting(consent);
        assert_eq!(reason(connect(&policy, "127.0.0.1:80")), "addr.loopback");
        assert_eq!(reason(connect(&policy, "169.254.1.1:80")), "addr.link_local");
        assert_eq!(reason(connect(&policy, "169.254.169.254:81")), "addr.metadata");
        assert_eq!(reason(connect(&policy, "[fe80::1]:80")), "addr.link_local");
    }
    let policy = consenting(&["127.0.0.0/8", "169.254.0.0/16", "fe80::/10"]);
    assert!(connect(&policy, "127.0.0.1:80").is_ok());
    assert!(connect(&policy, "169.254.1.1:80").is_ok());
    assert!(connect(&policy, "[fe80::1]:80").is_ok());
    assert_eq!(
        reason(connect(&policy, "169.254.169.254:81")),
        "addr.metadata",
        "the metadata service is a block of its own"
    );
    assert!(connect(&consenting(&["169.254.169.254/32"]), "169.254.169.254:81").is_ok());
    assert_eq!(reason(connect(&consenting(&["169.254.169.254/32"]), "169.254.169.254:80")), "rule.port");
}

#[test]
fn the_bridges_own_endpoints_are_refused_whatever_the_rules_say() {
    let Ok(Host::Name(broker)) = parse_host("kafka.internal") else { panic!() };
    let own = OwnEndpoints {
        sockets: vec![socket("10.0.0.9:9092"), socket("0.0.0.0:9600")],
        names: vec![(broker, 9092)],
        interfaces: vec![address("10.0.0.5"), address("93.184.216.40")],
    };
    let rules = ["tcp://10.0.0.0/24:*", "https://kafka.internal:9092", "tcp://127.0.0.1:*", "https://other.test"];
    let rules = rules.iter().map(|text| dangerous(text)).collect();
    let consent = vec!["127.0.0.0/8".parse().unwrap()];
    let policy = Policy::new(PolicyParts { rules, own, consent, ..PolicyParts::default() });
    for to in ["10.0.0.9:9092", "10.0.0.5:1", "93.184.216.40:443", "127.0.0.1:9600"] {
        assert_eq!(reason(connect(&policy, to)), "addr.self", "{to}");
    }
    assert!(connect(&policy, "10.0.0.9:9093").is_ok());
    assert!(connect(&policy, "127.0.0.1:9601").is_ok());
    assert_eq!(reason(http(&policy, "GET https://kafka.internal:9092/")), "addr.self");
    let granted = http(&policy, "GET https://other.test/").unwrap();
    assert_eq!(reason(dial(&policy, &granted, "93.184.216.40")), "addr.self");
    let moved = policy.with_own(OwnEndpoints::default());
    assert!(connect(&moved, "10.0.0.9:9092").is_ok());
    assert_eq!(moved.version(), policy.version());
}

#[test]
fn an_own_endpoint_of_this_machine_is_one_at_each_of_its_loopback_addresses() {
    let rules = ["tcp://127.0.0.0/8:9092,9093", "tcp://[::1]:9092,9093", "https://svc.test:9092,9093"];
    let mut rules: Vec<_> = rules.iter().map(|text| rule(text)).collect();
    rules.push(within("tcp://svc.test:9092,9093", &["127.0.0.0/8"]));
    let consent: Vec<IpNet> = ["127.0.0.0/8", "::1/128"].iter().map(|net| net.parse().unwrap()).collect();
    let reached = |own: &str| {
        let own = OwnEndpoints {
            sockets: vec![socket(own)],
            interfaces: vec![address("10.0.0.5"), address("2606:2800::5")],
            ..OwnEndpoints::default()
        };
        let (rules, consent) = (rules.clone(), consent.clone());
        let policy = Policy::new(PolicyParts { rules, consent, own, ..PolicyParts::default() });
        let pins = [pin("svc.test", "127.0.0.7", 10)];
        let facts = Facts { pins: &pins, ..NO_FACTS };
        for to in ["127.0.0.1:9093", "127.0.0.2:9093", "[::1]:9093", "127.0.0.7:9093"] {
            let other = outcome_with(&policy, &Request::Connect { to: socket(to) }, &facts);
            assert!(other.is_ok(), "{to} is another port: {other:?}");
        }
        let to = ["127.0.0.1:9092", "127.0.0.2:9092", "127.255.255.254:9092", "[::1]:9092", "127.0.0.7:9092"];
        let decide = |to: &&str| outcome_with(&policy, &Request::Connect { to: socket(to) }, &facts);
        let refused = |to: &&str| decide(to).is_err_and(|denied| denied.reason == Reason::AddrSelf);
        to.into_iter().filter(|to| !refused(to)).map(str::to_owned).collect::<Vec<_>>()
    };
    for own in [
        "127.0.0.1:9092",
        "127.0.0.53:9092",
        "[::1]:9092",
        "0.0.0.0:9092",
        "[::]:9092",
        "10.0.0.5:9092",
        "[2606:2800::5]:9092",
        "[::ffff:127.0.0.1]:9092",
        "[::ffff:0.0.0.0]:9092",
    ] {
        assert_eq!(reached(own), Vec::<String>::new(), "the bridge has {own}");
    }
    assert_eq!(reached("93.184.216.34:9092").len(), 5, "another machine's port is nobody's here");
}

#[test]
fn an_own_endpoint_is_known_by_every_spelling_of_its_address() {
    let zone = std::net::SocketAddrV6::new("fe80::1".parse().unwrap(), 9092, 7, 3);
    let own =
        OwnEndpoints { sockets: vec![zone.into(), socket("[::ffff:93.184.216.34]:9092")], ..OwnEndpoints::default() };
    let rules = vec![rule("tcp://[fe80::/10]:9092"), rule("tcp://93.184.216.34:9092")];
    let consent = vec!["fe80::/10".parse().unwrap()];
    let policy = Policy::new(PolicyParts { rules, own, consent, ..PolicyParts::default() });
    assert_eq!(reason(connect(&policy, "[fe80::1]:9092")), "addr.self");
    assert_eq!(reason(connect(&policy, "93.184.216.34:9092")), "addr.self");
    assert!(connect(&policy, "[fe80::2]:9092").is_ok());
}

#[test]
fn the_rule_that_a_literal_misses_is_the_first_for_a_name_and_the_port() {
    let rules = [
        rule("http://a.test:80-90"),
        rule("http://b.test:1-100"),
        rule("tcp://a.test:80-90"),
        rule("tls://b.test:1-100"),
    ];
    let policy = policy_of(rules.to_vec());
    let nearest = |outcome: Result<Granted, Denied>| {
        let denied = outcome.unwrap_err();
        (denied.reason.as_str(), denied.nearest)
    };
    assert_eq!(nearest(http(&policy, "GET http://93.184.216.34:85/")), ("dns.unpinned", Some(0)));
    assert_eq!(nearest(http(&policy, "GET http://93.184.216.34:95/")), ("dns.unpinned", Some(1)));
    assert_eq!(nearest(http(&policy, "GET http://93.184.216.34:101/")), ("rule.no_match", None));
    assert_eq!(nearest(http(&policy, "GET https://93.184.216.34:85/")), ("rule.no_match", None));
    assert_eq!(nearest(http(&policy, "GET http://c.test:85/")), ("rule.no_match", None));
    assert_eq!(nearest(connect(&policy, "93.184.216.34:85")), ("dns.unpinned", Some(2)));
    assert_eq!(nearest(connect(&policy, "93.184.216.34:95")), ("dns.unpinned", Some(3)));
    assert_eq!(nearest(datagram(&policy, "93.184.216.34:85")), ("rule.no_match", None));
}

#[test]
fn a_deny_beats_every_allow() {
    let rules = || {
        vec![rule("tcp://a.test:25,443"), rule("https://a.test"), rule("tcp://10.0.0.0/8:443"), rule("https://b.test")]
    };
    let denying = |node: &[&str], tenant: &[&str]| {
        let parse = |texts: &[&str]| texts.iter().map(|text| Rule::parse_deny(text).unwrap()).collect();
        let parts = PolicyParts {
            rules: rules(),
            node_deny: parse(node),
            tenant_deny: parse(tenant),
            ..PolicyParts::default()
        };
        Policy::new(parts)
    };
    assert_eq!(reason(connect(&denying(&["10.1.0.0/16"], &[]), "10.1.2.3:443")), "rule.operator_deny");
    assert!(connect(&denying(&["10.1.0.0/16"], &[]), "10.2.2.3:443").is_ok());
    assert_eq!(connect(&denying(&["b.test"], &["tcp://*:443"]), "10.2.2.3:443").unwrap_err().nearest, Some(1));
    assert_eq!(reason(lookup(&denying(&[], &["*.test"]), "a.test")), "rule.operator_deny");
    assert!(lookup(&denying(&[], &["*.a.test"]), "a.test").is_ok(), "a suffix does not hold its apex");

    // A deny of a port or protocol leaves the lookup, and refuses what goes there.
    let port = denying(&["tcp://a.test:25"], &[]);
    assert!(lookup(&port, "a.test").is_ok());
    let pins = [pin("a.test", P1, 10)];
    let facts = Facts { pins: &pins, ..NO_FACTS };
    let to = |port| Request::Connect { to: std::net::SocketAddr::new(address(P1), port) };
    assert_eq!(reason(outcome_with(&port, &to(25), &facts)), "rule.operator_deny");
    assert!(outcome_with(&port, &to(443), &facts).is_ok());

    // A raw stream could speak HTTP, and HTTP is a stream; another scheme is neither.
    assert_eq!(reason(outcome_with(&denying(&["https://a.test"], &[]), &to(443), &facts)), "rule.operator_deny");
    assert_eq!(reason(http(&denying(&["tcp://a.test"], &[]), "GET https://a.test/")), "rule.operator_deny");
    assert!(http(&denying(&["http://a.test", "udp://a.test"], &[]), "GET https://a.test/").is_ok());

    // An answer in a denied network is not shown.
    let net = denying(&["93.184.216.0/24"], &[]);
    let granted = lookup(&net, "b.test").unwrap();
    assert_eq!(reason(answer(&net, &granted, P1)), "rule.operator_deny");
    let granted = http(&net, "GET https://b.test/").unwrap();
    assert_eq!(reason(dial(&net, &granted, P1)), "rule.operator_deny");
}

#[test]
fn port_53_needs_its_flag_on_raw_sockets() {
    let with = |dns_port| {
        policy_of(vec![rule_of(&RuleText { allow: "udp://93.184.216.34:53", dns_port, ..RuleText::default() })])
    };
    assert_eq!(reason(datagram(&with(false), "93.184.216.34:53")), "rule.dns_port");
    assert!(datagram(&with(true), "93.184.216.34:53").is_ok());
    let any = policy_of(any_public());
    assert_eq!(reason(connect(&any, "93.184.216.34:53")), "rule.dns_port");
}

#[test]
fn answers_must_fall_in_the_addresses_of_the_name() {
    let both = policy_of(vec![
        within("https://svc.test", &["10.96.0.0/12", "93.184.216.0/24"]),
        within("tcp://svc.test:5432", &["10.1.0.0/16"]),
    ]);
    let granted = lookup(&both, "svc.test").unwrap();
    for shown in ["10.96.0.1", "10.1.2.3", P1] {
        assert!(answer(&both, &granted, shown).is_ok(), "{shown}");
    }
    assert_eq!(reason(answer(&both, &granted, "10.2.0.1")), "addr.private");
    assert_eq!(reason(answer(&both, &granted, "1.1.1.1")), "addr.outside_rule");
    assert_eq!(reason(answer(&both, &granted, "::ffff:10.96.0.1")), "addr.v4_mapped");
    let granted = http(&both, "GET https://svc.test/").unwrap();
    assert!(dial(&both, &granted, "10.96.0.1").is_ok());
    assert_eq!(reason(dial(&both, &granted, "10.1.2.3")), "addr.outside_rule", "that range belongs to the other rule");
    let pins = [pin("svc.test", "10.1.2.3", 10)];
    let facts = Facts { pins: &pins, ..NO_FACTS };
    let to = |port| Request::Connect { to: std::net::SocketAddr::new(address("10.1.2.3"), port) };
    assert!(outcome_with(&both, &to(5432), &facts).is_ok());
    assert_eq!(reason(outcome_with(&both, &to(443), &facts)), "rule.proto");
}

#[test]
fn tls_rules_wait_for_a_client_hello_of_one_of_the_names_that_pin_the_address() {
    let policy = policy(&["tls://a.test", "tls://*.b.test", "tls://93.184.216.40"]);
    let pins = [pin("a.test", P1, 10), pin("x.b.test", P1, 10)];
    let facts = Facts { pins: &pins, ..NO_FACTS };
    let connect = &outcome_with(&policy, &Request::Connect { to: socket("93.184.216.34:443") }, &facts).unwrap();
    let hello = |connect, hello| outcome(&policy, &Request::ClientHello { connect, hello });
    assert_eq!(hello(connect, Hello::Name("a.test")).unwrap().rule(), Some(0));
    assert_eq!(hello(connect, Hello::Name("X.b.test")).unwrap().rule(), Some(1));
    assert_eq!(reason(hello(connect, Hello::Name("y.b.test"))), "tls.sni_mismatch");
    assert_eq!(reason(hello(connect, Hello::Name("93.184.216.34"))), "tls.sni_mismatch");
    assert_eq!(reason(hello(connect, Hello::NoName)), "tls.no_sni");
    assert_eq!(reason(hello(connect, Hello::NotTls)), "tls.not_tls");
    let literal = &crate::support::connect(&policy, "93.184.216.40:443").unwrap();
    assert!(hello(literal, Hello::NoName).is_ok(), "an address has no server name");
    assert_eq!(reason(hello(literal, Hello::Name("a.test"))), "tls.sni_mismatch");
    assert_eq!(reason(hello(literal, Hello::NotTls)), "tls.not_tls");
}

#[test]
fn observe_mode_lifts_the_allowlist_and_nothing_else() {
    let parts = || PolicyParts { rules: vec![rule("https://ok.test")], mode: Mode::Observe, ..PolicyParts::default() };
    let policy = Policy::new(parts());
    let granted = http(&policy, "POST https://other.test/x").unwrap();
    assert_eq!((granted.rule(), granted.observed()), (None, Some(Reason::RuleNoMatch)));
    assert!(dial(&policy, &granted, P1).unwrap().observed().is_some());
    assert_eq!(reason(dial(&policy, &granted, "10.0.0.1")), "addr.private");
    assert_eq!(connect(&policy, "93.184.216.34:80").unwrap().observed(), Some(Reason::RuleNoMatch));
    assert!(http(&policy, "GET https://ok.test/").unwrap().observed().is_none());
    for (request, expected) in [
        ("GET https://0x7f.1/", "name.numeric"),
        ("GET https://127.0.0.1/", "addr.loopback"),
        ("CONNECT https://ok.test/", "http.method"),
        ("GET ftp://ok.test/", "rule.scheme"),
        ("GET https://ok.test/../", "http.path_noncanonical"),
    ] {
        assert_eq!(reason(http(&policy, request)), expected, "{request}");
    }
    assert_eq!(reason(lookup(&policy, "\u{435}xample.com")), "rule.no_match", "it never reaches the resolver");
    let deny = vec![Rule::parse_deny("other.test").unwrap()];
    let denying = Policy::new(PolicyParts { node_deny: deny, ..parts() });
    assert_eq!(reason(http(&denying, "GET https://other.test/")), "rule.operator_deny");
    let ceiling = Some(vec![Rule::parse_ceiling("https://*.test:443").unwrap()]);
    let bounded = Policy::new(PolicyParts { tenant_ceiling: ceiling, ..parts() });
    assert!(http(&bounded, "GET https://other.test/").is_ok());
    assert_eq!(reason(http(&bounded, "GET https://other.example/")), "rule.ceiling");
    assert_eq!(reason(http(&bounded, "GET http://other.test/")), "rule.ceiling");
    assert!(lookup(&bounded, "other.test").is_ok());
    assert_eq!(reason(lookup(&bounded, "other.example")), "rule.ceiling");
    assert_eq!(reason(connect(&bounded, "93.184.216.34:80")), "rule.ceiling");
}

#[test]
fn a_rule_past_a_ceiling_does_not_allow() {
    let ceiling = Some(vec![Rule::parse_ceiling("https://*.test").unwrap()]);
    let rules = vec![rule("https://ok.test"), rule("https://ok.test:8443"), rule("tcp://10.0.0.0/8:1")];
    let policy = Policy::new(PolicyParts { rules, node_ceiling: ceiling, ..PolicyParts::default() });
    assert!(http(&policy, "GET https://ok.test/").is_ok());
    assert_eq!(reason(http(&policy, "GET https://ok.test:8443/")), "rule.ceiling");
    assert_eq!(reason(connect(&policy, "10.0.0.1:1")), "rule.ceiling");
}

#[test]
fn a_scope_or_a_flow_label_is_refused() {
    let policy = policy_of(vec![rule("tcp://[2606:2800::1]:80")]);
    for (flow, scope) in [(1, 0), (0, 1)] {
        let to = std::net::SocketAddrV6::new("2606:2800::1".parse().unwrap(), 80, flow, scope).into();
        assert_eq!(reason(outcome(&policy, &Request::Connect { to })), "name.invalid");
    }
    assert!(connect(&policy, "[2606:2800::1]:80").is_ok());
}

#[test]
fn a_token_for_one_effect_is_none_for_another() {
    let policy = policy(&["https://ok.test", "tcp://93.184.216.34:443"]);
    let (look, request) = (lookup(&policy, "ok.test").unwrap(), http(&policy, "GET https://ok.test/").unwrap());
    let connected = &connect(&policy, "93.184.216.34:443").unwrap();
    assert_eq!(reason(dial(&policy, &look, P1)), "rule.no_match");
    assert_eq!(reason(answer(&policy, connected, P1)), "rule.no_match");
    assert_eq!(
        reason(outcome(&policy, &Request::ClientHello { connect: &request, hello: Hello::NotTls })),
        "rule.no_match"
    );
    assert!(answer(&policy, &request, P1).is_ok());
    let hello = outcome(&policy, &Request::ClientHello { connect: connected, hello: Hello::NotTls });
    assert!(hello.is_ok(), "a rule that does not ask for TLS lets any bytes through");
}

#[test]
fn the_version_depends_on_every_part_but_the_own_endpoints() {
    let base = || PolicyParts { rules: vec![rule("https://ok.test")], ..PolicyParts::default() };
    let version = |parts| Policy::new(parts).version().to_string();
    let first = version(base());
    assert!(first.starts_with("sha256:") && first.len() == 71, "{first}");
    assert_eq!(first, version(base()));
    let get = RuleText { allow: "https://ok.test", methods: Some(vec!["GET"]), ..RuleText::default() };
    let deny = || vec![Rule::parse_deny("a.test").unwrap()];
    let others = [
        PolicyParts { rules: vec![rule_of(&get)], ..base() },
        PolicyParts { node_deny: deny(), ..base() },
        PolicyParts { tenant_deny: deny(), ..base() },
        PolicyParts { node_ceiling: Some(Vec::new()), ..base() },
        PolicyParts { tenant_ceiling: Some(Vec::new()), ..base() },
        PolicyParts { consent: vec!["127.0.0.0/8".parse().unwrap()], ..base() },
        PolicyParts { mode: Mode::Observe, ..base() },
    ];
    let mut versions: Vec<_> = others.into_iter().map(version).chain([first.clone()]).collect();
    versions.sort();
    versions.dedup();
    assert_eq!(versions.len(), 8);
    let own = OwnEndpoints { interfaces: vec![address(P1)], ..OwnEndpoints::default() };
    assert_eq!(version(PolicyParts { own, ..base() }), first);
}

#[test]
fn explain_tells_seven_steps_and_decides_the_same() {
    let policy = policy(&["https://ok.test:443"]);
    let request = Request::Http { method: "GET", scheme: "https", authority: "ok.test:8443", path: "/" };
    let (decision, steps) = explain(&policy, &request, &NO_FACTS);
    let Decision::Deny(denied) = decision else { panic!("{decision:?}") };
    assert_eq!(denied, outcome(&policy, &request).unwrap_err());
    let verdicts: Vec<_> = steps.iter().map(|step| (step.number, step.verdict)).collect();
    let mut expected: Vec<_> = (1..=5).map(|number| (number, Verdict::Passed)).collect();
    expected.extend([(6, Verdict::Refused), (7, Verdict::NotReached)]);
    assert_eq!(verdicts, expected);
    assert!(
        steps[5].detail.contains("rule.port") && steps[5].detail.contains("egress[0] `https://ok.test`"),
        "{steps:?}"
    );
}

#[test]
fn the_lowest_ttl_of_a_name_holds_for_all_of_its_rules_in_any_order() {
    let seconds = |least, most| Some((Duration::from_secs(least), Duration::from_secs(most)));
    let text = |allow, ttl| rule_of(&RuleText { allow, ttl, ..RuleText::default() });
    let rules = [
        text("https://a.test", None),
        text("tcp://a.test:5432", seconds(5, 10)),
        text("tls://*.b.test", seconds(30, 60)),
        text("tcp://c.b.test:5432", seconds(10, 90)),
    ];
    for first in 0..rules.len() {
        let mut rules = rules.to_vec();
        rules.rotate_left(first);
        let policy = policy_of(rules);
        let ttl = |host: &str| match parse_host(host) {
            Ok(Host::Name(name)) => policy.pin_ttl(&name),
            other => panic!("{other:?}"),
        };
        assert_eq!(ttl("a.test"), seconds(5, 10));
        assert_eq!(ttl("c.b.test"), seconds(10, 60));
        assert_eq!(ttl("d.b.test"), seconds(30, 60));
        assert_eq!((ttl("b.test"), ttl("none.test")), (None, None));
    }
}
