//! `portcullis completions`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Arguments, DONE};

#[derive(Args, Clone, Debug)]
pub(super) struct CompletionsArguments {
    /// Which shell: `portcullis completions bash > /etc/bash_completion.d/portcullis`.
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn completions(arguments: &CompletionsArguments) -> u8 {
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "portcullis", &mut std::io::stdout());
    DONE
}
