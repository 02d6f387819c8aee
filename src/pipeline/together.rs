//! Several messages at once at one stage, for a plugin that waits for the network: a lane that waited for each alone would
//! do one message a round trip.

use std::pin::pin;
use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, StreamExt};
use portcullis_audit::Recorder;
use tokio::time::sleep;

use super::Identity;
use super::chain::record;
use super::slot::Slot;
use super::tap::{Look, Watching};
use super::work::Work;
use crate::plugin::{Instance, Outcome};

/// Begins the next message whenever an instance is free, and gives all back in the order in which they came.
pub(super) async fn run(
    slot: &mut Slot,
    slice: impl ExactSizeIterator<Item = Work>,
    mut go_on: impl FnMut(&Work) -> bool,
    (identity, recorder, watching): (&Arc<Identity>, &Recorder, Option<&Watching>),
) -> Vec<(Work, Option<Outcome>)> {
    let mut done: Vec<Option<(Work, Option<Outcome>)>> = Vec::new();
    done.resize_with(slice.len(), || None);
    let mut finish = |number: usize, work: Work, outcome: Option<Outcome>| {
        if let Some(empty) = done.get_mut(number) {
            *empty = Some((work, outcome));
        }
    };
    let mut free: Vec<usize> = (0..slot.places.len()).rev().collect();
    let mut waiting = slice.enumerate();
    let mut running = FuturesUnordered::new();
    let mut window = pin!(sleep(slot.until_flush()));
    loop {
        while let Some(place) = free.pop() {
            let Some((number, work)) = waiting.next() else { break };
            if !go_on(&work) {
                finish(number, work, None);
                free.push(place);
                continue;
            }
            if let Some(fault) = slot.quarantined(place) {
                finish(number, work, Some(Outcome::Fault(fault)));
                free.push(place);
                continue;
            }
            running.push(call(
                Turn { place, number, work, instance: slot.take(place) },
                slot_parts(slot),
                identity,
                watching,
            ));
        }
        let next = tokio::select! {
            biased;
            next = running.next() => next,
            // A slice of calls that wait takes longer than a window of the audit.
            () = &mut window => {
                slot.flush_when_due(identity, recorder);
                window.set(sleep(slot.until_flush()));
                continue;
            }
        };
        let Some((turn, outcome, made)) = next else { break };
        if made {
            slot.replaced();
        }
        if let Some(instance) = turn.instance {
            slot.put(turn.place, instance);
        }
        slot.after(turn.place, &outcome, &turn.work, identity, recorder);
        slot.flush_when_due(identity, recorder);
        finish(turn.number, turn.work, Some(outcome));
        free.push(turn.place);
    }
    done.into_iter().flatten().collect()
}

/// A message with the instance that works on it.
struct Turn {
    place: usize,
    number: usize,
    work: Work,
    instance: Option<Instance>,
}

type Parts = (Arc<super::Stage>, Option<Arc<portcullis_net::Egress>>);

fn slot_parts(slot: &Slot) -> Parts {
    (slot.stage.clone(), slot.egress.clone())
}

/// One call, in an instance that is made where its place has none. True where it was made.
async fn call(
    mut turn: Turn,
    (stage, egress): Parts,
    identity: &Identity,
    watching: Option<&Watching>,
) -> (Turn, Outcome, bool) {
    let (mut instance, made) = match turn.instance.take() {
        Some(instance) => (instance, false),
        None => match stage.plugin.instantiate_waiting(egress.as_ref()).await {
            Ok(instance) => (instance, true),
            Err(fault) => return (turn, Outcome::Fault(fault), false),
        },
    };
    if egress.is_some() {
        instance.about(|| record(identity, turn.work.message.channel.clone(), &turn.work));
    }
    let look = Look::begin(watching, stage.plugin.name(), &turn.work, 0);
    let outcome = instance.process_waiting(&mut turn.work.message).await;
    if let Some(look) = look {
        look.end(stage.plugin.name(), &turn.work, &outcome, instance.fuel(), 0);
    }
    turn.instance = Some(instance);
    (turn, outcome, made)
}
