use std::cell::Cell;
use std::rc::Rc;

use portcullis_plugin::http::{Error, Response, test::respond};
use portcullis_plugin::{Enricher as _, Message, Verdict};

use crate::HttpEnrich;

const CONFIG: &str = r#"{
    "url": "https://rates.test/v1/{{/currency}}",
    "headers": {"accept": "application/json"},
    "take": {"/rate": "/price/rate", "/source": {"header": "x-source"}}
}"#;

type Server = fn() -> Result<Response, Error>;

fn plugin(changes: &str) -> HttpEnrich {
    let mut config: serde_json::Value = serde_json::from_str(CONFIG).unwrap();
    let changes: serde_json::Value = serde_json::from_str(changes).unwrap();
    config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    HttpEnrich::configure(&config.to_string()).unwrap()
}

fn enriched(plugin: &mut HttpEnrich, value: &str) -> (Verdict, Message) {
    let mut message = Message::of(value);
    let verdict = plugin.enrich(&mut message);
    (verdict, message)
}

fn code(plugin: &mut HttpEnrich, value: &str) -> (&'static str, String) {
    match enriched(plugin, value).0 {
        Verdict::Pass => ("pass", String::new()),
        Verdict::Drop(reason) => ("drop", reason.code.into_owned()),
        Verdict::Reject(reason) => ("reject", reason.code.into_owned()),
        Verdict::Retry(reason) => ("retry", reason.code.into_owned()),
    }
}

#[test]
fn the_fields_of_the_response_go_where_the_rules_say() {
    respond(|request| {
        assert_eq!((request.method(), request.url()), ("GET", "https://rates.test/v1/EUR"));
        assert_eq!(request.headers(), [("accept".to_owned(), b"application/json".to_vec())]);
        Ok(Response::of(200, r#"{"rate": 1.10, "source": "ecb"}"#))
    });
    let (verdict, message) = enriched(&mut plugin("{}"), r#"{"currency": "EUR", "n": 1.0}"#);
    assert_eq!(verdict, Verdict::pass());
    assert_eq!(message.value(), Some(br#"{"currency":"EUR","n":1.0,"price":{"rate":1.10}}"#.as_slice()));
    assert_eq!(message.header("x-source").unwrap().value, Some(b"ecb".to_vec()));
}

#[test]
fn what_is_absent_is_rejected_or_passed_as_configured() {
    respond(|request| match request.url() {
        "https://rates.test/v1/XXX" => Ok(Response::of(404, "no such currency")),
        _ => Ok(Response::of(200, r#"{"rate": 2}"#)),
    });
    let expected = [("XXX", "missing"), ("EUR", "missing")];
    for (currency, reason) in expected {
        let value = format!(r#"{{"currency": "{currency}"}}"#);
        assert_eq!(code(&mut plugin("{}"), &value), ("reject", reason.to_owned()));
        assert_eq!(code(&mut plugin(r#"{"on_missing": "pass"}"#), &value).0, "pass");
    }
    assert_eq!(code(&mut plugin("{}"), "{}"), ("reject", "no_field".to_owned()));
    let (_, message) = enriched(&mut plugin(r#"{"on_missing": "pass"}"#), r#"{"currency":"EUR"}"#);
    assert_eq!(message.value(), Some(br#"{"currency":"EUR","price":{"rate":2}}"#.as_slice()));
}

#[test]
fn a_failure_is_retried_only_where_that_may_help() {
    let cases: [(Server, &str, &str); 6] = [
        (|| Err(Error::new("connection-timeout", "response")), "retry", "no_answer"),
        (|| Err(Error::new("HTTP-request-denied", "response")), "reject", "denied"),
        (|| Ok(Response::of(503, "")), "retry", "http_status"),
        (|| Ok(Response::of(302, "").with_header("location", "http://169.254.169.254/")), "reject", "http_status"),
        (|| Ok(Response::of(200, "<html>")), "reject", "bad_response"),
        (|| Ok(Response::of(200, "x".repeat(70_000))), "reject", "no_answer"),
    ];
    for (server, verdict, reason) in cases {
        respond(move |_| server());
        let value = r#"{"currency": "EUR"}"#;
        assert_eq!(code(&mut plugin("{}"), value), (verdict, reason.to_owned()));
        assert_eq!(code(&mut plugin(r#"{"on_error": "reject"}"#), value), ("reject", reason.to_owned()));
        let (passed, message) = enriched(&mut plugin(r#"{"on_error": "pass"}"#), value);
        assert_eq!((passed, message.value()), (Verdict::pass(), Some(value.as_bytes())));
    }
}

#[test]
fn a_message_that_no_request_fits_causes_none() {
    respond(|request| panic!("asked for {}", request.url()));
    for (value, reason) in [("[", "not_json"), (r#"{"currency": ".."}"#, "bad_value"), ("[]", "no_field")] {
        assert_eq!(code(&mut plugin("{}"), value), ("reject", reason.to_owned()));
    }
    assert_eq!(plugin("{}").enrich(&mut Message::tombstone()), Verdict::pass());
}

#[test]
fn a_place_that_cannot_be_made_rejects_before_the_first_edit() {
    respond(|_| Ok(Response::of(200, r#"{"rate": 2, "source": "x"}"#)));
    let value = r#"{"currency": "EUR", "price": 3}"#;
    let (verdict, message) = enriched(&mut plugin("{}"), value);
    assert_eq!(verdict.code(), Some("not_an_object"));
    assert_eq!((message.value(), message.header("x-source")), (Some(value.as_bytes()), None));
}

#[test]
fn with_a_cache_the_same_url_is_asked_once_and_a_failure_is_not_kept() {
    let asked = Rc::new(Cell::new(0));
    let count = Rc::clone(&asked);
    respond(move |_| {
        count.set(count.get() + 1);
        match count.get() {
            1 => Ok(Response::of(503, "")),
            _ => Ok(Response::of(200, r#"{"rate": 2, "source": null}"#)),
        }
    });
    let mut plugin = plugin(r#"{"cache": {"entries": 2, "ttl_ms": 3600000}}"#);
    let value = r#"{"currency": "EUR"}"#;
    assert_eq!(code(&mut plugin, value).0, "retry");
    for _ in 0..3 {
        let (verdict, message) = enriched(&mut plugin, value);
        assert_eq!(verdict, Verdict::pass());
        assert_eq!(message.header("x-source").unwrap().value, None);
    }
    assert_eq!(asked.get(), 2);
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused() {
    let refused = |config: &str| HttpEnrich::configure(config).err().unwrap_or_default();
    assert!(refused(r#"{"url": "https://{{/x}}/", "take": {"/a": "/b"}}"#).contains("not a fixed one"));
    assert!(refused(r#"{"url": "https://a.test/", "take": {}}"#).contains("`take` is empty"));
    assert!(refused(r#"{"url": "https://a.test/", "take": {"/a": "/b"}, "cache": {"entries": 0}}"#).contains("cache"));
    assert!(
        refused(r#"{"url": "https://a.test/", "take": {"/a": "/b"}, "timeout": 5}"#).contains("unknown key timeout")
    );
}
