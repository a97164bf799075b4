//! Which server to connect to, now.

use std::future::pending;
use std::sync::Arc;

use crate::cluster::Cluster;
use crate::endpoint::Endpoint;
use crate::sentinel::Sentinels;

/// Knows, or asks, where the primary is.
#[derive(Clone, Debug)]
pub(crate) enum Finder {
    /// Always there.
    Fixed(Endpoint),
    /// Where the sentinels say.
    Sentinels(Arc<Sentinels>),
    /// Where a slot of a cluster is.
    Slot(Arc<Cluster>, u16),
}

impl Finder {
    /// Where to connect to. The error is a reason for people.
    pub(crate) async fn find(&self) -> Result<Endpoint, String> {
        match self {
            Finder::Fixed(server) => Ok(server.clone()),
            Finder::Sentinels(sentinels) => sentinels.primary().await,
            Finder::Slot(cluster, slot) => cluster.owner(*slot).await,
        }
    }

    /// Completes when the primary is known to be another than `server`, whatever that one says itself.
    pub(crate) async fn replaced(&self, server: &Endpoint) {
        match self {
            Finder::Fixed(_) => pending().await,
            Finder::Sentinels(sentinels) => sentinels.replaced(server).await,
            Finder::Slot(cluster, slot) => cluster.replaced(*slot, server).await,
        }
    }

    /// The server that was found is of no use.
    pub(crate) fn doubt(&self) {
        match self {
            // Sentinels are asked each time.
            Finder::Fixed(_) | Finder::Sentinels(_) => {}
            Finder::Slot(cluster, _) => cluster.doubt(),
        }
    }
}
