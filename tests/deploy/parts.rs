//! The parts beside the bridge, each with its own file: the real nats-server, and what Prometheus and its prober are told.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use super::{members, text, texts, yaml};
use crate::nats::ask;
use crate::support::nats::{Nats, free_port};

/// The body of an answer of 200, as JSON.
fn asked(address: &str, path: &str) -> Value {
    let answer = ask(address, path);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200") || head.starts_with("HTTP/1.0 200"), "{path}: {answer}");
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{path}: {error}: {answer}"))
}

#[test]
fn nats_server_takes_its_file_and_has_the_bounds_and_the_health_check_that_stand_in_it() {
    let (config, monitor) = (text("deploy/nats/nats.conf"), free_port());
    // Its folder is a volume of the container. A second one on the command line is refused, so the file's is taken out.
    let compose = yaml("docker-compose.yml");
    assert!(texts(&compose["services"]["nats"]["volumes"]).contains(&"nats-data:/data"));
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("nats.conf");
    let without_folder: Vec<&str> = config.lines().filter(|line| line.trim() != "store_dir: /data").collect();
    assert_eq!(without_folder.len() + 1, config.lines().count());
    fs::write(&file, without_folder.join("\n")).unwrap();
    let nats = Nats::start_configured(&file, monitor);
    let info = nats.info();
    assert_eq!((info.server_name.as_str(), info.max_payload), ("nats", 1 << 20));
    let address = format!("127.0.0.1:{monitor}");
    let streams = asked(&address, "/jsz");
    assert_eq!(streams["config"]["max_memory"], 64 << 20, "{streams:#}");
    assert_eq!(streams["config"]["max_storage"], 1 << 30, "{streams:#}");
    // The check of the compose file, at the port of this run.
    let url = *texts(&compose["services"]["nats"]["healthcheck"]["test"]).last().unwrap();
    let path = url.strip_prefix("http://127.0.0.1:8222").unwrap_or_else(|| panic!("{url}"));
    assert_eq!(asked(&address, path)["status"], "ok");
    assert!(config.contains("http: 0.0.0.0:8222") && config.contains("listen: 0.0.0.0:4222"));
    nats.create_stream("S", "s");
    assert!(nats.store("s", &[], b"kept") && nats.count("S") == 1);
}

/// Fields that Prometheus does not know end it at its start; `promtool` finds them where there is one.
fn has_only(what: &str, map: &Value, known: &[&str]) {
    let strange: Vec<&str> =
        members(map).into_iter().map(|(name, _)| name).filter(|name| !known.contains(name)).collect();
    assert!(strange.is_empty(), "{what} has {strange:?}");
}

fn seconds(value: &Value) -> u32 {
    value.as_str().and_then(|text| text.strip_suffix('s')?.parse().ok()).unwrap_or_else(|| panic!("{value} is no time"))
}

/// `host:port` of a service of the compose file that shares a network with Prometheus.
fn is_reachable(compose: &Value, target: &str) {
    let (host, port) = target.split_once(':').unwrap();
    assert!(port.parse::<u16>().is_ok(), "{target}");
    let service = &compose["services"][host];
    let watched = texts(&compose["services"]["prometheus"]["networks"]);
    assert!(texts(&service["networks"]).iter().any(|network| watched.contains(network)), "{target} is not reached");
}

#[test]
fn prometheus_scrapes_the_bridge_where_it_listens_and_asks_its_readiness_through_the_prober() {
    let (compose, config) = (yaml("docker-compose.yml"), yaml("deploy/prometheus/prometheus.yml"));
    has_only("prometheus.yml", &config, &["global", "rule_files", "scrape_configs"]);
    has_only("global", &config["global"], &["scrape_interval", "scrape_timeout", "evaluation_interval"]);
    assert!(seconds(&config["global"]["scrape_timeout"]) < seconds(&config["global"]["scrape_interval"]));
    let known = ["job_name", "sample_limit", "static_configs", "metrics_path", "params", "relabel_configs"];
    let jobs: Vec<&Value> = config["scrape_configs"].as_array().unwrap().iter().collect();
    for job in &jobs {
        has_only("a job", job, &known);
        has_only("its targets", &job["static_configs"][0], &["targets"]);
    }
    let names: BTreeSet<&str> = jobs.iter().map(|job| job["job_name"].as_str().unwrap()).collect();
    assert_eq!(names, BTreeSet::from(["portcullis", "portcullis-ready"]));
    let alerts = text("deploy/prometheus/alerts.yml");
    for named in alerts.split("job=\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(names.contains(named), "an alert is about the job {named}");
    }

    let listens = compose["services"]["portcullis"]["environment"]["PORTCULLIS_ADMIN__LISTEN"].as_str().unwrap();
    let port = listens.rsplit(':').next().unwrap();
    let [direct, probed] = jobs[..] else { panic!("{jobs:?}") };
    let target = format!("portcullis:{port}");
    assert_eq!(texts(&direct["static_configs"][0]["targets"]), [target.as_str()]);
    is_reachable(&compose, &target);
    assert_eq!(texts(&probed["static_configs"][0]["targets"]), [format!("http://{target}/ready")]);

    assert_eq!(probed["metrics_path"], "/probe");
    let steps: Vec<&Value> = probed["relabel_configs"].as_array().unwrap().iter().collect();
    steps.iter().for_each(|step| has_only("a relabelling", step, &["source_labels", "target_label", "replacement"]));
    let [parameter, instance, prober] = steps[..] else { panic!("{steps:?}") };
    assert_eq!(
        (texts(&parameter["source_labels"]), &parameter["target_label"]),
        (vec!["__address__"], &"__param_target".into())
    );
    assert_eq!(
        (texts(&instance["source_labels"]), &instance["target_label"]),
        (vec!["__param_target"], &"instance".into())
    );
    assert_eq!(prober["target_label"], "__address__");
    is_reachable(&compose, prober["replacement"].as_str().unwrap());
}

#[test]
fn the_prober_has_the_module_that_is_asked_for_and_takes_200_alone_for_ready() {
    let (config, modules) = (yaml("deploy/prometheus/prometheus.yml"), yaml("deploy/prometheus/blackbox.yml"));
    let module = texts(&config["scrape_configs"][1]["params"]["module"]);
    let [name] = module[..] else { panic!("{module:?}") };
    has_only("blackbox.yml", &modules, &["modules"]);
    let module = &modules["modules"][name];
    has_only("the module", module, &["prober", "timeout", "http"]);
    has_only(
        "its prober",
        &module["http"],
        &["method", "valid_status_codes", "preferred_ip_protocol", "follow_redirects"],
    );
    assert_eq!((&module["prober"], &module["http"]["method"]), (&"http".into(), &"GET".into()));
    assert_eq!(module["http"]["valid_status_codes"], serde_json::json!([200]));
    // Within the time that Prometheus gives the prober.
    assert!(seconds(&module["timeout"]) < seconds(&config["global"]["scrape_timeout"]));
}
