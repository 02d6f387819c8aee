//! Any text as a rule, a deny and a ceiling: what is taken is in its one form, and no message can fool a terminal.

use std::time::Duration;

use portcullis_policy::{
    Class, IpNet, Rule, RuleError, RuleHost, RuleText, canonical_path, check_rules, classify, covers,
};

/// The first line is the rule's text; each other line sets a field, `paths=/v1/,/x` or `sni_pin`.
pub(crate) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let allow = lines.next().unwrap_or_default();
    let mut text = RuleText { allow, ..RuleText::default() };
    for line in lines {
        let (field, value) = line.split_once('=').unwrap_or((line, ""));
        let list = || if value.is_empty() { Vec::new() } else { value.split(',').collect() };
        match field {
            "methods" => text.methods = Some(list()),
            "paths" => text.paths = Some(list()),
            "addresses" => text.addresses = Some(list()),
            "ttl" => text.ttl = value.split_once("..").and_then(|(min, max)| Some((seconds(min)?, seconds(max)?))),
            "sni_pin" => text.sni_pin = true,
            "dns_port" => text.dns_port = true,
            "dangerous" => text.dangerous = true,
            _ => {}
        }
    }
    match Rule::parse(&text) {
        Ok(rule) => taken(&text, &rule),
        Err(errors) => refused(&text, &errors),
    }
    match Rule::parse_ceiling(allow) {
        Ok(ceiling) => {
            assert_eq!(Rule::parse_ceiling(&ceiling.to_string()), Ok(ceiling.clone()));
            assert!(covers(std::slice::from_ref(&ceiling), &ceiling), "{ceiling} is not below itself");
        }
        Err(errors) => refused(&RuleText { allow, ..RuleText::default() }, &errors),
    }
    match Rule::parse_deny(allow) {
        Ok(deny) => assert_eq!(Rule::parse_deny(&deny.to_string()), Ok(deny)),
        Err(errors) => refused(&RuleText { allow, ..RuleText::default() }, &errors),
    }
}

fn seconds(text: &str) -> Option<Duration> {
    Some(Duration::from_secs(text.parse::<u16>().ok()?.into()))
}

fn taken(text: &RuleText<'_>, rule: &Rule) {
    let shown = rule.to_string();
    let start = format!("{}://{}", rule.proto().as_str(), rule.host());
    assert!(text.allow.starts_with(&start), "{:?} was taken for {shown}", text.allow);
    let addresses: Vec<String> = rule.addresses().iter().map(ToString::to_string).collect();
    let again = RuleText {
        allow: &shown,
        methods: listed(rule.methods()),
        paths: listed(rule.paths()),
        addresses: listed(&addresses),
        ttl: rule.ttl(),
        sni_pin: rule.sni_pin(),
        dns_port: rule.dns_port(),
        dangerous: rule.dangerous(),
    };
    assert_eq!(Rule::parse(&again).as_ref(), Ok(rule), "{again:?}");
    // An operator takes a line of a plugin's grant as a ceiling or a deny as it is.
    // Addresses in special ranges it must name too.
    let net = |net: &IpNet| RuleHost::Net(*net).to_string();
    let addresses =
        rule.addresses().iter().map(|own| format!("{}://{}:{}", rule.proto().as_str(), net(own), rule.ports()));
    let lines = std::iter::once(shown.clone()).chain(addresses);
    let ceiling: Vec<Rule> =
        lines.map(|line| Rule::parse_ceiling(&line).unwrap_or_else(|errors| panic!("{line}: {errors:?}"))).collect();
    assert!(covers(&ceiling, rule), "{shown} is not below itself");
    if rule.addresses().iter().any(|net| matches!(classify(net.addr()), Class::Special(_)) && net.prefix_len() >= 32) {
        assert!(!covers(&ceiling[..1], rule), "{shown} opens special addresses under a ceiling that does not name it");
    }
    let deny = Rule::parse_deny(&shown).unwrap_or_else(|errors| panic!("{shown}: {errors:?}"));
    let slugs: Vec<_> = check_rules(std::slice::from_ref(rule), &[], &[deny], &[], &[])
        .into_iter()
        .map(|(_, error)| error.slug)
        .collect();
    assert!(slugs.contains(&"grant_overridden_by_deny"), "{shown} survives the deny of the same text: {slugs:?}");

    assert!(rule.ports().ranges().iter().all(|(low, high)| 0 < *low && low <= high), "{shown}");
    assert!(!rule.ports().ranges().is_empty(), "{shown}");
    assert!(!rule.ports().is_any() || rule.dangerous(), "{shown}");
    assert!(rule.methods().iter().all(|method| !matches!(method.as_str(), "CONNECT" | "TRACE")), "{shown}");
    assert!(rule.paths().iter().all(|path| canonical_path(path).as_deref() == Ok(path)), "{:?}", rule.paths());
    match rule.host() {
        RuleHost::Any => panic!("{:?} allows every host", text.allow),
        RuleHost::Net(net) if net.prefix_len() == net.max_prefix_len() => {
            assert!(!matches!(classify(net.addr()), Class::Hard(_)), "{shown}");
        }
        RuleHost::Net(net) => assert!(rule.dangerous() || net.prefix_len() >= 7, "{shown}"),
        RuleHost::Name(_) | RuleHost::Suffix(_) => {}
    }
}

fn listed(items: &[String]) -> Option<Vec<&str>> {
    (!items.is_empty()).then(|| items.iter().map(String::as_str).collect())
}

fn refused(text: &RuleText<'_>, errors: &[RuleError]) {
    assert!(!errors.is_empty(), "{text:?} is refused without a reason");
    for error in errors {
        let said = [Some(&error.message), error.help.as_ref()].into_iter().flatten();
        for said in said {
            // Of the text, at most all of it, and that escaped.
            assert!(!said.is_empty() && said.len() <= 8192, "{} bytes: {said:?}", said.len());
            assert!(!said.chars().any(char::is_control), "{said:?}");
        }
        let of = |list: &Option<Vec<&str>>| list.as_ref().map_or(0, Vec::len);
        let items = match error.field {
            "methods" => of(&text.methods),
            "paths" => of(&text.paths),
            "addresses" => of(&text.addresses),
            _ => 0,
        };
        assert!(error.index.is_none_or(|index| index < items), "{error:?}");
    }
}
