use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::{Decision, Facts, Granted, Hello, Host, Pin, Policy, PolicyParts, Request, RuleText, decide, parse_host};

const PATHS: [&str; 12] =
    ["/", "/a", "/a/", "/a/b", "/a/b/", "/a/b/c", "/ab", "/ab/", "/a-", "/a-/", "/b/", "/a/b/c/d/"];
const ASKED_PATHS: [&str; 14] =
    ["/", "/a", "/a/", "/a/b", "/a/b/", "/a/b/c", "/a/b/c/d/e", "/ab", "/ab/x", "/a-", "/a-/x", "/a.", "/b", "/zz/top"];
const NETS: [&str; 6] = ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "93.184.216.0/24", "93.184.0.0/16", "fd00::/8"];
const ADDRESSES: [&str; 7] = ["10.1.2.3", "10.1.9.9", "10.9.9.9", "93.184.216.34", "93.184.1.1", "1.1.1.1", "fd00::1"];

/// One by one, which is what the others must agree with.
const LINEAR: Sizes = Sizes { few: usize::MAX, narrow: 0, wide: 1 };

const OTHERS: [Sizes; 4] = [
    Sizes::USUAL,
    Sizes { few: 0, narrow: Chunk::<1>::ROOM, wide: Chunk::<16>::ROOM },
    Sizes { few: 0, narrow: 0, wide: Chunk::<16>::ROOM },
    // Several chunks for the rules of one host.
    Sizes { few: 0, narrow: 0, wide: 3 },
];

fn some_of(all: &'static [&'static str]) -> impl Strategy<Value = Option<Vec<&'static str>>> {
    let some = prop::sample::subsequence(all, 1..4);
    prop_oneof![1 => Just(None), 2 => some.prop_map(Some)]
}

fn rule() -> impl Strategy<Value = Rule> {
    let proto = prop::sample::select(vec!["tcp", "udp", "tls", "http", "https", "https"]);
    let host =
        prop::sample::select(vec!["a.d.test", "a.d.test", "a.d.test", "*.d.test", "10.0.0.0/8", "93.184.216.34", "*"]);
    let ports = prop::sample::select(vec!["80", "443", "53", "80,443", "1-442", "443-500", "50-60", "1-65535"]);
    let flags = (any::<bool>(), any::<bool>());
    let fields = (some_of(&["GET", "PUT", "POST"]), some_of(&PATHS), some_of(&NETS), flags);
    (proto, host, ports, fields).prop_map(|(proto, host, ports, (methods, paths, addresses, (sni_pin, dns_port)))| {
        let allow = format!("{proto}://{host}:{ports}");
        let (http, named) = (proto.starts_with("http"), !host.starts_with(['1', '9']));
        if host == "*" {
            return Rule::parse_ceiling(&allow).unwrap();
        }
        let text = RuleText {
            allow: &allow,
            methods: methods.filter(|_| http),
            paths: paths.filter(|_| http),
            addresses: addresses.filter(|_| named),
            sni_pin: sni_pin && proto == "tcp" && named,
            dns_port: dns_port && !http,
            dangerous: true,
            ..RuleText::default()
        };
        Rule::parse(&text).unwrap()
    })
}

fn policy(rules: &[Rule], ceiling: Option<&[Rule]>, sizes: Sizes) -> Policy {
    let parts =
        PolicyParts { rules: rules.to_vec(), node_ceiling: ceiling.map(<[Rule]>::to_vec), ..PolicyParts::default() };
    Policy::with_sizes(parts, sizes)
}

