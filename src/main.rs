//! The command `portcullis`. Everything is in the library; here is only the exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    portcullis::cli::main()
}
