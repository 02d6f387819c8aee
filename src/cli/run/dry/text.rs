//! The lines of a dry run for people, made from those for programs.

use serde_json::Value;

use crate::plugin::tame;

/// The longest payload that is printed on one line, escapes included.
const PAYLOAD_BYTES: usize = 64 * 1024;

pub(super) fn begin(allow_egress: bool, audit: &str) -> String {
    let nothing = "dry run: nothing is sent, acknowledged or committed";
    match allow_egress {
        true => format!("{nothing}; what plugins are granted of the network is carried out and recorded in {audit}"),
        false => format!(
            "{nothing}, and nothing is written to the audit\n         what plugins are granted of the network is withheld; \
             --allow-egress carries it out, with its audit"
        ),
    }
}

pub(super) fn message(line: &Value) -> String {
    let source = &line["source"];
    let head = &line["message"];
    let mut text = format!(
        "{}  {}-{}@{}  {}",
        word(&line["pipeline"]),
        word(&source["channel"]),
        source["partition"],
        source["offset"],
        size(head)
    );
    if head["channel"] != source["channel"] {
        text.push_str(&format!("  {}", word(&head["channel"])));
    }
    text.push_str(&format!("  ->  {}", destination(&line["destination"])));
    if let Some(withheld) = line["egress_withheld"].as_u64() {
        text.push_str(&format!("  [uncertain: {withheld} requests were withheld by this dry run]"));
    }
    if let Some(defect) = line["defect"].as_str() {
        text.push_str(&format!("\n    cannot be read: {defect}"));
    }
    for plugin in line["plugins"].as_array().into_iter().flatten() {
        text.push_str(&format!("\n    {}", answer(plugin)));
    }
    if !line["payload"].is_null() {
        text.push_str(&format!("\n    payload  {}", tame(&line["payload"].to_string(), PAYLOAD_BYTES)));
    }
    text
}

fn size(head: &Value) -> String {
    let part = |name: &str, bytes: &Value| match bytes.as_u64() {
        Some(bytes) => format!("{name} {bytes} B"),
        None => format!("{name} null"),
    };
    let headers = head["headers"].as_array().map_or(0, Vec::len) as u64 + head["more_headers"].as_u64().unwrap_or(0);
    format!("{}, {}, {headers} headers", part("key", &head["key_bytes"]), part("value", &head["value_bytes"]))
}

fn destination(destination: &Value) -> String {
    let place = ["topic", "subject", "file"].into_iter().find_map(|kind| destination[kind].as_str()).unwrap_or("?");
    let partition = match (destination["partition"].as_i64(), destination.get("partition")) {
        (Some(partition), _) => format!("-{partition}"),
        (None, Some(_)) => " (any partition)".to_owned(),
        (None, None) => String::new(),
    };
    let stream = destination["stream"].as_str().map(|stream| format!(" (stream {stream})")).unwrap_or_default();
    let by = destination["plugin"].as_str().or(destination["stage"].as_str());
    let reason = match (destination["kind"].as_str(), destination["code"].as_str()) {
        (Some(kind), Some(code)) if kind != code => format!(": {kind}, {code}"),
        (Some(kind), _) => format!(": {kind}"),
        _ => String::new(),
    };
    let reason = format!("{reason}{}", by.map(|by| format!(" (by {by})")).unwrap_or_default());
    match destination["to"].as_str().unwrap_or_default() {
        "sink" => format!("{place}{partition}{stream}"),
        "dead_letter" => format!("dead letter {place}{partition}{stream}{reason}"),
        "dropped" => format!("dropped{reason}"),
        "stopped" => format!("would stop the pipeline{reason}"),
        _ => "unfinished: the pipeline ended before".to_owned(),
    }
}

fn answer(plugin: &Value) -> String {
    let mut text = format!("{}  {}", word(&plugin["plugin"]), word(&plugin["verdict"]));
    for part in ["code", "detail"] {
        if let Some(part) = plugin[part].as_str() {
            text.push_str(&format!("  {}", tame(part, 1024)));
        }
    }
    if let Some(attempt) = plugin["attempt"].as_u64() {
        text.push_str(&format!("  (call {attempt})"));
    }
    text.push_str(&format!("  {} us, {} fuel", plugin["time_us"], plugin["fuel"]));
    let edits: Vec<&str> = plugin["edits"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !edits.is_empty() {
        text.push_str(&format!("  {}", edits.join(", ")));
    }
    if let Some(withheld) = plugin["egress_withheld"].as_u64() {
        text.push_str(&format!("  [{withheld} requests that it is granted were withheld by this dry run]"));
    }
    text
}

pub(super) fn summary(summary: &Value) -> String {
    let mut text = format!("\n{}: {} messages", word(&summary["pipeline"]), summary["messages"]);
    let counts = [
        ("sink", "to the sink"),
        ("dead_letter", "dead letters"),
        ("dropped", "dropped"),
        ("stopped", "that would stop the pipeline"),
        ("unfinished", "unfinished"),
    ];
    let counts =
        counts.iter().filter_map(|(key, words)| Some((summary[*key].as_u64().filter(|count| *count > 0)?, words)));
    let counts: Vec<String> = counts.map(|(count, words)| format!("{count} {words}")).collect();
    if !counts.is_empty() {
        text.push_str(&format!(": {}", counts.join(", ")));
    }
    if let Some(withheld) = summary["egress_withheld"].as_u64().filter(|withheld| *withheld > 0) {
        text.push_str(&format!("; {withheld} requests of plugins were withheld"));
    }
    let ended: Vec<&str> = summary["ended"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    match summary["error"].as_str() {
        Some(error) => text.push_str(&format!("; failed: {error}")),
        None if !ended.is_empty() => text.push_str(&format!("; {}", ended.join(", "))),
        None => {}
    }
    text
}

fn word(value: &Value) -> String {
    tame(value.as_str().unwrap_or("?"), 512).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_message_says_where_it_is_from_what_each_plugin_said_and_where_it_would_go() {
        let line = json!({
            "pipeline": "orders", "source": { "channel": "orders.raw", "partition": 0, "offset": 12 },
            "message": { "channel": "orders.raw", "key_bytes": 4, "value_bytes": null, "headers": ["h"] },
            "plugins": [{ "plugin": "fx", "verdict": "reject", "code": "no_rate", "time_us": 31, "fuel": 512, "egress_withheld": 2 }],
            "destination": { "to": "dead_letter", "topic": "orders.dlq", "partition": 3, "stage": "plugin", "plugin": "fx", "kind": "rejected", "code": "no_rate" },
            "egress_withheld": 2,
        });
        let text = message(&line);
        let first = "orders  orders.raw-0@12  key 4 B, value null, 1 headers  ->  dead letter orders.dlq-3: rejected, no_rate (by fx)  [uncertain: 2 requests were withheld by this dry run]";
        let second =
            "    fx  reject  no_rate  31 us, 512 fuel  [2 requests that it is granted were withheld by this dry run]";
        assert_eq!(text.lines().collect::<Vec<_>>(), [first, second]);
    }

    #[test]
    fn a_message_without_a_key_goes_to_any_partition() {
        let to = json!({ "to": "sink", "topic": "t", "partition": null });
        assert_eq!(destination(&to), "t (any partition)");
        let to = json!({ "to": "sink", "subject": "s", "stream": "S" });
        assert_eq!(destination(&to), "s (stream S)");
    }
}
