//! Whether what was read back is what the input file implies.

use std::collections::BTreeMap;

use portcullis_connector_api::Message;
use portcullis_connector_local::envelope::{Expect, Outcome};

use super::feed::Sent;
use super::readback::{Readback, letter_header};
use crate::cli::words::some;

/// The numbers, and each thing that is not as expected.
pub(super) struct Judgement {
    pub(super) sent: usize,
    pub(super) passed: usize,
    /// Dead letters by reason and code.
    pub(super) dead: BTreeMap<(String, String), usize>,
    pub(super) dropped: usize,
    pub(super) wrong: Vec<String>,
    pub(super) checked: usize,
}

impl Judgement {
    pub(super) fn is_good(&self) -> bool {
        self.wrong.is_empty()
    }
}

pub(super) fn judge(sent: &[Sent], found: &Readback) -> Judgement {
    let mut wrong = Vec::new();
    let mut dead = BTreeMap::new();
    for letter in &found.dead {
        let text = |name| letter_header(letter, name).unwrap_or("?").to_owned();
        *dead.entry((text("reason"), text("code"))).or_insert(0) += 1;
    }
    let dropped = sent.len().saturating_sub(found.passed.len() + found.dead.len());
    for (number, line) in (1..).zip(sent) {
        if let Some(expect) = &line.expect
            && let Some(fault) = fault_of(line, expect, found)
        {
            wrong.push(format!("input line {number}: {fault}"));
        }
    }
    wrong.extend(order_faults(sent, &found.passed));
    let expected_drops = sent.iter().filter(|line| expects(line, Outcome::Drop)).count();
    let checked = sent.iter().filter(|line| line.expect.is_some()).count();
    if checked == sent.len() && dropped != expected_drops {
        let found = some(dropped, "message");
        wrong.push(format!("{found} dropped or lost, the input implies {expected_drops}"));
    }
    Judgement { sent: sent.len(), passed: found.passed.len(), dead, dropped, wrong, checked }
}

/// The first message that passed, as it was sent and as it arrived.
pub(super) fn example<'a>(sent: &'a [Sent], found: &'a Readback) -> Option<(&'a Message, &'a Message)> {
    let pair = |line: &'a Sent| Some((&line.message, found.passed.iter().find(|after| is_same(after, &line.message))?));
    sent.iter().find_map(pair)
}

fn expects(line: &Sent, outcome: Outcome) -> bool {
    line.expect.as_ref().is_some_and(|expect| expect.outcome == outcome)
}

fn fault_of(line: &Sent, expect: &Expect, found: &Readback) -> Option<String> {
    let letter = found.dead.iter().find(|letter| is_letter_of(letter, line));
    let passed = found.passed.iter().any(|message| is_same(message, &line.message));
    let reason = letter
        .map(|letter| (letter_header(letter, "reason").unwrap_or("?"), letter_header(letter, "code").unwrap_or("?")));
    match (expect.outcome, passed, reason) {
        (Outcome::Pass, true, None) | (Outcome::Drop, false, None) => None,
        (Outcome::Reject, false, Some((kind, code))) | (Outcome::Fault, false, Some((kind, code))) => {
            let right_kind = (kind == "rejected") == (expect.outcome == Outcome::Reject);
            let wanted = expect.reason.as_deref();
            let right_reason = wanted.is_none_or(|wanted| wanted == kind || wanted == code);
            (!right_kind || !right_reason).then(|| {
                format!(
                    "expected {} {}, found {kind} {code}",
                    expect.outcome.as_str(),
                    wanted.unwrap_or("for any reason")
                )
            })
        }
        (wanted, passed, reason) => {
            let place = match (passed, reason) {
                (true, Some(_)) => "both in the sink and in the dead letter queue",
                (true, None) => "in the sink",
                (false, Some(_)) => "in the dead letter queue",
                (false, None) => "nowhere",
            };
            Some(format!("expected {}, found {place}", wanted.as_str()))
        }
    }
}

/// A dead letter names the coordinates of its message.
fn is_letter_of(letter: &Message, line: &Sent) -> bool {
    let number = |name| letter_header(letter, name).and_then(|text| text.parse::<i64>().ok());
    letter_header(letter, "topic") == Some(&*line.message.channel)
        && number("partition") == Some(i64::from(line.partition))
        && number("offset") == Some(line.offset)
}

/// An enricher may change anything but leaves key and timestamp alone in most pipelines; where the key was changed, the
/// timestamp still tells.
fn is_same(message: &Message, other: &Message) -> bool {
    message.timestamp.millis() == other.timestamp.millis()
}

/// Messages of one key must have kept their order.
fn order_faults(sent: &[Sent], passed: &[Message]) -> Vec<String> {
    let mut by_key: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for message in passed {
        // By the key as sent: an enricher may have changed it. Null keys have no order between partitions.
        let line = sent.iter().find(|line| is_same(message, &line.message));
        if let Some(key) = line.and_then(|line| line.message.key.clone()) {
            by_key.entry(key).or_default().push(message.timestamp.millis());
        }
    }
    let mut faults = Vec::new();
    for (key, times) in by_key {
        let expected = sent
            .iter()
            .filter(|line| line.message.key.as_ref() == Some(&key))
            .map(|line| line.message.timestamp.millis());
        let expected: Vec<_> = expected.filter(|time| times.contains(time)).collect();
        if expected != times {
            faults.push(format!("messages of key {:?} are out of order or doubled", key));
        }
    }
    faults
}
