use portcullis_policy::*;

use crate::support::*;

fn slugs(rules: &[Rule], denies: &[&str], ceiling: Option<&[&str]>) -> Vec<(usize, &'static str)> {
    let denies: Vec<_> = denies.iter().map(|text| Rule::parse_deny(text).unwrap()).collect();
    let ceiling: Option<Vec<_>> =
        ceiling.map(|ceiling| ceiling.iter().map(|text| Rule::parse_ceiling(text).unwrap()).collect());
    let ceilings: Vec<&[Rule]> = ceiling.iter().map(Vec::as_slice).collect();
    check_rules(rules, &[], &denies, &[], &ceilings).into_iter().map(|(at, error)| (at, error.slug)).collect()
}

#[test]
fn rules_that_can_never_take_effect_are_found() {
    let rules = [rule("https://a.test"), rule("https://b.test"), rule("https://a.test:443"), rule("tcp://10.1.2.3:80")];
    assert_eq!(slugs(&rules, &[], None), [(2, "rule_duplicate")]);
    let rules = [rule("https://a.test"), rule("tcp://10.1.2.3:80"), within("https://b.test", &["10.2.0.0/16"])];
    assert_eq!(slugs(&rules, &["*.a.test", "10.1.2.3:81"], None), []);
    assert_eq!(slugs(&rules, &["*.test"], None), [(0, "grant_overridden_by_deny"), (2, "grant_overridden_by_deny")]);
    assert_eq!(
        slugs(&rules, &["10.0.0.0/8"], None),
        [(1, "grant_overridden_by_deny"), (2, "grant_overridden_by_deny")]
    );
    assert_eq!(slugs(&rules, &["udp://*", "http://a.test"], None), []);
    let rules = [rule("tcp://127.0.0.1:80"), within("https://a.test", &["10.0.0.0/8", "fe80::/10"])];
    assert_eq!(slugs(&rules, &[], None), [(0, "grant_special_range"), (1, "grant_special_range")]);
    let at = check_rules(&rules[1..], &[], &[], &[], &[]).remove(0).1;
    assert_eq!((at.field, at.index), ("addresses", Some(1)));
}

#[test]
fn a_rule_must_lie_within_every_ceiling() {
    let ceiling =
        ["https://*.example.com:443", "https://*.example.com:8000-9000", "tcp://10.0.0.0/8:*", "tcp://db.test:5432"];
    for (text, fits) in [
        ("https://a.example.com", true),
        ("https://*.a.example.com", true),
        ("https://*.example.com", true),
        ("https://example.com", false),
        ("https://a.example.com:443,8443", true),
        ("https://a.example.com:444", false),
        ("http://a.example.com:443", false),
        ("tcp://10.1.0.0/16:22", true),
        ("tls://10.1.0.0/16:22", true),
        ("udp://10.1.0.0/16:22", false),
        ("tcp://11.1.0.0/16:22", false),
        ("tls://db.test:5432", true),
    ] {
        let expected = if fits { vec![] } else { vec![(0, "grant_above_ceiling")] };
        assert_eq!(slugs(&[rule(text)], &[], Some(&ceiling)), expected, "{text}");
    }
    assert_eq!(
        slugs(&[rule("https://a.test")], &[], Some(&[])),
        [(0, "grant_above_ceiling")],
        "an empty ceiling allows nothing"
    );
}

#[test]
fn a_ceiling_with_fields_holds_for_the_fields_below() {
    let text = RuleText {
        allow: "https://a.test",
        methods: Some(vec!["GET", "PUT"]),
        paths: Some(vec!["/v1/"]),
        ..RuleText::default()
    };
    let ceiling = [rule_of(&text)];
    let below = |methods: Option<Vec<&'static str>>, paths| {
        covers(&ceiling, &rule_of(&RuleText { allow: "https://a.test", methods, paths, ..RuleText::default() }))
    };
    assert!(below(Some(vec!["GET"]), Some(vec!["/v1/a/", "/v1/b"])));
    assert!(!below(Some(vec!["GET"]), None));
    assert!(!below(None, Some(vec!["/v1/"])));
    assert!(!below(Some(vec!["POST"]), Some(vec!["/v1/"])));
    assert!(!below(Some(vec!["GET"]), Some(vec!["/v1"])));
}

