//! `portcullis grants suggest`: the least grants under which a recorded run would have gone the same way.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use portcullis_config::{Code, Diagnostic, Diagnostics, Location};
use portcullis_policy::{Reason, RuleHost};
use serde_json::{Value, json};

use super::words::some;
use super::{DONE, Format, report};
use crate::plan::suggest::{Collector, Suggested, Suggestion, Uses, Wanted};

/// The longest event, in bytes; the audit's own are far below.
const MAX_EVENT_BYTES: u64 = 4 << 20;

#[derive(Args, Clone, Debug)]
pub(super) struct GrantsArguments {
    #[command(subcommand)]
    command: GrantsCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum GrantsCommand {
    /// Prints for each plugin the least grants for what the audit says that it did.
    Suggest(SuggestArguments),
}

#[derive(Args, Clone, Debug)]
struct SuggestArguments {
    /// Audit events, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    audit: PathBuf,
    /// Only plugins of this pipeline.
    #[arg(long, value_name = "NAME")]
    pipeline: Option<String>,
    /// Only plugins of this name.
    #[arg(long, value_name = "NAME")]
    plugin: Option<String>,
    /// Grants what was refused for want of a rule too. Read every line of it before you use it.
    #[arg(long)]
    include_denied: bool,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Form,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Form {
    /// As it is typed under `plugins:`, with comments.
    #[default]
    Yaml,
    /// For programs.
    Json,
}

pub(super) fn grants(arguments: &GrantsArguments) -> u8 {
    let GrantsCommand::Suggest(arguments) = &arguments.command;
    let format = if arguments.format == Form::Json { Format::Json } else { Format::Text };
    match read(arguments) {
        Ok(suggestions) => {
            match arguments.format {
                Form::Yaml => print!("{}", yaml_of(&suggestions)),
                Form::Json => println!("{}", json_of(&suggestions)),
            }
            DONE
        }
        Err(diagnostic) => report::refused(&Diagnostics::from(diagnostic).into(), format),
    }
}

fn read(arguments: &SuggestArguments) -> Result<Vec<Suggestion>, Diagnostic> {
    let SuggestArguments { audit, pipeline, plugin, include_denied, .. } = arguments;
    let wanted = Wanted { pipeline: pipeline.clone(), plugin: plugin.clone(), denied: *include_denied };
    let mut collector = Collector::new(wanted);
    let wrong = |at: Location, message: String| at.diagnostic(Code::FileUnreadable, message);
    let whole = |error: std::io::Error| wrong(Location::of_file(audit), error.to_string());
    let mut reader = BufReader::new(File::open(audit).map_err(whole)?);
    let (mut line, mut number) = (Vec::new(), 0_u64);
    loop {
        line.clear();
        number += 1;
        let read = reader.by_ref().take(MAX_EVENT_BYTES).read_until(b'\n', &mut line).map_err(whole)?;
        if read == 0 {
            return Ok(collector.end());
        }
        let is_whole = line.ends_with(b"\n");
        match serde_json::from_slice::<Value>(&line) {
            Ok(event) => {
                if !collector.add(&event) {
                    let message = "there are too many different destinations before this line; narrow with --pipeline and --plugin";
                    return Err(wrong(at(audit, number), message.to_owned()));
                }
            }
            // Somebody is still writing it.
            Err(_) if !is_whole && (read as u64) < MAX_EVENT_BYTES => return Ok(collector.end()),
            Err(_) if line.trim_ascii().is_empty() => {}
            Err(_) => return Err(wrong(at(audit, number), "not an audit event: a line is one JSON object".to_owned())),
        }
    }
}

fn at(path: &Path, line: u64) -> Location {
    Location::of(&format!("{}:{line}", path.display()))
}

/// A list of plugins in YAML. Text of the events is quoted, so that it can be nothing but text.
fn yaml_of(suggestions: &[Suggestion]) -> String {
    let head = "# The least grants for what the audit saw. It does not see `ca`, `client_cert`, `secrets`, `ttl` and `sni_pin` of your rules:\n# carry them over. A path that ends in `/` allows all paths below it.\n";
    if suggestions.is_empty() {
        return format!("{head}# There is no event of a plugin.\n[]\n");
    }
    let mut text = head.to_owned();
    for suggestion in suggestions {
        text.push_str(&format!("- pipeline: {}\n", json!(suggestion.pipeline)));
        if let Some(tenant) = &suggestion.tenant {
            text.push_str(&format!("  tenant: {}\n", json!(tenant)));
        }
        text.push_str(&format!("  name: {}\n", json!(suggestion.plugin)));
        for (what, times) in &suggestion.left_out {
            text.push_str(&format!("  # not granted: {times} of {what}\n"));
        }
        text.push_str(&grants_yaml(suggestion));
    }
    text
}

fn grants_yaml(suggestion: &Suggestion) -> String {
    let mut lines = Vec::new();
    let mut unused = Vec::new();
    if let Some(rules) = &suggestion.egress {
        match rules.is_empty() {
            true => lines.push("    egress: []  # linked; every request is refused".to_owned()),
            false => lines.push("    egress:".to_owned()),
        }
        lines.extend(rules.iter().flat_map(|rule| [format!("      # {}", about(rule)), item(rule)]));
    }
    for (key, (value, calls)) in &suggestion.capabilities {
        match calls {
            0 => unused.push(format!(
                "    # {key}: {value}  # granted and not used; a component that needs it is not linked without it"
            )),
            calls => lines.push(format!("    {key}: {value}  # {}", some(*calls, "call"))),
        }
    }
    let head = if lines.is_empty() { "  grants: {}" } else { "  grants:" };
    let all: Vec<String> = [head.to_owned()].into_iter().chain(lines).chain(unused).collect();
    format!("{}\n", all.join("\n"))
}

fn item(suggested: &Suggested) -> String {
    let mut text = format!("      - {}", suggested.rule.yaml());
    if !suggested.consent.is_empty() {
        let nets: Vec<String> = suggested.consent.iter().map(ToString::to_string).collect();
        text.push_str(&format!("  # and of the operator: egress.consent: {nets:?}"));
    }
    text
}

fn about(suggested: &Suggested) -> String {
    let Uses { allowed, observed, denied, reasons } = &suggested.uses;
    let mut parts = Vec::new();
    for (count, what) in [(allowed, "allowed"), (observed, "let through by observe mode"), (denied, "denied")] {
        if *count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    let mut text = parts.join(", ");
    if !reasons.is_empty() {
        let words: Vec<&str> = reasons.iter().copied().map(Reason::as_str).collect();
        text.push_str(&format!(" ({})", words.join(", ")));
    }
    if suggested.lookup_only {
        text.push_str("; looked up and not connected to: any rule of the name will do");
    }
    text
}

fn json_of(suggestions: &[Suggestion]) -> Value {
    let one = |suggestion: &Suggestion| {
        let mut grants = serde_json::Map::new();
        if let Some(rules) = &suggestion.egress {
            grants.insert("egress".to_owned(), rules.iter().map(rule_json).collect());
        }
        let used = suggestion.capabilities.iter().filter(|(_, (_, calls))| *calls > 0);
        grants.extend(used.clone().map(|(key, (value, _))| match *key {
            "random" => ((*key).to_owned(), json!(true)),
            key => (key.to_owned(), json!(value)),
        }));
        let calls: serde_json::Map<String, Value> =
            used.map(|(key, (_, calls))| ((*key).to_owned(), json!(calls))).collect();
        let evidence: Vec<Value> = suggestion.egress.iter().flatten().map(evidence_json).collect();
        let unused: Vec<&str> =
            suggestion.capabilities.iter().filter(|(_, (_, calls))| *calls == 0).map(|(key, _)| *key).collect();
        json!({
            "pipeline": suggestion.pipeline, "tenant": suggestion.tenant, "plugin": suggestion.plugin, "grants": grants,
            "egress_evidence": evidence, "calls": calls, "unused": unused, "not_granted": suggestion.left_out,
        })
    };
    suggestions.iter().map(one).collect()
}

fn rule_json(suggested: &Suggested) -> Value {
    let rule = &suggested.rule;
    let mut item = serde_json::Map::new();
    item.insert("allow".to_owned(), json!(rule.to_string()));
    for (key, list) in [("methods", rule.methods()), ("paths", rule.paths())] {
        if !list.is_empty() {
            item.insert(key.to_owned(), json!(list));
        }
    }
    if !rule.addresses().is_empty() {
        item.insert("addresses".to_owned(), rule.addresses().iter().map(|net| json!(net.to_string())).collect());
    }
    if rule.dns_port() {
        item.insert("dns_port".to_owned(), json!(true));
    }
    Value::Object(item)
}

/// What speaks for the rule of the same index.
fn evidence_json(suggested: &Suggested) -> Value {
    let Uses { allowed, observed, denied, reasons } = &suggested.uses;
    let reasons: Vec<&str> = reasons.iter().copied().map(Reason::as_str).collect();
    let consent: Vec<String> = suggested.consent.iter().map(ToString::to_string).collect();
    json!({
        "allowed": allowed, "observed": observed, "denied": denied, "reasons": reasons, "consent": consent,
        "is_name": matches!(suggested.rule.host(), RuleHost::Name(_)), "lookup_only": suggested.lookup_only,
    })
}
