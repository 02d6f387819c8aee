//! Whatever another reader takes for an address is the same address here, or refused: the standard library, the URL standard (which
//! clients, proxies and browsers share) and the resolver of this system. A difference is how an allowlist is passed by.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _};

use portcullis_policy::*;
use proptest::prelude::*;

use crate::properties::any_address;
use crate::support::*;

/// One number of an address: decimal, octal or hexadecimal, with zeros in front where the base has a sign of its own.
fn number(value: u32, base: u8, zeros: usize) -> String {
    let zeros = "0".repeat(zeros);
    match base % 4 {
        0 => value.to_string(),
        1 => format!("0{zeros}{value:o}"),
        2 => format!("0x{zeros}{value:x}"),
        _ => format!("0X{zeros}{value:X}"),
    }
}

/// An IPv4 address in one to four numbers, the last of which holds all that the others leave.
fn spelled(address: Ipv4Addr, parts: usize, styles: &[(u8, usize)]) -> String {
    let (octets, leading) = (address.octets(), parts - 1);
    let last = octets[leading..].iter().fold(0, |bits, octet| bits << 8 | u32::from(*octet));
    let values = octets[..leading].iter().map(|octet| u32::from(*octet)).chain([last]);
    values.zip(styles).map(|(value, (base, zeros))| number(value, *base, *zeros)).collect::<Vec<_>>().join(".")
}

/// Every way in which the C library reads an IPv4 address, with that address. None of them needs a name server.
fn spelling() -> impl Strategy<Value = (String, Ipv4Addr)> {
    let address = any_address().prop_map(|address| match address {
        IpAddr::V4(address) => address,
        IpAddr::V6(address) => Ipv4Addr::from_bits(address.to_bits() as u32),
    });
    let styles = prop::collection::vec((any::<u8>(), 0_usize..3), 4);
    (address, 1_usize..=4, styles).prop_map(|(address, parts, styles)| (spelled(address, parts, &styles), address))
}

/// As a browser may be given it: other digits and dots of Unicode, and a dot at the end.
fn dressed(text: &str, wide: bool, dot: bool) -> String {
    let widened = |character: char| match character {
        '.' => '。',
        '!'..='~' => char::from_u32(u32::from(character) + 0xfee0).unwrap(),
        other => other,
    };
    let mut dressed: String = if wide { text.chars().map(widened).collect() } else { text.to_owned() };
    dressed.extend(dot.then_some('.'));
    dressed
}

/// The host that a URL with this text between `//` and `/` leads to; none where it is no URL, or where more than a host stands there.
fn by_url(text: &str) -> Option<url::Host> {
    if text.contains(|character: char| "@/\\?#\t\r\n".contains(character)) {
        return None;
    }
    let url = url::Url::parse(&format!("http://{text}/")).ok().filter(|url| url.port().is_none())?;
    url.host().map(|host| host.to_owned())
}

/// What the policy would let out for this text, were all public addresses allowed, must be that address and public; what a refusal
/// tells of the destination must be it too.
fn is_the_same_or_refused(text: &str, theirs: IpAddr) -> Result<(), TestCaseError> {
    match parse_host(text) {
        Ok(Host::Address(ours)) => prop_assert_eq!(ours, theirs, "{}", text),
        Ok(Host::Name(name)) => prop_assert!(false, "{text} is {theirs}, not the name {name}"),
        Err(_) => {}
    }
    let all = policy_of(any_public());
    let http = Request::Http { method: "GET", scheme: "http", authority: text, path: "/" };
    for request in [Request::Lookup { name: text }, http] {
        match decide(&all, &request, &NO_FACTS) {
            Decision::Allow(granted) => {
                let let_out = match granted.effect() {
                    Effect::Literal(address) => Some(*address),
                    Effect::Http(HttpTarget { host: Host::Address(address), .. }) => Some(*address),
                    _ => None,
                };
                prop_assert_eq!(let_out, Some(theirs), "{}", text);
                prop_assert_eq!(classify(theirs), Class::Public, "{}", text);
            }
            Decision::Deny(denied) => {
                prop_assert!(
                    denied.target.address.is_none_or(|told| told == theirs),
                    "{text}: {denied:?}, not {theirs}"
                );
            }
        }
    }
    Ok(())
}

