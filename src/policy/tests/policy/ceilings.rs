//! A ceiling is the most that a rule can allow: what a rule reaches past it is found where it was typed, and never allowed.

use std::net::IpAddr;

use portcullis_policy::*;
use proptest::prelude::*;

use crate::properties;
use crate::support::*;

fn line(text: &str) -> Rule {
    Rule::parse_ceiling(text).unwrap_or_else(|errors| panic!("{text}: {errors:?}"))
}

fn lines(texts: &[&str]) -> Vec<Rule> {
    texts.iter().map(|text| line(text)).collect()
}

#[test]
fn special_addresses_of_a_rule_must_be_named_by_the_ceiling() {
    for (ceiling, addresses, fits) in [
        (&["https://*.example.com"][..], &["10.0.0.0/8"][..], false),
        (&["https://*.example.com"], &["127.0.0.0/8"], false),
        (&["https://*.example.com"], &["169.254.169.254"], false),
        (&["https://*.example.com"], &["fd00::/8"], false),
        (&["https://*.example.com"], &["93.184.216.0/24"], true),
        (&["https://*.example.com", "https://10.0.0.0/8"], &["10.0.0.0/8"], true),
        (&["https://*.example.com", "https://10.0.0.0/8"], &["10.1.2.0/24", "93.184.216.0/24"], true),
        (&["https://*.example.com", "https://10.0.0.0/8"], &["10.1.2.0/24", "192.168.0.0/16"], false),
        (&["https://*.example.com", "https://10.1.0.0/16"], &["10.0.0.0/8"], false),
        (&["https://*.example.com", "https://10.0.0.0/8:8443"], &["10.0.0.0/8"], false),
        (&["https://*.example.com", "tcp://10.0.0.0/8:443"], &["10.0.0.0/8"], false),
        (&["https://10.0.0.0/8"], &["10.0.0.0/8"], false),
        (&["https://*"], &["93.184.216.0/24"], true),
        (&["https://*"], &["10.0.0.0/8"], false),
        (&["https://*.example.com", "https://0.0.0.0/0"], &["10.0.0.0/8"], false),
        (&["https://*.example.com", "https://169.254.0.0/16"], &["169.254.1.0/24"], true),
        (&["https://*.example.com", "https://169.254.0.0/16"], &["169.254.169.254"], false),
    ] {
        let rule = within("https://api.example.com", addresses);
        assert_eq!(covers(&lines(ceiling), &rule), fits, "{addresses:?} under {ceiling:?}");
        let policy = Policy::new(PolicyParts {
            rules: vec![rule],
            node_ceiling: Some(lines(ceiling)),
            consent: vec!["127.0.0.0/8".parse().unwrap(), "169.254.0.0/16".parse().unwrap()],
            ..PolicyParts::default()
        });
        assert_eq!(http(&policy, "GET https://api.example.com/").is_ok(), fits, "{addresses:?} under {ceiling:?}");
    }
}

