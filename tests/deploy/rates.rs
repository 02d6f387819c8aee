//! The API of the compose set-up, and the orders that ask it: its server on this machine, its pipeline with the two addresses
//! of a container replaced by two of this machine.

use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use serde_json::Value;
use tempfile::TempDir;

use super::on_kafka::{create_topics, tool};
use super::{FEED, NODE, PIPELINES, text};
use crate::nats::ask;
use crate::support::kafka::Kafka;
use crate::support::names::NameServer;
use crate::support::nats::free_port;
use crate::support::process::{Process, portcullis};
use crate::support::{python, root};

const LIMIT: Duration = Duration::from_secs(180);
const ORDERS: i64 = 16;
/// Not an address of an interface but for the loopback's, so that a rule can name it.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// `deploy/rates/server.py` on a port of this machine.
struct Rates {
    process: Process,
    port: u16,
}

impl Rates {
    fn start() -> Self {
        let port = free_port();
        let mut command = Command::new("python3");
        command.arg("-u").arg(root().join("deploy/rates/server.py")).env("PORT", port.to_string());
        let mut process = Process::start(&mut command);
        process.wait_until("it listens", LIMIT, || std::net::TcpStream::connect((ADDRESS, port)).is_ok());
        Self { process, port }
    }

    fn get(&self, path: &str) -> (String, Value) {
        let answer = ask(&format!("{ADDRESS}:{}", self.port), path);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), serde_json::from_str(body).unwrap())
    }

    /// The paths that it was asked for.
    fn asked(&self) -> Vec<String> {
        let log = self.process.stderr();
        log.lines().filter_map(|line| Some(line.split("\"GET ").nth(1)?.split(' ').next()?.to_owned())).collect()
    }
}

#[test]
fn a_server_of_the_set_up_answers_its_health_check_and_for_no_other_path() {
    let rates = Rates::start();
    let (status, body) = rates.get("/v1/EUR");
    assert_eq!((status.as_str(), &body["rate"]), ("HTTP/1.1 200 OK", &1.0.into()));
    for path in ["/v1/XXX", "/v1/", "/EUR", "/", "/v1/EUR/.."] {
        let (status, body) = rates.get(path);
        assert_eq!((status.as_str(), &body["rate"]), ("HTTP/1.1 404 Not Found", &Value::Null), "{path}");
    }
    let compose: Value = super::yaml("docker-compose.yml");
    let check = super::texts(&compose["services"]["rates"]["healthcheck"]["test"]).last().unwrap().to_string();
    assert!(check.contains("127.0.0.1:8080/v1/EUR"), "{check}");
    let ended = Process::start(Command::new("python3").args(["-c", &check.replace("8080", &rates.port.to_string())]));
    assert_eq!(ended.finish(LIMIT).code(), 0);
}

/// The files of the set-up with the address and port of this run; all else is theirs.
fn set_up(folder: &TempDir, rates: &Rates, names: &NameServer) -> [String; 3] {
    let repository = root().to_str().unwrap();
    let here = |text: String| {
        text.replace("10.203.7.10", &ADDRESS.to_string())
            .replace(":8080", &format!(":{}", rates.port))
            .replace("../../../", &format!("{repository}/"))
            .replace("../../", &format!("{repository}/"))
    };
    // The operator's consent that the container's network does not need, and the name server of this run.
    let more = format!("egress: {{ dns: {{ servers: [\"{}\"] }}, consent: [{ADDRESS}/32] }}\n", names.address());
    let files = [(NODE, more), (&format!("{PIPELINES}/orders.yaml"), String::new()), (FEED, String::new())];
    files.map(|(file, more)| {
        let copy = folder.path().join(file.rsplit('/').next().unwrap());
        fs::write(&copy, here(text(file)) + &more).unwrap();
        copy.to_str().unwrap().to_owned()
    })
}

