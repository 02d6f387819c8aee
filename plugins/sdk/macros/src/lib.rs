//! `#[validator]` and `#[enricher]`: a function becomes the plugin of its crate. `manifest!`: what the crate says of itself.

mod expand;
mod manifest;

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

/// What the component says of itself, for whoever decides what it may do. Once in a crate.
///
/// ```ignore
/// manifest! {
///     enricher,
///     clock: "remembers prices for a while",
///     optional log: "tells how many were looked up",
///     egress: "looks prices up" => ["https://rates.example.com"],
///     config_schema: r#"{"type": "object"}"#,
/// }
/// ```
///
/// First the world, then the capabilities asked for (`log`, `clock`, `random`, `egress`), each with a reason for the operator. The
/// destinations of `egress` are rules as in `grants:`, and are left out where the configuration decides them. A claim, never a grant;
/// but an import that the manifest does not ask for refuses the plugin. Name and version are those of the crate.
#[proc_macro]
pub fn manifest(input: TokenStream) -> TokenStream {
    let package = |key: &str| std::env::var(key).unwrap_or_default();
    manifest::expand(input.into(), &package("CARGO_PKG_NAME"), &package("CARGO_PKG_VERSION")).into()
}
