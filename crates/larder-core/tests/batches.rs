//! Many keys at once.
#![allow(clippy::unwrap_used, reason = "a test's helpers are a test too")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::*;
use larder_core::testing::Path;
use larder_core::units::{HOUR, MINUTE, SECOND};
use larder_core::{Batch, Filled, LoadError, Policy};
use parking_lot::Mutex;
use tokio::task::JoinHandle;

/// A table with rows for the keys below 100; each is its own number and a version.
#[derive(Clone)]
struct Table {
    source: Arc<Source>,
    asked: Arc<Mutex<Vec<Vec<u64>>>>,
}

impl Table {
    fn new() -> Self {
        Table { source: Source::new(), asked: Arc::default() }
    }

    async fn rows(self, keys: Vec<u64>) -> Result<Vec<(u64, u64)>, &'static str> {
        self.asked.lock().push(keys.clone());
        let version = self.source.clone().read().await?;
        Ok(keys.into_iter().filter(|key| *key < 100).map(|key| (key, key * 1000 + version)).collect())
    }

    /// What was asked of it since the last time, sorted.
    fn asked(&self) -> Vec<Vec<u64>> {
        let mut asked = std::mem::take(&mut *self.asked.lock());
        asked.iter_mut().for_each(|keys| keys.sort_unstable());
        asked.sort();
        asked
    }
}

fn batch(
    docs: &Docs,
    keys: impl IntoIterator<Item = u64>,
    table: &Table,
) -> JoinHandle<Batch<u64, &'static str>> {
    let (docs, table, keys) = (docs.clone(), table.clone(), keys.into_iter().collect::<Vec<_>>());
    spawn(async move { docs.get_many_or_load(keys, move |keys| table.clone().rows(keys)).await })
}

fn plain(batch: Batch<u64, &'static str>) -> Vec<Result<Option<u64>, LoadError<&'static str>>> {
    batch.into_iter().map(|answer| answer.map(|value| value.map(|value| *value))).collect()
}

#[tokio::test]
async fn the_loader_sees_only_what_is_missing_and_redis_is_asked_once() {
    for with_remote in [false, true] {
        let rig = Rig::new();
        let cache = if with_remote { rig.cache().await } else { alone(&rig.runtime).await };
        let (docs, table) = (docs(&cache), Table::new());
        let first = rig.drive(batch(&docs, 0..5, &table)).await.unwrap();
        assert_eq!(plain(first), (0..5).map(|key| Ok(Some(key * 1000 + 1))).collect::<Vec<_>>());
        let mixed = rig.drive(batch(&docs, [9, 3, 200, 3, 9, 4], &table)).await.unwrap();
        let rows = [Some(9001), Some(3001), None, Some(3001), Some(9001), Some(4001)];
        assert_eq!(plain(mixed), rows.map(Ok), "in order, one of them twice, one unknown");
        assert_eq!(table.asked(), [vec![0, 1, 2, 3, 4], vec![9, 200]]);
        settle().await;
        if with_remote {
            let (new, before) = (rig.cache().await, rig.remote.gets());
            let other = common::docs(&new);
            let found = rig.drive(batch(&other, [0, 1, 2, 3, 4, 9], &table)).await.unwrap();
            assert!(plain(found).into_iter().all(|row| matches!(row, Ok(Some(_)))));
            assert_eq!((table.asked(), rig.remote.gets() - before), (vec![], 6));
            assert_eq!(new.stats().namespaces["doc"].hits_remote, 6);
        }
        assert_eq!(docs.get(200_u64).await, None, "nothing is kept of what there is not");
        assert_eq!((cache.stats().flights, cache.stats().leases), (0, 0));
    }
}

#[tokio::test]
async fn batches_that_overlap_and_single_reads_share_the_load_of_each_key() {
    for nodes in [1, 2] {
        let rig = Rig::new();
        let caches = [rig.cache().await, rig.cache().await];
        let [here, there] = [docs(&caches[0]), docs(&caches[nodes - 1])];
        let table = Table::new();
        table.source.gate.set(false);
        let first = batch(&here, [1, 2, 3], &table);
        settle().await;
        let second = batch(&there, [3, 4, 1, 5], &table);
        settle().await;
        let single = spawn({
            let (docs, table) = (there.clone(), table.clone());
            async move {
                let load = move || async move { table.rows(vec![4]).await.map(|rows| rows[0].1) };
                docs.get_or_load(4_u64, load).await
            }
        });
        rig.pass(SECOND / 2).await;
        assert_eq!(table.asked(), [vec![1, 2, 3], vec![4, 5]], "on {nodes} nodes");
        table.source.gate.set(true);
        assert_eq!(plain(rig.drive(first).await.unwrap()), [1001, 2001, 3001].map(|row| Ok(Some(row))));
        assert_eq!(
            plain(rig.drive(second).await.unwrap()),
            [3001, 4001, 1001, 5001].map(|row| Ok(Some(row)))
        );
        assert_eq!(*rig.drive(single).await.unwrap().unwrap(), 4001);
        assert_eq!(table.asked(), Vec::<Vec<u64>>::new());
    }
}

/// Two batches want the same keys in opposite orders, and each leads some of the other's.
#[tokio::test]
async fn batches_that_want_each_others_keys_do_not_wait_for_each_other() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let (docs, table) = (docs(&cache), Table::new());
    let batches: Vec<_> = (0..20)
        .map(|i| batch(&docs, (0..30).map(|key| if i % 2 == 0 { key } else { 29 - key }).skip(i / 2), &table))
        .collect();
    for answers in batches {
        assert!(rig.drive(answers).await.unwrap().iter().all(|row| matches!(row, Ok(Some(_)))));
    }
    let asked: usize = table.asked().iter().map(Vec::len).sum();
    assert_eq!(asked, 30, "each key once");
}

