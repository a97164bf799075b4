//! What hurt users of other caches where many ask at once, each as the story it was reported with: lessons 14 to 19.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use larder::units::{HOUR, MINUTE, SECOND};
use larder::{LoadError, Namespace, NoLoader, Outcome, Policy, redis::Redis};
use larder_testkit::{RedisServer, wait_for, wait_until};
use tokio::task::{JoinSet, yield_now};

use super::support::{Held, Process, SOON, Source, no_lease};

/// Counts those who are dropped.
struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn rows(process: &Process, policy: &Policy) -> Namespace<larder::AnyKey, u64, NoLoader> {
    process.cache.namespace("row", policy.clone()).unwrap()
}

/// Lesson 14 (Altinn/dialogporten#4252, PR#4300): a loader hangs. Those who wait are let go at a timeout, the load is not: it keeps
/// the lock of its key, and each request after it waits for its whole timeout. Six outages, 96 requests in the queue.
#[tokio::test(flavor = "multi_thread")]
async fn lesson_14_a_loader_that_hangs_is_cancelled_at_its_deadline_with_all_it_holds() {
    const READERS: usize = 96;
    let (server, source) = (RedisServer::start().await, Source::default());
    // One place for loads in each process, and no queue.
    let policy = Policy::ttl(HOUR).load_timeout(2 * SECOND).max_loads(1).load_queue(0);
    let [x, y] = [
        Process::patient(Redis::at(server.url()), &source, &policy).await,
        Process::patient(Redis::at(server.url()), &source, &policy).await,
    ];
    let (begun, dropped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let began = x.cache.runtime().now();
    let mut readers = JoinSet::new();
    for i in 0..2 * READERS {
        let rows = rows(if i % 2 == 0 { &x } else { &y }, &policy);
        let (begun, dropped) = (begun.clone(), dropped.clone());
        readers.spawn(async move {
            let load = move || async move {
                begun.fetch_add(1, Ordering::SeqCst);
                let _held = Dropped(dropped);
                std::future::pending::<Result<u64, Infallible>>().await
            };
            rows.get_or_load("a", load).await
        });
    }
    for answer in readers.join_all().await {
        assert!(matches!(answer, Err(LoadError::TimedOut)), "{answer:?}");
    }
    // One after the other would be minutes.
    let took = x.cache.runtime().now().since(began);
    assert!(took < 20 * SECOND, "{took:?}");
    println!(
        "lesson 14: {} readers of a loader that hangs, 2 s at the most, told after {took:?}",
        2 * READERS
    );
    assert!(begun.load(Ordering::SeqCst) <= 2, "one load in each process at the most");
    assert_eq!(dropped.load(Ordering::SeqCst), begun.load(Ordering::SeqCst), "what they hold is let go of");
    for process in [&x, &y] {
        process.idle().await;
    }
    no_lease(&server).await;
    assert_eq!((x.read("a").await, y.read("b").await), (0, 0), "the place is free, and so is the key");
}

/// Lesson 14, and health was green: the loader does not even wait, it blocks its thread. Nothing can cancel it. It is named, shown,
/// and nobody waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[expect(clippy::disallowed_methods, reason = "readers beside the test")]
async fn lesson_14_a_loader_that_blocks_its_thread_is_named_and_shown_and_nobody_waits_for_it() {
    let (server, source) = (RedisServer::start().await, Source::default());
    let policy = Policy::ttl(HOUR).load_timeout(SECOND);
    let x = Process::patient(Redis::at(server.url()), &source, &policy).await;
    let y = Process::patient(Redis::at(server.url()), &source, &Policy::ttl(HOUR).load_timeout(MINUTE)).await;
    let (let_go, blocked) = std::sync::mpsc::channel::<()>();
    let begun = Arc::new(AtomicUsize::new(0));
    let (handle, begins) = (rows(&x, &policy), begun.clone());
    let load = move || async move {
        // On, into a task of its own.
        yield_now().await;
        begins.fetch_add(1, Ordering::SeqCst);
        // An error says that the test is over.
        let _ = blocked.recv();
        Ok::<_, Infallible>(77)
    };
    let first = tokio::spawn(async move { handle.get_or_load("a", load).await });
    wait_until(SOON, "the loader to block", || begun.load(Ordering::SeqCst) == 1).await;
    let handle = x.rows.clone();
    let waiter = tokio::spawn(async move { handle.load("a").await });
    let handle = y.rows.clone();
    let elsewhere = tokio::spawn(async move { handle.load("a").await });
    assert!(matches!(waiter.await.unwrap(), Err(LoadError::TimedOut)));
    wait_until(SOON, "it to be named", || x.events.count("cache_load_overdue") == 1).await;
    let health = x.cache.health();
    assert_eq!((health.status, health.hung_loads), ("degraded", 1));
    assert_eq!(*elsewhere.await.unwrap().unwrap(), 0, "another process loads");
    assert_eq!((x.read("a").await, x.read("b").await), (0, 0));
    let_go.send(()).unwrap();
    // Its own caller has what it waited for, or was told.
    let _ = first.await.unwrap();
    wait_until(SOON, "health to be good again", || x.cache.health().status == "ok").await;
    x.idle().await;
    no_lease(&server).await;
}

/// Polls a future so many times, and drops it if that was not enough.
async fn cut_short<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let (mut future, mut left) = (Box::pin(future), polls);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => {
            left -= 1;
            if left == 0 { Poll::Ready(None) } else { Poll::Pending }
        }
    })
    .await
}

