//! What hurt users of other caches, each as the story it was reported with: several nodes on one real Redis.
//!
//! Lessons that one process can show alone are tests of the engine (`larder-core/tests/fences.rs`, `stale.rs`,
//! `restarts.rs`, `flights.rs`, `limits.rs`), those about responses of the HTTP layer (`larder-http/tests/invalidation.rs`). Those about
//! loads are in `storms.rs` here, those about what is kept for how long in `lives.rs`.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use larder::units::{HOUR, SECOND};
use larder::{
    Arrival, BoxFuture, Cache, CoarseClock, Delivery, Epoch, Fill, Filled, Moment, Outcome, Policy, Runtime,
    Selector, TokioRuntime, redis::Redis,
};
use larder_testkit::{Fault, FaultProxy, RedisCluster, RedisServer, Reply, wait_for, wait_until};

use super::support::{Held, Process, SOON, Source, calls};

async fn nodes<const N: usize>(url: &str, source: &Source) -> [Process; N] {
    let mut nodes = Vec::new();
    for _ in 0..N {
        nodes.push(Process::patient(Redis::at(url), source, &Policy::ttl(HOUR).jitter(0.0)).await);
    }
    nodes.try_into().ok().unwrap()
}

async fn arrive(node: &Process, token: Option<Epoch>) {
    assert_eq!(node.cache.arrive(token.unwrap()).await, Arrival::Arrived);
}

/// Lesson 1 (FusionCache#625), on another node: a load runs on Y while X removes the key. Y then stores the old value, here
/// and in Redis, for its full ttl.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "a reader beside the test")]
async fn lesson_1_a_load_that_another_nodes_invalidation_overtakes_is_served_nowhere() {
    let (server, source) = (RedisServer::start().await, Source::default());
    let [x, y] = nodes(&server.url(), &source).await;
    let held = Held::new();
    let (rows, slow, door) = (y.rows.clone(), source.clone(), held.passed());
    let load = tokio::spawn(async move {
        let load = move || async move {
            let value = slow.read();
            door.await;
            Ok::<_, Infallible>(value)
        };
        *rows.get_or_load("a", load).await.unwrap()
    });
    wait_until(SOON, "the load has read its data", || source.reads() == 1).await;
    let written = source.write();
    let token = x.rows.invalidate("a").await.token;
    arrive(&y, token).await;
    held.let_go();
    assert_eq!(load.await.unwrap(), 0, "who asked before the write may have the old value");
    for node in [&y, &x] {
        assert_eq!(node.read("a").await, written);
    }
    let [next] = nodes(&server.url(), &source).await;
    assert_eq!(next.read("a").await, written);
}

/// Lesson 2 (FusionCache#628, #535): a tag is deleted while an entry that carries it is refreshed in the background. The
/// refresh, which knows its tags only at its end, brings the old value back.
#[tokio::test(flavor = "multi_thread")]
async fn lesson_2_a_tag_that_is_invalidated_during_a_refresh_kills_what_the_refresh_brings() {
    let (server, source) = (RedisServer::start().await, Source::default());
    let [x, y] = nodes(&server.url(), &source).await;
    let policy = Policy::ttl(HOUR).jitter(0.0).stale_while_revalidate(HOUR);
    let (held, begun) = (Arc::new(Held::new()), Arc::new(AtomicUsize::new(0)));
    let (gate, begins, slow) = (held.clone(), begun.clone(), source.clone());
    // The first load is at once; the second one, the refresh, has read its data and does not come to an end.
    let load = move |_: String| {
        let (value, door) = (slow.read(), gate.passed());
        let is_refresh = begins.fetch_add(1, Ordering::SeqCst) == 1;
        async move {
            if is_refresh {
                door.await;
            }
            Ok::<_, Infallible>(Filled::new(value).tag("red"))
        }
    };
    let tagged = y.cache.namespace::<u64>("tagged", policy).unwrap().loader_with(load);
    assert_eq!(*tagged.load("a").await.unwrap(), 0);
    y.idle().await;
    assert!(tagged.expire("a").await.token.is_some());
    assert_eq!(tagged.fetch("a").await.unwrap().outcome, Outcome::Stale);
    wait_until(SOON, "the refresh to have read its data", || begun.load(Ordering::SeqCst) == 2).await;

    let written = source.write();
    let token = x.cache.invalidate([Selector::tag("red")]).await.token;
    arrive(&y, token).await;
    held.let_go();
    y.idle().await;
    assert_eq!(tagged.get("a").await, None, "what the refresh has brought is dead, here and in Redis");
    assert_eq!(*tagged.load("a").await.unwrap(), written);
}

