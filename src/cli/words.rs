//! Words for people: counts, and what was seen of messages, from the lines for programs that a tap and a dry run share.

use std::fmt::Display;

use serde_json::Value;

use crate::plugin::tame;

/// The longest name, and the longest sentence.
const WORD_BYTES: usize = 512;
const SENTENCE_BYTES: usize = 1024;

/// `1 broker`, `2 brokers`.
pub(super) fn some(count: impl Copy + Display + TryInto<u64>, noun: &str) -> String {
    let is_one = count.try_into().is_ok_and(|count| count == 1);
    format!("{count} {noun}{}", if is_one { "" } else { "s" })
}

/// A name that somebody else chose.
pub(super) fn word(value: &Value) -> String {
    tame(value.as_str().unwrap_or("?"), WORD_BYTES).into_owned()
}

pub(super) fn sentence(text: &str) -> String {
    tame(text, SENTENCE_BYTES).into_owned()
}

/// Where a message stood at its source: `orders.raw-0@12`.
pub(super) fn position(position: &Value) -> String {
    format!("{}-{}@{}", word(&position["channel"]), position["partition"], position["offset"])
}

/// `key 4 B, value null`.
pub(super) fn sizes(head: &Value) -> String {
    let part = |name: &str| match head[format!("{name}_bytes")].as_u64() {
        Some(bytes) => format!("{name} {bytes} B"),
        None => format!("{name} null"),
    };
    format!("{}, {}", part("key"), part("value"))
}

/// How many headers it has, those that are not named included.
pub(super) fn header_count(head: &Value) -> u64 {
    head["headers"].as_array().map_or(0, Vec::len) as u64 + head["more_headers"].as_u64().unwrap_or(0)
}

/// `[a, b and 3 more]`.
pub(super) fn headers(head: &Value) -> String {
    let names: Vec<String> = head["headers"].as_array().into_iter().flatten().map(word).collect();
    let more = head["more_headers"].as_u64().map(|more| format!(" and {more} more")).unwrap_or_default();
    format!("[{}{more}]", names.join(", "))
}

/// What a plugin answered: `fx: reject no_rate  (call 2)  31 us, 512 fuel`.
pub(super) fn answer(plugin: &Value) -> String {
    let mut text = format!("{}: {}", word(&plugin["plugin"]), word(&plugin["verdict"]));
    for part in ["code", "detail"] {
        if let Some(part) = plugin[part].as_str() {
            text.push_str(&format!(" {}", sentence(part)));
        }
    }
    if let Some(attempt) = plugin["attempt"].as_u64() {
        text.push_str(&format!("  (call {attempt})"));
    }
    text.push_str(&format!("  {} us, {} fuel", plugin["time_us"], plugin["fuel"]));
    let edits: Vec<String> = plugin["edits"].as_array().into_iter().flatten().map(word).collect();
    if !edits.is_empty() {
        text.push_str(&format!("  {}", edits.join(", ")));
    }
    if let Some(withheld) = plugin["egress_withheld"].as_u64() {
        let withheld = some(withheld, "request");
        text.push_str(&format!("  [{withheld} that it is granted withheld by this dry run]"));
    }
    text
}

/// Why a message did not go to the sink: `: rejected, no_rate (by fx)`.
pub(super) fn reason(left: &Value) -> String {
    let text = match (left["kind"].as_str(), left["code"].as_str()) {
        (Some(kind), Some(code)) if kind != code => format!(": {}, {}", sentence(kind), sentence(code)),
        (Some(kind), _) => format!(": {}", sentence(kind)),
        _ => String::new(),
    };
    let by = left["plugin"].as_str().or(left["stage"].as_str());
    format!("{text}{}", by.map(|by| format!(" (by {})", sentence(by))).unwrap_or_default())
}

/// What is wrong with a message that its source could not read.
pub(super) fn defect(line: &Value) -> Option<String> {
    Some(format!("cannot be read: {}", sentence(line["defect"].as_str()?)))
}

/// The payload on a line of its own, below what was said before. Whoever made the line has cut it, and says so in it.
pub(super) fn payload(line: &Value) -> Option<String> {
    let payload = line.get("payload").filter(|payload| !payload.is_null())?;
    Some(format!("\n    payload  {}", tame(&payload.to_string(), usize::MAX)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_is_one_and_any_other_number_is_many() {
        assert_eq!([some(0_usize, "message"), some(1_u64, "message")], ["0 messages", "1 message"]);
    }

    #[test]
    fn what_others_chose_cannot_forge_a_line_or_fool_a_terminal() {
        let evil = "x\n\u{1b}[2Kok";
        let message = json!({ "headers": [evil], "more_headers": 3, "key_bytes": 1 });
        let plugin = json!({ "plugin": evil, "verdict": evil, "code": evil, "detail": evil, "edits": [evil], "attempt": 2, "time_us": 1, "fuel": 2 });
        let left = json!({ "kind": evil, "code": "c", "stage": evil });
        let texts = [
            word(&evil.into()),
            position(&json!({ "channel": evil, "partition": 1, "offset": 2 })),
            headers(&message),
            answer(&plugin),
            reason(&left),
            defect(&json!({ "defect": evil })).unwrap(),
        ];
        for text in texts {
            assert!(!text.contains(['\n', '\u{1b}']) && text.contains("x\\n"), "{text}");
        }
        assert_eq!(
            (headers(&json!({ "headers": ["a", "b"], "more_headers": 3 })).as_str(), header_count(&message)),
            ("[a, b and 3 more]", 4)
        );
    }

    #[test]
    fn a_payload_is_shown_as_long_as_it_is() {
        let line = json!({ "payload": { "value": "\u{2028}".repeat(64 * 1024) } });
        let shown = payload(&line).unwrap();
        assert!(shown.ends_with("\"}") && shown.len() > 8 * 64 * 1024, "{}", shown.len());
        assert_eq!(payload(&json!({ "payload": null })), None);
    }
}
