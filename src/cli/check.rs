//! `portcullis check`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::{DONE, Format, NodeArguments, report, run};
use crate::pipeline::Stage;
use crate::plan::{FileVerdict, Line, PipelinePlan, Plan, Table};

#[derive(Args, Clone, Debug)]
pub(super) struct CheckArguments {
    /// Pipeline files, or folders of them.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    node: NodeArguments,
}

pub(super) fn check(arguments: &CheckArguments) -> u8 {
    let mut node = arguments.node.clone();
    // The warnings are in what is printed.
    node.log.get_or_insert_with(|| "error".to_owned());
    match run::planned(&arguments.files, &node, run::Beside::default()) {
        Ok(plan) => {
            match arguments.format {
                Format::Text => print!("{}", text_of(&plan)),
                Format::Json => println!("{}", json_of(&plan)),
            }
            DONE
        }
        Err(refusal) => {
            let code = report::refused(&refusal, arguments.format);
            if arguments.format == Format::Text && refusal.files.len() > 1 {
                refusal.files.iter().for_each(|file| println!("{}", verdict(file)));
            }
            code
        }
    }
}

/// One line for each file among several, since the errors of one are no word about another.
fn verdict(file: &FileVerdict) -> String {
    let word = match (file.is_good, file.errors) {
        (true, _) => "ok".to_owned(),
        (false, 0) => "refused".to_owned(),
        (false, 1) => "1 error".to_owned(),
        (false, count) => format!("{count} errors"),
    };
    format!("{}: {word}", file.file)
}

fn text_of(plan: &Plan) -> String {
    let mut text = String::new();
    for pipeline in &plan.pipelines {
        let (name, file) = (&pipeline.config.name.value, pipeline.config.file.display());
        let plugins = match pipeline.stages.len() {
            1 => "1 plugin".to_owned(),
            count => format!("{count} plugins"),
        };
        text.push_str(&format!("{file}: ok: pipeline {name}, {}, {plugins}\n", pipeline.promise.guarantee));
        for warning in &pipeline.warnings {
            text.push_str(&format!("  warning: {}: {}\n", warning.at, warning.message));
        }
        for table in tables(plan, pipeline) {
            plugin_text(table, &mut text);
        }
    }
    text
}

fn tables<'p>(plan: &'p Plan, pipeline: &'p PipelinePlan) -> impl Iterator<Item = &'p Table> {
    plan.tables.iter().filter(|table| table.pipeline == pipeline.config.name.value)
}

/// A line for people; every function is in `portcullis inspect`, `link` and `plan`.
fn plugin_text(table: &Table, text: &mut String) {
    /// What tells two components apart that one person has.
    const DIGEST_CHARS: usize = "sha256:".len() + 12;
    let digest = table.digest.as_deref().unwrap_or_default();
    let digest = digest.get(..DIGEST_CHARS).unwrap_or(digest);
    let world = table.examined.as_ref().map_or("", |examined| examined.world.as_str());
    let imports = match imports(table) {
        imports if imports.is_empty() => "nothing".to_owned(),
        imports => imports.join(" "),
    };
    let grants = match grants(table) {
        grants if grants.is_empty() => "none".to_owned(),
        grants => grants.iter().map(|(key, text)| format!("{key} {text}")).collect::<Vec<_>>().join(", "),
    };
    text.push_str(&format!("  {} {digest} {world}; imports {imports}; grants {grants}\n", table.plugin));
    for warning in &table.warnings {
        text.push_str(&format!("    warning: {warning}\n"));
    }
}

/// The interfaces that lead anywhere. A toolchain brings a dozen more, and they all lead nowhere.
fn imports(table: &Table) -> Vec<&str> {
    let leads = |line: &&Line| line.capability.is_some() || line.is_message();
    table.lines.iter().filter(leads).filter_map(|line| line.import.as_deref()).collect()
}

fn grants(table: &Table) -> Vec<(&'static str, &str)> {
    let mut grants: Vec<(&'static str, &str)> = table
        .lines
        .iter()
        .filter_map(|line| Some((line.capability?.as_str(), line.granted.as_ref()?.text.as_str())))
        .collect();
    grants.sort_unstable();
    grants.dedup();
    grants
}

fn json_of(plan: &Plan) -> serde_json::Value {
    let plugin = |(stage, table): (&Arc<Stage>, &Table)| {
        let plugin = &stage.plugin;
        let grants: serde_json::Map<_, _> =
            grants(table).into_iter().map(|(key, text)| (key.to_owned(), text.into())).collect();
        json!({
            "name": plugin.name(), "digest": plugin.digest(), "world": plugin.world(), "imports": plugin.imports(),
            "grants": grants, "warnings": table.warnings,
        })
    };
    let pipelines = plan.pipelines.iter().map(|pipeline| {
        let plugins: Vec<_> = pipeline.stages.iter().zip(tables(plan, pipeline)).map(plugin).collect();
        let warnings: Vec<_> = pipeline.warnings.iter().map(portcullis_config::Diagnostic::to_json).collect();
        json!({
            "file": pipeline.config.file.display().to_string(), "pipeline": pipeline.config.name.value,
            "guarantee": pipeline.promise.guarantee.to_string(), "plugins": plugins, "warnings": warnings,
        })
    });
    json!({ "ok": true, "pipelines": pipelines.collect::<Vec<_>>() })
}