#[test]
fn a_special_address_as_the_host_of_a_rule_must_be_named_by_the_ceiling() {
    for (ceiling, allow, fits) in [
        ("tcp://*:5432", "tcp://10.0.0.0/8:5432", false),
        ("tcp://0.0.0.0/0:5432", "tcp://10.0.0.0/8:5432", false),
        ("tcp://10.0.0.0/7:5432", "tcp://10.0.0.0/8:5432", false),
        ("tcp://10.0.0.0/8:5432", "tcp://10.0.0.0/8:5432", true),
        ("tcp://10.0.0.0/8:5432", "tcp://10.1.2.3:5432", true),
        ("tcp://10.1.0.0/16:5432", "tcp://10.0.0.0/8:5432", false),
        ("tcp://*:5432", "tcp://93.184.216.0/24:5432", true),
        ("tcp://0.0.0.0/0:5432", "tcp://93.184.216.34:5432", true),
        ("tcp://*:5432", "tcp://127.0.0.1:5432", false),
        ("tcp://169.254.0.0/16:5432", "tcp://169.254.169.254:5432", false),
        ("tcp://*:5432", "tcp://[fd00::1]:5432", false),
        ("tcp://[::/0]:5432", "tcp://[fd00::1]:5432", false),
        ("tcp://[fd00::/8]:5432", "tcp://[fd00::1]:5432", true),
    ] {
        let rule = crate::support::rule(allow);
        let ceiling = lines(&[ceiling]);
        assert_eq!(covers(&ceiling, &rule), fits, "{allow} under {ceiling:?}");
        let to = match rule.host() {
            RuleHost::Net(net) => format!("{}:5432", Host::Address(net.addr())),
            host => panic!("{host:?}"),
        };
        for mode in [Mode::Enforce, Mode::Observe] {
            let policy = Policy::new(PolicyParts {
                rules: vec![rule.clone()],
                node_ceiling: Some(ceiling.clone()),
                consent: ["127.0.0.0/8", "169.254.0.0/16", "169.254.169.254"]
                    .map(|net| parse_net(net, "consent").unwrap())
                    .into(),
                mode,
                ..PolicyParts::default()
            });
            assert_eq!(connect(&policy, &to).is_ok(), fits, "{to} under {ceiling:?}");
        }
    }
}

#[test]
fn a_special_host_that_a_ceiling_does_not_name_is_an_error_with_the_line_that_is_missing() {
    let rules = [crate::support::rule("tcp://10.9.8.0/24:5432")];
    let errors = |ceiling: &[&str]| check_rules(&rules, &[], &[], &[], &[&lines(ceiling)]);
    let (_, error) = errors(&["tcp://*:*"]).remove(0);
    assert_eq!((error.slug, error.field, error.index), ("grant_above_ceiling", "allow", None));
    assert!(error.message.contains("`10.9.8.0/24` is addr.private"), "{error}");
    assert!(error.help.unwrap().contains("\"tcp://10.9.8.0/24:5432\""));
    assert_eq!(errors(&["tcp://*:*", "tcp://10.9.8.0/24:5432"]), []);
}

#[test]
fn ports_may_be_shared_out_also_for_special_addresses() {
    let rule = within("tcp://db.example.com:5432,5500", &["10.0.0.0/8"]);
    let name = ["tcp://db.example.com:5432", "tcp://db.example.com:5500"];
    let under = |addresses: &[&str]| covers(&lines(&[&name[..], addresses].concat()), &rule);
    assert!(under(&["tcp://10.0.0.0/8:5432", "tcp://10.0.0.0/8:5500"]));
    assert!(under(&["tcp://10.0.0.0/8:*"]));
    assert!(!under(&["tcp://10.0.0.0/8:5432"]));
    let tls = within("tls://db.example.com:5432", &["10.0.0.0/8"]);
    assert!(covers(&lines(&["tcp://*.example.com:*", "tcp://10.0.0.0/8:5432"]), &tls));
    assert!(!covers(&lines(&["tcp://*.example.com:*", "tls://10.0.0.0/8:443"]), &tls));
    // A rule as a ceiling: its own `addresses` name what they name, and nothing wider.
    let above = within("https://*.example.com", &["10.0.0.0/8", "::/0", "93.184.0.0/16"]);
    let covered =
        |addresses: &[&str]| covers(std::slice::from_ref(&above), &within("https://api.example.com", addresses));
    assert!(covered(&["10.1.0.0/16"]) && covered(&["10.1.0.0/16", "93.184.216.0/24"]));
    assert!(!covered(&["fd00::/8"]) && !covered(&["1.1.1.0/24"]));
    assert!(!covers(&[above], &crate::support::rule("https://api.example.com")));
}

