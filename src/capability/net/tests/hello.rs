use super::*;

/// A ClientHello as a record; extensions as given.
fn hello(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut list = Vec::new();
    for (kind, body) in extensions {
        list.extend(kind.to_be_bytes());
        list.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        list.extend(body);
    }
    let mut message = vec![3, 3];
    message.extend([7; 32]);
    message.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    message.extend(u16::try_from(list.len()).unwrap().to_be_bytes());
    message.extend(list);
    handshake(&message)
}

fn handshake(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let body: Vec<u8> = [&[1], &length[1..], message].concat();
    record(&body)
}

fn record(body: &[u8]) -> Vec<u8> {
    [&[22, 3, 1], &u16::try_from(body.len()).unwrap().to_be_bytes()[..], body].concat()
}

fn named(name: &str) -> (u16, Vec<u8>) {
    let length = u16::try_from(name.len()).unwrap();
    let entry = [&[0], &length.to_be_bytes()[..], name.as_bytes()].concat();
    (0, [&(length + 3).to_be_bytes()[..], &entry].concat())
}

#[test]
fn the_server_name_is_found_among_other_extensions() {
    let bytes = hello(&[(10, vec![0, 2, 0, 29]), named("ok.test"), (43, vec![2, 3, 4])]);
    assert_eq!(parse(&bytes), Parsed::Name("ok.test".to_owned()));
    let with_more = [bytes, vec![1, 2, 3]].concat();
    assert_eq!(parse(&with_more), Parsed::Name("ok.test".to_owned()));
}

#[test]
fn every_beginning_of_a_client_hello_waits_for_the_rest() {
    let bytes = hello(&[named("ok.test")]);
    for length in 0..bytes.len() {
        assert_eq!(parse(&bytes[..length]), Parsed::Incomplete, "{length} bytes");
    }
}

#[test]
fn a_client_hello_may_be_cut_into_records() {
    let bytes = hello(&[named("ok.test")]);
    for size in [1, 4, 5, 17] {
        let cut: Vec<u8> = bytes[5..].chunks(size).flat_map(record).collect();
        assert_eq!(parse(&cut), Parsed::Name("ok.test".to_owned()), "{size} bytes a record");
    }
}

#[test]
fn what_is_no_tls_is_known_by_its_first_byte() {
    for bytes in
        [&b"GET / HTTP/1.1\r\n"[..], b"\x16\x02", b"\x16\x03\x09", b"\x17\x03\x03\x00\x10", b"\x16\x03\x01\x00\x00"]
    {
        assert_eq!(parse(bytes), Parsed::NotTls, "{bytes:?}");
    }
    assert_eq!(parse(&record(&[2, 0, 0, 1, 0])), Parsed::NotTls, "a ServerHello");
}

#[test]
fn without_a_name_or_with_a_hidden_one_there_is_none() {
    assert_eq!(parse(&hello(&[])), Parsed::NoName);
    assert_eq!(parse(&hello(&[named("ok.test"), (0xfe0d, vec![0; 8])])), Parsed::NoName);
}

#[test]
fn two_names_are_no_name_that_servers_agree_on() {
    assert_eq!(parse(&hello(&[named("ok.test"), named("other.test")])), Parsed::NotTls);
    let (kind, mut one) = named("ok.test");
    let (_, other) = named("other.test");
    one.extend(&other[2..]);
    let length = u16::try_from(one.len() - 2).unwrap().to_be_bytes();
    one[..2].copy_from_slice(&length);
    assert_eq!(parse(&hello(&[(kind, one)])), Parsed::NotTls);
}

#[test]
fn a_client_hello_past_its_bound_is_none() {
    let endless: Vec<u8> = std::iter::repeat_n(record(&[1]), 5000).flatten().collect();
    assert_eq!(parse(&endless), Parsed::NotTls);
    let large = hello(&[(21, vec![0; MAX_HELLO_BYTES]), named("ok.test")]);
    assert_eq!(parse(&large[..2000]), Parsed::NotTls, "its length says so already");
}

#[test]
fn hostile_lengths_are_no_client_hello() {
    let bytes = hello(&[named("ok.test")]);
    for at in 5..bytes.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut broken = bytes.clone();
            broken[at] = value;
            // Must end, and must never find a name that is not in the bytes.
            if let Parsed::Name(name) = parse(&broken) {
                assert!(broken.windows(name.len()).any(|window| window == name.as_bytes()));
            }
        }
    }
}

#[test]
fn what_rustls_writes_is_read() {
    let config = rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from("api.example.com").unwrap();
    let mut client = rustls::ClientConnection::new(config.into(), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    assert_eq!(parse(&bytes), Parsed::Name("api.example.com".to_owned()));
}