/// Lesson 3 (FusionCache#613): the key is gone from memory and not yet from Redis; a read in between promotes it back into
/// memory, for hours. Here it stays in Redis, dead: nobody promotes it.
#[tokio::test(flavor = "multi_thread")]
async fn lesson_3_a_dead_value_in_redis_is_never_promoted_again() {
    let (server, source) = (RedisServer::start().await, Source::default());
    let [x, y] = nodes(&server.url(), &source).await;
    x.read("a").await;
    x.stored(1).await;
    let token = x.rows.invalidate("a").await.token;
    let there = server.command(&["EXISTS", "larder:row:a"]).await.unwrap();
    assert_eq!(there, Reply::Int(1), "nobody has deleted it");
    arrive(&y, token).await;
    for node in [&x, &y] {
        assert_eq!(node.rows.get("a").await, None);
    }
}

/// Lesson 5 (FusionCache#648): a hard clear, then a loader that fails: the fail-safe serves what was cleared, from Redis.
#[tokio::test(flavor = "multi_thread")]
async fn lesson_5_an_invalidated_value_is_not_even_served_stale_when_the_loader_fails() {
    let (server, source) = (RedisServer::start().await, Source::default());
    let failing = Arc::new(AtomicBool::new(false));
    let policy = Policy::ttl(HOUR).jitter(0.0).stale_while_revalidate(HOUR).stale_if_error(HOUR);
    let mut handles = Vec::new();
    let processes = [
        Process::with_policy(&server.url(), &source, policy.clone()).await,
        Process::with_policy(&server.url(), &source, policy.clone()).await,
    ];
    for process in &processes {
        let (failing, source) = (failing.clone(), source.clone());
        let rows = process.cache.namespace::<u64>("row", policy.clone()).unwrap().loader(move |_: String| {
            let (fails, value) = (failing.load(Ordering::SeqCst), source.read());
            async move { if fails { Err("the source is away") } else { Ok(value) } }
        });
        for key in ["a", "b"] {
            rows.load(key).await.unwrap();
        }
        process.idle().await;
        handles.push(rows);
    }
    failing.store(true, Ordering::SeqCst);
    let token = processes[0].rows.expire("b").await.token;
    arrive(&processes[1], token).await;
    for rows in &handles {
        assert_eq!(rows.fetch("b").await.unwrap().outcome, Outcome::Stale, "the fail-safe works");
    }
    let token = processes[0].cache.invalidate([Selector::all()]).await.token;
    arrive(&processes[1], token).await;
    for rows in handles {
        assert!(rows.load("a").await.is_err());
        assert_eq!(rows.get("a").await, None);
    }
}

/// A runtime whose calendar is wrong.
#[derive(Debug)]
struct Skewed {
    real: TokioRuntime,
    by_ms: i64,
}

impl Runtime for Skewed {
    fn now(&self) -> Moment {
        self.real.now()
    }
    fn coarse_clock(&self) -> CoarseClock {
        self.real.coarse_clock()
    }
    fn wall_millis(&self) -> u64 {
        self.real.wall_millis().saturating_add_signed(self.by_ms)
    }
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.real.sleep(duration)
    }
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.real.spawn(task);
    }
    fn random(&self) -> u64 {
        self.real.random()
    }
}

