//! Why the log does not do as asked: the last error of a round and of an append, told once when it changes.

use parking_lot::Mutex;

use super::Driver;
use crate::event::Event;
use crate::remote::{Link, RemoteError};

/// What is asked of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// To be read.
    Round,
    /// To take an invalidation.
    Append,
}

impl Asked {
    const fn as_str(self) -> &'static str {
        match self {
            Asked::Round => "round",
            Asked::Append => "append",
        }
    }
}

/// Of each the error of the last attempt; `None` if that went well.
#[derive(Default)]
pub(super) struct Troubles(Mutex<[Option<String>; 2]>);

impl Driver {
    /// Notes how an attempt has ended, and says so if the one before it ended otherwise.
    pub(super) fn note(&self, asked: Asked, error: Option<&RemoteError>) {
        let mut last = self.troubles.0.lock();
        let last_error = &mut last[asked as usize];
        let error = error.map(ToString::to_string);
        if *last_error != error {
            last_error.clone_from(&error);
            drop(last);
            self.events.emit(|| Event::LogTrouble { asked: asked.as_str(), error });
        }
    }

    /// Why the log does not do as asked; `None` when all is well. For people.
    pub(crate) fn trouble(&self) -> Option<String> {
        match &*self.remote.log_link().borrow() {
            Link::Up { .. } => {}
            Link::Down { reason } if reason.is_empty() => return Some("connecting".to_owned()),
            Link::Down { reason } => return Some(reason.clone()),
            Link::Closed => return Some("closed".to_owned()),
        }
        let [round, append] = self.troubles.0.lock().clone();
        // An append whose answer was lost may have been done: then nobody tries again.
        round.or(append.filter(|_| self.node.pending() > 0))
    }
}
