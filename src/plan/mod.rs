//! What the files mean: every name resolved, every component linked and configured once in the sandbox, every connector's
//! settings checked. No decision is taken after it; what it refuses was never started.

mod admission;
pub(crate) mod description;
mod drain;
mod egress;
pub(crate) mod evidence;
pub(crate) mod explain;
mod files;
mod grant;
mod guarantee;
mod levels;
mod link_table;
mod lock;
mod locked;
mod loops;
pub(crate) mod needed;
mod own;
mod plugins;
mod remarks;
pub(crate) mod suggest;
pub(crate) mod walk;

pub use admission::Table;
pub use grant::Grant;
pub use link_table::{Asked, Line, Verdict};
pub use lock::{LOCK_FILE, LockUse};

pub use guarantee::{Guarantee, Promise};

use std::path::{Path, PathBuf};
use std::sync::Arc;

use portcullis_config::{
    AuditTarget, Code, Diagnostic, Diagnostics, Environment, Flags, Located, Location, Node, Pipeline, Sink, Source,
};

use ipnet::IpNet;
use portcullis_flow::QueueSum;
use sha2::{Digest, Sha256};

use self::admission::Admission;
use self::egress::Networks;
use self::levels::Levels;
use self::lock::Locks;
use self::locked::LockedPipeline;
use self::own::OwnText;
use crate::connectors::{Instead, SinkPlan, SourcePlan};
use crate::pipeline::Stage;
use crate::plugin::{Sandbox, SandboxOptions};

/// Everything that one process will run.
pub struct Plan {
    /// The node's settings.
    pub node: Node,
    /// At least one.
    pub pipelines: Vec<PipelinePlan>,
    /// Holds the compiler alive.
    pub sandbox: Arc<Sandbox>,
    /// One for each plugin of each pipeline.
    pub tables: Vec<Table>,
    /// The digest of the bytes of the configuration files, as they were parsed.
    files: [u8; 32],
}

impl Plan {
    /// Writes what was linked beside the pipelines' files: each lock, and whether it changed.
    ///
    /// # Errors
    /// A lock that cannot be written.
    pub fn write_locks(&self) -> std::io::Result<Vec<(PathBuf, bool)>> {
        let of = |pipeline: &PipelinePlan| {
            (pipeline.config.file.clone(), pipeline.config.name.value.clone(), pipeline.locked.clone())
        };
        lock::write(&self.pipelines.iter().map(of).collect::<Vec<_>>())
    }

