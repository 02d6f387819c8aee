//! Does what the message says and reports what came of it, so that a test or a reviewer needs no plugin of their own.
//!
//! ```json
//! {"ops": [
//!   {"op": "tcp", "to": "93.184.216.34:80", "send": "text", "read": 100},
//!   {"op": "tcp-name", "name": "ok.test", "port": 443},
//!   {"op": "resolve", "name": "ok.test", "max_addresses": 8},
//!   {"op": "udp", "to": "93.184.216.34:53", "send": "x", "connected": true, "read": 1},
//!   {"op": "udp", "name": "ok.test", "port": 53, "send": "x"},
//!   {"op": "bind", "proto": "udp", "to": "0.0.0.0:8080"},
//!   {"op": "listen", "to": "0.0.0.0:8080"},
//!   {"op": "open-sockets", "count": 20, "to": "93.184.216.34:80"},
//!   {"op": "http", "method": "GET", "scheme": "https", "authority": "ok.test", "path": "/v1/", "headers": [["a", "b"]], "body": "x", "read": 100},
//!   {"op": "now"}, {"op": "random", "len": 8}, {"op": "sleep", "ms": 5}
//! ]}
//! ```
//!
//! The value that comes out is the same object with `results`, one an op: `{"ok": true, "detail": ...}`, with `status` (http), `addresses`
//! (resolve) and `opened` (open-sockets); or `{"ok": false, "code": "access-denied", "at": "finish-connect"}`. A code is the one of WASI by its
//! WIT name, `setter` where a WASI setter or constructor refused, `timeout` where the probe itself gave up, `bad-op` where the op makes no sense.
//!
//! - `to` is an address with a port, IPv6 in brackets. `name` is given to the resolver as it is; of its answer the first address is taken.
//! - `read: n` waits for up to n bytes, or one datagram; without it nothing is read. It gives up after `wait_ms`, by default 1000.
//! - Connecting waits as long as the host does, or for `wait_ms`.
//! - `open-sockets` connects (without `to`: creates) one socket after the other until one fails, whose `code` and `at` it reports; it is
//!   ok when there was at least one. They are closed after the last op of the message.
//! - `listen` without `to` listens on a socket that was not bound. With `accept: true` a connection is asked for as well.
//! - The parts of `http` go to the WASI setters unchanged; one that is absent is not set. The body of the response is read and counted
//!   (`detail.length`); `read: n` also shows its first n bytes. `wait_ms` sets the three timeouts of the request.
//!
//! A value that is not an object with a list `ops` is rejected as `not_a_probe`.

#![cfg_attr(not(target_arch = "wasm32"), allow(dead_code, reason = "on the host nothing is done, only read"))]

mod op;
mod outcome;

#[cfg(target_arch = "wasm32")]
mod http;
#[cfg(target_arch = "wasm32")]
mod run;
#[cfg(target_arch = "wasm32")]
mod tcp;
#[cfg(target_arch = "wasm32")]
mod udp;
#[cfg(target_arch = "wasm32")]
mod wait;

use portcullis_plugin::{Message, Verdict, enricher};
use serde_json::Value;

portcullis_plugin::manifest! {
    enricher,
    clock: "ops `now` and `sleep`, and the bounds of waiting",
    random: "op `random`",
    egress: "the other ops: whatever the message says",
}

#[enricher]
fn probe(message: &mut Message) -> Verdict {
    let Some(bytes) = message.value() else { return Verdict::pass() };
    let Ok(Value::Object(mut value)) = serde_json::from_slice(bytes) else {
        return Verdict::reject("not_a_probe", "the value is not a JSON object");
    };
    let Some(Value::Array(ops)) = value.get("ops") else {
        return Verdict::reject("not_a_probe", "the value has no list `ops`");
    };
    let results = results(ops);
    value.insert("results".to_owned(), results);
    message.set_value(Some(Value::Object(value).to_string().into_bytes()));
    Verdict::pass()
}

fn results(ops: &[Value]) -> Value {
    #[cfg(target_arch = "wasm32")]
    let mut run = run::Run::default();
    let one = |op: &Value| match op::parse(op) {
        #[cfg(target_arch = "wasm32")]
        Ok(op) => run.one(&op),
        #[cfg(not(target_arch = "wasm32"))]
        Ok(_) => Err(outcome::Failure::new("not-on-the-host", "probe")),
        Err(failure) => Err(failure),
    };
    ops.iter().map(one).map(outcome::report).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_result_an_op_also_for_those_that_make_no_sense() {
        let mut message =
            Message::of(r#"{"id": 7, "ops": [{"op": "fly"}, 3, {"op": "tcp", "to": "127.1:80"}, {"op": "now"}]}"#);
        assert_eq!(probe(&mut message), Verdict::pass());
        let value: Value = serde_json::from_slice(message.value().unwrap()).unwrap();
        let codes: Vec<_> = value["results"].as_array().unwrap().iter().map(|result| result["code"].clone()).collect();
        assert_eq!(codes, ["bad-op", "bad-op", "bad-op", "not-on-the-host"]);
        assert_eq!(value["id"], 7);
    }

    #[test]
    fn a_value_without_ops_is_rejected() {
        for value in ["[]", "{", r#"{"ops": 3}"#] {
            assert_eq!(probe(&mut Message::of(value)).code(), Some("not_a_probe"), "{value}");
        }
        assert_eq!(probe(&mut Message::tombstone()), Verdict::pass());
    }
}
