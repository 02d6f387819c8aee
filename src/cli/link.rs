//! `portcullis link`: what every plugin imports, asks for and was granted, line by line, and the lock of what was linked.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::{DONE, FAILED, Format, NodeArguments, report, run, table};
use crate::plan::{Grant, LOCK_FILE, Line, LockUse, Table, Verdict};

#[derive(Args, Clone, Debug)]
pub(super) struct LinkArguments {
    /// Pipeline files, or folders of them.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Writes nothing, and refuses whatever differs from the lock; a pipeline without a lock is refused too.
    #[arg(long, visible_alias = "check", conflicts_with = "update")]
    locked: bool,
    /// Takes components whose bytes are not those that were locked.
    #[arg(long)]
    update: bool,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    node: NodeArguments,
}

pub(super) fn link(arguments: &LinkArguments) -> u8 {
    let lock = match (arguments.locked, arguments.update) {
        (true, _) => LockUse::Require,
        (false, true) => LockUse::Ignore,
        (false, false) => LockUse::Bytes,
    };
    let mut node = arguments.node.clone();
    // The warnings are in the tables.
    node.log.get_or_insert_with(|| "error".to_owned());
    let plan = match run::planned(&arguments.files, &node, run::Beside { lock, ..run::Beside::default() }) {
        Ok(plan) => plan,
        Err(refusal) => {
            return match arguments.format {
                Format::Text => {
                    print(&refusal.tables);
                    report::refused(&refusal, Format::Text)
                }
                Format::Json => {
                    println!("{}", json_of(&refusal.tables, &[], &refusal.diagnostics.to_json()));
                    super::REFUSED
                }
            };
        }
    };
    let locks = match arguments.locked {
        true => Ok(Vec::new()),
        false => plan.write_locks(),
    };
    let locks = match locks {
        Ok(locks) => locks,
        Err(error) => {
            eprintln!("portcullis: everything is linked, and {LOCK_FILE} cannot be written: {error}");
            return FAILED;
        }
    };
    match arguments.format {
        Format::Text => {
            print(&plan.tables);
            for (path, changed) in &locks {
                println!("{}: {}", path.display(), if *changed { "written" } else { "unchanged" });
            }
        }
        Format::Json => println!("{}", json_of(&plan.tables, &locks, &json!([]))),
    }
    DONE
}

fn print(tables: &[Table]) {
    for table in tables {
        print!("{}", text_of(table));
    }
}

fn text_of(table: &Table) -> String {
    let digest = table.digest.as_deref().unwrap_or("not readable");
    let mut text = format!("{}: plugin {} of {}: {}\n", table.at, table.plugin, table.pipeline, table.verdict());
    text.push_str(&format!("  component  {} {digest}\n", table.component));
    if let Some(examined) = &table.examined {
        text.push_str(&format!("  world      {}\n", examined.world));
        let manifest = examined.claimed.as_ref().map_or_else(
            || "none".to_owned(),
            |claimed| {
                let place =
                    claimed.file.as_ref().map_or("in the component".to_owned(), |file| file.display().to_string());
                format!("{} {} ({place})", claimed.manifest.name, claimed.manifest.version)
            },
        );
        text.push_str(&format!("  manifest   {manifest}\n"));
    }
    let tenant = table.tenant.as_ref().map_or("TENANT".to_owned(), |tenant| format!("TENANT {tenant}"));
    let mut rows = table::Rows::new(["IMPORT", "NEEDS", "ASKED", "GRANTED", &tenant, "NODE", "VERDICT", "REASON"]);
    let inert = |line: &&Line| line.capability.is_none() && line.verdict == Verdict::Linked && !line.is_message();
    for line in table.lines.iter().filter(|line| !inert(line)) {
        let import = line.import.as_deref().unwrap_or("(not imported)");
        let needs = line.capability.map_or("-", |capability| capability.as_str());
        let cells = [
            import.to_owned(),
            needs.to_owned(),
            line.asked.as_str().to_owned(),
            granted(line),
            ceiling(line.tenant.as_ref()),
            ceiling(line.node.as_ref()),
            line.verdict.to_string(),
            line.reason.clone(),
        ];
        rows.push(cells, &line.functions);
    }
    // A toolchain brings a dozen of them, and they all say the same.
    let inert: Vec<&Line> = table.lines.iter().filter(inert).collect();
    if let Some(first) = inert.first() {
        let functions: usize = inert.iter().map(|line| line.functions.len()).sum();
        let names: Vec<String> = inert.iter().filter_map(|line| line.import.clone()).collect();
        let import = format!("{} more with {functions} functions", inert.len());
        let none = || "-".to_owned();
        let cells = [import, none(), none(), none(), none(), none(), first.verdict.to_string(), first.reason.clone()];
        rows.push(cells, &names);
    }
    text.push_str(&rows.render("  "));
    for refusal in &table.refusals {
        text.push_str(&format!("  refused: {refusal}\n"));
    }
    for warning in &table.warnings {
        text.push_str(&format!("  warning: {warning}\n"));
    }
    text.push('\n');
    text
}