/// Lesson 15 (FusionCache#218, #647, #646; JetCache#234): a caller is cancelled, a loader throws before its first wait, a store
/// fails: the lock of the key is never let go of. Here a caller goes away after its first poll, its second, and so on, at every
/// place where it can; then loaders panic everywhere; each time flight, lease and place are free.
#[tokio::test(flavor = "multi_thread")]
async fn lesson_15_wherever_a_caller_leaves_or_a_loader_panics_flight_lease_and_place_are_free() {
    let (server, source) = (RedisServer::start().await, Source::default());
    let policy = Policy::ttl(HOUR).max_loads(1).load_queue(0);
    let [x, y] = [
        Process::patient(Redis::at(server.url()), &source, &policy).await,
        Process::patient(Redis::at(server.url()), &source, &policy).await,
    ];
    let free = async |key: &str| {
        x.idle().await;
        no_lease(&server).await;
        assert_eq!(x.read(key).await, 0, "{key} can be loaded");
        assert_eq!(x.read(&format!("{key}-beside")).await, 0, "there is a place");
    };
    let handle = rows(&x, &policy);
    let mut left = 0;
    for polls in 1.. {
        let key = format!("left-{polls}");
        let load = || async {
            for _ in 0..3 {
                yield_now().await;
            }
            Ok::<_, Infallible>(0)
        };
        match cut_short(polls, handle.get_or_load(key.as_str(), load)).await {
            None => left += 1,
            Some(read) => {
                assert_eq!(*read.unwrap(), 0);
                break;
            }
        }
        free(&key).await;
    }
    assert!(left >= 2, "the look into Redis and the lease, at least: {left}");
    // The same, while another process has the lease.
    for polls in 1..6 {
        let (key, held) = (format!("waited-{polls}"), Held::new());
        let door = held.passed();
        let other = rows(&y, &policy);
        let load = move || async move {
            door.await;
            Ok::<_, Infallible>(0)
        };
        let mut first = Box::pin(other.get_or_load(key.as_str(), load));
        wait_for(SOON, "the lease to be taken", async || {
            assert!(cut_short(1, &mut first).await.is_none());
            y.cache.stats().leases == 1
        })
        .await;
        assert!(cut_short(polls, x.rows.load(key.as_str())).await.is_none());
        held.let_go();
        first.await.unwrap();
        y.idle().await;
        free(&key).await;
    }
    for polls in 0..3 {
        let key = format!("panic-{polls}");
        let load = move || {
            assert!(polls > 0, "on purpose, before there is anything to wait for");
            async move {
                if polls > 1 {
                    yield_now().await;
                }
                panic!("on purpose")
            }
        };
        let read: Result<_, LoadError<Infallible>> = handle.get_or_load(key.as_str(), load).await;
        assert!(matches!(read, Err(LoadError::Panicked)));
        free(&key).await;
    }
    let inner = handle.clone();
    let load = move || async move {
        let again = inner.get_or_load("self", || async { Ok::<_, Infallible>(1) }).await;
        assert!(matches!(again, Err(LoadError::Recursive)), "it is told, and does not wait for itself");
        Ok::<_, Infallible>(0)
    };
    assert_eq!(*handle.get_or_load("self", load).await.unwrap(), 0);
    free("self").await;
}

