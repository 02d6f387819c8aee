use proptest::prelude::*;

use super::*;

fn back(message: &Message) -> Message {
    let carried = encode(message);
    let (read, defect) = decode(
        Some(&carried.headers),
        carried.payload,
        &Origin::new(&message.channel, KeyRule::Subject),
        Timestamp::Unknown,
    );
    assert_eq!(defect, None);
    read
}

fn with_headers(headers: &[(&str, Option<&str>)]) -> Message {
    let headers = headers.iter().map(|(name, value)| Header {
        name: Bytes::copy_from_slice(name.as_bytes()),
        value: value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
    });
    Message { headers: headers.collect(), value: Some("v".into()), ..Message::new("s") }
}

/// What crosses a socket: names and values as lines, in any order of names.
fn over_the_wire(headers: &HeaderMap) -> HeaderMap {
    let mut read = HeaderMap::new();
    for (name, values) in headers.iter() {
        for value in values {
            let line = format!("{name}: {value}");
            let (name, value) = line.split_once(':').unwrap();
            assert!(!line.contains(['\r', '\n']), "{line:?}");
            read.append(HeaderName::try_from(name).unwrap(), value.trim().parse::<HeaderValue>().unwrap());
        }
    }
    read
}

#[test]
fn what_nats_can_hold_is_copied_and_readable_without_the_rule() {
    let message = with_headers(&[("a", Some("1")), ("a", Some("2")), ("trace", Some("caf\u{e9}"))]);
    let carried = encode(&message);
    assert!(!carried.encoded && carried.headers.get(HEADERS).is_none());
    assert_eq!(carried.headers.get("trace").unwrap().as_str(), "caf\u{e9}");
    assert_eq!(back(&message), message);
}

#[test]
fn a_name_that_steers_a_server_or_a_reader_is_never_copied() {
    let steering = [
        "Nats-Rollup",
        "nats-msg-id",
        "NATS-TTL",
        "Nats-Expected-Last-Sequence",
        "Nats-Schedule",
        "Portcullis-Key",
        "portcullis-headers",
        "Status",
        "description",
    ];
    for name in steering {
        let message = with_headers(&[(name, Some("all"))]);
        let carried = encode(&message);
        for (found, _) in carried.headers.iter() {
            let found: &str = found.as_ref();
            let ours = [KEY, NULL, TIMESTAMP, HEADERS].contains(&found);
            assert!(ours || !found.eq_ignore_ascii_case(name), "{found}");
        }
        assert!(carried.encoded);
        assert_eq!(back(&message), message, "{name}");
    }
}

#[test]
fn the_order_among_different_names_comes_back() {
    let message =
        with_headers(&[("b", Some("1")), ("a", Some("2")), ("b", Some("3")), ("null", None), ("a", Some(""))]);
    let carried = encode(&message);
    assert_eq!(carried.headers.get(HEADERS).unwrap().as_str(), "b a b null! a");
    assert_eq!(back(&message), message);
}

#[test]
fn a_message_of_somebody_else_keeps_its_headers_and_takes_its_subject_as_key() {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", "theirs");
    headers.append("b", "2");
    headers.append("a", "1");
    let stored = Timestamp::Appended(7);
    let (message, defect) = decode(Some(&headers), "v".into(), &Origin::new("s.1", KeyRule::Subject), stored);
    assert_eq!(defect, None);
    assert_eq!(message.key.as_deref(), Some(&b"s.1"[..]));
    assert_eq!(message.timestamp, stored);
    let names: Vec<_> = message.headers.iter().filter_map(Header::name_str).collect();
    assert_eq!(names, ["Nats-Msg-Id", "a", "b"]);
    let (message, _) = decode(None, Bytes::new(), &Origin::new("s.1", KeyRule::Null), stored);
    assert_eq!((message.key, message.value), (None, Some(Bytes::new())));
}

#[test]
fn what_the_sink_writes_for_the_server_is_no_part_of_the_message() {
    let message = with_headers(&[("Nats-Msg-Id", Some("the producer's"))]);
    let mut carried = encode(&message);
    put(&mut carried.headers, "Nats-Msg-Id", "portcullis/p/c/t/0/1/0");
    put(&mut carried.headers, "Nats-Expected-Stream", "S");
    let (read, _) =
        decode(Some(&carried.headers), carried.payload, &Origin::new("s", KeyRule::Subject), Timestamp::Unknown);
    assert_eq!(read, message);
}