/// Lessons 6 and 7 (dotnet/extensions#7771, FusionCache#319, django-cachalot#19): tags are compared with a wall clock, and
/// the clocks of two nodes differ by a quarter of an hour: deleted entries live on, or new ones die for a quarter of an
/// hour, silently.
#[tokio::test(flavor = "multi_thread")]
async fn lessons_6_and_7_clocks_that_differ_by_a_quarter_of_an_hour_change_nothing() {
    const QUARTER: i64 = 15 * 60 * 1000;
    let (server, source) = (RedisServer::start().await, Source::default());
    let mut nodes = Vec::new();
    for by_ms in [-QUARTER, 0, QUARTER] {
        let runtime = Arc::new(Skewed { real: TokioRuntime::current(), by_ms });
        let builder = Cache::builder().remote(Redis::at(server.url())).remote_budget(SOON);
        let cache = builder.runtime(runtime).build().await.unwrap();
        let rows = cache.namespace::<u64>("row", Policy::ttl(HOUR).jitter(0.0)).unwrap();
        nodes.push((cache, rows));
    }
    for (writer, _) in &nodes {
        for (at, (reader, rows)) in nodes.iter().enumerate() {
            let stores = || reader.stats().namespaces["row"].stores;
            let before = stores();
            let slot = rows.begin("a");
            assert!(slot.put_with(source.read(), &Fill::new().tags(vec!["red".into()])), "new entries live");
            wait_until(SOON, "the store to reach Redis", || stores() > before).await;
            let other = &nodes[(at + 1) % 3].1;
            let load = || async { Ok::<_, Infallible>(999) };
            // What another node has stored a moment ago is fresh here, and as old as it is.
            let found = *other.get_or_load("a", load).await.unwrap();
            assert!(found != 999, "a hit");
            let token =
                writer.invalidate([Selector::tag("red"), Selector::key(("row", "a"))]).await.token.unwrap();
            for (node, rows) in &nodes {
                assert_eq!(node.arrive(token).await, Arrival::Arrived);
                assert_eq!(rows.get("a").await, None, "what was invalidated is gone");
            }
        }
    }
}

/// Lesson 8 (rueidis#534): a client reads right after its own write and gets the old value, because the push that
/// invalidates its local copy comes after the reply.
#[tokio::test(flavor = "multi_thread")]
async fn lesson_8_a_read_after_the_own_invalidation_returned_sees_it() {
    let (server, source) = (RedisServer::start().await, Source::default());
    let [x, y] = nodes(&server.url(), &source).await;
    let mut bypassed = 0;
    for _ in 0..300 {
        y.read("a").await;
        x.read("a").await;
        let written = source.write();
        let token = x.rows.invalidate("a").await.token;
        assert!(token.is_some(), "delivered");
        assert_eq!(x.read("a").await, written);
        let elsewhere = y.rows.at_least(token).fetch("a").await.unwrap();
        assert_eq!(*elsewhere.value, written, "and elsewhere, by its token");
        bypassed += usize::from(elsewhere.outcome == Outcome::Bypass);
    }
    assert!(bypassed < 30, "{bypassed} of 300 reads went past the cache: a token that is of no use");
}

/// Lesson 9 (JetCache#714, redisson#4653, EasyCaching#428): the backplane is away for a moment, a message is lost, and
/// local copies stay as they are until their ttl; nobody knows.
#[tokio::test(flavor = "multi_thread")]
async fn lesson_9_what_was_invalidated_while_a_node_was_cut_off_is_gone_when_it_is_back() {
    let (server, source) = (RedisServer::builder().persistent(true).start().await, Source::default());
    let proxy = FaultProxy::to(server.addr()).await;
    let ([x], [y]) = (nodes(&server.url(), &source).await, nodes(&proxy.url(), &source).await);
    for lost in ["nothing", "the record", "the stamps", "everything", "the connections", "the server"] {
        y.read("a").await;
        let gaps = || y.cache.health().remote.unwrap().log.gaps;
        let before = gaps();
        proxy.set(Fault::BlackHole);
        let written = source.write();
        let invalidated = x.cache.invalidate([Selector::under("row")]).await;
        assert_eq!(invalidated.state, Delivery::Delivered, "{lost}: y is cut off, and x is not");
        match lost {
            "the record" => {
                let trimmed = server.command(&["XTRIM", "{larder}:log", "MAXLEN", "0"]).await.unwrap();
                assert!(trimmed.int().unwrap() > 0, "it is nowhere any more");
            }
            "the stamps" => {
                server.command(&["UNLINK", "{larder}:state", "{larder}:log"]).await.unwrap();
            }
            "everything" => server.flush_all().await,
            "the connections" => {
                server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await.unwrap();
            }
            "the server" => {
                server.kill();
                server.restart().await;
            }
            _ => {}
        }
        // What was on its way to y does not arrive either.
        proxy.set(Fault::Reset);
        proxy.set(Fault::None);
        x.settled().await;
        y.settled().await;
        let mut token = None;
        wait_for(SOON, "an invalidation to be delivered", async || {
            token = x.rows.invalidate("b").await.token;
            token.is_some()
        })
        .await;
        let token = token.unwrap();
        wait_for(SOON, "y to be connected again, and to have come as far", async || {
            y.cache.arrive(token).await == Arrival::Arrived
        })
        .await;
        assert_eq!(y.read("a").await, written, "{lost} was lost");
        if lost == "the record" {
            assert!(gaps() > before, "and it is said that something went by unseen");
        }
    }
}

