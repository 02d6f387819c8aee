use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use portcullis_policy::*;
use proptest::prelude::*;

use crate::iana::by_registry;
use crate::support::*;

pub(crate) fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a.test", "b.a.test", "c.b.a.test", "x.test", "b.example", "xn--bcher-kva.de"])
        .prop_map(str::to_owned)
}

pub(crate) fn any_address() -> impl Strategy<Value = IpAddr> {
    let near = prop::sample::select(vec![
        "10.0.0.0",
        "10.1.2.3",
        "100.64.0.0",
        "127.0.0.1",
        "169.254.169.254",
        "172.16.0.0",
        "192.168.0.1",
        "198.18.0.0",
        "224.0.0.0",
        "240.0.0.0",
        "93.184.216.34",
        "93.184.216.35",
        "::",
        "::ffff:0:0",
        "64:ff9b::",
        "100::",
        "2001::",
        "2001:db8::",
        "2002::",
        "2606:2800::1",
        "3fff::",
        "fc00::",
        "fd00:ec2::254",
        "fe80::",
        "ff00::",
    ]);
    let near = (near, -3_i8..4).prop_map(|(text, step)| match address(text) {
        IpAddr::V4(at) => Ipv4Addr::from_bits(at.to_bits().wrapping_add_signed(step.into())).into(),
        IpAddr::V6(at) => Ipv6Addr::from_bits(at.to_bits().wrapping_add_signed(step.into())).into(),
    });
    let low = (any::<u128>(), 0_u32..128).prop_map(|(bits, shift)| Ipv6Addr::from_bits(bits >> shift).into());
    prop_oneof![
        3 => near,
        1 => any::<u32>().prop_map(|bits| Ipv4Addr::from_bits(bits).into()),
        1 => any::<u128>().prop_map(|bits| Ipv6Addr::from_bits(bits).into()),
        1 => low,
    ]
}

pub(crate) fn host() -> impl Strategy<Value = String> {
    let net = (any_address(), 0_u8..=128).prop_map(|(address, len)| {
        let net = IpNet::new(address, if address.is_ipv4() { len % 33 } else { len }).unwrap().trunc();
        if address.is_ipv4() { net.to_string() } else { format!("[{net}]") }
    });
    prop_oneof![3 => name(), 1 => name().prop_map(|name| format!("*.{name}")), 3 => net]
}

pub(crate) fn ports() -> impl Strategy<Value = String> {
    let port = prop::sample::select(vec![1_u16, 53, 80, 443, 444, 8080, 65_535]);
    let item = prop_oneof![
        port.clone().prop_map(|port| port.to_string()),
        (port.clone(), port).prop_map(|(a, b)| { format!("{}-{}", a.min(b), a.max(b)) })
    ];
    prop_oneof![4 => prop::collection::vec(item, 1..4).prop_map(|items| items.join(",")), 1 => Just("*".to_owned())]
}

pub(crate) fn proto() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["tcp", "udp", "tls", "http", "https"])
}

/// Rules as somebody could write them; those that are refused are left out.
pub(crate) fn rules() -> impl Strategy<Value = Rule> {
    let methods = prop::option::of(prop::sample::subsequence(vec!["GET", "POST", "PUT"], 1..3));
    let paths = prop::option::of(prop::sample::subsequence(vec!["/", "/v1/", "/v1/x", "/v2/"], 1..3));
    let addresses = prop::option::of(prop::sample::subsequence(
        vec!["10.0.0.0/8", "10.1.2.0/24", "93.184.216.0/24", "fd00::/8", "::/0", "169.254.169.254/32"],
        1..3,
    ));
    let flags = (any::<bool>(), any::<bool>(), prop::option::of((5_u64..100, 100_u64..300)));
    ((proto(), host(), ports()), methods, paths, addresses, flags).prop_filter_map(
        "refused",
        |((proto, host, ports), methods, paths, addresses, (sni_pin, dns_port, ttl))| {
            let allow = format!("{proto}://{host}:{ports}");
            let (http, named) = (proto.starts_with("http"), !host.contains('/'));
            let text = RuleText {
                allow: &allow,
                methods: methods.filter(|_| http),
                paths: paths.filter(|_| http),
                addresses: addresses.filter(|_| named),
                ttl: ttl.filter(|_| named).map(|(min, max)| (Duration::from_secs(min), Duration::from_secs(max))),
                sni_pin: sni_pin && proto == "tcp" && named,
                dns_port: dns_port && !http,
                dangerous: true,
            };
            Rule::parse(&text).ok()
        },
    )
}

