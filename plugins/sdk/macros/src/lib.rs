//! `#[validator]` and `#[enricher]`: a function becomes the plugin of its crate.

mod expand;

use expand::Role;
use proc_macro::TokenStream;

/// Makes a function the component's validator. Once in a crate.
///
/// The function is `fn name(message: &Message) -> Verdict`, or with configuration
/// `fn name(message: &Message, config: &Config) -> Verdict`, where `Config` implements `serde::Deserialize`. A key of the
/// configuration that `Config` does not take refuses the plugin; so does any configuration where the function takes none.
#[proc_macro_attribute]
pub fn validator(attribute: TokenStream, item: TokenStream) -> TokenStream {
    expand::expand(Role::Validator, attribute.into(), item.into()).into()
}

/// Makes a function the component's enricher. Once in a crate.
///
/// The function is `fn name(message: &mut Message) -> Verdict`, or with configuration
/// `fn name(message: &mut Message, config: &Config) -> Verdict`, as for `#[validator]`.
#[proc_macro_attribute]
pub fn enricher(attribute: TokenStream, item: TokenStream) -> TokenStream {
    expand::expand(Role::Enricher, attribute.into(), item.into()).into()
}
