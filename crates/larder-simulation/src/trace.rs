//! What happened in a run, for people. Kept only where somebody is going to read it: a run is repeated for that.

use std::collections::VecDeque;
use std::fmt::Write as _;

use crate::executor::Time;

/// Events kept, at the most.
const KEPT: usize = 400_000;

/// One line.
#[derive(Clone, Debug)]
struct Event {
    at: Time,
    /// The row it is about; `None`: all of them.
    row: Option<usize>,
    text: String,
}

/// The events of one run.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    on: bool,
    events: VecDeque<Event>,
}

impl Trace {
    pub(crate) fn new(on: bool) -> Self {
        Trace { on, events: VecDeque::new() }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.on
    }

    pub(crate) fn say(&mut self, at: Time, row: Option<usize>, text: impl FnOnce() -> String) {
        if self.on {
            if self.events.len() == KEPT {
                self.events.pop_front();
            }
            self.events.push_back(Event { at, row, text: text() });
        }
    }

    /// The last `most` events, those of one row and those that concern all if one is given.
    pub(crate) fn last(&self, most: usize, row: Option<usize>) -> String {
        let about = |event: &&Event| row.is_none() || event.row.is_none() || event.row == row;
        let chosen: Vec<_> = self.events.iter().rev().filter(about).take(most).collect();
        let mut text = String::new();
        for event in chosen.into_iter().rev() {
            let (s, us) = (event.at / 1_000_000_000, event.at / 1000 % 1_000_000);
            // Writing to a string does not fail.
            let _ = writeln!(text, "{s:>5}.{us:06}  {}", event.text);
        }
        text
    }
}
