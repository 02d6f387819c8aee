use std::net::SocketAddr;

use portcullis_policy::{Deny, Mode, OwnEndpoints, PolicyParts, Rule, RuleText, Verdict};

use super::*;

fn rule(allow: &str) -> Rule {
    Rule::parse(&RuleText { allow, ..RuleText::default() }).unwrap()
}

fn parts(rules: &[&str]) -> PolicyParts {
    PolicyParts { rules: rules.iter().map(|text| rule(text)).collect(), ..PolicyParts::default() }
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// The walk of a request whose name has these addresses; with none it is not looked up.
fn go(parts: &PolicyParts, request: &str, answers: &[&str]) -> Walk {
    let policy = Policy::new(parts.clone());
    let asked = Asked::parse(request).unwrap();
    walk(Sight::new(&policy, &parts.own), &asked, |_| match answers {
        [] => Answered::Unknown,
        answers => Answered::Addresses(ips(answers)),
    })
}

fn denied(parts: &PolicyParts, request: &str, answers: &[&str]) -> (Option<Reason>, Option<&'static str>) {
    let outcome = go(parts, request, answers).outcome;
    assert!(!outcome.allowed, "{request}");
    (outcome.reason, outcome.guest_code)
}

fn stages(walk: &Walk) -> Vec<&'static str> {
    walk.stages.iter().map(|stage| stage.what).collect()
}

#[test]
fn requests_are_read_as_a_plugin_would_make_them() {
    let raw = |transport, host: &str, port| Ok(Asked::Raw { transport, host: host.to_owned(), port });
    assert_eq!(Asked::parse("tcp://a.test:443"), raw(Transport::Tcp, "a.test", 443));
    assert_eq!(Asked::parse(" udp://[2606:2800::1]:53 "), raw(Transport::Udp, "[2606:2800::1]", 53));
    assert_eq!(Asked::parse("tcp://0x7f.1:80"), raw(Transport::Tcp, "0x7f.1", 80), "the policy judges it");
    assert_eq!(Asked::parse("resolve  A.test "), Ok(Asked::Lookup { name: "A.test".to_owned() }));
    let http = |method: &str, scheme: &str, authority: &str, path: &str| {
        let own = |text: &str| text.to_owned();
        Ok(Asked::Http { method: own(method), scheme: own(scheme), authority: own(authority), path: own(path) })
    };
    assert_eq!(Asked::parse("get https://a.test?q=1"), http("get", "https", "a.test", "?q=1"));
    assert_eq!(Asked::parse("GET ftp://u@a.test:1/x#y"), http("GET", "ftp", "u@a.test:1", "/x#y"));
    for text in [
        "",
        "resolve",
        "a.test",
        "GET a.test",
        "https://a.test/",
        "tls://a.test:443",
        "tcp://a.test",
        "tcp://:80",
        "tcp://a.test:",
        "tcp://a.test:+1",
        "tcp://a.test:65536",
        "tcp://a.test:80/",
        "tcp://2606::1:80",
        "GET https://a b/",
    ] {
        assert!(Asked::parse(text).is_err(), "{text}");
    }
    assert!(Asked::parse(&"x".repeat(MAX_REQUEST_BYTES + 1)).is_err());
}

#[test]
fn a_name_is_followed_from_its_lookup_over_each_answer_to_the_connect() {
    let rules = parts(&["tcp://db.test:5432"]);
    let walked = go(&rules, "tcp://db.test:5432", &["10.1.2.3", "93.184.216.34", "93.184.216.35"]);
    assert_eq!(stages(&walked), ["lookup", "answer", "answer", "answer", "connect", "connect"]);
    assert_eq!((walked.outcome.allowed, walked.outcome.rule, walked.decisive), (true, Some(0), Some(4)));
    assert_eq!(walked.stages[1].refused, Some(Reason::AddrPrivate), "the plugin is not shown it");
    assert_eq!(
        denied(&rules, "tcp://db.test:5432", &["10.1.2.3"]),
        (Some(Reason::AddrPrivate), Some("name-unresolvable"))
    );
    assert_eq!(
        denied(&rules, "tcp://db.test:5433", &["93.184.216.34"]),
        (Some(Reason::RulePort), Some("access-denied"))
    );
    assert_eq!(
        denied(&rules, "udp://db.test:5432", &["93.184.216.34"]),
        (Some(Reason::RuleProto), Some("access-denied"))
    );
    let walked = go(&rules, "tcp://other.test:5432", &["93.184.216.34"]);
    assert_eq!(stages(&walked), ["lookup"], "nothing is asked of the network for it");
    assert_eq!(walked.outcome.guest_code, Some("permanent-resolver-failure"));
    assert_eq!(denied(&rules, "tcp://93.184.216.34:5432", &[]), (Some(Reason::DnsUnpinned), Some("access-denied")));
}

