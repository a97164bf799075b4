//! The way to the values: said when it changes, and tried when it is new.

use std::sync::Arc;

use super::{CALL_LIMIT, Driver};
use crate::event::Event;
use crate::remote::Link;
use crate::runtime::within;

/// A key that nothing is stored under: no key begins with a `~`.
const PROBE: &[u8] = b"~";

impl Driver {
    /// Watches the connection to the values for as long as the cache lives.
    pub(super) async fn watch_connection(self: Arc<Self>) {
        let mut link = self.remote.link();
        let (mut connected, mut said) = (None, String::new());
        loop {
            let now = link.borrow_and_update().clone();
            match now {
                Link::Closed => return,
                Link::Down { reason } => {
                    if !reason.is_empty() && said != reason {
                        said.clone_from(&reason);
                        let remote = self.remote.describe();
                        self.events.emit(|| Event::RemoteConnectionFailed { remote, error: reason });
                    }
                }
                Link::Up { generation } if connected != Some(generation) => {
                    (connected, said) = (Some(generation), String::new());
                    let remote = self.remote.describe();
                    self.events.emit(|| Event::RemoteConnected { remote });
                    // An open breaker need not wait for its time, nor for a reader who would pay for the attempt.
                    self.breaker.probe_now();
                    if let Ok(Ok(_)) = within(&*self.runtime, CALL_LIMIT, self.remote.get(PROBE)).await {
                        self.breaker.succeeded();
                        self.returned.send_modify(|times| *times += 1);
                    }
                }
                Link::Up { .. } => {}
            }
            tokio::select! {
                biased;
                () = self.until_stopped() => return,
                changed = link.changed() => if changed.is_err() { return },
            }
        }
    }
}
