use std::time::{Duration, Instant};

use super::specimens::{minimal, nulls, same, specimens, values};
use super::{Exemption, Failure, Report, Rule, run};
use crate::{AckMode, AssignmentId, Budget, Message, Source};

mod reader;

use reader::Reader;

/// Makes places where a source of this connector can be tried.
pub trait SourceFactory {
    /// What it makes.
    type Place: SourcePlace;

    /// A fresh place with nothing in it: each rule is tried on one of its own.
    ///
    /// # Errors
    /// What went wrong, for a person.
    fn place(&self) -> Result<Self::Place, String>;
}

/// One partition, file or stream with what is fed into it.
pub trait SourcePlace {
    /// Puts messages where the source will read them, in this order, all in one partition.
    ///
    /// # Errors
    /// What went wrong, for a person.
    fn feed(&mut self, messages: &[Message]) -> Result<(), String>;

    /// Opens a source of this place. Called again after the last one was closed: a restart.
    ///
    /// # Errors
    /// What went wrong, for a person.
    fn open(&mut self) -> Result<Box<dyn Source>, String>;

    /// Whether the source comes to an end behind what was fed.
    fn ends(&self) -> bool;

    /// Takes the assignment of the open source away, to be seen by its next poll, so that it gets a new one after the
    /// release. False where that cannot be, which needs an exemption from [`Rule::RevocationHoldsBack`].
    ///
    /// # Errors
    /// What went wrong, for a person.
    fn revoke(&mut self) -> Result<bool, String> {
        Ok(false)
    }

    /// How the messages that were fed are expected to come, where that is not as they are (a generator makes its own).
    fn expected(&self, fed: &[Message]) -> Vec<Message> {
        fed.to_vec()
    }

    /// How long an expected record may take to come.
    fn patience(&self) -> Duration {
        Duration::from_secs(20)
    }
}

/// Tries a source.
///
/// # Errors
/// The first rule that is broken, with what was seen.
pub fn source<F: SourceFactory>(factory: &F, exemptions: &[Exemption]) -> Result<Report, Failure> {
    run(&Rule::OF_SOURCES, exemptions, |rule| {
        let mut place = factory.place()?;
        match rule {
            Rule::BytesKept => carries(&mut place, &specimens()),
            Rule::NullIsNotEmpty => carries(&mut place, &nulls()),
            Rule::OrderKept => order_kept(&mut place),
            Rule::UnacknowledgedComesAgain => unacknowledged_comes_again(&mut place),
            Rule::AcknowledgedStays => acknowledged_stays(&mut place),
            Rule::LateAcknowledgementIsHarmless => late_acknowledgement(&mut place),
            Rule::RevocationHoldsBack => revocation(&mut place),
            Rule::BudgetBounds => budget_bounds(&mut place),
            Rule::NothingDeliversNothing => nothing_delivers_nothing(&mut place),
            Rule::PauseStops => pause_stops(&mut place),
            Rule::FinishedOnlyAtTheEnd => finished_only_at_the_end(&mut place),
            _ => wait_is_bounded(&mut place),
        }
    })
}

/// More than any rule feeds.
const ALL: Budget = Budget { messages: 1000, bytes: 8 * 1024 * 1024 };

fn carries<P: SourcePlace>(place: &mut P, messages: &[Message]) -> Result<(), String> {
    place.feed(messages)?;
    let mut reader = Reader::open(place)?;
    reader.read(messages.len())?;
    same(&place.expected(messages), &reader.messages())
}

fn order_kept<P: SourcePlace>(place: &mut P) -> Result<(), String> {
    let expected = fed(place, 100)?;
    let mut reader = Reader::open(place)?;
    reader.read(expected.len())?;
    equal("read in one go", &expected, &reader.values())
}

fn unacknowledged_comes_again<P: SourcePlace>(place: &mut P) -> Result<(), String> {
    let expected = fed(place, 20)?;
    let mut reader = Reader::open(place)?;
    reader.read(20)?;
    reader.acknowledge(7)?;
    reader.close()?;
    let left = expected.get(7..).unwrap_or_default();
    let mut reader = Reader::open(place)?;
    reader.read_until(|read| left.iter().all(|value| read.contains(value))).map_err(|found| {
        format!("7 of 20 were acknowledged, and after a restart not all of the other 13 came again: {found}")
    })
}

fn acknowledged_stays<P: SourcePlace>(place: &mut P) -> Result<(), String> {
    let expected = fed(place, 20)?;
    let mut reader = Reader::open(place)?;
    reader.read(20)?;
    reader.acknowledge(7)?;
    reader.close()?;
    let mut reader = Reader::open(place)?;
    reader.read(13)?;
    equal("read after 7 of 20 were acknowledged", expected.get(7..).unwrap_or_default(), &reader.values())?;
    reader.acknowledge(13)?;
    reader.close()?;
    let mut reader = Reader::open(place)?;
    reader.is_quiet("every message was acknowledged before the restart")
}

fn late_acknowledgement<P: SourcePlace>(place: &mut P) -> Result<(), String> {
    let expected = fed(place, 10)?;
    let mut reader = Reader::open(place)?;
    reader.read(10)?;
    reader.acknowledge_for(AssignmentId(u32::MAX), 10)?;
    reader.close()?;
    let mut reader = Reader::open(place)?;
    reader.read(10)?;
    equal("read after an acknowledgement for an assignment that never was", &expected, &reader.values())
}