/// Lesson 10 (JetCache#945, #966): a mismatch in the setup keeps messages from being understood, silently; users lose days. Here a
/// server that cannot be told from its successor is said at the start.
#[tokio::test(flavor = "multi_thread")]
async fn lesson_10_a_setup_that_could_lose_invalidations_is_said_at_the_start() {
    let (server, source) = (RedisServer::start().await, Source::default());
    server.command(&["ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all", "-info"]).await.unwrap();
    let url = format!("redis://app:secret@{}", server.addr());
    let [blind] = nodes(&url, &source).await;
    wait_until(SOON, "it is said", || blind.events.count("cache_gap") == 1).await;
    let [well] = nodes(&server.url(), &source).await;
    assert_eq!(well.events.count("cache_gap"), 0);
    let written = source.write();
    let token = blind.rows.invalidate("a").await.token;
    assert_eq!(*well.rows.at_least(token).load("a").await.unwrap(), written, "and it works all the same");
}

/// Appends a record of a format to come, as a later release may, and answers its position.
const FROM_THE_FUTURE: &str = "
    local line, last = unpack(redis.call('HMGET', KEYS[1], '.line', '.last'))
    local at = string.format('%.0f', last + 1)
    redis.call('XADD', KEYS[2], at .. '-0', 'v', '2', 'line', line, 'prev', line .. ':' .. last, 'what', 'who knows')
    redis.call('HSET', KEYS[1], '.last', at)
    return line .. ' ' .. at";

/// Lesson 10, where the other side is of another release: it says something in a way that this one cannot read. Whatever that
/// was, it may have been about everything.
#[tokio::test(flavor = "multi_thread")]
async fn lesson_10_a_record_that_cannot_be_understood_is_taken_for_everything() {
    let (server, source) = (RedisServer::start().await, Source::default());
    let [x, y] = nodes(&server.url(), &source).await;
    for key in ["a", "b"] {
        for node in [&x, &y] {
            node.read(key).await;
            node.idle().await;
        }
    }
    assert_eq!((x.rows.get("a").await.as_deref(), y.rows.get("b").await.as_deref()), (Some(&0), Some(&0)));
    let append = ["EVAL", FROM_THE_FUTURE, "2", "{larder}:state", "{larder}:log"];
    let appended = server.command(&append).await.unwrap();
    let appended = String::from_utf8_lossy(appended.bytes().expect("a position")).into_owned();
    let (line, at) = appended.split_once(' ').unwrap();
    let token = Epoch { line: u64::from_str_radix(line, 16).unwrap(), at: at.parse().unwrap() };
    for node in [&x, &y] {
        arrive(node, Some(token)).await;
        assert_eq!(node.cache.health().remote.unwrap().log.gaps, 0, "it was read, in its place");
        for key in ["a", "b"] {
            assert_eq!(node.rows.get(key).await, None, "{key}: neither from memory nor from Redis");
        }
    }
    let written = source.write();
    assert_eq!((x.read("a").await, y.read("a").await), (written, written), "and it goes on");
}