/// As the C library's `getaddrinfo` reads it: the standard library asks it for whatever it does not read itself.
fn by_resolver(text: &str) -> Option<IpAddr> {
    (text, 0).to_socket_addrs().ok()?.next().map(|socket| socket.ip())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_the_standard_library_reads_as_an_address_is_that_address_or_refused(text in "[0-9a-fA-FxX.:\\[\\]%]{1,24}|[0-9]{1,3}(\\.[0-9]{1,3}){3}|([0-9a-f]{0,4}:){1,7}[0-9a-f]{0,4}") {
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        match (parse_host(&text), bare.parse::<IpAddr>()) {
            (Ok(Host::Address(ours)), Ok(theirs)) => prop_assert_eq!(ours, theirs),
            (Ok(ours), Ok(theirs)) => prop_assert!(false, "{text} is {theirs}, not {ours}"),
            (Ok(Host::Address(ours)), Err(_)) => prop_assert!(false, "{text} is no address, not {ours}"),
            _ => {}
        }
        let refused = lookup(&policy_of(Vec::new()), &text).unwrap_err();
        if let Ok(theirs) = text.parse::<IpAddr>() {
            prop_assert_eq!(refused.target.address, Some(theirs));
        }
    }

    #[test]
    fn what_a_url_leads_to_an_address_with_is_that_address_or_refused((text, address) in spelling(), wide in any::<bool>(), dot in any::<bool>()) {
        let text = dressed(&text, wide, dot);
        prop_assert_eq!(by_url(&text), Some(url::Host::Ipv4(address)), "{} is to be an address for a URL", text);
        is_the_same_or_refused(&text, address.into())?;
    }

    #[test]
    fn what_a_url_reads_in_any_text_is_read_the_same_or_refused(text in "[0-9a-fA-FxX.]{1,20}|\\[[0-9a-fA-F:.%]{2,24}\\]|\\[([0-9a-f]{0,4}:){1,7}[0-9a-f.]{0,15}\\]|[0-9xX１２０。．%a-z.-]{1,16}|(xn--)?[a-z0-9.-]{1,16}") {
        let ours = parse_host(&text);
        match by_url(&text) {
            Some(url::Host::Ipv4(theirs)) => is_the_same_or_refused(&text, theirs.into())?,
            Some(url::Host::Ipv6(theirs)) => is_the_same_or_refused(&text, theirs.into())?,
            Some(url::Host::Domain(theirs)) => match ours {
                Ok(Host::Name(ours)) => prop_assert_eq!(ours.as_str(), theirs.strip_suffix('.').unwrap_or(&theirs)),
                Ok(Host::Address(ours)) => prop_assert!(false, "{text} is the name {theirs}, not {ours}"),
                Err(_) => {}
            },
            None => {}
        }
    }

    #[test]
    fn what_the_resolver_of_the_system_reads_as_an_address_is_that_address_or_refused((text, address) in spelling()) {
        prop_assert_eq!(by_resolver(&text), Some(address.into()), "{} is to be an address for the resolver", text);
        is_the_same_or_refused(&text, address.into())?;
    }

    #[test]
    fn an_address_with_a_zone_is_one_for_the_resolver_of_the_system_and_refused_here(address in any_address(), zone in 1_u32..9) {
        let IpAddr::V6(address) = address else { return Ok(()) };
        let text = format!("{address}%{zone}");
        prop_assert_eq!(by_resolver(&text), Some(address.into()), "{}", text);
        for text in [text.clone(), format!("[{text}]")] {
            prop_assert!(parse_host(&text).is_err() && lookup(&policy_of(any_public()), &text).is_err(), "{text}");
            prop_assert!(http(&policy_of(any_public()), &format!("GET http://{text}/")).is_err(), "{text}");
            is_the_same_or_refused(&text, address.into())?;
        }
        // In the form in which a socket's address would carry it.
        let to = SocketAddr::V6(std::net::SocketAddrV6::new(address, 443, 0, zone));
        let request = Request::Connect { to };
        prop_assert!(outcome(&policy_of(any_public()), &request).is_err(), "{to}");
    }

    #[test]
    fn what_ends_in_a_number_is_never_a_name(text in "(0[xX])?[0-9a-f]{1,9}(\\.(0[xX])?[0-9a-f]{1,9}){0,4}\\.?") {
        // Such a text a resolver tries as an address first: none of these may become a query.
        let last = text.trim_end_matches('.').rsplit('.').next().unwrap().to_lowercase();
        let number = last.bytes().all(|byte| byte.is_ascii_digit()) || last.strip_prefix("0x").is_some();
        if number {
            prop_assert!(!matches!(parse_host(&text), Ok(Host::Name(_))), "{text}");
        }
    }
}