    /// SHA-256, in hexadecimal digits, over the files that the plan was made of, for the audit: two starts with the same one
    /// had the same configuration. Values from the environment are not in it.
    pub fn digest(&self) -> String {
        let mut digest = Sha256::new_with_prefix(self.files);
        for plugin in self.pipelines.iter().flat_map(|pipeline| &pipeline.locked.plugins) {
            let parts = plugin.config.iter().chain(plugin.files.values());
            parts.for_each(|part| digest.update(Sha256::digest(part.as_bytes())));
        }
        digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// One pipeline, resolved.
pub struct PipelinePlan {
    /// As typed.
    pub config: Pipeline,
    /// Where from; each entry runs by itself.
    pub sources: Vec<SourcePlan>,
    /// The chain.
    pub stages: Vec<Arc<Stage>>,
    /// Where to.
    pub sink: SinkPlan,
    /// Where failed messages go.
    pub dead_letter: Option<SinkPlan>,
    /// What the queues of its tenant and of the node hold together.
    pub queue_sums: Vec<Arc<QueueSum>>,
    /// What source and sink can promise together.
    pub promise: Promise,
    /// What may go wrong with it and is not certain to.
    pub warnings: Vec<Diagnostic>,
    /// What was linked, as a lock has it.
    pub(crate) locked: LockedPipeline,
}

/// What planning needs beside the files.
pub struct Options<'a> {
    /// Where `${VAR}` looks.
    pub environment: &'a dyn Environment,
    /// The node's file where it was named.
    pub node_file: Option<&'a Path>,
    /// What the command line says over the node's file.
    pub flags: Flags,
    /// Where every Kafka connection goes instead of where its file says.
    pub instead: Option<Instead>,
    /// No compiled components on disk.
    pub no_cache: bool,
    /// What is done with the locks beside the files.
    pub lock: LockUse,
    /// Consent to addresses beside the node's own, of whoever started the process: that of `dev` to its server.
    pub consent: Vec<IpNet>,
}

/// A refused component, for the audit.
#[derive(Clone, Debug)]
pub struct RefusedPlugin {
    /// The pipeline and the plugin's name in it.
    pub pipeline: String,
    /// The plugin's name.
    pub plugin: String,
    /// The tenant.
    pub tenant: Option<String>,
    /// Why, in the audit's word.
    pub refused: portcullis_audit::Refused,
    /// What was found.
    pub detail: String,
    /// The digest, where the file could be read.
    pub digest: Option<String>,
}

/// Why nothing was started.
pub struct Refusal {
    /// All of it.
    pub diagnostics: Diagnostics,
    /// The components among it; the node is known when they are.
    pub plugins: Vec<RefusedPlugin>,
    /// The node's settings, where they could be read.
    pub node: Option<Box<Node>>,
    /// One for each plugin of each pipeline that could be read.
    pub tables: Vec<Table>,
    /// Every pipeline file in the order of the command line; none where the node's settings could not be read.
    pub files: Vec<FileVerdict>,
}

/// What was found of one file among several.
#[derive(Clone, Debug)]
pub struct FileVerdict {
    /// As it was named.
    pub file: String,
    /// Whether it alone would run.
    pub is_good: bool,
    /// Errors with a place in it.
    pub errors: usize,
}

impl From<Diagnostics> for Refusal {
    fn from(diagnostics: Diagnostics) -> Self {
        Self { diagnostics, plugins: Vec::new(), node: None, tables: Vec::new(), files: Vec::new() }
    }
}

/// What was typed, before it is known what it means. The node's settings are readable here already, so that the log can be
/// set up before anything speaks.
pub struct Typed {
    /// The node's settings.
    pub node: Node,
    pipelines: Vec<Pipeline>,
    /// Files with errors, as far as they could be read: their plugins are looked at, and nothing of them runs.
    partly: Vec<Pipeline>,
    wrong: Diagnostics,
    named: Vec<PathBuf>,
    files: [u8; 32],
}

/// Reads the node's file and every pipeline file.
///
/// # Errors
/// When the node's settings cannot be read, with all that is wrong with all files. What is wrong with pipelines alone comes
/// from [`Typed::resolve`], together with what it finds.
pub fn read(files: &[PathBuf], options: &Options<'_>) -> Result<Typed, Refusal> {
    let (files, mut wrong) = files::of_pipelines(files);
    let first = files.first().map(PathBuf::as_path);
    let node_file = portcullis_config::discover_node(options.node_file, first);
    if options.node_file.is_none() {
        files::unread_nodes(&files, node_file.as_deref()).into_iter().for_each(|diagnostic| wrong.push(diagnostic));
    }
    let mut digest = Sha256::new();
    let node = read_node(node_file.as_deref(), options, &mut digest).map_err(|diagnostics| wrong.extend(diagnostics));
    let (mut pipelines, mut partly) = (Vec::new(), Vec::new());
    for file in &files {
        let bytes = bytes_of(file, &mut digest);
        let read = bytes.map(|bytes| match &node {
            Ok(node) => node.load_pipeline_partly(file, &bytes, options.environment),
            // Nothing starts: what else is wrong is said too, and what may be named is not known.
            Err(()) => portcullis_config::load_pipeline_partly(file, &bytes, options.environment),
        });
        match read {
            Ok(read) if read.is_good() => pipelines.extend(read.pipeline),
            Ok(read) => {
                partly.extend(read.pipeline.clone());
                wrong.extend(read.into_result().err().unwrap_or_default());
            }
            Err(diagnostics) => wrong.extend(diagnostics),
        }
    }
    match node {
        Ok(node) => Ok(Typed { node, pipelines, partly, wrong, named: files, files: digest.finalize().into() }),
        Err(()) => Err(wrong.into()),
    }
}

fn read_node(file: Option<&Path>, options: &Options<'_>, digest: &mut Sha256) -> Result<Node, Diagnostics> {
    let bytes = file.map(|file| bytes_of(file, digest)).transpose()?;
    portcullis_config::load_node(file.zip(bytes.as_deref()), options.environment, &options.flags)
}

/// The bytes of a file. What is digested is what is parsed, whatever happens to the file meanwhile.
fn bytes_of(file: &Path, digest: &mut Sha256) -> Result<Vec<u8>, Diagnostics> {
    let bytes = portcullis_config::configuration_bytes(file)?;
    digest.update(Sha256::digest(&bytes));
    Ok(bytes)
}

impl Typed {
    /// Of what was made and not read.
    pub(crate) fn of(node: Node, pipelines: Vec<Pipeline>) -> Self {
        let named = pipelines.iter().map(|pipeline| pipeline.file.clone()).collect();
        Self { node, pipelines, partly: Vec::new(), wrong: Diagnostics::new(), named, files: [0; 32] }
    }