/// Lesson 15, where the store fails: because Redis is full, or because the value cannot be encoded. The value is there all the same,
/// and those who wait elsewhere are not left alone with a lease that nobody ends.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "readers beside the test")]
async fn lesson_15_a_store_that_fails_costs_nobody_his_value_and_ends_the_lease() {
    let (server, source) = (RedisServer::start().await, Source::default());
    let policy = Policy::ttl(HOUR);
    let [x, y] = [
        Process::patient(Redis::at(server.url()), &source, &policy).await,
        Process::patient(Redis::at(server.url()), &source, &policy).await,
    ];
    let (held, handle) = (Held::new(), rows(&x, &policy));
    let door = held.passed();
    let load = move || async move {
        door.await;
        Ok::<_, Infallible>(5)
    };
    let first = tokio::spawn(async move { handle.get_or_load("full", load).await });
    wait_until(SOON, "the lease", || x.cache.stats().leases == 1).await;
    let waiting = y.rows.clone();
    let second = tokio::spawn(async move { waiting.load("full").await });
    wait_until(SOON, "somebody to wait for it", || y.cache.stats().flights == 1).await;
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).await.unwrap();
    held.let_go();
    assert_eq!(*first.await.unwrap().unwrap(), 5);
    assert_eq!(*second.await.unwrap().unwrap(), 0, "what it has loaded for itself");
    x.idle().await;
    no_lease(&server).await;
    assert_eq!(x.cache.stats().namespaces["row"].store_errors, 1);
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).await.unwrap();

    // The keys of JSON's objects are strings.
    let odd = x.cache.namespace::<BTreeMap<(u8, u8), u8>>("odd", policy).unwrap();
    let value = BTreeMap::from([((1, 2), 3)]);
    let loaded = value.clone();
    let read = odd.get_or_load("a", || async { Ok::<_, Infallible>(loaded) }).await;
    assert_eq!(*read.unwrap(), value);
    x.idle().await;
    no_lease(&server).await;
    assert_eq!(x.cache.stats().namespaces["odd"].store_errors, 1);
}

/// Lesson 16 (cashews#127): whoever waits for a lock holds a connection of the pool; the holder cannot get one to unlock. 5 000 calls
/// over 100 connections hang. Here it is one connection, three hundred who wait, and others who read past them.
#[tokio::test(flavor = "multi_thread")]
async fn lesson_16_whoever_waits_for_another_process_holds_no_connection() {
    const WAITING: usize = 300;
    const READS: usize = 200;
    let (server, source, policy) = (RedisServer::start().await, Source::default(), Policy::ttl(HOUR));
    let y = Process::patient(Redis::at(server.url()), &source, &policy).await;
    for i in 0..READS {
        y.read(&format!("there-{i}")).await;
    }
    y.stored(READS as u64).await;
    let one = Redis::at(server.url()).connections(1);
    // If somebody held the connection the reads would be over only with the loads.
    let x = Process::patient(one, &source, &policy).await;
    let (held, handle) = (Held::new(), rows(&y, &policy));
    let (mut loading, mut waiting) = (JoinSet::new(), JoinSet::new());
    for i in 0..WAITING {
        let (handle, door) = (handle.clone(), held.passed());
        loading.spawn(async move {
            let load = move || async move {
                door.await;
                Ok::<_, Infallible>(9)
            };
            *handle.get_or_load(format!("cold-{i}"), load).await.unwrap()
        });
    }
    wait_until(SOON, "every lease", || y.cache.stats().leases == WAITING).await;
    for i in 0..WAITING {
        let rows = x.rows.clone();
        waiting.spawn(async move { *rows.load(&format!("cold-{i}")).await.unwrap() });
    }
    wait_until(SOON, "all to wait", || x.cache.stats().flights == WAITING).await;
    let began = x.cache.runtime().now();
    let mut hits = 0;
    for i in 0..READS {
        let found = x.rows.fetch(format!("there-{i}").as_str()).await.unwrap();
        hits += usize::from(found.outcome == Outcome::Hit);
    }
    let took = x.cache.runtime().now().since(began);
    println!("lesson 16: {READS} reads past {WAITING} who wait, on one connection: {took:?}");
    assert_eq!(hits, READS, "from Redis, and in time");
    assert_eq!(x.cache.stats().flights, WAITING, "and the others wait still");
    assert_eq!(x.loads(), 0);
    held.let_go();
    assert!(waiting.join_all().await.iter().all(|value| *value == 9));
    assert!(loading.join_all().await.iter().all(|value| *value == 9));
}

