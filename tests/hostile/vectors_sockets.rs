//! Vectors about addresses, names and sockets.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, UdpSocket};

use serde_json::{Value, json};

use super::network::{any_public, dns, probe};
use super::scene::Scene;
use crate::support::names::NameServer;
use crate::support::servers::{Mailbox, Server};

/// An address in one to four numbers, each decimal, octal or hexadecimal.
fn numeric_spellings(address: Ipv4Addr) -> BTreeSet<String> {
    let bits = address.to_bits();
    let [a, b, c, d] = address.octets().map(u32::from);
    let shapes: [&[u32]; 4] = [&[bits], &[a, bits & 0xff_ffff], &[a, b, bits & 0xffff], &[a, b, c, d]];
    let mut all = BTreeSet::new();
    for shape in shapes {
        for combination in 0..4_usize.pow(u32::try_from(shape.len()).unwrap()) {
            let part =
                |(place, value): (usize, &u32)| match combination / 4_usize.pow(u32::try_from(place).unwrap()) % 4 {
                    0 => value.to_string(),
                    1 => format!("0{value:o}"),
                    2 => format!("0x{value:x}"),
                    _ => format!("0X{value:08X}"),
                };
            all.insert(shape.iter().enumerate().map(part).collect::<Vec<_>>().join("."));
        }
    }
    all.remove(&address.to_string());
    all
}

fn other_spellings(address: Ipv4Addr) -> Vec<String> {
    let [a, b, c, d] = address.octets();
    let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    let wide =
        |character: char| character.to_digit(10).map_or(character, |digit| char::from_u32(0xff10 + digit).unwrap());
    let mut all = vec![address.to_string(), format!("{address}."), address.to_string().chars().map(wide).collect()];
    all.extend(['\u{3002}', '\u{ff0e}', '\u{ff61}'].map(|dot| address.to_string().replace('.', &dot.to_string())));
    let embedded =
        ["::ffff:", "::", "::ffff:0:", "64:ff9b::", "64:ff9b:1::"].map(|prefix| format!("[{prefix}{high:x}:{low:x}]"));
    all.extend(embedded);
    all.push(format!("[2002:{high:x}:{low:x}::1]"));
    all
}

fn spellings(address: [u8; 4], at_least: usize) -> Vec<String> {
    let address = Ipv4Addr::from(address);
    let all: Vec<String> = numeric_spellings(address).into_iter().chain(other_spellings(address)).collect();
    assert!(all.len() >= at_least, "{}", all.len());
    all
}

/// A ClientHello that asks for a name, of ASCII characters alone, so that a JSON text can hold it.
fn client_hello(name: &str) -> String {
    let byte = |length: usize| char::from(u8::try_from(length).ok().filter(u8::is_ascii).unwrap());
    let two = |text: String| format!("\0{}{text}", byte(text.len()));
    let server_name = format!("\0\0{}", two(two(format!("\0{}", two(name.to_owned())))));
    let body = format!("\x03\x03{}\0\0\x02\x13\x01\x01\0{}", "r".repeat(32), two(server_name));
    let message = format!("\x01\0{}", two(body));
    format!("\x16\x03\x01{}", two(message))
}

#[test]
fn a25_every_spelling_of_an_inner_address_is_refused_and_each_refusal_is_recorded() {
    let (names, decoy) = (NameServer::ok_test(), Server::decoy());
    let all = [spellings([169, 254, 169, 254], 45), spellings([127, 0, 0, 1], 98)].concat();
    let ops: Vec<Value> = all
        .iter()
        .flat_map(|host| {
            let authority = format!("{host}:{}", decoy.port());
            let bare = host.trim_matches(['[', ']']);
            [
                json!({ "op": "http", "method": "GET", "scheme": "http", "authority": authority, "path": "/" }),
                json!({ "op": "resolve", "name": bare }),
            ]
        })
        .collect();
    let messages: Vec<String> = ops.chunks(64).map(|ops| json!({ "ops": ops }).to_string()).collect();
    let messages: Vec<&str> = messages.iter().map(String::as_str).collect();
    let more = json!({ "limits": { "deadline": "10s", "fuel": 10_000_000_000_u64, "lookups": 1000 } });
    let ran = Scene::new().node(dns(&names)).bad(probe(any_public(), more), &messages).run();
    assert_eq!((decoy.connections(), names.asked()), (0, vec![]));
    let results = ran.results("bad").concat();
    assert_eq!(results.len(), ops.len());
    for (op, result) in ops.iter().zip(&results) {
        assert_eq!(result["ok"], false, "{op} {result}");
    }
    let setters = results.iter().filter(|result| result["code"] == "setter").count();
    let recorded = ran.count("http.denied", "") + ran.count("dns.denied", "");
    assert_eq!(recorded, (ops.len() - setters) as u64, "{setters} never became a request; {:#?}", ran.tally());
    ran.assert_nothing_left();
}

