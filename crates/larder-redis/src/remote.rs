//! The port of the engine, on Redis.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use larder_core::{
    Append, BoxFuture, Cursor, Epoch, Head, LeaseAnswer, LeaseRequest, Link, Opened, Page, Record, Remote,
    RemoteError, Round, Runtime, Stamp, Store, Stored, Values as Answers, Wake,
};
use parking_lot::Mutex;
use tokio::sync::{broadcast, watch};

use crate::address::Servers;
use crate::cluster::Cluster;
use crate::config::Settings;
use crate::finder::Finder;
use crate::lanes::WakeLanes;
use crate::link::{Keeper, Wiring};
use crate::log::Log;
use crate::router::Router;
use crate::sentinel::Sentinels;
use crate::slots::slot_of;
use crate::values::{Place, Values};
use crate::wakes::Wakes;

/// A remote tier on Redis or Valkey. Made by [`Redis::build`](crate::Redis::build).
///
/// Nothing happens before [`connect`](Remote::connect). From then on tasks keep the connections open, those for values
/// and those of the log each by itself, until [`close`](Remote::close) is called or this is dropped. Commands while
/// there is no connection fail at once.
///
/// The first call of [`wakes`](Remote::wakes) adds a connection, to where the log is. While it is broken, or if the server
/// forbids to subscribe (which is told once, as a warning) or to publish, wakes are lost and nothing else. A node may have
/// several numbers; one is forgotten when nobody listens any more and another is added. Asked for the same number again, it
/// answers one more receiver of the same wakes.
///
/// [`follow`](Remote::follow) answers one caller at a time; others wait for their turn. It waits for a minute at the
/// most, whatever it is asked.
///
/// The names that [`page`](Remote::page) shows are those in Redis, without the prefix: the keys, except that a long key
/// or one with a variant is hashed in part. [`discard`](Remote::discard) takes them as they are.
///
/// In a cluster, [`page`](Remote::page) walks one primary after the other. A change of the cluster on the way may end the
/// walk early, or make it see values again or not at all: whoever needs all of them walks again when it is quiet.
///
/// The runtime it was built with must be one on which Tokio's sockets work.
pub struct RedisRemote {
    wiring: Arc<Wiring>,
    values: Values,
    log: Log,
    wakes: Arc<Keeper<WakeLanes>>,
    begun: Mutex<Begun>,
}

/// What has begun. What began once is not begun again.
#[derive(Debug, Default)]
struct Begun {
    connecting: bool,
    listening: bool,
}

impl RedisRemote {
    pub(crate) fn new(settings: Settings, runtime: Arc<dyn Runtime>) -> Self {
        let wiring = Arc::new(Wiring { settings, runtime, wakes: Wakes::default() });
        let settings = &wiring.settings;
        let keep_values = |finder| Place::One(Arc::new(Keeper::new(Arc::clone(&wiring), finder)));
        let (place, log) = match &settings.address.servers {
            Servers::One(server) => {
                let log_server = settings.log_server.as_ref().unwrap_or(server);
                (keep_values(Finder::Fixed(server.clone())), Finder::Fixed(log_server.clone()))
            }
            Servers::Sentinel { sentinels, service } => {
                let finder = Finder::Sentinels(Arc::new(Sentinels::new(&wiring, sentinels, service)));
                (keep_values(finder.clone()), finder)
            }
            Servers::Cluster { seeds } => {
                let cluster = Arc::new(Cluster::new(&wiring, seeds));
                let slot = slot_of(settings.keys.state.as_bytes());
                (Place::Cluster(Arc::new(Router::new(&wiring, &cluster))), Finder::Slot(cluster, slot))
            }
        };
        let values = Values::new(&wiring, place);
        let wakes = Arc::new(Keeper::new(Arc::clone(&wiring), log.clone()));
        let log = Log::new(&wiring, Keeper::new(Arc::clone(&wiring), log));
        RedisRemote { wiring, values, log, wakes, begun: Mutex::default() }
    }

    /// Opens the connection for wakes, as soon as this is to connect and anybody listens.
    fn listen(&self, begun: &mut Begun) {
        if begun.connecting && !begun.listening && self.wiring.wakes.are_wanted() {
            begun.listening = true;
            self.wiring.runtime.spawn(Box::pin(Arc::clone(&self.wakes).run()));
        }
    }
}

impl fmt::Debug for RedisRemote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisRemote")
            .field("address", &self.describe())
            .field("prefix", &self.wiring.settings.prefix)
            .field("link", &*self.link().borrow())
            .field("log_link", &*self.log_link().borrow())
            .finish_non_exhaustive()
    }
}

