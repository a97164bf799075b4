//! Leases: one process at a time loads a key, as far as the remote tier can tell.
//!
//! A lease only saves work. What a load brings is fenced by its epoch, wherever it is written; so a lease that is lost, run
//! out or never granted costs a second load, never a wrong answer. Nothing here waits with a connection in its hands.
//!
//! Who holds one [releases](Lease) it with the store of what was loaded, or by dropping it: an error, a panic, a load that
//! was cancelled. One task extends all leases of the process for as long as there are any. Whoever was refused is rung for
//! by the remote tier, and asks again every now and then, for a ring may be lost.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::Engine;
use crate::event::Event;
use crate::key::{Identity, Key};
use crate::policy::defaults::LEASE_LIFE;
use crate::remote::Wake;
use crate::runtime::Moment;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, Notify};

/// How often leases are extended: twice before one runs out, and once more in reserve.
const EXTEND_EVERY: Duration = Duration::from_millis(2500);
const _: () = assert!(EXTEND_EVERY.as_millis() * 4 <= LEASE_LIFE.as_millis());
/// Extensions under way at one time.
const AT_ONCE: usize = 64;

/// The leases of this process, and those it waits for.
pub(crate) struct Leases {
    waiter: u64,
    waiting: Mutex<HashMap<Key, Vec<Arc<Bell>>, Identity>>,
    /// By their tokens, in order: what is sent for them does not depend on how a map hashes.
    held: Mutex<BTreeMap<u64, Held>>,
    extending: AtomicBool,
}

/// A lease that this process has.
#[derive(Clone)]
struct Held {
    key: Key,
    /// It is not extended beyond this: a load that takes longer is none that others should wait for.
    until: Moment,
}

/// Rung when the lease of a key ends.
#[derive(Default)]
struct Bell {
    rung: Notify,
    /// What its holder got was not for sharing.
    apart: AtomicBool,
}

impl Leases {
    pub(super) fn new(waiter: u64) -> Self {
        let (waiting, held) = Default::default();
        Leases { waiter, waiting, held, extending: AtomicBool::new(false) }
    }

    /// This process, to those it waits for.
    pub(crate) fn waiter(&self) -> u64 {
        self.waiter
    }

    fn ring(&self, wake: &Wake) {
        let waiting = self.waiting.lock();
        for bell in waiting.get(&Key::from_bytes(&wake.key)).into_iter().flatten() {
            if !wake.shared {
                bell.apart.store(true, Ordering::Release);
            }
            bell.rung.notify_one();
        }
    }

    fn ring_all(&self) {
        self.waiting.lock().values().flatten().for_each(|bell| bell.rung.notify_one());
    }

    /// How many leases this process has.
    pub(crate) fn held(&self) -> usize {
        self.held.lock().len()
    }
}

/// One who waits for the lease of a key to end. Made before the lease is asked for: a ring that comes before the answer
/// counts.
pub(crate) struct Waiting {
    engine: Arc<Engine>,
    key: Key,
    bell: Arc<Bell>,
}

impl Waiting {
    /// Waits until it is rung for. False: what the lease was for is not for sharing.
    pub(crate) async fn rung(&self) -> bool {
        self.bell.rung.notified().await;
        !self.bell.apart.load(Ordering::Acquire)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut waiting = self.engine.leases.waiting.lock();
        if let Some(bells) = waiting.get_mut(&self.key) {
            bells.retain(|bell| !Arc::ptr_eq(bell, &self.bell));
            if bells.is_empty() {
                waiting.remove(&self.key);
            }
        }
    }
}

/// A lease that this process has, or has asked for. Dropped, it is given back in the background.
pub(crate) struct Lease {
    engine: Arc<Engine>,
    key: Key,
    token: u64,
    state: State,
    shared: bool,
}

enum State {
    /// It may have been granted.
    Asked,
    Granted,
    /// There is nothing to give back.
    Ended,
}

impl Lease {
    pub(crate) fn token(&self) -> u64 {
        self.token
    }

    /// It was granted. Whoever has it is done by `until`.
    pub(crate) fn granted(mut self, until: Moment) -> Self {
        self.state = State::Granted;
        let leases = &self.engine.leases;
        leases.held.lock().insert(self.token, Held { key: self.key.clone(), until });
        if !leases.extending.swap(true, Ordering::AcqRel) {
            self.engine.runtime.spawn(Box::pin(Engine::extend_leases(Arc::downgrade(&self.engine))));
        }
        self
    }

    /// The load has begun, and will be over then.
    pub(crate) fn work_until(&self, until: Moment) {
        if let Some(held) = self.engine.leases.held.lock().get_mut(&self.token) {
            held.until = until;
        }
    }

