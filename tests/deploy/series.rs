//! How many series the bridge has does not depend on what messages and plugins say.

use std::fs;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use crate::delivery::start;
use crate::nats::metrics;
use crate::support::guest;
use crate::support::nats::Nats;

const LIMIT: Duration = Duration::from_secs(180);
const MESSAGES: u64 = 10_000;
/// One pipeline with one plugin: buckets of its histograms included.
const MOST_SERIES: usize = 200;

#[test]
fn ten_thousand_subjects_keys_and_codes_of_a_plugin_are_no_series() {
    let nats = Nats::start();
    let url = nats.url();
    let feed = TempDir::new().unwrap();
    let line = |n: u64| json!({ "key": format!("key-{n}"), "value": format!("code-{n} detail-{n}") }).to_string();
    fs::write(feed.path().join("in.jsonl"), (0..MESSAGES).map(|n| line(n) + "\n").collect::<String>()).unwrap();
    let fed = start(
        feed.path(),
        &format!(
            "pipeline: feed\nsource: {{ file: {{ path: in.jsonl }} }}\n\
             sink: {{ jetstream: {{ servers: {url}, subject: 'in.{{{{key}}}}', allow: ['in.*'], stream: IN, create_stream: {{ subjects: ['in.*'] }} }} }}\n"
        ),
    );
    assert_eq!(fed.finish(LIMIT).code(), 0);
    assert_eq!(nats.count("IN"), MESSAGES);

    let folder = TempDir::new().unwrap();
    let pipeline = format!(
        "pipeline: p\nlanes: 1\nsource: {{ jetstream: {{ servers: {url}, stream: IN, consumer: c, create_consumer: {{}} }} }}\n\
         plugins: [{{ name: judge, component: {plugin}, limits: {{ deadline: 30s }} }}]\n\
         sink: {{ jetstream: {{ servers: {url}, subject: 'out.{{{{key}}}}', allow: ['out.*'], stream: OUT, create_stream: {{ subjects: ['out.*'] }} }} }}\n\
         dead_letter: {{ jetstream: {{ servers: {url}, subject: dlq, stream: DLQ, create_stream: {{ subjects: [dlq] }} }} }}\n",
        plugin = guest("echo-reason").display()
    );
    let mut bridge = start(folder.path(), &pipeline);
    let started = bridge.wait_for_line("admin=", LIMIT);
    let address = started.split("admin=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let ended = format!("portcullis_messages_total{{pipeline=\"p\",outcome=\"dead_lettered\"}} {MESSAGES}\n");
    let mut scraped = String::new();
    bridge.wait_until("every message is a dead letter", LIMIT, || {
        scraped = metrics(&address).replace('\r', "");
        scraped.contains(&ended)
    });
    let series: Vec<&str> = scraped.lines().filter(|line| line.starts_with("portcullis_")).collect();
    assert!(series.len() <= MOST_SERIES, "{} series\n{scraped}", series.len());
    // The code of the audit event is the plugin's; the label is the event's name.
    for chosen in ["code-", "detail-", "key-"] {
        assert!(!scraped.contains(chosen), "{chosen} is in a label\n{scraped}");
    }
    let rejected = format!("portcullis_faults_total{{pipeline=\"p\",plugin=\"judge\",kind=\"rejected\"}} {MESSAGES}");
    assert!(series.contains(&rejected.as_str()), "{scraped}");
    bridge.signal("TERM");
    assert_eq!(bridge.finish(LIMIT).code(), 0);
}