fn granted(line: &Line) -> String {
    match (&line.granted, line.capability) {
        (_, None) => "-".to_owned(),
        (None, Some(_)) => "no".to_owned(),
        (Some(grant), Some(_)) => format!("{} ({})", shortened(&grant.text), grant.at),
    }
}

fn ceiling(ceiling: Option<&Grant>) -> String {
    ceiling.map_or_else(|| "-".to_owned(), |ceiling| format!("{} ({})", shortened(&ceiling.text), ceiling.at))
}

/// A list of rules has its own lines in the pipeline's file.
fn shortened(text: &str) -> String {
    const WIDTH: usize = 40;
    match text.char_indices().nth(WIDTH) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
    }
}

fn json_of(tables: &[Table], locks: &[(PathBuf, bool)], errors: &Value) -> Value {
    let is_good = errors.as_array().is_some_and(Vec::is_empty);
    let locks: Vec<Value> =
        locks.iter().map(|(path, changed)| json!({ "file": path.display().to_string(), "written": changed })).collect();
    json!({ "ok": is_good, "plugins": tables.iter().map(table_json).collect::<Vec<_>>(), "locks": locks, "errors": errors })
}

fn table_json(table: &Table) -> Value {
    let examined = table.examined.as_ref();
    let manifest = examined.and_then(|examined| examined.claimed.as_ref()).map(|claimed| {
        json!({
            "name": claimed.manifest.name, "version": claimed.manifest.version, "digest": claimed.digest,
            "file": claimed.file.as_ref().map(|file| file.display().to_string()),
        })
    });
    json!({
        "file": table.file, "pipeline": table.pipeline, "tenant": table.tenant, "plugin": table.plugin,
        "line": table.at.line, "col": table.at.col, "component": table.component, "digest": table.digest,
        "world": examined.map(|examined| examined.world.as_str()), "manifest": manifest,
        "verdict": table.verdict().as_str(), "refusals": table.refusals, "warnings": table.warnings,
        "table": table.lines.iter().map(line_json).collect::<Vec<_>>(),
    })
}

fn line_json(line: &Line) -> Value {
    let grant = |grant: &Option<Grant>| {
        let of = |grant: &Grant| json!({ "value": grant.text, "file": grant.at.file(), "line": grant.at.line, "col": grant.at.col });
        grant.as_ref().map(of)
    };
    json!({
        "import": line.import, "functions": line.functions, "capability": line.capability.map(|wish| wish.as_str()),
        "asked": line.asked.as_str(), "granted": grant(&line.granted), "tenant_ceiling": grant(&line.tenant),
        "node_ceiling": grant(&line.node), "verdict": line.verdict.as_str(), "reason": line.reason,
    })
}