/// Lesson 11 (bentocache#71, #80, #63; FusionCache#553): soft and hard are confused with grace periods, and differ from
/// tier to tier and node to node.
#[tokio::test(flavor = "multi_thread")]
async fn lesson_11_expire_is_stale_and_invalidate_is_a_miss_on_every_node_and_in_every_tier() {
    let (server, source) = (RedisServer::start().await, Source::default());
    let policy = Policy::ttl(HOUR).jitter(0.0).stale_while_revalidate(HOUR);
    let start = || Process::patient(Redis::at(server.url()), &source, &policy);
    let (x, y) = (start().await, start().await);
    for node in [&x, &y] {
        assert_eq!(node.read("a").await, 0);
        node.idle().await;
    }
    let new = source.write();
    let token = x.rows.expire("a").await.token;
    // Memory here, memory there, and Redis for a node that begins.
    let z = start().await;
    // Nobody's refresh comes to an end.
    let held = Arc::new(Held::new());
    for node in [&x, &y, &z] {
        let (gate, slow) = (held.clone(), source.clone());
        let rows = node.cache.namespace::<u64>("row", policy.clone()).unwrap().loader(move |_: String| {
            let (value, door) = (slow.read(), gate.passed());
            async move {
                door.await;
                Ok::<_, Infallible>(value)
            }
        });
        arrive(node, token).await;
        let found = rows.fetch("a").await.unwrap();
        assert_eq!((found.outcome, *found.value), (Outcome::Stale, 0));
    }
    held.let_go();
    for node in [&x, &y, &z] {
        node.idle().await;
        wait_for(SOON, "the refresh", async || node.read("a").await == new).await;
        node.idle().await;
    }
    let written = source.write();
    let token = y.rows.invalidate("a").await.token;
    for node in [&x, &y, &z] {
        arrive(node, token).await;
        assert_eq!(node.rows.get("a").await, None, "neither in memory nor in Redis, and not as stale");
    }
    for node in [&x, &y, &z] {
        assert_eq!(node.read("a").await, written);
    }
}

/// Lesson 17 (FusionCache#442, #423, #503): every notification makes every node read from Redis, until it times out.
#[tokio::test(flavor = "multi_thread")]
async fn lesson_17_an_invalidation_makes_no_node_read_a_value() {
    let (server, source) = (RedisServer::start().await, Source::default());
    let [w, x, y, z] = nodes(&server.url(), &source).await;
    for node in [&w, &x, &y, &z] {
        for key in 0..10 {
            node.read(&key.to_string()).await;
        }
        node.idle().await;
    }
    let reads = async || calls(&server, "get").await + calls(&server, "mget").await;
    let (read, scripts, loads) = (reads().await, calls(&server, "evalsha").await, source.reads());
    let mut token = None;
    for i in 0..1000 {
        token = w.cache.invalidate([Selector::under(("row", i % 10))]).await.token;
    }
    for node in [&x, &y, &z] {
        arrive(node, token).await;
        node.idle().await;
    }
    assert_eq!((reads().await - read, source.reads() - loads), (0, 0));
    let scripts = calls(&server, "evalsha").await - scripts;
    assert!(
        (1000..1020).contains(&scripts),
        "{scripts} scripts: one for each invalidation, and none for its hearers"
    );
    for node in [&w, &x, &y, &z] {
        assert_eq!(node.rows.get("3").await, None, "they have all heard");
    }
}

/// Lesson 21 (laravel#43850: a gigabyte a week; next-shared-cache#852: ten times as many rows for tags as entries): the index of tags
/// grows without end.
#[tokio::test(flavor = "multi_thread")]
async fn lesson_21_tags_that_come_and_go_leave_nothing_that_grows() {
    const LIMIT: u32 = 500;
    let server = RedisServer::start().await;
    let redis = Redis::at(server.url()).stamp_limit(LIMIT);
    let cache = Cache::builder().remote(redis).stamp_limit(LIMIT as usize).build().await.unwrap();
    let rows = cache.namespace::<u64>("row", Policy::ttl(SECOND)).unwrap();
    for some in 0..600_u64 {
        let each = (some * 20..some * 20 + 20).map(async |i| {
            rows.begin(i % 50).put_with(i, &Fill::new().tags(vec![format!("tag-{i}")]));
            cache.invalidate([Selector::tag(&format!("tag-{i}"))]).await
        });
        drop(join_all(each).await);
    }
    let int = |reply: Reply| reply.int().unwrap();
    let state = int(server.command(&["HLEN", "{larder}:state"]).await.unwrap());
    let records = int(server.command(&["XLEN", "{larder}:log"]).await.unwrap());
    // Redis cuts off whole nodes of a stream, of a hundred entries each.
    assert!((9_000..=10_200).contains(&records), "{records} records");
    let old = int(server.command(&["HLEN", "{larder}:old"]).await.unwrap());
    assert!(state <= i64::from(LIMIT) + 10 && old <= i64::from(LIMIT) + 10, "{state} and {old} stamps");
    // Two generations, each with a quarter more than it is asked to hold.
    let rows = cache.stats().stamps;
    assert!(rows <= 2 * (LIMIT + LIMIT / 4) as usize + 32, "{rows} rows");
    let keys = server.keys().await;
    assert!(keys.len() <= 50 + 3, "{} keys: values, and the three of the log", keys.len());
    for key in ["{larder}:state", "{larder}:old", "{larder}:log"] {
        assert!(int(server.command(&["PTTL", key]).await.unwrap()) > 0, "{key} has a life");
    }
}

