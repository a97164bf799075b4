//! Reads that are not older than a token: read-your-writes on any node.

use std::sync::Arc;

use super::load::{self, Begin};
use super::{Hit, Namespace};
use crate::error::LoadError;
use crate::key::{LoadKey, ToKey};
use crate::log::{Arrival, Epoch};
use crate::outcome::Outcome;
use crate::policy::defaults;

/// The reads of a handle, not older than a token. See [`Namespace::at_least`].
#[must_use = "it reads nothing by itself"]
pub struct AtLeast<'a, K, V, E> {
    handle: &'a Namespace<K, V, E>,
    token: Option<Epoch>,
}

impl<K, V: Send + Sync + 'static, E> Namespace<K, V, E> {
    /// Reads that see at least what the invalidation with this token has made room for, on whatever node it was made:
    /// each waits until this node's log has come so far (at most [`ARRIVAL_WAIT`](crate::defaults::ARRIVAL_WAIT); about a
    /// round trip when all is well), or goes past the cache. `None` (queued, or no remote tier) waits for nothing.
    ///
    /// A read that goes past the cache loads for itself and stores nothing; its outcome is
    /// [`Bypass`](Outcome::Bypass).
    ///
    /// A token that the log does not have, because its server has lost it or because somebody made it up, is never reached:
    /// each read with it costs a look at the log, and then goes past the cache. So do not hand on what a client has sent: give
    /// it to [`Cache::arrive`](crate::Cache::arrive) first, which tells such a token as [`Arrival::Unknown`], and leave it
    /// out then:
    ///
    /// ```
    /// # use larder_core::{AnyKey, Arrival, Cache, Epoch, Namespace, NoLoader};
    /// # async fn f(cache: &Cache, trigs: &Namespace<AnyKey, u64, NoLoader>, header: &str) {
    /// let mut token = header.parse::<Epoch>().ok();
    /// if let Some(sent) = token && cache.arrive(sent).await == Arrival::Unknown {
    ///     cache.ignore_token();                       // counts it
    ///     token = None;
    /// }
    /// let trig = trigs.at_least(token).get(7_u64).await;
    /// # let _ = trig; }
    /// ```
    pub fn at_least(&self, token: impl Into<Option<Epoch>>) -> AtLeast<'_, K, V, E> {
        AtLeast { handle: self, token: token.into() }
    }
}

impl<K, V: Send + Sync + 'static, E> AtLeast<'_, K, V, E> {
    async fn arrived(&self) -> bool {
        match self.token {
            Some(token) => {
                self.handle.engine().arrive(token, defaults::ARRIVAL_WAIT).await == Arrival::Arrived
            }
            None => true,
        }
    }

    /// As [`Namespace::get_or_load`].
    ///
    /// # Errors
    /// As there.
    pub async fn get_or_load<F, Fut, E2>(self, key: impl ToKey, load: F) -> Result<Arc<V>, LoadError<E2>>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E2>> + Send + 'static,
        E2: Send + Sync + 'static,
    {
        if self.arrived().await {
            return self.handle.get_or_load(key, load).await;
        }
        let name = self.handle.handle.key(&key).to_key();
        let found = self.handle.handle.load_apart(&name, load::once(load), Outcome::Bypass).await?;
        Ok(found.value)
    }

    /// As [`Namespace::get`]; `None` also where this node has not arrived.
    pub async fn get(self, key: impl ToKey) -> Option<Arc<V>> {
        if self.arrived().await {
            return self.handle.get(key).await;
        }
        self.handle.count_read(Outcome::Bypass);
        None
    }
}

impl<K, V, E> AtLeast<'_, K, V, E>
where
    K: Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// As [`Namespace::load`].
    ///
    /// # Errors
    /// As there.
    pub async fn load<Q: LoadKey<K>>(self, key: Q) -> Result<Arc<V>, LoadError<E>> {
        Ok(self.fetch(key).await?.value)
    }

    /// As [`Namespace::fetch`].
    ///
    /// # Errors
    /// As there.
    pub async fn fetch<Q: LoadKey<K>>(self, key: Q) -> Result<Hit<V>, LoadError<E>> {
        if self.arrived().await {
            return self.handle.fetch(key).await;
        }
        let name = self.handle.handle.key(&key).to_key();
        let load = self.handle.loading(key);
        let found = self.handle.handle.load_apart(&name, load, Outcome::Bypass).await?;
        Ok(self.handle.handle.describe(name, found))
    }
}

impl<K, V, E> Namespace<K, V, E>
where
    K: Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// The load of `key` by the handle's loader.
    pub(super) fn loading<Q: LoadKey<K>>(&self, key: Q) -> impl Begin<V, E> + use<Q, K, V, E> {
        let loader = self.loader.clone();
        let loader = loader.expect("only `loader` makes a handle whose K is a key: AnyKey is none");
        let key = key.into_key();
        move || loader(key)
    }
}
