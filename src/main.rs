//! The command `portcullis`. Everything is in the library; here is only the exit code.

use std::process::ExitCode;

use portcullis::plugin::{COMPILE_SUBCOMMAND, serve_compiler};

fn main() -> ExitCode {
    // Not for people, so it is in no help: the sandbox starts this program to compile in a process of its own.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == COMPILE_SUBCOMMAND) {
        return match serve_compiler(std::env::args_os().skip(2)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(complaint) => {
                eprintln!("{complaint}");
                ExitCode::FAILURE
            }
        };
    }
    portcullis::cli::main()
}
