use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::specimens::{minimal, nulls, same, specimens, valued, values};
use super::{Exemption, Failure, Report, Rule, run};
use crate::{Confirm, Fate, Message, SendError, Sink, Token};

/// Makes places where a sink of this connector can be tried.
pub trait SinkFactory {
    /// What it makes.
    type Place: SinkPlace;

    /// A fresh place with nothing in it: each rule is tried on one of its own.
    ///
    /// # Errors
    /// What went wrong, for a person.
    fn place(&self) -> Result<Self::Place, String>;
}

/// One topic or file.
pub trait SinkPlace {
    /// Opens a sink of this place, with a queue that [`burst`](SinkPlace::burst) messages fill.
    ///
    /// # Errors
    /// What went wrong, for a person.
    fn open(&mut self, confirm: Arc<dyn Confirm>) -> Result<Box<dyn Sink>, String>;

    /// Everything that is stored, in the order of each partition, read by other means than the sink's own.
    ///
    /// # Errors
    /// What went wrong, for a person.
    fn read(&mut self) -> Result<Vec<Message>, String>;

    /// A message that this sink will never take. Without one an exemption from [`Rule::RefusedAlone`] is needed.
    fn unacceptable(&self) -> Option<Message>;

    /// Holds what the sink that is open sends, as a link that stands still, until [`let_through`](SinkPlace::let_through).
    /// False where a place cannot.
    ///
    /// # Errors
    /// What went wrong, for a person.
    fn hold(&mut self) -> Result<bool, String> {
        Ok(false)
    }

    /// Lets through what was held, and waits until all of it has arrived that a sink which was given up leaves behind.
    ///
    /// # Errors
    /// Also when it does not come to an end.
    fn let_through(&mut self) -> Result<(), String> {
        Ok(())
    }

    /// So many messages, sent without a pause, meet a full queue.
    fn burst(&self) -> usize {
        20_000
    }

    /// How long storing what was sent may take.
    fn patience(&self) -> Duration {
        Duration::from_secs(60)
    }
}

/// Tries a sink.
///
/// # Errors
/// The first rule that is broken, with what was seen.
pub fn sink<F: SinkFactory>(factory: &F, exemptions: &[Exemption]) -> Result<Report, Failure> {
    run(&Rule::OF_SINKS, exemptions, |rule| {
        let mut tried = Tried::open(factory.place()?)?;
        match rule {
            Rule::BytesKept => carries(&mut tried, &specimens()),
            Rule::NullIsNotEmpty => carries(&mut tried, &nulls()),
            Rule::OrderKept => order_kept(&mut tried),
            Rule::ConfirmedOnce => confirmed_once(&mut tried),
            Rule::ConfirmedIsReadable => confirmed_is_readable(&mut tried),
            Rule::FullIsBackPressure => full_is_back_pressure(&mut tried),
            Rule::RefusedAlone => refused_alone(&mut tried),
            Rule::AbandonEnds => abandon_ends(tried),
            _ => drain_waits(&mut tried),
        }
    })
}

/// A sink with its place and what it has confirmed.
struct Tried<P> {
    place: P,
    sink: Box<dyn Sink>,
    fates: Arc<Fates>,
    patience: Duration,
}

/// How each token was confirmed, as often as it was.
#[derive(Default)]
struct Fates {
    of: Mutex<HashMap<Token, Vec<String>>>,
    new: Condvar,
}

const STORED: &str = "stored";
const REFUSED: &str = "refused";

impl Confirm for Fates {
    fn confirm(&self, token: Token, fate: Fate) {
        let fate = match fate {
            Fate::Stored(_) => STORED.to_owned(),
            Fate::Refused(_) => REFUSED.to_owned(),
            Fate::Failed(error) => format!("failed: {error}"),
        };
        self.lock().entry(token).or_default().push(fate);
        self.new.notify_all();
    }
}

impl Fates {
    fn lock(&self) -> MutexGuard<'_, HashMap<Token, Vec<String>>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, token: Token) -> Vec<String> {
        self.lock().get(&token).cloned().unwrap_or_default()
    }

    fn wait_for(&self, token: Token, patience: Duration) -> Vec<String> {
        let absent = |fates: &mut HashMap<_, _>| !fates.contains_key(&token);
        drop(self.new.wait_timeout_while(self.lock(), patience, absent).unwrap_or_else(PoisonError::into_inner));
        self.of(token)
    }
}

impl<P: SinkPlace> Tried<P> {
    fn open(mut place: P) -> Result<Self, String> {
        let fates = Arc::new(Fates::default());
        let confirm: Arc<dyn Confirm> = Arc::<Fates>::clone(&fates);
        let sink = place.open(confirm)?;
        let patience = place.patience();
        sink.check(patience).map_err(|error| format!("the check of a place that is there failed: {error}"))?;
        Ok(Self { place, sink, fates, patience })
    }

