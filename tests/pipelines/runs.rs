//! One test a file of pipelines/.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::copy::{Copy, LIMIT, Record, assert_dead_letters, bytes, part, passing, records, topics};
use crate::support::kafka::Kafka;
use crate::support::nats::Nats;
use crate::support::python;
use crate::support::servers::{Answer, Server, response};

/// The path of a request, from its head.
fn path_of(head: &str) -> &str {
    head.split_whitespace().nth(1).unwrap_or_default()
}

fn json_answer(value: &Value) -> Answer {
    response("200 OK", "content-type: application/json\r\n", &value.to_string())
}

fn origin(server: &Server) -> String {
    format!("http://{}", server.address)
}

#[test]
pub(super) fn orders_that_pass_are_stamped_and_the_others_are_dead_letters_with_their_reasons() {
    topics(&["orders.raw", "orders.clean", "orders.dlq"], 3);
    let rates = Server::start(|head| {
        let rates = BTreeMap::from([("/v1/EUR", 1.0), ("/v1/USD", 0.92), ("/v1/GBP", 1.17)]);
        match rates.get(path_of(head)) {
            Some(rate) => json_answer(&json!({ "rate": rate })),
            None => response("404 Not Found", "", ""),
        }
    });
    let copy = Copy::new().with_loopback().with("RATES_ORIGIN", origin(&rates));
    let sent = copy.send("orders.input.jsonl");
    let bridge = copy.run("orders.yaml");
    let clean = records("orders.clean", passing(&sent).len());
    assert_dead_letters("orders.dlq", &sent);
    let mut ids: BTreeMap<Vec<u8>, Vec<i64>> = BTreeMap::new();
    for line in passing(&sent) {
        let order: Value = serde_json::from_slice(&part(line, "value").unwrap()).unwrap();
        ids.entry(part(line, "key").unwrap()).or_default().push(order["id"].as_i64().unwrap());
    }
    for record in &clean {
        let order = record.json();
        // The order of a key is that of the input.
        assert_eq!(ids.get_mut(record.key.as_ref().unwrap()).unwrap().remove(0), order["id"], "{clean:#?}");
        assert_eq!((&order["status"], order["rate"].is_number()), (&json!("checked"), true), "{order}");
        assert_eq!(record.header("processed-by"), Some("portcullis"));
        assert_eq!(record.header("order-currency"), order["currency"].as_str());
    }
    copy.end(bridge);
    assert!(rates.seen().iter().all(|seen| !seen.contains("JPY")), "a path that was not granted was asked for");
}