fn denies() -> impl Strategy<Value = Deny> {
    let host = prop_oneof![4 => host(), 1 => Just("*".to_owned())];
    (prop::option::of(proto()), host, prop::option::of(ports())).prop_filter_map("refused", |(proto, host, ports)| {
        let proto = proto.map(|proto| format!("{proto}://")).unwrap_or_default();
        let ports = ports.map(|ports| format!(":{ports}")).unwrap_or_default();
        Rule::parse_deny(&format!("{proto}{host}{ports}")).ok()
    })
}

/// A request that owns its text.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    Connect(SocketAddr),
    Datagram(SocketAddr),
    Lookup(String),
    Http { method: &'static str, scheme: &'static str, authority: String, path: &'static str },
}

impl Asked {
    pub(crate) fn request(&self) -> Request<'_> {
        match self {
            Self::Connect(to) => Request::Connect { to: *to },
            Self::Datagram(to) => Request::Datagram { to: *to },
            Self::Lookup(name) => Request::Lookup { name },
            Self::Http { method, scheme, authority, path } => Request::Http { method, scheme, authority, path },
        }
    }
}

pub(crate) fn asked() -> impl Strategy<Value = Asked> {
    let port = || prop::sample::select(vec![0_u16, 1, 53, 80, 443, 444, 8080, 9000]);
    let to = || (any_address(), port()).prop_map(|(address, port)| SocketAddr::new(address, port));
    let host = prop_oneof![2 => name(), 1 => any_address().prop_map(|address| Host::Address(address).to_string())];
    let method = prop::sample::select(vec!["GET", "POST", "put", "CONNECT"]);
    let path = prop::sample::select(vec!["/", "/v1/x", "/v1/y", "/v2/", "/v1/../x"]);
    let http = (method, prop::sample::select(vec!["http", "https"]), host, prop::option::of(port()), path).prop_map(
        |(method, scheme, host, port, path)| {
            let authority = port.map_or(host.clone(), |port| format!("{host}:{port}"));
            Asked::Http { method, scheme, authority, path }
        },
    );
    prop_oneof![
        to().prop_map(Asked::Connect),
        to().prop_map(Asked::Datagram),
        name().prop_map(Asked::Lookup),
        any_address().prop_map(|address| Asked::Lookup(address.to_string())),
        http,
    ]
}

pub(crate) fn pins(asked: &Asked, names: &[String]) -> Vec<Pin> {
    let (Asked::Connect(to) | Asked::Datagram(to)) = asked else { return Vec::new() };
    names.iter().zip([5, 15]).map(|(name, expires)| pin(name, &to.ip().to_string(), expires)).collect()
}

fn allowed(policy: &Policy, request: &Request<'_>, facts: &Facts<'_>) -> Option<Granted> {
    outcome_with(policy, request, facts).ok()
}