#[test]
fn without_answers_the_port_is_judged_all_the_same_and_the_missing_lookup_is_noted() {
    let mut rules = parts(&["tcp://db.test:5432"]);
    let within = RuleText { allow: "tcp://in.test:22", addresses: Some(vec!["10.96.0.0/12"]), ..RuleText::default() };
    rules.rules.push(Rule::parse(&within).unwrap());
    for request in ["tcp://db.test:5432", "tcp://in.test:22"] {
        let walked = go(&rules, request, &[]);
        assert_eq!((walked.outcome.allowed, stages(&walked)), (true, vec!["lookup", "connect"]), "{request}");
        assert!(walked.notes.iter().any(|note| note.contains("was not looked up")), "{:?}", walked.notes);
        assert!(walked.stages[1].steps[0].detail.contains("(an answer)"), "{:?}", walked.stages[1].steps);
    }
    assert_eq!(denied(&rules, "tcp://in.test:23", &[]).0, Some(Reason::RulePort));
    let walked = go(&parts(&["https://a.test"]), "GET https://a.test/", &[]);
    assert_eq!((walked.outcome.allowed, walked.notes.len(), stages(&walked)), (true, 1, vec!["request"]));
}

#[test]
fn an_http_request_is_decided_then_its_answers_then_its_dial() {
    let text = RuleText {
        allow: "https://a.test",
        methods: Some(vec!["GET"]),
        paths: Some(vec!["/v1/"]),
        ..RuleText::default()
    };
    let rules = PolicyParts { rules: vec![Rule::parse(&text).unwrap()], ..PolicyParts::default() };
    let walked = go(&rules, "GET https://a.test/v1/x?q=1", &["93.184.216.34"]);
    assert_eq!((walked.outcome.allowed, stages(&walked)), (true, vec!["request", "answer", "dial"]));
    for (request, answers, reason, code) in [
        ("GET https://a.test/v2", &[][..], Reason::HttpPath, "HTTP-request-denied"),
        ("POST https://a.test/v1/", &[], Reason::HttpMethod, "HTTP-request-denied"),
        ("GET http://a.test/v1/", &[], Reason::RuleScheme, "HTTP-request-denied"),
        ("GET https://u:p@a.test/v1/", &[], Reason::HttpUserinfo, "HTTP-request-URI-invalid"),
        ("GET https://0x7f.1/v1/", &[], Reason::NameNumeric, "HTTP-request-URI-invalid"),
        ("GET https://a.test/v1/x", &["169.254.169.254"], Reason::AddrMetadata, "destination-IP-prohibited"),
    ] {
        assert_eq!(denied(&rules, request, answers), (Some(reason), Some(code)), "{request}");
    }
    let walked = go(&parts(&["http://93.184.216.34"]), "GET http://93.184.216.34/", &[]);
    assert_eq!((walked.outcome.allowed, stages(&walked)), (true, vec!["request", "dial"]));
}

#[test]
fn the_bridges_own_endpoints_are_refused_by_address_and_by_name() {
    let Ok(Host::Name(broker)) = parse_host("broker.test") else { panic!() };
    let own = OwnEndpoints {
        sockets: vec!["127.0.0.1:9092".parse::<SocketAddr>().unwrap()],
        names: vec![(broker, 9093)],
        interfaces: ips(&["93.184.216.40"]),
    };
    let rules =
        PolicyParts { own, ..parts(&["tcp://broker.test:9093", "tcp://broker.test:80", "https://broker.test:9093"]) };
    assert_eq!(denied(&rules, "tcp://127.0.0.1:9092", &[]).0, Some(Reason::AddrSelf));
    assert_eq!(denied(&rules, "tcp://93.184.216.40:1", &[]).0, Some(Reason::AddrSelf));
    assert_eq!(denied(&rules, "tcp://broker.test:9093", &["93.184.216.34"]).0, Some(Reason::AddrSelf));
    assert_eq!(denied(&rules, "tcp://broker.test:9093", &[]).0, Some(Reason::AddrSelf));
    assert_eq!(denied(&rules, "GET https://broker.test:9093/", &[]).0, Some(Reason::AddrSelf));
    assert!(go(&rules, "tcp://broker.test:80", &["93.184.216.34"]).outcome.allowed);
}

