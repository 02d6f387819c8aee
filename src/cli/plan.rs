//! `portcullis plan`: what would run, before anything does.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{DONE, FAILED, Format, NodeArguments, report, run};
use crate::plan::description::{BudgetDescription, Description, End, PipelineDescription, PluginDescription};

mod mermaid;

#[derive(Args, Clone, Debug)]
pub(super) struct PlanArguments {
    /// Pipeline files, or folders of them.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t)]
    format: PlanFormat,
    #[command(flatten)]
    node: NodeArguments,
}

/// How a plan is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum PlanFormat {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
    /// A Mermaid flowchart, for documents.
    Mermaid,
}

pub(super) fn plan(arguments: &PlanArguments) -> u8 {
    let mut node = arguments.node.clone();
    node.log.get_or_insert_with(|| "error".to_owned());
    let plan = match run::planned(&arguments.files, &node, run::Beside::default()) {
        Ok(plan) => plan,
        Err(refusal) => {
            let format = if arguments.format == PlanFormat::Json { Format::Json } else { Format::Text };
            return report::refused(&refusal, format);
        }
    };
    let description = plan.describe();
    match arguments.format {
        PlanFormat::Text => print!("{}", text_of(&description)),
        PlanFormat::Json => match serde_json::to_string(&description) {
            Ok(json) => println!("{json}"),
            Err(error) => {
                eprintln!("portcullis: the plan cannot be printed: {error}");
                return FAILED;
            }
        },
        PlanFormat::Mermaid => print!("{}", mermaid::chart_of(&description)),
    }
    DONE
}

fn text_of(description: &Description) -> String {
    let node = &description.node;
    let mut text = format!(
        "node: {}, {}, audit {}, admin {}\n",
        node.file.as_deref().unwrap_or("no portcullis.yaml"),
        node.mode,
        node.audit.as_deref().unwrap_or("to a local file"),
        node.admin,
    );
    bounds("  limits    ", &node.limits, &mut text);
    for tenant in &node.tenants {
        text.push_str(&format!("tenant {} ({})\n", tenant.tenant, tenant.at));
        bounds("  limits    ", &tenant.limits, &mut text);
    }
    for pipeline in &description.pipelines {
        text.push('\n');
        pipeline_text(pipeline, &mut text);
    }
    text
}

fn pipeline_text(pipeline: &PipelineDescription, text: &mut String) {
    text.push_str(&format!("{}: pipeline {}: {}\n", pipeline.file, pipeline.pipeline, pipeline.guarantee));
    text.push_str(&format!("  because   {}\n", pipeline.why));
    if let Some(tenant) = &pipeline.tenant {
        text.push_str(&format!("  tenant    {tenant}\n"));
    }
    text.push_str(&format!("  order     {}\n", pipeline.order));
    listed(text, "  budgets   ", &budgets(&pipeline.budgets));
    text.push('\n');
    for source in &pipeline.sources {
        text.push_str(&format!("  {}\n", end(source)));
        end_budgets(source, "      budgets   ", text);
    }
    for plugin in &pipeline.plugins {
        text.push_str("  │\n");
        plugin_text(plugin, text);
    }
    text.push_str("  │\n");
    if let Some(letters) = &pipeline.dead_letter {
        text.push_str(&format!("  ├─ what does not pass: {}\n", end(letters)));
        end_budgets(letters, "  │    budgets   ", text);
    }
    text.push_str(&format!("  └─ {}\n", end(&pipeline.sink)));
    end_budgets(&pipeline.sink, "       budgets   ", text);
    if !pipeline.remarks.is_empty() {
        text.push_str("\n  not as strong as it could be\n");
        for remark in &pipeline.remarks {
            text.push_str(&format!("  - {remark}\n"));
        }
    }
}

fn plugin_text(plugin: &PluginDescription, text: &mut String) {
    text.push_str(&format!("  ├─ {}  {}\n", plugin.name, plugin.world));
    let mut line = |name: &str, values: &[String]| listed(text, &format!("  │    {name:<10}"), values);
    line("component", &[format!("{} {}", plugin.component, plugin.digest)]);
    line("manifest", &[plugin.manifest.clone().unwrap_or_else(|| "none".to_owned())]);
    if let Some(config) = &plugin.config {
        let files = config.files.iter().map(|file| format!("with {file}"));
        line("config", &std::iter::once(format!("{} ({})", config.digest, config.at)).chain(files).collect::<Vec<_>>());
    }
    let imports = match plugin.imports.is_empty() {
        true => vec!["nothing but the message in work".to_owned()],
        false => plugin.imports.clone(),
    };
    for (index, import) in imports.iter().enumerate() {
        line(if index == 0 { "imports" } else { "" }, std::slice::from_ref(import));
    }
    for grant in &plugin.grants {
        line("grant", &[format!("{} ({})", grant.capability, grant.at)]);
        grant.values.iter().for_each(|value| line("", &[format!("  {value}")]));
    }
    let ways: Vec<String> = plugin.dispositions.iter().map(|(name, way)| format!("{name}: {way}")).collect();
    line("on", &ways);
    line("instance", &[plugin.instance.to_owned()]);
    line("budgets", &budgets(&plugin.budgets));
}

fn budgets(budgets: &[BudgetDescription]) -> Vec<String> {
    let of = |budget: &BudgetDescription| match &budget.value {
        Some(value) => format!("{} {value} ({})", budget.name, budget.origin),
        None => format!("{} no bound", budget.name),
    };
    budgets.iter().map(of).collect()
}

/// Of a level: what has no bound is left out, where anything has one.
fn bounds(head: &str, limits: &[BudgetDescription], text: &mut String) {
    let texts = budgets(limits).into_iter().zip(limits);
    let mut bounded: Vec<String> = texts.filter(|(_, limit)| limit.value.is_some()).map(|(text, _)| text).collect();
    if bounded.is_empty() {
        bounded.push("no bound".to_owned());
    }
    listed(text, head, &bounded);
}

fn end_budgets(end: &End, head: &str, text: &mut String) {
    if !end.budgets.is_empty() {
        listed(text, head, &budgets(&end.budgets));
    }
}

fn end(end: &End) -> String {
    let mut text = format!("{} {}", end.connector, end.name);
    for (name, value) in &end.settings {
        text.push_str(&format!("  {name} {value}"));
    }
    format!("{text}  ({})", end.at)
}

/// Values after a head, in as many lines as they need.
fn listed(text: &mut String, head: &str, values: &[String]) {
    const WIDTH: usize = 120;
    let margin: String = head.chars().map(|c| if c == '│' { c } else { ' ' }).collect();
    let mut line = head.to_owned();
    let mut is_first = true;
    for value in values {
        if !is_first && line.chars().count() + value.chars().count() + 2 > WIDTH {
            text.push_str(&line);
            text.push_str(",\n");
            line.clone_from(&margin);
            is_first = true;
        }
        if !is_first {
            line.push_str(", ");
        }
        line.push_str(value);
        is_first = false;
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_values_take_several_lines_under_their_head() {
        let values: Vec<String> = (0..30).map(|number| format!("value-{number}")).collect();
        let mut text = String::new();
        listed(&mut text, "  │    name      ", &values);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.len() > 2 && lines.iter().all(|line| line.chars().count() <= 121), "{text}");
        assert!(lines[1].starts_with("  │              value-"), "{text}");
    }
}