#[tokio::test]
async fn a_batch_that_fails_gives_each_key_what_is_stale_of_it_and_the_others_the_error() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let policy = Policy::ttl(MINUTE).stale_if_error(HOUR).load_timeout(5 * SECOND).jitter(0.0);
    let docs = cache.namespace::<u64>("doc", policy).unwrap();
    let table = Table::new();
    rig.drive(batch(&docs, 0..3, &table)).await.unwrap();
    settle().await;
    rig.advance(10 * MINUTE);
    let _ = cache.invalidate([selector("doc:1")]).await;
    table.source.fail(true);
    let failed = || LoadError::Loader(Arc::new("the source is away"));
    let answers = plain(rig.drive(batch(&docs, 0..4, &table)).await.unwrap());
    assert_eq!(answers, [Ok(Some(1)), Err(failed()), Ok(Some(2001)), Err(failed())]);
    rig.advance(MINUTE);
    table.source.gate.set(false);
    let answers = plain(rig.drive(batch(&docs, 0..4, &table)).await.unwrap());
    assert_eq!(answers, [Ok(Some(1)), Err(LoadError::TimedOut), Ok(Some(2001)), Err(LoadError::TimedOut)]);
    assert_eq!((cache.stats().flights, cache.stats().leases), (0, 0));
}

/// A list of fifty rows, all of them stale, and a source that hangs. A caller who has patience for a second waits for one, and
/// not for fifty: for loads of his own, and of others.
#[tokio::test]
async fn a_batch_waits_for_many_slow_keys_as_long_as_for_one() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let policy = Policy::ttl(MINUTE).stale_if_error(HOUR).soft_timeout(SECOND).jitter(0.0);
    let docs = cache.namespace::<u64>("doc", policy).unwrap();
    let table = Table::new();
    rig.drive(batch(&docs, 0..50, &table)).await.unwrap();
    settle().await;
    rig.advance(10 * MINUTE);
    table.source.gate.set(false);
    let (leads, joins) = (batch(&docs, 0..30, &table), batch(&docs, 0..50, &table));
    rig.pass(SECOND + SECOND / 2).await;
    for answers in [leads, joins] {
        assert!(answers.is_finished());
        assert!(plain(joined(answers).await).iter().all(|row| matches!(row, Ok(Some(_)))));
    }
    table.source.gate.set(true);
    rig.eventually("the loads end", || cache.stats().flights == 0).await;
}

