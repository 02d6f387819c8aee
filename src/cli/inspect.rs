//! `portcullis inspect`: what a component could do, before anybody grants it anything.

use std::path::PathBuf;

use clap::Args;
use portcullis_config::{Code, Location};
use serde_json::{Value, json};

use super::{DONE, Format, report, table};
use crate::plan::needed;
use crate::plugin::{ComponentFile, Examined, Part, Sandbox, SandboxOptions, Takes, Wish};

#[derive(Args, Clone, Debug)]
pub(super) struct InspectArguments {
    /// The component file.
    #[arg(value_name = "COMPONENT")]
    component: PathBuf,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn inspect(arguments: &InspectArguments) -> u8 {
    let refused = |code: &'static str, message: String| {
        let diagnostic = Location::of_file(&arguments.component).diagnostic(Code::Other(code), message);
        report::refused(&portcullis_config::Diagnostics::from(diagnostic).into(), arguments.format)
    };
    let sandbox = match Sandbox::new(SandboxOptions::default()) {
        Ok(sandbox) => sandbox,
        Err(error) => return refused("sandbox.unavailable", error.to_string()),
    };
    let examined = ComponentFile::read(&arguments.component).and_then(|file| sandbox.examine(&file));
    match examined {
        Ok(examined) => {
            match arguments.format {
                Format::Text => print!("{}", text_of(arguments, &examined)),
                Format::Json => println!("{}", json_of(arguments, &examined)),
            }
            DONE
        }
        Err(error) => refused(crate::plan::evidence::refused(&error).as_str(), error.to_string()),
    }
}

/// What a component needs to be granted so that it can be linked, and why.
struct Need<'a> {
    wish: Wish,
    imported: bool,
    /// The manifest's reason; none where it does not ask.
    reason: Option<&'a str>,
    optional: bool,
    destinations: &'a [String],
}

impl Need<'_> {
    /// Whether it is imported against the component's own word.
    fn is_outside(&self, examined: &Examined) -> bool {
        self.imported && self.reason.is_none() && examined.claimed.is_some()
    }
}

fn needs(examined: &Examined) -> Vec<Need<'_>> {
    let of = |wish: Wish| {
        let ask = examined.claimed.as_ref().and_then(|claimed| claimed.manifest.ask(wish));
        let imported = examined.imports.iter().any(|import| import.takes == Takes::Grant(wish));
        (imported || ask.is_some()).then(|| Need {
            wish,
            imported,
            reason: ask.map(|ask| ask.reason.as_str()),
            optional: ask.is_some_and(|ask| ask.optional),
            destinations: ask.map(|ask| ask.egress.as_slice()).unwrap_or_default(),
        })
    };
    Wish::ALL.into_iter().filter_map(of).collect()
}

/// The YAML of the grants without which it is not linked; none where it needs none.
fn grants(needs: &[Need<'_>], examined: &Examined) -> Option<String> {
    let line = |need: &Need<'_>| {
        let least = needed::least(need.wish, need.destinations, examined);
        let fill_in = needed::to_fill_in(&least).map(|what| format!("  # {what}\n")).unwrap_or_default();
        format!("{fill_in}  {least}\n")
    };
    let lines: Vec<String> = needs.iter().filter(|need| !need.optional).map(line).collect();
    (!lines.is_empty()).then(|| format!("grants:\n{}", lines.concat()))
}

