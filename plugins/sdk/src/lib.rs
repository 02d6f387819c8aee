//! Write a validator or an enricher for Portcullis.
//!
//! ```
//! use portcullis_plugin::{validator, Message, Verdict};
//!
//! #[validator]
//! fn not_empty(message: &Message) -> Verdict {
//!     match message.value() {
//!         Some(value) if !value.is_empty() => Verdict::pass(),
//!         _ => Verdict::reject("empty", "the value is null or has no bytes"),
//!     }
//! }
//!
//! assert_eq!(not_empty(&Message::of("x")), Verdict::pass());
//! ```
//!
//! The same crate is a component for the bridge (`cargo build --release --target wasm32-unknown-unknown`) and a plain
//! library on the host (`cargo test`), where [`Message`] lives in memory.
//!
//! On `wasm32-unknown-unknown` the standard library has no clock, no random numbers and no output: `Instant::now` traps
//! and `println!` writes to nowhere. Use [`clock`], [`random`] and [`log`]; each one that is called becomes an import of the
//! component, which the operator then has to grant. The features `http` and `net` add the modules of these names in the same way.
//! What a plugin asks for, and why, it says with [`manifest!`].

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod bindings;
pub mod clock;
mod config;
#[cfg(any(feature = "http", feature = "net"))]
mod error;
#[cfg(feature = "http")]
pub mod http;
pub mod log;
mod message;
#[cfg(feature = "net")]
pub mod net;
mod plugin;
pub mod random;
mod verdict;

pub use config::parse_config;
pub use message::{Header, Message};
pub use plugin::{Enricher, Validator};
pub use portcullis_plugin_macros::{enricher, manifest, validator};
pub use verdict::{Reason, Verdict};

/// For the macros of this crate only.
#[doc(hidden)]
pub mod __private {
    pub use crate::config::{no_config, parse_config};
    #[cfg(target_arch = "wasm32")]
    pub use crate::plugin::Slot;
}
