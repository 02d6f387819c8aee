//! Any text as a host: of a rule, of an authority, of a lookup. What something else than this host reads as an address must
//! never pass for a name, because a name is matched by another rule and dialled by another way.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use portcullis_policy::{
    Decision, Effect, Facts, Host, Policy, PolicyParts, Request, Rule, RuleText, ascii_form, classify, decide, explain,
    parse_host, smallest,
};

/// Runs text through all that reads hosts.
pub(crate) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(host) = parse_host(text) {
        assert_eq!(parse_host(&host.to_string()).as_ref(), Ok(&host), "{text:?}");
        match &host {
            Host::Name(name) => is_name(text, name.as_str()),
            Host::Address(address) => {
                assert_eq!(standard(text).map(classify), Some(classify(*address)), "{text:?}");
                assert_eq!(standard(text), Some(*address), "{text:?}");
            }
        }
    }
    let shown = ascii_form(text);
    assert!(shown.len() <= 256 && shown.bytes().all(|byte| byte.is_ascii_graphic()), "{shown:?}");
    asked(text);
}

/// As the standard library reads an authority: IPv4 bare, IPv6 in brackets.
fn standard(text: &str) -> Option<IpAddr> {
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        None => text.parse::<Ipv4Addr>().ok().map(IpAddr::from),
    }
}

fn is_name(text: &str, name: &str) {
    assert!(text.parse::<IpAddr>().is_err() && lenient(text).is_none(), "{text:?} is an address and passed for {name}");
    assert!(name.parse::<IpAddr>().is_err() && lenient(name).is_none(), "{name:?} is an address and passed for a name");
    assert!(text.trim_end_matches('.').eq_ignore_ascii_case(name), "{text:?} became {name:?}");
    assert!(name.len() <= 252 && !name.ends_with('.'), "{name:?}");
    for label in name.split('.') {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        assert!((1..=63).contains(&label.len()) && label.bytes().all(inner), "{name:?}");
        assert!(!label.starts_with('-') && !label.ends_with('-'), "{name:?}");
    }
    let top = name.rsplit('.').next().unwrap_or(name);
    assert!(!["localhost", "localdomain", "onion", "invalid"].contains(&top), "{name:?}");
}

/// As `inet_aton` reads it: one to four numbers in three bases, the last of which fills what is left.
fn lenient(text: &str) -> Option<Ipv4Addr> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let numbers = text.split('.').map(number).collect::<Option<Vec<u64>>>()?;
    let (last, leading) = numbers.split_last()?;
    let left = 32_u32.checked_sub(8 * u32::try_from(leading.len()).ok()?).filter(|left| *left > 0)?;
    if *last >= 1 << left || leading.iter().any(|number| *number > 255) {
        return None;
    }
    let leading = leading.iter().fold(0, |bits, number| bits << 8 | number);
    Some(Ipv4Addr::from_bits(u32::try_from(leading << left | last).ok()?))
}

fn number(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let (digits, base) = match lower.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None if lower.len() > 1 && lower.starts_with('0') => (lower.get(1..)?, 8),
        None => (lower.as_str(), 10),
    };
    if digits.starts_with('+') { None } else { u64::from_str_radix(digits, base).ok() }
}

/// A guest asks for it, where the rules let through all that needs no name of its own.
fn asked(text: &str) {
    let policy = Policy::new(PolicyParts { rules: any_public(), ..PolicyParts::default() });
    let facts = Facts { now_ms: 0, pins: &[], exhausted: None };
    let http = |scheme| Request::Http { method: "GET", scheme, authority: text, path: "/" };
    for request in [Request::Lookup { name: text }, http("http"), http("https")] {
        drop(smallest(&request, &[]).map(|smallest| smallest.to_string()));
        let decided = decide(&policy, &request, &facts);
        assert_eq!(format!("{decided:?}"), format!("{:?}", explain(&policy, &request, &facts).0), "{text:?}");
        let granted = match decided {
            Decision::Deny(denied) => {
                let name = denied.target.name.unwrap_or_default();
                assert!(name.is_ascii() && name.len() <= 253, "{text:?}: {name:?}");
                continue;
            }
            Decision::Allow(granted) => granted,
        };
        let public = |address: IpAddr| assert_eq!(classify(address).reason(), None, "{text:?}");
        match granted.effect() {
            Effect::Lookup(name) => assert_eq!(parse_host(text), Ok(Host::Name(name.clone()))),
            Effect::Literal(address) => {
                assert_eq!(text.parse(), Ok(*address));
                public(*address);
            }
            Effect::Http(target) => match &target.host {
                Host::Address(address) => {
                    public(*address);
                    let shown = target.host.to_string();
                    let begins = text.get(..shown.len()).is_some_and(|start| start.eq_ignore_ascii_case(&shown));
                    let mapped = standard(text.rsplit_once(':').map_or(text, |(host, _)| host));
                    assert!(
                        begins || mapped == Some(*address) || standard(text) == Some(*address),
                        "{text:?}: {shown}"
                    );
                }
                Host::Name(name) => is_name(name.as_str(), name.as_str()),
            },
            other => panic!("{text:?} led to {other:?}"),
        }
    }
}

fn any_public() -> Vec<Rule> {
    let texts = ["http://0.0.0.0/0:*", "http://[::/0]:*", "https://0.0.0.0/0:*", "https://*.example.com"];
    let rule = |allow| Rule::parse(&RuleText { allow, dangerous: true, ..RuleText::default() });
    texts.map(|allow| rule(allow).unwrap_or_else(|errors| panic!("{allow}: {errors:?}"))).into()
}
