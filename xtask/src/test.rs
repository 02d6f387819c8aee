//! `cargo xtask test`: what has to be green before a merge, cheapest first, on a broker that ends with the run.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

use crate::steps::{self, Steps};
use crate::{Part, attack, examples, guests, kafka, nats, prerequisites, promtool, python};

pub(crate) fn run(root: &Path, parts: &[Part], filter: &[String]) -> anyhow::Result<ExitCode> {
    let mut run = Run { root, parts, filter, steps: Steps::new("tests"), environment: Vec::new() };
    run.prepare()?;
    run.check()?;
    run.test()?;
    run.steps.finish();
    Ok(ExitCode::SUCCESS)
}

/// The modules of tests/main.rs that need no broker.
const WITHOUT_BROKERS: &[&str] = &[
    "authoring::",
    "cases::",
    "check::",
    "cli::",
    "deploy::a_",
    "deploy::alerts::",
    "deploy::compose::",
    "deploy::parts::prometheus",
    "deploy::parts::the_prober",
    "deploy::rates::a_server",
    "deploy::the_",
    "explain::",
    "hostile::",
    "link::",
];

struct Run<'a> {
    root: &'a Path,
    /// Empty: all.
    parts: &'a [Part],
    filter: &'a [String],
    steps: Steps,
    /// What the tests find their guests, brokers and clients by.
    environment: Vec<(&'static str, OsString)>,
}

