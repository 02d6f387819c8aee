//! Plugins that keep state between messages; the attributes `#[validator]` and `#[enricher]` are short for these.

use crate::{Message, Verdict};

/// A validator with state of its own. Export it with [`export_validator!`](crate::export_validator).
///
/// The host runs several instances of a plugin and may replace one at any time: state is a cache or a window, never a truth.
pub trait Validator: Sized + 'static {
    /// Called once for each instance, before its first message, with the `config:` of the pipeline as JSON text.
    ///
    /// # Errors
    /// The text is shown to the operator and the plugin is refused.
    fn configure(json: &str) -> Result<Self, String>;

    /// Called once for each message.
    fn validate(&mut self, message: &Message) -> Verdict;
}

/// An enricher with state of its own. Export it with [`export_enricher!`](crate::export_enricher).
pub trait Enricher: Sized + 'static {
    /// As [`Validator::configure`].
    ///
    /// # Errors
    /// The text is shown to the operator and the plugin is refused.
    fn configure(json: &str) -> Result<Self, String>;

    /// Called once for each message. Edits are kept when the verdict is a pass and forgotten otherwise.
    fn enrich(&mut self, message: &mut Message) -> Verdict;
}

/// Makes a type that implements [`Validator`] the component's validator. Once in a crate.
///
/// Does nothing but check the type where the target is not WebAssembly.
#[macro_export]
macro_rules! export_validator {
    ($plugin:ty) => {
        const _: fn(&str) -> ::core::result::Result<$plugin, ::std::string::String> =
            <$plugin as $crate::Validator>::configure;

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            ::std::thread_local!(static SLOT: $crate::__private::Slot<$plugin> = const { $crate::__private::Slot::empty() });

            struct Component;

            impl $crate::bindings::validator::exports::portcullis::plugin::validation::Guest for Component {
                fn configure(json: ::std::string::String) -> ::core::result::Result<(), ::std::string::String> {
                    SLOT.with(|slot| slot.fill(<$plugin as $crate::Validator>::configure(&json)))
                }

                fn validate(
                    message: &$crate::bindings::host::portcullis::plugin::messages::Message,
                    value: ::core::option::Option<::std::vec::Vec<u8>>,
                ) -> $crate::bindings::host::portcullis::plugin::messages::Verdict {
                    SLOT.with(|slot| {
                        slot.decide(message, value, |plugin, message| $crate::Validator::validate(plugin, message))
                    })
                }
            }

            $crate::bindings::validator::export!(Component with_types_in $crate::bindings::validator);
        };
    };
}

/// Makes a type that implements [`Enricher`] the component's enricher. Once in a crate.
///
/// Does nothing but check the type where the target is not WebAssembly.
#[macro_export]
macro_rules! export_enricher {
    ($plugin:ty) => {
        const _: fn(&str) -> ::core::result::Result<$plugin, ::std::string::String> =
            <$plugin as $crate::Enricher>::configure;

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            ::std::thread_local!(static SLOT: $crate::__private::Slot<$plugin> = const { $crate::__private::Slot::empty() });

            struct Component;

            impl $crate::bindings::enricher::exports::portcullis::plugin::enrichment::Guest for Component {
                fn configure(json: ::std::string::String) -> ::core::result::Result<(), ::std::string::String> {
                    SLOT.with(|slot| slot.fill(<$plugin as $crate::Enricher>::configure(&json)))
                }

                fn enrich(
                    message: &$crate::bindings::host::portcullis::plugin::messages::Message,
                    value: ::core::option::Option<::std::vec::Vec<u8>>,
                ) -> $crate::bindings::host::portcullis::plugin::messages::Verdict {
                    SLOT.with(|slot| {
                        slot.decide(message, value, |plugin, message| $crate::Enricher::enrich(plugin, message))
                    })
                }
            }

            $crate::bindings::enricher::export!(Component with_types_in $crate::bindings::enricher);
        };
    };
}

#[cfg(target_arch = "wasm32")]
pub use guest::Slot;

#[cfg(target_arch = "wasm32")]
mod guest {
    use std::cell::RefCell;

    use crate::bindings::host::portcullis::plugin::messages;
    use crate::{Message, Verdict};

    /// Holds the plugin from `configure` until the instance ends.
    pub struct Slot<T>(RefCell<Option<T>>);

    impl<T> Slot<T> {
        /// Before `configure`.
        #[must_use]
        pub const fn empty() -> Self {
            Self(RefCell::new(None))
        }

        /// Keeps what `configure` made, or hands its error to the host.
        pub fn fill(&self, plugin: Result<T, String>) -> Result<(), String> {
            self.0.replace(Some(plugin?));
            Ok(())
        }

        /// Runs the plugin on one message and tells the host the reason of a verdict other than pass.
        pub fn decide(
            &self,
            handle: &messages::Message,
            value: Option<Vec<u8>>,
            decide: impl FnOnce(&mut T, &mut Message) -> Verdict,
        ) -> messages::Verdict {
            let mut message = Message::lent(handle, value);
            // A host that calls before `configure`, or again from within a call, breaks the contract: no verdict is right.
            let Ok(mut slot) = self.0.try_borrow_mut() else { std::process::abort() };
            let Some(plugin) = slot.as_mut() else { std::process::abort() };
            let (verdict, reason) = match decide(plugin, &mut message) {
                Verdict::Pass => return messages::Verdict::Pass,
                Verdict::Drop(reason) => (messages::Verdict::Drop, reason),
                Verdict::Reject(reason) => (messages::Verdict::Reject, reason),
                Verdict::Retry(reason) => (messages::Verdict::Retry, reason),
            };
            handle.reason(&reason.code, &reason.detail);
            verdict
        }
    }
}
