//! What Redis is told to keep, and for how long: lesson 20, and the rule that was drawn from keys which never ended.
//!
//! That no combination of options makes a lifetime of another length than the one documented formula is a property test of the
//! engine (`larder-core/src/policy/lifetime.rs`, and `adaptive.rs` and `early.rs` beside it). Here is what becomes of it in Redis.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use larder::units::{HOUR, MINUTE, SECOND};
use larder::{Cache, Fill, Policy, Selector, redis::Redis};
use larder_testkit::{RedisServer, wait_until};

use super::support::{Held, Process, SOON, Source, calls, no_lease};

async fn number(server: &RedisServer, command: &[&str]) -> i64 {
    server.command(command).await.unwrap().int().unwrap()
}

/// Lesson 20 (rails#54229, #34918; laravel-responsecache#525; FusionCache#374, #115): the race window became the ttl, the grace was
/// meant to be in addition, jitter was put on top. Here a value is in Redis for its ttl and the longer of its windows, to the
/// millisecond: not for their sum, not for less, and no option that is about something else has a say.
#[tokio::test(flavor = "multi_thread")]
async fn lesson_20_a_value_is_in_redis_for_its_ttl_and_the_longer_window_whatever_else_is_set() {
    let server = RedisServer::start().await;
    let cache = Cache::builder().remote(Redis::at(server.url())).build().await.unwrap();
    let (ttl, own, negative) = (10 * MINUTE, 7 * MINUTE, 3 * MINUTE);
    let mut kept = 0_u64;
    for revalidate in [Duration::ZERO, MINUTE, HOUR] {
        for on_error in [Duration::ZERO, 30 * MINUTE] {
            for others in [false, true] {
                let policy = Policy::ttl(ttl)
                    .jitter(0.0)
                    .stale_while_revalidate(revalidate)
                    .stale_if_error(on_error)
                    .negative_ttl(negative);
                let policy = match others {
                    false => policy,
                    true => {
                        policy.memory_ttl(SECOND).retry_after(HOUR).soft_timeout(SECOND).early_refresh(1.0)
                    }
                };
                let sub = format!("set-{kept}");
                let rows = cache.namespace::<Option<u64>>(("row", sub.as_str()), policy).unwrap();
                for (value, fill, fresh) in [
                    (Some(1), Fill::new(), ttl),
                    (Some(1), Fill::new().ttl(own), own),
                    (None, Fill::new(), negative),
                    (None, Fill::new().ttl(own), own),
                ] {
                    let began = cache.runtime().now();
                    kept += 1;
                    assert!(rows.begin(kept).put_with(value, &fill));
                    let stores = || cache.stats().namespaces["row"].stores;
                    wait_until(SOON, "the store", || stores() == kept).await;
                    let left = number(&server, &["PTTL", &format!("larder:row:{kept}:{sub}")]).await;
                    let passed = cache.runtime().now().since(began);
                    let whole = fresh + revalidate.max(on_error);
                    let left = Duration::from_millis(u64::try_from(left).unwrap());
                    assert!(left <= whole && left + passed + SECOND / 100 >= whole, "{left:?} of {whole:?}");
                }
            }
        }
    }
    // What lives for less than a millisecond is not stored there: neither for no time, nor for ever.
    let brief = cache.namespace::<u64>("brief", Policy::ttl(MINUTE)).unwrap();
    assert!(!brief.begin(1).put_with(1, &Fill::new().ttl(Duration::ZERO)));
    // Memory may have that for as long.
    let _ = brief.begin(2).put_with(1, &Fill::new().ttl(Duration::from_micros(900)));
    assert!(brief.begin(3).put_with(1, &Fill::new().ttl(MINUTE)));
    assert!(cache.shutdown(SOON).await, "every store is done");
    assert_eq!(cache.stats().namespaces["brief"].stores, 1);
    assert_eq!(number(&server, &["EXISTS", "larder:brief:1", "larder:brief:2"]).await, 0);
}

/// Answers the first key without an end, in one step of the server: nobody can have set it a moment before or after.
const IMMORTAL: &str = "for _, key in ipairs(redis.call('KEYS', '*')) do if redis.call('PTTL', key) == -1 then return key end end";

/// Rule 7 (hitbox H7: HSET, then PEXPIRE in a second command, and nothing at all if less than a second is left: keys that
/// never end). Values, leases, shares, stamps and log: at no moment is there a key without an end, while everything there is
/// goes on at once, and no command is sent that could leave one behind.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "a reader beside the test")]
async fn rule_7_no_key_is_without_an_end_at_any_moment() {
    let (server, source) = (Arc::new(RedisServer::start().await), Source::default());
    let process = Process::start(&server.url(), &source).await;
    let over = Arc::new(AtomicBool::new(false));
    let (watched, watching) = (server.clone(), over.clone());
    let watch = tokio::spawn(async move {
        let mut looks = 0;
        while !watching.load(Ordering::SeqCst) {
            let found = watched.command(&["EVAL", IMMORTAL, "0"]).await.unwrap();
            assert_eq!(found.bytes().map(String::from_utf8_lossy), None, "it has no end");
            looks += 1;
        }
        looks
    });
    let policy = Policy::ttl(2 * SECOND).stale_while_revalidate(SECOND);
    let rows = process.cache.namespace::<u64>("brief", policy).unwrap();
    for i in 0..300_u64 {
        let (held, handle) = (Held::new(), rows.clone());
        let door = held.passed();
        let load = move || async move {
            door.await;
            if i % 7 == 0 { Err("on purpose") } else { Ok(i) }
        };
        let reader = tokio::spawn(async move { handle.get_or_load(i % 50, load).await });
        let fill = Fill::new().tags(vec![format!("tag-{}", i % 9)]).ttl(Duration::from_millis(i % 5));
        let _ = rows.begin(i).put_with(i, &fill);
        let selector =
            if i % 2 == 0 { Selector::tag(&format!("tag-{}", i % 9)) } else { Selector::under(("brief", i)) };
        let _ = process.cache.invalidate([selector]).await;
        held.let_go();
        // Errors are a part of it.
        let _ = reader.await.unwrap();
    }
    process.idle().await;
    no_lease(&server).await;
    over.store(true, Ordering::SeqCst);
    println!("rule 7: {} looks at every key", watch.await.unwrap());
    for two_steps in ["expire", "expireat", "setex", "psetex", "setnx", "mset"] {
        assert_eq!(
            calls(&server, two_steps).await,
            0,
            "{two_steps}: a life is in ms, and in the command that sets"
        );
    }
    assert!(calls(&server, "set").await > 300);
    let read: Result<_, larder::LoadError<Infallible>> = process.rows.load("after").await;
    assert_eq!(*read.unwrap(), 0);
}