    /// Sends all of them, with tokens from this one on, and returns how often the queue was full.
    fn send(&self, messages: &[Message], first: u64) -> Result<u64, String> {
        send(self.sink.as_ref(), messages, first, self.patience)
    }

    fn drained(&self) -> Result<(), String> {
        match self.sink.drain(self.patience) {
            0 => Ok(()),
            left => Err(format!("{left} messages were not confirmed within {:?}", self.patience)),
        }
    }

    fn all_stored(&self, count: u64) -> Result<(), String> {
        for token in 0..count {
            let fates = self.fates.of(Token(token));
            if fates != [STORED] {
                return Err(format!("message {token} was confirmed {fates:?}, expected once as stored"));
            }
        }
        Ok(())
    }
}

fn send(sink: &dyn Sink, messages: &[Message], first: u64, patience: Duration) -> Result<u64, String> {
    let deadline = Instant::now() + patience;
    let mut full = 0;
    for (token, message) in (first..).zip(messages) {
        loop {
            match sink.send(message, Token(token)) {
                Ok(()) => break,
                Err(SendError::Full) if Instant::now() < deadline => {
                    full += 1;
                    sink.wait_for_room(Duration::from_millis(100));
                }
                Err(error) => return Err(format!("message {token} was not taken: {error}")),
            }
        }
    }
    Ok(full)
}

fn carries<P: SinkPlace>(tried: &mut Tried<P>, messages: &[Message]) -> Result<(), String> {
    // One key for all would keep the order, but the keys are among what is tried. So one after the other.
    for (token, message) in (0..).zip(messages) {
        tried.send(std::slice::from_ref(message), token)?;
        tried.drained()?;
    }
    let mut found = tried.place.read()?;
    if found.len() != messages.len() {
        return Err(format!("{} messages were stored, {} read", messages.len(), found.len()));
    }
    // Messages of different keys may lie in different partitions, so each is looked for.
    for message in messages {
        let at =
            found.iter().position(|found| same(std::slice::from_ref(message), std::slice::from_ref(found)).is_ok());
        match at {
            Some(index) => drop(found.swap_remove(index)),
            None => return Err(format!("not found as it was sent: {message:?}; found {found:?}")),
        }
    }
    Ok(())
}

fn order_kept<P: SinkPlace>(tried: &mut Tried<P>) -> Result<(), String> {
    const EACH: u64 = 500;
    let sent: Vec<Vec<Message>> = ["left", "right"]
        .map(|thread| {
            let keyed = |number| Message { key: Some(thread.into()), ..valued(format!("{thread}-{number:06}")) };
            (0..EACH).map(keyed).collect()
        })
        .into();
    let (sink, patience) = (tried.sink.as_ref(), tried.patience);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..)
            .zip(&sent)
            .map(|(number, messages)| scope.spawn(move || send(sink, messages, number * EACH, patience)))
            .collect();
        let results = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("it panicked".to_owned())));
        results.collect::<Result<Vec<_>, _>>()
    })?;
    tried.drained()?;
    tried.all_stored(2 * EACH)?;
    let stored = values(&tried.place.read()?);
    for messages in &sent {
        let expected = values(messages);
        let found: Vec<&String> = stored.iter().filter(|value| expected.contains(value)).collect();
        if found.len() != expected.len() || found.iter().zip(&expected).any(|(found, expected)| *found != expected) {
            return Err(format!("one thread's messages of one key are stored as {found:?}"));
        }
    }
    Ok(())
}

fn confirmed_once<P: SinkPlace>(tried: &mut Tried<P>) -> Result<(), String> {
    tried.send(&minimal(500), 0)?;
    tried.drained()?;
    tried.all_stored(500)?;
    let (confirmed, read) = (tried.fates.lock().len(), tried.place.read()?.len());
    if (confirmed, read) != (500, 500) {
        return Err(format!("500 messages were sent, {confirmed} confirmed and {read} read"));
    }
    Ok(())
}

fn confirmed_is_readable<P: SinkPlace>(tried: &mut Tried<P>) -> Result<(), String> {
    for (token, message) in (0..).zip(minimal(5)) {
        tried.send(std::slice::from_ref(&message), token)?;
        let fates = tried.fates.wait_for(Token(token), tried.patience);
        if fates != [STORED] {
            return Err(format!("message {token} was confirmed {fates:?}, expected once as stored"));
        }
        if !tried.place.read()?.iter().any(|found| found.value == message.value) {
            return Err(format!("message {token} was confirmed and cannot be read"));
        }
    }
    Ok(())
}

fn full_is_back_pressure<P: SinkPlace>(tried: &mut Tried<P>) -> Result<(), String> {
    let messages = minimal(tried.place.burst());
    let full = tried.send(&messages, 0)?;
    if full == 0 {
        return Err(format!("{} messages in one go never met a full queue", messages.len()));
    }
    tried.drained()?;
    tried.all_stored(messages.len() as u64)?;
    let mut found = values(&tried.place.read()?);
    found.sort_unstable();
    if found != values(&messages) {
        return Err(format!("{} messages were sent, {} read, not the same", messages.len(), found.len()));
    }
    Ok(())
}

