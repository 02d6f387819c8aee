//! What a person sees, and the same as JSON.

use std::io::IsTerminal;
use std::net::SocketAddr;

use portcullis_connector_api::Message;
use portcullis_connector_kafka::Connection;
use portcullis_connector_local::envelope;
use serde_json::{Value, json};

use super::judge::Judgement;
use super::readback::{Place, Readback, event_code, letter_header};
use super::topics::Topics;
use crate::audit_store::Target;
use crate::cli::Format;
use crate::cli::words::some;

pub(super) struct Screen {
    format: Format,
    colours: bool,
    brokers: String,
    is_inside: bool,
}

/// Said before the longest silence: the compiler's.
pub(super) fn linking(format: Format) {
    if format == Format::Text {
        println!("plugins    are compiled and linked in the sandbox: some seconds the first time, then from the cache");
    }
}

#[derive(Clone, Copy)]
enum Colour {
    Green,
    Red,
    Blue,
    Bold,
}

impl Screen {
    pub(super) fn new(format: Format, connection: &Connection, is_inside: bool) -> Self {
        let colours = format == Format::Text && std::io::stdout().is_terminal();
        Self { format, colours, brokers: connection.brokers.clone(), is_inside }
    }

    pub(super) fn starting(&self, pipelines: &[String], topics: &Topics, audit: &Target) {
        if self.is_inside {
            self.line("broker", &format!("{}, librdkafka's own test broker inside this process", self.brokers));
            self.line("", "it speaks Kafka's protocol but keeps everything in memory (5 MB a partition), knows no");
            self.line("", "access control, no TLS and no transactions, and ends with this command");
        } else {
            self.line("broker", &self.brokers);
        }
        self.line("pipeline", &pipelines.join(", "));
        let letters = topics.dead_letter.as_deref().unwrap_or("none");
        let sources = topics.sources.join(", ");
        let audit = topics.audit.clone().unwrap_or_else(|| format!("in {}", audit.name()));
        self.line("topics", &format!("{sources} -> {}, dead letters {letters}, audit {audit}", topics.sink));
    }

    pub(super) fn sent(&self, count: usize) {
        self.line("input", &format!("{} in the source topic", some(count, "message")));
    }

    /// One message as it is read back.
    pub(super) fn arrived(&self, message: &Message, place: Place) {
        let key = message
            .key
            .as_deref()
            .map_or_else(|| "null".to_owned(), |key| String::from_utf8_lossy(key).escape_debug().to_string());
        let value =
            message.value.as_deref().map_or_else(|| "null".to_owned(), |value| short(&String::from_utf8_lossy(value)));
        match place {
            Place::Sink => self.line(&self.paint("passed", Colour::Green), &format!("{key} {value}")),
            Place::DeadLetter => {
                let header = |name| letter_header(message, name).unwrap_or("?");
                let why = format!("{key} {}: {}", header("code"), header("message"));
                self.line(&self.paint(header("reason"), Colour::Red), &why);
            }
            Place::Audit => {
                let event: Value =
                    serde_json::from_slice(message.value.as_deref().unwrap_or_default()).unwrap_or_default();
                let code = event_code(&event);
                let text = event.get("message").and_then(Value::as_str).unwrap_or_default();
                self.line(&self.paint("audit", Colour::Blue), &format!("{code}: {text}{}", decision(&event)));
            }
        }
    }

    pub(super) fn summary(&self, judgement: &Judgement, found: &Readback, metrics: SocketAddr) {
        match self.format {
            Format::Text => self.text(judgement, found, metrics),
            Format::Json => println!("{}", self.json(judgement, found, metrics)),
        }
    }

    pub(super) fn keeping(&self) {
        self.line("kept", "everything keeps running until Ctrl-C");
    }

