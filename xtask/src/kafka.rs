//! Apache Kafka: its jars, fetched once, and a node for a run of the tests or for trying by hand.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};

use crate::support::broker::{Broker, kafka_version};
use crate::{prerequisites, steps};

/// The folder of the jars; fetched by Maven when it is not there yet.
pub(crate) fn libs(root: &Path) -> anyhow::Result<PathBuf> {
    let pom = root.join("tests/brokers/kafka/pom.xml");
    let home = root.join("target").join(format!("kafka-{}", kafka_version()?));
    let (libs, fetched_with) = (home.join("libs"), home.join("pom.xml"));
    let wanted = fs::read(&pom).with_context(|| pom.display().to_string())?;
    if fs::read(&fetched_with).is_ok_and(|have| have == wanted) {
        eprintln!("    {} is there", libs.display());
        return Ok(libs);
    }
    prerequisites::kafka()?;
    eprintln!("    fetching Apache Kafka {}: 54 MB, once", kafka_version()?);
    if libs.exists() {
        fs::remove_dir_all(&libs).with_context(|| libs.display().to_string())?;
    }
    let mut maven = Command::new("mvn");
    maven.args(["-B", "-q", "-Dstyle.color=never", "-f"]).arg(&pom);
    maven.arg("dependency:copy-dependencies").arg("-DincludeScope=runtime");
    maven.arg(format!("-DoutputDirectory={}", libs.display()));
    steps::run(&mut maven)?;
    // Last, so that a fetch that was broken off is not taken for a whole one.
    fs::write(&fetched_with, wanted).with_context(|| fetched_with.display().to_string())?;
    Ok(libs)
}

/// Starts a node on a free port; it ends with the returned value, and with this process.
pub(crate) fn start(libs: &Path) -> anyhow::Result<Broker> {
    prerequisites::kafka()?;
    let broker = Broker::start(libs, None)?;
    eprintln!("    Apache Kafka {} answers on {}", kafka_version()?, broker.address());
    Ok(broker)
}

/// `cargo xtask kafka`.
pub(crate) fn run_by_hand(root: &Path, port: u16, topics: &[String]) -> anyhow::Result<ExitCode> {
    let libs = libs(root)?;
    prerequisites::kafka()?;
    let mut broker = Broker::start(&libs, Some(port))?;
    for topic in topics {
        let (name, partitions) = topic.split_once(':').unwrap_or((topic, "1"));
        steps::run(topic_command(&libs, &broker).args(["--create", "--topic", name, "--partitions", partitions]))?;
    }
    eprintln!("\nApache Kafka {} answers on {}.", kafka_version()?, broker.address());
    eprintln!("It creates no topic by itself:\n");
    eprintln!(
        "  {}",
        steps::line(topic_command(&libs, &broker).args(["--create", "--topic", "NAME", "--partitions", "4"]))
    );
    eprintln!("\nCtrl-C ends it and throws its data away.");
    broker.wait()?;
    bail!("the broker ended by itself:\n{}", broker.log_tail());
}

fn topic_command(libs: &Path, broker: &Broker) -> Command {
    let mut java = Command::new("java");
    // Else it prints its whole configuration before it says what it did.
    java.arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=error");
    java.arg("-cp").arg(libs.join("*")).arg("org.apache.kafka.tools.TopicCommand");
    java.args(["--bootstrap-server", &broker.address()]);
    java
}