fn refused_alone<P: SinkPlace>(tried: &mut Tried<P>) -> Result<(), String> {
    let Some(unacceptable) = tried.place.unacceptable() else {
        return Err("the place knows no message that is refused, which needs an exemption with its reason".to_owned());
    };
    let messages = minimal(2);
    tried.send(messages.get(..1).unwrap_or_default(), 0)?;
    let refused_at_once = match tried.sink.send(&unacceptable, Token(9)) {
        Ok(()) => false,
        Err(SendError::Refused(_)) => true,
        Err(error) => return Err(format!("expected a refusal, found: {error}")),
    };
    tried.send(messages.get(1..).unwrap_or_default(), 1)?;
    tried.drained()?;
    tried.all_stored(2)?;
    let fates = tried.fates.of(Token(9));
    let expected: &[&str] = if refused_at_once { &[] } else { &[REFUSED] };
    if fates != expected {
        return Err(format!("the refused message was confirmed {fates:?}, expected {expected:?}"));
    }
    let mut found = values(&tried.place.read()?);
    found.sort_unstable();
    if found == values(&messages) { Ok(()) } else { Err(format!("stored is {found:?}")) }
}

fn drain_waits<P: SinkPlace>(tried: &mut Tried<P>) -> Result<(), String> {
    if tried.sink.drain(Duration::ZERO) != 0 || tried.sink.unconfirmed() != 0 {
        return Err("a fresh sink says that something is unconfirmed".to_owned());
    }
    tried.send(&minimal(200), 0)?;
    tried.drained()?;
    let (unconfirmed, confirmed) = (tried.sink.unconfirmed(), tried.fates.lock().len());
    if (unconfirmed, confirmed) != (0, 200) {
        return Err(format!("after the drain {unconfirmed} are unconfirmed and {confirmed} of 200 confirmed"));
    }
    tried.all_stored(200)
}

fn abandon_ends<P: SinkPlace>(mut tried: Tried<P>) -> Result<(), String> {
    const MOST: u64 = 150;
    /// Together more than a socket takes in one go.
    const BYTES: usize = 64 * 1024;
    let held = tried.place.hold()?;
    let filler = "x".repeat(BYTES);
    let mut taken = 0;
    while taken < MOST {
        let message = Message { key: Some("k".into()), ..valued(format!("given-up-{taken:06}-{filler}")) };
        match tried.sink.send(&message, Token(taken)) {
            Ok(()) => taken += 1,
            Err(SendError::Full) => break,
            Err(error) => return Err(format!("message {taken} was not taken: {error}")),
        }
    }
    tried.sink.abandon();
    let mut given_up = 0;
    for token in 0..taken {
        match tried.fates.wait_for(Token(token), tried.patience).as_slice() {
            [fate] if fate == STORED => {}
            [fate] if fate != REFUSED => given_up += 1,
            fates => {
                return Err(format!("message {token} was confirmed {fates:?}, expected once, as stored or failed"));
            }
        }
    }
    if held && given_up == 0 {
        return Err("nothing was given up although nothing could arrive".to_owned());
    }
    match tried.sink.send(&valued("late".to_owned()), Token(taken)) {
        Err(SendError::Fatal(_)) => {}
        Ok(()) if given_up == 0 => tried.drained()?,
        other => return Err(format!("{given_up} messages were given up, and the next one was answered {other:?}")),
    }
    let Tried { mut place, sink, fates, .. } = tried;
    place.let_through()?;
    drop(sink);
    nothing_comes_behind(Tried::open(place)?, &fates, (taken, held))
}

/// Another sink stores a message, and nothing that the first one was given comes behind it.
fn nothing_comes_behind<P: SinkPlace>(
    mut next: Tried<P>,
    first: &Fates,
    (taken, held): (u64, bool),
) -> Result<(), String> {
    const NEXT: &str = "of the next owner";
    next.send(&[Message { key: Some("k".into()), ..valued(NEXT.to_owned()) }], 0)?;
    next.drained()?;
    next.all_stored(1)?;
    let found = values(&next.place.read()?);
    let Some(at) = found.iter().position(|value| value == NEXT) else {
        return Err("what another sink has stored cannot be read".to_owned());
    };
    let number = |value: &String| value.strip_prefix("given-up-")?.get(..6)?.parse::<u64>().ok();
    if let Some(late) = found.iter().skip(at).find_map(number).filter(|_| held) {
        return Err(format!("message {late} was given up and has arrived behind what another sink has stored since"));
    }
    let numbers: Vec<u64> = found.iter().filter_map(number).collect();
    match (0..taken).find(|token| first.of(Token(*token)) == [STORED] && !numbers.contains(token)) {
        Some(token) => Err(format!("message {token} was confirmed as stored and cannot be read")),
        None => Ok(()),
    }
}
