//! `portcullis explain`: how requests of a plugin would be decided, step by step, by the code that decides when it runs.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use portcullis_config::{Code, Diagnostic, Diagnostics, Flags, Location, ProcessEnvironment};
use portcullis_policy::{Reason, Rule, Step, Verdict};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{DONE, FAILED, Format, report};
use crate::plan::explain::{Answers, Explained, Subject};
use crate::plan::walk::{Asked, FORMS, MAX_REQUEST_BYTES, Stage};
use crate::plan::{LockUse, Options};

mod words;

/// Addresses that one request may assume.
const MAX_ANSWERS: usize = 64;
/// Requests in one file.
const MAX_REQUESTS: usize = 100_000;

#[derive(Args, Clone, Debug)]
pub(super) struct ExplainArguments {
    /// The pipeline file.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The plugin, by its name in the file.
    #[arg(long, value_name = "NAME")]
    plugin: String,
    /// `GET https://host/path`, `tcp://host:port`, `udp://host:port` or `resolve NAME`; may be repeated.
    #[arg(long, value_name = "REQUEST", required_unless_present = "requests")]
    request: Vec<String>,
    /// JSON Lines, each a request's text or `{"request": "...", "answers": ["93.184.216.34"]}`.
    #[arg(long, value_name = "FILE", conflicts_with = "request")]
    requests: Option<PathBuf>,
    /// An address that the name is assumed to have; may be repeated.
    #[arg(long, value_name = "IP")]
    answer: Vec<IpAddr>,
    /// Asks the configured name servers for names whose lookup is granted. Nothing is connected to.
    #[arg(long, conflicts_with = "answer")]
    resolve: bool,
    /// Ends with 1 when a request is decided otherwise.
    #[arg(long, value_enum, value_name = "DECISION")]
    expect: Option<Expected>,
    /// How the result is printed; `json`: one object for each request, a line each.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The node's file; otherwise `portcullis.yaml` beside the pipeline file, otherwise defaults.
    #[arg(long, value_name = "FILE")]
    node: Option<PathBuf>,
    /// Where the admin endpoint listens, over the node's file: no plugin reaches it.
    #[arg(long, value_name = "HOST:PORT")]
    admin: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Expected {
    Allow,
    Deny,
}

/// A request with what it assumes.
struct Question {
    text: String,
    asked: Asked,
    answers: Answers,
}

/// A line of `--requests`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Text(String),
    Full(Full),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Full {
    request: String,
    #[serde(default)]
    answers: Vec<IpAddr>,
}

pub(super) fn explain(arguments: &ExplainArguments) -> u8 {
    let flags = match &arguments.admin {
        Some(listen) => Flags::new().with("--admin", "admin.listen", listen.as_str()),
        None => Flags::new(),
    };
    let options = Options {
        environment: &ProcessEnvironment,
        node_file: arguments.node.as_deref(),
        flags,
        instead: None,
        no_cache: true,
        lock: LockUse::default(),
        consent: Vec::new(),
    };
    let questions = match questions(arguments) {
        Ok(questions) => questions,
        Err(wrong) => return report::refused(&wrong.into(), arguments.format),
    };
    let subject = match Subject::read(arguments.file.clone(), &arguments.plugin, arguments.resolve, &options) {
        Ok(subject) => subject,
        Err(refusal) => return report::refused(&refusal, arguments.format),
    };
    let mut as_expected = true;
    for question in &questions {
        let explained = subject.explain(&question.asked, &question.answers);
        match arguments.format {
            Format::Text => println!("{}", text_of(&subject, question, &explained)),
            Format::Json => println!("{}", json_of(&subject, question, &explained)),
        }
        let decision = if explained.walk.outcome.allowed { Expected::Allow } else { Expected::Deny };
        as_expected &= arguments.expect.is_none_or(|expected| expected == decision);
    }
    if as_expected { DONE } else { FAILED }
}

fn questions(arguments: &ExplainArguments) -> Result<Vec<Question>, Diagnostics> {
    let mut wrong = Diagnostics::new();
    let mut questions = Vec::new();
    let mut keep =
        |at: &dyn Fn() -> Location, line: Result<Line, String>| match line.and_then(|line| question(line, arguments)) {
            Ok(question) => questions.push(question),
            Err(message) => wrong.push(at().diagnostic(Code::ValueInvalid, message).help(FORMS)),
        };
    for text in &arguments.request {
        keep(&|| Location::of("--request"), Ok(Line::Text(text.clone())));
    }
    if let Some(path) = &arguments.requests {
        let read = lines(path, |number, line| {
            let line = serde_json::from_str(line).map_err(|_| {
                "a line is a JSON text, or an object of `request` and, if one likes, `answers`, a list of addresses"
                    .to_owned()
            });
            keep(&|| Location::of(&format!("{}:{number}", path.display())), line);
        });
        if let Err(diagnostic) = read {
            wrong.push(diagnostic);
        }
    }
    wrong.into_result(Some(questions))
}

fn question(line: Line, arguments: &ExplainArguments) -> Result<Question, String> {
    let (text, own) = match line {
        Line::Text(text) => (text, Vec::new()),
        Line::Full(Full { request, answers }) => (request, answers),
    };
    let given = if own.is_empty() { arguments.answer.clone() } else { own };
    if given.len() > MAX_ANSWERS {
        return Err(format!("more than {MAX_ANSWERS} answers"));
    }
    let answers = match (given.is_empty(), arguments.resolve) {
        (false, _) => Answers::Given(given),
        (true, true) => Answers::Asked,
        (true, false) => Answers::Unknown,
    };
    Ok(Question { asked: Asked::parse(&text)?, text, answers })
}

/// Gives each line that is not blank with its number.
fn lines(path: &Path, mut each: impl FnMut(usize, &str)) -> Result<(), Diagnostic> {
    let unreadable = |error: String| Location::of_file(path).diagnostic(Code::FileUnreadable, error);
    let mut reader = BufReader::new(File::open(path).map_err(|error| unreadable(error.to_string()))?);
    // Room for the JSON around a request, and for its answers.
    let most = (2 * MAX_REQUEST_BYTES) as u64;
    let mut line = Vec::new();
    for number in 1..=MAX_REQUESTS + 1 {
        line.clear();
        let read =
            reader.by_ref().take(most).read_until(b'\n', &mut line).map_err(|error| unreadable(error.to_string()))?;
        if read == 0 {
            return Ok(());
        }
        if read as u64 == most {
            return Err(unreadable(format!("line {number} is longer than {most} bytes")));
        }
        let text = String::from_utf8_lossy(&line);
        if !text.trim().is_empty() {
            each(number, text.trim());
        }
    }
    Err(unreadable(format!("more than {MAX_REQUESTS} lines")))
}

/// A rule, or a deny, that has to do with a decision.
struct Named {
    uid: String,
    text: String,
    at: String,
    /// What it lacks; empty where it decided.
    why: String,
}

/// The rule that decided: the one that allowed, or the deny that refused.
fn decided_by(subject: &Subject, explained: &Explained) -> Option<Named> {
    let outcome = &explained.walk.outcome;
    if outcome.reason == Some(Reason::RuleOperatorDeny) && !outcome.allowed {
        let index = outcome.rule?;
        let (deny, at) = (subject.policy().denies().get(index)?, subject.denies.get(index)?);
        return Some(Named {
            uid: format!("deny[{index}]"),
            text: deny.to_string(),
            at: at.to_string(),
            why: String::new(),
        });
    }
    if outcome.allowed { rule(subject, outcome.rule?, None) } else { None }
}

/// The rule that came nearest to allow it.
fn nearest(subject: &Subject, explained: &Explained) -> Option<Named> {
    let outcome = &explained.walk.outcome;
    let reason = outcome.reason.filter(|reason| *reason != Reason::RuleOperatorDeny && !outcome.allowed)?;
    rule(subject, outcome.rule?, Some(reason))
}

fn rule(subject: &Subject, index: usize, missed: Option<Reason>) -> Option<Named> {
    let rule = subject.policy().rules().get(index)?;
    let at = subject.rules.as_ref()?.get(index)?;
    let why = missed.map(|reason| lacks(reason, rule)).unwrap_or_default();
    Some(Named { uid: format!("egress[{index}]"), text: rule.to_string(), at: at.to_string(), why })
}

fn lacks(reason: Reason, rule: &Rule) -> String {
    let list = |items: &[String]| items.join(", ");
    match reason {
        Reason::RulePort => format!("it is for port {}", rule.ports()),
        Reason::RuleProto | Reason::RuleScheme => format!("it is for {}", rule.proto().as_str()),
        Reason::HttpMethod => format!("it is for {}", list(rule.methods())),
        Reason::HttpPath => format!("its paths are {}", list(rule.paths())),
        Reason::AddrOutsideRule => {
            let nets: Vec<String> = rule.addresses().iter().map(ToString::to_string).collect();
            format!("its addresses are {}", list(&nets))
        }
        Reason::RuleDnsPort => "it does not say `dns_port: true`".to_owned(),
        Reason::RuleCeiling => "it reaches past the ceiling of the tenant or the node".to_owned(),
        Reason::DnsUnpinned => "it is for a name: its addresses must come from a lookup of that name".to_owned(),
        _ => String::new(),
    }
}

fn answers_note(question: &Question, explained: &Explained) -> Option<String> {
    let addresses: Vec<String> = explained.walk.answers.iter().map(ToString::to_string).collect();
    if addresses.is_empty() {
        return None;
    }
    let source = match question.answers {
        Answers::Asked => "the name servers answered",
        _ => "assumed answers",
    };
    Some(format!("{source}: {}", addresses.join(", ")))
}

fn text_of(subject: &Subject, question: &Question, explained: &Explained) -> String {
    let outcome = &explained.walk.outcome;
    let mut text = format!("{}\n", plain(&question.text));
    let mut say = |label: &str, what: &str| text.push_str(&format!("  {label:<9} {what}\n"));
    say("plugin", &format!("{} of {}", subject.plugin, subject.pipeline));
    let reason = outcome.reason.map_or("", Reason::as_str);
    let decision = match (outcome.allowed, outcome.reason, outcome.step) {
        (true, None, _) => "allow".to_owned(),
        (true, Some(_), _) => format!("allow, by observe mode only: otherwise {reason}"),
        (false, _, Some(step)) => format!("deny: {reason} (step {step})"),
        (false, _, None) => format!("deny: {reason}"),
    };
    say("decision", &decision);
    if let Some(reason) = outcome.reason {
        say("because", words::sentence(reason));
    }
    if let Some(own) = &explained.own {
        say("endpoint", own);
    }
    if let Some(code) = outcome.guest_code {
        say("told", &format!("the plugin gets `{code}`"));
    }
    for (label, named) in [("rule", decided_by(subject, explained)), ("nearest", nearest(subject, explained))] {
        if let Some(Named { uid, text, at, why }) = named {
            let why = if why.is_empty() { why } else { format!(": {why}") };
            say(label, &format!("{uid} `{text}` at {at}{why}"));
        }
    }
    if let Some(note) = answers_note(question, explained) {
        say("answers", &note);
    }
    explained.walk.notes.iter().for_each(|note| say("note", note));
    match &explained.smallest {
        Some(_) if outcome.allowed && outcome.reason.is_none() => {}
        Some(smallest) => say("grant", &format!("{smallest}")),
        None if outcome.allowed => {}
        None => say("grant", "none would allow it"),
    }
    for stage in &explained.walk.stages {
        text.push_str(&stage_text(stage));
    }
    text
}

fn stage_text(stage: &Stage) -> String {
    let address = stage.address.map(|address| format!(" {address}")).unwrap_or_default();
    let mut text = format!("  {}{address}\n", stage.what);
    for Step { number, name, verdict, detail } in &stage.steps {
        let line = format!("    {number} {name:<15} {:<12} {}", word(*verdict).replace('_', " "), plain(detail));
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "passed",
        Verdict::Refused => "refused",
        Verdict::NotReached => "not_reached",
    }
}

/// Requests may come from a file that somebody else wrote, and a terminal obeys what it gets.
fn plain(text: &str) -> String {
    crate::plugin::tame(text, text.len() * 8).into_owned()
}

fn json_of(subject: &Subject, question: &Question, explained: &Explained) -> Value {
    let walk = &explained.walk;
    let outcome = &walk.outcome;
    let named = |named: Named| json!({ "uid": named.uid, "text": named.text, "at": named.at });
    let missed = |named: Named| json!({ "uid": named.uid, "text": named.text, "at": named.at, "why": named.why });
    let stages: Vec<Value> = walk.stages.iter().map(stage_json).collect();
    let steps = walk.decisive.and_then(|index| stages.get(index)?.get("steps").cloned());
    let source = match question.answers {
        Answers::Unknown => "none",
        Answers::Given(_) => "assumed",
        Answers::Asked => "name_servers",
    };
    json!({
        "request": question.text, "pipeline": subject.pipeline, "plugin": subject.plugin,
        "decision": if outcome.allowed { "allow" } else { "deny" },
        "reason": outcome.reason.map(Reason::as_str), "step": outcome.step,
        "observed": outcome.allowed && outcome.reason.is_some(), "guest_code": outcome.guest_code,
        "rule": decided_by(subject, explained).map(named), "nearest": nearest(subject, explained).map(missed),
        "answers": { "source": source, "addresses": walk.answers },
        "steps": steps.unwrap_or_else(|| json!([])), "stages": stages,
        "smallest_grant": explained.smallest.as_ref().map(ToString::to_string),
        "because": outcome.reason.map(words::sentence), "own_endpoint": explained.own,
        "notes": walk.notes, "policy_version": &**subject.policy().version(),
    })
}

fn stage_json(stage: &Stage) -> Value {
    let steps: Vec<Value> = stage.steps.iter().map(|step| {
        json!({ "number": step.number, "name": step.name, "verdict": word(step.verdict), "detail": step.detail })
    }).collect();
    json!({
        "what": stage.what, "address": stage.address, "decision": if stage.refused.is_none() { "allow" } else { "deny" },
        "reason": stage.refused.map(Reason::as_str), "steps": steps,
    })
}
