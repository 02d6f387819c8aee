//! Every file of pipelines/ is checked, planned, linked and run as it lies there, on a real Kafka and a real nats-server, and
//! what comes of it is read at the other end by clients that are not ours.

mod copy;
mod runs;
mod tenants;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::support::root;

/// A file, and the test that runs it. The node's file of a folder is run with its pipelines.
const RUNS: &[(&str, fn())] = &[
    ("backfill-from-file.yaml", runs::a_backfill_sends_each_line_once_however_often_it_is_started),
    ("fan-to-jetstream.yaml", runs::a_fan_gives_each_message_the_subject_of_its_topic_and_key),
    ("jetstream-to-kafka.yaml", runs::readings_of_a_stream_become_records_and_are_acknowledged),
    ("orders.yaml", runs::orders_that_pass_are_stamped_and_the_others_are_dead_letters_with_their_reasons),
    ("redact-before-export.yaml", runs::nothing_that_was_redacted_is_anywhere_in_the_export),
    ("retry-and-dead-letter.yaml", runs::a_busy_service_is_asked_again_and_a_refusal_is_a_dead_letter),
    ("tombstones-and-keys.yaml", runs::tombstones_stay_null_and_keys_stay_in_their_partitions),
    ("two-tenants/acme.yaml", tenants::each_tenant_has_its_own_topics_and_its_own_ceiling),
    ("two-tenants/globex.yaml", tenants::each_tenant_has_its_own_topics_and_its_own_ceiling),
    ("two-tenants/portcullis.yaml", tenants::each_tenant_has_its_own_topics_and_its_own_ceiling),
];

/// Every file below a folder, as paths from it.
fn files(folder: &Path, prefix: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .flat_map(|entry| {
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            let is_folder = entry.path().is_dir();
            if is_folder { files(&entry.path(), &format!("{name}/")) } else { BTreeSet::from([name]) }
        })
        .collect()
}

#[test]
fn every_yaml_file_of_the_folder_has_a_run_and_every_file_is_in_its_table() {
    let files = files(&root().join("pipelines"), "");
    let yaml: BTreeSet<&str> = files.iter().map(String::as_str).filter(|name| name.ends_with(".yaml")).collect();
    assert_eq!(yaml, RUNS.iter().map(|(name, _)| *name).collect());
    let table = fs::read_to_string(root().join("pipelines/README.md")).unwrap();
    for name in yaml {
        assert!(table.contains(&format!("]({name})")), "{name} is missing in pipelines/README.md");
    }
}

#[test]
fn every_file_begins_with_what_it_shows_and_the_command_that_runs_it() {
    for (name, _) in RUNS {
        let text = fs::read_to_string(root().join("pipelines").join(name)).unwrap();
        let header: Vec<&str> = text.lines().take_while(|line| line.starts_with("# ")).collect();
        assert!((3..=6).contains(&header.len()), "{name} has a header of {} lines", header.len());
        let commands = ["portcullis run pipelines/", "portcullis dev pipelines/"];
        assert!(commands.iter().any(|command| header.join(" ").contains(command)), "{name} names no command");
    }
}
