//! `portcullis dev`: one pipeline file, unchanged, on a broker inside this process; an input file through it; and what
//! became of each message, read back from the topics.

mod feed;
mod judge;
mod readback;
mod server;
mod show;
mod topics;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use portcullis_connector_kafka::{Connection, TestBroker};

use super::engine::Engine;
use super::{DONE, FAILED, Format, NodeArguments, report, run, signals};
use crate::audit_store::Target;
use crate::connectors::Instead;
use crate::plan::{LockUse, Plan};

/// The topic for audit events while developing.
const AUDIT_TOPIC: &str = "portcullis.audit";
/// How long the messages may take from the first topic to the last.
const LIMIT: Duration = Duration::from_secs(60);

#[derive(Args, Clone, Debug)]
pub(super) struct DevArguments {
    /// The pipeline file.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Messages to feed, as JSON Lines; otherwise the file `<pipeline>.input.jsonl` beside the pipeline's. Where a line has
    /// an `expect`, it is checked.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// A real cluster instead of the broker inside this process. Topics that are missing are created there.
    #[arg(long, value_name = "HOST:PORT")]
    brokers: Option<String>,
    /// Leaves everything running after the summary.
    #[arg(long)]
    keep: bool,
    /// How the summary is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    node: NodeArguments,
}

pub(super) fn dev(arguments: &DevArguments) -> u8 {
    match prepared(arguments) {
        Ok(Prepared::Refused(code)) => code,
        Ok(Prepared::Ready(session)) => match session.run(arguments) {
            Ok(true) => DONE,
            Ok(false) => FAILED,
            Err(error) => {
                eprintln!("portcullis: {error:#}");
                FAILED
            }
        },
        Err(error) => {
            eprintln!("portcullis: {error:#}");
            super::REFUSED
        }
    }
}

enum Prepared {
    Ready(Box<Session>),
    Refused(u8),
}

/// Everything that is needed before the first message.
struct Session {
    plan: Plan,
    lines: Vec<portcullis_connector_local::envelope::Line>,
    topics: topics::Topics,
    audit: Target,
    connection: Connection,
    /// What plugins ask instead of somebody's API.
    server: Option<server::Server>,
    /// The broker inside this process ends with this value.
    broker: Option<TestBroker>,
}

fn prepared(arguments: &DevArguments) -> anyhow::Result<Prepared> {
    let input = arguments.input.clone().unwrap_or_else(|| arguments.file.with_extension("input.jsonl"));
    let broker = match &arguments.brokers {
        Some(_) => None,
        None => Some(TestBroker::start().context("cannot start the broker inside this process")?),
    };
    let instead = match (&arguments.brokers, &broker) {
        (Some(brokers), _) => Instead::Cluster(brokers.clone()),
        (None, Some(broker)) => Instead::TestBroker(broker.address()?),
        (None, None) => bail!("there is no broker"),
    };
    let mut node = arguments.node.clone();
    // A port of the node's file may be taken by the bridge that runs beside.
    node.admin.get_or_insert_with(|| "127.0.0.1:0".to_owned());
    node.log.get_or_insert_with(|| "warn".to_owned());
    show::linking(arguments.format);
    let server = server::Server::beside(&arguments.file)?;
    let beside = run::Beside {
        instead: Some(instead.clone()),
        // No more than this one address, and only while this command runs.
        consent: server.iter().map(|server| server.address.ip().into()).collect(),
        variable: server.as_ref().map(|server| (server.variable.clone(), server.origin())),
        // The server's address is in the rules, so they differ from those that were locked.
        lock: LockUse::Bytes,
    };
    let plan = match run::planned(std::slice::from_ref(&arguments.file), &node, beside) {
        Ok(plan) => plan,
        Err(refusal) => {
            let code = report::refused(&refusal, arguments.format);
            let (Instead::Cluster(brokers) | Instead::TestBroker(brokers)) = instead;
            let connection = Connection::plain(brokers);
            let audit = audit_of(&connection, &node);
            let target = match &audit {
                Target::Topic(..) => topics::create_audit(&connection, broker.as_ref()),
                Target::File(_) => Ok(()),
            };
            run::record_refusal(&refusal, target.map(|()| audit));
            return Ok(Prepared::Refused(code));
        }
    };
    let topics = topics::Topics::of(&plan, node.audit_file.is_none())?;
    let lines = feed::read(&input, topics.first_source())?;
    let connection = topics.connection.clone();
    topics.create(&connection, broker.as_ref())?;
    let audit = audit_of(&connection, &node);
    Ok(Prepared::Ready(Box::new(Session { plan, lines, topics, audit, connection, server, broker })))
}

/// The file that was asked for on the command line, else a topic beside the others. What the node's file says is for a node.
fn audit_of(connection: &Connection, node: &NodeArguments) -> Target {
    match &node.audit_file {
        Some(file) => Target::File(file.clone()),
        None => Target::Topic(Box::new(connection.clone()), AUDIT_TOPIC.to_owned()),
    }
}

impl Session {
    /// True when what was read back is what the input implies.
    fn run(self: Box<Self>, arguments: &DevArguments) -> anyhow::Result<bool> {
        let Self { plan, lines, topics, audit, connection, server, broker } = *self;
        let screen = show::Screen::new(arguments.format, &connection, broker.is_some());
        let names: Vec<String> = plan.pipelines.iter().map(|pipeline| pipeline.config.name.value.clone()).collect();
        screen.starting(&names, &topics, &audit);
        let engine = Engine::start(plan, &audit)?;
        signals::listen(engine.stop.clone(), Arc::new(engine.unfinished()))?;
        let sent = feed::send(&connection, lines)?;
        screen.sent(sent.len());
        let mut found = readback::Readback::open(&connection, &topics)?;
        let deadline = Instant::now() + LIMIT;
        while !found.has_all(&sent)
            && !found.is_quiet()
            && Instant::now() < deadline
            && !engine.stop.requested()
            && !engine.has_ended()
        {
            found.poll(|message, place| screen.arrived(message, place))?;
        }
        let address = engine.address;
        if let Some((before, after)) = judge::example(&sent, &found) {
            screen.before_and_after(before, after);
        }
        if arguments.keep {
            found.take_audit_file(&audit)?;
            screen.summary(&judge::judge(&sent, &found), &found, address);
            screen.keeping();
            engine.join()?;
            return Ok(judge::judge(&sent, &found).is_good());
        }
        // The end of the run is itself evidence: the audit's last event is read back too.
        engine.stop.request();
        engine.join()?;
        match &audit {
            Target::Topic(..) => found.audit_until_stop(Instant::now() + Duration::from_secs(10))?,
            Target::File(_) => found.take_audit_file(&audit)?,
        }
        let judgement = judge::judge(&sent, &found);
        screen.summary(&judgement, &found, address);
        found.close()?;
        // The last client is gone before its broker and its server are.
        drop((broker, server));
        Ok(judgement.is_good())
    }
}
