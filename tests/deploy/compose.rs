//! The rules of the compose specification that decide whether the file works, and those that keep it safe.

use serde_json::Value;

use super::{members, text, texts, yaml};
use crate::support::broker::kafka_version;
use crate::support::root;

fn services(compose: &Value) -> Vec<(&str, &Value)> {
    let services = members(&compose["services"]);
    assert!(services.len() >= 10);
    services
}

/// The names of a list, or of a map's members.
fn names(value: &Value) -> Vec<&str> {
    if value.is_array() { texts(value) } else { members(value).into_iter().map(|(name, _)| name).collect() }
}

fn has_check(service: &Value) -> bool {
    texts(&service["healthcheck"]["test"]).first().is_some_and(|kind| ["CMD", "CMD-SHELL"].contains(kind))
}

#[test]
fn a_service_waits_for_one_that_can_say_whether_it_is_healthy_or_that_ends() {
    let compose = yaml("docker-compose.yml");
    let mut waits = 0;
    for (name, service) in services(&compose) {
        for (other, how) in members(&service["depends_on"]) {
            let other_service = &compose["services"][other];
            assert!(other_service.is_object(), "{name} waits for {other}, which is no service");
            assert!(other_service["profiles"].is_null(), "{name} waits for {other}, which `up` does not start");
            match how["condition"].as_str().unwrap() {
                "service_healthy" => assert!(has_check(other_service), "{other} has no check"),
                "service_completed_successfully" => assert_eq!(other_service["restart"], "no", "{other} would not end"),
                condition => panic!("{name} waits for {other}: {condition} says nothing of its state"),
            }
            waits += 1;
        }
    }
    assert!(waits >= 8, "{waits}");
}

#[test]
fn every_image_is_of_one_version_and_no_service_has_rights_that_it_does_not_need() {
    let compose = yaml("docker-compose.yml");
    for (name, service) in services(&compose) {
        assert_pinned(service["image"].as_str().unwrap());
        assert!(texts(&service["security_opt"]).contains(&"no-new-privileges:true"), "{name}");
        assert_eq!(texts(&service["cap_drop"]), ["ALL"], "{name}");
        for right in ["privileged", "cap_add", "devices", "pid", "ipc", "network_mode", "userns_mode"] {
            assert!(service[right].is_null(), "{name}: {right}");
        }
        for bound in ["mem_limit", "cpus", "pids_limit"] {
            assert!(!service[bound].is_null(), "{name} has no {bound}");
        }
        assert!(service["restart"].is_string(), "{name}");
        let log = &service["logging"]["options"];
        assert!(log["max-size"].is_string() && log["max-file"].is_string(), "the log of {name} has no bound");
        let of_the_engine = texts(&service["volumes"]).into_iter().any(|mount| mount.contains("docker.sock"));
        assert!(!of_the_engine, "{name} could command the engine");
    }
    for (name, read_only) in [("portcullis", true), ("feed", true), ("siem", true), ("rates", true)] {
        assert_eq!(compose["services"][name]["read_only"], read_only, "{name}");
    }
    let kafka = compose["services"]["kafka"]["image"].as_str().unwrap();
    assert_eq!(kafka.split(':').nth(1), kafka_version().ok(), "the tests run another Kafka than the compose file");
}

/// `name:1.2.3` with a version in its tag, and no registry's host before the name.
fn assert_pinned(image: &str) {
    let (name, tag) = image.split_once(':').unwrap_or_else(|| panic!("{image} has no tag"));
    assert!(!name.split('/').next().unwrap().contains('.'), "{image} names a registry");
    let version = tag.trim_start_matches('v').split('-').next().unwrap();
    let numbers: Vec<&str> = version.split('.').collect();
    let numeric = numbers.iter().all(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()));
    assert!(numeric && numbers.len() >= 2, "{image} moves");
}