#[tokio::test]
async fn one_key_of_a_batch_may_fail_alone_and_values_may_have_ttls_and_tags_of_their_own() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let docs = docs(&cache);
    let each = |keys: Vec<u64>| async move {
        let row = |key| match key {
            2 => Err("this one not"),
            _ => Ok(Filled::new(key).ttl(Duration::from_secs(key)).tag(format!("t{key}"))),
        };
        Ok::<_, &str>(keys.into_iter().map(move |key| (key, row(key))))
    };
    let answers = plain(docs.get_many_or_load_each([1, 2, 30], each).await);
    let failed = LoadError::Loader(Arc::new("this one not"));
    assert_eq!(answers, [Ok(Some(1)), Err(failed), Ok(Some(30))]);
    settle().await;
    rig.advance(2 * SECOND);
    assert_eq!((docs.contains(1_u64).await, docs.contains(30_u64).await), (cache.is_enabled(), true));
    let _ = cache.invalidate([selector("#t30")]).await;
    assert_eq!(docs.get(30_u64).await, None);
}

#[tokio::test]
async fn a_batch_of_stale_values_answers_at_once_and_is_refreshed_as_one() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let (docs, table) = (docs(&cache), Table::new());
    rig.drive(batch(&docs, 0..5, &table)).await.unwrap();
    settle().await;
    table.asked();
    rig.advance(HOUR);
    table.source.write();
    table.source.gate.set(false);
    for _ in 0..3 {
        let stale = rig.drive(batch(&docs, 0..5, &table)).await.unwrap();
        assert_eq!(plain(stale)[4], Ok(Some(4001)));
        settle().await;
    }
    assert_eq!(table.asked(), [vec![0, 1, 2, 3, 4]]);
    table.source.gate.set(true);
    settle().await;
    assert_eq!(docs.get(4_u64).await.as_deref(), Some(&4002));
}

/// With the cache switched off a list must not become a query for each of its rows.
#[tokio::test]
async fn without_a_cache_a_batch_is_still_one_load() {
    let rig = Rig::new();
    let cache = rig.builder().enabled(false).build().await.unwrap();
    let (docs, table) = (docs(&cache), Table::new());
    for _ in 0..2 {
        let answers = plain(rig.drive(batch(&docs, [1, 2, 300], &table)).await.unwrap());
        assert_eq!(answers, [Ok(Some(1001)), Ok(Some(2001)), Ok(None)]);
    }
    assert_eq!(table.asked(), [vec![1, 2, 300], vec![1, 2, 300]]);
}

#[tokio::test]
async fn a_loader_of_a_batch_that_reads_one_of_its_keys_is_told() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let docs = docs(&cache);
    let inner = docs.clone();
    let answers = docs.get_many_or_load([1_u64, 2], move |keys| {
        let inner = inner.clone();
        async move {
            let read = inner.get_or_load(2_u64, || async { Ok::<_, &str>(0) }).await;
            Ok::<_, &str>(
                keys.into_iter().map(move |key| (key, u64::from(read == Err(LoadError::Recursive)))),
            )
        }
    });
    assert_eq!(plain(rig.drive(answers).await), [Ok(Some(1)), Ok(Some(1))]);
}

/// A caller goes away in the middle of its batch. Others wait for its keys.
#[tokio::test]
async fn a_batch_goes_on_without_its_caller() {
    let rig = Rig::new();
    let cache = rig.cache().await;
    let (docs, table) = (docs(&cache), Table::new());
    for path in [Path::Values, Path::Log] {
        rig.remote.set(|faults| faults.on(path).hang = true);
        let gone = batch(&docs, 0..3, &table);
        settle().await;
        let waits = batch(&docs, 1..4, &table);
        settle().await;
        gone.abort();
        rig.remote.set(|faults| faults.on(path).hang = false);
        assert!(rig.drive(waits).await.unwrap().iter().all(|row| matches!(row, Ok(Some(_)))));
        rig.eventually("it ends", || cache.stats().flights == 0).await;
        assert!(docs.contains(0_u64).await);
        let _ = cache.invalidate([selector("*")]).await;
    }
}