#[test]
fn a_lookup_that_failed_is_no_refusal_of_a_rule() {
    let rules = parts(&["https://a.test", "tcp://a.test:80"]);
    let policy = Policy::new(rules.clone());
    for (request, code) in [("tcp://a.test:80", "temporary-resolver-failure"), ("GET https://a.test/", "DNS-timeout")] {
        let asked = Asked::parse(request).unwrap();
        let failed = walk(Sight::new(&policy, &rules.own), &asked, |_| {
            Answered::Failed(Reason::DnsTimeout, "temporary-resolver-failure")
        });
        let Outcome { allowed, reason, step, guest_code, .. } = failed.outcome;
        assert_eq!((allowed, reason, step, guest_code), (false, Some(Reason::DnsTimeout), None, Some(code)));
    }
}

#[test]
fn observe_mode_and_a_tls_rule_are_told() {
    let observe = PolicyParts { mode: Mode::Observe, ..parts(&[]) };
    let outcome = go(&observe, "GET https://a.test/", &["93.184.216.34"]).outcome;
    assert_eq!((outcome.allowed, outcome.reason, outcome.rule), (true, Some(Reason::RuleNoMatch), None));
    assert_eq!(denied(&observe, "GET https://a.test/", &["10.0.0.1"]).0, Some(Reason::AddrPrivate));
    let walked = go(&parts(&["tls://mail.test:465"]), "tcp://mail.test:465", &["93.184.216.34"]);
    assert!(
        walked.outcome.allowed && walked.notes.iter().any(|note| note.contains("ClientHello")),
        "{:?}",
        walked.notes
    );
}

#[test]
fn the_smallest_rule_changes_the_decision_unless_a_deny_stands_against_it() {
    let deny: Vec<Deny> = vec![Rule::parse_deny("denied.test").unwrap()];
    let rules = PolicyParts { node_deny: deny, ..parts(&[]) };
    for (request, answers, grantable) in [
        ("GET https://a.test/x", &["93.184.216.34"][..], true),
        ("tcp://a.test:53", &["10.1.2.3"], true),
        ("udp://93.184.216.34:53", &[], true),
        ("resolve a.test", &[], true),
        ("GET https://denied.test/", &[], false),
        ("tcp://denied.test:1", &["93.184.216.34"], false),
    ] {
        let asked = Asked::parse(request).unwrap();
        let smallest = asked.smallest(&ips(answers)).unwrap();
        assert!(!go(&rules, request, answers).outcome.allowed);
        let mut granted = rules.clone();
        granted.rules.push(smallest.rule);
        assert_eq!(go(&granted, request, answers).outcome.allowed, grantable, "{request}");
    }
    for request in
        ["resolve 0x7f.1", "tcp://0.0.0.0:80", "tcp://a.test:0", "tcp://224.0.0.1:1", "CONNECT https://a.test/"]
    {
        assert_eq!(Asked::parse(request).unwrap().smallest(&[]), None, "{request}");
    }
}

#[test]
fn each_stage_tells_seven_steps_up_to_the_one_that_refused() {
    let walked = go(&parts(&["https://a.test"]), "GET https://a.test:444/", &[]);
    let verdicts: Vec<Verdict> = walked.stages[0].steps.iter().map(|step| step.verdict).collect();
    let mut expected = vec![Verdict::Passed; 5];
    expected.extend([Verdict::Refused, Verdict::NotReached]);
    assert_eq!((verdicts, walked.outcome.step), (expected, Some(6)));
}

