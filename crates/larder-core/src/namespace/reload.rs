//! Loading again what nobody asks for at the moment: by the key alone, with the loader of a handle that was made
//! [`refreshable`](Namespace::refreshable).
//!
//! Who holds whom: a handle holds its reloader, which holds engine and loader; the engine holds reloaders weakly. So a
//! cache whose handles are gone is freed, and so is a loader that holds the cache.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tracing::Instrument;

use super::Namespace;
use super::claim::{self, Claim};
use super::handle::Handle;
use super::load::{self, Begin, Loader, MOST_TURNS};
use crate::engine::InMemory;
use crate::error::RefreshableError;
use crate::key::{FromKey, Key, Probe, Segments};

/// A handle that can load by the key alone.
pub(crate) trait Reload: Send + Sync {
    /// Is `key` one of its own?
    fn has(&self, key: &Key) -> bool;

    /// Begins to load `key` in the background; false if it is none of its own, or too much is under way.
    fn reload(&self, key: &Key) -> bool;
}

/// A namespace and a sub-resource, which may be empty.
type Name = (Box<[u8]>, Box<[u8]>);

/// The refreshable handles.
#[derive(Default)]
pub(crate) struct Reloads(Mutex<BTreeMap<Name, Weak<dyn Reload>>>);

impl Reloads {
    /// Takes a name; false if a living handle has it.
    fn register(&self, namespace: &[u8], sub: &[u8], reload: Weak<dyn Reload>) -> bool {
        let mut all = self.0.lock();
        all.retain(|_, reload| reload.strong_count() > 0);
        let name = (namespace.into(), sub.into());
        let free = !all.contains_key(&name);
        if free {
            all.insert(name, reload);
        }
        free
    }

    /// Those whose keys may begin with `prefix`, or lie above it; empty means any. Sub-resources come before the
    /// namespace they are in: of two that could read a key, the one that says more about it.
    pub(crate) fn of(&self, prefixes: &[&[u8]]) -> Vec<Arc<dyn Reload>> {
        let namespace = |prefix: &[u8]| prefix.split(|&b| b == b':').next().unwrap_or_default().to_vec();
        let wanted: Vec<Vec<u8>> = prefixes.iter().map(|prefix| namespace(prefix)).collect();
        let is_wanted = |name: &[u8]| wanted.iter().any(|w| w.is_empty() || w == name);
        let all = self.0.lock();
        all.iter().rev().filter(|((name, _), _)| is_wanted(name)).filter_map(|(_, r)| r.upgrade()).collect()
    }
}

/// A handle and its loader.
pub(super) struct Reloader<K, V, E> {
    handle: Mutex<Arc<Handle<V>>>,
    loader: Loader<K, V, E>,
}

impl<K, V, E> Reloader<K, V, E> {
    /// The handle was given another codec, weigher or schema.
    pub(super) fn set_handle(&self, handle: Arc<Handle<V>>) {
        *self.handle.lock() = handle;
    }
}

impl<K, V, E> Reload for Reloader<K, V, E>
where
    K: FromKey + Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    fn has(&self, key: &Key) -> bool {
        self.handle.lock().clone().read_back::<K>(key).is_some()
    }

    fn reload(&self, key: &Key) -> bool {
        let (handle, loader) = (self.handle.lock().clone(), self.loader.clone());
        let Some(read) = handle.read_back::<K>(key) else { return false };
        handle.reload(key, move || loader(read))
    }
}

impl<K, V, E> Namespace<K, V, E>
where
    K: FromKey + Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// The same handle, found by [`Reaction::refresh`](crate::Reaction::refresh): its loader runs again by the key
    /// alone, without a reader. The last step in making a handle; for as long as the handle, or a clone of it, lives.
    ///
    /// # Errors
    /// Another handle of this namespace (or sub-resource) is refreshable: which of the two loaders should run?
    pub fn refreshable(mut self) -> Result<Self, RefreshableError> {
        let Some(loader) = self.loader.clone().filter(|_| self.reloader.is_none()) else { return Ok(self) };
        let reloader = Arc::new(Reloader { handle: Mutex::new(self.handle.clone()), loader });
        let weak: Weak<Reloader<K, V, E>> = Arc::downgrade(&reloader);
        let (namespace, sub) = (self.handle.namespace(), self.handle.sub());
        if !self.engine().reloads.register(namespace, sub, weak) {
            let name = [namespace, sub].map(String::from_utf8_lossy);
            let name = if sub.is_empty() { name[0].to_string() } else { name.join(":*:") };
            return Err(RefreshableError { name });
        }
        self.reloader = Some(reloader);
        Ok(self)
    }
}

impl<V: Send + Sync + 'static> Handle<V> {
    /// The `K` that has written `key`; `None` if it was none.
    fn read_back<K: FromKey>(&self, key: &Key) -> Option<K> {
        let mut segments = Segments::within(key, self.namespace(), self.sub())?;
        let read = K::from_key(&mut segments)?;
        // Written again, it is this key or another one: `07` is a number, and no key of one.
        (segments.is_empty() && self.key(&read).as_bytes() == key.as_bytes()).then_some(read)
    }

    /// Begins to load `key` in the background, within the bound on refreshes; false beyond it.
    fn reload<E: Send + Sync + 'static>(self: &Arc<Self>, key: &Key, load: impl Begin<V, E>) -> bool {
        let (handle, at) = (self.clone(), key.clone());
        let again = async move {
            for _ in 0..MOST_TURNS {
                if handle.engine().is_closing() || handle.is_fresh(&at) {
                    return;
                }
                match claim::claim_again(&handle, at.clone()) {
                    Claim::Lead(lead) => return load::renew(lead, load).await,
                    // It may have read its data too early to count: look, and claim again.
                    Claim::Join(flying) => flying.over().await,
                    Claim::Found(_) | Claim::Stale(..) | Claim::Apart(_) => return,
                }
            }
        };
        self.engine().spawn_refresh(key, Box::pin(again.instrument(tracing::Span::current())))
    }

    fn is_fresh(&self, key: &Key) -> bool {
        let now = self.engine().clock.now();
        self.uses_memory() && matches!(self.engine().in_memory(&Probe::from(key), now), InMemory::Fresh(_))
    }
}