#[test]
pub(super) fn a_fan_gives_each_message_the_subject_of_its_topic_and_key() {
    let nats = Nats::start();
    topics(&["orders", "payments", "parcels", "shop.dlq"], 2);
    let copy = Copy::new().with("NATS_SERVER", nats.url());
    let sent = [
        json!({ "channel": "orders", "key": "c-17", "value": "lamp", "headers": [["source", "web"]] }),
        json!({ "channel": "payments", "key": "c-17", "value": "19.90" }),
        json!({ "channel": "parcels", "key": "c-18", "value": null }),
        json!({ "channel": "orders", "key": "c-17", "value": "chair" }),
        json!({ "channel": "orders", "key": "c.17", "value": "a key that would be two tokens" }),
        json!({ "channel": "payments", "value": "no key" }),
        json!({ "channel": "parcels", "key": "*", "value": "a key that would be a wildcard" }),
    ];
    fs::write(copy.path("in.jsonl"), sent.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    copy.send("in.jsonl");
    let bridge = copy.run("fan-to-jetstream.yaml");
    let letters = records("shop.dlq", 3);
    assert!(letters.iter().all(|letter| letter.error("reason") == "sink_rejected"), "{letters:#?}");
    let refused: Vec<_> = letters.iter().map(|letter| letter.value.clone()).collect();
    assert!(sent[4..].iter().all(|line| refused.contains(&part(line, "value"))), "{letters:#?}");

    let stored = python::nats_read(&nats.url(), "SHOP", 4, LIMIT);
    assert_eq!(stored.len(), 4, "{stored:#?}");
    let of = |subject: &str| stored.iter().filter(|one| one["subject"] == subject).collect::<Vec<_>>();
    let values = |subject: &str| of(subject).iter().map(|one| bytes(&one["value_b64"]).unwrap()).collect::<Vec<_>>();
    assert_eq!(values("shop.orders.c-17"), [b"lamp".to_vec(), b"chair".to_vec()], "in the order of their key");
    assert_eq!(values("shop.payments.c-17"), [b"19.90".to_vec()]);
    assert_eq!(values("shop.parcels.c-18"), [Vec::<u8>::new()]);
    let headers = |subject: &str| of(subject)[0]["headers"].as_array().unwrap().clone();
    assert!(headers("shop.orders.c-17").contains(&json!(["source", "web"])));
    assert!(headers("shop.parcels.c-18").contains(&json!(["Portcullis-Null", "value"])), "null is told from empty");
    copy.end(bridge);
}

#[test]
pub(super) fn readings_of_a_stream_become_records_and_are_acknowledged() {
    const TOO_LARGE_BYTES: usize = 1_020_000;
    let nats = Nats::start();
    topics(&["readings.temperature", "readings.dlq"], 3);
    let copy = Copy::new().with("NATS_SERVER", nats.url());
    let mut bridge = copy.run("jetstream-to-kafka.yaml");
    let temperature = |hall: u8| format!("readings.hall-{hall}.temperature");
    bridge
        .wait_until("the bridge has made the stream", LIMIT, || nats.store(&temperature(1), &[("unit", "C")], b"20.0"));
    for (hall, value) in [(2, "18.5"), (1, "20.5"), (2, "18.0"), (1, "21.0")] {
        assert!(nats.store(&temperature(hall), &[("unit", "C")], value.as_bytes()));
    }
    assert!(nats.store("readings.hall-1.humidity", &[], b"40"));
    assert!(nats.store(&temperature(3), &[], &vec![b'9'; TOO_LARGE_BYTES]));
    let found = records("readings.temperature", 5);
    let values = |hall| -> Vec<&[u8]> {
        let of_hall = found.iter().filter(|record| record.key_text() == temperature(hall));
        of_hall.map(|record| record.value.as_deref().unwrap()).collect()
    };
    assert_eq!(values(1), [b"20.0", b"20.5", b"21.0"]);
    assert_eq!(values(2), [b"18.5", b"18.0"]);
    assert!(found.iter().all(|record| record.header("unit") == Some("C")), "{found:#?}");
    let letter = &records("readings.dlq", 1)[0];
    assert_eq!((letter.error("reason"), letter.value.as_ref()), ("oversize", None));
    assert_eq!(letter.error("value.bytes"), TOO_LARGE_BYTES.to_string());
    bridge.wait_until("all is acknowledged", LIMIT, || {
        let consumer = nats.consumer("READINGS", "kafka");
        (consumer.num_ack_pending, consumer.num_pending) == (0, 0)
    });
    copy.end(bridge);
}

#[test]
pub(super) fn nothing_that_was_redacted_is_anywhere_in_the_export() {
    const KEY: &str = "d1ff3rent-f0r-everybody-and-nowhere-else";
    const PRIVATE: &[&str] = &[
        KEY,
        "@example.com",
        "7946 0991",
        "4111111111111111",
        "4242424242424242",
        "4000000000000002",
        "4012888888881881",
        "Byron",
        "Analytical",
        "ring twice",
        "s3cr3t",
        "enigma",
    ];
    const NAMES: &[&str] = &["phone", "card", "c\\u0061rd", "note", "password", "authorization"];
    topics(&["customers", "customers.export", "customers.dlq"], 2);
    let copy = Copy::new().with("REDACT_KEY", KEY);
    let sent = copy.send("redact-before-export.input.jsonl");
    let bridge = copy.run("redact-before-export.yaml");
    let export = records("customers.export", passing(&sent).len());
    let letters = assert_dead_letters("customers.dlq", &sent);
    let told = copy.end(bridge);
    for record in &export {
        // As the sink has them: keys, values, names and values of headers.
        let headers = record.headers.iter().flat_map(|(name, value)| [Some(name.as_bytes()), value.as_deref()]);
        let parts: Vec<&[u8]> =
            [record.key.as_deref(), record.value.as_deref()].into_iter().chain(headers).flatten().collect();
        let text = String::from_utf8(parts.join(&b'\n')).unwrap();
        let found: Vec<_> = PRIVATE.iter().chain(NAMES).filter(|private| text.contains(**private)).collect();
        assert!(found.is_empty(), "{found:?} in {text}");
    }
    let quoted: Vec<_> = PRIVATE.iter().filter(|private| told.contains(**private)).collect();
    assert!(quoted.is_empty(), "{quoted:?} in log or audit\n{told}");
    assert!(letters.iter().all(|letter| !format!("{letter:?}").contains(KEY)));

    // Whoever has the key can compute the pseudonym; it is the same in the key and in the value, and of each message.
    let mut pseudonym = Hmac::<Sha256>::new_from_slice(KEY.as_bytes()).unwrap();
    pseudonym.update(b"ada@example.com");
    let ada = format!("{:x}", pseudonym.finalize().into_bytes());
    let of_ada: Vec<&Record> = export.iter().filter(|record| record.key_text() == ada).collect();
    let values: Vec<Option<Value>> = of_ada.iter().map(|record| record.value.as_ref().map(|_| record.json())).collect();
    let orders = json!([{ "id": 1, "street": "***" }, { "id": 2, "street": "***" }]);
    let expected = [
        Some(json!({ "customer": ada, "country": "GB", "orders": orders })),
        Some(json!({ "customer": ada, "country": "GB", "orders": [] })),
        None,
    ];
    assert_eq!(values, expected, "a tombstone stays null");
    let names: Vec<&str> = of_ada[0].headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["traceparent"]);
}

