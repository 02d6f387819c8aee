//! Python environments: that of the independent clients in tests/clients, and that of the tool for plugins in Python.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::{prerequisites, steps};

/// The interpreter of the environment with the independent clients.
pub(crate) fn interpreter(root: &Path) -> anyhow::Result<PathBuf> {
    environment(&root.join("tests/clients/requirements.txt"), &root.join("target/venv"), &["--require-hashes"])
}

/// The interpreter of the environment in the folder `home`; made when it is not there yet or its requirements have changed.
pub(crate) fn environment(requirements: &Path, home: &Path, options: &[&str]) -> anyhow::Result<PathBuf> {
    let (python, installed) = (home.join("bin/python"), home.join("requirements.txt"));
    let wanted = fs::read(requirements).with_context(|| requirements.display().to_string())?;
    if python.exists() && fs::read(&installed).is_ok_and(|have| have == wanted) {
        eprintln!("    {} is there", home.display());
        return Ok(python);
    }
    prerequisites::python()?;
    steps::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(home))?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(options).arg("-r");
    steps::run(pip.arg(requirements))?;
    // Last, so that an installation that was broken off is not taken for a whole one.
    fs::write(&installed, wanted).with_context(|| installed.display().to_string())?;
    Ok(python)
}