impl Run<'_> {
    fn wants(&self, part: Part) -> bool {
        self.parts.is_empty() || self.parts.contains(&part)
    }

    /// Everything that may be missing is found out before the first long step.
    fn prepare(&mut self) -> anyhow::Result<()> {
        let root = self.root;
        self.steps.step("what the build needs", || {
            prerequisites::build()?;
            prerequisites::rust_components()
        })?;
        if self.wants(Part::Brokers) {
            let libs = self.steps.step("Apache Kafka", || {
                prerequisites::kafka()?;
                kafka::libs(root)
            })?;
            let python = self.steps.step("the independent Python clients", || python::interpreter(root))?;
            self.environment.push(("BRIDGE_TEST_KAFKA_LIBS", libs.into()));
            self.environment.push(("BRIDGE_TEST_PYTHON", python.into()));
            let server = self.steps.step("nats-server", || nats::server(root))?;
            self.environment.push((nats::VARIABLE, server.into()));
        }
        if self.wants(Part::Cases)
            && let Some(promtool) = self.steps.step("promtool", || Ok(promtool::program(root)))?
        {
            self.environment.push((promtool::VARIABLE, promtool.into()));
        }
        Ok(())
    }

    fn check(&mut self) -> anyhow::Result<()> {
        let (root, plugins) = (self.root, self.root.join("plugins"));
        let (unit, guests) = (self.wants(Part::Unit), self.wants(Part::Guests));
        if unit || guests {
            self.steps.step("format", || {
                steps::run(&mut cargo(root, &["fmt", "--all", "--check"]))?;
                steps::run(&mut cargo(&plugins, &["fmt", "--all", "--check"]))
            })?;
        }
        const CLIPPY: &[&str] = &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
        if unit {
            self.steps.step("lints of the bridge", || steps::run(&mut cargo(root, CLIPPY)))?;
        }
        if guests {
            self.steps.step("lints of the plugins", || steps::run(&mut cargo(&plugins, CLIPPY)))?;
        }
        Ok(())
    }

    fn test(&mut self) -> anyhow::Result<()> {
        let (root, plugins) = (self.root, self.root.join("plugins"));
        // Also for the unit tests: those of the plugin host run real components.
        self.steps.step("guests, as WebAssembly components", || guests::build(root))?;
        self.environment.push(("BRIDGE_TEST_GUESTS", root.join("target/guests").into()));
        self.environment.push(("BRIDGE_TEST_GUEST_TOOLCHAIN", guests::toolchain_json(root)?.into()));
        if self.wants(Part::Guests) {
            self.steps.step("native tests of the plugins", || {
                steps::run(&mut cargo(&plugins, &["test", "--workspace", "--locked", "--no-fail-fast"]))
            })?;
        }
        // Only by name: their tools are hundreds of megabytes.
        let in_other_languages = self.parts.contains(&Part::Guests);
        if in_other_languages {
            let examples = self.steps.step("examples in Python and JavaScript", || examples::build(root))?;
            self.environment.push(("BRIDGE_TEST_EXAMPLES", examples.into()));
        }
        if in_other_languages
            || self.wants(Part::Unit)
            || self.wants(Part::Cases)
            || self.wants(Part::Brokers)
            || self.wants(Part::Attack)
        {
            let mut build = self.cargo_test(&["--no-run"]);
            self.steps.step("build of the tests", || steps::run(&mut build))?;
        }
        // Held to the end of the run; it ends with this process whatever happens.
        let _broker = if self.wants(Part::Brokers) { Some(self.start_broker()?) } else { None };
        if self.parts.is_empty() {
            self.cargo_step("unit, documentation and integration tests", &[], &[])?;
            return self.attack();
        }
        if self.wants(Part::Unit) {
            self.cargo_step("unit tests", &["--lib", "--bins"], &[])?;
            self.cargo_step("documentation tests", &["--doc"], &[])?;
        }
        if self.wants(Part::Cases) {
            // By name, since connectors have tests called `main` too, and those need brokers; a filter of the caller chooses itself.
            let modules = if self.filter.is_empty() { WITHOUT_BROKERS } else { &[] };
            self.cargo_step("tests through the binary", &["--test", "main"], modules)?;
        }
        if self.wants(Part::Brokers) {
            // Those of the connectors need the broker as well.
            let skip: Vec<&str> = WITHOUT_BROKERS.iter().flat_map(|module| ["--skip", module]).collect();
            self.cargo_step("tests on brokers", &["--test", "*"], &skip)?;
        }
        if self.wants(Part::Attack) {
            self.attack()?;
        }
        if in_other_languages {
            self.cargo_step("examples in the bridge", &["--test", "main"], &["--ignored", "examples::"])?;
        }
        Ok(())
    }

    /// The binaries are there: integration tests are built with those of their package.
    fn attack(&mut self) -> anyhow::Result<()> {
        for vectors in attack::VECTORS {
            let mut runner = attack::runner(self.root, &self.root.join(vectors));
            self.steps.step(&format!("egress vectors of {vectors}"), || steps::run(&mut runner))?;
        }
        Ok(())
    }

    fn start_broker(&mut self) -> anyhow::Result<crate::support::broker::Broker> {
        let libs = self.environment.iter().find(|(name, _)| *name == "BRIDGE_TEST_KAFKA_LIBS");
        let libs = libs.map(|(_, libs)| libs.clone()).unwrap_or_default();
        let broker = self.steps.step("a broker for the run", || kafka::start(Path::new(&libs)))?;
        self.environment.push(("BRIDGE_TEST_BROKERS", broker.address().into()));
        Ok(broker)
    }

    fn cargo_step(&mut self, name: &str, selection: &[&str], harness: &[&str]) -> anyhow::Result<()> {
        let mut command = self.cargo_test(selection);
        if !harness.is_empty() || !self.filter.is_empty() {
            command.arg("--").args(harness).args(self.filter);
        }
        self.steps.step(name, || steps::run(&mut command))
    }

    /// Always the whole workspace: another selection has other features and would compile the dependencies once more.
    fn cargo_test(&self, selection: &[&str]) -> Command {
        let mut command = Command::new("cargo");
        command.args(["test", "--workspace", "--locked", "--no-fail-fast"]).args(selection).current_dir(self.root);
        command.envs(self.environment.iter().map(|(name, value)| (*name, value)));
        command
    }
}

fn cargo(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(arguments).current_dir(folder);
    command
}
