use std::time::Duration;

use portcullis_policy::*;

use crate::support::*;

fn slugs(text: &RuleText<'_>) -> Vec<&'static str> {
    Rule::parse(text).map_or_else(|errors| errors.into_iter().map(|error| error.slug).collect(), |_| Vec::new())
}

fn of(allow: &str) -> Vec<&'static str> {
    slugs(&RuleText { allow, ..RuleText::default() })
}

#[test]
fn each_mistake_in_the_text_of_a_rule_has_its_slug() {
    for (allow, slug) in [
        ("*", "match_all"),
        ("*:443", "match_all"),
        ("*://*:*", "match_all"),
        ("https://*", "match_all"),
        ("https://*:443", "match_all"),
        ("tcp://0.0.0.0/0:443", "match_all"),
        ("tcp://[::/0]:443", "match_all"),
        ("tcp://128.0.0.0/1:443", "match_all"),
        ("tcp://[2000::/3]:443", "match_all"),
        ("tcp://10.0.0.1:*", "port_any"),
        ("tcp://10.0.0.1:1-65535", "port_any"),
        ("https://*example.com", "wildcard_partial"),
        ("https://a*.example.com", "wildcard_partial"),
        ("https://a.*.com", "wildcard_partial"),
        ("https://*.*.com", "wildcard_partial"),
        ("https://**.example.com", "wildcard_partial"),
        ("https://*.10.0.0.0/8", "wildcard_address"),
        ("https://*.[::1]", "wildcard_address"),
        ("https://*.0x7f.1", "wildcard_address"),
        ("https://*.com", "public_suffix"),
        ("https://*.co.uk", "public_suffix"),
        ("https://*.github.io", "public_suffix"),
        ("https://*.corp", "public_suffix"),
        ("https://EXAMPLE.com", "non_canonical"),
        ("https://*.Example.com", "non_canonical"),
        ("https://example.com.", "non_canonical"),
        ("HTTPS://example.com", "non_canonical"),
        ("https://b\u{fc}cher.de", "non_canonical"),
        ("https://example.com:", "port_invalid"),
        ("https://example.com:0", "port_invalid"),
        ("https://example.com:65536", "port_invalid"),
        ("https://example.com:+443", "port_invalid"),
        ("https://example.com:0443", "port_invalid"),
        ("https://example.com:80,", "port_invalid"),
        ("https://example.com:9-8", "port_invalid"),
        ("https://example.com:80-", "port_invalid"),
        ("tcp://example.com", "port_missing"),
        ("udp://10.0.0.1", "port_missing"),
        ("ftp://example.com", "scheme_unknown"),
        ("://example.com", "scheme_unknown"),
        ("example.com:443", "scheme_unknown"),
        ("tcp://127.1:80", "address_noncanonical"),
        ("tcp://010.0.0.1:80", "address_noncanonical"),
        ("tcp://10.0.0.1.:80", "address_noncanonical"),
        ("tcp://256.1.1.1:80", "address_noncanonical"),
        ("tcp://2606:2800::1:80", "address_noncanonical"),
        ("tcp://[2606:2800:0::1]:80", "address_noncanonical"),
        ("tcp://[2606:AA::1]:80", "address_noncanonical"),
        ("tcp://[10.0.0.1]:80", "address_noncanonical"),
        ("tcp://[fe80::1%eth0]:80", "address_noncanonical"),
        ("tcp://10.0.0.0/33:80", "address_noncanonical"),
        ("tcp://10.0.0.0/08:80", "address_noncanonical"),
        ("tcp://[::ffff:10.0.0.1]:80", "address_embedding"),
        ("tcp://[::10.0.0.1]:80", "address_embedding"),
        ("tcp://[64:ff9b::/96]:80", "address_embedding"),
        ("tcp://[2002::/16]:80", "address_embedding"),
        ("tcp://[2001::/32]:80", "address_embedding"),
        ("tcp://0.0.0.0:80", "address_hard"),
        ("tcp://[::]:80", "address_hard"),
        ("udp://224.0.0.0/4:80", "address_hard"),
        ("udp://255.255.255.255:80", "address_hard"),
        ("tcp://10.1.2.3/24:80", "cidr_host_bits"),
        ("tcp://[fd00::1/64]:80", "cidr_host_bits"),
        ("https://-a.com", "name_invalid"),
        ("https://a..b", "name_invalid"),
        ("https://a_b.com", "name_invalid"),
        ("https://exa mple.com", "name_invalid"),
        ("https://[example.com]", "name_invalid"),
        ("https://[::1", "name_invalid"),
        ("https://xn--zzzzzzz99999.com", "name_invalid"),
        ("https://", "name_invalid"),
        ("https://*.", "name_invalid"),
        ("https://user:pw@example.com", "userinfo"),
        ("user:pw@example.com", "userinfo"),
        ("https://example.com/", "path_in_allow"),
        ("https://example.com/v1/", "path_in_allow"),
        ("https://example.com:443/v1", "path_in_allow"),
        ("https://example.com/24", "path_in_allow"),
        ("https://example.com?x", "path_in_allow"),
        ("https://1.2.3.4/v1", "path_in_allow"),
        ("tcp://localhost:80", "rule_never_matches"),
        ("https://printer.local", "rule_never_matches"),
        ("tcp://224.0.0.0/3:80", "rule_never_matches"),
    ] {
        assert!(of(allow).contains(&slug), "{allow}: {:?}, not {slug}", of(allow));
        let errors = Rule::parse(&RuleText { allow, ..RuleText::default() }).unwrap_err();
        assert!(!format!("{errors:?}").contains("pw"), "a password is in {errors:?}");
    }
}

