//! What `#[cached]` expands to. Public for generated code alone: nothing here is stable.

mod bounds;
mod lent;
mod site;

use std::sync::Arc;

pub use self::bounds::{Failed, Lend, Returned, Value};
pub use self::lent::{Lent, lend, lent};
pub use self::site::Site;
pub(crate) use self::site::Sites;
use crate::cache::Cache;
use crate::error::LoadError;
use crate::key::ToKey;
pub use crate::namespace::Miss;
use crate::namespace::{AnyKey, Filled, Namespace, NoLoader};
use crate::policy::Policy;

/// How far a call comes without its arguments.
pub enum Looked<V> {
    /// To a fresh value in memory.
    Hit(Arc<V>),
    /// To where it has to go on, by [`load`]. `None`: the function cannot be cached in this cache, its body just runs.
    Miss(Option<Miss<V>>),
}

/// Looks for the value of `key` in memory. The handle is made by `policy` and `adjust` at the first call in a cache.
#[inline]
pub fn look<V: Value>(
    cache: &Cache,
    site: &'static Site,
    key: &(impl ToKey + ?Sized),
    policy: impl FnOnce(&Cache) -> Policy,
    adjust: impl FnOnce(Namespace<AnyKey, V, NoLoader>) -> Namespace<AnyKey, V, NoLoader>,
) -> Looked<V> {
    match site.handle(cache, policy, adjust) {
        None => Looked::Miss(None),
        Some(handle) => match handle.at_hand(key) {
            Ok(value) => Looked::Hit(value),
            Err(miss) => Looked::Miss(Some(miss)),
        },
    }
}

/// Goes on after a miss.
pub async fn load<V: Value, E: Send + Sync + 'static, Fut>(
    miss: Option<Miss<V>>,
    load: impl FnOnce() -> Fut + Send + 'static,
    failed: impl FnOnce(LoadError<E>) -> E,
) -> Result<V, E>
where
    Fut: Future<Output = Result<Filled<V>, E>> + Send + 'static,
{
    match miss {
        Some(miss) => miss.load(load).await.map(Arc::unwrap_or_clone).map_err(failed),
        None => load().await.map(|filled| filled.value),
    }
}

/// A part of a key.
#[inline(always)]
pub fn part<T: ToKey + ?Sized>(part: &T) -> &T {
    part
}

/// Asks a function for something about a value; so that a closure need not name the type of its argument.
pub fn of_value<V, T>(ask: impl FnOnce(&V) -> T, value: &V) -> T {
    ask(value)
}