#[test]
fn d13_a_pinned_address_serves_only_the_name_that_was_granted() {
    let names =
        NameServer::start(|name, _| ["ok.test", "other.test"].contains(&name).then(|| vec![Ipv4Addr::LOCALHOST]));
    for pinned in [true, false] {
        let server = Server::decoy();
        let rule = json!([{ "allow": format!("tcp://ok.test:{}", server.port()), "addresses": ["127.0.0.0/8"], "sni_pin": pinned }]);
        let message = |name: &str| {
            json!({ "ops": [{ "op": "tcp-name", "name": "ok.test", "port": server.port(), "send": client_hello(name) }] }).to_string()
        };
        let (other, own) = (message("other.test"), message("ok.test"));
        let more = json!({ "limits": { "concurrency": 1 } });
        let ran = Scene::new().node(dns(&names)).bad(probe(rule, more), &[&other, &own]).run();
        let seen = server.seen();
        assert_eq!(seen.len(), 2, "{:#?}", ran.tally());
        assert_eq!((seen[0].contains("other.test"), seen[1].contains("ok.test")), (!pinned, true), "{seen:?}");
        let results = ran.results("bad").concat();
        assert_eq!((&results[0]["ok"], &results[1]["ok"]), (&json!(!pinned), &json!(true)), "{results:?}");
        assert_eq!(ran.count("net.connect.denied", "tls.sni_mismatch"), u64::from(pinned), "{:#?}", ran.tally());
        assert_eq!((ran.count("net.connect.allowed", ""), ran.count("net.close", "")), (2, 2), "{:#?}", ran.tally());
    }
}

#[test]
fn e09_a_datagram_of_a_stranger_is_never_seen() {
    let stranger = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let peer = Mailbox::start(move |from, _, own| {
        for _ in 0..3 {
            stranger.send_to(b"stranger", from).unwrap();
        }
        own.send_to(b"answer", from).unwrap();
    });
    let message =
        json!({ "ops": [{ "op": "udp", "to": peer.address, "send": "question", "read": 1, "wait_ms": 1500 }] })
            .to_string();
    let rule = json!([format!("udp://{}", peer.address)]);
    let more = json!({});
    let ran = Scene::new().bad(probe(rule, more), &[&message]).run();
    assert_eq!(peer.seen().len(), 1);
    let results = ran.results("bad").concat();
    assert_eq!((&results[0]["ok"], &results[0]["detail"]["read"]), (&json!(true), &json!("answer")), "{results:?}");
    assert_eq!(ran.count("net.udp.denied", ""), 3, "{:#?}", ran.tally());
    for event in ran.events("net.udp.denied") {
        assert_eq!(event["connection_info"]["direction_id"], 1, "{event:#}");
    }
    let traffic = ran.events("net.udp.traffic")[0];
    assert_eq!(
        (&traffic["traffic"]["packets_out"], &traffic["traffic"]["packets_in"]),
        (&json!(1), &json!(1)),
        "{traffic:#}"
    );
}

#[test]
fn datagrams_to_ever_new_peers_meet_the_rate_of_connects() {
    let peers: Vec<Mailbox> = (0..6).map(|_| Mailbox::decoy()).collect();
    let ops: Vec<Value> =
        peers.iter().map(|peer| json!({ "op": "udp", "to": peer.address, "send": "question" })).collect();
    let rules: Vec<String> = peers.iter().map(|peer| format!("udp://{}", peer.address)).collect();
    let more = json!({ "limits": { "connects": "2/min" } });
    let ran = Scene::new().bad(probe(json!(rules), more), &[&json!({ "ops": ops }).to_string()]).run();
    assert_eq!(peers.iter().map(|peer| peer.seen().len()).collect::<Vec<_>>(), [1, 1, 0, 0, 0, 0]);
    let results = ran.results("bad").concat();
    for result in &results[2..] {
        assert_eq!((&result["ok"], &result["code"]), (&json!(false), &json!("new-socket-limit")), "{results:?}");
    }
    assert_eq!((ran.count("net.udp.allowed", ""), ran.count("net.udp.traffic", "")), (2, 2), "{:#?}", ran.tally());
    assert_eq!(ran.count("net.udp.denied", "quota.connect_rate"), 4, "{:#?}", ran.tally());
    assert_eq!(ran.budgets()[0]["status_code"], "quota.connect_rate");
}
