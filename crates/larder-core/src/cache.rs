//! The cache itself: what handles are made from, and what concerns all of them.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::absent::is_none;
use crate::builder::CacheBuilder;
use crate::codec::{Codec, Json};
use crate::engine::{Engine, Explanation, Invalidated};
use crate::error::{NamespaceError, PatternError};
use crate::event::Event;
use crate::health::Health;
use crate::key::Key;
use crate::log::{Arrival, Epoch, Mode};
use crate::macros::Sites;
use crate::namespace::{AnyKey, Handle, Namespace, NoLoader, Resource, register};
use crate::outcome::SkipReason;
use crate::policy::{Policy, defaults};
use crate::runtime::Runtime;
use crate::selector::{Selector, SelectorError};
use crate::stats::Stats;
use crate::weigh::weigh;

/// A cache: an in-process tier, perhaps a remote one behind it, and the invalidation log that keeps them honest. Cheap
/// to clone; all clones are one cache.
///
/// ```
/// # use larder_core::{Cache, Policy, units::*};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cache = Cache::builder().memory(64 * MIB).build().await?;
/// let squares = cache
///     .namespace::<u64>("square", Policy::ttl(10 * MINUTE))?
///     .loader(|n: u64| async move { Ok::<_, std::convert::Infallible>(n * n) });
/// assert_eq!(*squares.load(12).await?, 144);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Cache {
    pub(crate) engine: Arc<Engine>,
    pub(crate) defaults: Policy,
    pub(crate) reason: Arc<str>,
    actor: Arc<str>,
    /// The handles of cached functions.
    pub(crate) sites: Arc<Sites>,
}

/// The part of a note that records carry.
fn noted(text: &str) -> Arc<str> {
    text[..text.floor_char_boundary(256)].into()
}

impl Cache {
    pub(crate) fn new(engine: Arc<Engine>, defaults: Policy) -> Self {
        Cache { engine, defaults, reason: "".into(), actor: "".into(), sites: Arc::default() }
    }

    /// Begins to describe a cache.
    pub fn builder() -> CacheBuilder {
        CacheBuilder::default()
    }

    /// The policy to start from: `cache.defaults().with_ttl(HOUR)`.
    pub fn defaults(&self) -> Policy {
        self.defaults.clone()
    }

