//! A read that has found nothing fresh in memory, and has not gone on yet.

use std::sync::Arc;

use super::handle::Handle;
use super::{Filled, load};
use crate::error::LoadError;
use crate::key::Key;

/// A read half-way: it borrows neither its handle nor its key any more.
pub struct Miss<V> {
    handle: Arc<Handle<V>>,
    key: Key,
}

impl<V: Send + Sync + 'static> Miss<V> {
    pub(super) fn new(handle: Arc<Handle<V>>, key: Key) -> Self {
        Miss { handle, key }
    }

    /// Goes on as [`Namespace::get_or_load_with`](super::Namespace::get_or_load_with).
    pub(crate) async fn load<F, Fut, E>(self, load: F) -> Result<Arc<V>, LoadError<E>>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Filled<V>, E>> + Send + 'static,
        E: Send + Sync + 'static,
    {
        Ok(self.handle.start(self.key, load::filling(load)).end().await?.value)
    }
}
