//! An observer that remembers.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::event::{Event, Observer};

/// Remembers every event, reads included.
#[derive(Default)]
pub struct Recorder {
    events: Mutex<Vec<Event>>,
}

impl Recorder {
    /// An observer that has seen nothing.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// What it has seen.
    pub fn events(&self) -> Vec<Event> {
        self.events.lock().clone()
    }

    /// The names of what it has seen, in order.
    pub fn names(&self) -> Vec<&'static str> {
        self.events.lock().iter().map(Event::name).collect()
    }

    /// How often it has seen events of this name.
    pub fn count(&self, name: &str) -> usize {
        self.events.lock().iter().filter(|e| e.name() == name).count()
    }
}

impl Observer for Recorder {
    fn on_event(&self, event: &Event) {
        self.events.lock().push(event.clone());
    }

    fn wants_reads(&self) -> bool {
        true
    }
}
