//! What the node has promised by each point of a trace, and what every record of it is.

use std::collections::BTreeMap;

use corelog::model::Uuid;

use crate::ledger::Value;

/// A partition of one topic; a topic made again under an old name is another one.
pub type Place = (Uuid, i32);

/// What became known to a client, in order.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    Created {
        place: Place,
    },
    /// Offsets below `end` were acknowledged, or read.
    Told {
        place: Place,
        end: i64,
        survives_power: bool,
    },
    /// A log start was asked for: it may hold from now on.
    StartAsked {
        place: Place,
        start: i64,
    },
    /// It was acknowledged: it must hold.
    StartTold {
        place: Place,
        start: i64,
    },
    DeletionAsked {
        topic: Uuid,
    },
    /// All shards have stopped, which makes everything durable.
    Stopped,
}

/// What holds for one partition.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Promise {
    /// Records below are there after a kill, and after a power loss.
    pub killed_end: i64,
    pub power_end: i64,
    pub start_asked: i64,
    pub start_told: i64,
}

/// All that holds at one point.
#[derive(Clone, Default)]
pub struct Promises {
    pub places: BTreeMap<Place, Promise>,
}

impl Promises {
    pub fn apply(&mut self, event: Event) {
        let promise = match event {
            Event::DeletionAsked { topic } => return self.places.retain(|place, _| place.0 != topic),
            Event::Stopped => {
                return self.places.values_mut().for_each(|promise| promise.power_end = promise.killed_end);
            }
            Event::Created { place } => {
                self.places.entry(place).or_default();
                return;
            }
            Event::Told { place, .. } | Event::StartAsked { place, .. } | Event::StartTold { place, .. } => {
                // Of a topic that is being deleted nothing is promised any more.
                let Some(promise) = self.places.get_mut(&place) else { return };
                promise
            }
        };
        match event {
            Event::Told { end, survives_power, .. } => {
                promise.killed_end = promise.killed_end.max(end);
                if survives_power {
                    promise.power_end = promise.power_end.max(end);
                }
            }
            Event::StartAsked { start, .. } => promise.start_asked = promise.start_asked.max(start),
            Event::StartTold { start, .. } => promise.start_told = promise.start_told.max(start),
            _ => unreachable!("handled above"),
        }
    }
}

/// Every record of the trace, by where it is.
#[derive(Default)]
pub struct History {
    pub records: BTreeMap<Place, BTreeMap<i64, Value>>,
    pub events: Vec<Event>,
    pub acknowledged: u64,
    pub violations: Vec<String>,
    /// What topics are called.
    pub names: BTreeMap<Uuid, &'static str>,
}

impl History {
    pub fn name(&self, place: &Place) -> String {
        format!("{}-{} ({})", self.names.get(&place.0).unwrap_or(&"?"), place.1, place.0)
    }

    pub fn note(&mut self, place: Place, offset: i64, value: Value) {
        if let Some(before) = self.records.entry(place).or_default().insert(offset, value)
            && before != value
        {
            self.violations.push(format!("{place:?} offset {offset} is {value:?}, and was {before:?}"));
        }
    }
}
