//! The port, on the simulated server.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{broadcast, watch};

use super::TestRemote;
use super::faults::Path;
use super::redis::{At, TestRedis};
use super::wire::Does;
use crate::log::{Append, Epoch, Opened, Record, Stamp};
use crate::remote::{
    Cursor, Head, LeaseAnswer, LeaseRequest, Link, Page, Remote, RemoteError, Round, Store, Stored, Values,
    Wake,
};
use crate::runtime::{BoxFuture, within};

/// How long after its wait an unanswered round is taken for a dead connection.
const FOLLOW_GRACE: Duration = Duration::from_secs(1);
/// Rows that the first HSCAN answers; each further one answers twice as many. Few, so that much happens in between.
const SCAN_STEP: usize = 8;

impl TestRemote {
    async fn ask<T: Send + 'static>(
        &self,
        path: Path,
        work: impl FnOnce(&TestRedis, At) -> Option<T> + Send + 'static,
    ) -> Result<T, RemoteError> {
        self.wire.call(path, Does::Read, work).await
    }

    async fn change<T: Send + 'static>(
        &self,
        path: Path,
        work: impl FnOnce(&TestRedis, At) -> Option<T> + Send + 'static,
    ) -> Result<T, RemoteError> {
        self.wire.call(path, Does::Write, work).await
    }

    /// One of the two hashes of stamps, in as many calls as it takes.
    async fn scan_hash(&self, old: bool, stamps: &mut Vec<Stamp>) -> Result<(), RemoteError> {
        let (mut after, mut step): (Option<Stamp>, _) = (None, SCAN_STEP);
        loop {
            let from = after.clone();
            let rows = self.ask(Path::Log, move |redis, at| redis.scan(at, old, from.as_ref(), step));
            let Some(rows) = rows.await? else { return Ok(()) };
            step *= 2;
            after = rows.last().cloned();
            stamps.extend(rows);
        }
    }
}

impl Remote for TestRemote {
    fn get<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<Option<Bytes>, RemoteError>> {
        let from_replica = self.wire.faults.lock().read_from_replica;
        let key = key.to_vec();
        Box::pin(
            async move { self.ask(Path::Values, move |redis, at| redis.get(at, &key, from_replica)).await? },
        )
    }

