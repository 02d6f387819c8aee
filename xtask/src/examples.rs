//! The components of plugins/examples, each built by the tool of its language with the command that its README has.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::{prerequisites, python, steps};

/// The tools come as packages in pinned versions; without a way to a package registry the error is that of pip or npm.
///
/// # Errors
/// When Python or Node.js is missing (the error says what to install) or a build fails.
pub(crate) fn build(root: &Path) -> anyhow::Result<PathBuf> {
    let (sources, home) = (root.join("plugins/examples"), root.join("target/examples"));
    for language in ["python", "javascript"] {
        let folder = home.join(language);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let manifest = "checks-id.wasm.manifest.yaml";
        fs::copy(sources.join(language).join(manifest), folder.join(manifest))
            .with_context(|| format!("{language}/{manifest}"))?;
    }
    in_python(root, &sources.join("python"), &home.join("python"))?;
    in_javascript(root, &sources.join("javascript"), &home.join("javascript"))?;
    Ok(home)
}

fn in_python(root: &Path, source: &Path, home: &Path) -> anyhow::Result<()> {
    let python = python::environment(&source.join("requirements.txt"), &home.join("venv"), &[])?;
    let mut tool = Command::new(python.with_file_name("componentize-py"));
    tool.arg("--wit-path").arg(root.join("wit")).args(["--world", "validator", "componentize", "--stub-wasi"]);
    tool.arg("--python-path").arg(source).args(["checks_id", "--output"]).arg(home.join("checks-id.wasm"));
    steps::run(&mut tool)
}

fn in_javascript(root: &Path, source: &Path, home: &Path) -> anyhow::Result<()> {
    prerequisites::node()?;
    let wanted = fs::read(source.join("package.json")).context("package.json")?;
    let (package, installed) = (home.join("package.json"), home.join("installed.json"));
    if !fs::read(&installed).is_ok_and(|have| have == wanted) {
        fs::write(&package, &wanted).with_context(|| package.display().to_string())?;
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-package-lock", "--no-audit", "--no-fund"]);
        steps::run(npm.current_dir(home))?;
        // Last, so that an installation that was broken off is not taken for a whole one.
        fs::write(&installed, wanted).with_context(|| installed.display().to_string())?;
    }
    let mut tool = Command::new(home.join("node_modules/.bin/componentize-js"));
    tool.arg(source.join("checks-id.js")).arg("--wit").arg(root.join("wit")).args(["--world-name", "validator"]);
    tool.args(["--disable", "stdio", "random", "clocks", "http", "fetch-event", "--out"]);
    steps::run(tool.arg(home.join("checks-id.wasm")))
}
