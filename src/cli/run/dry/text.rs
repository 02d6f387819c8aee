//! The lines of a dry run for people, made from those for programs.

use serde_json::Value;

use crate::cli::words::{self, some, word};

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
    let headers = some(words::header_count(head), "header");
    let mut text =
        format!("{}  {}  {}, {headers}", word(&line["pipeline"]), words::position(source), words::sizes(head));
    if head["channel"] != source["channel"] {
        text.push_str(&format!("  {}", word(&head["channel"])));
    }
    text.push_str(&format!("  ->  {}", destination(&line["destination"])));
    if let Some(withheld) = line["egress_withheld"].as_u64() {
        text.push_str(&format!("  [uncertain: {} withheld by this dry run]", some(withheld, "request")));
    }
    if let Some(defect) = words::defect(line) {
        text.push_str(&format!("\n    {defect}"));
    }
    for plugin in line["plugins"].as_array().into_iter().flatten() {
        text.push_str(&format!("\n    {}", words::answer(plugin)));
    }
    text.extend(words::payload(line));
    text
}

fn destination(destination: &Value) -> String {
    let place = ["topic", "subject", "file"].into_iter().map(|kind| &destination[kind]).find(|place| place.is_string());
    let place = place.map_or_else(|| "?".to_owned(), word);
    let partition = match (destination["partition"].as_i64(), destination.get("partition")) {
        (Some(partition), _) => format!("-{partition}"),
        (None, Some(_)) => " (any partition)".to_owned(),
        (None, None) => String::new(),
    };
    let stream = &destination["stream"];
    let stream = if stream.is_string() { format!(" (stream {})", word(stream)) } else { String::new() };
    let reason = words::reason(destination);
    match destination["to"].as_str().unwrap_or_default() {
        "sink" => format!("{place}{partition}{stream}"),
        "dead_letter" => format!("dead letter {place}{partition}{stream}{reason}"),
        "dropped" => format!("dropped{reason}"),
        "stopped" => format!("would stop the pipeline{reason}"),
        _ => "unfinished: the pipeline ended before".to_owned(),
    }
}

pub(super) fn summary(summary: &Value) -> String {
    let count = |key: &str| summary[key].as_u64().unwrap_or(0);
    let mut text = format!("\n{}: {}", word(&summary["pipeline"]), some(count("messages"), "message"));
    let letters = if count("dead_letter") == 1 { "dead letter" } else { "dead letters" };
    let counts = [
        ("sink", "to the sink"),
        ("dead_letter", letters),
        ("dropped", "dropped"),
        ("stopped", "that would stop the pipeline"),
        ("unfinished", "unfinished"),
    ];
    let counts = counts.map(|(key, words)| (count(key), words)).into_iter().filter(|(count, _)| *count > 0);
    let counts: Vec<String> = counts.map(|(count, words)| format!("{count} {words}")).collect();
    if !counts.is_empty() {
        text.push_str(&format!(": {}", counts.join(", ")));
    }
    if count("egress_withheld") > 0 {
        text.push_str(&format!("; {} of plugins withheld", some(count("egress_withheld"), "request")));
    }
    let ended: Vec<&str> = summary["ended"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    match summary["error"].as_str() {
        Some(error) => text.push_str(&format!("; failed: {}", words::sentence(error))),
        None if !ended.is_empty() => text.push_str(&format!("; {}", words::sentence(&ended.join(", ")))),
        None => {}
    }
    text
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
        let first = "orders  orders.raw-0@12  key 4 B, value null, 1 header  ->  dead letter orders.dlq-3: rejected, no_rate (by fx)  [uncertain: 2 requests withheld by this dry run]";
        let second =
            "    fx: reject no_rate  31 us, 512 fuel  [2 requests that it is granted withheld by this dry run]";
        assert_eq!(text.lines().collect::<Vec<_>>(), [first, second]);
    }

    #[test]
    fn what_a_source_could_not_read_cannot_write_lines_of_its_own() {
        let line = json!({ "pipeline": "p", "source": {}, "message": {}, "defect": "no JSON:\nok\u{1b}[2K", "destination": { "to": "dropped" } });
        assert_eq!(message(&line).lines().count(), 2);
        assert!(!message(&line).contains('\u{1b}'));
    }

    #[test]
    fn a_message_without_a_key_goes_to_any_partition() {
        let to = json!({ "to": "sink", "topic": "t", "partition": null });
        assert_eq!(destination(&to), "t (any partition)");
        let to = json!({ "to": "sink", "subject": "s", "stream": "S" });
        assert_eq!(destination(&to), "s (stream S)");
    }

    #[test]
    fn a_summary_counts_one_as_one() {
        let one = json!({ "pipeline": "p", "messages": 1, "dead_letter": 1, "egress_withheld": 1, "ended": ["1 message was taken"], "error": null });
        assert_eq!(summary(&one), "\np: 1 message: 1 dead letter; 1 request of plugins withheld; 1 message was taken");
    }
}
