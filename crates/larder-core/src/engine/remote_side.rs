//! Reads and stores in the remote tier, behind budget and breaker. A fault here is never more than a miss.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::envelope::{Envelope, Reject};
use crate::event::{Event, Events};
use crate::log::{Driver, Verdict};
use crate::policy::defaults::LEASE_LIFE;
use crate::remote::{
    Breaker, LeaseAnswer, LeaseRequest, Permit, REJECTED_BYTES, Remote, RemoteError, Store, Stored,
};
use crate::runtime::{Moment, Runtime, within};

/// How long a store in the background may take.
pub(crate) const STORE_LIMIT: Duration = Duration::from_secs(2);

pub(crate) struct RemoteSide {
    pub(crate) remote: Arc<dyn Remote>,
    pub(crate) driver: Arc<Driver>,
    pub(crate) breaker: Arc<Breaker>,
    pub(crate) budget: Duration,
}

/// What the remote tier has under a key. With how its bytes begin, by which they are told from others.
pub(crate) enum Fetched {
    /// An entry of this key, unread and unverified.
    Envelope(Envelope, Bytes),
    /// Bytes that are no entry for this node.
    Rejected(Reject, Bytes),
    /// Nothing, or no answer.
    Nothing,
}

impl Fetched {
    /// What these bytes are to whoever asked for `key`.
    pub(crate) fn read(key: &[u8], bytes: &Bytes) -> Fetched {
        let head = bytes.slice(..bytes.len().min(REJECTED_BYTES));
        match Envelope::decode(bytes) {
            Ok(envelope) if envelope.key != key => Fetched::Rejected(Reject::Key, head),
            Ok(envelope) => Fetched::Envelope(envelope, head),
            Err(reject) => Fetched::Rejected(reject, head),
        }
    }
}

impl RemoteSide {
    /// One GET, within the budget of a read.
    pub(crate) async fn fetch(&self, runtime: &dyn Runtime, key: &[u8]) -> Fetched {
        match self.ask(runtime, self.budget, self.remote.get(key)).await {
            Some(Ok(Some(bytes))) => Fetched::read(key, &bytes),
            Some(Err(_)) => Fetched::Rejected(Reject::Foreign, Bytes::new()),
            Some(Ok(None)) | None => Fetched::Nothing,
        }
    }

    /// Several keys at once, within the budget of one read. A fault of one is a fault to the breaker, and a miss.
    pub(crate) async fn fetch_many(&self, runtime: &dyn Runtime, keys: &[&[u8]]) -> Vec<Fetched> {
        let nothing = || keys.iter().map(|_| Fetched::Nothing).collect();
        let Some(permit) = self.breaker.permit(runtime.now()) else { return nothing() };
        let Ok(answers) = within(runtime, self.budget, self.remote.get_many(keys)).await else {
            permit.failed(runtime.now());
            return nothing();
        };
        match answers.iter().all(|answer| answer.as_ref().err().is_none_or(RemoteError::is_wrong_type)) {
            true => permit.succeeded(),
            false => permit.failed(runtime.now()),
        }
        let read = |(key, answer): (&&[u8], Result<Option<Bytes>, RemoteError>)| match answer {
            Ok(Some(bytes)) => Fetched::read(key, &bytes),
            Ok(None) => Fetched::Nothing,
            Err(error) if error.is_wrong_type() => Fetched::Rejected(Reject::Foreign, Bytes::new()),
            Err(_) => Fetched::Nothing,
        };
        keys.iter().zip(answers).map(read).collect()
    }

    /// Asks for leave to load, within `limit`. `None`: no answer, so load without.
    pub(crate) async fn lease(
        &self,
        runtime: &dyn Runtime,
        key: &[u8],
        request: &LeaseRequest,
        limit: Duration,
    ) -> Option<LeaseAnswer> {
        self.ask(runtime, limit, self.remote.lease(key, request)).await?.ok()
    }

    /// Has a lease live on. `None`: no answer.
    pub(crate) async fn extend(&self, runtime: &dyn Runtime, key: &[u8], token: u64) -> Option<bool> {
        self.ask(runtime, STORE_LIMIT, self.remote.extend(key, token, LEASE_LIFE)).await?.ok()
    }

    /// Gives a lease back. Best effort: it runs out.
    pub(crate) async fn release(&self, runtime: &dyn Runtime, key: &[u8], token: u64, shared: bool) {
        self.ask(runtime, STORE_LIMIT, self.remote.release(key, token, shared)).await;
    }

    /// Counts bytes to a share. `None`: no answer.
    pub(crate) async fn reserve(
        &self,
        runtime: &dyn Runtime,
        share: &[u8],
        bytes: u64,
        life: Duration,
        limit: u64,
    ) -> Option<bool> {
        self.ask(runtime, STORE_LIMIT, self.remote.reserve(share, bytes, life, limit)).await?.ok()
    }

    /// Takes back what was counted to a share. Best effort: it runs out.
    pub(crate) async fn give_back(&self, runtime: &dyn Runtime, share: &[u8], bytes: u64, left: Duration) {
        self.ask(runtime, STORE_LIMIT, self.remote.give_back(share, bytes, left)).await;
    }

    /// The bytes under a key, for work in the background. `None`: no answer.
    pub(crate) async fn bytes(
        &self,
        runtime: &dyn Runtime,
        key: &[u8],
    ) -> Option<Result<Option<Bytes>, RemoteError>> {
        self.ask(runtime, STORE_LIMIT, self.remote.get(key)).await
    }

    /// One call behind the breaker. `None`: no answer, or one that says that the tier is not well; the only error it answers
    /// is that the key holds another type, which says nothing bad of the server.
    async fn ask<T>(
        &self,
        runtime: &dyn Runtime,
        limit: Duration,
        call: impl Future<Output = Result<T, RemoteError>>,
    ) -> Option<Result<T, RemoteError>> {
        let permit = self.breaker.permit(runtime.now())?;
        let began = runtime.now();
        match within(runtime, limit, call).await {
            Ok(Ok(answer)) => {
                self.succeeded(permit, runtime, began);
                Some(Ok(answer))
            }
            Ok(Err(error)) if error.is_wrong_type() => {
                permit.succeeded();
                Some(Err(error))
            }
            Ok(Err(_)) | Err(_) => {
                permit.failed(runtime.now());
                None
            }
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

    /// Removes damaged or dead bytes. Best effort: what stays is a miss again. False: perhaps it stays.
    pub(crate) async fn remove(&self, runtime: &dyn Runtime, events: &Events, key: crate::Key) -> bool {
        let Some(permit) = self.breaker.permit(runtime.now()) else { return false };
        let began = runtime.now();
        match within(runtime, STORE_LIMIT, self.remote.remove(key.as_bytes())).await {
            Ok(Ok(())) => {
                self.succeeded(permit, runtime, began);
                return true;
            }
            Ok(Err(error)) => {
                permit.failed(runtime.now());
                events.emit(|| Event::StoreError { key, error: error.to_string() });
            }
            Err(_) => permit.failed(runtime.now()),
        }
        false
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