    /// What it was for is for one caller alone; others need not wait for each other's.
    pub(crate) fn apart(mut self) {
        self.shared = false;
    }

    /// It was not granted, or the remote tier has ended it with the store of what was loaded.
    pub(crate) fn ended(mut self) {
        if matches!(self.state, State::Granted) {
            self.engine.leases.held.lock().remove(&self.token);
        }
        self.state = State::Ended;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let is_ours = match self.state {
            State::Asked => true,
            // Not there any more: it has passed to somebody else, or a shutdown has given it back.
            State::Granted => self.engine.leases.held.lock().remove(&self.token).is_some(),
            State::Ended => false,
        };
        if !is_ours {
            return;
        }
        let (engine, key, token, shared) = (self.engine.clone(), self.key.clone(), self.token, self.shared);
        self.engine.runtime.spawn(Box::pin(async move {
            if let Some(remote) = &engine.remote {
                remote.release(&*engine.runtime, key.as_bytes(), token, shared).await;
            }
        }));
    }
}

impl Engine {
    /// Begins to listen for the end of the lease of `key`.
    pub(crate) fn wait_for_lease(self: &Arc<Self>, key: &Key) -> Waiting {
        let bell = Arc::new(Bell::default());
        self.leases.waiting.lock().entry(key.clone()).or_default().push(bell.clone());
        Waiting { engine: self.clone(), key: key.clone(), bell }
    }

    /// The lease of `key` is about to be asked for under this token.
    pub(crate) fn ask_lease(self: &Arc<Self>, key: &Key, token: u64) -> Lease {
        Lease { engine: self.clone(), key: key.clone(), token, state: State::Asked, shared: true }
    }

    async fn extend_leases(engine: Weak<Engine>) {
        let Some(runtime) = engine.upgrade().map(|engine| engine.runtime.clone()) else { return };
        loop {
            runtime.sleep(EXTEND_EVERY).await;
            let Some(engine) = engine.upgrade() else { return };
            let now = runtime.now();
            let held: Vec<(u64, Held)> = {
                let held = engine.leases.held.lock();
                if held.is_empty() {
                    // Under the lock: whoever takes one from here on begins anew.
                    engine.leases.extending.store(false, Ordering::Release);
                    return;
                }
                held.iter().map(|(token, held)| (*token, held.clone())).collect()
            };
            let working: Vec<_> = held.into_iter().filter(|(_, held)| now < held.until).collect();
            for some in working.chunks(AT_ONCE) {
                join_all(some.iter().map(|(token, held)| engine.extend_lease(*token, &held.key))).await;
            }
        }
    }

    async fn extend_lease(&self, token: u64, key: &Key) {
        let Some(remote) = &self.remote else { return };
        // No answer says nothing: it is tried again before the lease runs out.
        if remote.extend(&*self.runtime, key.as_bytes(), token).await == Some(false)
            && self.leases.held.lock().remove(&token).is_some()
        {
            self.events.emit(|| Event::LeaseLost { key: key.clone() });
        }
    }

    /// Gives back every lease there is.
    pub(super) async fn release_all(&self) {
        let held = std::mem::take(&mut *self.leases.held.lock()).into_iter().collect();
        self.release(held).await;
    }

    /// Gives back the lease of `key`, in the background: whoever has it here is past his deadline, and does not let go of it
    /// himself.
    pub(super) fn give_back_lease(self: &Arc<Self>, key: &Key) {
        let held: Vec<_> = self.leases.held.lock().extract_if(.., |_, held| held.key == *key).collect();
        if !held.is_empty() {
            let engine = self.clone();
            self.runtime.spawn(Box::pin(async move { engine.release(held).await }));
        }
    }

    async fn release(&self, held: Vec<(u64, Held)>) {
        let Some(remote) = &self.remote else { return };
        for some in held.chunks(AT_ONCE) {
            let release = |(token, held): &(u64, Held)| (held.key.clone(), *token);
            join_all(some.iter().map(release).map(|(key, token)| async move {
                remote.release(&*self.runtime, key.as_bytes(), token, true).await;
            }))
            .await;
        }
    }

    /// Rings for those who wait, as the remote tier says.
    pub(crate) async fn hear_wakes(engine: Weak<Engine>, mut wakes: broadcast::Receiver<Wake>) {
        loop {
            let wake = wakes.recv().await;
            let Some(engine) = engine.upgrade() else { return };
            match wake {
                Ok(wake) => engine.leases.ring(&wake),
                // Some went by unheard: whoever waits asks again.
                Err(RecvError::Lagged(_)) => engine.leases.ring_all(),
                Err(RecvError::Closed) => return,
            }
        }
    }
}