#[test]
fn what_is_mounted_built_or_joined_is_there() {
    let compose = yaml("docker-compose.yml");
    let (mut mounts, mut joined) = (0, 0);
    for (name, service) in services(&compose) {
        for mount in texts(&service["volumes"]) {
            let (source, rest) = mount.split_once(':').unwrap();
            if source.starts_with('.') {
                assert!(root().join(source).exists(), "{name}: {source} is not there");
                assert!(rest.ends_with(":ro"), "{name} could write {source}");
                mounts += 1;
            } else {
                assert!(compose["volumes"][source].is_object(), "{name}: volume {source} is not declared");
            }
        }
        for network in names(&service["networks"]) {
            assert!(compose["networks"][network].is_object(), "{name}: network {network} is not declared");
            joined += 1;
        }
        assert!(!names(&service["networks"]).is_empty(), "{name} would be in the default network, which is open");
        if let Some(file) = service["build"]["dockerfile"].as_str() {
            assert_builds(file);
        }
    }
    assert!(mounts >= 8 && joined >= 12, "{mounts} {joined}");
    let rules = &yaml("deploy/prometheus/prometheus.yml")["rule_files"];
    assert_eq!(texts(rules), ["/etc/prometheus/alerts.yml"]);
    assert!(root().join("deploy/prometheus/alerts.yml").is_file());
    assert!(root().join("deploy/grafana/dashboards/portcullis.json").is_file());
}

/// What a Dockerfile copies from the context is there and not ignored, its images are pinned, and it does not end as root.
fn assert_builds(file: &str) {
    let (lines, ignored) = (text(file), text(".dockerignore"));
    for line in lines.lines().filter(|line| line.starts_with("COPY ") && !line.contains("--from=")) {
        let source = line.split(' ').nth(1).unwrap();
        assert!(root().join(source).exists(), "{file}: {source} is not there");
        let hidden = ignored.lines().any(|rule| rule == source || source.starts_with(&format!("{rule}/")));
        assert!(!hidden, "{file}: {source} is ignored");
    }
    let images: Vec<&str> = lines.lines().filter_map(|line| line.strip_prefix("FROM ")).collect();
    assert!(!images.is_empty());
    images.iter().for_each(|image| assert_pinned(image.split(' ').next().unwrap()));
    let user = lines.lines().rfind(|line| line.starts_with("USER ")).unwrap_or_else(|| panic!("{file} ends as root"));
    assert!(!user.contains("root") && user != "USER 0", "{user}");
}

#[test]
fn the_image_is_built_with_the_compiler_that_the_workspace_asks_for() {
    let cargo = text("Cargo.toml");
    let wanted = cargo.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().trim_matches('"');
    assert!(text("Dockerfile").contains(&format!("FROM rust:{wanted}.")), "rust-version is {wanted}");
}

#[test]
fn the_bridge_is_in_internal_networks_only_and_nothing_is_published_beyond_this_machine() {
    let compose = yaml("docker-compose.yml");
    for name in ["portcullis", "rates", "siem", "feed"] {
        for network in names(&compose["services"][name]["networks"]) {
            assert_eq!(compose["networks"][network]["internal"], true, "{name} has a way out by {network}");
        }
    }
    let beside: Vec<&str> = services(&compose)
        .into_iter()
        .filter(|(_, service)| names(&service["networks"]).contains(&"apis"))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(beside, ["portcullis", "rates"], "only the bridge reaches what plugins ask");
    for (name, service) in services(&compose) {
        for port in texts(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{name} publishes {port}");
        }
    }
}

#[test]
fn no_secret_stands_in_a_file_of_the_set_up() {
    for file in ["docker-compose.yml", "Dockerfile", "deploy/siem/Dockerfile", "deploy/portcullis/portcullis.yaml"] {
        for line in text(file).lines().filter(|line| !line.trim_start().starts_with('#')) {
            let line = line.to_lowercase();
            let suspicious =
                ["password:", "password=", "secret:", "token:", "api_key"].iter().any(|word| line.contains(word));
            assert!(!suspicious, "{file}: {line}");
        }
    }
}
