//! What somebody who looks is shown. Without consent no payload: not a value, a key or a header's value, and not a plugin's own
//! sentence, which may quote one.

use portcullis_connector_api::{Bytes, Header, Headers, Message, Receipt, Timestamp};
use portcullis_connector_local::envelope;
use portcullis_flow::FaultKind;
use serde_json::{Map, Value, json};

use super::{Answer, At, Departure, Position, Seen, Sight};
use crate::pipeline::Way;
use crate::pipeline::judge::stable;
use crate::plugin::{Outcome, tame};

/// Names of headers that are shown of one message, and how long each may be: a producer chooses both.
const MOST_NAMES: usize = 64;
const NAME_BYTES: usize = 128;
/// The longest name of a topic, subject or file that is shown.
const CHANNEL_BYTES: usize = 512;
/// The most of one message's payload that anybody is shown.
pub(crate) const MOST_PAYLOAD_BYTES: usize = 64 * 1024;

/// What was seen, as one JSON object. With `payload_bytes` up to so many bytes of key, value and headers.
pub(crate) fn line(at: At<'_>, seen: &Seen<'_>, payload_bytes: Option<usize>) -> Value {
    let mut line = Map::new();
    let mut put = |key: &str, value: Value| drop(line.insert(key.to_owned(), value));
    match at {
        At::Source => put("at", "source".into()),
        At::Plugin(plugin) => {
            put("at", "plugin".into());
            put("plugin", plugin.into());
        }
        At::Sink => put("at", "sink".into()),
    }
    put("id", format!("{:x}", seen.token.0).into());
    if let Some(position) = &seen.position {
        put("position", self::position(position));
    }
    match &seen.sight {
        Sight::Arrived { message, redelivered, defect } => {
            line.extend(arrival(message, *redelivered, *defect, payload_bytes));
        }
        Sight::Answered(answered) => {
            line.extend(answer(answered, payload_bytes.is_some()));
            line.extend(content(answered.after, payload_bytes));
        }
        Sight::Sent { message, place } => {
            put("event", "sent".into());
            put("to", place.as_deref().map(|place| tame(place, CHANNEL_BYTES)).into());
            line.extend(content(message, payload_bytes));
        }
        Sight::Stored(receipt) => stored("stored", *receipt, put),
        Sight::Lettered(receipt) => stored("dead_letter_stored", *receipt, put),
        Sight::Dropped => put("event", "dropped".into()),
        Sight::Left(left) => {
            put("event", event_of(left.way).into());
            line.extend(departure(left, payload_bytes.is_some()));
        }
    }
    Value::Object(line)
}

/// Where a message stood at its source.
pub(crate) fn position(position: &Position<'_>) -> Value {
    let channel = tame(position.channel, CHANNEL_BYTES);
    json!({ "channel": channel, "partition": position.partition, "offset": position.offset })
}

/// A message as it came, perhaps not readable.
pub(crate) fn arrival(
    message: &Message,
    redelivered: u32,
    defect: Option<&str>,
    payload_bytes: Option<usize>,
) -> Map<String, Value> {
    let mut map = content(message, payload_bytes);
    if redelivered > 0 {
        map.insert("redelivered".to_owned(), redelivered.into());
    }
    if let Some(defect) = defect {
        map.insert("defect".to_owned(), tame(defect, CHANNEL_BYTES).into());
    }
    map
}

fn content(message: &Message, payload_bytes: Option<usize>) -> Map<String, Value> {
    let mut map = Map::from_iter([("message".to_owned(), head(message))]);
    if let Some(bytes) = payload_bytes {
        map.insert("payload".to_owned(), excerpt(message, bytes));
    }
    map
}

fn stored(event: &str, receipt: Receipt, mut put: impl FnMut(&str, Value)) {
    put("event", event.into());
    put("partition", receipt.partition.into());
    put("offset", receipt.offset.into());
}

fn event_of(way: Way) -> &'static str {
    match way {
        Way::DeadLetter => "dead_letter",
        Way::Drop => "dropped",
        Way::Stop => "stopped",
    }
}

/// Why a message does not go to the sink, and who says so.
pub(crate) fn departure(departure: &Departure<'_>, with_payload: bool) -> Map<String, Value> {
    let mut map = Map::new();
    let mut put = |key: &str, value: Value| drop(map.insert(key.to_owned(), value));
    put("stage", departure.stage.into());
    if let Some(plugin) = departure.plugin {
        put("plugin", plugin.into());
    }
    put("kind", departure.kind.as_str().into());
    put("code", departure.code.into());
    if with_payload {
        put("detail", tame(departure.detail, CHANNEL_BYTES).into());
    }
    map
}

