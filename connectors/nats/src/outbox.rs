//! What a sink has taken and not confirmed, in the order in which it was taken. The lanes put messages in; the task that
//! owns the connection sends them, learns of their fates and, on the next connection, starts again with the first open one.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_nats::{HeaderMap, Subject};
use portcullis_connector_api::{
    Bytes, Confirm, ConnectorError, ErrorKind, Fate, Message, RefusalKind, SendError, Token,
};
use tokio::sync::Notify;

use crate::carry::{self, Carried};
use crate::health::{Health, Worse};
use crate::settings::Window;
use crate::{Count, Counters};

pub(crate) struct Outbox {
    slots: Mutex<Slots>,
    bound: Window,
    /// Handed over and not confirmed.
    open: AtomicU64,
    bytes: AtomicUsize,
    /// Only grows: who waits for a confirmation sees one also where another message was taken meanwhile.
    settled: AtomicU64,
    confirm: Arc<dyn Confirm>,
    /// Something is there to be sent, or the end is near.
    pub(crate) wake: Notify,
    waiting: AtomicUsize,
    gate: Mutex<()>,
    moved: Condvar,
    pub(crate) health: Health,
    pub(crate) counters: Arc<Counters>,
}

#[derive(Default)]
struct Slots {
    /// From the oldest open message to the newest; the front is never a finished one.
    ring: VecDeque<Slot>,
    /// The number of the ring's front.
    base: u64,
    /// Where the next one to be sent is looked for.
    next: u64,
    sent: usize,
    closed: bool,
}

struct Slot {
    /// Kept for the case that it must be sent again.
    message: Message,
    subject: Subject,
    id: Option<String>,
    /// In NATS's form, until it is sent for the first time.
    carried: Option<Carried>,
    token: Token,
    bytes: usize,
    state: State,
    was_sent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Sent,
    /// The server could not take it; to be sent again when the others are answered.
    Postponed,
    /// To be sent, or sent again, when it is known that somebody takes its subject.
    Parked,
    Done,
}

/// Places for messages behind one that is not answered, in windows: what is answered among them holds its place, and not more.
const WINDOWS_BEHIND: usize = 4;

/// One message to be sent.
pub(crate) struct Outgoing {
    pub(crate) number: u64,
    pub(crate) subject: Subject,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Bytes,
}

impl Outbox {
    pub(crate) fn new(bound: Window, confirm: Arc<dyn Confirm>, counters: Arc<Counters>) -> Self {
        Self {
            slots: Mutex::default(),
            bound,
            open: AtomicU64::new(0),
            bytes: AtomicUsize::new(0),
            settled: AtomicU64::new(0),
            confirm,
            wake: Notify::new(),
            waiting: AtomicUsize::new(0),
            gate: Mutex::default(),
            moved: Condvar::new(),
            health: Health::default(),
            counters,
        }
    }

    /// Takes a message, unless the window is full.
    pub(crate) fn take(
        &self,
        message: &Message,
        subject: &str,
        id: Option<String>,
        token: Token,
    ) -> Result<(), SendError> {
        if let Some(verdict) = self.health.verdict() {
            return Err(SendError::Fatal(verdict));
        }
        if self.is_full() {
            return Err(SendError::Full);
        }
        // On the lane, where there are several of them, and outside of the lock.
        let carried = carry::encode(message);
        self.counters.add(Count::Encoded, u64::from(carried.encoded));
        let bytes = message.size_bytes() + subject.len();
        let slot = Slot {
            message: message.clone(),
            subject: Subject::from(subject),
            id,
            carried: Some(carried),
            token,
            bytes,
            state: State::Waiting,
            was_sent: false,
        };
        let mut slots = self.slots();
        if slots.closed {
            return Err(SendError::Fatal(ConnectorError::new(ErrorKind::Fatal, "the sink is closed")));
        }
        // Another lane may have taken the last place meanwhile.
        if self.is_full() || slots.ring.len() >= self.bound.messages.saturating_mul(WINDOWS_BEHIND) {
            return Err(SendError::Full);
        }
        self.open.fetch_add(1, Ordering::SeqCst);
        self.bytes.fetch_add(bytes, Ordering::SeqCst);
        slots.ring.push_back(slot);
        drop(slots);
        self.wake.notify_one();
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.open.load(Ordering::SeqCst) >= self.bound.messages as u64
            || self.bytes.load(Ordering::SeqCst) >= self.bound.bytes
    }

