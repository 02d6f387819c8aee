//! The Python environment of the independent clients in tests/clients.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::{prerequisites, steps};

/// The environment's interpreter; made when it is not there yet or its requirements have changed.
pub(crate) fn interpreter(root: &Path) -> anyhow::Result<PathBuf> {
    let requirements = root.join("tests/clients/requirements.txt");
    let home = root.join("target/venv");
    let (python, installed) = (home.join("bin/python"), home.join("requirements.txt"));
    let wanted = fs::read(&requirements).with_context(|| requirements.display().to_string())?;
    if python.exists() && fs::read(&installed).is_ok_and(|have| have == wanted) {
        eprintln!("    {} is there", home.display());
        return Ok(python);
    }
    prerequisites::python()?;
    steps::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home))?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r"]);
    steps::run(pip.arg(&requirements))?;
    // Last, so that an installation that was broken off is not taken for a whole one.
    fs::write(&installed, wanted).with_context(|| installed.display().to_string())?;
    Ok(python)
}
