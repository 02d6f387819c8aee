//! How a refusal is shown.

use std::io::IsTerminal;

use portcullis_config::{Diagnostic, Diagnostics};

use super::{Format, REFUSED};
use crate::plan::Refusal;

/// Shows all that is wrong and gives the exit code.
pub(super) fn refused(refusal: &Refusal, format: Format) -> u8 {
    show(&refusal.diagnostics, format);
    REFUSED
}

/// The same for a single thing.
pub(super) fn refused_by(diagnostic: Diagnostic) -> u8 {
    let mut diagnostics = Diagnostics::new();
    diagnostics.push(diagnostic);
    show(&diagnostics, Format::Text);
    REFUSED
}

fn show(diagnostics: &Diagnostics, format: Format) {
    match format {
        Format::Text => {
            eprint!("{}", diagnostics.render(std::io::stderr().is_terminal()));
            let count = diagnostics.len();
            let errors = if count == 1 { "error" } else { "errors" };
            eprintln!("portcullis: {count} {errors}, nothing was started");
        }
        Format::Json => println!("{}", diagnostics.to_json()),
    }
}
