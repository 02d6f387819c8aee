//! The command line: one file a subcommand, and nothing else.
//!
//! Exit codes: 0 done; 1 failed while running; 2 refused before running.

mod check;
mod completions;
#[cfg(feature = "kafka")]
mod dev;
mod doctor;
mod engine;
mod explain;
mod grants;
mod input;
mod inspect;
mod link;
mod plan;
mod plugin;
mod report;
mod run;
mod schema;
mod signals;
mod table;
mod tap;
mod words;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use portcullis_config::Flags;

/// Done.
const DONE: u8 = 0;
/// Failed while running.
const FAILED: u8 = 1;
/// Refused before running: nothing was started, nothing was changed.
const REFUSED: u8 = 2;

/// A message-broker plugin bridge: Kafka and NATS through sandboxed WebAssembly components, denied everything that was not granted.
///
/// Exit codes: 0 done, 1 failed while running, 2 refused before running.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs pipelines until they end or the process is stopped.
    Run(run::RunArguments),
    /// Parses, links and configures everything in the sandbox, and starts nothing.
    Check(check::CheckArguments),
    /// Shows what would run: what each name resolved to, what is promised, every budget with its origin, and what is weak.
    Plan(plan::PlanArguments),
    /// Looks whether brokers, topics, rights and this machine are as the pipelines and the audit need it.
    Doctor(doctor::DoctorArguments),
    /// Shows for every plugin what it imports, asks for and was granted, and writes `portcullis.lock` beside the pipelines.
    Link(link::LinkArguments),
    /// Shows what a component could do, and the grants that it would need.
    Inspect(inspect::InspectArguments),
    /// Shows how requests of a plugin would be decided, step by step, and the least grant that would allow them.
    Explain(explain::ExplainArguments),
    /// For authors of plugins: a new crate, its component, and the component in the sandbox.
    #[command(subcommand)]
    Plugin(plugin::PluginCommand),
    /// Shows messages as they pass in the bridge that runs, as far as its node's file consents.
    Tap(tap::TapArguments),
    /// Prints the JSON Schema of a pipeline file, or of the node's, for editors.
    Schema(schema::SchemaArguments),
    /// Prints what completes this program's commands in a shell.
    Completions(completions::CompletionsArguments),
    /// Grants from evidence.
    Grants(grants::GrantsArguments),
    /// Runs one pipeline on a broker inside this process, feeds it an input file and shows what became of each message.
    #[cfg(feature = "kafka")]
    Dev(dev::DevArguments),
}

/// What every subcommand takes.
#[derive(Args, Clone, Debug)]
struct NodeArguments {
    /// The node's file; otherwise `portcullis.yaml` beside the first pipeline file, otherwise defaults.
    #[arg(long, value_name = "FILE")]
    node: Option<PathBuf>,
    /// Where the admin endpoint listens, over the node's file.
    #[arg(long, value_name = "HOST:PORT")]
    admin: Option<String>,
    /// A file for audit events, over the node's file.
    #[arg(long, value_name = "FILE")]
    audit_file: Option<PathBuf>,
    /// Compiles every component anew and keeps nothing on disk.
    #[arg(long)]
    no_cache: bool,
    /// The log's filter, such as `info` or `portcullis=debug,librdkafka=warn`.
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
}

impl NodeArguments {
    fn flags(&self) -> Flags {
        let mut flags = Flags::new();
        if let Some(listen) = &self.admin {
            flags = flags.with("--admin", "admin.listen", listen.as_str());
        }
        if let Some(file) = &self.audit_file {
            flags = flags.with("--audit-file", "audit.file", file.to_string_lossy());
        }
        flags
    }
}

/// How a result is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// Parses the arguments, runs the subcommand and gives its exit code.
pub fn main() -> ExitCode {
    let code = match Arguments::parse().command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Check(arguments) => check::check(&arguments),
        Command::Plan(arguments) => plan::plan(&arguments),
        Command::Doctor(arguments) => doctor::doctor(&arguments),
        Command::Link(arguments) => link::link(&arguments),
        Command::Inspect(arguments) => inspect::inspect(&arguments),
        Command::Explain(arguments) => explain::explain(&arguments),
        Command::Plugin(command) => plugin::plugin(&command),
        Command::Tap(arguments) => tap::tap(&arguments),
        Command::Schema(arguments) => schema::schema(&arguments),
        Command::Completions(arguments) => completions::completions(&arguments),
        Command::Grants(arguments) => grants::grants(&arguments),
        #[cfg(feature = "kafka")]
        Command::Dev(arguments) => dev::dev(&arguments),
    };
    ExitCode::from(code)
}
