//! Handles: what code holds to read and write a namespace.

mod at_least;
mod batch;
mod chain;
mod claim;
mod fetch;
mod fill;
mod flying;
mod handle;
mod lead;
mod load;
mod miss;
mod registry;
mod reload;
mod share;
mod slot;
mod store;
mod turn;

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use self::at_least::AtLeast;
pub use self::batch::Batch;
#[cfg(feature = "testing")]
pub(crate) use self::chain::loads_for_others;
pub use self::claim::Claim;
pub use self::fill::{Fill, Filled};
pub use self::flying::{Flown, Flying};
pub(crate) use self::handle::Handle;
pub use self::lead::{Lead, LookedUp};
use self::load::Loader;
pub use self::miss::Miss;
pub use self::registry::Resource;
pub(crate) use self::registry::{Registered, register};
use self::reload::Reloader;
pub(crate) use self::reload::{Reload, Reloads};
pub use self::slot::{Slot, Updated};
pub use self::turn::Turn;
use crate::engine::{Engine, Invalidated};
use crate::error::LoadError;
use crate::key::{Key, KeyWriter, LoadKey, Probe, ToKey};
use crate::log::{Epoch, Mode};
use crate::outcome::{Outcome, Tier};
use crate::runtime::BoxFuture;
use crate::selector::Selector;

/// Stands for the key type of a handle without a loader: any key will do.
#[derive(Debug, Clone, Copy)]
pub enum AnyKey {}

/// Stands for the error type of a handle without a loader.
#[derive(Debug, Clone, Copy)]
pub enum NoLoader {}

/// A handle on a namespace: values of type `V`, a policy and, once [`loader`](Namespace::loader) was called, how to load
/// one by a key of type `K`. Cheap to clone; all clones share everything.
pub struct Namespace<K, V, E> {
    handle: Arc<Handle<V>>,
    loader: Option<Loader<K, V, E>>,
    /// What the engine, which holds it weakly, loads again by.
    reloader: Option<Arc<Reloader<K, V, E>>>,
    types: PhantomData<fn(K) -> E>,
}

impl<K, V, E> Clone for Namespace<K, V, E> {
    fn clone(&self) -> Self {
        Namespace {
            handle: self.handle.clone(),
            loader: self.loader.clone(),
            reloader: self.reloader.clone(),
            types: PhantomData,
        }
    }
}

/// A value and how it was found.
#[derive(Debug)]
#[non_exhaustive]
pub struct Hit<V> {
    /// The value.
    pub value: Arc<V>,
    /// How the read was answered.
    pub outcome: Outcome,
    /// From which tier; `None` if it was loaded.
    pub tier: Option<Tier>,
    /// How long ago it was stored.
    pub age: Duration,
    /// How long it stays fresh, jitter included; zero when stale.
    pub ttl: Duration,
    /// When it was stored, by this machine's calendar.
    pub stored_at: SystemTime,
    /// Its key.
    pub key: Key,
    /// Where the log stood when its load began; `None` without a remote tier.
    pub epoch: Option<Epoch>,
}

/// A value and how it was found, without what only some want to know. See [`Hit`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Found<V> {
    /// The value.
    pub value: Arc<V>,
    /// How the read was answered.
    pub outcome: Outcome,
    /// From which tier; `None` if it was loaded.
    pub tier: Option<Tier>,
    /// How long ago it was stored.
    pub age: Duration,
    /// How long it stays fresh; zero when stale.
    pub ttl: Duration,
    /// Where the log stood when its load began; not known of a fresh entry in memory that a [`Claim`] finds.
    pub epoch: Option<Epoch>,
    /// Is it in a tier now?
    pub stored: bool,
}

impl<V> Clone for Found<V> {
    fn clone(&self) -> Self {
        Found { value: self.value.clone(), ..*self }
    }
}

impl<V: Send + Sync + 'static> Namespace<AnyKey, V, NoLoader> {
    pub(crate) fn without_loader(handle: Arc<Handle<V>>) -> Self {
        Namespace { handle, loader: None, reloader: None, types: PhantomData }
    }

    /// The same handle with a loader: what [`load`](Namespace::load) runs on a miss, and refreshes run in the
    /// background.
    ///
    /// A load runs in a task of its own as soon as it has to wait for anything. Its first steps, up to there, run in
    /// the caller's task: a loader that answers at once costs no task.
    pub fn loader<K, E, F, Fut>(self, load: F) -> Namespace<K, V, E>
    where
        F: Fn(K) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
    {
        self.with_loader(move |key| load::plain(load(key)))
    }

    /// As [`loader`](Self::loader), for one that also says how long each value is kept, and its tags.
    pub fn loader_with<K, E, F, Fut>(self, load: F) -> Namespace<K, V, E>
    where
        F: Fn(K) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Filled<V>, E>> + Send + 'static,
    {
        self.with_loader(move |key| Box::pin(load(key)))
    }

    fn with_loader<K, E>(
        self,
        load: impl Fn(K) -> BoxFuture<'static, Result<Filled<V>, E>> + Send + Sync + 'static,
    ) -> Namespace<K, V, E> {
        Namespace { handle: self.handle, loader: Some(Arc::new(load)), reloader: None, types: PhantomData }
    }
}