#[test]
fn each_mistake_in_a_field_has_its_slug_and_place() {
    let base = |allow| RuleText { allow, ..RuleText::default() };
    let seconds = Duration::from_secs;
    for (text, slug, field, index) in [
        (
            RuleText { methods: Some(vec!["GET", "get"]), ..base("https://a.test") },
            "method_invalid",
            "methods",
            Some(1),
        ),
        (RuleText { methods: Some(vec!["CONNECT"]), ..base("https://a.test") }, "method_invalid", "methods", Some(0)),
        (RuleText { methods: Some(vec!["A B"]), ..base("https://a.test") }, "method_invalid", "methods", Some(0)),
        (RuleText { methods: Some(vec![]), ..base("https://a.test") }, "method_invalid", "methods", None),
        (RuleText { methods: Some(vec!["GET"]), ..base("tcp://a.test:1") }, "field_not_for_proto", "methods", None),
        (RuleText { paths: Some(vec!["/a/", "b"]), ..base("https://a.test") }, "path_invalid", "paths", Some(1)),
        (RuleText { paths: Some(vec!["/a/../"]), ..base("https://a.test") }, "path_invalid", "paths", Some(0)),
        (RuleText { paths: Some(vec!["/a?b"]), ..base("https://a.test") }, "path_invalid", "paths", Some(0)),
        (RuleText { paths: Some(vec!["/a/*"]), ..base("https://a.test") }, "path_invalid", "paths", Some(0)),
        (RuleText { paths: Some(vec!["/"]), ..base("tls://a.test") }, "field_not_for_proto", "paths", None),
        (
            RuleText { addresses: Some(vec!["10.0.0.1/8"]), ..base("https://a.test") },
            "cidr_host_bits",
            "addresses",
            Some(0),
        ),
        (
            RuleText { addresses: Some(vec!["x"]), ..base("https://a.test") },
            "address_noncanonical",
            "addresses",
            Some(0),
        ),
        (
            RuleText { addresses: Some(vec!["::ffff:0:0/96"]), ..base("https://a.test") },
            "address_embedding",
            "addresses",
            Some(0),
        ),
        (
            RuleText { addresses: Some(vec!["224.0.0.1"]), ..base("https://a.test") },
            "address_hard",
            "addresses",
            Some(0),
        ),
        (RuleText { addresses: Some(vec![]), ..base("https://a.test") }, "rule_never_matches", "addresses", None),
        (
            RuleText { addresses: Some(vec!["10.0.0.0/8"]), ..base("tcp://1.2.3.4:1") },
            "field_not_for_proto",
            "addresses",
            None,
        ),
        (RuleText { ttl: Some((seconds(1), seconds(9))), ..base("https://a.test") }, "ttl_invalid", "ttl", None),
        (RuleText { ttl: Some((seconds(9), seconds(8))), ..base("https://a.test") }, "ttl_invalid", "ttl", None),
        (RuleText { ttl: Some((seconds(9), seconds(301))), ..base("https://a.test") }, "ttl_invalid", "ttl", None),
        (
            RuleText { ttl: Some((seconds(5), seconds(9))), ..base("https://1.2.3.4") },
            "field_not_for_proto",
            "ttl",
            None,
        ),
        (RuleText { sni_pin: true, ..base("https://a.test") }, "field_not_for_proto", "sni_pin", None),
        (RuleText { sni_pin: true, ..base("tcp://1.2.3.4:1") }, "field_not_for_proto", "sni_pin", None),
        (RuleText { dns_port: true, ..base("https://a.test") }, "field_not_for_proto", "dns_port", None),
    ] {
        let errors = Rule::parse(&text).unwrap_err();
        let found: Vec<_> = errors.iter().map(|error| (error.slug, error.field, error.index)).collect();
        assert_eq!(found, [(slug, field, index)], "{text:?}");
    }
}

