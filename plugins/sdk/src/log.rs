//! Lines for the operator's log, by the import `portcullis:plugin/log`. Needs the grant `log`.
//!
//! The host escapes control characters, drops lines below the granted level and cuts what exceeds the plugin's `log` limit for
//! a message. Under `cargo test` the lines go to stderr.

use std::fmt::Display;

/// A detail for whoever looks for a fault.
pub fn debug(text: impl Display) {
    host::write(host::Level::Debug, &text.to_string());
}

/// Something worth knowing.
pub fn info(text: impl Display) {
    host::write(host::Level::Info, &text.to_string());
}

/// Something that should not be, and that the plugin can live with.
pub fn warn(text: impl Display) {
    host::write(host::Level::Warn, &text.to_string());
}

/// Something that keeps the plugin from its work.
pub fn error(text: impl Display) {
    host::write(host::Level::Error, &text.to_string());
}

#[cfg(target_arch = "wasm32")]
mod host {
    pub(super) use crate::bindings::host::portcullis::plugin::log::{Level, write};
}

#[cfg(not(target_arch = "wasm32"))]
mod host {
    #[derive(Debug)]
    pub(super) enum Level {
        Debug,
        Info,
        Warn,
        Error,
    }

    pub(super) fn write(level: Level, text: &str) {
        eprintln!("{level:?}: {text}");
    }
}
