//! `portcullis plugin`: for authors. A crate that builds as it is, its component, and the component in the real sandbox.

mod bench;
mod build;
mod new;
mod sdk;
mod test;
mod trial;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(super) enum PluginCommand {
    /// Makes a folder with a crate that builds, is tested and runs as it is, the SDK included.
    New(new::NewArguments),
    /// Builds the component of a plugin's crate and says what it could do.
    Build(build::BuildArguments),
    /// Runs messages through a component in the sandbox, with real grants and budgets, and compares what comes of them.
    Test(test::TestArguments),
    /// Measures what a call of a component costs on this machine.
    Bench(bench::BenchArguments),
}

pub(super) fn plugin(command: &PluginCommand) -> u8 {
    match command {
        PluginCommand::New(arguments) => new::new(arguments),
        PluginCommand::Build(arguments) => build::build(arguments),
        PluginCommand::Test(arguments) => test::test(arguments),
        PluginCommand::Bench(arguments) => bench::bench(arguments),
    }
}