impl Drop for RedisRemote {
    fn drop(&mut self) {
        self.close();
    }
}

impl Remote for RedisRemote {
    fn get<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Bytes>, RemoteError>> {
        Box::pin(self.values.get(key))
    }

    fn get_many<'a>(&'a self, keys: &'a [&'a [u8]]) -> BoxFuture<'a, Answers> {
        Box::pin(self.values.get_many(keys))
    }

    fn store<'a>(&'a self, key: &'a [u8], store: Store) -> BoxFuture<'a, Result<Stored, RemoteError>> {
        Box::pin(self.values.store(key, store))
    }

    fn lease<'a>(
        &'a self,
        key: &'a [u8],
        request: &'a LeaseRequest,
    ) -> BoxFuture<'a, Result<LeaseAnswer, RemoteError>> {
        Box::pin(self.values.lease(key, request))
    }

    fn extend<'a>(
        &'a self,
        key: &'a [u8],
        token: u64,
        life: Duration,
    ) -> BoxFuture<'a, Result<bool, RemoteError>> {
        Box::pin(self.values.extend(key, token, life))
    }

    fn release<'a>(
        &'a self,
        key: &'a [u8],
        token: u64,
        shared: bool,
    ) -> BoxFuture<'a, Result<(), RemoteError>> {
        Box::pin(self.values.release(key, token, shared))
    }

    fn wakes(&self, waiter: u64) -> broadcast::Receiver<Wake> {
        let receiver = self.wiring.wakes.listen(waiter);
        self.listen(&mut self.begun.lock());
        receiver
    }

    fn reserve<'a>(
        &'a self,
        share: &'a [u8],
        bytes: u64,
        life: Duration,
        limit: u64,
    ) -> BoxFuture<'a, Result<bool, RemoteError>> {
        Box::pin(self.values.reserve(share, bytes, life, limit))
    }

    fn give_back<'a>(
        &'a self,
        share: &'a [u8],
        bytes: u64,
        left: Duration,
    ) -> BoxFuture<'a, Result<(), RemoteError>> {
        Box::pin(self.values.give_back(share, bytes, left))
    }

    fn remove<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<(), RemoteError>> {
        Box::pin(self.values.remove(key))
    }

    fn open(&self, position: Option<Epoch>, nonce: u64) -> BoxFuture<'_, Result<Opened, RemoteError>> {
        Box::pin(self.log.open(position, nonce))
    }

    fn append<'a>(
        &'a self,
        record: &'a Append,
        position: Option<Epoch>,
        nonce: u64,
    ) -> BoxFuture<'a, Result<Epoch, RemoteError>> {
        Box::pin(self.log.append(record, position, nonce))
    }

    fn scan(&self) -> BoxFuture<'_, Result<Vec<Stamp>, RemoteError>> {
        Box::pin(self.log.scan())
    }

    fn head(&self) -> BoxFuture<'_, Result<Option<Head>, RemoteError>> {
        Box::pin(self.log.head())
    }

    fn follow(
        &self,
        position: Epoch,
        limit: usize,
        wait: Duration,
    ) -> BoxFuture<'_, Result<Round, RemoteError>> {
        Box::pin(self.log.follow(position, limit, wait))
    }

    fn history(&self, before: Option<u64>, limit: usize) -> BoxFuture<'_, Result<Vec<Record>, RemoteError>> {
        Box::pin(self.log.history(before, limit))
    }

    fn page<'a>(
        &'a self,
        under: &'a [&'a [u8]],
        cursor: Cursor,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page, RemoteError>> {
        Box::pin(self.values.page(under, cursor, limit))
    }

    fn discard<'a>(&'a self, values: &'a [(Vec<u8>, Epoch)]) -> BoxFuture<'a, Result<u64, RemoteError>> {
        Box::pin(self.values.discard(values))
    }

    fn connect(&self) {
        let mut begun = self.begun.lock();
        if !begun.connecting {
            begun.connecting = true;
            self.wiring.runtime.spawn(self.values.run());
            self.wiring.runtime.spawn(Box::pin(Arc::clone(&self.log.keeper).run()));
            self.listen(&mut begun);
        }
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.values.link()
    }

    fn log_link(&self) -> watch::Receiver<Link> {
        self.log.keeper.link()
    }

    fn close(&self) {
        self.values.close();
        self.log.keeper.close();
        self.wakes.close();
    }

    fn describe(&self) -> String {
        self.wiring.settings.address.to_string()
    }
}