#[test]
fn rules_print_in_their_canonical_form() {
    for (text, printed) in [
        ("https://example.com", "https://example.com"),
        ("https://example.com:443", "https://example.com"),
        ("http://example.com:8080", "http://example.com:8080"),
        ("tls://*.example.com", "tls://*.example.com"),
        ("tcp://example.com:8000-8100,22,443,442", "tcp://example.com:22,442-443,8000-8100"),
        ("tcp://10.0.0.0/8:5432", "tcp://10.0.0.0/8:5432"),
        ("tcp://10.0.0.1/32:5432", "tcp://10.0.0.1:5432"),
        ("udp://[fd00:1::/32]:9000", "udp://[fd00:1::/32]:9000"),
        ("https://[2606:2800::1]", "https://[2606:2800::1]"),
    ] {
        assert_eq!(rule(text).to_string(), printed);
    }
    assert_eq!(dangerous("tcp://0.0.0.0/0:*").to_string(), "tcp://0.0.0.0/0:*");
    assert_eq!(dangerous("tcp://[2000::/3]:443").to_string(), "tcp://[2000::/3]:443");
}

#[test]
fn the_help_says_what_was_meant() {
    let help = |allow| {
        let errors = Rule::parse(&RuleText { allow, ..RuleText::default() }).unwrap_err();
        errors[0].help.clone().unwrap_or_default()
    };
    assert_eq!(help("https://EXAMPLE.com.:8443"), "https://example.com:8443");
    assert_eq!(help("tcp://*.Example.com:1"), "tcp://*.example.com:1");
    assert_eq!(help("https://b\u{fc}cher.de"), "https://xn--bcher-kva.de");
    assert_eq!(help("https://example.com/v1/"), "paths: [\"/v1/\"]");
    assert_eq!(help("tcp://10.1.2.3/24:80"), "10.1.2.0/24");
    assert_eq!(help("tcp://2606::1"), "[2606::1]");
}

#[test]
fn denies_may_be_broad_and_leave_out_what_they_do_not_care_about() {
    for (text, printed) in [
        ("169.254.0.0/16", "169.254.0.0/16"),
        ("fd00::/8", "[fd00::/8]"),
        ("[fd00::/8]", "[fd00::/8]"),
        ("example.com", "example.com"),
        ("*.com", "*.com"),
        ("*", "*"),
        ("*:25", "*:25"),
        ("tcp://*:25", "tcp://*:25"),
        ("https://example.com", "https://example.com"),
        ("udp://0.0.0.0/0", "udp://0.0.0.0/0"),
        ("10.0.0.0/8:22", "10.0.0.0/8:22"),
    ] {
        assert_eq!(Rule::parse_deny(text).unwrap_or_else(|errors| panic!("{text}: {errors:?}")).to_string(), printed);
    }
    for text in ["", "Example.com", "10.0.0.1/8", "a*.com", "ftp://a.test", "a.test:0", "a.test/x", "127.1", "u@a.test"]
    {
        assert!(Rule::parse_deny(text).is_err(), "{text}");
    }
}

#[test]
fn ceilings_may_be_broad() {
    for text in ["https://*.example.com:443", "tcp://0.0.0.0/0:*", "https://*:443", "https://*.com", "tcp://*:1-1024"] {
        assert!(Rule::parse_ceiling(text).is_ok(), "{text}");
    }
    for text in ["*", "tcp://a.test", "https://Example.com", "a.test:1"] {
        assert!(Rule::parse_ceiling(text).is_err(), "{text}");
    }
}

#[test]
fn the_order_of_addresses_is_that_of_the_file_and_makes_no_other_rule() {
    let rule = within("https://a.test", &["192.168.0.0/16", "10.0.0.0/8", "192.168.0.0/16"]);
    assert_eq!(rule.addresses()[0].to_string(), "192.168.0.0/16");
    assert_eq!(rule.canonical(), within("https://a.test", &["10.0.0.0/8", "192.168.0.0/16"]).canonical());
}
