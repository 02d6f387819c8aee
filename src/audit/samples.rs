//! One event of every kind, hostile where a guest may choose the text.

use std::sync::Arc;

use serde_json::json;

use crate::event::{Fact, Loss};
use crate::{
    Actor, Budget, Code, Context, DeadLetter, Disabled, Event, HostCall, Linked, Mode, Quarantine, Refused, Rejection,
    Scope, Trap,
};

pub(crate) const HOSTILE: &str = "a\nb\u{1b}[31m\u{202e}\u{0}\"\\";

pub(crate) fn context() -> Context {
    Context {
        instance_uid: "6f1c2c1e-4b0f-4a52-9d0c-6f7d0a7c9a11".to_owned(),
        hostname: "bridge-0.example".to_owned(),
        product_version: "0.1.0".to_owned(),
        wasmtime_version: "48.0.0".to_owned(),
        log_name: "portcullis.audit".to_owned(),
    }
}

pub(crate) fn plugin() -> Actor {
    let digest = format!("sha256:{}", "9f".repeat(32));
    Actor::plugin(Some(Arc::from("acme")), Arc::from("orders"), Arc::from("order-schema"), Some(digest.into()))
}

pub(crate) fn linked() -> Linked {
    Linked {
        version: Some("1.4.2".to_owned()),
        world: "portcullis:plugin/validator@0.1.0".to_owned(),
        imports: vec![
            "wasi:clocks/wall-clock.now".to_owned(),
            "portcullis:plugin/messages.[method]message.key".to_owned(),
        ],
        inert: vec!["wasi:cli/environment@0.2.12".to_owned()],
        grants: json!({"clock": "coarse", "log": "info", "share": 0.5, "most": u64::MAX, "note": HOSTILE}),
        budgets: vec![("deadline_ms", 250), ("fuel", 50_000_000), ("memory_bytes", u64::MAX)],
        mode: Mode::Buffered,
    }
}

/// Every kind that can be built, the variants of each included.
pub(crate) fn every_event() -> Vec<Event> {
    let unknown = Actor::plugin(None, Arc::from("orders"), Arc::from("fx"), None);
    let source = "orders/orders.raw-7@184467";
    let text = || HOSTILE.repeat(1000);
    let loss = Loss { reason: "queue.full", events: 2, by_code: vec![(Code::HostCall, 900)], first_ms: 5, last_ms: 9 };
    let letter = DeadLetter { queue: "orders.dlq".to_owned(), position: "orders.dlq-2@991".to_owned() };
    let quarantine = |dead_letter| Quarantine {
        channel: "orders.raw".to_owned(),
        dead_letter,
        kind: "rejected",
        code: text(),
        truncated: true,
        attempts: 3,
    };
    let budget = |limit, used, detail| Budget { kind: "fuel", limit, used, scope: Scope::Invocation, detail };
    let calls =
        HostCall { operation: Arc::from("wasi:clocks/wall-clock.now"), count: u64::MAX, start_ms: 5, end_ms: 9 };
    let trap = Trap { kind: "trap", detail: text(), instance: Some(text()), discarded: true };
    let disabled = Disabled { kind: "memory", detail: text(), quarantine_ms: Some(60_000) };
    let refused = |refused| Rejection { refused, detail: text(), version: Some(text()) };
    vec![
        Event::new(Actor::bridge(), Fact::Boot { mode: Mode::Strict, config_sha256: Some("bb22".to_owned()) }),
        Event::new(Actor::bridge(), Fact::Boot { mode: Mode::Buffered, config_sha256: None }),
        Event::new(Actor::bridge(), Fact::Stop { events: 3, lost: 0 }),
        Event::new(Actor::bridge(), Fact::Loss(loss)),
        Event::plugin_linked(plugin(), linked()),
        Event::plugin_linked(unknown.clone(), Linked::default()),
        Event::plugin_rejected(plugin(), refused(Refused::ImportDenied)),
        Event::plugin_rejected(
            unknown.clone(),
            Rejection { refused: Refused::Unreadable, detail: String::new(), version: None },
        ),
        Event::plugin_stopped(plugin()),
        Event::plugin_disabled(plugin(), disabled),
        Event::plugin_trapped(plugin(), trap).about(source),
        Event::plugin_trapped(unknown, Trap { kind: "trap", detail: String::new(), instance: None, discarded: false }),
        Event::budget_exceeded(plugin(), budget(Some(50_000_000), Some(u64::MAX), String::new())).about(source),
        Event::budget_exceeded(plugin(), budget(None, None, text())).about(text()),
        Event::record_quarantined(plugin(), source, quarantine(Some(letter))),
        Event::record_quarantined(Actor::pipeline(None, Arc::from("orders")), text(), quarantine(None)),
        Event::host_call(plugin(), calls),
    ]
}