/// What is allowed of a request and of what can follow it.
fn reach(policy: &Policy, asked: &Asked, names: &[String], answers: &[IpAddr]) -> Vec<String> {
    let pins = pins(asked, names);
    let facts = Facts { now_ms: 10, pins: &pins, exhausted: None };
    let Some(granted) = allowed(policy, &asked.request(), &facts) else { return Vec::new() };
    let mut reach = vec![format!("{:?}", granted.effect())];
    for address in answers {
        let answer = Request::Answer { lookup: &granted, address: *address };
        let dial = Request::HttpDial { http: &granted, address: *address };
        for request in [answer, dial] {
            reach.extend(allowed(policy, &request, &facts).map(|granted| format!("{:?}", granted.effect())));
        }
    }
    for hello in [Hello::NotTls, Hello::NoName, Hello::Name("a.test"), Hello::Name("b.a.test")] {
        let request = Request::ClientHello { connect: &granted, hello };
        reach.extend(allowed(policy, &request, &facts).map(|_| format!("{hello:?}")));
    }
    reach
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_rule_prints_as_text_that_reads_as_the_same_rule(rule in rules()) {
        let text = rule.to_string();
        let addresses: Vec<_> = rule.addresses().iter().map(ToString::to_string).collect();
        let strings = |items: &[String]| (!items.is_empty()).then(|| items.to_vec());
        let (methods, paths) = (strings(rule.methods()), strings(rule.paths()));
        let again = Rule::parse(&RuleText {
            allow: &text,
            methods: methods.as_ref().map(|items| items.iter().map(String::as_str).collect()),
            paths: paths.as_ref().map(|items| items.iter().map(String::as_str).collect()),
            addresses: (!addresses.is_empty()).then(|| addresses.iter().map(String::as_str).collect()),
            ttl: rule.ttl(),
            sni_pin: rule.sni_pin(),
            dns_port: rule.dns_port(),
            dangerous: rule.dangerous(),
        });
        prop_assert_eq!(again, Ok(rule));
    }

    #[test]
    fn a_deny_prints_as_text_that_reads_as_the_same_deny(deny in denies()) {
        prop_assert_eq!(Rule::parse_deny(&deny.to_string()), Ok(deny));
    }

    #[test]
    fn fewer_allows_and_more_denies_never_allow_more(
        all in prop::collection::vec(rules(), 1..6),
        left_out in any::<prop::sample::Index>(),
        deny in denies(),
        asked in asked(),
        names in prop::collection::vec(name(), 0..3),
        answers in prop::collection::vec(any_address(), 0..3),
    ) {
        let full = policy_of(all.clone());
        let before = reach(&full, &asked, &names, &answers);
        let mut fewer = all.clone();
        fewer.remove(left_out.index(all.len()));
        for (less, policy) in [
            ("an allow less", policy_of(fewer)),
            ("a deny more", Policy::new(PolicyParts { rules: all.clone(), node_deny: vec![deny.clone()], ..PolicyParts::default() })),
            ("a tenant's deny more", Policy::new(PolicyParts { rules: all.clone(), tenant_deny: vec![deny], ..PolicyParts::default() })),
            ("a ceiling more", Policy::new(PolicyParts { node_ceiling: Some(all[..1].to_vec()), rules: all, ..PolicyParts::default() })),
        ] {
            for effect in reach(&policy, &asked, &names, &answers) {
                // A plain rule less can leave one that waits for a ClientHello: the connection then may begin with less.
                prop_assert!(before.contains(&effect), "{less}: {effect} of {asked:?}");
            }
        }
    }

    #[test]
    fn explain_decides_as_decide_does(all in prop::collection::vec(rules(), 0..6), asked in asked(), names in prop::collection::vec(name(), 0..3)) {
        let policy = policy_of(all);
        let pins = pins(&asked, &names);
        let facts = Facts { now_ms: 10, pins: &pins, exhausted: None };
        let (explained, steps) = explain(&policy, &asked.request(), &facts);
        let decided = decide(&policy, &asked.request(), &facts);
        prop_assert_eq!(format!("{decided:?}"), format!("{explained:?}"));
        let refused: Vec<_> = steps.iter().filter(|step| step.verdict == Verdict::Refused).map(|step| step.number).collect();
        let expected: Vec<u8> = if let Decision::Deny(denied) = decided { vec![denied.step] } else { Vec::new() };
        prop_assert_eq!(refused, expected);
    }

    #[test]
    fn a_grant_that_explain_suggests_allows_the_request(asked in asked(), now_ms in Just(0_u64)) {
        let Some(item) = smallest(&asked.request(), &[]).map(|smallest| smallest.to_string()) else { return Ok(()) };
        let field = |name: &str| {
            let (_, rest) = item.split_once(&format!("{name}: "))?;
            rest.split('"').nth(1).map(str::to_owned)
        };
        let (allow, method, path) = (field("allow").unwrap(), field("methods"), field("paths"));
        let text = RuleText {
            allow: &allow,
            methods: method.as_deref().map(|method| vec![method]),
            paths: path.as_deref().map(|path| vec![path]),
            dns_port: item.contains("dns_port: true"),
            ..RuleText::default()
        };
        let rule = Rule::parse(&text).map_err(|errors| TestCaseError::fail(format!("{item}: {errors:?}")))?;
        let consent = ["127.0.0.0/8", "::1/128", "169.254.0.0/16", "fe80::/10", "169.254.169.254/32", "fd00:ec2::254/128"];
        let consent = consent.iter().map(|net| net.parse().unwrap()).collect();
        let policy = Policy::new(PolicyParts { rules: vec![rule], consent, ..PolicyParts::default() });
        let facts = Facts { now_ms, pins: &[], exhausted: None };
        let refused = outcome_with(&policy, &asked.request(), &facts).err();
        prop_assert!(refused.is_none(), "{item}: {refused:?}");
    }

    #[test]
    fn addresses_are_classified_as_the_registries_say(address in any_address()) {
        prop_assert_eq!(classify(address).reason().map_or("", Reason::as_str), by_registry(address));
    }

    #[test]
    fn the_form_of_a_host_is_final(text in "\\PC{0,20}|[a-zA-Z0-9.-]{0,20}|[a-z]{1,5}(\\.[a-z]{1,5}){1,3}\\.?") {
        if let Ok(host) = parse_host(&text) {
            prop_assert_eq!(parse_host(&host.to_string()), Ok(host.clone()));
            if let Host::Name(name) = host {
                let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
                prop_assert!(name.as_str().bytes().all(plain) && !name.as_str().ends_with('.'));
            }
        }
    }

    #[test]
    fn the_form_of_a_path_is_final(text in "/[a-z%2e5cf./;?#\\\\]{0,12}|\\PC{0,12}") {
        if let Ok(path) = canonical_path(&text) {
            prop_assert_eq!(canonical_path(&path), Ok(path.clone()));
            prop_assert!(path.starts_with('/') && !path.contains("//") && !path.contains("/../"));
        }
    }

    #[test]
    fn no_text_of_a_guest_is_too_strange(method in "\\PC{0,8}", scheme in "\\PC{0,8}|https?", authority in "\\PC{0,30}|[a-z0-9.:@\\[\\]%]{0,30}", path in "\\PC{0,30}", name in "\\PC{0,300}") {
        let policy = policy_of(any_public());
        for request in [Request::Http { method: &method, scheme: &scheme, authority: &authority, path: &path }, Request::Lookup { name: &name }] {
            if let Decision::Deny(denied) = decide(&policy, &request, &NO_FACTS) {
                prop_assert!(denied.target.name.is_none_or(|name| name.is_ascii() && name.len() <= 253));
            }
            explain(&policy, &request, &NO_FACTS);
            smallest(&request, &[]);
        }
        prop_assert!(ascii_form(&name).len() <= 256);
    }

    #[test]
    fn no_text_of_a_rule_is_too_strange(text in "\\PC{0,40}|(https?|tcp|udp|tls)://[a-z0-9.*:/@\\[\\]%,-]{0,30}") {
        for parsed in [Rule::parse(&RuleText { allow: &text, ..RuleText::default() }), Rule::parse_ceiling(&text)] {
            if let Err(errors) = parsed {
                prop_assert!(!errors.is_empty());
            }
        }
        if let Err(errors) = Rule::parse_deny(&text) {
            prop_assert!(!errors.is_empty());
        }
    }
}