#[test]
fn each_address_that_a_ceiling_does_not_name_is_an_error_at_its_place_with_the_line_that_is_missing() {
    let rules = [within("https://api.example.com:443,8443", &["192.168.0.0/16", "93.184.216.0/24", "10.0.0.0/8"])];
    let (node, tenant) = (lines(&["https://*.example.com:*"]), lines(&["https://*:*", "https://10.0.0.0/8:*"]));
    let errors = |ceilings: &[&[Rule]]| check_rules(&rules, &[], &[], &[], ceilings);
    let places = |ceilings: &[&[Rule]]| {
        errors(ceilings).into_iter().map(|(_, error)| (error.slug, error.field, error.index)).collect::<Vec<_>>()
    };
    let private = |index| ("grant_above_ceiling", "addresses", Some(index));
    assert_eq!(places(&[&tenant]), [private(0)]);
    assert_eq!(places(&[&tenant, &node]), [private(0), private(2)]);
    let (_, error) = errors(&[&tenant]).remove(0);
    assert!(error.message.contains("192.168.0.0/16") && error.message.contains("addr.private"), "{error}");
    assert!(error.help.unwrap().contains("\"https://192.168.0.0/16:443,8443\""));
    assert_eq!(places(&[&lines(&["https://*.example.org:*"])]), [("grant_above_ceiling", "allow", None)]);
    assert_eq!(places(&[&lines(&["https://*:*", "https://10.0.0.0/8:*", "https://192.168.0.0/16:*"])]), []);
}

#[test]
fn observe_mode_opens_no_special_address_that_only_another_rule_of_the_name_opens() {
    let consent = vec!["127.0.0.0/8".parse().unwrap()];
    let policy = |ceiling: &[&str]| {
        Policy::new(PolicyParts {
            rules: vec![within("tcp://db.test:5432", &["10.0.0.0/8", "127.0.0.0/8"])],
            tenant_ceiling: Some(lines(ceiling)),
            mode: Mode::Observe,
            consent: consent.clone(),
            ..PolicyParts::default()
        })
    };
    let narrow = ["tcp://db.test:5432", "tcp://10.0.0.0/8:5432", "tcp://127.0.0.0/8:5432", "https://*.test"];
    let bounded = policy(&narrow);
    let granted = http(&bounded, "GET https://db.test/").unwrap();
    assert!(granted.observed().is_some());
    assert!(dial(&bounded, &granted, "93.184.216.34").is_ok());
    for inside in ["10.0.0.1", "127.0.0.1"] {
        assert_eq!(reason(dial(&bounded, &granted, inside)), "rule.ceiling", "{inside}");
        assert_eq!(reason(answer(&bounded, &granted, inside)), "rule.ceiling", "{inside}");
    }
    assert_eq!(reason(connect(&bounded, "10.0.0.1:80")), "rule.ceiling");
    let open = policy(&[&narrow[..], &["https://10.0.0.0/8"]].concat());
    let granted = http(&open, "GET https://db.test/").unwrap();
    assert!(dial(&open, &granted, "10.0.0.1").is_ok());
    assert_eq!(reason(dial(&open, &granted, "127.0.0.1")), "rule.ceiling");
}

/// One line of a ceiling or a rule with a broad host, which only a ceiling can have.
fn ceiling_line() -> impl Strategy<Value = Rule> {
    let host = prop_oneof![3 => properties::host(), 1 => Just("*".to_owned())];
    let bare = (properties::proto(), host, properties::ports()).prop_filter_map("refused", |(proto, host, ports)| {
        Rule::parse_ceiling(&format!("{proto}://{host}:{ports}")).ok()
    });
    prop_oneof![3 => bare, 1 => properties::rules()]
}

/// What was allowed, in the words of a ceiling.
struct Reached<'a> {
    protos: &'a [Proto],
    host: RuleHost,
    /// None for a lookup.
    port: Option<u16>,
    http: Option<(&'a str, &'a str)>,
    address: Option<IpAddr>,
}

