use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use portcullis_policy::*;

use crate::support::*;

/// Every way to write a part of an address that some parser reads.
fn part(value: u32) -> [String; 6] {
    [
        format!("{value}"),
        format!("0{value:o}"),
        format!("000{value:o}"),
        format!("{value:#x}"),
        format!("0X{value:X}"),
        format!("0x00{value:x}"),
    ]
}

/// Spellings in one to four numbers of any base, with the numbers' bases mixed.
fn numeric_spellings(address: Ipv4Addr) -> BTreeSet<String> {
    let bits = address.to_bits();
    let octets = address.octets().map(u32::from);
    let [a, b, c, d] = octets;
    let shapes: [&[u32]; 4] = [&[bits], &[a, bits & 0xff_ffff], &[a, b, bits & 0xffff], &[a, b, c, d]];
    let mut all = BTreeSet::new();
    for shape in shapes {
        for combination in 0..6_usize.pow(u32::try_from(shape.len()).unwrap()) {
            let mut left = combination;
            let parts: Vec<String> = shape
                .iter()
                .map(|value| {
                    let spelt = part(*value)[left % 6].clone();
                    left /= 6;
                    spelt
                })
                .collect();
            all.insert(parts.join("."));
        }
    }
    all.remove(&address.to_string());
    all
}

/// The canonical form in digits and dots that normalisation maps to ASCII.
fn unicode_spellings(address: Ipv4Addr) -> Vec<String> {
    let digits = |zero: u32| {
        let digit = |character: char| match character.to_digit(10) {
            Some(digit) => char::from_u32(zero + digit).unwrap(),
            None => character,
        };
        address.to_string().chars().map(digit).collect::<String>()
    };
    let circled = |character: char| match character.to_digit(10) {
        Some(0) => '\u{24ea}',
        Some(digit) => char::from_u32(0x2460 + digit - 1).unwrap(),
        None => character,
    };
    let dots = |dot: char| address.to_string().replace('.', &dot.to_string());
    let mut all = vec![digits(0xff10), digits(0x1d7ce), digits(0x1d7d8), digits(0x1d7ec)];
    all.push(address.to_string().chars().map(circled).collect());
    all.extend(['\u{3002}', '\u{ff0e}', '\u{ff61}'].map(dots));
    all.push(address.to_string().replacen('.', "\u{ad}.", 1));
    all
}

/// IPv6 addresses that carry it, as text without brackets.
fn embedded_spellings(address: Ipv4Addr) -> Vec<String> {
    let [a, b, c, d] = address.octets();
    let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    vec![
        format!("::ffff:{address}"),
        format!("::ffff:{high:x}:{low:x}"),
        format!("0:0:0:0:0:FFFF:{high:04X}:{low:04X}"),
        format!("::{address}"),
        format!("::{high:x}:{low:x}"),
        format!("::ffff:0:{address}"),
        format!("64:ff9b::{address}"),
        format!("64:ff9b:1::{address}"),
        format!("2002:{high:x}:{low:x}::1"),
        format!("2001:0:{high:x}:{low:x}::1"),
    ]
}

#[test]
fn every_spelling_of_an_address_is_refused_or_classified() {
    let policy = policy_of(any_public());
    for (text, enough) in [("169.254.169.254", 45), ("127.0.0.1", 98), ("10.0.0.1", 45), ("0.0.0.0", 45)] {
        let address: Ipv4Addr = text.parse().unwrap();
        let numeric = numeric_spellings(address);
        assert!(numeric.len() >= enough, "{}", numeric.len());
        for spelling in &numeric {
            for spelling in [spelling.clone(), format!("{spelling}.")] {
                let refused = lookup(&policy, &spelling).unwrap_err();
                assert_eq!(refused.reason, Reason::NameNumeric, "{spelling}");
                assert_eq!(refused.target.address, Some(IpAddr::V4(address)), "{spelling}");
                let refused = http(&policy, &format!("GET http://{spelling}:80/")).unwrap_err();
                assert_eq!(refused.reason, Reason::NameNumeric, "{spelling}");
            }
        }
        for spelling in unicode_spellings(address) {
            let refused = lookup(&policy, &spelling).unwrap_err();
            assert!(matches!(refused.reason, Reason::NameNumeric | Reason::NameInvalid), "{spelling}: {refused:?}");
            assert_eq!(reason(http(&policy, &format!("GET http://{spelling}/"))), "name.invalid", "{spelling}");
        }
        for spelling in embedded_spellings(address) {
            let denied = lookup(&policy, &spelling).unwrap_err();
            assert!(denied.reason.as_str().starts_with("addr."), "{spelling}: {denied:?}");
            let denied = http(&policy, &format!("GET http://[{spelling}]/")).unwrap_err();
            assert!(denied.reason.as_str().starts_with("addr."), "{spelling}: {denied:?}");
        }
        let encoded: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
        for spelling in [encoded, format!("[{text}]"), format!(" {text}"), format!("{text} "), format!("{text}%00")] {
            assert_eq!(reason(lookup(&policy, &spelling)), "name.invalid", "{spelling}");
        }
    }
}

#[test]
fn a_number_too_large_for_an_address_is_no_name_either() {
    for text in [
        "256.256.256.256",
        "1.2.3.4.5",
        "4294967296",
        "0x100000000",
        "1.2.65536",
        "example.1",
        "example.0x1",
        "1.2.3.08",
        "0x",
        "1..2",
    ] {
        assert!(matches!(parse_host(text), Err(Reason::NameInvalid | Reason::NameNumeric)), "{text}");
    }
    assert!(parse_host("1.example").is_ok());
    assert!(parse_host("0x7f.example").is_ok());
}