    /// The next messages to be sent, in order.
    pub(crate) fn next(&self, at_most: usize, into: &mut Vec<Outgoing>) {
        let mut slots = self.slots();
        let (base, end) = (slots.base, slots.base + slots.ring.len() as u64);
        let mut number = slots.next.max(base);
        let mut resent = 0;
        while number < end && into.len() < at_most {
            let Some(slot) = slots.at(number).filter(|slot| slot.state == State::Waiting) else {
                number += 1;
                continue;
            };
            let carried = slot.carried.take().unwrap_or_else(|| carry::encode(&slot.message));
            let mut headers = carried.headers;
            if let Some(id) = &slot.id {
                carry::put(&mut headers, "Nats-Msg-Id", id);
            }
            resent += u64::from(slot.was_sent);
            slot.state = State::Sent;
            into.push(Outgoing { number, subject: slot.subject.clone(), headers, payload: carried.payload });
            slots.sent += 1;
            number += 1;
        }
        slots.next = number;
        drop(slots);
        self.counters.add(Count::Resent, resent);
    }

    /// How many were sent and have no answer.
    pub(crate) fn in_flight(&self) -> usize {
        self.slots().sent
    }

    /// The first of those that were sent and have no answer.
    pub(crate) fn oldest_in_flight(&self) -> Option<u64> {
        let slots = self.slots();
        (slots.base..).zip(&slots.ring).find(|(_, slot)| slot.state == State::Sent).map(|(number, _)| number)
    }

    /// The subjects of those before this one that were sent and have no answer.
    pub(crate) fn subjects_in_flight(&self, before: u64) -> Vec<Subject> {
        let slots = self.slots();
        let numbered = (slots.base..before).zip(&slots.ring).filter(|(_, slot)| slot.state == State::Sent);
        numbered.map(|(_, slot)| slot.subject.clone()).collect()
    }

    /// The subject of a message that is open.
    pub(crate) fn subject(&self, number: u64) -> Option<Subject> {
        self.slots().at(number).filter(|slot| slot.state != State::Done).map(|slot| slot.subject.clone())
    }

    /// Those that were sent and are not confirmed, postponed ones among them, and satisfy this.
    pub(crate) fn tried(&self, which: impl Fn(u64, &str) -> bool) -> Vec<u64> {
        let slots = self.slots();
        let tried = |slot: &Slot| match slot.state {
            State::Sent | State::Postponed => true,
            State::Parked => slot.was_sent,
            State::Waiting | State::Done => false,
        };
        let numbered = (slots.base..).zip(&slots.ring).filter(|(_, slot)| tried(slot));
        numbered.filter(|(number, slot)| which(*number, &slot.subject)).map(|(number, _)| number).collect()
    }

    /// Those that have no fate yet and satisfy this.
    pub(crate) fn unsettled(&self, which: impl Fn(&str) -> bool) -> Vec<u64> {
        let slots = self.slots();
        let open = (slots.base..).zip(&slots.ring).filter(|(_, slot)| slot.state != State::Done);
        open.filter(|(_, slot)| which(&slot.subject)).map(|(number, _)| number).collect()
    }

    /// The fates of messages, each by its number. What is not open any more is left out.
    pub(crate) fn settle(&self, fates: &mut Vec<(u64, Fate)>) {
        if fates.is_empty() {
            return;
        }
        let mut settled = Vec::with_capacity(fates.len());
        let mut bytes = 0;
        let mut slots = self.slots();
        for (number, fate) in fates.drain(..) {
            let Some(slot) = slots.at(number).filter(|slot| slot.state != State::Done) else { continue };
            let was_sent = std::mem::replace(&mut slot.state, State::Done) == State::Sent;
            if let Fate::Refused(refusal) = &fate {
                self.refused(refusal.kind);
            }
            // What it holds goes at once, also where an older one is still open.
            slot.message = Message::new("");
            slot.subject = Subject::from_static("");
            slot.id = None;
            slot.carried = None;
            bytes += slot.bytes;
            settled.push((slot.token, fate));
            slots.sent -= usize::from(was_sent);
        }
        while slots.ring.pop_front_if(|front| front.state == State::Done).is_some() {
            slots.base += 1;
        }
        drop(slots);
        let count = settled.len() as u64;
        for (token, fate) in settled {
            self.confirm.confirm(token, fate);
        }
        // After the confirmations, so that nobody who sees nothing open misses one.
        self.bytes.fetch_sub(bytes, Ordering::SeqCst);
        self.open.fetch_sub(count, Ordering::SeqCst);
        self.settled.fetch_add(count, Ordering::SeqCst);
        self.tell();
    }

