//! Reads and stores in the remote tier, behind budget and breaker. A fault here is never more than a miss.

use std::sync::Arc;
use std::time::Duration;

use crate::envelope::{Envelope, Reject};
use crate::event::{Event, Events};
use crate::log::{Driver, Verdict};
use crate::remote::{Breaker, Permit, Remote, RemoteError, Store, Stored};
use crate::runtime::{Moment, Runtime, within};

/// How long a store in the background may take.
const STORE_LIMIT: Duration = Duration::from_secs(2);

pub(crate) struct RemoteSide {
    pub(crate) remote: Arc<dyn Remote>,
    pub(crate) driver: Arc<Driver>,
    pub(crate) breaker: Arc<Breaker>,
    pub(crate) budget: Duration,
}

/// What the remote tier has under a key.
pub(crate) enum Fetched {
    /// An entry of this key, unread and unverified.
    Envelope(Envelope),
    /// Bytes that are no entry for this node.
    Rejected(Reject),
    /// Nothing, or no answer.
    Nothing,
}

impl RemoteSide {
    /// One GET, within the budget of a read.
    pub(crate) async fn fetch(&self, runtime: &dyn Runtime, key: &[u8]) -> Fetched {
        let Some(permit) = self.breaker.permit(runtime.now()) else { return Fetched::Nothing };
        let answer = match within(runtime, self.budget, self.remote.get(key)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) if error.is_wrong_type() => {
                permit.succeeded();
                return Fetched::Rejected(Reject::Foreign);
            }
            Ok(Err(_)) | Err(_) => {
                permit.failed(runtime.now());
                return Fetched::Nothing;
            }
        };
        permit.succeeded();
        let Some(bytes) = answer else { return Fetched::Nothing };
        match Envelope::decode(&bytes) {
            Ok(envelope) if envelope.key != key => Fetched::Rejected(Reject::Key),
            Ok(envelope) => Fetched::Envelope(envelope),
            Err(reject) => Fetched::Rejected(reject),
        }
    }

    /// Stores, in the background: with a deadline of its own.
    pub(crate) async fn store(
        &self,
        runtime: &dyn Runtime,
        key: &[u8],
        store: Store,
    ) -> Result<Stored, RemoteError> {
        let Some(permit) = self.breaker.permit(runtime.now()) else {
            return Err(RemoteError::disconnected("the breaker is open"));
        };
        let began = runtime.now();
        let stored = within(runtime, STORE_LIMIT, self.remote.store(key, store)).await;
        match stored {
            Ok(Ok(stored)) => {
                self.succeeded(permit, runtime, began);
                Ok(stored)
            }
            Ok(Err(error)) => {
                permit.failed(runtime.now());
                Err(error)
            }
            Err(_) => {
                permit.failed(runtime.now());
                Err(RemoteError::timeout(STORE_LIMIT))
            }
        }
    }

    /// A store may take longer than a read: that it got through in its own time says nothing to readers, who would go on
    /// paying their budget for a tier that is merely slow.
    fn succeeded(&self, permit: Permit<'_>, runtime: &dyn Runtime, began: Moment) {
        if runtime.now().since(began) <= self.budget {
            permit.succeeded();
        }
    }

    /// Removes damaged or dead bytes. Best effort: what stays is a miss again.
    pub(crate) async fn remove(&self, runtime: &dyn Runtime, events: &Events, key: crate::Key) {
        let Some(permit) = self.breaker.permit(runtime.now()) else { return };
        let began = runtime.now();
        match within(runtime, STORE_LIMIT, self.remote.remove(key.as_bytes())).await {
            Ok(Ok(())) => self.succeeded(permit, runtime, began),
            Ok(Err(error)) => {
                permit.failed(runtime.now());
                events.emit(|| Event::StoreError { key, error: error.to_string() });
            }
            Err(_) => permit.failed(runtime.now()),
        }
    }

    /// What the log says of an entry from here, and the local counter that verdict is good for.
    pub(crate) fn verdict(&self, envelope: &Envelope) -> (Verdict, u64) {
        let tags = envelope.tags.as_deref().unwrap_or_default();
        self.driver.node.check_remote(&envelope.key, tags, envelope.epoch)
    }

    pub(crate) fn close(&self) {
        self.remote.close();
    }
}

impl Drop for RemoteSide {
    fn drop(&mut self) {
        // The task that follows the log owns the driver: without this it would outlive a cache that nobody shut down.
        self.driver.stop();
    }
}