#[test]
fn names_are_brought_into_one_form() {
    for (text, name) in
        [("EXAMPLE.com", "example.com"), ("example.com.", "example.com"), ("xn--BCHER-kva.de", "xn--bcher-kva.de")]
    {
        assert_eq!(parse_host(text).unwrap().to_string(), name);
    }
    for text in [
        "",
        ".",
        "a..b",
        ".a",
        "a..",
        "-a.b",
        "a-.b",
        "a_b.c",
        "a b",
        "a\0b",
        "ex%61mple.com",
        "*.a.b",
        "a@b",
        "a/b",
        "a:1",
        "[a]",
        "[]",
        "[::1",
        "::1",
        "[fe80::1%eth0]",
        "[::1]x",
        "[127.0.0.1]",
        "b\u{fc}cher.de",
        "xn--zzzzzzz99999.com",
        "xn--a.com",
        "xn--.com",
    ] {
        assert_eq!(parse_host(text), Err(Reason::NameInvalid), "{text:?}");
    }
    assert_eq!(parse_host(&format!("{}.com", "a".repeat(64))), Err(Reason::NameInvalid));
    assert!(parse_host(&format!("{}.com", "a".repeat(63))).is_ok());
}

#[test]
fn names_that_no_name_server_is_asked_for_are_refused() {
    for text in
        ["localhost", "LOCALHOST.", "a.localhost", "localhost.localdomain", "printer.local", "abc.onion", "x.invalid"]
    {
        assert_eq!(parse_host(text), Err(Reason::NameSpecial), "{text}");
    }
    for text in ["local", "kafka.default.svc.cluster.local", "metadata.google.internal", "localhost.example.com"] {
        assert_eq!(parse_host(text).is_ok(), text != "local", "{text}");
    }
}

#[test]
fn ports_are_digits_from_1_to_65535() {
    for (text, port) in [("1", 1), ("443", 443), ("65535", 65535)] {
        assert_eq!(parse_port(text).unwrap().get(), port);
    }
    for text in
        ["", "0", "00", "0443", "+443", "-1", "65536", "99999", "100000", "4 43", "443 ", "0x1bb", "\u{ff14}43", "http"]
    {
        assert_eq!(parse_port(text), Err(Reason::NamePortInvalid), "{text:?}");
    }
}

#[test]
fn an_authority_with_a_bad_port_or_a_bare_ipv6_address_is_refused() {
    let policy = policy_of(any_public());
    for authority in
        ["example.com:", "example.com:0", "example.com:65536", "example.com:+443", "example.com:0443", "[2606::1]:"]
    {
        assert_eq!(reason(http(&policy, &format!("GET https://{authority}/"))), "name.port_invalid", "{authority}");
    }
    for authority in
        ["", ":443", "2606:2800::1", "::1", "[::1", "::1]", "a:b:c", "[2606::1]443", "ex%61mple.com", "a\"b", "a b"]
    {
        assert_eq!(reason(http(&policy, &format!("GET https://{authority}/"))), "name.invalid", "{authority}");
    }
    let granted = http(&policy, "GET https://[2606:2800::1]:8443/").unwrap();
    let Effect::Http(target) = granted.effect() else { panic!("{granted:?}") };
    assert_eq!((target.host.to_string(), target.port), ("[2606:2800::1]".to_owned(), 8443));
}

#[test]
fn a_path_is_taken_only_where_all_servers_read_it_the_same_way() {
    for (text, path) in [
        ("", "/"),
        ("?q=1", "/"),
        ("/", "/"),
        ("/v1/x?y=../%2e", "/v1/x"),
        ("/a%20b/c:d@e,f=g", "/a%20b/c:d@e,f=g"),
        ("/100%25", "/100%25"),
        ("/.well-known/a..b/...", "/.well-known/a..b/..."),
    ] {
        assert_eq!(canonical_path(text).as_deref(), Ok(path), "{text}");
    }
    for text in [
        "v1",
        "*",
        "//",
        "/a//b",
        "//evil.test/",
        "/.",
        "/..",
        "/a/./b",
        "/a/../b",
        "/a/..",
        "/%2e%2e/",
        "/%2E/",
        "/a%2fb",
        "/a%2Fb",
        "/a%5cb",
        "/a\\b",
        "/a;b",
        "/..;/b",
        "/a%3bb",
        "/a%00b",
        "/a\0b",
        "/a b",
        "/a\tb",
        "/a%0d%0ab",
        "/a#b",
        "/a?b#c",
        "/a?b c",
        "/%",
        "/%2",
        "/%zz",
        "/%252e%252e/",
        "/\u{e4}",
        "/<",
        "/a|b",
        "/%u002e",
        "http://a/b",
    ] {
        assert_eq!(canonical_path(text), Err(Reason::HttpPathNoncanonical), "{text:?}");
    }
}

#[test]
fn the_audit_gets_ascii_of_bounded_length_for_text_that_could_not_be_read() {
    assert_eq!(ascii_form("b\u{fc}cher.de"), "xn--bcher-kva.de");
    assert_eq!(ascii_form("a\nb"), "a\\u{a}b");
    let long = ascii_form(&"\u{202e}".repeat(10_000));
    assert!(long.len() <= 256 && long.is_ascii(), "{}", long.len());
}