    fn get_many<'a>(&'a self, keys: &'a [&'a [u8]]) -> BoxFuture<'a, Values> {
        let from_replica = self.wire.faults.lock().read_from_replica;
        let names: Vec<Vec<u8>> = keys.iter().map(|key| key.to_vec()).collect();
        let asked = names.len();
        Box::pin(async move {
            let look = move |redis: &TestRedis, at| {
                let looks = names.iter().map(|name| redis.get(at, name, from_replica));
                looks.collect::<Option<Vec<_>>>()
            };
            match self.ask(Path::Values, look).await {
                // MGET passes by what is no string.
                Ok(values) => values.into_iter().map(|value| Ok(value.unwrap_or_default())).collect(),
                Err(error) => vec![Err(error); asked],
            }
        })
    }

    fn store<'a>(&'a self, key: &'a [u8], store: Store) -> BoxFuture<'a, Result<Stored, RemoteError>> {
        let key = key.to_vec();
        Box::pin(self.wire.call(Path::Values, Does::Store, move |redis, at| redis.store(at, &key, store)))
    }

    fn lease<'a>(
        &'a self,
        key: &'a [u8],
        request: &'a LeaseRequest,
    ) -> BoxFuture<'a, Result<LeaseAnswer, RemoteError>> {
        let (key, request) = (key.to_vec(), request.clone());
        Box::pin(self.change(Path::Values, move |redis, at| redis.lease(at, &key, &request)))
    }

    fn extend<'a>(
        &'a self,
        key: &'a [u8],
        token: u64,
        life: Duration,
    ) -> BoxFuture<'a, Result<bool, RemoteError>> {
        let key = key.to_vec();
        Box::pin(self.change(Path::Values, move |redis, at| redis.extend(at, &key, token, life)))
    }

    fn release<'a>(
        &'a self,
        key: &'a [u8],
        token: u64,
        shared: bool,
    ) -> BoxFuture<'a, Result<(), RemoteError>> {
        let key = key.to_vec();
        Box::pin(self.change(Path::Values, move |redis, at| redis.release(at, &key, token, shared)))
    }

    fn wakes(&self, waiter: u64) -> broadcast::Receiver<Wake> {
        self.wire.wakes(waiter)
    }

    fn reserve<'a>(
        &'a self,
        share: &'a [u8],
        bytes: u64,
        life: Duration,
        limit: u64,
    ) -> BoxFuture<'a, Result<bool, RemoteError>> {
        let share = share.to_vec();
        Box::pin(self.change(Path::Values, move |redis, at| redis.reserve(at, &share, bytes, life, limit)))
    }

    fn give_back<'a>(
        &'a self,
        share: &'a [u8],
        bytes: u64,
        left: Duration,
    ) -> BoxFuture<'a, Result<(), RemoteError>> {
        let share = share.to_vec();
        Box::pin(self.change(Path::Values, move |redis, at| redis.give_back(at, &share, bytes, left)))
    }

    fn remove<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<(), RemoteError>> {
        let key = key.to_vec();
        Box::pin(self.change(Path::Values, move |redis, at| redis.remove(at, &key)))
    }

    fn open(&self, position: Option<Epoch>, nonce: u64) -> BoxFuture<'_, Result<Opened, RemoteError>> {
        Box::pin(self.change(Path::Log, move |redis, at| redis.open(at, position, nonce)))
    }

    fn append<'a>(
        &'a self,
        append: &'a Append,
        position: Option<Epoch>,
        nonce: u64,
    ) -> BoxFuture<'a, Result<Epoch, RemoteError>> {
        let append = append.clone();
        Box::pin(self.change(Path::Log, move |redis, at| redis.append(at, append, position, nonce)))
    }

    fn scan(&self) -> BoxFuture<'_, Result<Vec<Stamp>, RemoteError>> {
        Box::pin(async move {
            let mut stamps = Vec::new();
            // In this order: a rotation in between moves what is not read yet to where it will be read.
            for old in [false, true] {
                self.scan_hash(old, &mut stamps).await?;
            }
            Ok(stamps)
        })
    }

    fn head(&self) -> BoxFuture<'_, Result<Option<Head>, RemoteError>> {
        Box::pin(self.ask(Path::Log, move |redis, at| redis.head(at)))
    }

    fn follow(
        &self,
        position: Epoch,
        limit: usize,
        wait: Duration,
    ) -> BoxFuture<'_, Result<Round, RemoteError>> {
        Box::pin(async move {
            let round = async {
                // The peek goes before the records, and is not repeated after a wait. Only a node that has read all waits.
                let head = self.ask(Path::Follow, |redis, at| redis.head(at)).await?.map(|head| head.epoch);
                let wait = if head == Some(position) { wait } else { Duration::ZERO };
                let read = move |redis: Arc<TestRedis>, at: At| -> BoxFuture<'static, Option<Vec<Record>>> {
                    Box::pin(async move { read(&redis, at, position, limit, wait).await })
                };
                let records = self.wire.travel(Path::Follow, Does::Read, Box::new(read)).await?;
                Ok(Round { head, records })
            };
            match within(&**self.wire.runtime(), wait + FOLLOW_GRACE, round).await {
                Ok(round) => round,
                Err(_) => {
                    self.wire.cut(Path::Follow, "no answer");
                    Err(RemoteError::timeout(wait + FOLLOW_GRACE))
                }
            }
        })
    }

    fn history(&self, before: Option<u64>, limit: usize) -> BoxFuture<'_, Result<Vec<Record>, RemoteError>> {
        Box::pin(self.ask(Path::Log, move |redis, at| redis.before(at, before, limit)))
    }

    fn page<'a>(
        &'a self,
        under: &'a [&'a [u8]],
        cursor: Cursor,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page, RemoteError>> {
        let under: Vec<Vec<u8>> = under.iter().map(|key| key.to_vec()).collect();
        Box::pin(self.ask(Path::Values, move |redis, at| redis.page(at, &under, cursor, limit)))
    }

    fn discard<'a>(&'a self, values: &'a [(Vec<u8>, Epoch)]) -> BoxFuture<'a, Result<u64, RemoteError>> {
        let values = values.to_vec();
        Box::pin(self.change(Path::Values, move |redis, at| redis.discard(at, &values)))
    }

    fn connect(&self) {}

    fn link(&self) -> watch::Receiver<Link> {
        self.wire.link(Path::Values).subscribe()
    }

    fn log_link(&self) -> watch::Receiver<Link> {
        self.wire.link(Path::Log).subscribe()
    }

    fn close(&self) {
        for path in [Path::Values, Path::Log] {
            self.wire.link(path).send_replace(Link::Closed);
        }
        self.wire.hear_no_more();
    }

    fn describe(&self) -> String {
        "a tier in this process".to_owned()
    }
}

/// XREAD BLOCK.
async fn read(
    redis: &TestRedis,
    at: At,
    position: Epoch,
    limit: usize,
    wait: Duration,
) -> Option<Vec<Record>> {
    let mut over = std::pin::pin!(redis.runtime().sleep(wait));
    let mut waited = wait.is_zero();
    loop {
        let mut appended = std::pin::pin!(redis.appended.notified());
        appended.as_mut().enable();
        let records = redis.behind(at, position.at, limit)?;
        if !records.is_empty() || waited {
            return Some(records);
        }
        tokio::select! {
            biased;
            () = appended => {}
            () = &mut over => waited = true,
        }
    }
}