/// Lesson 18 (laravel PR#60920, #61289, #61303; dotnet/extensions#6759): what is stale is refreshed by one, but what is missing is
/// loaded by all, or by one in each process. Herds across real processes, and through faults, are in `tests/leases`.
#[tokio::test(flavor = "multi_thread")]
async fn lesson_18_what_is_missing_is_loaded_by_one_process_and_not_only_what_is_stale() {
    let (server, source) = (RedisServer::start().await, Source::default());
    let policy = Policy::ttl(HOUR);
    let mut processes = Vec::new();
    for _ in 0..4 {
        processes.push(Process::patient(Redis::at(server.url()), &source, &policy).await);
    }
    let (held, loads) = (Held::new(), Arc::new(AtomicUsize::new(0)));
    let mut readers = JoinSet::new();
    for i in 0..200 {
        let (handle, door, loads) = (rows(&processes[i % 4], &policy), held.passed(), loads.clone());
        readers.spawn(async move {
            let load = move || async move {
                loads.fetch_add(1, Ordering::SeqCst);
                door.await;
                Ok::<_, Infallible>(4)
            };
            *handle.get_or_load("a", load).await.unwrap()
        });
    }
    wait_until(SOON, "every process to want it", || {
        processes.iter().all(|process| process.cache.stats().flights == 1)
    })
    .await;
    held.let_go();
    assert!(readers.join_all().await.iter().all(|value| *value == 4));
    assert_eq!(loads.load(Ordering::SeqCst), 1);
}

/// Lesson 19 (FusionCache#651): every node that has the value refreshes it at the source, although the first of them has put the new
/// one into Redis. The same for refreshes ahead of time.
#[tokio::test(flavor = "multi_thread")]
async fn lesson_19_a_refresh_asks_redis_first_and_so_does_one_ahead_of_time() {
    let (server, source) = (RedisServer::start().await, Source::default());
    let policy = Policy::ttl(HOUR).jitter(0.0).stale_while_revalidate(HOUR);
    let mut processes = Vec::new();
    for _ in 0..4 {
        processes.push(Process::patient(Redis::at(server.url()), &source, &policy).await);
    }
    for process in &processes {
        assert_eq!(process.read("a").await, 0);
        process.idle().await;
    }
    assert_eq!(source.reads(), 1);
    let new = source.write();
    let token = processes[0].rows.expire("a").await.token.unwrap();
    for process in &processes {
        assert_eq!(process.cache.arrive(token).await, larder::Arrival::Arrived);
    }
    for process in &processes {
        let stale = process.rows.fetch("a").await.unwrap();
        assert!(stale.outcome == Outcome::Stale || *stale.value == new, "{stale:?}");
        wait_for(SOON, "the refresh", async || process.read("a").await == new).await;
        // Until it is in Redis, too.
        processes[0].stored(2).await;
    }
    assert_eq!(source.reads(), 2, "one refresh for all");

    // So eager that every hit after the first refreshes: a load that takes long, of a value that is about to end.
    let eager = Policy::ttl(MINUTE).jitter(0.0).early_refresh(100.0);
    let [x, y] = [
        Process::patient(Redis::at(server.url()), &source, &policy).await,
        Process::patient(Redis::at(server.url()), &source, &policy).await,
    ];
    let loads = Arc::new(AtomicUsize::new(0));
    let handles = [&x, &y].map(|process| {
        let (loads, runtime) = (loads.clone(), process.cache.runtime().clone());
        process.cache.namespace::<u64>("eager", eager.clone()).unwrap().loader(move |_: String| {
            let (load, pause) = (loads.fetch_add(1, Ordering::SeqCst) as u64, runtime.sleep(SECOND));
            async move {
                // The third one is one too many, and never ends.
                if load > 1 {
                    std::future::pending::<()>().await;
                }
                pause.await;
                Ok::<_, Infallible>(load)
            }
        })
    });
    let stores = |process: &Process| process.cache.stats().namespaces["eager"].stores;
    assert_eq!(*handles[0].load("a").await.unwrap(), 0);
    wait_until(SOON, "it to be in Redis", || stores(&x) == 1).await;
    assert_eq!(*handles[1].load("a").await.unwrap(), 0);
    assert_eq!(loads.load(Ordering::SeqCst), 1);
    wait_for(SOON, "a refresh ahead of time by one", async || {
        handles[0].load("a").await.unwrap();
        stores(&x) == 2
    })
    .await;
    // The other one's own refresh finds it there.
    wait_for(SOON, "the other one to have it, too", async || *handles[1].load("a").await.unwrap() == 1).await;
    assert_eq!(y.cache.stats().namespaces["eager"].load_failures, 0);
    assert_eq!(y.cache.stats().namespaces["eager"].loads, 0);
}