impl Reached<'_> {
    fn is_spoken(&self, line: &Rule) -> bool {
        let proto = |proto: &Proto| line.proto() == *proto || line.proto() == Proto::Tcp && *proto == Proto::Tls;
        let path = |path: &str| {
            line.paths().iter().any(|own| own == path || own.ends_with('/') && path.starts_with(own.as_str()))
        };
        self.protos.iter().any(proto)
            && self.port.is_none_or(|port| line.ports().contains(port))
            && self.http.is_none_or(|(method, asked)| {
                (line.methods().is_empty() || line.methods().iter().any(|own| own == method))
                    && (line.paths().is_empty() || path(asked))
            })
    }

    fn is_host(&self, line: &Rule) -> bool {
        match (line.host(), &self.host) {
            (RuleHost::Any, _) => true,
            (RuleHost::Name(own), RuleHost::Name(name)) => own == name,
            (RuleHost::Suffix(own), RuleHost::Name(name)) => name.as_str().ends_with(&format!(".{own}")),
            (RuleHost::Net(own), RuleHost::Net(net)) => own.contains(net),
            _ => false,
        }
    }

    /// Whether a ceiling lets it happen, line by line and address by address.
    fn is_below(&self, ceiling: &[Rule]) -> bool {
        let spoken: Vec<_> = ceiling.iter().filter(|line| self.is_spoken(line)).collect();
        let holds =
            |nets: &[IpNet], address: IpAddr| nets.iter().any(|net| net.contains(&address) && part(net, address));
        let named = |address: IpAddr| {
            let named = |line: &&Rule| match line.host() {
                RuleHost::Net(net) => holds(&[*net], address),
                _ => self.is_host(line) && holds(line.addresses(), address),
            };
            spoken.iter().any(named)
        };
        let is_special = |address: &IpAddr| classify(*address) != Class::Public;
        if let RuleHost::Net(net) = &self.host
            && is_special(&net.addr())
        {
            return named(net.addr());
        }
        let special = self.address.filter(is_special).filter(|_| matches!(self.host, RuleHost::Name(_)));
        match (special, self.address) {
            (Some(address), _) => spoken.iter().any(|line| self.is_host(line)) && named(address),
            (None, Some(address)) if matches!(self.host, RuleHost::Name(_)) => spoken.iter().any(|line| {
                let nets = line.addresses();
                self.is_host(line) && (nets.is_empty() || nets.iter().any(|net| net.contains(&address)))
            }),
            _ => spoken.iter().any(|line| self.is_host(line)),
        }
    }
}

/// Whether every address of the network has the class of this one, so that who names it names the block.
fn part(net: &IpNet, address: IpAddr) -> bool {
    let class = classify(address);
    // Written down once more, so that a wrong row of the table shows.
    let v4 = "10.0.0.0/8 100.64.0.0/10 100.100.100.200/32 127.0.0.0/8 168.63.129.16/32 169.254.0.0/16 169.254.169.254/32 \
              169.254.170.2/32 169.254.170.23/32 172.16.0.0/12 192.0.0.0/24 192.0.0.192/32 192.0.2.0/24 192.31.196.0/24 \
              192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 \
              240.0.0.0/4";
    let v6 = "::1/128 ::/8 100::/64 100::/8 200::/7 400::/6 800::/5 1000::/4 2001::/23 2001:2::/48 2001:db8::/32 3fff::/20 \
              4000::/3 6000::/3 8000::/3 a000::/3 c000::/3 e000::/4 f000::/5 f800::/6 fc00::/7 fd00:ec2::254/128 \
              fd00:ec2::23/128 fd20:ce::254/128 fe00::/9 fe80::/10 fec0::/10";
    let blocks = v4.split_whitespace().chain(v6.split_whitespace());
    let blocks = blocks.map(|block| block.parse::<IpNet>().unwrap());
    // Its first address, or its last, may be that of a narrower block.
    let is_of = |block: &IpNet| [block.addr(), block.broadcast()].iter().any(|address| classify(*address) == class);
    let around = blocks.filter(|block| block.contains(&address) && is_of(block));
    around.max_by_key(IpNet::prefix_len).is_some_and(|block| block.contains(net))
}