fn text_of(arguments: &InspectArguments, examined: &Examined) -> String {
    let mut text = format!("{}\n", arguments.component.display());
    text.push_str(&format!("  digest    {}\n  world     {}\n", examined.digest, examined.world));
    let manifest = examined.claimed.as_ref().map_or_else(
        || "none: in production it is refused".to_owned(),
        |claimed| {
            let place = claimed.file.as_ref().map_or("in the component".to_owned(), |file| file.display().to_string());
            format!("{} {} ({place}), {}", claimed.manifest.name, claimed.manifest.version, claimed.digest)
        },
    );
    text.push_str(&format!("  manifest  {manifest}\n"));
    text.push_str("\nimports, by function\n");
    let mut rows = table::Rows::new(["IMPORT", "IS"]);
    for import in &examined.imports {
        rows.push([import.interface.clone(), meaning(import.takes)], &import.functions);
    }
    text.push_str(&rows.render("  "));
    let needs = needs(examined);
    if !needs.is_empty() {
        text.push_str("\ncapabilities\n");
        let mut rows = table::Rows::new(["NAME", "IMPORTED", "ASKED", "REASON"]);
        for need in &needs {
            let asked = match (need.reason, need.optional) {
                (None, _) => "no",
                (Some(_), true) => "optional",
                (Some(_), false) => "yes",
            };
            let imported = if need.imported { "yes" } else { "no" };
            let reason = need.reason.unwrap_or("-").to_owned();
            rows.push([need.wish.to_string(), imported.to_owned(), asked.to_owned(), reason], need.destinations);
        }
        text.push_str(&rows.render("  "));
    }
    text.push_str("\ninside\n");
    let mut rows = table::Rows::new(["PART", "BYTES", "IMPORTS"]);
    for part in &examined.parts {
        let indent = "  ".repeat(part.depth.saturating_sub(1));
        let kind = if part.is_module { "core module" } else { "component" };
        rows.push(
            [format!("{indent}{kind}"), part.bytes.to_string(), part.imports.len().to_string()],
            &foreign(part, examined),
        );
    }
    text.push_str(&rows.render("  "));
    let outside: Vec<&str> =
        needs.iter().filter(|need| need.is_outside(examined)).map(|need| need.wish.as_str()).collect();
    match grants(&needs, examined) {
        _ if !outside.is_empty() => text.push_str(&format!(
            "\nit is refused whatever is granted: it imports what its own manifest does not ask for ({})\n",
            outside.join(", ")
        )),
        Some(grants) => text.push_str(&format!("\nthe grants without which it is not linked\n{}", indented(&grants))),
        None => text.push_str("\nit needs no grant\n"),
    }
    if let Some(schema) = examined.claimed.as_ref().and_then(|claimed| claimed.manifest.config_schema.as_ref()) {
        let schema = serde_json::to_string_pretty(schema).unwrap_or_default();
        text.push_str(&format!("\nits configuration, as a JSON Schema\n{}", indented(&plain(&schema))));
    }
    text
}

/// What a nested component names that the root does not import: it cannot get it, and somebody may want to know why it tries.
fn foreign(part: &Part, examined: &Examined) -> Vec<String> {
    if part.is_module {
        return Vec::new();
    }
    let is_of_root = |name: &&String| examined.imports.iter().any(|import| import.interface == **name);
    part.imports.iter().filter(|name| name.contains('/') && !is_of_root(name)).cloned().collect()
}

fn meaning(takes: Takes) -> String {
    match takes {
        Takes::Nothing => "the message in work".to_owned(),
        Takes::Inert => "leads nowhere by itself: no environment, no files".to_owned(),
        Takes::Grant(wish) => format!("needs the grant `{wish}`"),
        Takes::NotAvailable(reason) => format!("refused: {reason}"),
        Takes::Unknown => "refused: this host does not know it".to_owned(),
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

/// Its author chose this text, and a terminal obeys what it gets.
fn plain(text: &str) -> String {
    text.lines().map(|line| crate::plugin::tame(line, line.len() * 8)).collect::<Vec<_>>().join("\n")
}

fn json_of(arguments: &InspectArguments, examined: &Examined) -> Value {
    let needs = needs(examined);
    let imports = examined.imports.iter().map(|import| {
        let (kind, wish) = match import.takes {
            Takes::Nothing => ("message", None),
            Takes::Inert => ("inert", None),
            Takes::Grant(wish) => ("grant", Some(wish.as_str())),
            Takes::NotAvailable(_) => ("not_available", None),
            Takes::Unknown => ("unknown", None),
        };
        json!({ "interface": import.interface, "functions": import.functions, "takes": kind, "capability": wish })
    });
    let capabilities = needs.iter().map(|need| {
        json!({
            "name": need.wish.as_str(), "imported": need.imported, "asked": need.reason.is_some(), "optional": need.optional,
            "reason": need.reason, "egress": need.destinations,
        })
    });
    let manifest = examined.claimed.as_ref().map(|claimed| {
        json!({
            "name": claimed.manifest.name, "version": claimed.manifest.version, "world": claimed.manifest.world.as_str(),
            "digest": claimed.digest, "file": claimed.file.as_ref().map(|file| file.display().to_string()),
            "config_schema": claimed.manifest.config_schema,
        })
    });
    let parts = examined.parts.iter().map(|part| {
        let kind = if part.is_module { "module" } else { "component" };
        json!({ "kind": kind, "depth": part.depth, "bytes": part.bytes, "imports": part.imports })
    });
    json!({
        "component": arguments.component.display().to_string(), "digest": examined.digest, "world": examined.world,
        "manifest": manifest, "imports": imports.collect::<Vec<_>>(), "exports": examined.exports,
        "capabilities": capabilities.collect::<Vec<_>>(), "parts": parts.collect::<Vec<_>>(), "grants": grants(&needs, examined),
        "outside_manifest": needs.iter().filter(|need| need.is_outside(examined)).map(|need| need.wish.as_str()).collect::<Vec<_>>(),
    })
}
