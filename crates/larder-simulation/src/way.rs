//! The way of one process to the servers, watched: what it asks about leases, and what it hears.

use std::sync::{Arc, Weak};
use std::time::Duration;

use larder_core::testing::{Bytes, TestRemote};
use larder_core::{
    BoxFuture, LeaseAnswer, LeaseRequest, Moment, Remote, RemoteError, Runtime, Store, StoreLease, Stored,
    Values, defaults, forward_remote,
};

use crate::executor::Machine;
use crate::site::Site;

pub(crate) struct Way {
    remote: Arc<TestRemote>,
    machine: Arc<Machine>,
    site: Weak<Site>,
}

impl Way {
    pub(crate) fn new(site: &Arc<Site>) -> Arc<Self> {
        Arc::new(Way {
            remote: site.remote.clone(),
            machine: site.machine.clone(),
            site: Arc::downgrade(site),
        })
    }

    /// A call about a lease that this process has.
    async fn about<T>(
        &self,
        token: u64,
        ends: bool,
        call: impl Future<Output = Result<T, RemoteError>>,
    ) -> Result<T, RemoteError> {
        if let Some(site) = self.site.upgrade() {
            site.calls(token, ends);
        }
        let mut unanswered = Calling { way: self, token, answered: false };
        let answer = call.await;
        unanswered.answered = answer.is_ok();
        answer
    }
}

/// A call under way, until it is answered or dropped.
struct Calling<'a> {
    way: &'a Way,
    token: u64,
    answered: bool,
}

impl Drop for Calling<'_> {
    fn drop(&mut self) {
        if let Some(site) = self.way.site.upgrade() {
            site.called(self.token, self.answered);
        }
    }
}

/// The question for a lease, until it is answered or dropped.
struct Asking<'a> {
    way: &'a Way,
    key: &'a [u8],
    token: u64,
    answer: Option<LeaseAnswer>,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if let Some(site) = self.way.site.upgrade() {
            site.told(self.key, self.token, self.answer.as_ref());
        }
    }
}

/// So long a step may take to be taken.
const SLACK: Duration = Duration::from_millis(10);

/// A look at some keys, until it is answered or dropped.
struct Looking<'a> {
    way: &'a Way,
    keys: &'a [&'a [u8]],
    began: Moment,
    answered: bool,
}

impl<'a> Looking<'a> {
    fn new(way: &'a Way, keys: &'a [&'a [u8]]) -> Self {
        Looking { way, keys, began: way.machine.now(), answered: false }
    }
}

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        // What is left when it is answered may be over when the next step is taken.
        let spent = self.way.machine.now().since(self.began) + SLACK >= defaults::REMOTE_BUDGET;
        if let (true, Some(site)) = (spent || !self.answered, self.way.site.upgrade()) {
            self.keys.iter().for_each(|key| site.gives_up_look(key));
        }
    }
}

impl Remote for Way {
    fn get<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Bytes>, RemoteError>> {
        Box::pin(async move {
            let keys = [key];
            let mut looking = Looking::new(self, &keys);
            let value = self.remote.get(key).await;
            looking.answered = true;
            value
        })
    }

    fn get_many<'a>(&'a self, keys: &'a [&'a [u8]]) -> BoxFuture<'a, Values> {
        Box::pin(async move {
            let mut looking = Looking::new(self, keys);
            let values = self.remote.get_many(keys).await;
            looking.answered = true;
            values
        })
    }

    fn lease<'a>(
        &'a self,
        key: &'a [u8],
        request: &'a LeaseRequest,
    ) -> BoxFuture<'a, Result<LeaseAnswer, RemoteError>> {
        Box::pin(async move {
            if let Some(site) = self.site.upgrade() {
                site.asks(key, request);
            }
            let mut asking = Asking { way: self, key, token: request.token, answer: None };
            let answer = self.remote.lease(key, request).await;
            asking.answer = answer.as_ref().ok().cloned();
            answer
        })
    }

    fn extend<'a>(
        &'a self,
        key: &'a [u8],
        token: u64,
        life: Duration,
    ) -> BoxFuture<'a, Result<bool, RemoteError>> {
        Box::pin(self.about(token, false, self.remote.extend(key, token, life)))
    }

    fn release<'a>(
        &'a self,
        key: &'a [u8],
        token: u64,
        shared: bool,
    ) -> BoxFuture<'a, Result<(), RemoteError>> {
        Box::pin(self.about(token, true, self.remote.release(key, token, shared)))
    }

    fn store<'a>(&'a self, key: &'a [u8], store: Store) -> BoxFuture<'a, Result<Stored, RemoteError>> {
        Box::pin(async move {
            let stored = match store.lease {
                StoreLease::Ends(token) => self.about(token, true, self.remote.store(key, store)).await,
                StoreLease::Apart | StoreLease::Breaks => self.remote.store(key, store).await,
                // What is given back stays in memory, whatever is there.
                StoreLease::Yields => return self.remote.store(key, store).await,
            };
            if let (Ok(Stored::Overtaken), Some(site)) = (&stored, self.site.upgrade()) {
                site.overtaken(key);
            }
            stored
        })
    }

    forward_remote! {
        remote: wakes reserve give_back remove open append scan head follow history page discard
            connect link log_link close describe
    }
}