#[test]
fn orders_of_the_compose_set_up_get_their_rate_from_its_server_and_the_audit_tells_each_request() {
    let (kafka, rates, folder) = (Kafka::start(), Rates::start(), TempDir::new().unwrap());
    create_topics(&kafka);
    let names = NameServer::start(|name, _| (name == "rates.example.com").then(|| vec![ADDRESS]));
    let [node, pipeline, feed] = set_up(&folder, &rates, &names);
    let bridge = |file: &str| {
        let mut command = portcullis(folder.path());
        command.args(["run", "--node", &node, file]);
        command.env("KAFKA_BROKERS", kafka.brokers()).env("PORTCULLIS_ADMIN__LISTEN", "127.0.0.1:0");
        Process::start(&mut command)
    };
    assert_eq!(bridge(&feed).finish(LIMIT).code(), 0);
    let mut running = bridge(&pipeline);
    running.wait_until("every order has ended", LIMIT, || {
        kafka.count("orders.clean") + kafka.count("orders.dlq") == ORDERS
    });
    running.signal("TERM");
    let ended = running.finish(LIMIT);
    assert_eq!(ended.code(), 0, "{ended:?}");

    let clean = values(&kafka, "orders.clean");
    assert!(!clean.is_empty() && clean.iter().all(|order| order["rate"].is_number()), "{clean:#?}");
    let asked = rates.asked();
    assert!(asked.iter().any(|path| path == "/v1/USD") && !asked.iter().any(|path| path == "/v1/JPY"), "{asked:?}");

    let audit = values(&kafka, "portcullis.audit");
    let of = |code: &str| audit.iter().filter(|event| event["metadata"]["event_code"] == code).collect::<Vec<_>>();
    let (allowed, requests) = (of("http.allowed"), of("http.request"));
    assert_eq!(allowed.len(), requests.len());
    for event in &requests {
        let intent = allowed.iter().find(|intent| intent["http_request"]["uid"] == event["http_request"]["uid"]);
        assert!(intent.is_some_and(|intent| intent["actor"]["app_name"] == event["actor"]["app_name"]), "{event:#}");
    }
    // On a machine that is busy a request may end before it has reached the server; then it has no status.
    let answered = requests.iter().filter(|event| event["http_response"]["code"] == 200).count();
    assert_eq!(answered, asked.len(), "{asked:?} {requests:#?}");
    let refused = of("http.denied");
    assert!(refused.iter().any(|event| event["status_detail"] == "http.path"), "{refused:#?}");
    assert_grants_are_suggested(&kafka, audit.len(), &rates);
}

/// The manual's command makes a file of the audit topic, and `grants suggest` reads it.
fn assert_grants_are_suggested(kafka: &Kafka, count: usize, rates: &Rates) {
    let manual = text("docs/audit.md");
    let command = manual.lines().find_map(|line| line.strip_prefix("$ kafka-console-consumer.sh ")).unwrap();
    let command = command.replace("HOST:PORT", kafka.brokers());
    let (arguments, file) = command.split_once(" > ").unwrap();
    let folder = TempDir::new().unwrap();
    tool(folder.path(), "kafka-console-consumer.sh", "consumer.ConsoleConsumer");
    let mut consumer = Command::new(folder.path().join("kafka-console-consumer.sh"));
    let read = Process::start(consumer.args(arguments.split_whitespace())).finish(LIMIT);
    assert_eq!((read.code(), read.stdout.lines().count()), (0, count), "{read:?}");
    let file = folder.path().join(file.split_whitespace().next().unwrap());
    fs::write(&file, read.stdout).unwrap();
    let mut suggest = portcullis(folder.path());
    suggest.args(["grants", "suggest", "--plugin", "rates", "--audit"]).arg(file);
    let suggested = Process::start(&mut suggest).finish(LIMIT);
    let rule = format!("allow: \"http://rates.example.com:{}\"", rates.port);
    assert!(suggested.code() == 0 && suggested.stdout.contains(&rule), "{suggested:?}");
    assert!(suggested.stdout.contains("/v1/USD") && !suggested.stdout.contains("/v1/JPY"), "{suggested:?}");
}

fn values(kafka: &Kafka, topic: &str) -> Vec<Value> {
    let count = usize::try_from(kafka.count(topic)).unwrap();
    let records = python::read(kafka.brokers(), topic, count, LIMIT);
    let decode = |record: &Value| {
        let value = base64::engine::general_purpose::STANDARD.decode(record["value_b64"].as_str().unwrap()).unwrap();
        serde_json::from_slice(&value).unwrap()
    };
    records.iter().map(decode).collect()
}