    fn refused(&self, kind: RefusalKind) {
        self.health.worse(match kind {
            RefusalKind::Oversize => Worse::Oversize,
            RefusalKind::Rejected => Worse::Refused,
        });
        self.counters.add(Count::Oversize, u64::from(kind == RefusalKind::Oversize));
    }

    /// The server could not take it now.
    pub(crate) fn postpone(&self, number: u64) {
        let mut slots = self.slots();
        if let Some(slot) = slots.at(number).filter(|slot| slot.state == State::Sent) {
            slot.state = State::Postponed;
            slots.sent -= 1;
        }
    }

    /// This one, which `next` gave and which did not leave, waits until its subject is known.
    pub(crate) fn park(&self, number: u64) {
        let mut slots = self.slots();
        if let Some(slot) = slots.at(number).filter(|slot| slot.state == State::Sent) {
            slot.state = State::Parked;
            slots.sent -= 1;
        }
    }

    /// The same for those of a subject that left and have no answer.
    pub(crate) fn park_tried(&self, subject: &str) {
        let mut slots = self.slots();
        let mut parked = 0;
        for slot in slots.ring.iter_mut().filter(|slot| slot.state == State::Sent && *slot.subject == *subject) {
            (slot.state, slot.was_sent) = (State::Parked, true);
            parked += 1;
        }
        slots.sent -= parked;
    }

    /// Those that wait for these subjects to be known need not any more. `postponed`: the server could not take them.
    pub(crate) fn unpark(&self, postponed: bool, which: impl Fn(&str) -> bool) {
        let mut slots = self.slots();
        let (base, mut first) = (slots.base, slots.next);
        let parked = (base..).zip(&mut slots.ring).filter(|(_, slot)| slot.state == State::Parked);
        for (number, slot) in parked.filter(|(_, slot)| which(&slot.subject)) {
            slot.state = if postponed { State::Postponed } else { State::Waiting };
            first = first.min(number);
        }
        slots.next = first;
    }

    /// Those from this one on, which `next` gave last, did not leave.
    pub(crate) fn put_back(&self, from: u64) {
        let mut slots = self.slots();
        let (base, mut back) = (slots.base, 0);
        for (_, slot) in
            (base..).zip(&mut slots.ring).filter(|(number, slot)| *number >= from && slot.state == State::Sent)
        {
            slot.state = State::Waiting;
            back += 1;
        }
        slots.sent -= back;
        slots.next = slots.next.min(from);
    }

    /// Postponed messages may be sent again. False where there are none.
    pub(crate) fn resume(&self) -> bool {
        self.restart(|state| state == State::Postponed) > 0
    }

    /// Everything that is open is to be sent again: the connection is another one.
    pub(crate) fn start_again(&self) {
        self.restart(|state| matches!(state, State::Postponed | State::Sent));
    }

    fn restart(&self, which: impl Fn(State) -> bool) -> usize {
        let mut slots = self.slots();
        let mut restarted = 0;
        for slot in slots.ring.iter_mut().filter(|slot| which(slot.state)) {
            slot.state = State::Waiting;
            slot.was_sent = true;
            restarted += 1;
        }
        slots.sent = slots.ring.iter().filter(|slot| slot.state == State::Sent).count();
        slots.next = slots.base;
        restarted
    }

    /// No message is taken any more. Those that are left are ended by [`close`](Self::close), once nothing sends them.
    pub(crate) fn give_up(&self) {
        let why = "the sink was given up with messages that no server had confirmed";
        self.health.died(&ConnectorError::new(ErrorKind::Fatal, why));
    }