/// Lesson 22 (medusa#14774, civitai PR#2443: 504 waves over 60 M keys; vibetuner#2005): deleting by pattern walks through
/// the keys while requests wait.
#[tokio::test(flavor = "multi_thread")]
async fn lesson_22_nothing_walks_through_keys_but_a_sweep_that_was_asked_for() {
    let (server, source) = (RedisServer::start().await, Source::default());
    let [x, y] = nodes(&server.url(), &source).await;
    for i in 0..300 {
        x.read(&i.to_string()).await;
    }
    x.stored(300).await;
    let invalidated =
        x.cache.invalidate([Selector::under("row"), Selector::tag("red"), Selector::all()]).await;
    arrive(&y, invalidated.token).await;
    assert_eq!((calls(&server, "keys").await, calls(&server, "scan").await), (0, 0));
    assert_eq!(invalidated.swept().await.remote, 300);
    assert_eq!(calls(&server, "keys").await, 0);
    assert!((1..10).contains(&calls(&server, "scan").await), "in steps, not key by key");
}

/// Lesson 23 (bentocache#92, #88; souin#417: a delete of keys in two slots panics; laravel#50415, #53927; JetCache#815, #421: after a
/// failover the old map of the cluster is used on). One invalidation of keys in every slot, and its sweep; then the owner of the log
/// and that of a third of the values is replaced, and all of it once more.
#[tokio::test(flavor = "multi_thread")]
async fn lesson_23_on_a_cluster_one_call_reaches_every_slot_and_so_it_does_after_a_failover() {
    const KEYS: u64 = 60;
    let (cluster, source) = (RedisCluster::start().await, Source::default());
    let [x, y] = nodes(&cluster.url(), &source).await;
    let values = async || {
        let keys = cluster.keys().await;
        keys.iter().filter(|key| key.starts_with(b"larder:row:") && !key.ends_with(b":lease")).count()
    };
    let well = async |node: &Process| {
        wait_for(SOON * 3, "a node to be well", async || {
            // An open breaker waits for somebody who wants something.
            let _ = node.rows.get("nobody's").await;
            let health = node.cache.health();
            health.status == "ok" && health.remote.unwrap().log.pending_invalidations == 0
        })
        .await;
    };
    let once = async |written: u64, stored: u64| {
        for key in 0..KEYS {
            assert_eq!(x.read(&key.to_string()).await, written);
        }
        x.stored(stored).await;
        for primary in cluster.primaries().await {
            assert!(primary.keys().await.len() > 5, "values are everywhere");
        }
        let loads = y.loads();
        for key in 0..KEYS {
            assert_eq!(y.read(&key.to_string()).await, written);
        }
        assert_eq!(y.loads(), loads, "found in every slot");

        let written = source.write();
        let selectors = [Selector::under("row"), Selector::tag("red"), Selector::key(("row", "1"))];
        let invalidated = x.cache.invalidate(selectors).await;
        assert_eq!(invalidated.state, Delivery::Delivered);
        arrive(&y, invalidated.token).await;
        for key in 0..KEYS {
            for node in [&x, &y] {
                assert_eq!(node.rows.get(&*key.to_string()).await, None);
            }
        }
        let swept = invalidated.swept().await;
        assert_eq!((swept.remote, swept.complete, values().await), (KEYS, true, 0));
        written
    };
    let written = once(0, KEYS).await;
    cluster.settle().await;
    cluster.fail_over("{larder}:state").await;
    for node in [&x, &y] {
        well(node).await;
    }
    once(written, 2 * KEYS).await;
}
