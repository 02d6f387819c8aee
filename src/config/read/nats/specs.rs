//! `create_stream` and `create_consumer`.

use std::time::Duration;

use super::super::Context;
use super::super::fields::Fields;
use super::super::values::{choice, duration, integer_u32, list, size};
use super::subjects_of;
use crate::yaml::Node;
use crate::{Code, ConsumerSpec, Retention, Setting, Start, Storage, StreamSpec, format_duration};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) fn stream_spec(cx: &mut Context<'_>, node: &Node) -> Option<StreamSpec> {
    let mut fields = Fields::of(cx, node, "`create_stream`")?;
    let subjects = fields.required(cx, "subjects", |cx, node| list(cx, node, true, subjects_of));
    let kept = [("file", Storage::File), ("memory", Storage::Memory)];
    let storage = fields.optional(cx, "storage", |cx, node| choice(cx, node, &kept));
    let kinds =
        [("limits", Retention::Limits), ("interest", Retention::Interest), ("work_queue", Retention::WorkQueue)];
    let retention = fields.optional(cx, "retention", |cx, node| choice(cx, node, &kinds));
    let replicas = fields.optional(cx, "replicas", |cx, node| integer_u32(cx, node, 1..=5));
    let ages = Duration::from_secs(1)..=DAY * 3650;
    let max_age = fields.optional(cx, "max_age", |cx, node| duration(cx, node, ages));
    let max_bytes = fields.optional(cx, "max_bytes", |cx, node| size(cx, node, 1 << 10..=1 << 50));
    let windows = Duration::from_millis(100)..=DAY * 30;
    let duplicates = fields.optional(cx, "duplicate_window", |cx, node| duration(cx, node, windows));
    fields.finish(cx);
    let duplicate_window = Setting::or(duplicates, Duration::from_secs(120));
    if let Some(age) = max_age.as_ref().filter(|age| age.value < duplicate_window.value) {
        let window = format_duration(duplicate_window.value);
        let message = format!("`max_age` is below `duplicate_window`, which is {window}");
        cx.say(&age.at, Code::KeyConflict, message, "raise the one or lower the other");
    }
    Some(StreamSpec {
        subjects: subjects?,
        storage: Setting::or(storage, Storage::File),
        retention: Setting::or(retention, Retention::Limits),
        replicas: Setting::or(replicas, 1),
        max_age,
        max_bytes,
        duplicate_window,
    })
}

pub(super) fn consumer_spec(cx: &mut Context<'_>, node: &Node) -> Option<ConsumerSpec> {
    let mut fields = Fields::of(cx, node, "`create_consumer`")?;
    let starts = [("earliest", Start::Earliest), ("latest", Start::Latest)];
    let start = fields.optional(cx, "start", |cx, node| choice(cx, node, &starts));
    // A shorter wait leaves no time for a sign of progress between two polls of a busy pipeline.
    let waits = Duration::from_secs(3)..=DAY;
    let ack_wait = fields.optional(cx, "ack_wait", |cx, node| duration(cx, node, waits));
    let max_ack_pending = fields.optional(cx, "max_ack_pending", |cx, node| integer_u32(cx, node, 1..=1_000_000));
    let max_deliver = fields.optional(cx, "max_deliver", |cx, node| integer_u32(cx, node, 1..=1_000_000));
    fields.finish(cx);
    Some(ConsumerSpec {
        start: Setting::or(start, Start::Earliest),
        ack_wait: Setting::or(ack_wait, Duration::from_secs(30)),
        max_ack_pending: Setting::or(max_ack_pending, 5000),
        max_deliver,
    })
}
