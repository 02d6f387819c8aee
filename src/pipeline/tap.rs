//! Where somebody may look at messages on their way: as they arrived, as a plugin answered, as they left. Nobody looking costs
//! the path one relaxed load for each slice, and for each confirmation of the sink.

mod form;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use portcullis_connector_api::{Channel, Message, Receipt, Token};
use portcullis_flow::FaultKind;

use super::assignments::Found;
use super::work::{Failure, Origin, Way, Work, sequence_bits};
use crate::plugin::Outcome;

pub(crate) use form::{MOST_PAYLOAD_BYTES, answer, arrival, departure, edits, excerpt, line, position};

/// Names where a message goes, for people; none where its sink will refuse it.
pub type PlaceOf = Arc<dyn Fn(&Message) -> Option<String> + Send + Sync>;

/// Who looks at the messages of one pipeline.
#[derive(Default)]
pub struct Taps {
    active: AtomicBool,
    /// Copied by those who tell, on the path: a reference count.
    watchers: Mutex<Arc<Watchers>>,
}

type Watchers = Vec<Arc<dyn Watcher>>;

/// Somebody who looks. Called on the threads of the path: in a bridge that runs it must never wait for anything. In a dry run
/// the path is there for nobody but the reader, and waits for it.
pub(crate) trait Watcher: Send + Sync {
    /// Asked before anything is copied.
    fn wants(&self, at: At<'_>, token: Token) -> bool;

    /// What was asked for.
    fn saw(&self, at: At<'_>, seen: &Seen<'_>);
}

/// A point of the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At<'a> {
    Source,
    Plugin(&'a str),
    /// Where messages leave, by whichever way.
    Sink,
}

/// One message at one point.
pub(crate) struct Seen<'a> {
    pub(crate) token: Token,
    /// Where it stood at its source; not known to the thread that confirms.
    pub(crate) position: Option<Position<'a>>,
    pub(crate) sight: Sight<'a>,
}

/// The place of a message at its source.
#[derive(Clone, Copy)]
pub(crate) struct Position<'a> {
    /// The topic, stream or file; not a subject within it.
    pub(crate) channel: &'a Channel,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}

/// What there is to see.
pub(crate) enum Sight<'a> {
    /// At the source: as it came, perhaps not readable.
    Arrived { message: &'a Message, redelivered: u32, defect: Option<&'a str> },
    /// At a plugin.
    Answered(Answer<'a>),
    /// At the sink: handed over, to this place.
    Sent { message: &'a Message, place: Option<String> },
    /// The sink has it.
    Stored(Receipt),
    /// It takes another way than the sink.
    Left(Departure<'a>),
    /// A plugin that may drop has dropped it.
    Dropped,
    /// The dead letter queue has it.
    Lettered(Receipt),
}

/// What a plugin made of a message.
pub(crate) struct Answer<'a> {
    pub(crate) before: &'a Message,
    pub(crate) after: &'a Message,
    pub(crate) outcome: &'a Outcome,
    /// Which call for this message, from 1.
    pub(crate) attempt: u32,
    pub(crate) time: Duration,
    pub(crate) fuel: u64,
    /// Requests of this call that were refused only because the run is dry.
    pub(crate) withheld: u64,
}

/// Why a message did not go to the sink.
pub(crate) struct Departure<'a> {
    pub(crate) kind: FaultKind,
    pub(crate) code: &'a str,
    /// A sentence that may quote the payload.
    pub(crate) detail: &'a str,
    pub(crate) way: Way,
    pub(crate) stage: &'static str,
    pub(crate) plugin: Option<&'a str>,
}

impl<'a> Departure<'a> {
    pub(super) fn of(failure: &'a Failure) -> Self {
        let plugin = match &failure.origin {
            Origin::Plugin(plugin) => Some(plugin.name()),
            Origin::Source | Origin::Sink => None,
        };
        Self {
            kind: failure.kind,
            code: failure.code.as_str(),
            detail: &failure.detail,
            way: failure.way,
            stage: failure.origin.stage(),
            plugin,
        }
    }
}

impl Position<'_> {
    pub(super) fn of(work: &Work) -> Position<'_> {
        Position { channel: &work.name.channel, partition: work.partition, offset: work.offset }
    }

    pub(super) fn found<'a>(found: &Found<'a>) -> Position<'a> {
        Position { channel: found.channel, partition: found.partition, offset: found.offset }
    }
}