/// Everything that is decided about requests to the hosts of the rules, in words.
fn decisions(policy: &Policy) -> Vec<String> {
    let mut all = Vec::new();
    let mut ask = |request: &Request<'_>, facts: &Facts<'_>| -> Option<Granted> {
        let decision = decide(policy, request, facts);
        all.push(format!("{request:?}: {decision:?}"));
        if let Decision::Allow(granted) = decision { Some(granted) } else { None }
    };
    let none = Facts { now_ms: 10, pins: &[], exhausted: None };
    for name in ["a.d.test", "b.d.test", "none.example", "10.1.2.3"] {
        let Some(lookup) = ask(&Request::Lookup { name }, &none) else { continue };
        for address in ADDRESSES {
            ask(&Request::Answer { lookup: &lookup, address: address.parse().unwrap() }, &none);
        }
    }
    for (scheme, host, method, path) in ASKED_PATHS.iter().enumerate().flat_map(|(turn, path)| {
        let method = ["GET", "PUT", "DELETE"][turn % 3];
        [
            ("https", "a.d.test", method, path),
            ("http", "a.d.test:443", method, path),
            ("https", "b.d.test:53", method, path),
            ("https", "10.1.2.3", method, path),
            ("http", "93.184.216.34", method, path),
        ]
    }) {
        let Some(http) = ask(&Request::Http { method, scheme, authority: host, path }, &none) else { continue };
        for address in ADDRESSES {
            ask(&Request::HttpDial { http: &http, address: address.parse().unwrap() }, &none);
        }
    }
    for (address, port) in ADDRESSES.iter().flat_map(|address| [80, 443, 53, 9000].map(|port| (address, port))) {
        let to = SocketAddr::new(address.parse().unwrap(), port);
        for (first, second) in [(0, 0), (15, 0), (15, 20), (5, 15), (5, 5)] {
            let pins: Vec<Pin> = [("b.d.test", first), ("a.d.test", second)]
                .into_iter()
                .filter_map(|(name, expires_ms)| {
                    let Ok(Host::Name(name)) = parse_host(name) else { return None };
                    Some(Pin { name, address: to.ip(), expires_ms, lookup: expires_ms.into() })
                })
                .filter(|pin| pin.expires_ms > 0)
                .collect();
            let facts = Facts { pins: &pins, ..none };
            ask(&Request::Datagram { to }, &facts);
            if let Some(connect) = ask(&Request::Connect { to }, &facts) {
                ask(&Request::ClientHello { connect: &connect, hello: Hello::Name("a.d.test") }, &none);
            }
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rules_that_are_compared_at_once_decide_as_rules_that_are_compared_one_by_one(
        rules in prop::collection::vec(rule(), 0..24),
        ceiling in prop::option::of(prop::collection::vec(rule(), 0..12)),
        shared in 0_usize..24,
    ) {
        let ceiling = ceiling.map(|ceiling| ceiling.into_iter().chain(rules.iter().take(shared).cloned()).collect::<Vec<_>>());
        let expected = decisions(&policy(&rules, ceiling.as_deref(), LINEAR));
        for sizes in OTHERS {
            let found = decisions(&policy(&rules, ceiling.as_deref(), sizes));
            for (found, expected) in found.iter().zip(&expected) {
                prop_assert_eq!(found, expected, "{:?} of {:?}", sizes, rules);
            }
            prop_assert_eq!(found.len(), expected.len());
        }
    }
}

#[test]
fn more_rules_than_share_a_word_decide_as_rules_that_are_compared_one_by_one() {
    // 2,100 rules are three chunks; every seventh is under no ceiling and every third waits for a ClientHello.
    let rules: Vec<Rule> = (0..2_100_usize)
        .map(|number| {
            let (low, high) = (1 + number % 900, 1 + number % 900 + number % 5);
            let path = format!("/{}/{}{}", number % 40, number, if number % 2 == 0 { "/" } else { "" });
            let http = number % 4 == 0;
            let allow = match number % 4 {
                0 => "https://a.d.test".to_owned(),
                1 => format!("tls://a.d.test:{low}-{high}"),
                _ => format!("tcp://a.d.test:{low}-{high}"),
            };
            let text = RuleText { allow: &allow, paths: http.then(|| vec![path.as_str()]), ..RuleText::default() };
            Rule::parse(&text).unwrap()
        })
        .collect();
    let ceiling: Vec<Rule> =
        rules.iter().enumerate().filter(|(at, _)| at % 7 != 0).map(|(_, rule)| rule.clone()).collect();
    let [linear, usual] = [LINEAR, Sizes::USUAL].map(|sizes| policy(&rules, Some(&ceiling), sizes));
    let Ok(Host::Name(name)) = parse_host("a.d.test") else { panic!() };
    let pins = [Pin { name, address: [93, 184, 216, 34].into(), expires_ms: 20, lookup: 1 }];
    let facts = Facts { now_ms: 10, pins: &pins, exhausted: None };
    for number in (0..2_100_usize).step_by(13) {
        let path = format!("/{}/{}/x", number % 40, number);
        let to = SocketAddr::new([93, 184, 216, 34].into(), u16::try_from(1 + number % 910).unwrap());
        for request in [
            Request::Http { method: "GET", scheme: "https", authority: "a.d.test", path: &path },
            Request::Http { method: "GET", scheme: "https", authority: "a.d.test", path: path.trim_end_matches("/x") },
            Request::Connect { to },
            Request::Datagram { to },
        ] {
            let of = |policy| format!("{:?}", decide(policy, &request, &facts));
            assert_eq!(of(&usual), of(&linear), "{request:?}");
        }
    }
}