impl<K, V, E> Namespace<K, V, E>
where
    K: Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// The value of `key`: from memory, from the remote tier, or loaded. Simultaneous reads of one key load once.
    ///
    /// Cancel safe: a caller that goes away does not cancel the load.
    ///
    /// # Errors
    /// What the load ended with. A fault of a tier is no error.
    #[inline]
    pub async fn load<Q: LoadKey<K>>(&self, key: Q) -> Result<Arc<V>, LoadError<E>> {
        if let Some(value) = self.handle.hit(&key) {
            return Ok(value);
        }
        Ok(self.start(key).end().await?.value)
    }

    /// As [`load`](Self::load), and says how the value was found.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub async fn fetch<Q: LoadKey<K>>(&self, key: Q) -> Result<Hit<V>, LoadError<E>> {
        let name = self.handle.key(&key).to_key();
        let found = self.start(key).end().await?;
        Ok(self.handle.describe(name, found))
    }

    fn start<Q: LoadKey<K>>(&self, key: Q) -> load::Start<V, E> {
        let name = self.handle.key(&key).to_key();
        self.handle.start(name, self.loading(key))
    }
}

impl<K, V: Send + Sync + 'static, E> Namespace<K, V, E> {
    /// The value of `key`, loaded by `load` on a miss. Shares loads with every other read of the key.
    ///
    /// Cancel safe, as `load` runs in a task of its own once it has to wait.
    ///
    /// # Errors
    /// What the load ended with. If another caller's load of the same key fails with an error of another type, this
    /// caller's `load` runs.
    pub async fn get_or_load<F, Fut, E2>(&self, key: impl ToKey, load: F) -> Result<Arc<V>, LoadError<E2>>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E2>> + Send + 'static,
        E2: Send + Sync + 'static,
    {
        if let Some(value) = self.handle.hit(&key) {
            return Ok(value);
        }
        let name = self.handle.key(&key).to_key();
        Ok(self.handle.start(name, load::once(load)).end().await?.value)
    }

    /// As [`get_or_load`](Self::get_or_load), with a load that also says how long the value is kept, and its tags.
    ///
    /// # Errors
    /// As [`get_or_load`](Self::get_or_load).
    pub async fn get_or_load_with<F, Fut, E2>(
        &self,
        key: impl ToKey,
        load: F,
    ) -> Result<Arc<V>, LoadError<E2>>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Filled<V>, E2>> + Send + 'static,
        E2: Send + Sync + 'static,
    {
        if let Some(value) = self.handle.hit(&key) {
            return Ok(value);
        }
        let name = self.handle.key(&key).to_key();
        Ok(self.handle.start(name, load::filling(load)).end().await?.value)
    }

    /// The value of `key` if memory has it fresh, else where to go on from: for a caller that prepares its load only then.
    #[inline]
    pub(crate) fn at_hand(&self, key: &(impl ToKey + ?Sized)) -> Result<Arc<V>, Miss<V>> {
        self.handle.hit(key).ok_or_else(|| Miss::new(self.handle.clone(), self.handle.key(key).to_key()))
    }

    /// The value of `key` if a tier has it, fresh or stale. Loads nothing, refreshes nothing.
    pub async fn get(&self, key: impl ToKey) -> Option<Arc<V>> {
        if let Some(value) = self.handle.hit(&key) {
            return Some(value);
        }
        let name = self.handle.key(&key).to_key();
        self.handle.look_up(&name).await.map(|found| found.value)
    }

    /// Has a tier the value of `key`? Counts as no read.
    pub async fn contains(&self, key: impl ToKey) -> bool {
        let name = self.handle.key(&key).to_key();
        self.handle.has(&name).await
    }

    /// Stores a value that was read just now.
    ///
    /// What is stored must not be older than this call: data that was read before an invalidation and put after it is
    /// served as if it were new. Where anything lies between reading and storing, take a [`begin`](Self::begin) slot
    /// before reading.
    ///
    /// Memory has it when this returns; the remote tier gets it in the background. False: it was not stored (too
    /// large, or invalidated at this moment).
    pub fn put(&self, key: impl ToKey, value: V) -> bool {
        self.begin(key).put(value)
    }

    /// Says "I am about to read the data of `key`": a slot that will store it, unless it is invalidated meanwhile.
    pub fn begin(&self, key: impl ToKey) -> Slot<V> {
        Slot::new(self.handle.clone(), self.handle.key(&key).to_key())
    }

    /// Changes the stored value of `key`, if a tier has one: `change` gets it and answers the new one, or `None` to
    /// leave it. Its ttl goes on. An invalidation in between wins, and so does another store in this process's memory: nothing
    /// is written. Another process that stores the key in between, or a handle that uses no memory, does not see that; who
    /// needs it invalidates.
    pub async fn update(&self, key: impl ToKey, change: impl FnOnce(&V) -> Option<V>) -> Updated<V> {
        let name = self.handle.key(&key).to_key();
        slot::update(&self.handle, name, change).await
    }

    /// Removes the entry of `key` from every tier, and invalidates it: a load under way does not bring it back.
    pub async fn remove(&self, key: impl ToKey) -> Invalidated {
        let name = self.handle.key(&key).to_key();
        self.handle.remove(&name).await
    }

    /// Invalidates the entry of `key`.
    pub async fn invalidate(&self, key: impl ToKey) -> Invalidated {
        self.forget(Mode::Hard, Selector::of_key(&self.handle.key(&key))).await
    }

    /// Expires the entry of `key`: stale from now on. Without a stale window the same as [`invalidate`](Self::invalidate).
    pub async fn expire(&self, key: impl ToKey) -> Invalidated {
        self.forget(Mode::Soft, Selector::of_key(&self.handle.key(&key))).await
    }

    /// Invalidates everything in the namespace, whatever handle stored it.
    pub async fn invalidate_all(&self) -> Invalidated {
        self.forget(Mode::Hard, Selector::under_bytes(self.handle.namespace())).await
    }

    async fn forget(&self, mode: Mode, selector: Selector) -> Invalidated {
        self.engine().invalidate(mode, vec![selector], "", "").await
    }

    /// Sets how much memory a value takes, in bytes. Default: found by walking the value as serde does.
    pub fn weigh(mut self, weigh: impl Fn(&V) -> usize + Send + Sync + 'static) -> Self {
        self.change_handle(|handle| handle.weigh = Arc::new(weigh));
        self
    }

    /// Sets how values become bytes in the remote tier. Default: [`Json`](crate::Json).
    pub fn codec(mut self, codec: impl crate::Codec<V>) -> Self {
        self.change_handle(|handle| handle.codec = Some(Arc::new(codec)));
        self
    }

    /// Says which values mean "there is none": those are kept for the policy's
    /// [`negative_ttl`](crate::Policy::negative_ttl). Default: `None` of an `Option` that serde can write; in
    /// [`namespace_in_memory`](crate::Cache::namespace_in_memory) no value.
    pub fn absent(mut self, absent: impl Fn(&V) -> bool + Send + Sync + 'static) -> Self {
        self.change_handle(|handle| handle.absent = Some(Arc::new(absent)));
        self
    }

    /// Says by what an [adaptive ttl](crate::Policy::adaptive_ttl) knows that a value has not changed. Default: by its encoded
    /// form, so values that never leave this process need this to learn.
    pub fn content_hash(mut self, hash: impl Fn(&V) -> u64 + Send + Sync + 'static) -> Self {
        self.change_handle(|handle| handle.content_hash = Some(Arc::new(hash)));
        self
    }

    /// Names the shape of the values. Entries of another schema are misses: change it when the type changes in a way
    /// its codec would not notice. Default: the name of the type.
    pub fn schema(mut self, schema: &str) -> Self {
        self.change_handle(|handle| handle.schema = handle::schema_tag(schema));
        self
    }

    fn change_handle(&mut self, change: impl FnOnce(&mut Handle<V>)) {
        let mut handle = Handle::clone(&self.handle);
        change(&mut handle);
        self.handle = Arc::new(handle);
        if let Some(reloader) = &self.reloader {
            reloader.set_handle(self.handle.clone());
        }
    }

    fn engine(&self) -> &Arc<Engine> {
        self.handle.engine()
    }

    /// The read path in steps, for those who build another front door: see [`Claim`].
    ///
    /// `key`: what a [`key_writer`](Self::key_writer) has written.
    pub fn claim(&self, key: &[u8]) -> Claim<V> {
        let key = Probe::of(key);
        match self.handle.found_at_once(&key) {
            Some(found) => Claim::Found(found),
            None => claim::claim(&self.handle, &key),
        }
    }

    /// A key of this handle, to which segments and a variant can be added.
    pub fn key_writer(&self) -> KeyWriter<'_> {
        self.handle.writer()
    }

    /// As [`begin`](Self::begin), for a whole key.
    pub fn begin_at(&self, key: &Key) -> Slot<V> {
        Slot::new(self.handle.clone(), key.clone())
    }

    /// Runs the refresh of a stale entry beside everything else. Too many at one time, and it is dropped unrun: with it
    /// the lead it holds, so the next reader of the entry tries again.
    pub fn refresh_in_background(&self, key: &Key, refresh: impl Future<Output = ()> + Send + 'static) {
        self.engine().spawn_refresh(key, Box::pin(refresh));
    }

    /// The handle's policy.
    pub fn policy(&self) -> &crate::Policy {
        &self.handle.policy
    }

    /// Counts a read that was answered without the cache.
    pub fn count_read(&self, outcome: Outcome) {
        self.handle.counters.read(outcome);
    }
}
