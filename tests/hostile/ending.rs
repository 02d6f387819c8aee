//! The end does not wait for a plugin.

use std::time::{Duration, Instant};

use serde_json::json;

use super::scene::{Scene, plugin};

/// `drain`, what follows it, and a busy machine.
const IN_TIME: Duration = Duration::from_secs(15);

#[test]
fn a_call_that_may_take_ten_minutes_does_not_hold_the_end() {
    let more = json!({ "drain": "1s", "lanes": 1 });
    let limits = json!({ "grants": { "clock": "coarse" }, "limits": { "deadline": "10m" } });
    let scene = Scene::new().pipeline_of("bad", "a", more, plugin("sleeps-on-a-clock", limits), &["sleeps"]);
    let mut running = scene.start();
    // Half a second later the message is in its call; if not, it comes there within `drain`.
    running.neighbour();
    let asked = Instant::now();
    running.process.signal("TERM");
    let ran = running.end();
    let took = asked.elapsed();
    assert!(took < IN_TIME, "{took:?}\n{}", ran.finished.stderr);
    assert_eq!(ran.finished.code(), 0, "{:?}", ran.finished);
    assert_eq!(ran.count("audit.stop", ""), 1, "{:#?}", ran.tally());
    assert!(ran.finished.stderr.contains("ended while plugins are in calls"), "{}", ran.finished.stderr);
    assert_eq!((ran.values("bad").len(), ran.letters("bad").len()), (0, 0));
}
