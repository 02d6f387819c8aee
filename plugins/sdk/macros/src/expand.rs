//! Checks the signature where the compiler's own message would point into generated code, and writes the plugin type.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{Error, FnArg, ItemFn, ReturnType, Type};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Validator,
    Enricher,
}

/// The function, followed by the plugin or by what is wrong with the signature. The function itself is always kept, so that a
/// wrong signature does not also make every call of it an error.
pub(crate) fn expand(role: Role, attribute: TokenStream, item: TokenStream) -> TokenStream {
    let function: ItemFn = match syn::parse2(item.clone()) {
        Ok(function) => function,
        Err(_) => {
            let text = format!("#[{}] belongs on a function: {}", role.attribute(), role.shape());
            let error = Error::new(item.span(), text).into_compile_error();
            return quote!(#item #error);
        }
    };
    let plugin = check(role, &attribute, &function)
        .map_or_else(Error::into_compile_error, |config| plugin(role, &function, config));
    quote!(#function #plugin)
}

impl Role {
    fn attribute(self) -> &'static str {
        match self {
            Self::Validator => "validator",
            Self::Enricher => "enricher",
        }
    }

    fn shape(self) -> &'static str {
        match self {
            Self::Validator => {
                "`fn name(message: &Message) -> Verdict` or `fn name(message: &Message, config: &Config) -> Verdict`"
            }
            Self::Enricher => {
                "`fn name(message: &mut Message) -> Verdict` or `fn name(message: &mut Message, config: &Config) -> Verdict`"
            }
        }
    }
}

/// The configuration's type where there is one.
fn check<'a>(role: Role, attribute: &TokenStream, function: &'a ItemFn) -> Result<Option<&'a Type>, Error> {
    let wrong = |span: proc_macro2::Span, what: &str| {
        Err(Error::new(span, format!("{what}; #[{}] takes {}", role.attribute(), role.shape())))
    };
    let signature = &function.sig;
    if !attribute.is_empty() {
        return wrong(attribute.span(), "the attribute takes no arguments");
    }
    if let Some(keyword) = &signature.asyncness {
        return wrong(keyword.span(), "a plugin's function is not async");
    }
    if let Some(keyword) = &signature.unsafety {
        return wrong(keyword.span(), "a plugin's function is not unsafe");
    }
    if !signature.generics.params.is_empty() {
        return wrong(signature.generics.span(), "a plugin's function has no generic parameters");
    }
    if matches!(signature.output, ReturnType::Default) {
        return wrong(signature.span(), "a verdict is missing");
    }
    let mut arguments = signature.inputs.iter();
    let Some(message) = arguments.next() else {
        return wrong(signature.span(), "the message is missing");
    };
    match borrowed(message) {
        Some((_, mutable)) if mutable == (role == Role::Enricher) => {}
        Some((_, true)) => {
            return wrong(message.span(), "a validator cannot change the message, use #[enricher] for that");
        }
        Some((_, false)) => return wrong(message.span(), "an enricher takes the message as `&mut Message`"),
        None => return wrong(message.span(), "the message is borrowed from the host"),
    }
    let config = match arguments.next() {
        None => None,
        Some(argument) => match borrowed(argument) {
            Some((config, false)) => Some(config),
            _ => return wrong(argument.span(), "the configuration is a shared reference"),
        },
    };
    match arguments.next() {
        Some(argument) => wrong(argument.span(), "too many arguments"),
        None => Ok(config),
    }
}

fn borrowed(argument: &FnArg) -> Option<(&Type, bool)> {
    match argument {
        FnArg::Typed(typed) => match &*typed.ty {
            Type::Reference(reference) => Some((&reference.elem, reference.mutability.is_some())),
            _ => None,
        },
        _ => None,
    }
}

