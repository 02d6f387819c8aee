//! `portcullis doctor`: whether what the pipelines and the audit need is there, each line something that was looked at. With
//! `--create-topics` it makes the Kafka topics that are missing.

use std::path::PathBuf;

use clap::Args;
use portcullis_config::{Node, Pipeline, ProcessEnvironment};

use self::finding::Report;
use self::needs::Needs;
use super::words::some;
use super::{DONE, FAILED, Format, NodeArguments};
use crate::plan::{self, LockUse, Options, Refusal};
use crate::telemetry::log;

#[cfg(any(feature = "kafka", feature = "nats"))]
mod at_once;
#[cfg(feature = "kafka")]
mod create;
mod finding;
#[cfg(feature = "kafka")]
mod kafka;
mod limits;
mod machine;
#[cfg(feature = "nats")]
mod nats;
mod needs;
#[cfg(feature = "kafka")]
mod settings;

#[derive(Args, Clone, Debug)]
pub(super) struct DoctorArguments {
    /// Pipeline files, or folders of them.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[cfg(feature = "kafka")]
    #[command(flatten)]
    topics: create::TopicArguments,
    /// How long a cluster or a server may take for an answer, whatever the pipelines say.
    #[cfg(any(feature = "kafka", feature = "nats"))]
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = portcullis_config::parse_duration)]
    timeout: std::time::Duration,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    node: NodeArguments,
}

pub(super) fn doctor(arguments: &DoctorArguments) -> u8 {
    let mut report = Report::new(arguments.format);
    machine::versions(&mut report);
    match configuration(arguments, &mut report) {
        Some(typed) => examine(arguments, &typed, &mut report),
        None => machine::clock(&mut report),
    }
    if report.end() { DONE } else { FAILED }
}

/// What could be read.
struct Typed {
    node: Node,
    pipelines: Vec<Pipeline>,
    /// `run` would start it as far as its files go.
    #[cfg_attr(not(feature = "kafka"), expect(dead_code))]
    is_accepted: bool,
}

/// Reads and plans as `run` does. Where the plan is refused the brokers are looked at all the same.
fn configuration(arguments: &DoctorArguments, report: &mut Report) -> Option<Typed> {
    let options = Options {
        environment: &ProcessEnvironment,
        node_file: arguments.node.node.as_deref(),
        flags: arguments.node.flags(),
        instead: None,
        no_cache: arguments.node.no_cache,
        lock: LockUse::Compare,
        consent: Vec::new(),
    };
    let typed = match plan::read(&arguments.files, &options) {
        Ok(typed) => typed,
        Err(refusal) => {
            refused(&refusal, report);
            return None;
        }
    };
    // What is wrong is a line of the report; the log would say it twice.
    let filter = arguments.node.log.as_deref().unwrap_or("off");
    if let Err(error) = log::install(log::Format::Text, filter) {
        report.fail("config", "--log", format!("{error:#}"), "correct the filter");
    }
    let (node, pipelines) = (typed.node.clone(), typed.pipelines().to_vec());
    let resolved = typed.resolve(&options);
    let is_accepted = resolved.is_ok();
    match resolved {
        Ok(plan) => {
            let plugins: usize = plan.pipelines.iter().map(|pipeline| pipeline.stages.len()).sum();
            let (pipelines, plugins) = (some(plan.pipelines.len(), "pipeline"), some(plugins, "plugin"));
            let found = format!("{pipelines} with {plugins}: read, linked and configured as `run` does it");
            report.ok("config", "configuration", found);
        }
        Err(refusal) => refused(&refusal, report),
    }
    Some(Typed { node, pipelines, is_accepted })
}

fn refused(refusal: &Refusal, report: &mut Report) {
    for diagnostic in &refusal.diagnostics {
        let what = format!("configuration {}", diagnostic.at);
        let help =
            diagnostic.help.clone().unwrap_or_else(|| "correct it; `portcullis check` shows the place".to_owned());
        report.fail("config", what, format!("{} [{}]", diagnostic.message, diagnostic.code), help);
    }
}

fn examine(arguments: &DoctorArguments, typed: &Typed, report: &mut Report) {
    let (node, pipelines) = (&typed.node, &typed.pipelines);
    #[cfg_attr(not(feature = "nats"), expect(unused_mut))]
    let mut needs = Needs::of(node, pipelines);
    #[cfg(feature = "nats")]
    needs.ask_servers_within(arguments.timeout);
    machine::clock(report);
    machine::cache(node, arguments.node.no_cache, report);
    if let Some(file) = &needs.audit_file {
        machine::audit_file(file, report);
    }
    #[cfg(feature = "kafka")]
    let brokers = {
        let mut clusters = kafka::reach(&needs.clusters, arguments.timeout, report);
        match (arguments.topics.create_topics, typed.is_accepted) {
            (true, true) => create::create(&mut clusters, &arguments.topics, arguments.timeout, report),
            (true, false) => report.skip("topic.made", "topics", "none was made: the configuration is refused"),
            (false, _) => {}
        }
        clusters.iter().flatten().for_each(|cluster| kafka::check(cluster, arguments.timeout, report));
        let of = |(needs, cluster): (&needs::ClusterNeeds, &Option<kafka::Cluster<'_>>)| {
            needs.clients * cluster.as_ref().map_or(1, kafka::Cluster::brokers)
        };
        needs.clusters.iter().zip(&clusters).map(of).sum::<usize>()
    };
    #[cfg(not(feature = "kafka"))]
    let brokers = 0;
    #[cfg(feature = "nats")]
    nats::check(&needs.servers, report);
    limits::check(node, pipelines, brokers + needs.nats_clients(), report);
}