/// What a plugin answered: verdict, code, edits and cost.
pub(crate) fn answer(answer: &Answer<'_>, with_payload: bool) -> Map<String, Value> {
    let code = |code: &str| (!code.is_empty()).then(|| stable(code.to_owned(), FaultKind::Rejected));
    let (verdict, code, detail) = match answer.outcome {
        Outcome::Pass => ("pass", None, None),
        Outcome::Drop(reason) => ("drop", code(&reason.code), Some(&reason.detail)),
        Outcome::Reject(reason) => ("reject", code(&reason.code), Some(&reason.detail)),
        Outcome::Retry(reason) => ("retry", code(&reason.code), Some(&reason.detail)),
        Outcome::Fault(fault) => {
            let own = fault.code.unwrap_or(fault.kind.as_str());
            ("fault", Some(crate::pipeline::work::FailureCode::Own(own)), Some(&fault.detail))
        }
    };
    let mut map = Map::new();
    let mut put = |key: &str, value: Value| drop(map.insert(key.to_owned(), value));
    put("verdict", verdict.into());
    if let Some(code) = code {
        put("code", code.as_str().into());
    }
    if let Some(detail) = detail.filter(|detail| with_payload && !detail.is_empty()) {
        put("detail", tame(detail, CHANNEL_BYTES).into());
    }
    if answer.attempt > 1 {
        put("attempt", answer.attempt.into());
    }
    put("time_us", u64::try_from(answer.time.as_micros()).unwrap_or(u64::MAX).into());
    put("fuel", answer.fuel.into());
    if *answer.outcome == Outcome::Pass {
        put("edits", edits(answer.before, answer.after).into());
    }
    if answer.withheld > 0 {
        put("egress_withheld", answer.withheld.into());
    }
    map
}

/// A message without its payload: where it is from, how large its parts are and how its headers are called.
fn head(message: &Message) -> Value {
    let length = |bytes: &Option<Bytes>| bytes.as_ref().map(Bytes::len);
    let names: Vec<String> = message.headers.iter().take(MOST_NAMES).map(name_of).collect();
    let mut head = json!({
        "channel": tame(&message.channel, CHANNEL_BYTES),
        "key_bytes": length(&message.key),
        "value_bytes": length(&message.value),
        "size_bytes": message.size_bytes(),
        "timestamp_ms": message.timestamp.millis(),
        "headers": names,
    });
    let more = message.headers.len().saturating_sub(MOST_NAMES);
    if let (true, Some(head)) = (more > 0, head.as_object_mut()) {
        head.insert("more_headers".to_owned(), more.into());
    }
    head
}

/// The first bytes of a message in the form of JSON Lines: of its key, then of its value, then of its headers. `cut` where
/// that is not all.
pub(crate) fn excerpt(message: &Message, bytes: usize) -> Value {
    let mut left = bytes;
    let mut short = Message::new("");
    short.key = message.key.as_ref().map(|key| first(key, &mut left));
    short.value = message.value.as_ref().map(|value| first(value, &mut left));
    short.timestamp = Timestamp::Unknown;
    let mut headers = Vec::new();
    for Header { name, value } in message.headers.iter().take(MOST_NAMES) {
        if left == 0 {
            break;
        }
        let name = first(name, &mut left);
        headers.push(Header { name, value: value.as_ref().map(|value| first(value, &mut left)) });
    }
    short.headers = headers.into_iter().collect::<Headers>();
    let mut printed = Vec::new();
    envelope::print(&short, &mut printed);
    let mut excerpt: Map<String, Value> = serde_json::from_slice(&printed).unwrap_or_default();
    excerpt.remove("channel");
    if short.size_bytes() < message.size_bytes() {
        excerpt.insert("cut".to_owned(), true.into());
    }
    Value::Object(excerpt)
}

/// As much of a field as there is room for, without half a character.
fn first(field: &Bytes, left: &mut usize) -> Bytes {
    let mut end = field.len().min(*left);
    if let Ok(text) = std::str::from_utf8(field) {
        end = text.floor_char_boundary(end);
    }
    *left = left.saturating_sub(end);
    field.slice(..end)
}

/// What a plugin has changed, by name and size.
pub(crate) fn edits(before: &Message, after: &Message) -> Vec<String> {
    let mut edits = Vec::new();
    let size = |bytes: &Option<Bytes>| bytes.as_ref().map_or("null".to_owned(), |bytes| format!("{} B", bytes.len()));
    for (name, before, after) in [("key", &before.key, &after.key), ("value", &before.value, &after.value)] {
        if before != after {
            edits.push(format!("{name} {} -> {}", size(before), size(after)));
        }
    }
    let is_new = |header: &&Header| !before.headers.iter().any(|old| old == *header);
    for header in after.headers.iter().filter(is_new).take(MOST_NAMES) {
        let mark = if before.headers.last(&header.name).is_some() { "~" } else { "+" };
        edits.push(format!("{mark}{}", name_of(header)));
    }
    let is_gone = |header: &&Header| after.headers.last(&header.name).is_none();
    edits.extend(before.headers.iter().filter(is_gone).take(MOST_NAMES).map(|header| format!("-{}", name_of(header))));
    edits
}

