//! Writes down what the clients do and see, as the checker reads it.

use std::sync::Mutex;
use std::time::Instant;

use history_checker::Event;

/// Shared by all clients of a run; its clock is the history's.
pub struct Recorder {
    start: Instant,
    events: Mutex<Vec<Event>>,
}

impl Recorder {
    pub fn new() -> Self {
        Self { start: Instant::now(), events: Mutex::default() }
    }

    pub fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    pub fn push(&self, event: Event) {
        self.events.lock().expect("no holder panics").push(event);
    }

    pub fn into_events(self) -> Vec<Event> {
        self.events.into_inner().expect("no holder panics")
    }
}