#[test]
fn a_header_that_somebody_adds_on_the_way_arrives_and_one_that_is_taken_does_not() {
    let message = with_headers(&[("b", Some("1")), ("a", Some("2"))]);
    let carried = encode(&message);
    let mut changed = HeaderMap::new();
    for (name, values) in carried.headers.iter() {
        let name: &str = name.as_ref();
        if name != "a" {
            changed.append(name, values[0].as_str());
        }
    }
    changed.append("added", "3");
    let (read, _) = decode(Some(&changed), carried.payload, &Origin::new("s", KeyRule::Subject), Timestamp::Unknown);
    assert_eq!(read.headers, with_headers(&[("b", Some("1")), ("added", Some("3"))]).headers);
}

#[test]
fn a_header_of_the_rule_that_is_not_by_the_rule_is_a_defect_and_stays_to_be_seen() {
    for (name, value) in [(KEY, "%zz"), (TIMESTAMP, "yesterday"), (HEADERS, "a=%4")] {
        let mut headers = HeaderMap::new();
        headers.insert(name, value);
        let (message, defect) =
            decode(Some(&headers), "v".into(), &Origin::new("s", KeyRule::Null), Timestamp::Unknown);
        assert!(defect.unwrap().detail.contains(name));
        assert_eq!(message.headers.last(name.as_bytes()).unwrap().value.as_deref(), Some(value.as_bytes()));
    }
}

fn bytes() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..12).prop_map(Bytes::from),
        "[ -~]{0,8}".prop_map(Bytes::from),
        "\\PC{0,4}".prop_map(Bytes::from),
        Just(Bytes::from_static(b" padded ")),
        Just(Bytes::from_static(b"two\r\nlines")),
    ]
}

fn name() -> impl Strategy<Value = Bytes> {
    let known = ["a", "b", "A", "Nats-Rollup", "nats-ttl", "Portcullis-Key", "Portcullis-Headers", "x:y", "", "a=b!"];
    prop_oneof![bytes(), proptest::sample::select(known.to_vec()).prop_map(Bytes::from)]
}

prop_compose! {
    fn message()(
        key in proptest::option::of(bytes()),
        value in proptest::option::of(bytes()),
        headers in proptest::collection::vec((name(), proptest::option::of(bytes())), 0..8),
        timestamp in prop_oneof![
            Just(Timestamp::Unknown),
            any::<i64>().prop_map(Timestamp::Created),
            any::<i64>().prop_map(Timestamp::Appended),
        ],
    ) -> Message {
        let headers = headers.into_iter().map(|(name, value)| Header { name, value }).collect();
        Message { key, value, headers, timestamp, channel: "orders.eu".into() }
    }
}

#[test]
fn a_name_that_is_not_text_is_a_defect_for_a_plugin_that_removes_headers_by_name_would_miss_it() {
    let mut map = HeaderMap::new();
    map.append(HEADERS, "%FFcard=4111");
    let (read, defect) = decode(Some(&map), Bytes::new(), &Origin::new("s", KeyRule::Null), Timestamp::Unknown);
    assert_eq!(read.headers.as_slice()[0].name, b"\xFFcard"[..]);
    assert_eq!(defect.unwrap().detail, "the name of header 1 is not UTF-8");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn any_message_comes_back_as_it_was(message in message()) {
        let carried = encode(&message);
        let wire = over_the_wire(&carried.headers);
        let (read, defect) =
            decode(Some(&wire), carried.payload, &Origin::new(&message.channel, KeyRule::Subject), Timestamp::Unknown);
        // What a plugin could not name is kept and does not reach one.
        prop_assert_eq!(defect.is_some(), message.headers.iter().any(|header| header.name_str().is_none()));
        prop_assert_eq!(read, message);
    }

    #[test]
    fn any_headers_of_others_are_read_without_a_panic(
        headers in proptest::collection::vec(
            (prop_oneof![Just(KEY), Just(NULL), Just(TIMESTAMP), Just(HEADERS), Just("x")], "[ -~]{0,12}"),
            0..6,
        )
    ) {
        let mut map = HeaderMap::new();
        for (name, value) in &headers {
            map.append(*name, value.as_str());
        }
        decode(Some(&map), Bytes::new(), &Origin::new("s", KeyRule::Null), Timestamp::Unknown);
    }
}