fn plugin(role: Role, function: &ItemFn, config: Option<&Type>) -> TokenStream {
    let name = &function.sig.ident;
    let sdk = quote!(::portcullis_plugin);
    let (interface, method, message, export) = match role {
        Role::Validator => ("Validator", "validate", quote!(&#sdk::Message), "export_validator"),
        Role::Enricher => ("Enricher", "enrich", quote!(&mut #sdk::Message), "export_enricher"),
    };
    let (interface, method, export) =
        (format_ident!("{interface}"), format_ident!("{method}"), format_ident!("{export}"));
    let (state, more, configure, call) = match config {
        Some(config) => (
            quote!(#config),
            quote!(, &#config),
            quote!(#sdk::__private::parse_config(json)),
            quote!(#name(message, &self.0)),
        ),
        None => (quote!(()), quote!(), quote!(#sdk::__private::no_config(json)), quote!(#name(message))),
    };
    // The first item is there for its error message: a wrong type is reported at the author's function, in terms of its signature.
    quote_spanned! { name.span() =>
        const _: fn(#message #more) -> #sdk::Verdict = #name;

        const _: () = {
            struct Plugin(#state);

            impl #sdk::#interface for Plugin {
                fn configure(json: &str) -> ::core::result::Result<Self, ::std::string::String> {
                    #configure.map(Self)
                }

                fn #method(&mut self, message: #message) -> #sdk::Verdict {
                    #call
                }
            }

            #sdk::#export!(Plugin);
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(role: Role, function: &str) -> String {
        expand(role, TokenStream::new(), function.parse().unwrap()).to_string()
    }

    #[test]
    fn a_right_signature_becomes_a_plugin_and_keeps_the_function() {
        let text = expanded(Role::Validator, "fn check(message: &Message) -> Verdict { Verdict::pass() }");
        assert!(text.starts_with("fn check (message : & Message)"), "{text}");
        assert!(text.contains("export_validator ! (Plugin)") && text.contains("no_config"), "{text}");
        let text =
            expanded(Role::Enricher, "fn edit(m: &mut Message, config: &my::Config) -> Verdict { Verdict::pass() }");
        assert!(text.contains("struct Plugin (my :: Config)") && text.contains("export_enricher ! (Plugin)"), "{text}");
        assert!(!text.contains("compile_error"), "{text}");
    }

    #[test]
    fn a_wrong_signature_is_answered_with_what_is_wrong_and_with_the_right_one() {
        let cases = [
            (Role::Validator, "fn f(m: &mut Message) -> Verdict {}", "a validator cannot change the message"),
            (Role::Validator, "fn f(m: Message) -> Verdict {}", "the message is borrowed from the host"),
            (Role::Validator, "fn f() -> Verdict {}", "the message is missing"),
            (Role::Validator, "fn f(m: &Message) {}", "a verdict is missing"),
            (Role::Validator, "async fn f(m: &Message) -> Verdict {}", "not async"),
            (Role::Validator, "unsafe fn f(m: &Message) -> Verdict {}", "not unsafe"),
            (Role::Validator, "fn f<T>(m: &Message) -> Verdict {}", "no generic parameters"),
            (Role::Validator, "fn f(m: &Message, c: Config) -> Verdict {}", "the configuration is a shared reference"),
            (Role::Validator, "fn f(m: &Message, c: &Config, d: &str) -> Verdict {}", "too many arguments"),
            (Role::Validator, "fn f(&self) -> Verdict {}", "the message is borrowed from the host"),
            (Role::Enricher, "fn f(m: &Message) -> Verdict {}", "takes the message as `&mut Message`"),
            (Role::Enricher, "struct S;", "#[enricher] belongs on a function"),
        ];
        for (role, function, what) in cases {
            let text = expanded(role, function);
            assert!(text.contains(what) && text.contains("fn name(message: &"), "{function}: {text}");
            assert!(!text.contains("struct Plugin"), "{function}: {text}");
        }
        let text = expand(
            Role::Validator,
            quote!(strict),
            quote!(
                fn f(m: &Message) -> Verdict {}
            ),
        )
        .to_string();
        assert!(text.contains("takes no arguments"), "{text}");
    }
}
