//! What a person sees: each step by name, its commands, its time, and a summary as the last lines.

use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// The steps of one chore, in order. The first that fails ends the chore.
pub(crate) struct Steps {
    chore: &'static str,
    begun: Instant,
    done: Vec<(String, Duration)>,
}

impl Steps {
    pub(crate) fn new(chore: &'static str) -> Self {
        Self { chore, begun: Instant::now(), done: Vec::new() }
    }

    /// Runs one step. A failure is printed with the steps before it, since a long output hides what was green.
    pub(crate) fn step<T>(&mut self, name: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        eprintln!("\n==> {name}");
        let begun = Instant::now();
        let outcome = work();
        let took = begun.elapsed();
        match outcome {
            Ok(value) => {
                eprintln!("    done in {}", duration(took));
                self.done.push((name.to_owned(), took));
                Ok(value)
            }
            Err(error) => {
                eprintln!("{}", self.table("FAILED", Some((name, took))));
                Err(error.context(format!("step `{name}`")))
            }
        }
    }

    /// The last lines of a chore that went well.
    pub(crate) fn finish(self) {
        eprintln!("{}", self.table("passed", None));
    }

    fn table(&self, verdict: &str, failed: Option<(&str, Duration)>) -> String {
        let width = self.done.iter().map(|(name, _)| name.as_str()).chain(failed.map(|(name, _)| name));
        let width = width.map(str::len).max().unwrap_or_default();
        let mut text = format!("\n{}: {verdict} in {}", self.chore, duration(self.begun.elapsed()));
        let done = self.done.iter().map(|(name, took)| ("ok    ", name.as_str(), *took));
        for (verdict, name, took) in done.chain(failed.map(|(name, took)| ("FAILED", name, took))) {
            text.push_str(&format!("\n  {verdict}  {name:width$}  {:>12}", duration(took)));
        }
        text
    }
}

/// Runs a command with its output going straight to the terminal; an error names the command and its folder.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    eprintln!("    $ {}", line(command));
    let status = status(command)?;
    if !status.success() {
        bail!("command failed ({status}): {}", line(command));
    }
    Ok(())
}

/// Runs a command and gives its status, whatever it is.
pub(crate) fn status(command: &mut Command) -> anyhow::Result<ExitStatus> {
    command.status().with_context(|| format!("cannot start: {}", line(command)))
}

/// What to type to run the command by hand.
pub(crate) fn line(command: &Command) -> String {
    let mut text = String::new();
    if let Some(folder) = command.get_current_dir() {
        text = format!("cd {} && ", folder.display());
    }
    text.push_str(&quoted(&command.get_program().to_string_lossy()));
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&quoted(&argument.to_string_lossy()));
    }
    text
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// `1.2 s` or `3 min 04 s`.
pub(crate) fn duration(time: Duration) -> String {
    if time < Duration::from_secs(60) {
        return format!("{:.1} s", time.as_secs_f64());
    }
    format!("{} min {:02} s", time.as_secs() / 60, time.as_secs() % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_command_can_be_typed_again() {
        let mut command = Command::new("java");
        command.args(["-cp", "libs/*", "it's", ""]).current_dir("target");
        assert_eq!(line(&command), r"cd target && java -cp 'libs/*' 'it'\''s' ''");
    }

    #[test]
    fn a_failing_command_is_named_with_its_status() {
        let error = run(Command::new("sh").args(["-c", "exit 3"])).unwrap_err().to_string();
        assert_eq!(error, "command failed (exit status: 3): sh -c 'exit 3'");
    }

    #[test]
    fn durations_are_readable() {
        assert_eq!(duration(Duration::from_millis(1234)), "1.2 s");
        assert_eq!(duration(Duration::from_secs(184)), "3 min 04 s");
    }
}