    /// Ends every message that is left, so that each is confirmed once.
    pub(crate) fn close(&self) {
        let mut slots = self.slots();
        slots.closed = true;
        let numbers = slots.base..slots.base + slots.ring.len() as u64;
        drop(slots);
        let why = || {
            self.health.verdict().unwrap_or_else(|| {
                ConnectorError::new(ErrorKind::Retriable, "closed before the server confirmed a message")
            })
        };
        let mut fates = numbers.map(|number| (number, Fate::Failed(why()))).collect();
        self.settle(&mut fates);
    }

    pub(crate) fn unconfirmed(&self) -> u64 {
        self.open.load(Ordering::SeqCst)
    }

    /// Waits until something is confirmed, or for `wait`.
    pub(crate) fn wait_for_room(&self, wait: Duration) {
        let seen = self.settled.load(Ordering::SeqCst);
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        // `tell` takes the gate after it has seen the waiting count, so a confirmation is either seen here or wakes.
        let unmoved = |_: &mut ()| {
            self.settled.load(Ordering::SeqCst) == seen && self.unconfirmed() > 0 && !self.health.is_dead()
        };
        let waited = self.moved.wait_timeout_while(gate, wait, unmoved);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    /// Waits until nothing is open, or for `wait`.
    pub(crate) fn drain(&self, wait: Duration) -> u64 {
        let deadline = Instant::now() + wait;
        loop {
            let open = self.unconfirmed();
            let left = deadline.saturating_duration_since(Instant::now());
            if open == 0 || left.is_zero() {
                return open;
            }
            self.wait_for_room(left.min(Duration::from_millis(100)));
        }
    }

    fn tell(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            drop(self.gate.lock().unwrap_or_else(PoisonError::into_inner));
            self.moved.notify_all();
        }
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots {
    fn at(&mut self, number: u64) -> Option<&mut Slot> {
        let index = number.checked_sub(self.base)?;
        self.ring.get_mut(usize::try_from(index).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nobody;

    impl Confirm for Nobody {
        fn confirm(&self, _: Token, _: Fate) {}
    }

    fn outbox(messages: usize, taken: u64) -> Outbox {
        let outbox = Outbox::new(Window { messages, bytes: 1 << 20 }, Arc::new(Nobody), Arc::default());
        for token in 0..taken {
            outbox.take(&Message::new("in"), "s", None, Token(token)).unwrap();
        }
        outbox
    }

    fn given(outbox: &Outbox) -> Vec<u64> {
        let mut outgoing = Vec::new();
        outbox.next(usize::MAX, &mut outgoing);
        outgoing.iter().map(|outgoing| outgoing.number).collect()
    }

    fn stored(outbox: &Outbox, number: u64) {
        let receipt = portcullis_connector_api::Receipt::default();
        outbox.settle(&mut vec![(number, Fate::Stored(receipt))]);
    }

    #[test]
    fn what_did_not_leave_is_given_again_and_is_neither_in_doubt_nor_sent_again() {
        let outbox = outbox(10, 5);
        assert_eq!(given(&outbox), [0, 1, 2, 3, 4]);
        outbox.put_back(2);
        assert_eq!((outbox.in_flight(), outbox.tried(|_, _| true)), (2, vec![0, 1]));
        assert_eq!(given(&outbox), [2, 3, 4]);
        assert_eq!(outbox.counters.of(Count::Resent), 0);
        outbox.start_again();
        assert_eq!(given(&outbox), [0, 1, 2, 3, 4]);
        assert_eq!(outbox.counters.of(Count::Resent), 5);
    }

    #[test]
    fn what_is_answered_behind_a_message_without_an_answer_is_bounded_too() {
        let outbox = outbox(10, 1);
        assert_eq!(given(&outbox), [0]);
        let mut taken = 1;
        while outbox.take(&Message::new("in"), "s", None, Token(taken)).is_ok() {
            assert_eq!(given(&outbox), [taken]);
            stored(&outbox, taken);
            taken += 1;
            assert!(taken < 100, "no bound");
        }
        assert_eq!((taken, outbox.unconfirmed(), outbox.oldest_in_flight()), (40, 1, Some(0)));
        stored(&outbox, 0);
        outbox.take(&Message::new("in"), "s", None, Token(taken)).unwrap();
    }
}
