//! `manifest!`: what the component says of itself, as a custom section.

use proc_macro2::{Literal, TokenStream};
use quote::quote;
use serde_json::{Map, Value, json};
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Error, Ident, LitStr, Token, bracketed};

const CAPABILITIES: [&str; 4] = ["log", "clock", "random", "egress"];

/// The section in a component, nothing on the host; or what is wrong with the text.
pub(crate) fn expand(input: TokenStream, name: &str, version: &str) -> TokenStream {
    let manifest = match syn::parse2::<Manifest>(input) {
        Ok(manifest) => manifest,
        Err(error) => return error.into_compile_error(),
    };
    let text = manifest.json(name, version).to_string();
    let length = text.len();
    let bytes = Literal::byte_string(text.as_bytes());
    quote! {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            #[used]
            #[allow(unsafe_code)]
            #[unsafe(link_section = "portcullis:manifest")]
            static MANIFEST: [u8; #length] = *#bytes;
        };
    }
}

struct Manifest {
    world: &'static str,
    asks: Vec<Ask>,
    config_schema: Option<Value>,
}

struct Ask {
    capability: String,
    reason: String,
    optional: bool,
    egress: Vec<String>,
}

impl Parse for Manifest {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        const SHAPE: &str =
            "a manifest begins with `validator` or `enricher`, then asks, as `clock: \"stamps each message\"`";
        let word: Ident = input.parse().map_err(|error| Error::new(error.span(), SHAPE))?;
        let world = match word.to_string().as_str() {
            "validator" => "validator",
            "enricher" => "enricher",
            _ => return Err(Error::new(word.span(), SHAPE)),
        };
        let mut manifest = Self { world, asks: Vec::new(), config_schema: None };
        while !input.is_empty() {
            input.parse::<Token![,]>()?;
            if input.is_empty() {
                break;
            }
            manifest.entry(input)?;
        }
        Ok(manifest)
    }
}

impl Manifest {
    fn entry(&mut self, input: ParseStream<'_>) -> syn::Result<()> {
        let mut word: Ident = input.parse()?;
        let optional = word == "optional" && input.peek(Ident);
        if optional {
            word = input.parse()?;
        }
        let key = word.to_string();
        input.parse::<Token![:]>()?;
        let text: LitStr = input.parse()?;
        if key == "config_schema" && !optional {
            let schema = serde_json::from_str::<Value>(&text.value())
                .map_err(|error| Error::new(text.span(), format!("the schema is not JSON: {error}")))?;
            if !schema.is_object() || self.config_schema.is_some() {
                return Err(Error::new(text.span(), "one JSON Schema, as an object"));
            }
            self.config_schema = Some(schema);
            return Ok(());
        }
        if !CAPABILITIES.contains(&key.as_str()) {
            let what = format!("`{key}` cannot be asked for; {} can", CAPABILITIES.join(", "));
            return Err(Error::new(word.span(), what));
        }
        if self.asks.iter().any(|ask| ask.capability == key) {
            return Err(Error::new(word.span(), format!("`{key}` is asked for twice")));
        }
        let reason = text.value().trim().to_owned();
        if reason.is_empty() || reason.len() > 512 {
            return Err(Error::new(text.span(), "a reason has 1 to 512 bytes: the operator decides by it"));
        }
        let mut egress = Vec::new();
        if input.peek(Token![=>]) {
            let arrow: Token![=>] = input.parse()?;
            if key != "egress" {
                return Err(Error::new_spanned(arrow, "only `egress` has destinations"));
            }
            let list;
            bracketed!(list in input);
            let list = Punctuated::<LitStr, Token![,]>::parse_terminated(&list)?;
            egress = list.iter().map(LitStr::value).collect();
        }
        self.asks.push(Ask { capability: key, reason, optional, egress });
        Ok(())
    }

    fn json(self, name: &str, version: &str) -> Value {
        let asks = self.asks.into_iter().map(|ask| {
            let mut written = Map::from_iter([
                ("name".to_owned(), Value::from(ask.capability)),
                ("reason".to_owned(), ask.reason.into()),
            ]);
            if ask.optional {
                written.insert("optional".to_owned(), true.into());
            }
            if !ask.egress.is_empty() {
                written.insert("egress".to_owned(), ask.egress.into());
            }
            Value::Object(written)
        });
        let mut manifest = json!({"manifest": 1, "name": name, "version": version, "world": self.world, "capabilities": asks.collect::<Value>()});
        if let (Some(schema), Value::Object(members)) = (self.config_schema, &mut manifest) {
            members.insert("config_schema".to_owned(), schema);
        }
        manifest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json_of(text: &str) -> Value {
        syn::parse_str::<Manifest>(text).unwrap().json("stamp", "0.1.0")
    }

    fn refused(text: &str) -> String {
        syn::parse_str::<Manifest>(text).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn a_manifest_has_the_name_and_version_of_the_crate_and_each_ask_with_its_reason() {
        let manifest = json_of(
            r#"enricher, clock: "stamps", optional random: "an \"id\"", egress: "prices" => ["https://api.example.com"], config_schema: "{\"type\": \"object\"}","#,
        );
        let expected = json!({
            "manifest": 1, "name": "stamp", "version": "0.1.0", "world": "enricher",
            "capabilities": [
                {"name": "clock", "reason": "stamps"},
                {"name": "random", "reason": "an \"id\"", "optional": true},
                {"name": "egress", "reason": "prices", "egress": ["https://api.example.com"]},
            ],
            "config_schema": {"type": "object"},
        });
        assert_eq!(manifest, expected);
        assert_eq!(json_of("validator")["capabilities"], json!([]));
    }

    #[test]
    fn a_wrong_manifest_says_what_is_wrong() {
        assert!(refused("").contains("begins with `validator` or `enricher`"));
        assert!(refused("filter").contains("begins with `validator` or `enricher`"));
        assert!(refused(r#"validator, disk: "x""#).contains("`disk` cannot be asked for"));
        assert!(refused(r#"validator, log: "x", log: "y""#).contains("twice"));
        assert!(refused(r#"validator, log: " ""#).contains("1 to 512 bytes"));
        assert!(refused(r#"validator, log: "x" => ["https://a.test"]"#).contains("only `egress`"));
        assert!(refused(r#"validator, config_schema: "{""#).contains("not JSON"));
        assert!(refused(r#"validator, config_schema: "3""#).contains("as an object"));
    }

    #[test]
    fn it_becomes_a_section_of_the_component() {
        let text = expand(quote!(validator), "size", "1.2.3").to_string();
        assert!(text.contains(r#"link_section = "portcullis:manifest""#), "{text}");
        assert!(text.contains(r#"\"name\":\"size\""#), "{text}");
    }
}
