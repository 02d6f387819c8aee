//! `portcullis check`.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{DONE, Format, NodeArguments, report, run};
use crate::plan::Plan;

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
    match run::planned(&arguments.files, &arguments.node, run::Beside::default()) {
        Ok(plan) => {
            match arguments.format {
                Format::Text => print(&plan),
                Format::Json => println!("{}", json_of(&plan)),
            }
            DONE
        }
        Err(refusal) => report::refused(&refusal, arguments.format),
    }
}

fn print(plan: &Plan) {
    for pipeline in &plan.pipelines {
        let (name, file) = (&pipeline.config.name.value, pipeline.config.file.display());
        println!("{file}: ok: pipeline {name}, {}, {} plugins", pipeline.promise.guarantee, pipeline.stages.len());
        for stage in &pipeline.stages {
            let plugin = &stage.plugin;
            println!("  {} {} {}", plugin.name(), plugin.world(), plugin.digest());
            for import in plugin.imports() {
                println!("    imports {import}");
            }
        }
    }
}

fn json_of(plan: &Plan) -> serde_json::Value {
    let pipelines: Vec<_> = plan.pipelines.iter().map(|pipeline| {
        let plugins: Vec<_> = pipeline.stages.iter().map(|stage| {
            let plugin = &stage.plugin;
            json!({ "name": plugin.name(), "digest": plugin.digest(), "world": plugin.world(), "imports": plugin.imports() })
        }).collect();
        json!({
            "file": pipeline.config.file.display().to_string(), "pipeline": pipeline.config.name.value,
            "guarantee": pipeline.promise.guarantee.to_string(), "plugins": plugins,
        })
    }).collect();
    json!({ "ok": true, "pipelines": pipelines })
}
