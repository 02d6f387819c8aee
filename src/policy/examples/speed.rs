//! What a decision costs with a thousand rules: `cargo run --release -p portcullis-policy --example speed`.

use std::hint::black_box;
use std::time::Instant;

use portcullis_policy::{
    Decision, Effect, Facts, Host, Pin, Policy, PolicyParts, Request, Rule, RuleError, RuleText, decide, parse_host,
};

const RULES: usize = 1_000;
const BATCHES: u32 = 2_000;
const BATCH: u32 = 100;

fn main() {
    let policy = match policy() {
        Ok(policy) => policy,
        Err(errors) => return eprintln!("{errors:?}"),
    };
    println!("{RULES} rules for many hosts");
    let Ok(Host::Name(name)) = parse_host("h500.example.com") else { return };
    let public = std::net::IpAddr::from([93, 184, 216, 34]);
    let pins = [Pin { name, address: public, expires_ms: 10, lookup: 1 }];
    let facts = Facts { now_ms: 0, pins: &pins, exhausted: None };
    let http = |authority, path| Request::Http { method: "GET", scheme: "https", authority, path };
    let granted = http("h500.example.com", "/v1/items/17");
    let Decision::Allow(granted) = decide(&policy, &granted, &facts) else { return eprintln!("refused") };
    if !matches!(granted.effect(), Effect::Http(_)) {
        return;
    }
    for (what, request) in [
        ("http, exact name", http("h500.example.com", "/v1/items/17")),
        ("http, suffix", http("a.b.c.s401.example.org", "/v1/items/17")),
        ("http, no rule", http("a.b.c.none.example.net", "/v1/items/17")),
        ("http, path misses", http("h500.example.com", "/v2/items/17")),
        ("dial of an http request", Request::HttpDial { http: &granted, address: public }),
        ("lookup", Request::Lookup { name: "h500.example.com" }),
        ("connect, pinned", Request::Connect { to: (public, 5432).into() }),
        ("connect, network", Request::Connect { to: ([10, 1, 77, 3], 5432).into() }),
        ("connect, no rule", Request::Connect { to: ([8, 8, 8, 8], 9).into() }),
        ("connect, private", Request::Connect { to: ([192, 168, 8, 8], 9).into() }),
    ] {
        print(what, &policy, &request, &facts);
    }
    let policy = match one_host() {
        Ok(policy) => policy,
        Err(errors) => return eprintln!("{errors:?}"),
    };
    println!("{RULES} rules for one host, by path");
    let Decision::Allow(granted) = decide(&policy, &http("api.example.com", "/v1/0/x"), &facts) else { return };
    for (what, request) in [
        ("http, first rule", http("api.example.com", "/v1/0/x")),
        ("http, last rule", http("api.example.com", "/v1/999/x")),
        ("http, path misses", http("api.example.com", "/v2/")),
        ("http, port misses", http("api.example.com:444", "/v1/0/x")),
        ("http, a literal", http("93.184.216.34", "/v1/0/x")),
        ("dial of an http request", Request::HttpDial { http: &granted, address: public }),
        ("dial, private", Request::HttpDial { http: &granted, address: [10, 0, 0, 1].into() }),
        ("connect, unpinned", Request::Connect { to: (public, 443).into() }),
    ] {
        print(what, &policy, &request, &facts);
    }
    let policy = match one_host_by_port() {
        Ok(policy) => policy,
        Err(errors) => return eprintln!("{errors:?}"),
    };
    println!("{RULES} rules for one host, by port and address");
    for (what, request) in [
        ("connect, first rule", Request::Connect { to: (public, 1_000).into() }),
        ("connect, last rule", Request::Connect { to: (public, 1_999).into() }),
        ("connect, port misses", Request::Connect { to: (public, 2_000).into() }),
        ("datagram, no such rule", Request::Datagram { to: (public, 1_999).into() }),
        ("connect, other address", Request::Connect { to: ([1, 1, 1, 1], 1_500).into() }),
    ] {
        let Ok(Host::Name(name)) = parse_host("api.example.com") else { return };
        let (Request::Connect { to } | Request::Datagram { to }) = request else { return };
        let pins = [Pin { name, address: to.ip(), expires_ms: 10, lookup: 1 }];
        print(what, &policy, &request, &Facts { pins: &pins, ..facts });
    }
}

fn one_host() -> Result<Policy, Vec<RuleError>> {
    let rule = |number| {
        let path = format!("/v1/{number}/");
        let text = RuleText { allow: "https://api.example.com", paths: Some(vec![&path]), ..RuleText::default() };
        Rule::parse(&text)
    };
    let rules = (0..RULES).map(rule).collect::<Result<_, _>>()?;
    Ok(Policy::new(PolicyParts { rules, ..PolicyParts::default() }))
}

fn one_host_by_port() -> Result<Policy, Vec<RuleError>> {
    let rule = |number| {
        let (allow, own) = (format!("tcp://api.example.com:{}", 1_000 + number), format!("10.{}.0.0/16", number % 250));
        let addresses = Some(vec!["93.184.216.0/24", &own]);
        Rule::parse(&RuleText { allow: &allow, addresses, ..RuleText::default() })
    };
    let rules = (0..RULES).map(rule).collect::<Result<_, _>>()?;
    Ok(Policy::new(PolicyParts { rules, ..PolicyParts::default() }))
}

fn print(what: &str, policy: &Policy, request: &Request<'_>, facts: &Facts<'_>) {
    // The median of many short batches: a batch that another process interrupted says nothing.
    let mut batches: Vec<_> = (0..BATCHES)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..BATCH {
                black_box(decide(black_box(policy), black_box(request), black_box(facts)));
            }
            start.elapsed() / BATCH
        })
        .collect();
    batches.sort_unstable();
    let median = batches.get(batches.len() / 2).map_or(0, std::time::Duration::as_nanos);
    let allowed = matches!(decide(policy, request, facts), Decision::Allow(_));
    println!("{what:24} {median:>5} ns  allowed: {allowed}");
}

/// Names, suffixes, networks of several lengths, and denies beside them.
fn policy() -> Result<Policy, Vec<RuleError>> {
    let mut rules = Vec::new();
    for number in 0..RULES {
        let (allow, paths) = match number % 10 {
            0..=3 => (format!("https://h{number}.example.com"), Some(vec!["/health", "/v1/"])),
            4 => (format!("https://*.s{}.example.org", number - 3), None),
            5 | 6 => (format!("tcp://h{}.example.com:5432", number - 5), None),
            7 => (format!("tcp://10.{}.{}.0/24:5432", number / 250, number % 250), None),
            8 => (format!("tcp://10.200.{}.{}:80", number / 250, number % 250), None),
            _ => (format!("tcp://[2600:{number:x}::/32]:443"), None),
        };
        rules.push(Rule::parse(&RuleText { allow: &allow, paths, ..RuleText::default() })?);
    }
    let node_deny = vec![
        Rule::parse_deny("169.254.0.0/16")?,
        Rule::parse_deny("*.denied.example")?,
        Rule::parse_deny("tcp://*:25")?,
    ];
    Ok(Policy::new(PolicyParts { rules, node_deny, ..PolicyParts::default() }))
}