/// The number of a message among those of its assignment, from 0: the same at every point of its way, so that whoever looks
/// at each tenth sees the same ones everywhere.
pub(crate) fn number_of(token: Token) -> u64 {
    sequence_bits(token)
}

impl Taps {
    /// Who looks at the moment; none is one relaxed load.
    pub(super) fn watching(&self) -> Option<Watching> {
        if !self.active.load(Ordering::Relaxed) {
            return None;
        }
        Some(Watching(self.lock().clone()))
    }

    /// Looks until the returned value is dropped; a slice that has begun may still be told.
    pub(crate) fn add(self: &Arc<Self>, watcher: Arc<dyn Watcher>) -> Watch {
        let mut watchers = self.lock();
        Arc::make_mut(&mut watchers).push(watcher.clone());
        self.active.store(true, Ordering::Relaxed);
        drop(watchers);
        Watch { taps: self.clone(), watcher }
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Watchers>> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody looks for as long as this is there.
pub(crate) struct Watch {
    taps: Arc<Taps>,
    watcher: Arc<dyn Watcher>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watchers = self.taps.lock();
        Arc::make_mut(&mut watchers).retain(|other| !Arc::ptr_eq(other, &self.watcher));
        self.taps.active.store(!watchers.is_empty(), Ordering::Relaxed);
    }
}

/// Those who look, for one slice. There are few.
pub(super) struct Watching(Arc<Watchers>);

impl Watching {
    pub(super) fn wants(&self, at: At<'_>, token: Token) -> bool {
        self.0.iter().any(|watcher| watcher.wants(at, token))
    }

    pub(super) fn tell(&self, at: At<'_>, seen: &Seen<'_>) {
        for watcher in self.0.iter().filter(|watcher| watcher.wants(at, seen.token)) {
            watcher.saw(at, seen);
        }
    }
}

/// A look at one call of a plugin: what the message was before it, and when it began.
pub(super) struct Look<'a> {
    watching: &'a Watching,
    before: Message,
    withheld: u64,
    began: Instant,
}

impl<'a> Look<'a> {
    /// None where nobody wants to see this message at this plugin.
    pub(super) fn begin(watching: Option<&'a Watching>, plugin: &str, work: &Work, withheld: u64) -> Option<Self> {
        let watching = watching.filter(|watching| watching.wants(At::Plugin(plugin), work.token))?;
        Some(Self { watching, before: work.message.clone(), withheld, began: Instant::now() })
    }

    /// The call is over.
    pub(super) fn end(self, plugin: &str, work: &Work, outcome: &Outcome, fuel: u64, withheld: u64) {
        let answer = Answer {
            before: &self.before,
            after: &work.message,
            outcome,
            attempt: work.attempts + 1,
            time: self.began.elapsed(),
            fuel,
            withheld: withheld.saturating_sub(self.withheld),
        };
        let sight = Sight::Answered(answer);
        self.watching.tell(At::Plugin(plugin), &Seen { token: work.token, position: Some(Position::of(work)), sight });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Every(u64, AtomicUsize);

    impl Watcher for Every {
        fn wants(&self, at: At<'_>, token: Token) -> bool {
            at == At::Sink && number_of(token).is_multiple_of(self.0)
        }

        fn saw(&self, _: At<'_>, _: &Seen<'_>) {
            self.1.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn pass(taps: &Taps) {
        for number in 0..100 {
            if let Some(watching) = taps.watching() {
                let seen = Seen { token: Token(number), position: None, sight: Sight::Dropped };
                watching.tell(At::Sink, &seen);
                watching.tell(At::Source, &seen);
            }
        }
    }

    #[test]
    fn each_sees_what_it_asked_for_and_nothing_after_its_end() {
        let taps = Arc::new(Taps::default());
        let (tenth, third) = (Arc::new(Every(10, AtomicUsize::new(0))), Arc::new(Every(3, AtomicUsize::new(0))));
        pass(&taps);
        let (one, other) = (taps.add(tenth.clone()), taps.add(third.clone()));
        pass(&taps);
        drop(one);
        pass(&taps);
        drop(other);
        pass(&taps);
        assert_eq!((tenth.1.load(Ordering::Relaxed), third.1.load(Ordering::Relaxed)), (10, 68));
        assert!(taps.watching().is_none());
    }
}