#[test]
fn the_smallest_grant_allows_the_request_and_is_a_rule() {
    let get = Request::Http { method: "GET", scheme: "https", authority: "api.example.com", path: "/v1/x?q=1" };
    let item = |request: &Request<'_>, answers: &[&str]| {
        let answers: Vec<_> = answers.iter().map(|text| address(text)).collect();
        smallest(request, &answers).map(|smallest| smallest.to_string())
    };
    assert_eq!(
        item(&get, &[]).as_deref(),
        Some(r#"- { allow: "https://api.example.com", methods: ["GET"], paths: ["/v1/x"] }"#)
    );
    assert_eq!(item(&get, &["10.0.0.1", "93.184.216.34"]), item(&get, &[]), "the public answer is enough");
    assert_eq!(
        item(&get, &["10.96.0.1"]).as_deref(),
        Some(
            r#"- { allow: "https://api.example.com", methods: ["GET"], paths: ["/v1/x"], addresses: ["10.96.0.1/32"] }"#
        )
    );
    assert_eq!(item(&get, &["224.0.0.1"]), None);
    let to = Request::Connect { to: socket("127.0.0.1:80") };
    let expected = r#"- { allow: "tcp://127.0.0.1:80" }  # and of the operator: egress.consent: ["127.0.0.1/32"]"#;
    assert_eq!(item(&to, &[]).as_deref(), Some(expected));
    let to = Request::Datagram { to: socket("[2606:2800::1]:53") };
    assert_eq!(item(&to, &[]).as_deref(), Some(r#"- { allow: "udp://[2606:2800::1]:53", dns_port: true }"#));
    assert_eq!(item(&Request::Lookup { name: "OK.test" }, &[]).as_deref(), Some(r#"- { allow: "tls://ok.test" }"#));
    for request in [
        Request::Connect { to: socket("0.0.0.0:80") },
        Request::Lookup { name: "0x7f.1" },
        Request::Inbound { transport: Transport::Tcp, address: socket("0.0.0.0:80") },
        Request::Http { method: "CONNECT", scheme: "https", authority: "a.test", path: "/" },
    ] {
        assert_eq!(item(&request, &[]), None, "{request:?}");
    }
    let Ok(Host::Name(name)) = parse_host("db.test") else { panic!() };
    let item = smallest_for_name(Transport::Tcp, &name, 5432, &[address("10.1.2.3")]).unwrap();
    assert_eq!(item.to_string(), r#"- { allow: "tcp://db.test:5432", addresses: ["10.1.2.3/32"] }"#);
}

#[test]
fn the_smallest_grant_for_a_path_with_a_star_is_its_folder_and_a_rule_prints_as_it_is_typed() {
    for (path, ruled) in [("/a/b*c/d", "/a/"), ("/a/*", "/a/"), ("/*", "/"), ("/a", "/a")] {
        let request = Request::Http { method: "GET", scheme: "http", authority: "a.test", path };
        let rule = smallest(&request, &[]).unwrap().rule;
        assert_eq!(rule.paths(), [ruled.to_owned()], "{path}");
        assert!(matches!(decide(&policy_of(vec![rule]), &request, &NO_FACTS), Decision::Allow(_)), "{path}");
    }
    let seconds = std::time::Duration::from_secs;
    let text = RuleText {
        allow: "tcp://a.test:53",
        ttl: Some((seconds(5), seconds(60))),
        sni_pin: true,
        dns_port: true,
        ..RuleText::default()
    };
    assert_eq!(rule_of(&text).yaml(), r#"{ allow: "tcp://a.test:53", ttl: 5s..60s, sni_pin: true, dns_port: true }"#);
}