    /// A handle on a namespace, `"trig"`, or on a sub-resource in it, `("trig", "logs")`. Values are stored as JSON in
    /// the remote tier; see [`Namespace::codec`].
    ///
    /// # Errors
    /// A name that is none, a policy that breaks a rule, or a clash: the name is in use with another type or policy.
    pub fn namespace<V>(
        &self,
        resource: impl Into<Resource>,
        policy: Policy,
    ) -> Result<Namespace<AnyKey, V, NoLoader>, NamespaceError>
    where
        V: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        let mut handle =
            self.registered(&resource.into(), policy, Some(Arc::new(Json)), Arc::new(|value| weigh(value)))?;
        handle.absent = Some(Arc::new(|value| is_none(value)));
        Ok(Namespace::without_loader(Arc::new(handle)))
    }

    /// A handle whose values never leave this process, so they need no serde. `weigh` says how much memory one takes, in
    /// bytes.
    ///
    /// # Errors
    /// As [`namespace`](Self::namespace).
    pub fn namespace_in_memory<V: Send + Sync + 'static>(
        &self,
        resource: impl Into<Resource>,
        policy: Policy,
        weigh: impl Fn(&V) -> usize + Send + Sync + 'static,
    ) -> Result<Namespace<AnyKey, V, NoLoader>, NamespaceError> {
        let handle = self.registered(&resource.into(), policy.memory_only(), None, Arc::new(weigh))?;
        Ok(Namespace::without_loader(Arc::new(handle)))
    }

    fn registered<V: Send + Sync + 'static>(
        &self,
        resource: &Resource,
        policy: Policy,
        codec: Option<Arc<dyn Codec<V>>>,
        weigh: Arc<dyn Fn(&V) -> usize + Send + Sync>,
    ) -> Result<Handle<V>, NamespaceError> {
        register::<V>(&self.engine, resource, &policy)?;
        Ok(Handle::new(self.engine.clone(), resource, policy, codec, weigh))
    }

    /// A handle for another front door, whose keys carry a variant: it shares the namespace's selectors and counters
    /// with typed handles and clashes with none.
    ///
    /// # Errors
    /// A name that is none, or a policy that breaks a rule.
    pub fn front_door<V: Send + Sync + 'static>(
        &self,
        resource: impl Into<Resource>,
        policy: Policy,
        codec: impl Codec<V>,
        weigh: impl Fn(&V) -> usize + Send + Sync + 'static,
    ) -> Result<Namespace<AnyKey, V, NoLoader>, NamespaceError> {
        let resource = resource.into();
        resource.check()?;
        policy.check().map_err(|source| NamespaceError::Policy { name: resource.name(), source })?;
        let handle =
            Handle::new(self.engine.clone(), &resource, policy, Some(Arc::new(codec)), Arc::new(weigh));
        Ok(Namespace::without_loader(Arc::new(handle)))
    }

    /// Invalidates: what these selectors name is never served again from a load that began before this call. One
    /// append, whatever number of entries it concerns.
    ///
    /// It holds in this process from the first poll on, whatever the answer. Cancel safe.
    pub async fn invalidate(&self, selectors: impl IntoIterator<Item = Selector>) -> Invalidated {
        self.forget(Mode::Hard, selectors).await
    }

    /// Expires: what these selectors name is stale from now on.
    pub async fn expire(&self, selectors: impl IntoIterator<Item = Selector>) -> Invalidated {
        self.forget(Mode::Soft, selectors).await
    }

    async fn forget(&self, mode: Mode, selectors: impl IntoIterator<Item = Selector>) -> Invalidated {
        let selectors = selectors.into_iter().collect();
        self.engine.invalidate(mode, selectors, &self.reason, &self.actor).await
    }

    /// The same cache; what is invalidated through this clone says why, to whoever asks
    /// [`explain`](Self::explain) later. At most 256 bytes are kept. Default: nothing.
    pub fn because(&self, reason: &str) -> Self {
        Cache { reason: noted(reason), ..self.clone() }
    }

    /// The same cache; what is invalidated through this clone says on whose behalf. At most 256 bytes are kept. Default:
    /// nothing.
    pub fn by(&self, actor: &str) -> Self {
        Cache { actor: noted(actor), ..self.clone() }
    }

    /// What the cache knows of a key, written `trig:123`: what the tiers have, whether it may be served, and if not,
    /// which record of the log has killed it, as far back as the log reaches. For people: it reads both tiers and the log,
    /// and changes nothing.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// Text that is no key.
    pub async fn explain(&self, key: &str) -> Result<Explanation, PatternError> {
        let refused = |source| PatternError { pattern: key.to_owned(), source };
        let selector = Selector::parse(key).map_err(refused)?;
        match selector.is_key() {
            true => Ok(self.engine.explain(Key::parse(key.trim_ascii())).await),
            false => Err(refused(SelectorError::NoKey)),
        }
    }

    /// As [`invalidate`](Self::invalidate), with selectors as text. One that cannot be read, and nothing happens.
    ///
    /// # Errors
    /// The first pattern that is no selector, and why.
    pub async fn invalidate_str(&self, patterns: &[&str]) -> Result<Invalidated, PatternError> {
        let mut selectors = Vec::with_capacity(patterns.len());
        for &pattern in patterns {
            let selector = Selector::parse(pattern)
                .map_err(|source| PatternError { pattern: pattern.to_owned(), source })?;
            selectors.push(selector);
        }
        Ok(self.invalidate(selectors).await)
    }

    /// Waits until this node has come as far as `token`, at most [`ARRIVAL_WAIT`](crate::defaults::ARRIVAL_WAIT). For
    /// front doors; with a handle at hand see [`Namespace::at_least`].
    ///
    /// Cancel safe.
    pub async fn arrive(&self, token: Epoch) -> Arrival {
        self.engine.arrive(token, defaults::ARRIVAL_WAIT).await
    }

    /// Does `work`, and answers also the token of what was invalidated in this cache meanwhile: of the newest, if there
    /// were several. `None` if nothing was, without a remote tier, and if any of it has not arrived in the log when the work
    /// is done (queued, or given up half-way): a token promises that all of it was.
    ///
    /// Counted is what happens in the same task. A task that the work spawns is outside; so is everything through
    /// another cache. Scopes may be nested: each gets what happens in it.
    ///
    /// Cancel safe as far as `work` is.
    pub async fn collect_tokens<T>(&self, work: impl Future<Output = T>) -> (T, Option<Epoch>) {
        self.engine.collect_tokens(work).await
    }

    /// Counts a token of a client that was worth nothing, for front doors.
    pub fn ignore_token(&self) {
        self.engine.ignore_token();
    }

    /// What has been counted since the process began.
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// How the cache is.
    pub fn health(&self) -> Health {
        Health::of(&self.engine)
    }

    /// Is it switched on?
    pub fn is_enabled(&self) -> bool {
        self.engine.enabled
    }

    /// Ends the cache: reads load no more ([`LoadError::ShuttingDown`](crate::LoadError::ShuttingDown)), loads,
    /// stores and invalidations under way are waited for (these also while the log is out of reach: it may come back in
    /// time), the connection is closed. False if `deadline` came first: then what is queued is lost, and other nodes go on
    /// serving what it names.
    ///
    /// A cache whose last handle is dropped without this loses what is queued, and says nothing.
    pub async fn shutdown(&self, deadline: Duration) -> bool {
        self.engine.shutdown(deadline).await
    }

    /// The runtime the cache lives on, for front doors that have work of their own to spawn.
    pub fn runtime(&self) -> &Arc<dyn Runtime> {
        &self.engine.runtime
    }

    /// Says that a load has failed, and why, for front doors. `reason` is one of the words of
    /// [`LoadError::as_str`](crate::LoadError::as_str).
    pub fn load_failed(&self, key: &Key, reason: &'static str, message: &str) {
        let message = message.to_owned();
        self.engine.events.emit(|| Event::LoadFailed { key: key.clone(), reason, message });
    }

    /// Says why something was not cached, for front doors.
    pub fn skipped(&self, key: &str, reason: SkipReason) {
        if reason.is_mistake() || tracing::enabled!(target: "larder", tracing::Level::DEBUG) {
            self.engine.events.emit(|| Event::Skip { key: key.to_owned(), reason });
        }
    }
}