    /// The pipelines that could be read.
    pub(crate) fn pipelines(&self) -> &[Pipeline] {
        &self.pipelines
    }

    /// Links, configures and completes everything.
    ///
    /// # Errors
    /// All that is wrong with all files at once.
    pub fn resolve(self, options: &Options<'_>) -> Result<Plan, Refusal> {
        let Self { mut node, pipelines, partly, mut wrong, named, files } = self;
        let consent = options.consent.iter().map(|net| Located::new(*net, Location::of("the command line")));
        node.egress.consent.extend(consent);
        check_names(&pipelines, &mut wrong);
        for pipeline in &pipelines {
            wrong.extend(node.check(pipeline));
            drain::within_polls(&node, pipeline).into_iter().for_each(|diagnostic| wrong.push(diagnostic));
        }
        let loops = loops::find(&node, &pipelines, options.instead.is_some());
        loops.wrong.into_iter().for_each(|diagnostic| wrong.push(diagnostic));
        let sandbox = match sandbox(&node, options) {
            Ok(sandbox) => sandbox,
            Err(error) => {
                wrong.push(Location::of("the sandbox").diagnostic(Code::Other("sandbox.unavailable"), error));
                return Err(Refusal { node: Some(Box::new(node)), ..wrong.into() });
            }
        };
        let mut plans = Vec::new();
        let levels = Levels::of(&node);
        let networks = Networks::new(&node, &levels, OwnText::of(&node, &pipelines, options.instead.as_ref()));
        let locks = Locks::read(pipelines.iter().chain(&partly), options.lock, &mut wrong);
        let mut admission = Admission::new(&sandbox, &node, &networks, locks, &wrong);
        for (index, pipeline) in pipelines.into_iter().enumerate() {
            let resolver = Resolver { node: &node, options, levels: &levels, networks: &networks };
            let warnings = loops.warnings.iter().filter(|(of, _)| *of == index).map(|(_, warning)| warning.clone());
            match resolver.resolve(pipeline, warnings.collect(), &mut admission) {
                Ok(plan) => plans.push(plan),
                Err(diagnostics) => wrong.extend(diagnostics),
            }
        }
        partly.iter().for_each(|pipeline| plugins::look(&mut admission, pipeline, &networks, &levels, &mut wrong));
        let (tables, plugins) = admission.end();
        if wrong.is_empty() {
            return Ok(Plan { node, pipelines: plans, sandbox, tables, files });
        }
        let files = named.iter().map(|file| verdict(file, &plans, &wrong)).collect();
        Err(Refusal { diagnostics: wrong, plugins, node: Some(Box::new(node)), tables, files })
    }
}

fn verdict(file: &Path, plans: &[PipelinePlan], wrong: &Diagnostics) -> FileVerdict {
    let name = file.display().to_string();
    let errors = wrong.iter().filter(|diagnostic| diagnostic.at.file() == name).count();
    let is_good = errors == 0 && plans.iter().any(|plan| plan.config.file == *file);
    FileVerdict { file: name, is_good, errors }
}

struct Resolver<'a> {
    node: &'a Node,
    options: &'a Options<'a>,
    levels: &'a Levels,
    networks: &'a Networks<'a>,
}