fn name_of(header: &Header) -> String {
    tame(&String::from_utf8_lossy(&header.name), NAME_BYTES).into_owned()
}

#[cfg(test)]
mod tests {
    use portcullis_connector_api::{Channel, Token};

    use super::*;
    use crate::plugin::Reason;

    fn message() -> Message {
        let mut message = Message::new("orders.raw");
        message.key = Some("secret-key".into());
        message.value = Some("secret-value".into());
        message.headers.append(Header::new("h", Some("secret-header")));
        message
    }

    fn seen<'a>(channel: &'a Channel, sight: Sight<'a>) -> Seen<'a> {
        Seen { token: Token(0x2a), position: Some(Position { channel, partition: 3, offset: 41 }), sight }
    }

    #[test]
    fn without_consent_no_value_and_no_sentence_of_a_plugin_is_shown() {
        let (channel, message) = (Channel::from("orders.raw"), message());
        let reason = Reason { code: "not a secret name".into(), detail: "secret-detail".into() };
        let outcome = Outcome::Reject(reason);
        let departure = Departure {
            kind: FaultKind::Rejected,
            code: "c",
            detail: "secret-detail",
            way: Way::DeadLetter,
            stage: "plugin",
            plugin: Some("p"),
        };
        let answered = || Answer {
            before: &message,
            after: &message,
            outcome: &outcome,
            attempt: 1,
            time: std::time::Duration::ZERO,
            fuel: 7,
            withheld: 0,
        };
        let sights = [
            (At::Source, Sight::Arrived { message: &message, redelivered: 0, defect: None }),
            (At::Plugin("p"), Sight::Answered(answered())),
            (At::Sink, Sight::Sent { message: &message, place: Some("t".to_owned()) }),
            (At::Sink, Sight::Left(departure)),
        ];
        for (at, sight) in sights {
            let seen = seen(&channel, sight);
            let shown = line(at, &seen, None);
            assert!(!shown.to_string().contains("secret"), "{shown}");
            assert_eq!((&shown["position"]["offset"], &shown["id"]), (&json!(41), &json!("2a")));
            let shown = line(at, &seen, Some(1024));
            assert!(shown.to_string().contains("secret"), "{shown}");
        }
        let shown = line(At::Plugin("p"), &seen(&channel, Sight::Answered(answered())), None);
        assert_eq!((&shown["code"], &shown["fuel"]), (&json!("invalid_code"), &json!(7)));
    }

    #[test]
    fn an_excerpt_has_no_more_bytes_than_asked_for_and_says_so() {
        let mut message = message();
        assert_eq!(excerpt(&message, 1024).get("cut"), None);
        let short = excerpt(&message, 13);
        assert_eq!(
            (&short["key"], &short["value"], &short["cut"]),
            (&"secret-key".into(), &"sec".into(), &true.into())
        );
        assert_eq!(short.get("headers"), None);
        message.key = None;
        message.value = Some("é".repeat(10).into());
        assert_eq!(excerpt(&message, 5)["value"], "éé");
        message.value = Some(vec![0xff; 10].into());
        assert_eq!(excerpt(&message, 3)["value_b64"], "////");
    }

    #[test]
    fn edits_are_named_and_not_shown() {
        let before = message();
        let mut after = before.clone();
        after.value = None;
        after.headers.set(Header::new("h", Some("other")));
        after.headers.append(Header::new("new", Some("secret")));
        assert_eq!(edits(&before, &after), ["value 12 B -> null", "~h", "+new"]);
        assert_eq!(edits(&after, &before), ["value null -> 12 B", "~h", "-new"]);
    }

    #[test]
    fn names_that_producers_choose_are_bounded_and_harmless() {
        let mut message = Message::new("t");
        for number in 0..70 {
            message.headers.append(Header::new(format!("{number}\u{1b}[31m{}", "x".repeat(500)), Some("")));
        }
        let head = head(&message);
        assert_eq!((head["headers"].as_array().unwrap().len(), &head["more_headers"]), (64, &json!(6)));
        let text = head.to_string();
        assert!(!text.contains('\u{1b}') && text.len() < 64 * 200, "{}", text.len());
    }
}