#[test]
pub(super) fn a_backfill_sends_each_line_once_however_often_it_is_started() {
    topics(&["events.archive"], 1);
    let copy = Copy::new();
    let archive = copy.path("archive.jsonl");
    fs::copy(copy.path("backfill-from-file.input.jsonl"), &archive).unwrap();
    let copy = copy.with("BACKFILL", archive.to_str().unwrap());
    let backfill = || {
        let ended = copy.run("backfill-from-file.yaml").finish(LIMIT);
        assert_eq!(ended.code(), 0, "{ended:?}");
        fs::read_to_string(&archive).unwrap()
    };
    let sent = backfill();
    assert_eq!(backfill(), sent);
    let mut file = fs::OpenOptions::new().append(true).open(&archive).unwrap();
    file.write_all(b"{\"key\":\"machine-9\",\"value\":\"cut o\n{\"key\":\"machine-1\",\"value\":\"grown\",\"timestamp_ms\":1793518204000}\n").unwrap();
    let sent: Vec<Value> = backfill().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(Kafka::shared().count("events.archive"), i64::try_from(sent.len()).unwrap());
    let mut found = records("events.archive", sent.len());
    for line in &sent {
        let text = |value: &Value| value.as_str().map(|text| text.as_bytes().to_vec());
        let headers = line["headers"].as_array().into_iter().flatten();
        let wanted = Record {
            partition: 0,
            timestamp_ms: line["timestamp_ms"].as_i64().unwrap(),
            key: part(line, "key"),
            value: part(line, "value"),
            headers: headers.map(|header| (header[0].as_str().unwrap().to_owned(), text(&header[1]))).collect(),
        };
        // Messages without a key have no order.
        let place = found.iter().position(|record| *record == wanted);
        found.remove(place.unwrap_or_else(|| panic!("{wanted:#?} is not among {found:#?}")));
    }
    let refused = fs::read_to_string(copy.path("archive.jsonl.refused")).unwrap();
    assert!(refused.lines().count() == 1 && refused.contains("cut o"), "{refused}");
}