/// What a granted request reaches. The host of a raw connection is that of the rule that allowed it.
fn reached<'a>(policy: &Policy, granted: &'a Granted, address: Option<IpAddr>) -> Option<Reached<'a>> {
    let name = |name: &Name| RuleHost::Name(name.clone());
    let rule = granted.rule().map(|rule| &policy.rules()[rule]);
    let raw = |to: std::net::SocketAddr, protos: &'static [Proto]| {
        let host = match (granted.pin(), rule.map(Rule::host)) {
            (Some((_, pinned)), Some(_)) => name(pinned),
            _ => RuleHost::Net(to.ip().into()),
        };
        Reached { protos, host, port: Some(to.port()), http: None, address: Some(to.ip()) }
    };
    const ALL: &[Proto] = &[Proto::Tcp, Proto::Udp, Proto::Tls, Proto::Http, Proto::Https];
    match granted.effect() {
        Effect::Connect(to) if rule.is_some_and(|rule| rule.proto() == Proto::Tls) => Some(raw(*to, &[Proto::Tls])),
        Effect::Connect(to) => Some(raw(*to, &[Proto::Tcp])),
        Effect::Datagram(to) => Some(raw(*to, &[Proto::Udp])),
        Effect::Lookup(own) => Some(Reached { protos: ALL, host: name(own), port: None, http: None, address: None }),
        Effect::Answer(own, at) => {
            Some(Reached { protos: ALL, host: name(own), port: None, http: None, address: Some(*at) })
        }
        Effect::Http(http) => {
            let host = match &http.host {
                Host::Name(own) => name(own),
                Host::Address(at) => RuleHost::Net((*at).into()),
            };
            let protos: &[Proto] = if http.tls { &[Proto::Https] } else { &[Proto::Http] };
            Some(Reached { protos, host, port: Some(http.port), http: Some((&http.method, &http.path)), address })
        }
        Effect::Literal(_) | Effect::ClientHello => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_allowed_is_allowed_by_each_ceiling_for_the_same_facts(
        rules in prop::collection::vec(properties::rules(), 1..5),
        ceiling in prop::collection::vec(ceiling_line(), 0..6),
        // Rules that are their own ceiling, or a part of it, so that enough is allowed.
        shared in 0_usize..5,
        observe in any::<bool>(),
        asked in properties::asked(),
        names in prop::collection::vec(properties::name(), 0..3),
        answers in prop::collection::vec(properties::any_address(), 0..3),
    ) {
        let ceiling: Vec<Rule> = ceiling.into_iter().chain(rules.iter().take(shared).cloned()).collect();
        let consent = ["127.0.0.0/8", "::1/128", "169.254.0.0/16", "169.254.169.254/32", "fe80::/10", "fd00:ec2::254/128"];
        let policy = Policy::new(PolicyParts {
            rules,
            node_ceiling: Some(ceiling.clone()),
            consent: consent.iter().map(|net| net.parse().unwrap()).collect(),
            mode: if observe { Mode::Observe } else { Mode::Enforce },
            ..PolicyParts::default()
        });
        let pins = properties::pins(&asked, &names);
        let facts = Facts { now_ms: 10, pins: &pins, exhausted: None };
        let Ok(granted) = outcome_with(&policy, &asked.request(), &facts) else { return Ok(()) };
        if let Some(reached) = reached(&policy, &granted, None) {
            prop_assert!(reached.is_below(&ceiling), "{granted:?}");
        }
        for address in answers.iter().copied().chain([address("10.1.2.3"), address("93.184.216.34")]) {
            let after = [Request::Answer { lookup: &granted, address }, Request::HttpDial { http: &granted, address }];
            for request in after {
                if let Ok(shown) = outcome_with(&policy, &request, &facts)
                    && let Some(reached) = match shown.effect() {
                        // The dial and the answers of an HTTP request are its own.
                        Effect::Connect(_) | Effect::Answer(..) if matches!(granted.effect(), Effect::Http(_)) => {
                            reached(&policy, &granted, Some(address))
                        }
                        _ => reached(&policy, &shown, Some(address)),
                    }
                {
                    prop_assert!(reached.is_below(&ceiling), "{shown:?} of {granted:?}");
                }
            }
        }
    }
}