/// What the network layer comes to with the same request: one decision after the other, each by `decide` itself. True where
/// something may be sent, else the reason of the refusal that the plugin meets.
fn decided(policy: &Policy, asked: &Asked, answers: &[IpAddr]) -> Result<(), Reason> {
    let verdict = |request: &Request<'_>, pins: &[Pin]| match decide(policy, request, &facts(pins)) {
        Decision::Allow(granted) => Ok(granted),
        Decision::Deny(denied) => Err(denied.reason),
    };
    let first_of = |tried: Vec<Result<Granted, Reason>>| {
        let refused = tried.iter().find_map(|one| one.as_ref().err().copied());
        if tried.iter().any(Result::is_ok) { Ok(()) } else { refused.map_or(Ok(()), Err) }
    };
    let shown = |lookup: &Granted| {
        let judged: Vec<_> = answers
            .iter()
            .map(|address| verdict(&Request::Answer { lookup, address: *address }, &[]).map(|_| *address))
            .collect();
        let refused = judged.iter().find_map(|one| one.as_ref().err().copied());
        let shown: Vec<IpAddr> = judged.into_iter().flatten().collect();
        if shown.is_empty() { Err(refused.unwrap_or(Reason::CapabilityAbsent)) } else { Ok(shown) }
    };
    match asked {
        Asked::Lookup { name } => {
            let lookup = verdict(&Request::Lookup { name }, &[])?;
            if matches!(lookup.effect(), Effect::Lookup(_)) { shown(&lookup).map(drop) } else { Ok(()) }
        }
        Asked::Raw { transport, host, port } => match address(host) {
            Some(ip) => verdict(&to(*transport, SocketAddr::new(ip, *port)), &[]).map(drop),
            None => {
                let lookup = verdict(&Request::Lookup { name: host }, &[])?;
                let Effect::Lookup(name) = lookup.effect() else { panic!("{host} is a name") };
                let connect = |ip| verdict(&to(*transport, SocketAddr::new(ip, *port)), &[pin_of(name, ip)]);
                first_of(shown(&lookup)?.into_iter().map(connect).collect())
            }
        },
        Asked::Http { method, scheme, authority, path } => {
            let http = verdict(&Request::Http { method, scheme, authority, path }, &[])?;
            let Effect::Http(target) = http.effect() else { panic!("{authority}: an effect of HTTP") };
            let addresses = match &target.host {
                Host::Address(ip) => vec![*ip],
                Host::Name(name) => {
                    let lookup = verdict(&Request::Lookup { name: name.as_str() }, &[]);
                    shown(&lookup.unwrap_or_else(|_| http.clone()))?
                }
            };
            let dial = |address| verdict(&Request::HttpDial { http: &http, address }, &[]);
            first_of(addresses.into_iter().map(dial).collect())
        }
    }
}

#[test]
fn what_is_explained_is_what_is_decided() {
    let policies = [
        parts(&[]),
        parts(&["https://a.test"]),
        parts(&["tcp://a.test:443", "udp://a.test:53"]),
        parts(&["tcp://93.184.216.34:443", "https://*.b.test"]),
        PolicyParts {
            node_deny: vec![Rule::parse_deny("93.184.216.0/24").unwrap()],
            ..parts(&["https://a.test", "tcp://a.test:443"])
        },
    ];
    let requests = [
        "GET https://a.test/",
        "POST https://a.test:8443/x",
        "GET http://a.test/",
        "GET https://x.b.test/",
        "GET https://93.184.216.34/",
        "tcp://a.test:443",
        "tcp://a.test:80",
        "udp://a.test:53",
        "tcp://x.b.test:443",
        "tcp://93.184.216.34:443",
        "tcp://127.0.0.1:443",
        "tcp://169.254.169.254:80",
        "resolve a.test",
        "resolve x.b.test",
        "resolve other.test",
    ];
    let answered: [&[&str]; 4] = [
        &["93.184.216.34"],
        &["127.0.0.1"],
        &["10.0.0.1", "203.0.114.9"],
        &["169.254.169.254", "93.184.216.34", "2606:2800:220:1::1"],
    ];
    let (mut allowed, mut refused) = (0, 0);
    for (number, parts) in policies.iter().enumerate() {
        for request in requests {
            for answers in answered {
                let expected = decided(&Policy::new(parts.clone()), &Asked::parse(request).unwrap(), &ips(answers));
                let outcome = go(parts, request, answers).outcome;
                let found = if outcome.allowed { Ok(()) } else { Err(outcome.reason.unwrap()) };
                assert_eq!(found, expected, "policy {number}, {request}, {answers:?}");
                if outcome.allowed { allowed += 1 } else { refused += 1 }
            }
        }
    }
    assert!(allowed >= 25 && refused > 100, "{allowed} allowed, {refused} refused");
}