#[test]
pub(super) fn tombstones_stay_null_and_keys_stay_in_their_partitions() {
    topics(&["profiles", "profiles.dlq"], 4);
    Kafka::shared().create_topic("profiles.checked", 4, &[("cleanup.policy", "compact")]);
    let copy = Copy::new();
    let sent = copy.send("tombstones-and-keys.input.jsonl");
    let bridge = copy.run("tombstones-and-keys.yaml");
    assert_dead_letters("profiles.dlq", &sent);
    let checked = records("profiles.checked", passing(&sent).len());
    // What kafka-python has sent, in the partitions that it chose, without what was refused.
    let source = records("profiles", sent.len());
    let is_expected = |record: &&Record| {
        passing(&sent).iter().any(|line| part(line, "key") == record.key && part(line, "value") == record.value)
    };
    let by_key = |records: Vec<&Record>| {
        let mut keys: BTreeMap<Vec<u8>, Vec<Record>> = BTreeMap::new();
        for record in records {
            keys.entry(record.key.clone().unwrap()).or_default().push(record.clone());
        }
        keys
    };
    let (before, after) = (by_key(source.iter().filter(is_expected).collect()), by_key(checked.iter().collect()));
    assert_eq!(after, before);
    assert_eq!((after[b"u-1".as_slice()].len(), after[b"".as_slice()].len()), (4, 1), "{after:#?}");
    assert_eq!(checked.iter().filter(|record| record.value.is_none()).count(), 2, "{checked:#?}");
    copy.end(bridge);
}

#[test]
pub(super) fn a_busy_service_is_asked_again_and_a_refusal_is_a_dead_letter() {
    static LAMPS: AtomicUsize = AtomicUsize::new(0);
    static CHAIRS: AtomicUsize = AtomicUsize::new(0);
    static VAULTS: AtomicUsize = AtomicUsize::new(0);
    let stock = Server::start(|head| match path_of(head) {
        // Busy twice, then not.
        "/v1/items/lamp" if LAMPS.fetch_add(1, Ordering::SeqCst) < 2 => response("503 Service Unavailable", "", ""),
        "/v1/items/lamp" => json_answer(&json!({ "available": 3 })),
        "/v1/items/chair" => {
            CHAIRS.fetch_add(1, Ordering::SeqCst);
            response("429 Too Many Requests", "", "")
        }
        "/v1/items/vault" => {
            VAULTS.fetch_add(1, Ordering::SeqCst);
            response("403 Forbidden", "", "")
        }
        _ => response("404 Not Found", "", ""),
    });
    topics(&["baskets", "baskets.checked", "baskets.dlq"], 1);
    let copy = Copy::new().with_loopback().with("STOCK", origin(&stock));
    let sent = copy.send("retry-and-dead-letter.input.jsonl");
    let bridge = copy.run("retry-and-dead-letter.yaml");
    let letters = assert_dead_letters("baskets.dlq", &sent);
    for record in records("baskets.checked", passing(&sent).len()) {
        assert_eq!(record.json(), json!({ "item": "lamp", "stock": { "available": 3 } }));
    }
    let attempts = |key: &str| letters.iter().find(|letter| letter.key_text() == key).unwrap().error("attempts");
    assert_eq!(["b-2", "b-3", "b-4"].map(attempts), ["5", "1", "1"], "{letters:#?}");
    assert_eq!((CHAIRS.load(Ordering::SeqCst), VAULTS.load(Ordering::SeqCst)), (5, 1));
    copy.end(bridge);
}