impl Resolver<'_> {
    fn resolve(
        &self,
        mut pipeline: Pipeline,
        warnings: Vec<Diagnostic>,
        admission: &mut Admission<'_>,
    ) -> Result<PipelinePlan, Diagnostics> {
        for warning in &warnings {
            tracing::warn!(at = %warning.at, pipeline = %pipeline.name.value, "{}", warning.message);
        }
        // What was not typed is lowered to what the levels above allow; what was typed above them is refused already.
        pipeline.queue = self.node.queue_of(&pipeline);
        let limits: Vec<_> = pipeline.plugins.iter().map(|plugin| self.node.limits_of(&pipeline, plugin)).collect();
        pipeline.plugins.iter_mut().zip(limits).for_each(|(plugin, limits)| plugin.limits = limits);
        let mut wrong = Diagnostics::new();
        let mut keep = |result: Result<_, Diagnostic>| result.map_err(|diagnostic| wrong.push(diagnostic)).ok();
        let sources: Vec<_> = pipeline.sources.iter().map(|source| self.source(source)).collect();
        let sources: Vec<_> = sources.into_iter().filter_map(&mut keep).collect();
        let mut keep_sink = |result: Result<_, Diagnostic>| result.map_err(|diagnostic| wrong.push(diagnostic)).ok();
        let owner = owner(&pipeline);
        let reserved = self.reserved(&pipeline);
        let sink = keep_sink(self.sink(&pipeline.sink, &reserved, self.read_topics(&pipeline), &owner));
        let audit: Vec<_> = self.audit_topic().into_iter().collect();
        let letters = |letters| keep_sink(self.sink(letters, &audit, Vec::new(), &owner));
        let dead_letter = pipeline.dead_letter.as_ref().map(letters);
        let (stages, locked) = plugins::link(admission, &pipeline, self.networks, self.levels, &mut wrong);
        let (Some(sink), true) = (sink, wrong.is_empty()) else {
            return Err(wrong);
        };
        let promise = guarantee::of(&sources, &sink);
        let queue_sums = self.levels.queue(pipeline.tenant.as_ref().map(|tenant| tenant.as_str()));
        let dead_letter = dead_letter.flatten();
        Ok(PipelinePlan { sources, stages, sink, dead_letter, queue_sums, promise, warnings, locked, config: pipeline })
    }

    /// What a sink must never reach: the evidence, and the dead letters.
    fn reserved<'p>(&'p self, pipeline: &'p Pipeline) -> Vec<Reserved<'p>> {
        let mut reserved: Vec<_> = self.audit_topic().into_iter().collect();
        let what = "the pipeline's dead letter queue";
        match (&pipeline.sink.value, pipeline.dead_letter.as_ref().map(|letters| &letters.value)) {
            (Sink::Kafka(_), Some(Sink::Kafka(letters))) => {
                reserved.push(Reserved { name: letters.topic.value.to_string(), what, at: &letters.topic.at });
            }
            (Sink::JetStream(_) | Sink::Nats(_), Some(Sink::JetStream(letters))) => {
                reserved.push(Reserved { name: letters.subject.value.to_string(), what, at: &letters.subject.at });
            }
            _ => {}
        }
        reserved
    }

    /// The topics that a pipeline reads from the cluster that it sends to: no template of its sink may give one of them, or
    /// its messages would go round. The same name on another cluster is another topic: mirrors are made of that.
    fn read_topics(&self, pipeline: &Pipeline) -> Vec<String> {
        let Sink::Kafka(sink) = &pipeline.sink.value else { return Vec::new() };
        let is_here = |connection: &portcullis_config::KafkaConnection| {
            self.options.instead.is_some() || loops::is_one_cluster(self.node, connection, &sink.connection)
        };
        let of = |source: &Located<Source>| match &source.value {
            Source::Kafka(kafka) if is_here(&kafka.connection) => {
                kafka.topics.iter().map(|topic| topic.value.clone()).collect()
            }
            _ => Vec::new(),
        };
        pipeline.sources.iter().flat_map(of).collect()
    }

    fn audit_topic(&self) -> Option<Reserved<'_>> {
        match self.node.audit.target.as_ref().map(|target| &target.value) {
            Some(AuditTarget::Topic(audit)) => {
                Some(Reserved { name: audit.topic.value.clone(), what: "the audit topic", at: &audit.topic.at })
            }
            _ => None,
        }
    }

    fn source(&self, source: &Located<Source>) -> Result<SourcePlan, Diagnostic> {
        SourcePlan::resolve(source, self.node, self.options.instead.as_ref())
    }

    /// `read` are topics that a template must not give; one that is fixed has been held against the sources already.
    fn sink(
        &self,
        sink: &Located<Sink>,
        reserved: &[Reserved<'_>],
        read: Vec<String>,
        owner: &str,
    ) -> Result<SinkPlan, Diagnostic> {
        let to = match &sink.value {
            Sink::Kafka(kafka) => Some(&kafka.topic),
            Sink::JetStream(stream) => Some(&stream.subject),
            Sink::Nats(nats) => Some(&nats.subject),
            Sink::File(_) | Sink::Stdio(_) => None,
        };
        let fixed = to.and_then(|to| Some((to.value.fixed()?, &to.at)));
        if let Some((name, at)) = fixed
            && let Some(Reserved { what, at: place, .. }) = reserved.iter().find(|reserved| reserved.name == name)
        {
            let message = format!("`{name}` is {what} ({place}), where no other message goes");
            return Err(at.diagnostic(Code::KeyConflict, message).help("name another one"));
        }
        let names = reserved.iter().map(|reserved| reserved.name.clone());
        let forbidden: Vec<String> = if fixed.is_some() { names.collect() } else { names.chain(read).collect() };
        SinkPlan::resolve(sink, self.node, self.options.instead.as_ref(), &forbidden, owner)
    }
}