fn revocation<P: SourcePlace>(place: &mut P) -> Result<(), String> {
    let expected = fed(place, 10)?;
    let mut reader = Reader::open(place)?;
    reader.read(10)?;
    let old = reader.assignment()?;
    if !place.revoke()? {
        return Err("the place cannot revoke, which needs an exemption with its reason".to_owned());
    }
    reader.wait_for_revocation(old)?;
    reader.is_quiet("the assignment was revoked and not released")?;
    reader.acknowledge(4)?;
    reader.release(old)?;
    reader.forget();
    reader.read(6)?;
    let left = expected.get(4..).unwrap_or_default();
    equal("read after a revocation with 4 of 10 acknowledged", left, &reader.values())?;
    if reader.assignment()? == old {
        return Err(format!("the new assignment has the number of the old one, {old:?}"));
    }
    reader.acknowledge_for(old, 6)?;
    reader.close()?;
    let mut reader = Reader::open(place)?;
    reader.read(6)?;
    equal("read after a late acknowledgement of the old assignment", left, &reader.values())
}

fn budget_bounds<P: SourcePlace>(place: &mut P) -> Result<(), String> {
    let expected = fed(place, 30)?;
    let mut reader = Reader::open(place)?;
    let budgets = [Budget { messages: 3, ..ALL }, Budget { bytes: 1, ..ALL }, Budget { bytes: 40, ..ALL }];
    for (budget, until) in budgets.into_iter().zip([9, 15, 30]) {
        let deadline = Instant::now() + place.patience();
        while reader.count() < until {
            let before = reader.count();
            reader.poll(budget, Duration::from_millis(100))?;
            let new = reader.messages().split_off(before);
            let but_last: usize = new.iter().rev().skip(1).map(Message::size_bytes).sum();
            if new.len() > budget.messages || new.len() > 1 && but_last >= budget.bytes {
                return Err(format!("{budget:?} delivered {} messages, {but_last} bytes before the last", new.len()));
            }
            if Instant::now() > deadline {
                return Err(format!("with {budget:?} only {} of 30 messages came", reader.count()));
            }
        }
    }
    equal("read with small budgets", &expected, &reader.values())
}

fn nothing_delivers_nothing<P: SourcePlace>(place: &mut P) -> Result<(), String> {
    let expected = fed(place, 5)?;
    let mut reader = Reader::open(place)?;
    for _ in 0..5 {
        reader.poll(Budget::NOTHING, Duration::from_millis(20))?;
    }
    if reader.count() > 0 || reader.finished() > 0 {
        return Err(format!("{} records, {} times finished", reader.count(), reader.finished()));
    }
    reader.read(5)?;
    equal("read after polls that could deliver nothing", &expected, &reader.values())
}

fn pause_stops<P: SourcePlace>(place: &mut P) -> Result<(), String> {
    let expected = fed(place, 20)?;
    let mut reader = Reader::open(place)?;
    let deadline = Instant::now() + place.patience();
    while reader.count() == 0 && Instant::now() < deadline {
        reader.poll(Budget { messages: 5, ..ALL }, Duration::from_millis(100))?;
    }
    let assignment = reader.assignment()?;
    reader.pause(assignment)?;
    reader.is_quiet("the assignment is paused")?;
    if reader.finished() > 0 {
        return Err("a paused source said that it has finished".to_owned());
    }
    reader.resume(assignment)?;
    reader.read(20 - reader.count())?;
    equal("read with a pause in between", &expected, &reader.values())
}

fn finished_only_at_the_end<P: SourcePlace>(place: &mut P) -> Result<(), String> {
    let expected = fed(place, 10)?;
    let mut reader = Reader::open(place)?;
    reader.read(10)?;
    equal("read before the end", &expected, &reader.values())?;
    let deadline = Instant::now() + place.patience();
    while place.ends() && reader.finished() == 0 && Instant::now() < deadline {
        reader.poll(ALL, Duration::from_millis(100))?;
    }
    reader.is_quiet("everything was read")?;
    let expected = u32::from(place.ends());
    if reader.finished() != expected {
        return Err(format!("it said {} times that it has finished, expected {expected}", reader.finished()));
    }
    Ok(())
}

fn wait_is_bounded<P: SourcePlace>(place: &mut P) -> Result<(), String> {
    const WAIT: Duration = Duration::from_millis(50);
    /// A busy machine may take this long to give a thread its turn; a source that waits for a message takes for ever.
    const SLACK: Duration = Duration::from_secs(3);
    fed(place, 1)?;
    let mut reader = Reader::open(place)?;
    reader.read(1)?;
    for budget in [ALL, Budget::NOTHING] {
        let begin = Instant::now();
        reader.poll(budget, WAIT)?;
        if begin.elapsed() > WAIT + SLACK {
            return Err(format!("a poll with a wait of {WAIT:?} took {:?}", begin.elapsed()));
        }
    }
    Ok(())
}

fn fed<P: SourcePlace>(place: &mut P, count: usize) -> Result<Vec<String>, String> {
    let messages = minimal(count);
    place.feed(&messages)?;
    Ok(values(&place.expected(&messages)))
}

fn equal(what: &str, expected: &[String], found: &[String]) -> Result<(), String> {
    if expected == found { Ok(()) } else { Err(format!("{what}: expected {expected:?}, found {found:?}")) }
}

/// What may be acknowledged durably at all.
fn remembers(mode: AckMode) -> bool {
    mode != AckMode::None
}