    fn text(&self, judgement: &Judgement, found: &Readback, metrics: SocketAddr) {
        println!();
        println!("{}", self.paint("read back from the topics by a consumer of its own:", Colour::Bold));
        self.line("in", &judgement.sent.to_string());
        self.line("passed", &judgement.passed.to_string());
        let dead: usize = judgement.dead.values().sum();
        self.line("dead", &format!("{dead} in the dead letter queue"));
        for ((reason, code), count) in &judgement.dead {
            self.line("", &format!("{count} {reason}: {code}"));
        }
        self.line("dropped", &judgement.dropped.to_string());
        self.line("audit", &some(found.audit.len(), "event"));
        for (code, count) in audit_codes(found) {
            self.line("", &format!("{count} {code}"));
        }
        self.line("metrics", &format!("http://{metrics}/metrics"));
        println!();
        if judgement.wrong.is_empty() {
            let text = match judgement.checked {
                1 => "the one expectation of the input holds".to_owned(),
                checked => format!("all {checked} expectations of the input hold"),
            };
            println!("{}", self.paint(&text, Colour::Green));
        }
        for wrong in &judgement.wrong {
            println!("{} {wrong}", self.paint("wrong:", Colour::Red));
        }
        if self.is_inside {
            println!("next: `--keep` leaves it running, `--brokers HOST:PORT` takes a real cluster, and");
            println!("      `portcullis run FILE` is the same pipeline in earnest");
        }
    }

    /// One message before and after: the first that passed.
    pub(super) fn before_and_after(&self, before: &Message, after: &Message) {
        if self.format == Format::Json {
            return;
        }
        println!();
        self.line("before", &printed(before));
        self.line("after", &printed(after));
    }

    fn json(&self, judgement: &Judgement, found: &Readback, metrics: SocketAddr) -> Value {
        let dead: Vec<Value> = judgement
            .dead
            .iter()
            .map(|((reason, code), count)| json!({ "reason": reason, "code": code, "count": count }))
            .collect();
        let codes: serde_json::Map<String, Value> =
            audit_codes(found).into_iter().map(|(code, count)| (code, json!(count))).collect();
        json!({
            "in": judgement.sent, "passed": judgement.passed, "dead_letters": dead, "dropped": judgement.dropped,
            "expectations": judgement.checked, "wrong": judgement.wrong, "ok": judgement.is_good(),
            "audit_events": codes, "broker": self.brokers, "metrics": format!("http://{metrics}/metrics"),
        })
    }

    fn line(&self, label: &str, text: &str) {
        if self.format == Format::Text {
            // Escape sequences have no width, so the label is padded by hand.
            let width =
                label.chars().filter(|c| !c.is_control()).count() - if label.contains('\u{1b}') { 7 } else { 0 };
            println!("{label}{} {text}", " ".repeat(10_usize.saturating_sub(width)));
        }
    }

    fn paint(&self, text: &str, colour: Colour) -> String {
        if !self.colours {
            return text.to_owned();
        }
        let code = match colour {
            Colour::Bold => "01",
            Colour::Red => "31",
            Colour::Green => "32",
            Colour::Blue => "34",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// Why, and by which rule, where the event is a decision about the network.
fn decision(event: &Value) -> String {
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str);
    let Some(rule) = text("/firewall_rule/uid") else { return String::new() };
    let reason = text("/status_detail").map(|reason| format!("{reason}, ")).unwrap_or_default();
    let name = text("/firewall_rule/name").filter(|name| *name != rule);
    let name = name.map(|name| format!(" {name}")).unwrap_or_default();
    let path = text("/http_request/url/path").map(|path| format!(" for {path}")).unwrap_or_default();
    format!(" [{reason}{rule}{name}{path}]")
}

fn audit_codes(found: &Readback) -> std::collections::BTreeMap<String, usize> {
    let mut codes = std::collections::BTreeMap::new();
    for event in &found.audit {
        *codes.entry(event_code(event).to_owned()).or_insert(0) += 1;
    }
    codes
}

fn printed(message: &Message) -> String {
    let mut line = Vec::new();
    envelope::print(message, &mut line);
    String::from_utf8_lossy(&line).trim_end().to_owned()
}

fn short(text: &str) -> String {
    const LONGEST: usize = 100;
    let mut cut: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        cut.push_str("...");
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_whose_name_is_its_number_is_named_once() {
        let event = |name: &str| {
            json!({
                "status_detail": "rule.no_match", "firewall_rule": { "uid": "default-deny", "name": name },
                "http_request": { "url": { "path": "/v1" } },
            })
        };
        assert_eq!(decision(&event("default-deny")), " [rule.no_match, default-deny for /v1]");
        assert_eq!(decision(&event("a.test")), " [rule.no_match, default-deny a.test for /v1]");
        assert_eq!(decision(&json!({})), "");
    }
}