/// `TENANT/PIPELINE`: what begins the ids of its messages in a stream. Neither name has a `/` in it.
pub(crate) fn owner(pipeline: &Pipeline) -> String {
    let tenant = pipeline.tenant.as_ref().map(|tenant| format!("{}/", tenant.value)).unwrap_or_default();
    format!("{tenant}{}", pipeline.name.value)
}

/// A destination with one use.
struct Reserved<'a> {
    name: String,
    what: &'static str,
    at: &'a Location,
}

fn check_names(pipelines: &[Pipeline], wrong: &mut Diagnostics) {
    for (index, pipeline) in pipelines.iter().enumerate() {
        let earlier = pipelines.iter().take(index).find(|other| other.name.value == pipeline.name.value);
        if let Some(earlier) = earlier {
            let message =
                format!("pipeline `{}` is also the name of the one in {}", pipeline.name.value, earlier.name.at);
            wrong.push(pipeline.name.at.diagnostic(Code::NameDuplicate, message).help("names are unique in a process"));
        }
    }
}

fn sandbox(node: &Node, options: &Options<'_>) -> Result<Arc<Sandbox>, String> {
    let enabled = node.cache.enabled.value && !options.no_cache;
    let folder = cache_folder(node, options.environment);
    // Without a path to itself the program compiles in this process: what is lost is a bound on the compiler.
    let compiler = std::env::current_exe().ok();
    Sandbox::new(SandboxOptions { cache: folder.filter(|_| enabled), compiler }).map_err(|error| error.to_string())
}

/// Where compiled components are kept, if they are.
pub(crate) fn cache_folder(node: &Node, environment: &dyn Environment) -> Option<PathBuf> {
    node.cache.dir.as_ref().map(|dir| dir.value.clone()).or_else(|| user_cache(environment))
}

/// The user's own cache folder, as the XDG base directory specification names it.
fn user_cache(environment: &dyn Environment) -> Option<PathBuf> {
    let named = environment.var("XDG_CACHE_HOME").filter(|folder| folder.starts_with('/')).map(PathBuf::from);
    let base = named.or_else(|| environment.var("HOME").map(|home| Path::new(&home).join(".cache")))?;
    Some(base.join("portcullis").join("components"))
}

#[cfg(test)]
mod tests;
